//! Health, readiness and metrics of a program over plain HTTP/1: `/healthz`, `/readyz`, `/metrics`, nothing else. In: what
//! the program knows of itself ([`Probed`]). Out: text. It answers GET and closes; that is all that a probe or a scraper
//! needs, so no web framework is linked into the program that consumers run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Requests answered at once.
const SLOTS: usize = 16;
/// A request that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest request head in bytes.
const HEAD: usize = 8192;
/// Media type of metrics.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Longer without an answer of the API server, and a program is not ready. Above the time for which a Lease holds.
const SILENCE: Duration = Duration::from_secs(30);

/// One of the things that must be so before a program is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is looked at.
    pub name: &'static str,
    /// How it is, or what it lacks.
    pub state: Result<String, String>,
}

impl Check {
    /// It is as it should be.
    pub fn good(name: &'static str, how: impl Into<String>) -> Self {
        Self { name, state: Ok(how.into()) }
    }

    /// It is not.
    pub fn lacking(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, state: Err(what.into()) }
    }

    /// The API server that the program works on: how long ago it last `answered`, and why the last question failed.
    pub fn answers(name: &'static str, answered: Option<Duration>, trouble: Option<&str>) -> Self {
        let why = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
        match answered {
            None => Self::lacking(name, format!("has not answered yet{why}")),
            Some(since) if since > SILENCE => {
                Self::lacking(name, format!("has not answered for {} s{why}", since.as_secs()))
            }
            Some(_) => Self::good(name, "answers"),
        }
    }

    /// Who has the Lease, as last seen: `this` program, nobody, or a `holder`, and what that means (`elsewhere`). A standby is as
    /// ready as it can be.
    pub fn lease(leading: bool, holder: &str, this: &str, elsewhere: &str) -> Self {
        let how = match (leading, holder) {
            (true, _) => format!("held by {this}"),
            (false, "") => "held by nobody".to_owned(),
            (false, holder) => format!("held by {holder}; {elsewhere}"),
        };
        Self::good("lease", how)
    }
}

/// A program that can be asked how it is.
pub trait Probed: Send + Sync + 'static {
    /// What must be so before it is ready.
    fn checks(&self) -> Vec<Check>;
    /// Its metrics in OpenMetrics' text form.
    fn metrics(&self) -> String;
}

/// Whether all checks hold, and a line for each.
#[must_use]
pub fn readiness(checks: &[Check]) -> (bool, String) {
    let mut text = String::new();
    let mut ready = true;
    for Check { name, state } in checks {
        let (mark, how) = match state {
            Ok(how) => ('+', how),
            Err(lack) => {
                ready = false;
                ('-', lack)
            }
        };
        text.push_str(&format!("[{mark}] {name}: {how}\n"));
    }
    text.push_str(if ready { "ready\n" } else { "not ready\n" });
    (ready, text)
}

/// A server of probes; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    stop: DropGuard,
    serving: JoinHandle<()>,
}

impl Server {
    /// Stops it; then the address is free.
    pub async fn stop(self) {
        drop(self.stop);
        // It panics nowhere.
        let _ = self.serving.await;
    }
}

/// Starts to answer on `address`.
///
/// # Errors
/// When it cannot listen there.
pub async fn serve(address: SocketAddr, probed: Arc<dyn Probed>) -> std::io::Result<Server> {
    let listener = crate::listen::listen(address).await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    let serving = tokio::spawn(async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = accept(listener, probed) => {}
        }
    });
    tracing::info!(%address, "probes and metrics");
    Ok(Server { address, stop: stop.drop_guard(), serving })
}

async fn accept(listener: TcpListener, probed: Arc<dyn Probed>) {
    let slots = Arc::new(Semaphore::new(SLOTS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let probed = probed.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(LIMIT, answer(stream, &*probed)).await;
            drop(slot);
        });
    }
}

async fn answer(mut stream: TcpStream, probed: &dyn Probed) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0u8; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < HEAD {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    let line = String::from_utf8_lossy(&head);
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = respond(method, path.split('?').next().unwrap_or_default(), probed);
    let length = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

fn respond(method: &str, path: &str, probed: &dyn Probed) -> (&'static str, &'static str, String) {
    match (method, path) {
        ("GET" | "HEAD", "/healthz" | "/livez") => ("200 OK", TEXT, "ok\n".into()),
        ("GET" | "HEAD", "/readyz") => {
            let (ready, text) = readiness(&probed.checks());
            (if ready { "200 OK" } else { "503 Service Unavailable" }, TEXT, text)
        }
        ("GET" | "HEAD", "/metrics") => ("200 OK", METRICS, probed.metrics()),
        ("GET" | "HEAD", _) => ("404 Not Found", TEXT, "there are /healthz, /readyz and /metrics\n".into()),
        _ => ("405 Method Not Allowed", TEXT, "only GET\n".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Half;
    impl Probed for Half {
        fn checks(&self) -> Vec<Check> {
            vec![Check::good("lease", "held"), Check::lacking("caches", "CRDs are not listed yet")]
        }
        fn metrics(&self) -> String {
            "# EOF\n".into()
        }
    }

    #[test]
    fn what_is_not_ready_is_said() {
        let (status, _, text) = respond("GET", "/readyz", &Half);
        assert_eq!(status, "503 Service Unavailable");
        assert_eq!(text, "[+] lease: held\n[-] caches: CRDs are not listed yet\nnot ready\n");
        assert_eq!(readiness(&[Check::good("lease", "held")]), (true, "[+] lease: held\nready\n".to_owned()));
    }

    #[test]
    fn only_three_paths_and_only_reading() {
        assert_eq!(respond("GET", "/healthz", &Half).0, "200 OK");
        assert_eq!(respond("GET", "/metrics", &Half).2, "# EOF\n");
        assert_eq!(respond("POST", "/healthz", &Half).0, "405 Method Not Allowed");
        assert_eq!(respond("GET", "/etc/passwd", &Half).0, "404 Not Found");
    }

    #[tokio::test]
    async fn over_a_socket() {
        let server = serve(([127, 0, 0, 1], 0).into(), Arc::new(Half)).await.unwrap();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /readyz?verbose HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(text.contains("[-] caches: "), "{text}");
        let address = server.address;
        drop(server);
        let mut refused = false;
        for _ in 0..100 {
            refused |= TcpStream::connect(address).await.is_err();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(refused, "it listens no more");
    }
}
