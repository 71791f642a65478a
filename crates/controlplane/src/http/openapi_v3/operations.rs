//! What can be done with a resource, as both OpenAPI versions describe it.
//!
//! Flows in: a descriptor. Flows out: its paths, and for each the operations with the kinds they take and return.

use crate::registry::{Resource, builtin};

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gvk {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
}

impl Gvk {
    /// As the extension `x-kubernetes-group-version-kind` writes it.
    pub(crate) fn to_value(&self) -> serde_json::Value {
        serde_json::json!({"group": self.group, "kind": self.kind, "version": self.version})
    }
}

/// One path with what is served there.
pub(crate) struct Path {
    pub(crate) path: String,
    /// Whether the path names an object, and a namespace.
    pub(crate) named: bool,
    pub(crate) namespaced: bool,
    pub(crate) operations: Vec<Operation>,
}

/// One operation on a path.
pub(crate) struct Operation {
    /// HTTP method, lower case.
    pub(crate) method: &'static str,
    /// Kubernetes' word: `get`, `list`, `post`, `put`, `patch`, `delete`, `deletecollection`.
    pub(crate) action: &'static str,
    pub(crate) id: String,
    pub(crate) description: String,
    pub(crate) tag: String,
    pub(crate) gvk: Gvk,
    /// Definition of the body; patches have one of their own.
    pub(crate) body: Option<String>,
    /// Definition of the answer.
    pub(crate) answer: String,
    /// Whether strategic merge patches are understood.
    pub(crate) strategic: bool,
}

pub(crate) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(crate) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(crate) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
const TOKEN_REQUEST: &str = "io.k8s.api.authentication.v1.TokenRequest";

/// Media types of patches; custom resources do without the strategic one.
pub(crate) fn patch_types(strategic: bool) -> &'static [&'static str] {
    const ALL: &[&str] = &[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
        "application/strategic-merge-patch+json",
    ];
    if strategic { ALL } else { &ALL[..3] }
}

/// Name of the definition of a resource's kind.
pub(crate) fn definition(resource: &Resource) -> String {
    builtin::definition_name(resource).unwrap_or_else(|| model_name(&resource.group, &resource.version, &resource.kind))
}

/// Name of the definition of a resource's list kind.
pub(crate) fn list_definition(resource: &Resource) -> String {
    match builtin::definition_name(resource) {
        Some(name) => format!("{name}List"),
        None => model_name(&resource.group, &resource.version, &resource.list_kind),
    }
}

/// `com.acmedb.v1.MongoDB`: the group backwards, then version and kind.
fn model_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// `rbacAuthorization`, `acmedbCom`: the group in camel case, without Kubernetes' own ending.
fn camel(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group.trim_end_matches(".k8s.io") };
    let mut out = String::new();
    for (at, part) in group.split(['.', '-']).enumerate() {
        let mut chars = part.chars();
        match chars.next() {
            Some(first) if at > 0 => out.extend(first.to_uppercase().chain(chars)),
            Some(first) => out.extend(std::iter::once(first).chain(chars)),
            None => {}
        }
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" }
}

struct Writer<'a> {
    resource: &'a Resource,
    camel: String,
    scope: &'static str,
}

impl Writer<'_> {
    fn operation(
        &self,
        method: &'static str,
        action: &'static str,
        verb: &str,
        suffix: &str,
        description: String,
        answer: &str,
    ) -> Operation {
        let resource = self.resource;
        let version = capital(&resource.version);
        let (group, kind) = (capital(&self.camel), &resource.kind);
        Operation {
            method,
            action,
            id: match verb {
                "deleteCollection" => format!("delete{group}{version}Collection{}{kind}{suffix}", self.scope),
                _ => format!("{verb}{group}{version}{}{kind}{suffix}", self.scope),
            },
            description,
            tag: format!("{}_{}", self.camel, resource.version),
            gvk: Gvk { group: resource.group.clone(), version: resource.version.clone(), kind: kind.clone() },
            body: None,
            answer: answer.to_owned(),
            strategic: !resource.custom,
        }
    }

    /// Reading, replacing and patching one object or subresource.
    fn on_object(
        &self,
        suffix: &str,
        what: &str,
        definition: &str,
        gvk: Option<Gvk>,
        verbs: &[&str],
    ) -> Vec<Operation> {
        let kind = &self.resource.kind;
        let mut all = Vec::new();
        if verbs.contains(&"get") {
            all.push(self.operation(
                "get",
                "get",
                "read",
                suffix,
                format!("read{what} the specified {kind}"),
                definition,
            ));
        }
        if verbs.contains(&"update") {
            let text = format!("replace{what} the specified {kind}");
            let mut replace = self.operation("put", "put", "replace", suffix, text, definition);
            replace.body = Some(definition.to_owned());
            all.push(replace);
        }
        if verbs.contains(&"patch") {
            let text = format!("partially update{what} the specified {kind}");
            let mut patch = self.operation("patch", "patch", "patch", suffix, text, definition);
            patch.body = Some(PATCH.to_owned());
            all.push(patch);
        }
        if let Some(gvk) = gvk {
            all.iter_mut().for_each(|operation| operation.gvk = gvk.clone());
        }
        all
    }
}

/// All paths of a resource, subresources included.
pub(crate) fn paths(resource: &Resource) -> Vec<Path> {
    let root = match resource.group.as_str() {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    let (kind, one, many) = (&resource.kind, definition(resource), list_definition(resource));
    let scope = if resource.namespaced { "Namespaced" } else { "" };
    let writer = Writer { resource, camel: camel(&resource.group), scope };
    let mut paths = Vec::new();
    let list_text = format!("list or watch objects of kind {kind}");
    if resource.namespaced && resource.allows("list") {
        let everywhere = Writer { scope: "", camel: writer.camel.clone(), resource };
        let list = everywhere.operation("get", "list", "list", "ForAllNamespaces", list_text.clone(), &many);
        paths.push(Path {
            path: format!("{root}/{}", resource.plural),
            named: false,
            namespaced: false,
            operations: vec![list],
        });
    }
    let base = match resource.namespaced {
        true => format!("{root}/namespaces/{{namespace}}/{}", resource.plural),
        false => format!("{root}/{}", resource.plural),
    };
    let mut collection = Vec::new();
    if resource.allows("list") {
        collection.push(writer.operation("get", "list", "list", "", list_text, &many));
    }
    if resource.allows("create") {
        let text = format!("create {} {kind}", article(kind));
        let mut create = writer.operation("post", "post", "create", "", text, &one);
        create.body = Some(one.clone());
        collection.push(create);
    }
    if resource.allows("deletecollection") {
        let text = format!("delete collection of {kind}");
        let mut delete = writer.operation("delete", "deletecollection", "deleteCollection", "", text, STATUS);
        delete.body = Some(DELETE_OPTIONS.to_owned());
        collection.push(delete);
    }
    let namespaced = resource.namespaced;
    paths.push(Path { path: base.clone(), named: false, namespaced, operations: collection });
    if resource.is_virtual() {
        return paths;
    }
    let mut object = writer.on_object("", "", &one, None, &resource.verbs);
    let mut delete =
        writer.operation("delete", "delete", "delete", "", format!("delete {} {kind}", article(kind)), STATUS);
    delete.body = Some(DELETE_OPTIONS.to_owned());
    object.push(delete);
    paths.push(Path { path: format!("{base}/{{name}}"), named: true, namespaced, operations: object });
    const VERBS: &[&str] = &["get", "update", "patch"];
    if resource.status {
        let operations = writer.on_object("Status", " status of", &one, None, VERBS);
        paths.push(Path { path: format!("{base}/{{name}}/status"), named: true, namespaced, operations });
    }
    if resource.scale.is_some() {
        let gvk = Gvk { group: "autoscaling".into(), version: "v1".into(), kind: "Scale".into() };
        let operations = writer.on_object("Scale", " scale of", SCALE, Some(gvk), VERBS);
        paths.push(Path { path: format!("{base}/{{name}}/scale"), named: true, namespaced, operations });
    }
    for sub in &resource.subresources {
        let (text, suffix) = (format!(" {} of", sub.name), capital(sub.name));
        let operations = if sub.kind == "TokenRequest" {
            let mut create = writer.operation(
                "post",
                "post",
                "create",
                &suffix,
                format!("create{text} {} {kind}", article(kind)),
                TOKEN_REQUEST,
            );
            create.body = Some(TOKEN_REQUEST.to_owned());
            create.gvk = Gvk {
                group: sub.group.unwrap_or_default().to_owned(),
                version: sub.version.unwrap_or_default().to_owned(),
                kind: sub.kind.to_owned(),
            };
            vec![create]
        } else {
            writer.on_object(&suffix, &text, &one, None, sub.verbs)
        };
        paths.push(Path { path: format!("{base}/{{name}}/{}", sub.name), named: true, namespaced, operations });
    }
    paths
}

/// One query parameter: name, type and what it is for.
pub(crate) struct Parameter(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

const DRY_RUN: Parameter = Parameter(
    "dryRun",
    "string",
    "`All` runs every stage of the request, but nothing is stored. Other values are refused.",
);
const FIELD_MANAGER: Parameter = Parameter(
    "fieldManager",
    "string",
    "The name under which the fields of this write are owned; needed for server-side apply.",
);
const FIELD_VALIDATION: Parameter = Parameter(
    "fieldValidation",
    "string",
    "What to do with unknown and duplicate fields: `Ignore`, `Warn` (the default) or `Strict`.",
);
const FORCE: Parameter = Parameter("force", "boolean", "Server-side apply: take over fields that other managers own.");

/// The query parameters of an action.
pub(crate) fn parameters(action: &str) -> Vec<Parameter> {
    let listing = || {
        vec![
            Parameter("allowWatchBookmarks", "boolean", "Ask for BOOKMARK events."),
            Parameter("continue", "string", "The token of the page before this one."),
            Parameter("fieldSelector", "string", "Only objects whose fields match."),
            Parameter("labelSelector", "string", "Only objects whose labels match."),
            Parameter("limit", "integer", "At most this many objects at a time."),
            Parameter("resourceVersion", "string", "The revision to start from."),
            Parameter("resourceVersionMatch", "string", "How resourceVersion is meant: `Exact` or `NotOlderThan`."),
            Parameter("sendInitialEvents", "boolean", "Begin a watch with the objects that exist."),
            Parameter("timeoutSeconds", "integer", "End after this time."),
        ]
    };
    match action {
        "list" => {
            let mut all = listing();
            all.push(Parameter("watch", "boolean", "Stream changes instead of listing."));
            all
        }
        "post" | "put" => vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION],
        "patch" => vec![DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE],
        "delete" | "deletecollection" => {
            let mut all = if action == "delete" { Vec::new() } else { listing() };
            all.extend([
                DRY_RUN,
                Parameter("gracePeriodSeconds", "integer", "Seconds until the object goes; 0 is at once."),
                Parameter(
                    "propagationPolicy",
                    "string",
                    "What becomes of dependents: `Orphan`, `Background` or `Foreground`.",
                ),
            ]);
            all
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kubernetes_own() {
        let all = builtin::resources();
        let find = |plural: &str| all.iter().find(|r| r.plural == plural).unwrap();
        let ids: Vec<String> = paths(find("configmaps")).into_iter().flat_map(|p| p.operations).map(|o| o.id).collect();
        for id in [
            "listCoreV1ConfigMapForAllNamespaces",
            "listCoreV1NamespacedConfigMap",
            "createCoreV1NamespacedConfigMap",
            "deleteCoreV1CollectionNamespacedConfigMap",
            "readCoreV1NamespacedConfigMap",
            "patchCoreV1NamespacedConfigMap",
        ] {
            assert!(ids.iter().any(|known| known == id), "{id} is not among {ids:?}");
        }
        let roles: Vec<Path> = paths(find("clusterroles"));
        assert_eq!(roles[0].operations[0].id, "listRbacAuthorizationV1ClusterRole");
        assert_eq!(roles[0].operations[0].tag, "rbacAuthorization_v1");
        let reviews = paths(find("selfsubjectaccessreviews"));
        assert_eq!(reviews.len(), 1);
        assert_eq!(model_name("acmedb.com", "v1", "MongoDB"), "com.acmedb.v1.MongoDB");
    }
}
