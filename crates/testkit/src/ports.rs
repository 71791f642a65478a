//! Ports for servers that have to know theirs before they listen, or that come back on the same one. In: nothing. Out: an
//! address of this machine where nobody listens.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use parking_lot::Mutex;
use rand::RngExt as _;

/// Ports that no operating system gives out by itself, neither to listeners nor to connections: what is free now stays free
/// while a server is away.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What this process was given: a test may listen later than another one asks.
static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// An address with a free port; never the same twice in a process.
#[must_use]
pub fn free() -> SocketAddr {
    let mut given = GIVEN.lock();
    let given = given.get_or_insert_default();
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::rng().random_range(PORTS)));
        if !given.contains(&address.port()) && TcpListener::bind(address).is_ok() {
            given.insert(address.port());
            return address;
        }
    }
}
