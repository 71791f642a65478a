//! The wire contract: every kind of `kube-bind.io/v1alpha2`, the HTTP and CLI JSON shapes, both condition dialects and
//! the fixed names.
//!
//! ```text
//!        provider cluster                                     consumer cluster
//!  Template ─ Collection          HTTP: BindingProvider          APIServiceBinding(Bundle)
//!  Request ─► Export ─ BoundSchema ─────────────────────────────► CRD
//!  ClusterBinding ─ Namespace ─ Cluster
//! ```
//!
//! What flows in: nothing. What flows out: plain data types (serde), and the CRDs ([`crds()`]) that are generated from
//! them into `deploy/crds`. The crate does no IO and knows neither HTTP nor tokio; time is always an argument.
//!
//! The types accept everything that the Go release 0.8 writes. Fields marked _addition_ are ours: optional, ignored or
//! pruned by a Go peer, so nothing may break when they are absent.

pub mod claim;
pub mod conditions;
pub mod config;
pub mod constants;
pub mod crds;
pub mod duration;
mod kinds;
pub mod refs;
pub mod wire;

pub use claim::{
    ClaimOwner, ClaimState, NamedResource, PermissionClaim, Reference, ReferencePath, Selector, StatedClaim,
};
pub use conditions::{Condition, Severity};
pub use crds::{consumer_crds, crds, provider_crds};
pub use kinds::binding::{
    APIServiceBinding, APIServiceBindingSpec, APIServiceBindingStatus, BindingPhase, BindingReference, BoundResource,
    DeletionPolicy, ExportReference,
};
pub use kinds::bound_schema::{
    BoundSchema, BoundSchemaSpec, BoundSchemaStatus, BoundSchemaVersion, Conversion, ConversionStrategy,
    WebhookClientConfig, WebhookConversion,
};
pub use kinds::bundle::{APIServiceBindingBundle, APIServiceBindingBundleSpec, APIServiceBindingBundleStatus};
pub use kinds::cluster::{Cluster, ClusterSpec, ClusterStatus};
pub use kinds::cluster_binding::{ClusterBinding, ClusterBindingSpec, ClusterBindingStatus};
pub use kinds::collection::{Collection, CollectionSpec, CollectionStatus, TemplateRef};
pub use kinds::export::{APIServiceExport, APIServiceExportSpec, APIServiceExportStatus, InformerScope, Isolation};
pub use kinds::namespace::{APIServiceNamespace, APIServiceNamespaceSpec, APIServiceNamespaceStatus, ClaimedObject};
pub use kinds::request::{
    APIServiceExportRequest, APIServiceExportRequestSpec, APIServiceExportRequestStatus, RequestPhase,
    SchemaUpdatePolicy,
};
pub use kinds::resources_request::{
    BindableResourcesRequest, BindableResourcesRequestSpec, BindableResourcesRequestStatus,
};
pub use kinds::template::{APIServiceExportTemplate, APIServiceExportTemplateSpec, APIServiceExportTemplateStatus};
pub use refs::{
    ClusterIdentity, ClusterSecretKeyRef, ExportedResource, GroupResource, LocalSecretKeyRef, LocalSecretRef,
    NamespaceName, Scope,
};

/// The API group of every kind here.
pub const GROUP: &str = "kube-bind.io";
/// The version that is stored and that this crate's types describe.
pub const VERSION: &str = "v1alpha2";
/// `kube-bind.io/v1alpha2`.
pub const API_VERSION: &str = "kube-bind.io/v1alpha2";
