//! Values that flags of several programs have, and how they are read. In: text. Out: the value, or what would be right;
//! the name of the flag is added by [`crate::settings`].

use std::net::SocketAddr;
use std::time::Duration;

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

/// Reads `IP:PORT`, `:PORT` for all addresses of the machine, or `none`.
///
/// # Errors
/// What would be right.
pub fn listen(text: &str) -> Result<Listen, String> {
    if matches!(text, "" | "none") {
        return Ok(Listen(None));
    }
    address(text).map(|address| Listen(Some(address))).map_err(|reason| format!("{reason}, or none"))
}

/// Reads `IP:PORT`, or `:PORT` for all addresses of the machine, of IPv6 and IPv4 (see [`crate::listen`]).
///
/// # Errors
/// What would be right.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = text.strip_prefix(':').map_or_else(|| text.to_owned(), |port| format!("[::]:{port}"));
    whole.parse().map_err(|_| "must be IP:PORT, or :PORT for all addresses of this machine".to_owned())
}

/// Reads a time such as `90s`, `5m` or `1h`.
///
/// # Errors
/// What would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| "must be a time such as 90s, 5m or 1h".to_owned())?;
    Duration::try_from(span).map_err(|_| "must not be negative".to_owned())
}

/// Reads a time that is not zero.
///
/// # Errors
/// What would be right.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than 0s".to_owned()),
        time => Ok(time),
    }
}

/// Reads text that is not empty.
///
/// # Errors
/// What would be right.
pub fn filled(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(listen(":8090"), Ok(Listen(Some((Ipv6Addr::UNSPECIFIED, 8090).into()))));
        assert_eq!(listen("[::1]:80"), Ok(Listen(Some("[::1]:80".parse().unwrap()))));
        assert_eq!(listen("none"), Ok(Listen(None)));
        assert_eq!(listen(""), Ok(Listen(None)));
        assert!(listen("localhost:80").unwrap_err().contains("IP:PORT"));
    }

    #[test]
    fn times() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("5").is_err());
        assert!(duration("-5s").unwrap_err().contains("negative"));
        assert!(some_time("0s").is_err());
    }
}
