//! Sealed values: what the service hands to browsers and command lines instead of keeping it in memory.
//!
//! In: any serialisable value, a purpose and a lifetime. Out: a URL-safe text that only a holder of the same key can
//! read, that cannot be changed, that is refused for any other purpose and after its lifetime. Sessions, tokens, login
//! state, form tokens and redeem codes are all of this shape, so any replica with the key can read them.
//! Called by `identity` and `http`.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a sealed text may be used for; a text sealed for one purpose is refused for every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A browser session (cookie).
    Session,
    /// A bearer token of a command line.
    Bearer,
    /// The OAuth `state` parameter of a login in progress.
    State,
    /// The browser's half of a login in progress (cookie).
    Login,
    /// The token in a form.
    Form,
    /// A one-time code redeemed at `/api/redeem`.
    Code,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"kube-bind session v1",
            Self::Bearer => b"kube-bind bearer v1",
            Self::State => b"kube-bind state v1",
            Self::Login => b"kube-bind login v1",
            Self::Form => b"kube-bind form v1",
            Self::Code => b"kube-bind code v1",
        }
    }
}

/// Why a text could not be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    /// Not made by this key, altered, or made for another purpose.
    #[error("it was not issued by this server, or it has been altered")]
    Forged,
    /// Its lifetime has passed.
    #[error("it has expired")]
    Expired,
    /// The key material is too short.
    #[error("the signing key has {0} bytes; at least 32 random bytes are needed")]
    WeakKey(usize),
    /// The cipher or the encoder refused.
    #[error("it could not be sealed")]
    Cipher,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    /// Seconds since the epoch after which it is void.
    e: i64,
    v: T,
}

/// Seals and opens texts with one key (AES-256-GCM, random nonces). Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    key: Arc<RandomizedNonceKey>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(..)")
    }
}

struct KeyBytes;
impl hkdf::KeyType for KeyBytes {
    fn len(&self) -> usize {
        32
    }
}

impl Sealer {
    /// A sealer whose key is derived (HKDF-SHA256) from secret material of at least 32 bytes.
    ///
    /// # Errors
    /// [`SealError::WeakKey`] for shorter material.
    pub fn new(secret: &[u8]) -> Result<Self, SealError> {
        if secret.len() < 32 {
            return Err(SealError::WeakKey(secret.len()));
        }
        let mut key = [0_u8; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"kube-bind backend")
            .extract(secret)
            .expand(&[b"sealing key v1"], KeyBytes)
            .and_then(|okm| okm.fill(&mut key))
            .map_err(|_| SealError::Cipher)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| SealError::Cipher)?;
        Ok(Self { key: Arc::new(key) })
    }

    /// Seals `value` for `purpose`; void `lifetime` after `now`.
    ///
    /// # Errors
    /// [`SealError::Cipher`] if the value cannot be encoded.
    pub fn seal<T: Serialize>(
        &self,
        purpose: Purpose,
        value: &T,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<String, SealError> {
        let expires = now.as_second().saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
        let mut text = serde_json::to_vec(&Envelope { e: expires, v: value }).map_err(|_| SealError::Cipher)?;
        let nonce =
            self.key.seal_in_place_append_tag(Aad::from(purpose.label()), &mut text).map_err(|_| SealError::Cipher)?;
        let mut out = nonce.as_ref().to_vec();
        out.extend_from_slice(&text);
        Ok(URL_SAFE_NO_PAD.encode(out))
    }

    /// Opens a text sealed for `purpose`.
    ///
    /// # Errors
    /// [`SealError::Forged`] or [`SealError::Expired`].
    pub fn open<T: DeserializeOwned>(&self, purpose: Purpose, text: &str, now: Timestamp) -> Result<T, SealError> {
        let raw = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| SealError::Forged)?;
        if raw.len() <= NONCE_LEN {
            return Err(SealError::Forged);
        }
        let (nonce, body) = raw.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Forged)?;
        let mut body = body.to_vec();
        let plain =
            self.key.open_in_place(nonce, Aad::from(purpose.label()), &mut body).map_err(|_| SealError::Forged)?;
        let envelope: Envelope<serde_json::Value> = serde_json::from_slice(plain).map_err(|_| SealError::Forged)?;
        if now.as_second() > envelope.e {
            return Err(SealError::Expired);
        }
        serde_json::from_value(envelope.v).map_err(|_| SealError::Forged)
    }
}

/// A random URL-safe text with 256 bits of entropy (nonces, verifiers, session ids).
#[must_use]
pub fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// The S256 challenge of a PKCE verifier (RFC 7636 §4.2): base64url without padding of its SHA-256.
#[must_use]
pub fn s256(verifier: &str) -> String {
    use sha2::Digest as _;
    URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let text = sealer.seal(Purpose::Session, &"alice", now(), Duration::from_secs(60)).unwrap();
        assert_eq!(sealer.open::<String>(Purpose::Session, &text, now()).unwrap(), "alice");
        assert_eq!(sealer.open::<String>(Purpose::Bearer, &text, now()), Err(SealError::Forged));
        let other = Sealer::new(&[8; 32]).unwrap();
        assert_eq!(other.open::<String>(Purpose::Session, &text, now()), Err(SealError::Forged));
        let later = Timestamp::from_second(1_700_000_061).unwrap();
        assert_eq!(sealer.open::<String>(Purpose::Session, &text, later), Err(SealError::Expired));
        let mut bent = text.clone();
        let last = if bent.pop() == Some('A') { 'B' } else { 'A' };
        bent.insert(4, last);
        assert_eq!(sealer.open::<String>(Purpose::Session, &bent, now()), Err(SealError::Forged));
        assert_eq!(sealer.open::<String>(Purpose::Session, "", now()), Err(SealError::Forged));
    }

    #[test]
    fn short_keys_are_refused() {
        assert_eq!(Sealer::new(&[1; 16]).err(), Some(SealError::WeakKey(16)));
    }

    #[test]
    fn challenge_is_the_one_of_the_rfc() {
        assert_eq!(s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
