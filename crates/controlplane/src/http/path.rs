//! What a URL is about.
//!
//! Flows in: a path and a method. Flows out: the logical cluster, the path inside it, and for API resources group,
//! version, namespace, plural, name and subresource, as `k8s.io/apiserver`'s RequestInfo names them.

use http::Method;

/// The logical cluster of paths that name none.
pub const DEFAULT_CLUSTER: &str = "default";

/// A parsed path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestPath {
    /// Logical cluster.
    pub cluster: String,
    /// The path inside the cluster, beginning with a slash.
    pub path: String,
    /// The resource, if the path is one of an API resource.
    pub resource: Option<ResourcePath>,
}

/// The resource part of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Namespace; empty if none is named.
    pub namespace: String,
    /// Plural name.
    pub plural: String,
    /// Object name; empty for collections.
    pub name: String,
    /// Subresource; empty if none.
    pub subresource: String,
    /// The old `/watch/` form.
    pub watch: bool,
}

impl RequestPath {
    /// Parses the path of a URL. `None`: it is not well formed.
    pub fn parse(raw: &str) -> Option<Self> {
        let decoded: Vec<String> = raw.split('/').map(decode).collect::<Option<_>>()?;
        let mut segments: Vec<&str> = decoded.iter().map(String::as_str).skip(1).collect();
        let mut cluster = DEFAULT_CLUSTER.to_owned();
        if segments.first() == Some(&"clusters") {
            cluster = segments.get(1).filter(|name| !name.is_empty())?.to_string();
            segments.drain(..2);
        }
        let path = format!("/{}", segments.join("/"));
        while segments.last() == Some(&"") {
            segments.pop();
        }
        let resource = match segments.first() {
            Some(&"api") if segments.len() > 2 => resource("", segments[1], &segments[2..]),
            Some(&"apis") if segments.len() > 3 => resource(segments[1], segments[2], &segments[3..]),
            _ => None,
        };
        Some(Self { cluster, path, resource })
    }
}

impl ResourcePath {
    /// The RBAC verb of a request.
    pub fn verb(&self, method: &Method, watch: bool) -> &'static str {
        match *method {
            Method::GET | Method::HEAD if watch || self.watch => "watch",
            Method::GET | Method::HEAD if self.name.is_empty() => "list",
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if self.name.is_empty() => "deletecollection",
            Method::DELETE => "delete",
            _ => "",
        }
    }
}

fn resource(group: &str, version: &str, segments: &[&str]) -> Option<ResourcePath> {
    let (watch, segments) = match segments {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        all => (false, all),
    };
    let mut found = ResourcePath { group: group.to_owned(), version: version.to_owned(), watch, ..Default::default() };
    let rest = match segments {
        // Namespaces themselves, and their subresources.
        ["namespaces"] | ["namespaces", _] => segments,
        ["namespaces", _, "status" | "finalize"] if group.is_empty() => segments,
        ["namespaces", namespace, rest @ ..] => {
            found.namespace = (*namespace).to_owned();
            rest
        }
        all => all,
    };
    match rest {
        [plural] => found.plural = (*plural).to_owned(),
        [plural, name] => (found.plural, found.name) = ((*plural).to_owned(), (*name).to_owned()),
        [plural, name, sub @ ..] if !sub.is_empty() => {
            (found.plural, found.name) = ((*plural).to_owned(), (*name).to_owned());
            found.subresource = sub.join("/");
        }
        _ => return None,
    }
    if found.plural == "namespaces" && !found.name.is_empty() {
        // RBAC on a namespace is checked inside of it, as Kubernetes does.
        found.namespace = found.name.clone();
    }
    Some(found)
}

/// Percent-decodes one segment. A slash in it would change the meaning, so it is refused.
fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(out).ok().filter(|s| !s.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> (String, String, String, String, String, String) {
        let parsed = RequestPath::parse(path).unwrap();
        let r = parsed.resource.unwrap();
        (parsed.cluster, r.group, r.namespace, r.plural, r.name, r.subresource)
    }

    fn owned(t: (&str, &str, &str, &str, &str, &str)) -> (String, String, String, String, String, String) {
        (t.0.into(), t.1.into(), t.2.into(), t.3.into(), t.4.into(), t.5.into())
    }

    #[test]
    fn resources_are_found() {
        for (path, expected) in [
            ("/api/v1/pods", ("default", "", "", "pods", "", "")),
            ("/clusters/c/api/v1/namespaces/n/pods/p/status", ("c", "", "n", "pods", "p", "status")),
            ("/clusters/c/api/v1/namespaces/n", ("c", "", "n", "namespaces", "n", "")),
            ("/clusters/c/api/v1/namespaces/n/finalize", ("c", "", "n", "namespaces", "n", "finalize")),
            ("/apis/g.io/v1/namespaces/n/things", ("default", "g.io", "n", "things", "", "")),
            ("/apis/g.io/v1/watch/namespaces/n/things/a%3Ab", ("default", "g.io", "n", "things", "a:b", "")),
            ("/clusters/*/apis/g.io/v1/things:abc/", ("*", "g.io", "", "things:abc", "", "")),
        ] {
            assert_eq!(parts(path), owned(expected), "{path}");
        }
    }

    #[test]
    fn other_paths_are_no_resources() {
        for path in ["/api", "/apis/g/v1", "/version", "/", "/openapi/v3/api/v1", "/clusters/c/api/v1/"] {
            assert_eq!(RequestPath::parse(path).unwrap().resource, None, "{path}");
        }
        assert_eq!(RequestPath::parse("/clusters/c/api/").unwrap().path, "/api/");
        assert_eq!(RequestPath::parse("/api/v1/pods/a%2fb"), None);
        assert_eq!(RequestPath::parse("/clusters/"), None);
    }
}
