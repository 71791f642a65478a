//! The signing key: made once for a data folder, PEM on disk, JWKS and signed tokens out.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An RSA key (RS256) with its key id.
pub struct SigningKey {
    pem: SecretString,
    key: EncodingKey,
    id: String,
    jwk: Value,
}

/// A key that cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[error("the issuer's signing key: {0}")]
pub struct KeyError(String);

impl SigningKey {
    /// A new key of 2048 bits.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|error| KeyError(error.to_string()))?;
        let der = pair.as_der().map_err(|error| KeyError(error.to_string()))?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        Self::from_pem(&format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
    }

    /// A key that [`SigningKey::pem`] gave.
    ///
    /// # Errors
    /// When it is not a PEM RSA key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let failed = |error: jsonwebtoken::errors::Error| KeyError(error.to_string());
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(failed)?;
        let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).map_err(failed)?;
        let mut jwk = serde_json::to_value(jwk).map_err(|error| KeyError(error.to_string()))?;
        let modulus = jwk.get("n").and_then(Value::as_str).unwrap_or_default();
        let id = URL_SAFE_NO_PAD.encode(&Sha256::digest(modulus.as_bytes())[..12]);
        if let Some(fields) = jwk.as_object_mut() {
            fields.insert("kid".to_owned(), json!(id));
            fields.insert("use".to_owned(), json!("sig"));
            fields.insert("alg".to_owned(), json!("RS256"));
        }
        Ok(Self { pem: pem.to_owned().into(), key, id, jwk })
    }

    /// The private key in PEM (PKCS#8), to be kept.
    #[must_use]
    pub fn pem(&self) -> &SecretString {
        &self.pem
    }

    /// The public keys, as `/jwks.json` shows them.
    pub(super) fn jwks(&self) -> Value {
        json!({ "keys": [self.jwk] })
    }

    /// `claims` as a signed JWT.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, KeyError> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|error| KeyError(error.to_string()))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        debug_assert!(!self.pem.expose_secret().is_empty());
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}
