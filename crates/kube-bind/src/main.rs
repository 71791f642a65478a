//! kube-bind: demo and dev.
fn main() {}
