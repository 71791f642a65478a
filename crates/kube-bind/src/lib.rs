//! kube-bind on one machine: both sides, a login and two providers in one process, to try and to test.
pub mod issuer;
