//! What one logical cluster serves: the built-in resources plus the ones of its CustomResourceDefinitions.
//!
//! Flows in: descriptors. Flows out: lookups by URL, and iteration for discovery and OpenAPI. A catalogue is immutable;
//! a change of a CRD makes a new one. Clusters without CRDs share one catalogue.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::resource::Resource;

/// The resources of one logical cluster.
#[derive(Clone, Default)]
pub struct Catalog {
    builtin: Arc<Index>,
    custom: Arc<Index>,
}

/// Resources by group, version and plural.
#[derive(Default)]
struct Index {
    by_path: BTreeMap<(String, String, String), Arc<Resource>>,
}

impl Index {
    fn new(resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let by_path =
            resources.into_iter().map(|r| ((r.group.clone(), r.version.clone(), r.plural.clone()), r)).collect();
        Self { by_path }
    }

    fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        // The map is small and a lookup happens once a request; three short strings are cheap.
        self.by_path.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }
}

impl Catalog {
    /// A catalogue of built-in resources only.
    pub fn new(builtin: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        Self { builtin: Arc::new(Index::new(builtin)), custom: Arc::default() }
    }

    /// The same built-ins with other custom resources (every served version is one entry).
    pub fn with_custom(&self, custom: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        Self { builtin: self.builtin.clone(), custom: Arc::new(Index::new(custom)) }
    }

    /// The resource at `/apis/<group>/<version>/…/<plural>` (or `/api/<version>` where the group is empty).
    pub fn resolve(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.builtin.get(group, version, plural).or_else(|| self.custom.get(group, version, plural))
    }

    /// A resource by group and plural in any version: the stored version if it is served, else the best one.
    pub fn by_group_resource(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        let mut best: Option<&Arc<Resource>> = None;
        for resource in self.iter().filter(|r| r.group == group && r.plural == plural) {
            if resource.version == resource.storage_version {
                return Some(resource);
            }
            if best.is_none_or(|b| version_order(&resource.version, &b.version).is_lt()) {
                best = Some(resource);
            }
        }
        best
    }

    /// A resource by `apiVersion` and kind, as owner references name it.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.iter().find(|r| r.group == group && r.version == version && r.kind == kind && !r.is_virtual())
    }

    /// Everything, built-ins first, each part in order of group, version and plural.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.builtin.by_path.values().chain(self.custom.by_path.values())
    }

    /// Only what comes from CustomResourceDefinitions.
    pub fn custom(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.custom.by_path.values()
    }

    /// Resources of one group and version; empty where it is not served.
    pub fn group_version(&self, group: &str, version: &str) -> Vec<&Arc<Resource>> {
        self.iter().filter(|r| r.group == group && r.version == version).collect()
    }

    /// Named groups (the core group is not among them), each with its versions, the preferred one first.
    /// Built-in groups come before custom ones; inside each part by name.
    pub fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for resource in self.iter().filter(|r| !r.group.is_empty()) {
            let at = match groups.iter().position(|(name, _)| *name == resource.group) {
                Some(at) => at,
                None => {
                    groups.push((resource.group.clone(), Vec::new()));
                    groups.len() - 1
                }
            };
            let versions = &mut groups[at].1;
            if !versions.contains(&resource.version) {
                versions.push(resource.version.clone());
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by(|a, b| version_order(a, b));
        }
        groups
    }

    /// A value that differs whenever what is served differs: for ETags and caches of rendered documents.
    pub fn generation(&self) -> (usize, usize) {
        (Arc::as_ptr(&self.builtin) as usize, Arc::as_ptr(&self.custom) as usize)
    }
}

/// Kubernetes' order of versions, the best first: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then anything else by name.
pub fn version_order(a: &str, b: &str) -> std::cmp::Ordering {
    fn rank(v: &str) -> Option<(u8, u64, u64)> {
        let rest = v.strip_prefix('v')?;
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let major: u64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        if tail.is_empty() {
            return Some((2, major, 0));
        }
        for (stage, name) in [(1, "beta"), (0, "alpha")] {
            if let Some(minor) = tail.strip_prefix(name) {
                return minor.parse().ok().map(|minor| (stage, major, minor));
            }
        }
        None
    }
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::version_order;

    #[test]
    fn versions_are_ordered_as_kubernetes_prefers_them() {
        let mut versions = vec!["foo1", "v1alpha1", "v10", "v1beta1", "v2", "v1", "v1beta2", "bar"];
        versions.sort_by(|a, b| version_order(a, b));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "bar", "foo1"]);
    }
}
