//! CRD → BoundSchema → CRD: how a provider's API becomes one of the consumer's.
//!
//! ```text
//!   provider's CRD ──project──► BoundSchema (contract namespace) ──consumer_crd──► consumer's CRD
//!                     │ refuses what would break a consumer             │ checks again: never trust the other side
//! ```
//!
//! The backend projects, the agent installs, the CLI shows. A published form has an immutable name, the schema revision
//! (`v1alpha1-581bb735.acmedbs.acmedb.com`).

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
    CustomResourceValidation, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_bind_api::constants::{
    ANNOTATION_BINDING_UID, ANNOTATION_SCHEMA_REVISION, ANNOTATION_SOURCE_SPEC_HASH, LABEL_BINDING,
};
use kube_bind_api::{
    BoundSchema, BoundSchemaSpec, BoundSchemaVersion, Conversion, ConversionStrategy, InformerScope, Isolation, Scope,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Largest schema that is published or installed, in bytes of JSON: with metadata and managed fields it still fits into
/// etcd's 1.5 MiB.
pub const MAX_BYTES: usize = 1024 * 1024;

/// An API cannot be offered or installed. Says which, why and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A conversion webhook lives in the provider's cluster.
    #[error(
        "{crd} converts between versions with a webhook, which a consumer's cluster cannot reach: offer it with \
         spec.conversion.strategy None"
    )]
    WebhookConversion {
        /// CRD.
        crd: String,
    },
    /// The name is one of Kubernetes' own.
    #[error("{crd} collides with Kubernetes' own API ({what}): it cannot be bound")]
    BuiltIn {
        /// CRD.
        crd: String,
        /// What collides.
        what: String,
    },
    /// Too large.
    #[error(
        "the schema of {crd} has {bytes} bytes, {MAX_BYTES} are allowed: offer fewer versions or shorter descriptions"
    )]
    TooLarge {
        /// CRD.
        crd: String,
        /// Its size.
        bytes: usize,
    },
    /// Objects would be stored without a schema.
    #[error(
        "{crd} sets spec.preserveUnknownFields or has no schema for version {version:?}: give every version a schema"
    )]
    NoSchema {
        /// CRD.
        crd: String,
        /// Version.
        version: String,
    },
    /// Not a usable definition.
    #[error("{crd}: {message}")]
    Invalid {
        /// CRD.
        crd: String,
        /// What is wrong.
        message: String,
    },
}

/// Projects a provider's CRD. `informer_scope` is what the backend lets agents watch; isolation `Namespaced` makes a
/// namespaced kind cluster-scoped for the consumer.
pub fn project(
    crd: &CustomResourceDefinition,
    informer_scope: InformerScope,
    isolation: Isolation,
) -> Result<BoundSchemaSpec, SchemaError> {
    let spec = &crd.spec;
    let name = format!("{}.{}", spec.names.plural, spec.group);
    if spec.conversion.as_ref().is_some_and(|conversion| conversion.strategy != "None") {
        return Err(SchemaError::WebhookConversion { crd: name });
    }
    if spec.preserve_unknown_fields == Some(true) {
        return Err(SchemaError::NoSchema { crd: name, version: String::new() });
    }
    let scope = match (spec.scope.as_str(), isolation) {
        ("Namespaced", Isolation::Namespaced) | ("Cluster", _) => Scope::Cluster,
        ("Namespaced", _) => Scope::Namespaced,
        (other, _) => {
            return Err(SchemaError::Invalid { crd: name, message: format!("spec.scope {other:?} is not known") });
        }
    };
    let versions = spec.versions.iter().map(|version| project_version(&name, version)).collect::<Result<_, _>>()?;
    let projected = BoundSchemaSpec {
        informer_scope,
        group: spec.group.clone(),
        names: spec.names.clone(),
        scope,
        versions,
        conversion: Some(Conversion { strategy: Some(ConversionStrategy::None), webhook: None }),
    };
    check(&projected)?;
    Ok(projected)
}

fn project_version(crd: &str, version: &CustomResourceDefinitionVersion) -> Result<BoundSchemaVersion, SchemaError> {
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let Some(schema) = schema else {
        return Err(SchemaError::NoSchema { crd: crd.to_owned(), version: version.name.clone() });
    };
    let schema = serde_json::to_value(schema)
        .map_err(|error| SchemaError::Invalid { crd: crd.to_owned(), message: error.to_string() })?;
    Ok(BoundSchemaVersion {
        name: version.name.clone(),
        served: version.served,
        storage: version.storage,
        deprecated: version.deprecated,
        deprecation_warning: version.deprecation_warning.clone(),
        schema: json!({ "openAPIV3Schema": schema }),
        subresources: version.subresources.clone(),
        additional_printer_columns: version.additional_printer_columns.clone().unwrap_or_default(),
        selectable_fields: version.selectable_fields.clone().unwrap_or_default(),
    })
}

/// The OpenAPI v3 schema of a version in either encoding: wrapped in `openAPIV3Schema`, or bare.
pub fn open_api_schema(version: &BoundSchemaVersion) -> Option<&Value> {
    match version.schema.get("openAPIV3Schema") {
        Some(schema) if schema.is_object() => Some(schema),
        // A bare schema is one that says something about an object.
        None if version.schema.as_object().is_some_and(|schema| !schema.is_empty()) => Some(&version.schema),
        _ => None,
    }
}

/// Lowercase hex SHA-256 of a projected spec. Compared only by the backend that wrote it.
pub fn source_spec_hash(spec: &BoundSchemaSpec) -> String {
    // Maps are sorted, so the text is canonical.
    let text = serde_json::to_string(spec).unwrap_or_default();
    hex(&Sha256::digest(text.as_bytes()))
}

/// One hash for an export: that of its schemas' hashes in the order of its resources.
pub fn export_hash<'a>(schemas: impl IntoIterator<Item = &'a BoundSchemaSpec>) -> String {
    let mut digest = Sha256::new();
    for spec in schemas {
        digest.update(source_spec_hash(spec).as_bytes());
    }
    hex(&digest.finalize())
}

/// Immutable name of a published form: `<stored version>-<eight hex digits of its hash>.<plural>.<group>`.
pub fn revision(spec: &BoundSchemaSpec) -> String {
    let version = spec.versions.iter().find(|version| version.storage).or_else(|| spec.versions.first());
    let version = version.map_or("v0", |version| version.name.as_str());
    let hash = source_spec_hash(spec);
    format!("{version}-{}.{}.{}", &hash[..8], spec.names.plural, spec.group)
}

/// The BoundSchema of a contract: named like the CRD, with hash and revision as annotations.
pub fn bound_schema(contract_namespace: &str, spec: BoundSchemaSpec) -> BoundSchema {
    let annotations = BTreeMap::from([
        (ANNOTATION_SOURCE_SPEC_HASH.to_owned(), source_spec_hash(&spec)),
        (ANNOTATION_SCHEMA_REVISION.to_owned(), revision(&spec)),
    ]);
    BoundSchema {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", spec.names.plural, spec.group)),
            namespace: Some(contract_namespace.to_owned()),
            annotations: Some(annotations),
            ..Default::default()
        },
        spec,
        status: None,
    }
}

/// The CRD for the consumer: it carries the binding as label and annotation and no owner reference, so that nothing but
/// us ever collects it.
///
/// # Errors
/// The provider's word is checked like anybody's: see [`SchemaError`].
pub fn consumer_crd(
    schema: &BoundSchemaSpec,
    binding: &str,
    binding_uid: Option<&str>,
) -> Result<CustomResourceDefinition, SchemaError> {
    check(schema)?;
    let name = format!("{}.{}", schema.names.plural, schema.group);
    let versions = schema.versions.iter().map(|version| install_version(&name, version)).collect::<Result<_, _>>()?;
    let mut annotations = BTreeMap::from([(ANNOTATION_SCHEMA_REVISION.to_owned(), revision(schema))]);
    if let Some(uid) = binding_uid {
        annotations.insert(ANNOTATION_BINDING_UID.to_owned(), uid.to_owned());
    }
    Ok(CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(BTreeMap::from([(LABEL_BINDING.to_owned(), binding.to_owned())])),
            annotations: Some(annotations),
            ..Default::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: schema.group.clone(),
            names: schema.names.clone(),
            scope: schema.scope.as_str().into(),
            versions,
            conversion: Some(CustomResourceConversion { strategy: "None".into(), ..Default::default() }),
            ..Default::default()
        },
        status: None,
    })
}

fn install_version(crd: &str, version: &BoundSchemaVersion) -> Result<CustomResourceDefinitionVersion, SchemaError> {
    let schema = open_api_schema(version)
        .ok_or_else(|| SchemaError::NoSchema { crd: crd.to_owned(), version: version.name.clone() })?;
    let schema: JSONSchemaProps = serde_json::from_value(schema.clone()).map_err(|error| SchemaError::Invalid {
        crd: crd.to_owned(),
        message: format!("schema of version {}: {error}", version.name),
    })?;
    Ok(CustomResourceDefinitionVersion {
        name: version.name.clone(),
        served: version.served,
        storage: version.storage,
        deprecated: version.deprecated,
        deprecation_warning: version.deprecation_warning.clone(),
        schema: Some(CustomResourceValidation { open_api_v3_schema: Some(schema) }),
        subresources: version.subresources.clone(),
        additional_printer_columns: none_if_empty(&version.additional_printer_columns),
        selectable_fields: none_if_empty(&version.selectable_fields),
    })
}

fn none_if_empty<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// Who an existing CRD at the consumer belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrdOwner {
    /// This binding's.
    Ours,
    /// The Go agent made it for this binding: take it over and strip its owner reference.
    OursByReference,
    /// Another binding's.
    OtherBinding(String),
    /// Nobody's of us: never touch it.
    Foreign,
}

/// Tells who an existing CRD belongs to. A label with another binding's UID annotation (a binding that was deleted and
/// made again) is still ours: the name is the contract's.
pub fn crd_owner(existing: &CustomResourceDefinition, binding: &str, binding_uid: Option<&str>) -> CrdOwner {
    let label = existing.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_BINDING));
    match label {
        Some(name) if name == binding => return CrdOwner::Ours,
        Some(name) => return CrdOwner::OtherBinding(name.clone()),
        None => {}
    }
    let owner = existing
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == "APIServiceBinding" && owner.api_version.starts_with("kube-bind.io/"));
    match owner {
        Some(owner) if owner.name == binding && binding_uid.is_none_or(|uid| uid == owner.uid) => {
            CrdOwner::OursByReference
        }
        Some(owner) => CrdOwner::OtherBinding(owner.name.clone()),
        None => CrdOwner::Foreign,
    }
}

/// The version in which the agent reads and writes: the stored one if it is served, else the first served one.
pub fn sync_version(schema: &BoundSchemaSpec) -> Option<&BoundSchemaVersion> {
    let served = || schema.versions.iter().filter(|version| version.served);
    served().find(|version| version.storage).or_else(|| served().next())
}

/// Whether the version has a status subresource.
pub fn has_status(version: &BoundSchemaVersion) -> bool {
    version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some())
}

/// Checks what must hold for every schema that crosses.
pub fn check(schema: &BoundSchemaSpec) -> Result<(), SchemaError> {
    let crd = format!("{}.{}", schema.names.plural, schema.group);
    let invalid = |message: String| SchemaError::Invalid { crd: crd.clone(), message };
    let webhook = schema.conversion.as_ref().is_some_and(|conversion| {
        conversion.webhook.is_some() || conversion.strategy == Some(ConversionStrategy::Webhook)
    });
    if webhook {
        return Err(SchemaError::WebhookConversion { crd });
    }
    if let Some(what) = built_in(schema) {
        return Err(SchemaError::BuiltIn { crd, what });
    }
    let stored = schema.versions.iter().filter(|version| version.storage).count();
    if stored != 1 {
        return Err(invalid(format!("exactly one version must be the stored one, found {stored}")));
    }
    if !schema.versions.iter().any(|version| version.served) {
        return Err(invalid("no version is served".into()));
    }
    for version in &schema.versions {
        let Some(open_api) = open_api_schema(version) else {
            return Err(SchemaError::NoSchema { crd, version: version.name.clone() });
        };
        let bare = open_api.get("properties").is_none()
            && open_api.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        if bare {
            return Err(SchemaError::NoSchema { crd, version: version.name.clone() });
        }
    }
    let bytes = serde_json::to_string(schema).map_err(|error| invalid(error.to_string()))?.len();
    if bytes > MAX_BYTES {
        return Err(SchemaError::TooLarge { crd, bytes });
    }
    Ok(())
}

/// What of a schema's names is Kubernetes' own or ours.
fn built_in(schema: &BoundSchemaSpec) -> Option<String> {
    let group = schema.group.as_str();
    let reserved = !group.contains('.')
        || group == "kube-bind.io"
        || ["k8s.io", "kubernetes.io"].iter().any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    if reserved {
        return Some(if group.is_empty() { "the core group".into() } else { format!("group {group}") });
    }
    let names = &schema.names;
    let given = std::iter::once(names.plural.as_str())
        .chain(names.singular.as_deref())
        .chain(names.short_names.iter().flatten().map(String::as_str))
        .chain(std::iter::once(names.kind.as_str()));
    given
        .map(str::to_ascii_lowercase)
        .find(|name| BUILT_IN_NAMES.contains(&name.as_str()))
        .map(|name| format!("{name:?} is a name of a built-in resource"))
}

/// Names under which people ask kubectl for objects of the core group: a bound kind must not answer to them.
const BUILT_IN_NAMES: [&str; 56] = [
    "bindings",
    "binding",
    "componentstatuses",
    "componentstatus",
    "cs",
    "configmaps",
    "configmap",
    "cm",
    "endpoints",
    "ep",
    "events",
    "event",
    "ev",
    "limitranges",
    "limitrange",
    "limits",
    "namespaces",
    "namespace",
    "ns",
    "nodes",
    "node",
    "no",
    "persistentvolumeclaims",
    "persistentvolumeclaim",
    "pvc",
    "persistentvolumes",
    "persistentvolume",
    "pv",
    "pods",
    "pod",
    "po",
    "podtemplates",
    "podtemplate",
    "replicationcontrollers",
    "replicationcontroller",
    "rc",
    "resourcequotas",
    "resourcequota",
    "quota",
    "secrets",
    "secret",
    "serviceaccounts",
    "serviceaccount",
    "sa",
    "services",
    "service",
    "svc",
    "deployments",
    "deployment",
    "daemonsets",
    "daemonset",
    "statefulsets",
    "statefulset",
    "customresourcedefinitions",
    "customresourcedefinition",
    "crd",
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
