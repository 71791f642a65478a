//! The key that signs ServiceAccount tokens.
//!
//! In: a PEM file in the data folder (made at the first start, readable by its owner only). Out: signatures
//! (ES256), their verification, and tokens derived from the key. Called by [`crate::auth::Auth`].

use std::io::Write as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

/// What a derived token starts with.
const DERIVED: &str = "admin.";

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The random generator or the key format failed.
    #[error("cannot make a signing key: {0}")]
    Generate(String),
    /// The file is there but cannot be read.
    #[error("cannot read the signing key {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the signing key {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no ECDSA P-256 key in PKCS#8.
    #[error(
        "{path} is not an ECDSA P-256 private key (PKCS#8 PEM): {reason}; restore it, or remove it to start with a new key, which makes all tokens invalid"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// An ECDSA P-256 key.
pub struct SigningKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    header: Header,
    derive: hmac::Key,
    pem: String,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// The random generator failed.
    pub fn generate() -> Result<Self, SigningError> {
        let pair = rcgen::KeyPair::generate().map_err(|error| SigningError::Generate(error.to_string()))?;
        Ok(Self::from_pair(&pair))
    }

    /// The key of a file; a new one if the file does not exist.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, SigningError> {
        match std::fs::read_to_string(path) {
            Ok(pem) => {
                let malformed = |reason: String| SigningError::Malformed { path: path.to_owned(), reason };
                let pair = rcgen::KeyPair::from_pem(&pem).map_err(|error| malformed(error.to_string()))?;
                if pair.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
                    return Err(malformed("a key of another algorithm".into()));
                }
                Ok(Self::from_pair(&pair))
            }
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                write_private(path, &key.pem)
                    .map_err(|source| SigningError::Write { path: path.to_owned(), source })?;
                Ok(key)
            }
            Err(source) => Err(SigningError::Read { path: path.to_owned(), source }),
        }
    }

    fn from_pair(pair: &rcgen::KeyPair) -> Self {
        let der = pair.serialize_der();
        let header = Header {
            kid: Some(URL_SAFE_NO_PAD.encode(digest(pair.public_key_raw()))),
            typ: None,
            ..Header::new(Algorithm::ES256)
        };
        let mut seed = Sha256::new();
        seed.update(b"derived tokens");
        seed.update(&der);
        Self {
            encoding: EncodingKey::from_ec_der(&der),
            decoding: DecodingKey::from_ec_der(pair.public_key_raw()),
            header,
            derive: hmac::Key::new(hmac::HMAC_SHA256, &seed.finalize()),
            pem: pair.serialize_pem(),
        }
    }

    /// Signs claims as a compact JWT.
    ///
    /// # Errors
    /// What the cryptographic library says, without the claims.
    pub fn sign<T: Serialize>(&self, claims: &T) -> Result<String, SigningError> {
        jsonwebtoken::encode(&self.header, claims, &self.encoding)
            .map_err(|error| SigningError::Generate(error.to_string()))
    }

    /// The claims of a token that this key signed. Times and audience are the caller's to check.
    #[must_use]
    pub fn verify<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode(token, &self.decoding, &validation).ok().map(|data| data.claims)
    }

    /// A token that follows from the key and a purpose.
    #[must_use]
    pub fn derived_token(&self, purpose: &str) -> String {
        format!("{DERIVED}{}", URL_SAFE_NO_PAD.encode(hmac::sign(&self.derive, purpose.as_bytes())))
    }

    /// Whether a token is [`SigningKey::derived_token`] of this purpose; takes the same time wherever they differ.
    #[must_use]
    pub fn is_derived_token(&self, purpose: &str, token: &str) -> bool {
        token
            .strip_prefix(DERIVED)
            .and_then(|tag| URL_SAFE_NO_PAD.decode(tag).ok())
            .is_some_and(|tag| hmac::verify(&self.derive, purpose.as_bytes(), &tag).is_ok())
    }
}

/// SHA-256.
pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Writes a file that only its owner can read, under another name first so that no half of it is ever seen.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_key_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let (first, second) = (SigningKey::load_or_create(&path).unwrap(), SigningKey::load_or_create(&path).unwrap());
        let token = first.sign(&json!({"sub":"x"})).unwrap();
        assert_eq!(second.verify::<Value>(&token), Some(json!({"sub":"x"})));
        assert_eq!(first.derived_token("a"), second.derived_token("a"));
        assert_ne!(first.derived_token("a"), first.derived_token("b"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn foreign_signatures_and_tampering_are_refused() {
        let (ours, theirs) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let token = theirs.sign(&json!({"sub":"x"})).unwrap();
        assert_eq!(ours.verify::<Value>(&token), None);
        let own = ours.sign(&json!({"sub":"x"})).unwrap();
        let mut parts: Vec<String> = own.split('.').map(str::to_owned).collect();
        parts[1] = URL_SAFE_NO_PAD.encode(r#"{"sub":"y"}"#);
        assert_eq!(ours.verify::<Value>(&parts.join(".")), None);
        let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), parts[1]);
        assert_eq!(ours.verify::<Value>(&none), None);
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "nonsense").unwrap();
        let error = SigningKey::load_or_create(&path).err().unwrap();
        assert!(matches!(error, SigningError::Malformed { .. }), "{error}");
    }
}
