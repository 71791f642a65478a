//! `BoundSchema`: the CRD that a consumer receives, in its contract namespace. The backend writes the spec, the agent
//! reports the consumer's CRD in the status.

use k8s_openapi::ByteString;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinitionNames, CustomResourceSubresources, SelectableField,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conditions::Condition;
use crate::kinds::export::InformerScope;
use crate::refs::{GroupResource, Scope};

/// A CRD's spec without what must not cross (service references of webhooks).
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kube-bind.io",
    version = "v1alpha2",
    kind = "BoundSchema",
    plural = "boundschemas",
    singular = "boundschema",
    shortname = "bs",
    category = "kube-bindings",
    namespaced,
    status = "BoundSchemaStatus",
    derive = "PartialEq",
    doc = "The schema of a bound kind as a consumer receives it. Named like the CRD.",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct BoundSchemaSpec {
    /// Where the agent may watch the kind at the provider.
    pub informer_scope: InformerScope,
    /// API group.
    pub group: String,
    /// Names of the kind.
    pub names: CustomResourceDefinitionNames,
    /// Scope at the consumer; with isolation `Namespaced` it differs from the provider's.
    pub scope: Scope,
    /// Versions, by name.
    #[schemars(length(min = 1), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub versions: Vec<BoundSchemaVersion>,
    /// How versions convert into each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "(self.strategy == 'None' && !has(self.webhook))  || (self.strategy == 'Webhook' && has(self.webhook))", "message": "Webhook must be specified if strategy=Webhook"}]))]
    pub conversion: Option<Conversion>,
}

impl BoundSchemaSpec {
    /// Group and plural.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.names.plural.clone())
    }
}

/// One version of a bound kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundSchemaVersion {
    /// `v1`, `v1beta1` and the like.
    #[schemars(length(min = 1), extend("pattern" = "^v[1-9][0-9]*([a-z]+[1-9][0-9]*)?$"))]
    pub name: String,
    /// Whether it is served.
    #[serde(default = "yes")]
    #[schemars(extend("default" = true))]
    pub served: bool,
    /// Whether it is the one stored.
    pub storage: bool,
    /// Whether its use is warned of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<bool>,
    /// The warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecation_warning: Option<String>,
    /// The OpenAPI v3 schema: `{"openAPIV3Schema": {…}}`, or the schema itself (both are found on the wire).
    #[schemars(with = "serde_json::Map<String, Value>", extend("x-kubernetes-map-type" = "atomic", "x-kubernetes-preserve-unknown-fields" = true))]
    pub schema: Value,
    /// Status and scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subresources: Option<CustomResourceSubresources>,
    /// Columns of `kubectl get`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub additional_printer_columns: Vec<CustomResourceColumnDefinition>,
    /// Addition. Fields by which objects can be selected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectable_fields: Vec<SelectableField>,
}

/// How versions convert into each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conversion {
    /// `None` only changes the version; `Webhook` asks a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<ConversionStrategy>,
    /// With strategy `Webhook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookConversion>,
}

/// How versions convert into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConversionStrategy {
    /// Only the version changes.
    None,
    /// A server is asked.
    Webhook,
}

/// Conversion by a server. Read for compatibility; never projected to a consumer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookConversion {
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_config: Option<WebhookClientConfig>,
    /// Versions of the review it understands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversion_review_versions: Vec<String>,
}

/// Where a conversion server is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookClientConfig {
    /// `https://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uri"))]
    pub url: Option<String>,
    /// PEM bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "byte"))]
    pub ca_bundle: Option<ByteString>,
}

/// The consumer's CRD, as the agent reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundSchemaStatus {
    /// Names in use at the consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_names: Option<CustomResourceDefinitionNames>,
    /// Versions ever stored at the consumer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stored_versions: Vec<String>,
    /// Unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", extend("format" = null))]
    pub instantiations: Option<i64>,
    /// Observations; those of the consumer's CRD among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

fn yes() -> bool {
    true
}
