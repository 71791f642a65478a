//! Labels, annotations, finalizer and fixed names of the wire contract (reference §1.5), and the few that we add.
//!
//! Whoever reads or writes one of these objects takes the string from here.

/// Finalizer on consumer objects while a provider copy may exist (no hyphen; that is how it is on the wire).
pub const FINALIZER: &str = "kubebind.io/syncer";
/// Field manager of every server-side apply.
pub const FIELD_MANAGER: &str = "kube-bind.io";

/// Label `"true"` on a provider's CRD that is offered for binding.
pub const LABEL_EXPORTED: &str = "kube-bind.io/exported";
/// Label `"true"` on consumer Secrets in namespace `kube-bind` that hold a provider kubeconfig.
pub const LABEL_PROVIDER_KUBECONFIG: &str = "kube-bind.io/provider-kubeconfig";
/// Label on claimed objects, mapped namespaces and namespaces made for a provider: [`OWNER_PROVIDER`] or [`OWNER_CONSUMER`].
pub const LABEL_OWNER: &str = "kube-bind.io/owner";
/// Value of [`LABEL_OWNER`]: the provider makes the object.
pub const OWNER_PROVIDER: &str = "provider";
/// Value of [`LABEL_OWNER`]: the consumer makes the object.
pub const OWNER_CONSUMER: &str = "consumer";
/// Label of the Go release on its generated ClusterRoles.
pub const LABEL_AGGREGATE: &str = "rbac.kube-bind.io/aggregate-to-parent";
/// Addition. Label on what belongs to one binding (CRD, RBAC, claimed copies): the binding's name, which is also the
/// export's.
pub const LABEL_BINDING: &str = "kube-bind.io/binding";

/// Annotation on provider copies: the contract namespace.
pub const ANNOTATION_CLUSTER_NAMESPACE: &str = "kube-bind.io/cluster-namespace";
/// Annotation on provider copies: the consumer's namespace.
pub const ANNOTATION_CONSUMER_NAMESPACE: &str = "kube-bind.io/consumer-namespace";
/// Annotation on provider copies: UID of the consumer's object.
pub const ANNOTATION_CONSUMER_UID: &str = "kube-bind.io/consumer-uid";
/// Annotation on consumer objects: the namespace at the provider.
pub const ANNOTATION_PROVIDER_NAMESPACE: &str = "kube-bind.io/provider-namespace";
/// Annotation on consumer objects: UID at the provider (readers must not need it).
pub const ANNOTATION_PROVIDER_UID: &str = "kube-bind.io/provider-uid";
/// Annotation on `BoundSchema` and `APIServiceExport`: hex SHA-256 of the source spec.
pub const ANNOTATION_SOURCE_SPEC_HASH: &str = "kube-bind.io/source-spec-hash";
/// Annotation on mapped namespaces: `<contract namespace>/<APIServiceNamespace name>`.
pub const ANNOTATION_API_SERVICE_NAMESPACE: &str = "kube-bind.io/api-service-namespace";
/// Annotation on contract namespace and `ClusterBinding`: the consumer identity.
pub const ANNOTATION_IDENTITY: &str = "backend.kube-bind.io/identity";
/// Annotation on contract namespace and `ClusterBinding`: who logged in (the OIDC subject).
pub const ANNOTATION_AUTHOR: &str = "backend.kube-bind.io/author";
/// Annotation on `ClusterBinding`: a name for people.
pub const ANNOTATION_CLUSTER_PRETTY_NAME: &str = "backend.kube-bind.io/cluster-pretty-name";
/// Older spelling of [`ANNOTATION_IDENTITY`] on contract namespaces.
pub const ANNOTATION_LEGACY_IDENTITY: &str = "example-backend.kube-bind.io/identity";
/// Addition. Annotation on contract namespace and `ClusterBinding`: the OIDC issuer of the login.
pub const ANNOTATION_ISSUER: &str = "backend.kube-bind.io/issuer";
/// Addition. Annotation on the contract namespace: further subjects of the same issuer, comma separated.
pub const ANNOTATION_ALLOWED_SUBJECTS: &str = "backend.kube-bind.io/allowed-subjects";
/// Addition. Annotation on the contract namespace: groups of the same issuer whose members may use it, comma separated.
pub const ANNOTATION_ALLOWED_GROUPS: &str = "backend.kube-bind.io/allowed-groups";
/// Addition. Annotation on what a binding made at the consumer (CRD, RBAC): the binding's UID.
pub const ANNOTATION_BINDING_UID: &str = "kube-bind.io/binding-uid";
/// Addition. Annotation on consumer CRD and `BoundSchema`: the immutable name of the published schema, for example
/// `v1-48f0….acmedbs.acmedb.com`.
pub const ANNOTATION_SCHEMA_REVISION: &str = "kube-bind.io/schema-revision";
/// Addition. Annotation on mapped namespaces and exports: the name of the template that was bound.
pub const ANNOTATION_TEMPLATE: &str = "kube-bind.io/template";
/// Annotation on a binding: names of the CRDs of its kinds, separated by commas. What `kubectl get -o wide` shows, for a
/// printer column has room for one value and not for a list.
pub const ANNOTATION_RESOURCES: &str = "kube-bind.io/resources";
/// Annotation on a ClusterBinding: the provider's URL for people, of which a consumer that has only its credential may know
/// nothing.
pub const ANNOTATION_PROVIDER_URL: &str = "kube-bind.io/provider-url";

/// Annotation on a ClusterBinding: the provider has revoked the contract, with a remark or without; nothing is issued while it
/// is there.
pub const ANNOTATION_REVOKED: &str = "backend.kube-bind.io/revoked";

/// Namespace of agent, credentials and Lease at the consumer.
pub const CONSUMER_NAMESPACE: &str = "kube-bind";
/// ServiceAccount and Deployment of the agent.
pub const KONNECTOR: &str = "konnector";
/// ClusterRole and ClusterRoleBinding of the agent.
pub const KONNECTOR_CLUSTER_ROLE: &str = "kube-bind-konnector";
/// Lease of the agent in [`CONSUMER_NAMESPACE`].
pub const KONNECTOR_LEASE: &str = "kube-bind";
/// Key of a kubeconfig in a Secret.
pub const KUBECONFIG_KEY: &str = "kubeconfig";
/// Secret with the consumer's kubeconfig in the contract namespace.
pub const KUBECONFIG_SECRET: &str = "kubeconfig";
/// ServiceAccount, token Secret, RoleBinding and ClusterRole for one consumer at the provider.
pub const KUBE_BINDER: &str = "kube-binder";
/// The only name a `ClusterBinding` may have.
pub const CLUSTER_BINDING: &str = "cluster";
/// The name of the `Cluster` object.
pub const CLUSTER: &str = "default";
/// Default prefix of contract namespaces.
pub const NAMESPACE_PREFIX: &str = "cluster-";
/// Key of a `BindingResourceResponse` in a Secret.
pub const BINDING_RESPONSE_KEY: &str = "binding-response";
/// How often the agent states that it lives, in seconds (`5m0s` on the wire); it writes at half of it.
pub const HEARTBEAT_INTERVAL_SECONDS: u64 = 300;
/// Most entries of `APIServiceNamespace.status.claimedObjects`.
pub const MAX_CLAIMED_OBJECTS: usize = 2000;

/// Condition types, wherever they appear.
pub mod condition {
    /// Summary of the others.
    pub const READY: &str = "Ready";
    /// Binding, cluster binding: the credential is there and parses.
    pub const SECRET_VALID: &str = "SecretValid";
    /// Binding: caches are filled.
    pub const INFORMERS_SYNCED: &str = "InformersSynced";
    /// Binding: the cluster binding at the provider can be updated.
    pub const HEARTBEATING: &str = "Heartbeating";
    /// Binding, export: both sides see each other.
    pub const CONNECTED: &str = "Connected";
    /// Binding: the CRD is the one that the provider publishes.
    pub const SCHEMA_IN_SYNC: &str = "SchemaInSync";
    /// Bundle: exports were turned into bindings.
    pub const SYNCED: &str = "Synced";
    /// Export: the published schemas exist.
    pub const PROVIDER_IN_SYNC: &str = "ProviderInSync";
    /// Export: mirror of the binding's `SchemaInSync`.
    pub const CONSUMER_IN_SYNC: &str = "ConsumerInSync";
    /// Request: claims are valid and allowed.
    pub const PERMISSION_CLAIM: &str = "PermissionClaim";
    /// Request: the export exists.
    pub const EXPORTS_READY: &str = "ExportsReady";
    /// Cluster binding: the agent's heartbeat is fresh.
    pub const HEALTHY: &str = "Healthy";
    /// Cluster binding: the agent's version parses.
    pub const VALID_VERSION: &str = "ValidVersion";
    /// Addition. Mapped namespace: more claimed objects than can be listed.
    pub const TOO_MANY_CLAIMED_OBJECTS: &str = "TooManyClaimedObjects";
    /// Addition. Binding: claims that wait for a decision.
    pub const CLAIMS_ACCEPTED: &str = "ClaimsAccepted";
    /// Addition. Binding, cluster binding: another cluster holds this contract.
    pub const CLAIMED_ELSEWHERE: &str = "ClaimedElsewhere";
    /// Addition. Export: claimed kinds are readable in whole mapped namespaces (template says `openNamespaces`).
    pub const OPEN_NAMESPACES: &str = "OpenNamespaces";
}

/// Condition reasons that both sides know.
pub mod reason {
    /// No such Secret at the consumer.
    pub const KUBECONFIG_SECRET_NOT_FOUND: &str = "KubeconfigSecretNotFound";
    /// Secret without the key, or not a usable kubeconfig.
    pub const KUBECONFIG_SECRET_INVALID: &str = "KubeconfigSecretInvalid";
    /// The cluster binding could not be updated.
    pub const CLUSTER_BINDING_UPDATE_FAILED: &str = "ClusterBindingUpdateFailed";
    /// No export of this name.
    pub const EXPORT_NOT_FOUND: &str = "APIServiceExportNotFound";
    /// The request failed.
    pub const EXPORT_FAILED: &str = "APIServiceExportFailed";
    /// A published schema could not be read.
    pub const BOUND_SCHEMA_FETCH_FAILED: &str = "BoundSchemaFetchFailed";
    /// The CRD could not be created.
    pub const CRD_CREATE_FAILED: &str = "CustomResourceDefinitionCreateFailed";
    /// The CRD could not be updated.
    pub const CRD_UPDATE_FAILED: &str = "CustomResourceDefinitionUpdateFailed";
    /// A CRD of that name belongs to someone else.
    pub const FOREIGN_CRD: &str = "ForeignCustomResourceDefinition";
    /// A requested resource is not offered.
    pub const SCHEMA_NOT_FOUND: &str = "SchemaNotFound";
    /// Cluster-scoped and namespaced kinds in one request.
    pub const DIFFERENT_SCOPES: &str = "DifferentScopes";
    /// The published schema was not made.
    pub const BOUND_SCHEMA_NOT_FOUND: &str = "BoundSchemaNotFound";
    /// A claim is not covered or not readable.
    pub const INVALID_PERMISSION_CLAIM: &str = "InvalidPermissionClaim";
    /// Two claims for one kind.
    pub const DUPLICATE_PERMISSION_CLAIM: &str = "DuplicatePermissionClaim";
    /// A published schema is missing.
    pub const BOUND_SCHEMA_MISSING: &str = "BoundSchemaMissing";
    /// The agent has never been heard of.
    pub const FIRST_HEARTBEAT_PENDING: &str = "FirstHeartbeatPending";
    /// The agent does not say how often it reports.
    pub const HEARTBEAT_INTERVAL_MISSING: &str = "HeartbeatIntervalMissing";
    /// The agent has not been heard of for twice its interval.
    pub const HEARTBEAT_TIMEOUT: &str = "HeartbeatTimeout";
    /// The agent's clock is ahead of the provider's.
    pub const HEARTBEAT_TIME_DRIFT: &str = "HeartbeatTimeDrift";
    /// The contract is revoked, and its token may still be believed.
    pub const REVOKING: &str = "Revoking";
    /// The contract is revoked, and its token is worth nothing.
    pub const REVOKED: &str = "Revoked";
    /// Just made.
    pub const PENDING: &str = "Pending";
    /// Another cluster holds this contract.
    pub const CLAIMED_ELSEWHERE: &str = "ClaimedElsewhere";
    /// The provider does not answer.
    pub const PROVIDER_UNREACHABLE: &str = "ProviderUnreachable";
    /// The provider does not know the credential any more.
    pub const CREDENTIAL_EXPIRED: &str = "CredentialExpired";
}
