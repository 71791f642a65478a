//! Which API an object belongs to, and its URL paths. In: group, version, plural. Out: request paths. Used by
//! [`crate::api::Api`] and everything that watches.

use std::fmt;

/// One served API: group, version and plural name. The core group is the empty string.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Plural, lower-case resource name, such as `secrets`.
    pub plural: String,
    /// Kind, such as `Secret`; needed for bodies of writes.
    pub kind: String,
}

impl Resource {
    /// Names one API.
    pub fn new(group: &str, version: &str, plural: &str, kind: &str) -> Self {
        Self { group: group.into(), version: version.into(), plural: plural.into(), kind: kind.into() }
    }

    /// `apiVersion` of the objects: `v1` for the core group, else `group/version`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Path of the collection: cluster-wide without a namespace.
    pub fn collection_path(&self, namespace: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let Some(namespace) = namespace.filter(|n| !n.is_empty()) {
            path.push_str("/namespaces/");
            path.push_str(&encode(namespace));
        }
        path.push('/');
        path.push_str(&self.plural);
        path
    }

    /// Path of one object, or of one of its subresources.
    pub fn object_path(&self, namespace: Option<&str>, name: &str, subresource: Option<&str>) -> String {
        let mut path = self.collection_path(namespace);
        path.push('/');
        path.push_str(&encode(name));
        if let Some(sub) = subresource {
            path.push('/');
            path.push_str(sub);
        }
        path
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plural)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// Percent-encodes everything that is not an unreserved URL character (RFC 3986 §2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_core_and_named_groups() {
        let secrets = Resource::new("", "v1", "secrets", "Secret");
        assert_eq!(secrets.object_path(Some("a"), "b", None), "/api/v1/namespaces/a/secrets/b");
        let things = Resource::new("x.io", "v2", "things", "Thing");
        assert_eq!(things.object_path(None, "b", Some("status")), "/apis/x.io/v2/things/b/status");
        assert_eq!(things.api_version(), "x.io/v2");
    }

    #[test]
    fn a_name_cannot_leave_its_path_segment() {
        let roles = Resource::new("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole");
        assert!(roles.object_path(None, "a/../b?x=1", None).ends_with("/clusterroles/a%2F..%2Fb%3Fx%3D1"));
    }
}
