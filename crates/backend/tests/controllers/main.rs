//! The controllers against an API server with RBAC: the embedded one, or the one whose administrator's kubeconfig
//! `KUBE_BIND_TEST_KUBECONFIG` names (its token controller is then done here, if it has none). The backend runs with the
//! rights of `contract::rbac` and nothing else; the consumer with the credential that it was given.

#![allow(clippy::unwrap_used, clippy::panic)]

mod again;
mod bind;
mod isolation;
mod lacking;
mod moving;
mod orphans;
mod provider;
