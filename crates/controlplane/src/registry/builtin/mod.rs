//! The built-in resources: descriptors, schemas, columns and what Kubernetes fills in.
//!
//! ```text
//!  k8s-openapi types ──► definitions ──┬─► OpenAPI documents (when asked)
//!  merge_facts.txt, defaults.txt ──────┘└─► compiled schemas (per kind, on first use)
//!  kinds (the table) + columns ────────────► resources(): Vec<Arc<Resource>>
//!  prepare: defaults that depend on more than one field (pull policies, rollout strategies, ...)
//! ```
//!
//! Built-ins are descriptors like custom resources are; only [`prepare`] knows kinds by name.

mod columns;
mod definitions;
mod kinds;
pub mod prepare;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use super::{Lazy, Resource, ScalePaths};
use kinds::Kind;

static RESOURCES: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
    let kinds = kinds::kinds();
    let untold = Arc::new(Value::Null);
    kinds.into_iter().map(|kind| Arc::new(describe(&kind, &untold))).collect()
});

/// Descriptors of everything that is served without a CustomResourceDefinition. Made once and shared.
pub fn resources() -> Vec<Arc<Resource>> {
    RESOURCES.clone()
}

fn describe(kind: &Kind, untold: &Arc<Value>) -> Resource {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let schema = kind.schema;
    Resource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        plural: kind.plural.to_owned(),
        singular: kind.kind.to_lowercase(),
        kind: kind.kind.to_owned(),
        list_kind: format!("{}List", kind.kind),
        short_names: owned(kind.short_names),
        categories: owned(kind.categories),
        namespaced: kind.namespaced,
        verbs: if kind.review { vec!["create"] } else { Resource::ALL_VERBS.to_vec() },
        status: kind.status,
        scale: kind.scale.then(|| ScalePaths {
            spec_replicas: ".spec.replicas".to_owned(),
            status_replicas: ".status.replicas".to_owned(),
            label_selector: Some(".spec.selector".to_owned()),
        }),
        subresources: kind.subresources.to_vec(),
        schema: Lazy::new(move || definitions::compile(schema)),
        // built-ins are published from their definitions (see `openapi_definitions`), which may refer to each other
        openapi: untold.clone(),
        columns: Arc::new((kind.columns)()),
        custom: false,
        storage_version: kind.version.to_owned(),
        selectable_fields: owned(kind.fields),
        stored_as: kind.stored_as.clone(),
        identity: String::new(),
        generation: kind.generation,
        deprecation: (kind.group.is_empty() && kind.plural == "endpoints")
            .then(|| "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()),
        group_priority: group_priority(kind.group),
    }
}

/// Order of the groups in discovery, as kube-apiserver lists them: the first has the best names.
const GROUP_ORDER: [&str; 17] = [
    "",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
];

/// Place of a group in discovery; custom groups come after all built-in ones.
pub fn group_priority(group: &str) -> i32 {
    GROUP_ORDER.iter().position(|known| *known == group).and_then(|at| i32::try_from(at).ok()).unwrap_or(1000)
}

static TYPES: LazyLock<HashMap<(String, String, String), definitions::TypeRef>> = LazyLock::new(|| {
    let key = |kind: &Kind| (kind.group.to_owned(), kind.version.to_owned(), kind.kind.to_owned());
    kinds::kinds().iter().map(|kind| (key(kind), kind.schema)).collect()
});

/// Name of the OpenAPI definition of a built-in resource's kind, such as `io.k8s.api.core.v1.ConfigMap`.
pub fn definition_name(resource: &Resource) -> Option<String> {
    let key = (resource.group.clone(), resource.version.clone(), resource.kind.clone());
    TYPES.get(&key).map(definitions::TypeRef::name)
}

/// OpenAPI definitions of these built-in resources, of what they refer to, and of the types every API shares (`Status`,
/// `DeleteOptions`, `ObjectMeta`, `ListMeta`, `Scale`, `TokenRequest`). References start with `#<prefix>/`. Computed
/// anew each time; keep the rendered document, not this.
pub fn openapi_definitions<'a>(
    resources: impl IntoIterator<Item = &'a Arc<Resource>>,
    prefix: &'static str,
) -> Map<String, Value> {
    let types = resources.into_iter().filter_map(|resource| {
        let key = (resource.group.clone(), resource.version.clone(), resource.kind.clone());
        TYPES.get(&key).copied()
    });
    definitions::definitions(types.chain(kinds::shared_types()), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_resource_is_described_once_and_compiles() {
        let mut seen = HashSet::new();
        for resource in resources() {
            assert!(seen.insert((resource.group.clone(), resource.version.clone(), resource.plural.clone())));
            assert!(definition_name(&resource).is_some(), "{resource:?}");
            let root = resource.schema.root();
            assert!(
                root.properties.contains_key("metadata")
                    || root.properties.contains_key("spec")
                    || root.properties.contains_key("status")
                    || !root.properties.is_empty(),
                "{resource:?}"
            );
        }
        assert!(seen.len() > 45, "{}", seen.len());
    }
}
