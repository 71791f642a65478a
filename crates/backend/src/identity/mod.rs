//! Who is asking: the login with an OpenID Connect issuer, the sessions that follow from it, and where they may lead.
//!
//! In: codes from the issuer, cookies and bearer tokens from clients. Out: a verified [`oidc::Person`] or a refusal.
//! Nothing is kept in memory: all state travels sealed (see [`crate::seal`]). Called by `http`.

pub mod oidc;
pub mod redirect;
pub mod session;
