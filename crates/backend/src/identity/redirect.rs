//! Where a login or a bind may send the browser afterwards.
//!
//! In: a `redirect_url` that somebody asked for. Out: the parsed URL, or a refusal. Command lines listen on the
//! loopback interface (RFC 8252 §7.3); pages are on our own origin. Nothing else is ever redirected to.

use url::{Host, Url};

/// Why a redirect target was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// Not a URL.
    #[error("redirect_url is not a valid absolute URL")]
    Invalid,
    /// A URL that is neither loopback nor ours.
    #[error(
        "redirect_url must be a page of this server, or http://127.0.0.1:<port>/ of the machine the browser runs on"
    )]
    Foreign,
}

/// Accepts only `http` URLs on the loopback interface with an explicit port, without user info and fragment.
///
/// # Errors
/// [`RedirectError`] for everything else.
pub fn loopback(text: &str) -> Result<Url, RedirectError> {
    let url = Url::parse(text).map_err(|_| RedirectError::Invalid)?;
    let local = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let plain =
        url.scheme() == "http" && url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if local && plain && url.port().is_some() { Ok(url) } else { Err(RedirectError::Foreign) }
}

/// Accepts a path of this server or an absolute URL with the origin of `base`.
///
/// # Errors
/// [`RedirectError`] for everything else, among it `//host`, `/\host` and other schemes.
pub fn own(text: &str, base: &Url) -> Result<Url, RedirectError> {
    if text.contains(['\\', '\n', '\r', '\t']) {
        return Err(RedirectError::Invalid);
    }
    let url = base.join(text).map_err(|_| RedirectError::Invalid)?;
    let clean = url.username().is_empty() && url.password().is_none();
    if clean && url.origin() == base.origin() && url.origin().is_tuple() {
        Ok(url)
    } else {
        Err(RedirectError::Foreign)
    }
}

/// `url` with further query parameters; empty values are left out.
#[must_use]
pub fn with_query(url: &Url, pairs: &[(&str, &str)]) -> Url {
    let mut url = url.clone();
    {
        let mut query = url.query_pairs_mut();
        for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(key, value);
        }
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    url
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://127.0.0.1:41234/callback")]
    #[case("http://localhost:1/")]
    #[case("http://[::1]:8000/callback")]
    fn loopback_is_accepted(#[case] text: &str) {
        assert!(loopback(text).is_ok());
    }

    #[rstest]
    #[case("https://evil.example/callback")]
    #[case("http://127.0.0.1.evil.example:80/")]
    #[case("http://127.0.0.1@evil.example:8080/")]
    #[case("http://user@127.0.0.1:8080/")]
    #[case("http://127.0.0.1:8080/#f")]
    #[case("http://127.0.0.1/callback")]
    #[case("javascript:alert(1)")]
    #[case("//127.0.0.1:80/")]
    #[case("http://localhost.evil.example:80/")]
    fn others_are_refused(#[case] text: &str) {
        assert!(loopback(text).is_err(), "{text}");
    }

    #[rstest]
    #[case("/exports?a=b", true)]
    #[case("https://own.example/exports", true)]
    #[case("//evil.example/", false)]
    #[case("/\\evil.example", false)]
    #[case("https://own.example.evil.example/", false)]
    #[case("https://own.example@evil.example/", false)]
    #[case("http://own.example/", false)]
    #[case("javascript:alert(1)", false)]
    fn own_pages_only(#[case] text: &str, #[case] ok: bool) {
        let base = Url::parse("https://own.example").unwrap();
        assert_eq!(own(text, &base).is_ok(), ok, "{text}");
    }
}
