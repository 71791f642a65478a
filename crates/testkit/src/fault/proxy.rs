//! The proxy itself: accepts, decides by the rules, forwards. Its orders and counters are what scenarios use.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer, Order};
use super::{Fault, Matches, Seen};
use crate::https;

struct Rule {
    id: u64,
    matches: Matches,
    fault: Fault,
    /// How many requests are still concerned; `None`: all.
    left: Option<u32>,
    share: f64,
    struck: u32,
}

/// A CA and the certificate that it gave the proxy.
struct Identity {
    ca_pem: String,
    config: Arc<rustls::ServerConfig>,
}

struct State {
    upstream: String,
    client: reqwest::Client,
    identity: Mutex<Identity>,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    orders: broadcast::Sender<Order>,
    next: AtomicU64,
    forgotten: Arc<AtomicU32>,
}

/// See the module. It ends when dropped.
pub struct FaultProxy {
    state: Arc<State>,
    address: SocketAddr,
    open: Mutex<CancellationToken>,
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.open.lock().cancel();
    }
}

impl FaultProxy {
    /// A proxy before the API server of this kubeconfig. It does nothing but forward until it is told otherwise.
    pub async fn start(kubeconfig: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = apimachinery::yaml::document(kubeconfig).unwrap();
        let cluster = &config["clusters"][0]["cluster"];
        let ca = STANDARD.decode(cluster["certificate-authority-data"].as_str().unwrap()).unwrap();
        let ca = reqwest::Certificate::from_pem_bundle(&ca).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only(ca)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(32)
            .build()
            .unwrap();
        let state = Arc::new(State {
            upstream: cluster["server"].as_str().unwrap().trim_end_matches('/').to_owned(),
            client,
            identity: Mutex::new(identity()),
            rules: Mutex::default(),
            seen: Mutex::default(),
            orders: broadcast::channel(64).0,
            next: AtomicU64::new(1),
            forgotten: Arc::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = CancellationToken::new();
        tokio::spawn(serve(state.clone(), listener, open.clone()));
        Self { state, address, open: Mutex::new(open) }
    }

    /// Where it is, as an API server's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The CA that its present certificate comes from.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.state.identity.lock().ca_pem.clone()
    }

    /// A kubeconfig of the API server, turned into one that goes through the proxy with the same credential.
    #[must_use]
    pub fn kubeconfig(&self, original: &str) -> String {
        let mut config = apimachinery::yaml::document(original).unwrap();
        for cluster in config["clusters"].as_array_mut().into_iter().flatten() {
            let cluster = &mut cluster["cluster"];
            let path = cluster["server"].as_str().and_then(|server| url::Url::parse(server).ok());
            let path = path.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
            let known = url::Url::parse(&self.state.upstream).unwrap().path().trim_end_matches('/').to_owned();
            assert_eq!(path, known, "the kubeconfig is not one of this API server");
            cluster["server"] = json!(self.url());
            cluster["certificate-authority-data"] = json!(STANDARD.encode(self.ca_pem()));
        }
        apimachinery::yaml::write(&config)
    }

    /// From now on: the fault for all requests that match. Says which rule it is.
    pub fn when(&self, matches: Matches, fault: Fault) -> u64 {
        self.rule(matches, fault, None, 1.0)
    }

    /// The fault for the next `times` requests that match.
    pub fn times(&self, times: u32, matches: Matches, fault: Fault) -> u64 {
        self.rule(matches, fault, Some(times), 1.0)
    }

    /// The fault for a share (0 to 1) of the requests that match.
    pub fn share(&self, share: f64, matches: Matches, fault: Fault) -> u64 {
        self.rule(matches, fault, None, share)
    }

    fn rule(&self, matches: Matches, fault: Fault, left: Option<u32>, share: f64) -> u64 {
        let id = self.state.next.fetch_add(1, Ordering::Relaxed);
        self.state.rules.lock().push(Rule { id, matches, fault, left, share, struck: 0 });
        id
    }

    /// How many requests a rule has hit.
    #[must_use]
    pub fn struck(&self, rule: u64) -> u32 {
        self.state.rules.lock().iter().find(|known| known.id == rule).map_or(0, |known| known.struck)
    }

    /// Ends all rules.
    pub fn well(&self) {
        self.state.rules.lock().clear();
    }

    /// Ends all watches that are open.
    pub fn cut_watches(&self) {
        let _ = self.state.orders.send(Order::Cut);
    }

    /// All watches that are open stay so, and nothing arrives any more.
    pub fn half_dead(&self) {
        let _ = self.state.orders.send(Order::Dead);
    }

    /// All watches that are open get the error 410, as after a compaction.
    pub fn gone(&self) {
        let _ = self.state.orders.send(Order::Gone);
    }

    /// How often the API server itself, not the proxy, answered that a revision is forgotten: 410, as a status or as the
    /// event that ends a watch.
    #[must_use]
    pub fn forgotten(&self) -> u32 {
        self.state.forgotten.load(Ordering::Relaxed)
    }

    /// Connections are refused, and those that are open end.
    pub async fn refuse(&self) {
        self.open.lock().cancel();
        // The listener is gone when nobody answers any more.
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Connections are accepted again.
    pub async fn accept(&self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let open = CancellationToken::new();
        *self.open.lock() = open.clone();
        tokio::spawn(serve(self.state.clone(), listener, open));
    }

    /// A certificate of another CA from now on; connections that are open end. Gives the CA before, for
    /// [`FaultProxy::restore_certificate`].
    pub async fn change_certificate(&self) -> Certificate {
        let before = std::mem::replace(&mut *self.state.identity.lock(), identity());
        self.refuse().await;
        self.accept().await;
        Certificate(before)
    }

    /// The certificate that was there before.
    pub async fn restore_certificate(&self, before: Certificate) {
        *self.state.identity.lock() = before.0;
        self.refuse().await;
        self.accept().await;
    }

    /// Everything that was asked for since the last call, or since the start.
    #[must_use]
    pub fn take_seen(&self) -> Vec<Seen> {
        let mut seen = self.state.seen.lock();
        let (done, under_way): (Vec<Seen>, Vec<Seen>) = seen.drain(..).partition(|seen| seen.status != 0 || seen.watch);
        *seen = under_way;
        done
    }

    /// Everything that was asked for.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().clone()
    }
}

/// A certificate that was in use.
pub struct Certificate(Identity);

fn identity() -> Identity {
    let name = format!("a CA for faults {}", rand::rng().random::<u32>());
    let (ca_pem, mut config) = https::identity(&name);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Identity { ca_pem, config: Arc::new(config) }
}

async fn serve(state: Arc<State>, listener: TcpListener, open: CancellationToken) {
    loop {
        let (stream, _) = tokio::select! {
            () = open.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => continue,
            },
        };
        let (state, open) = (state.clone(), open.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = open.cancelled() => {}
                () = connection(state, stream) => {}
            }
        });
    }
}

async fn connection(state: Arc<State>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(state.identity.lock().config.clone());
    // Clients that do not trust us hang up, which is their right.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let end = CancellationToken::new();
    let ended = end.clone();
    let service = hyper::service::service_fn(move |request| {
        let (state, end) = (state.clone(), end.clone());
        async move {
            match handle(&state, request).await {
                Some(answer) => Ok::<_, Infallible>(answer),
                None => {
                    end.cancel();
                    futures::future::pending().await
                }
            }
        }
    });
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    tokio::select! {
        () = ended.cancelled() => {}
        _ = server.serve_connection(TokioIo::new(stream), service) => {}
    }
}

/// The answer; `None` ends the connection.
async fn handle(state: &State, request: http::Request<Incoming>) -> Option<Answer> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let watch = ["watch=true", "watch=1"].iter().any(|word| path.contains(word));
    let seen = Seen { at: Instant::now(), method: request.method().to_string(), path, watch, status: 0 };
    let fault = strike(state, &seen);
    let number = note(state, seen.clone());
    let answer = match &fault {
        Some(Fault::Answer { code, reason, message, retry_after }) => {
            let _ = request.into_body().collect().await;
            Some(answer::status(*code, reason, message, *retry_after))
        }
        Some(Fault::Silence) => futures::future::pending().await,
        Some(Fault::Drop) => None,
        Some(Fault::DoneBut(code)) => {
            let done = send(state, request).await;
            if let Ok(done) = done {
                let _ = done.bytes().await;
            }
            let Fault::Answer { code, reason, message, .. } = Fault::status(*code) else { return None };
            Some(answer::status(code, &reason, &message, None))
        }
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(*time).await;
            forward(state, request, watch, None).await
        }
        Some(Fault::GoneInStream) if watch => {
            let answer = http::Response::builder().header("content-type", "application/json");
            Some(answer.body(answer::whole(answer::gone_event())).unwrap())
        }
        fault => forward(state, request, watch, fault.as_ref()).await,
    };
    if let (Some(answer), Some(seen)) = (&answer, state.seen.lock().iter_mut().find(|seen| seen.at == number)) {
        seen.status = answer.status().as_u16();
    }
    answer
}

/// The fault of the first rule that wants this request.
fn strike(state: &State, seen: &Seen) -> Option<Fault> {
    let mut rules = state.rules.lock();
    let rule = rules.iter_mut().find(|rule| {
        rule.left != Some(0) && (rule.matches)(seen) && (rule.share >= 1.0 || rand::rng().random::<f64>() < rule.share)
    })?;
    rule.left = rule.left.map(|left| left - 1);
    rule.struck += 1;
    Some(rule.fault.clone())
}

/// Remembers a request under a time of its own.
fn note(state: &State, mut seen: Seen) -> Instant {
    let mut all = state.seen.lock();
    if let Some(last) = all.last()
        && last.at >= seen.at
    {
        seen.at = last.at + Duration::from_nanos(1);
    }
    let at = seen.at;
    all.push(seen);
    at
}

async fn send(state: &State, request: http::Request<Incoming>) -> Result<reqwest::Response, String> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    let mut headers = parts.headers;
    for name in ["host", "connection", "content-length", "transfer-encoding", "accept-encoding"] {
        headers.remove(name);
    }
    let request = state.client.request(parts.method, format!("{}{path}", state.upstream)).headers(headers).body(body);
    request.send().await.map_err(|error| error.to_string())
}

async fn forward(
    state: &State,
    request: http::Request<Incoming>,
    watch: bool,
    fault: Option<&Fault>,
) -> Option<Answer> {
    // Before the request: an order in between must not be missed.
    let orders = state.orders.subscribe();
    // An API server that is not there is not there for the proxy's clients either.
    let upstream = send(state, request).await.ok()?;
    let mut answer = http::Response::builder().status(upstream.status());
    for (name, value) in upstream.headers() {
        if !["connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
            answer = answer.header(name, value);
        }
    }
    let fine = upstream.status().is_success();
    if upstream.status() == http::StatusCode::GONE {
        state.forgotten.fetch_add(1, Ordering::Relaxed);
    }
    let body = match fault {
        Some(Fault::Truncate) if fine && !watch => answer::truncated(&upstream.bytes().await.ok()?),
        Some(Fault::Garble(name)) if fine && !watch => {
            answer::whole(answer::garble_list(&upstream.bytes().await.ok()?, name))
        }
        fault if fine && watch => {
            let name = match fault {
                Some(Fault::Garble(name)) => Some(name.clone()),
                _ => None,
            };
            answer::watched(answer::chunks(upstream), orders, name, state.forgotten.clone())
        }
        _ => answer::streamed(answer::chunks(upstream)),
    };
    answer.body(body).ok()
}

/// Points a binding's credential at the present certificate of the proxy: what a new bind would do.
#[must_use]
pub fn with_ca(kubeconfig: &str, ca_pem: &str) -> String {
    let mut config: Value = apimachinery::yaml::document(kubeconfig).unwrap();
    for cluster in config["clusters"].as_array_mut().into_iter().flatten() {
        cluster["cluster"]["certificate-authority-data"] = json!(STANDARD.encode(ca_pem));
    }
    apimachinery::yaml::write(&config)
}
