//! Example provider.
fn main() {}
