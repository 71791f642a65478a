//! Aggregated discovery (KEP-3352): everything that is served, in two answers.

use serde_json::{Map, Value, json};

use super::legacy::{ordered_groups, subresources};
use crate::registry::{Catalog, Resource};

/// The core group (`core`) or all named groups, as `apidiscovery.k8s.io/<version>`; the versions have one shape.
pub fn aggregated(catalog: &Catalog, core: bool, version: &str) -> Value {
    let groups = if core { vec![(String::new(), vec!["v1".to_owned()])] } else { ordered_groups(catalog) };
    let items: Vec<Value> = groups.iter().map(|(name, versions)| describe_group(catalog, name, versions)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn describe_group(catalog: &Catalog, name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> = catalog.group_version(name, version).iter().map(|r| describe(r)).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    let mut metadata = Map::new();
    metadata.insert("creationTimestamp".into(), Value::Null);
    if !name.is_empty() {
        metadata.insert("name".into(), name.into());
    }
    json!({"metadata": metadata, "versions": versions})
}

fn describe(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        entry["categories"] = resource.categories.clone().into();
    }
    let subresources: Vec<Value> = subresources(resource)
        .iter()
        .map(|sub| {
            let kind = json!({
                "group": sub.group.unwrap_or(&resource.group),
                "version": sub.version.unwrap_or(&resource.version),
                "kind": sub.kind,
            });
            json!({"subresource": sub.name, "responseKind": kind, "verbs": sub.verbs})
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::builtin;

    #[test]
    fn one_answer_holds_every_group() {
        let catalog = Catalog::new(builtin::resources());
        let core = aggregated(&catalog, true, "v2");
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2");
        let named = aggregated(&catalog, false, "v2beta1");
        assert_eq!(named["items"][0]["metadata"]["name"], "apps");
        let deployments = &named["items"][0]["versions"][0]["resources"][2];
        assert_eq!(deployments["resource"], "deployments");
        assert_eq!(deployments["subresources"][0]["responseKind"]["group"], "autoscaling");
        assert_eq!(deployments["subresources"][1]["subresource"], "status");
    }
}
