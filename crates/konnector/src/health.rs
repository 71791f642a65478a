//! The agent's own health and metrics over plain HTTP/1: `/healthz`, `/readyz`, `/metrics`, nothing else. In: shared
//! counters. Out: text. It answers GET and closes; that is all an orchestrator's probe needs, so no web framework is
//! linked into the program that consumers run.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// Counters of the agent, shared by all its parts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// We hold the Lease.
    pub leading: AtomicBool,
    /// Caches of the consumer are filled.
    pub ready: AtomicBool,
    /// Writes to the consumer cluster, Lease and Events left out.
    pub consumer_writes: AtomicU64,
    /// Writes to providers, heartbeats left out.
    pub provider_writes: AtomicU64,
    /// Actions that failed and were put back.
    pub failures: AtomicU64,
    /// Providers connected now.
    pub providers_up: AtomicU64,
    /// Objects of bound kinds known at the consumer.
    pub objects: AtomicU64,
}

impl Metrics {
    /// In the text format of Prometheus.
    pub fn render(&self) -> String {
        let gauge = |name: &str, help: &str, value: u64, kind: &str| {
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            gauge(
                "kube_bind_leading",
                "Whether this agent holds the Lease.",
                self.leading.load(Ordering::Relaxed).into(),
                "gauge",
            ),
            gauge(
                "kube_bind_consumer_writes_total",
                "Writes to the consumer cluster.",
                load(&self.consumer_writes),
                "counter",
            ),
            gauge("kube_bind_provider_writes_total", "Writes to providers.", load(&self.provider_writes), "counter"),
            gauge("kube_bind_failures_total", "Actions that failed and were retried.", load(&self.failures), "counter"),
            gauge("kube_bind_providers_up", "Providers that answer.", load(&self.providers_up), "gauge"),
            gauge("kube_bind_objects", "Objects of bound kinds at the consumer.", load(&self.objects), "gauge"),
        ]
        .concat()
    }
}

/// Serves until stopped. An address that is in use is an error before anything is served.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers probes on `listener` until stopped.
pub async fn serve(listener: TcpListener, metrics: std::sync::Arc<Metrics>, stop: CancellationToken) {
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(16));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(5), answer(stream, &metrics)).await;
            drop(slot);
        });
    }
}

async fn answer(mut stream: TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0u8; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < 8192 {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    let line = String::from_utf8_lossy(&head);
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = respond(method, path.split('?').next().unwrap_or_default(), metrics);
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

fn respond(method: &str, path: &str, metrics: &Metrics) -> (&'static str, String) {
    match (method, path) {
        ("GET" | "HEAD", "/healthz" | "/livez") => ("200 OK", "ok".into()),
        // A standby that waits for the Lease is as ready as it can be.
        ("GET" | "HEAD", "/readyz") => {
            if metrics.ready.load(Ordering::Relaxed) || !metrics.leading.load(Ordering::Relaxed) {
                ("200 OK", "ok".into())
            } else {
                ("503 Service Unavailable", "caches are not filled yet".into())
            }
        }
        ("GET", "/metrics") => ("200 OK", metrics.render()),
        ("GET" | "HEAD", _) => ("404 Not Found", "not found".into()),
        _ => ("405 Method Not Allowed", "only GET".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes() {
        let metrics = Metrics::default();
        assert_eq!(respond("GET", "/healthz", &metrics).0, "200 OK");
        metrics.leading.store(true, Ordering::Relaxed);
        assert_eq!(respond("GET", "/readyz", &metrics).0, "503 Service Unavailable");
        metrics.ready.store(true, Ordering::Relaxed);
        assert_eq!(respond("GET", "/readyz", &metrics).0, "200 OK");
        assert!(respond("GET", "/metrics", &metrics).1.contains("kube_bind_leading 1"));
        assert_eq!(respond("POST", "/healthz", &metrics).0, "405 Method Not Allowed");
        assert_eq!(respond("GET", "/etc/passwd", &metrics).0, "404 Not Found");
    }
}
