//! A small web server that speaks TLS, with a CA of its own. In: paths and bodies. Out: a URL, and the CA in PEM.

use std::collections::HashMap;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The server; it ends with the test.
pub struct Https {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// What to trust.
    pub ca_pem: String,
}

impl Https {
    /// Starts it: 200 with the body for a known path, 404 for others; a body that starts with `->` is a redirect to what
    /// follows.
    pub async fn start(bodies: HashMap<String, String>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (ca_pem, config) = identity("a CA for tests");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(bodies);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(acceptor.clone(), stream, bodies.clone()));
            }
        });
        Self { url, ca_pem }
    }
}

/// A server's certificate for 127.0.0.1 from a CA of its own, with that name: the CA in PEM, and what to serve with.
pub(crate) fn identity(ca_name: &str) -> (String, rustls::ServerConfig) {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, ca_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(params, ca_key);
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    (ca.pem(), config)
}

/// One request a connection. Clients that do not trust us hang up, which is their right.
async fn answer(acceptor: TlsAcceptor, stream: TcpStream, bodies: Arc<HashMap<String, String>>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let answer = match bodies.get(path) {
        Some(body) => match body.strip_prefix("->") {
            Some(location) => {
                format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            }
            None => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()),
        },
        None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
