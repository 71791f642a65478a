//! How requests travel: HTTP/2 where the server offers it, so that all watches of one API server share a connection, and
//! HTTP/1.1 where it does not. In: a [`Config`]. Out: clients. Used by [`crate::connect`] and, for watches, by
//! [`crate::api`].
//!
//! A server allows so many streams a connection (kube-apiserver: 100 to 250), and a stream that must wait looks like a
//! dead server. So watches, which never end, have connections of their own, each with a bounded number of them; requests
//! never queue behind them. A dead connection is found by pings, not by silence.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config,
    client::{Body, ClientBuilder, ConfigExt},
};
use parking_lot::Mutex;
use tower::ServiceBuilder;

/// Watches a connection.
const WATCHES: usize = 50;
/// A connection that is silent so long is pinged, and given up when no answer comes within [`ANSWER`].
const SILENCE: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(10);
/// What a server may send ahead on a stream, and on all streams of a connection. Small: whoever reads is quick, and what
/// is not read yet is memory.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// A client over one HTTP/2 connection, or over as many HTTP/1.1 connections as it takes.
pub(crate) fn client(config: &Config) -> kube::Result<kube::Client> {
    if config.proxy_url.is_some() {
        return kube::Client::try_from(config.clone());
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    let mut https = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name
        && let Ok(name) = name.clone().try_into()
    {
        https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let mut connector = TimeoutConnector::new(https.enable_http1().enable_http2().wrap_connector(http));
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let client: Client<_, Body> = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(SILENCE)
        .http2_keep_alive_timeout(ANSWER)
        .http2_keep_alive_while_idle(true)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(client);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// Connections for watches, made as they are needed.
pub struct Lanes {
    config: Config,
    lanes: Mutex<Vec<Lane>>,
}

struct Lane {
    client: kube::Client,
    /// One for each watch under way.
    watches: Weak<()>,
}

impl Lanes {
    /// No connection yet.
    pub(crate) fn new(config: Config) -> Self {
        Self { config, lanes: Mutex::new(Vec::new()) }
    }

    /// A connection with room for one more watch; the place is taken as long as the second is kept.
    pub(crate) fn take(&self) -> kube::Result<(kube::Client, Arc<()>)> {
        let mut lanes = self.lanes.lock();
        // Whoever has no watches left is closed.
        lanes.retain(|lane| lane.watches.strong_count() > 0);
        let free = lanes.iter().find_map(|lane| {
            let place = lane.watches.upgrade()?;
            (lane.watches.strong_count() <= WATCHES).then(|| (lane.client.clone(), place))
        });
        if let Some(found) = free {
            return Ok(found);
        }
        let place = Arc::new(());
        let lane = Lane { client: client(&self.config)?, watches: Arc::downgrade(&place) };
        let client = lane.client.clone();
        lanes.push(lane);
        Ok((client, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_takes_so_many_watches_and_then_there_is_another() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let lanes = Lanes::new(Config::new("http://127.0.0.1:1".parse().unwrap()));
        let mut places: Vec<_> = (0..WATCHES).map(|_| lanes.take().unwrap()).collect();
        assert_eq!(lanes.lanes.lock().len(), 1);
        places.push(lanes.take().unwrap());
        assert_eq!(lanes.lanes.lock().len(), 2);
        places.clear();
        places.push(lanes.take().unwrap());
        assert_eq!(lanes.lanes.lock().len(), 1);
    }
}
