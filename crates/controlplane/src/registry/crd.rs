//! CustomResourceDefinitions: from the object to served descriptors.
//!
//! Flows in: a `customresourcedefinitions` object. Flows out: what is wrong with it ([`validate`]), its status
//! ([`establish`]), and its [`Resource`]s ([`Interner::resources`]), shared by all logical clusters that have the same
//! definition. Called by the pipeline before a write and by [`crate::clusters`] after it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use apimachinery::field_path::FieldError;
use apimachinery::names;
use apimachinery::schema::Structural;
use apimachinery::table::Column;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::catalog::Catalog;
use super::resource::{Resource, ScalePaths};

/// Group of the definitions themselves.
pub const GROUP: &str = "apiextensions.k8s.io";
/// Their plural name.
pub const PLURAL: &str = "customresourcedefinitions";
/// The finalizer that stands for "objects of this kind still have to be deleted".
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn strings(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn versions(crd: &Value) -> &[Value] {
    crd.pointer("/spec/versions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// Fills in what may be left out: singular and list kind, the conversion strategy.
pub fn default(crd: &mut Value) {
    let kind = text(crd, "/spec/names/kind").to_owned();
    let Some(spec) = crd.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut)
        && !kind.is_empty()
    {
        for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
            if names.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
                names.insert(field.to_owned(), value.into());
            }
        }
    }
    let conversion = spec.entry("conversion").or_insert(Value::Null);
    if conversion.is_null() {
        *conversion = json!({"strategy": "None"});
    }
}

/// What is wrong with a definition; empty if it can be served. `old` is the stored one, if any.
pub fn validate(crd: &Value, old: Option<&Value>, interner: &Interner) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = text(crd, "/spec/group");
    let plural = text(crd, "/spec/names/plural");
    let name = text(crd, "/metadata/name");
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
    } else {
        errors.extend(names::dns1123_subdomain(group).into_iter().map(|e| FieldError::invalid("spec.group", group, e)));
    }
    if plural.is_empty() {
        errors.push(FieldError::required("spec.names.plural", ""));
    }
    let expected = format!("{plural}.{group}");
    if name != expected {
        errors.push(FieldError::invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group"));
    }
    if text(crd, "/spec/names/kind").is_empty() {
        errors.push(FieldError::required("spec.names.kind", ""));
    }
    for field in ["plural", "singular"] {
        let value = text(crd, &format!("/spec/names/{field}"));
        if !value.is_empty() {
            let path = format!("spec.names.{field}");
            errors
                .extend(names::dns1035_label(value).into_iter().map(|e| FieldError::invalid(path.as_str(), value, e)));
        }
    }
    for field in ["kind", "listKind"] {
        let value = text(crd, &format!("/spec/names/{field}"));
        if !value.is_empty() {
            let path = format!("spec.names.{field}");
            let lower = value.to_lowercase();
            let found = names::dns1035_label(&lower);
            errors.extend(found.into_iter().map(|e| {
                FieldError::invalid(
                    path.as_str(),
                    value,
                    format!("may have mixed case, but should otherwise match: {e}"),
                )
            }));
        }
    }
    let scope = text(crd, "/spec/scope");
    match scope {
        "" => errors.push(FieldError::required("spec.scope", "")),
        "Namespaced" | "Cluster" => {}
        other => errors.push(FieldError::not_supported("spec.scope", other, &["Cluster", "Namespaced"])),
    }
    validate_conversion(crd, &mut errors);
    validate_versions(crd, interner, &mut errors);
    if let Some(old) = old {
        let established = has_condition(old, "Established");
        for (field, pointer) in [
            ("spec.group", "/spec/group"),
            ("spec.names.plural", "/spec/names/plural"),
            ("spec.names.kind", "/spec/names/kind"),
            ("spec.scope", "/spec/scope"),
        ] {
            let (was, is) = (text(old, pointer), text(crd, pointer));
            let fixed = field == "spec.group" || field == "spec.names.plural" || established;
            if was != is && fixed {
                errors.push(FieldError::invalid(field, is, "field is immutable"));
            }
        }
        for (at, stored) in strings(old, "/status/storedVersions").iter().enumerate() {
            if !versions(crd).iter().any(|v| text(v, "/name") == stored) {
                let detail = "missing from spec.versions; cannot be removed while objects may be stored in it";
                errors.push(FieldError::invalid(format!("status.storedVersions[{at}]"), stored.as_str(), detail));
            }
        }
    }
    errors
}

fn validate_conversion(crd: &Value, errors: &mut Vec<FieldError>) {
    match text(crd, "/spec/conversion/strategy") {
        "" | "None" => {}
        "Webhook" => errors.push(FieldError::forbidden(
            "spec.conversion.strategy",
            "this control plane does not call conversion webhooks; use None, or serve a single version",
        )),
        other => errors.push(FieldError::not_supported("spec.conversion.strategy", other, &["None", "Webhook"])),
    }
    if crd.pointer("/spec/preserveUnknownFields") == Some(&Value::Bool(true)) {
        let detail = "must be false in order to use defaults in the schema; set \
                      x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", true, detail));
    }
}

fn validate_versions(crd: &Value, interner: &Interner, errors: &mut Vec<FieldError>) {
    let versions = versions(crd);
    if versions.is_empty() {
        errors.push(FieldError::required("spec.versions", "must have at least one version"));
        return;
    }
    let storage = versions.iter().filter(|v| flag(v, "storage")).count();
    if storage != 1 {
        errors.push(FieldError::invalid(
            "spec.versions",
            crd["spec"]["versions"].clone(),
            "must have exactly one version marked as storage version",
        ));
    }
    // With a single schema kube-apiserver names the field as if it were the old top-level one.
    let same = versions.iter().all(|v| v.get("schema") == versions[0].get("schema"));
    let mut seen: Vec<&str> = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        let name = text(version, "/name");
        let path = format!("spec.versions[{at}]");
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        seen.push(name);
        errors.extend(
            names::dns1035_label(name).into_iter().map(|e| FieldError::invalid(format!("{path}.name"), name, e)),
        );
        for required in ["served", "storage"] {
            if version.get(required).and_then(Value::as_bool).is_none() {
                errors.push(FieldError::required(format!("{path}.{required}"), ""));
            }
        }
        let Some(schema) = version.pointer("/schema/openAPIV3Schema").filter(|s| s.is_object()) else {
            let field = format!("{path}.schema.openAPIV3Schema");
            errors.push(FieldError::required(field, ""));
            continue;
        };
        if same && at > 0 {
            continue;
        }
        if let Err(found) = interner.schema(schema) {
            let prefix = match same {
                true => "spec.validation.openAPIV3Schema".to_owned(),
                false => format!("{path}.schema.openAPIV3Schema"),
            };
            errors.extend(found.into_iter().map(|mut error| {
                error.field = if error.field.is_empty() { prefix.clone() } else { format!("{prefix}.{}", error.field) };
                error
            }));
        }
        if let Some(scale) = version.pointer("/subresources/scale").filter(|s| !s.is_null()) {
            for (field, root) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
                let value = text(scale, &format!("/{field}"));
                let field = format!("{path}.subresources.scale.{field}");
                if value.is_empty() {
                    errors.push(FieldError::required(field, ""));
                } else if !value.starts_with(root) {
                    let detail = format!("should be a json path under {}", root.trim_end_matches('.'));
                    errors.push(FieldError::invalid(field, value, detail));
                }
            }
        }
    }
}

/// Whether a condition of the definition is `True`.
pub fn has_condition(crd: &Value, kind: &str) -> bool {
    conditions(crd).iter().any(|c| text(c, "/type") == kind && text(c, "/status") == "True")
}

fn conditions(crd: &Value) -> &[Value] {
    crd.pointer("/status/conditions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Sets a condition, keeping the transition time where the status stays.
pub fn set_condition(crd: &mut Value, kind: &str, status: bool, reason: &str, message: &str, now: &str) {
    let wanted = if status { "True" } else { "False" };
    let mut all = conditions(crd).to_vec();
    let condition = json!({"type": kind, "status": wanted, "reason": reason, "message": message,
        "lastTransitionTime": now});
    match all.iter_mut().find(|c| text(c, "/type") == kind) {
        Some(old) if text(old, "/status") == wanted => {
            old["reason"] = reason.into();
            old["message"] = message.into();
        }
        Some(old) => *old = condition,
        None => all.push(condition),
    }
    if !crd["status"].is_object() {
        crd["status"] = json!({});
    }
    crd["status"]["conditions"] = Value::Array(all);
}

/// Computes the status that Kubernetes' naming and establishing controllers would write. `catalog` is what the logical
/// cluster serves now.
pub fn establish(crd: &mut Value, catalog: &Catalog, now: &str) {
    let group = text(crd, "/spec/group").to_owned();
    let plural = text(crd, "/spec/names/plural").to_owned();
    let mut taken: Vec<String> = Vec::new();
    let mut kinds: Vec<String> = Vec::new();
    for other in catalog.custom().filter(|r| r.group == group && r.plural != plural) {
        taken.extend([other.plural.clone(), other.singular.clone()]);
        taken.extend(other.short_names.iter().cloned());
        kinds.extend([other.kind.clone(), other.list_kind.clone()]);
    }
    let mut conflict = None;
    let mut wanted = vec![("Plural", plural.clone()), ("Singular", text(crd, "/spec/names/singular").to_owned())];
    wanted.extend(strings(crd, "/spec/names/shortNames").into_iter().map(|n| ("ShortNames", n)));
    for (what, name) in wanted {
        if taken.contains(&name) {
            conflict.get_or_insert((format!("{what}Conflict"), format!("\"{name}\" is already in use")));
        }
    }
    for (what, pointer) in [("Kind", "/spec/names/kind"), ("ListKind", "/spec/names/listKind")] {
        let name = text(crd, pointer);
        if kinds.iter().any(|k| k == name) {
            conflict.get_or_insert((format!("{what}Conflict"), format!("\"{name}\" is already in use")));
        }
    }
    let was_established = has_condition(crd, "Established");
    match &conflict {
        None => {
            set_condition(crd, "NamesAccepted", true, "NoConflicts", "no conflicts found", now);
            let message = "the initial names have been accepted";
            set_condition(crd, "Established", true, "InitialNamesAccepted", message, now);
            crd["status"]["acceptedNames"] = crd["spec"]["names"].clone();
        }
        Some((reason, message)) => {
            set_condition(crd, "NamesAccepted", false, reason, message, now);
            if !was_established {
                let message = "not all names are accepted";
                set_condition(crd, "Established", false, "NotAccepted", message, now);
            }
            if crd["status"]["acceptedNames"].is_null() {
                crd["status"]["acceptedNames"] = json!({"plural": "", "kind": ""});
            }
        }
    }
    let mut stored = strings(crd, "/status/storedVersions");
    if let Some(storage) = versions(crd).iter().find(|v| flag(v, "storage")) {
        let storage = text(storage, "/name").to_owned();
        if !stored.contains(&storage) {
            stored.push(storage);
        }
    }
    crd["status"]["storedVersions"] = json!(stored);
}

/// Compiled schemas and descriptors, shared by digest for as long as anybody uses them.
#[derive(Default)]
pub struct Interner {
    schemas: Mutex<HashMap<[u8; 32], Weak<Structural>>>,
    resources: Mutex<HashMap<[u8; 32], Weak<Resource>>>,
}

impl Interner {
    /// The compiled form of an `openAPIV3Schema`.
    pub fn schema(&self, schema: &Value) -> Result<Arc<Structural>, Vec<FieldError>> {
        let digest = apimachinery::schema::digest(schema);
        if let Some(known) = self.schemas.lock().get(&digest).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let compiled = Arc::new(Structural::compile(schema)?);
        let mut schemas = self.schemas.lock();
        schemas.retain(|_, schema| schema.strong_count() > 0);
        schemas.insert(digest, Arc::downgrade(&compiled));
        Ok(compiled)
    }

    /// The descriptors of all served versions of an established definition; empty where it is not established.
    pub fn resources(&self, crd: &Value) -> Vec<Arc<Resource>> {
        if !has_condition(crd, "Established") {
            return Vec::new();
        }
        versions(crd).iter().filter(|v| flag(v, "served")).filter_map(|v| self.resource(crd, v)).collect()
    }

    fn resource(&self, crd: &Value, version: &Value) -> Option<Arc<Resource>> {
        let names = &crd["spec"]["names"];
        let storage = versions(crd).iter().find(|v| flag(v, "storage"))?;
        let identity = json!([crd["spec"]["group"], crd["spec"]["scope"], names, version, storage["name"]]);
        let digest: [u8; 32] = Sha256::digest(identity.to_string().as_bytes()).into();
        if let Some(known) = self.resources.lock().get(&digest).and_then(Weak::upgrade) {
            return Some(known);
        }
        let openapi = version.pointer("/schema/openAPIV3Schema")?;
        let schema = match self.schema(openapi) {
            Ok(schema) => schema,
            Err(errors) => {
                // Validated before it was stored, so this is a definition from an older release of ours.
                tracing::warn!(crd = text(crd, "/metadata/name"), ?errors, "a stored schema is not served");
                return None;
            }
        };
        let scale = version.pointer("/subresources/scale").filter(|s| s.is_object()).map(|scale| ScalePaths {
            spec_replicas: text(scale, "/specReplicasPath").to_owned(),
            status_replicas: text(scale, "/statusReplicasPath").to_owned(),
            label_selector: scale.get("labelSelectorPath").and_then(Value::as_str).map(str::to_owned),
        });
        let columns = version.get("additionalPrinterColumns").and_then(Value::as_array);
        let deprecation = flag(version, "deprecated").then(|| {
            let given = version.get("deprecationWarning").and_then(Value::as_str).map(str::to_owned);
            given.unwrap_or_else(|| {
                format!(
                    "{}/{} {} is deprecated",
                    text(crd, "/spec/group"),
                    text(version, "/name"),
                    text(names, "/kind")
                )
            })
        });
        let selectable = version.get("selectableFields").and_then(Value::as_array);
        let resource = Arc::new(Resource {
            group: text(crd, "/spec/group").to_owned(),
            version: text(version, "/name").to_owned(),
            plural: text(names, "/plural").to_owned(),
            singular: text(names, "/singular").to_owned(),
            kind: text(names, "/kind").to_owned(),
            list_kind: text(names, "/listKind").to_owned(),
            short_names: strings(names, "/shortNames"),
            categories: strings(names, "/categories"),
            namespaced: text(crd, "/spec/scope") == "Namespaced",
            verbs: Resource::ALL_VERBS.to_vec(),
            status: version.pointer("/subresources/status").is_some_and(Value::is_object),
            scale,
            subresources: Vec::new(),
            schema: schema.into(),
            openapi: Arc::new(openapi.clone()),
            columns: Arc::new(printer_columns(columns)),
            custom: true,
            storage_version: text(storage, "/name").to_owned(),
            selectable_fields: selectable
                .into_iter()
                .flatten()
                .map(|f| text(f, "/jsonPath").trim_start_matches('.').to_owned())
                .collect(),
            stored_as: None,
            identity: digest[..16].iter().map(|b| format!("{b:02x}")).collect(),
            generation: true,
            deprecation,
            group_priority: 1000,
        });
        let mut resources = self.resources.lock();
        resources.retain(|_, resource| resource.strong_count() > 0);
        resources.insert(digest, Arc::downgrade(&resource));
        Some(resource)
    }
}

fn printer_columns(columns: Option<&Vec<Value>>) -> Vec<Column> {
    columns.into_iter().flatten().filter_map(|c| Column::from_crd(c).ok()).collect()
}
