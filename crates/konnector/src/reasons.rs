//! Reasons of conditions and Events that are the agent's own; those that both sides know are in
//! [`kube_bind_api::constants::reason`]. Each of them is explained in `docs/troubleshooting.md`.

/// The provider refuses a credential that it knows.
pub const ACCESS_REVOKED: &str = "AccessRevoked";
/// The provider has no contract for the credential.
pub const CONTRACT_NOT_FOUND: &str = "ContractNotFound";
/// The provider's certificate is not from the CA in the credential.
pub const CERTIFICATE_NOT_TRUSTED: &str = "CertificateNotTrusted";
/// Something cannot be listed or watched.
pub const WATCH_FAILED: &str = "WatchFailed";
/// A step of binding fails again and again.
pub const RECONCILE_FAILED: &str = "ReconcileFailed";
/// Event: an object's sync fails again and again, though nobody refuses it.
pub const SYNC_DELAYED: &str = "SyncDelayed";
