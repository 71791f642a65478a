//! kube-bind-api
