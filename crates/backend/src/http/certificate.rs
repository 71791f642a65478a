//! The certificate that HTTPS shows. In: two PEM files, read again and again, because a certificate ends and its renewal is
//! written over it (cert-manager, kubelet). Out: what the next handshake shows. A new pair is taken up when it is whole and
//! fits together; until then the one before stays. Called by [`super::serve`].

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::config::TlsFiles;

/// What the files held at one look, without the key itself.
#[derive(Clone, PartialEq, Eq)]
enum Seen {
    /// The digest of both.
    Content([u8; 32]),
    /// Why one cannot be read.
    Nothing(String),
}

/// A certificate with its key, as the files have it now or had it last.
pub struct Certificate {
    files: TlsFiles,
    shown: RwLock<Arc<CertifiedKey>>,
    first: Seen,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().clone())
    }
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// The file, and what is wrong with it.
    pub async fn read(files: &TlsFiles) -> Result<Self, String> {
        let (seen, contents) = look(files).await;
        let pair = contents.and_then(|contents| pair(files, contents));
        Ok(Self { files: files.clone(), shown: RwLock::new(Arc::new(pair?)), first: seen })
    }

    /// Looks at the files as often as they want it, until it is to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut known = self.first.clone();
        // What was no pair at the last look; it may have been half-written, so it is told only when it stays.
        let mut doubted: Option<Seen> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.files.look) => {}
            }
            let (seen, contents) = look(&self.files).await;
            if seen == known {
                doubted = None;
                continue;
            }
            let certificate = self.files.certificate.display();
            match contents.and_then(|contents| pair(&self.files, contents)) {
                Ok(pair) => {
                    let sha256 = fingerprint(&pair);
                    *self.shown.write() = Arc::new(pair);
                    tracing::info!(%certificate, %sha256, "a renewed HTTPS certificate is in use");
                    (known, doubted) = (seen, None);
                }
                Err(_) if doubted.as_ref() != Some(&seen) => doubted = Some(seen),
                Err(reason) => {
                    let key = self.files.key.display();
                    tracing::warn!(
                        %certificate, %key, %reason,
                        "the renewed HTTPS certificate cannot be used: the one before stays until the files hold a \
                         certificate and its key"
                    );
                    (known, doubted) = (seen, None);
                }
            }
        }
    }
}

/// Certificate and key, as they were read.
type Contents = (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>);

/// What the files hold; whether it is a pair is looked at only when it is new.
async fn look(files: &TlsFiles) -> (Seen, Result<Contents, String>) {
    let (certificate, key) = match (content(&files.certificate).await, content(&files.key).await) {
        (Ok(certificate), Ok(key)) => (certificate, key),
        (Err(reason), _) | (_, Err(reason)) => return (Seen::Nothing(reason.clone()), Err(reason)),
    };
    let mut digest = Sha256::new();
    digest.update(Sha256::digest(certificate.as_slice()));
    digest.update(Sha256::digest(key.as_slice()));
    (Seen::Content(digest.finalize().into()), Ok((certificate, key)))
}

async fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let bytes = tokio::fs::read(path).await.map_err(|err| format!("cannot read {}: {err}", path.display()))?;
    Ok(Zeroizing::new(bytes))
}

fn pair(files: &TlsFiles, (certificate, key): Contents) -> Result<CertifiedKey, String> {
    let bad = |path: &Path, err: &dyn fmt::Display| format!("{}: {err}", path.display());
    let chain = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|err| bad(&files.certificate, &err))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate, &"there is no certificate in it (PEM)"));
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|err| bad(&files.key, &err))?;
    let key = any_supported_type(&key).map_err(|err| bad(&files.key, &err))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        // Not every kind of key tells its public half.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(bad(&files.key, &format_args!("is not the key of {}", files.certificate.display())))
        }
        Err(err) => Err(bad(&files.certificate, &err)),
    }
}

/// As `openssl x509 -fingerprint -sha256` shows it, without colons.
fn fingerprint(pair: &CertifiedKey) -> String {
    let leaf = pair.cert.first().map(|leaf| Sha256::digest(leaf.as_ref()));
    leaf.iter().flat_map(|digest| digest.iter()).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
