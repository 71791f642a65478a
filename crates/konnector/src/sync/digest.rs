//! Short digests of JSON values, so that two bodies can be compared without keeping either. `serde_json` maps are
//! sorted, so equal values have equal bytes.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The first 16 bytes of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Digest of a value, or of what is written as one.
    pub fn of(value: &impl Serialize) -> Self {
        // What has only names for keys can be written.
        Self::of_bytes(&serde_json::to_vec(value).unwrap_or_default())
    }

    /// Digest of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let hash = Sha256::digest(bytes);
        let mut short = [0; 16];
        short.copy_from_slice(&hash[..16]);
        Self(short)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From bytes that were taken off a digest.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Lower-case hex.
    pub fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex()[..8])
    }
}
