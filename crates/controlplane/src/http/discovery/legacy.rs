//! The discovery documents every client understands: one list a group and version.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::registry::builtin::group_priority;
use crate::registry::{Catalog, Resource};

/// `/api`: the versions of the core group. `host` is where the client reached us.
pub fn api_versions(host: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    })
}

/// Named groups with their versions, in the order in which clients should look for a kind.
pub(super) fn ordered_groups(catalog: &Catalog) -> Vec<(String, Vec<String>)> {
    let mut groups = catalog.groups();
    groups.sort_by_key(|(name, _)| group_priority(name));
    groups
}

fn describe_group(name: &str, versions: &[String]) -> Map<String, Value> {
    let entry = |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let mut group = Map::new();
    group.insert("name".into(), name.into());
    group.insert("versions".into(), versions.iter().map(entry).collect());
    group.insert("preferredVersion".into(), versions.first().map(entry).unwrap_or_default());
    group
}

/// `/apis`: all named groups.
pub fn group_list(catalog: &Catalog) -> Value {
    let groups: Vec<Value> =
        ordered_groups(catalog).iter().map(|(name, versions)| Value::Object(describe_group(name, versions))).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`; none where the group is not served.
pub fn group(catalog: &Catalog, name: &str) -> Option<Value> {
    let (name, versions) = catalog.groups().into_iter().find(|(known, _)| known == name)?;
    let mut group = describe_group(&name, &versions);
    group.insert("kind".into(), "APIGroup".into());
    group.insert("apiVersion".into(), "v1".into());
    Some(Value::Object(group))
}

/// `/api/<version>` (with an empty group) and `/apis/<group>/<version>`; none where it is not served.
pub fn resource_list(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let resources = catalog.group_version(group, version);
    let first = resources.first()?;
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": first.api_version(),
        "resources": resources.iter().flat_map(|r| entries(r)).collect::<Vec<Value>>(),
    });
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

/// A resource and its subresources.
fn entries(resource: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        main["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        main["categories"] = resource.categories.clone().into();
    }
    if !resource.is_virtual() {
        main["storageVersionHash"] = storage_version_hash(resource).into();
    }
    let mut all = vec![main];
    all.extend(subresources(resource).into_iter().map(|sub| {
        let mut entry = json!({
            "name": format!("{}/{}", resource.plural, sub.name),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": sub.kind,
            "verbs": sub.verbs,
        });
        if let (Some(group), Some(version)) = (sub.group, sub.version) {
            entry["group"] = group.into();
            entry["version"] = version.into();
        }
        entry
    }));
    all
}

/// What clients need to know about a subresource.
pub(super) struct SubresourceView<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    /// Where the kind is not of the resource's own group and version.
    pub(super) group: Option<&'a str>,
    pub(super) version: Option<&'a str>,
    pub(super) verbs: &'a [&'a str],
}

/// `status`, `scale` and the others of a resource, sorted by name.
pub(super) fn subresources(resource: &Resource) -> Vec<SubresourceView<'_>> {
    const VERBS: &[&str] = &["get", "patch", "update"];
    let mut all: Vec<SubresourceView<'_>> = resource
        .subresources
        .iter()
        .map(|s| SubresourceView { name: s.name, kind: s.kind, group: s.group, version: s.version, verbs: s.verbs })
        .collect();
    if resource.status {
        all.push(SubresourceView { name: "status", kind: &resource.kind, group: None, version: None, verbs: VERBS });
    }
    if resource.scale.is_some() {
        let (group, version) = (Some("autoscaling"), Some("v1"));
        all.push(SubresourceView { name: "scale", kind: "Scale", group, version, verbs: VERBS });
    }
    all.sort_by_key(|s| s.name);
    all
}

/// Tells clients when objects are stored in another form than before.
fn storage_version_hash(resource: &Resource) -> String {
    let stored = format!("{}/{}/{}", resource.storage_group(), resource.storage_version, resource.kind);
    let digest = Sha256::digest(stored.as_bytes());
    STANDARD.encode(&digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::builtin;

    fn catalog() -> Catalog {
        Catalog::new(builtin::resources())
    }

    #[test]
    fn lists_the_core_group_with_subresources() {
        let list = resource_list(&catalog(), "", "v1").unwrap();
        assert_eq!(list["groupVersion"], "v1");
        assert!(list.get("apiVersion").is_none());
        let find = |name: &str| list["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).cloned();
        let services = find("services").unwrap();
        // the value every Kubernetes 1.x server gives for v1 services
        assert_eq!(services["storageVersionHash"], "0/CO1lhkEBI=");
        assert_eq!(services["shortNames"], json!(["svc"]));
        assert_eq!(services["categories"], json!(["all"]));
        let token = find("serviceaccounts/token").unwrap();
        assert_eq!(token["group"], "authentication.k8s.io");
        assert_eq!(find("replicationcontrollers/scale").unwrap()["kind"], "Scale");
        assert!(find("namespaces/finalize").is_some());
    }

    #[test]
    fn lists_groups_in_kubernetes_order() {
        let groups = group_list(&catalog());
        let names: Vec<&str> =
            groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
        assert_eq!(&names[..3], ["apps", "events.k8s.io", "authentication.k8s.io"]);
        assert_eq!(group(&catalog(), "apps").unwrap()["preferredVersion"]["groupVersion"], "apps/v1");
        assert!(group(&catalog(), "nope").is_none());
        assert!(resource_list(&catalog(), "apps", "v9").is_none());
    }
}
