use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use rcgen::KeyPair;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::*;
use crate::http::serve::{bind, serve};

const LOOK: Duration = Duration::from_millis(20);

type Pair = rcgen::CertifiedKey<KeyPair>;

fn made() -> Pair {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles { look: LOOK, ..TlsFiles::new(folder.join("tls.crt"), folder.join("tls.key")) }
}

fn write(files: &TlsFiles, certificate: &str, key: &str) {
    std::fs::write(&files.certificate, certificate).unwrap();
    std::fs::write(&files.key, key).unwrap();
}

/// The certificate of a new handshake by a client that trusts these.
async fn shown(address: SocketAddr, trusted: &[&Pair]) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.cert.der().clone()).unwrap();
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    fn warnings(&self) -> usize {
        self.text().matches("cannot be used").count()
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_rubbish_is_not() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);

    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let (first, second) = (made(), made());
    let [(first_pem, first_key), (second_pem, second_key)] =
        [&first, &second].map(|pair| (pair.cert.pem(), pair.signing_key.serialize_pem()));
    write(&files, &first_pem, &first_key);
    let bound = bind(SocketAddr::from(([127, 0, 0, 1], 0)), Some(&files)).await.unwrap();
    let address = bound.address;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(bound, Router::new(), Duration::from_secs(1), stop.clone()));
    let shows = async |pair: &Pair| shown(address, &[&first, &second]).await == pair.cert.der().to_vec();
    let comes = async |pair: &Pair| {
        let coming = async {
            while !shows(pair).await {
                sleep(LOOK).await;
            }
        };
        timeout(Duration::from_secs(20), coming).await.is_ok()
    };
    assert!(shows(&first).await);

    // Files are written one after the other: what does not fit together yet is waited for.
    std::fs::write(&files.certificate, &second_pem).unwrap();
    sleep(10 * LOOK).await;
    assert!(shows(&first).await, "its key is not there yet");
    assert_eq!(log.warnings(), 1, "{}", log.text());
    std::fs::write(&files.key, &second_key).unwrap();
    assert!(comes(&second).await, "{}", log.text());

    let half = &first_pem[..first_pem.len() / 2];
    let rubbish: [(&str, &str); 4] =
        [("", ""), (half, &first_key), (&first_pem, &second_key), (&first_pem, "nonsense")];
    for (number, (certificate, key)) in rubbish.into_iter().enumerate() {
        write(&files, certificate, key);
        sleep(20 * LOOK).await;
        assert!(shows(&second).await, "{certificate}");
        assert_eq!(log.warnings(), 2 + number, "each is told once:\n{}", log.text());
    }
    std::fs::remove_file(&files.certificate).unwrap();
    sleep(20 * LOOK).await;
    assert!(shows(&second).await, "a file that is away");
    assert_eq!(log.warnings(), 6, "{}", log.text());

    write(&files, &first_pem, &first_key);
    assert!(comes(&first).await, "a good pair after rubbish: {}", log.text());
    let said = log.text();
    assert_eq!(said.matches("a renewed HTTPS certificate is in use").count(), 2, "{said}");
    assert!(said.contains("is not the key of") && said.contains("tls.crt"), "{said}");
    assert!(!said.contains("PRIVATE KEY"), "{said}");
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_listener_begins_only_with_a_pair() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let refused = async || Certificate::read(&files).await.unwrap_err();
    assert!(refused().await.starts_with("cannot read "));
    let (first, second) = (made(), made());
    write(&files, &first.cert.pem(), &second.signing_key.serialize_pem());
    let said = refused().await;
    assert!(said.contains("tls.key: is not the key of ") && said.ends_with("tls.crt"), "{said}");
    write(&files, "", &second.signing_key.serialize_pem());
    assert!(refused().await.contains("tls.crt: there is no certificate in it"));
    write(&files, &second.cert.pem(), &second.signing_key.serialize_pem());
    assert!(Certificate::read(&files).await.is_ok());
}
