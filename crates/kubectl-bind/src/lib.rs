//! kubectl-bind
