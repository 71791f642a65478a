//! kube-client
