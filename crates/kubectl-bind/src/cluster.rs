//! The two API servers that a command talks to. In: kubeconfigs. Out: [`Cluster`], whose failures are sentences.

use kube_client::api::{Api, FieldManager, ListQuery, Subresource};
use kube_client::connect::{self, ConnectError, Connection};
use kube_client::error::{ApiError, Class};
use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use serde_json::{Value, json};

use crate::args::Common;
use crate::errors::CliError;
use crate::patience::Patience;

/// Under this name our applies are recorded.
pub(crate) const MANAGER: FieldManager = FieldManager("kubectl-bind");

/// An API server with its URL and the namespace of the kubeconfig's context.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    api: Api,
    patience: Patience,
    /// For messages.
    pub(crate) server: String,
    /// The context's namespace; `default` if it names none.
    pub(crate) namespace: String,
}

impl Cluster {
    /// The consumer cluster: `--kubeconfig`, else what kubectl would use.
    pub(crate) async fn consumer(common: &Common) -> Result<Self, CliError> {
        Self::local(common, "consumer").await
    }

    /// The provider cluster, for a provider's own commands.
    pub(crate) async fn own_provider(common: &Common) -> Result<Self, CliError> {
        Self::local(common, "provider").await
    }

    async fn local(common: &Common, side: &'static str) -> Result<Self, CliError> {
        let connection = match &common.kubeconfig {
            Some(path) => connect::from_file(path, common.context.as_deref()).await,
            None if !found_by_environment() => {
                let reason = "KUBECONFIG is not set and there is no ~/.kube/config".to_owned();
                return Err(CliError::NoKubeconfig { side, reason });
            }
            None => match only_file() {
                // The usual rules would lead there too, but would tell of places that nobody has named.
                Some(path) => connect::from_file(&path, common.context.as_deref()).await,
                None => connect::from_environment(common.context.as_deref()).await,
            },
        };
        let connection = connection.map_err(|error| CliError::NoKubeconfig { side, reason: error.to_string() })?;
        Ok(Self::new(connection, side))
    }

    /// The provider with the credential of a contract; `origin` says where the kubeconfig comes from.
    pub(crate) async fn contract(kubeconfig: &[u8], origin: &str) -> Result<Self, CliError> {
        let connection = connect::from_untrusted_kubeconfig(kubeconfig).await.map_err(|error| match error {
            ConnectError::NoNamespace => CliError::NoRemoteNamespace { origin: origin.to_owned() },
            error => CliError::RemoteKubeconfig { origin: origin.to_owned(), reason: error.to_string() },
        })?;
        Ok(Self::new(connection, "provider"))
    }

    fn new(connection: Connection, side: &str) -> Self {
        let Connection { client, server, namespace, .. } = connection;
        Self {
            api: Api::new(client, side),
            patience: Patience::default(),
            server: server.trim_end_matches('/').to_owned(),
            namespace,
        }
    }

    /// A request that may be repeated, and our sentence when it fails.
    async fn ask<T>(&self, attempt: impl AsyncFn() -> Result<T, ApiError>) -> Result<T, CliError> {
        self.patience.ask(attempt).await.result.map_err(|error| self.say(error))
    }

    /// Our sentence for a failed request.
    pub(crate) fn say(&self, error: ApiError) -> CliError {
        CliError::from_api(error, &self.server)
    }

    pub(crate) async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, CliError> {
        let key = ObjectKey::new(namespace, name);
        self.ask(async || self.api.get_opt(resource, &key).await).await
    }

    /// Objects of a kind, everywhere or in one namespace; none when the API server does not know the kind.
    pub(crate) async fn list(&self, resource: &Resource, query: &ListQuery) -> Result<Vec<Value>, CliError> {
        match self.patience.ask(async || self.api.list(resource, query).await).await.result {
            Ok(items) => Ok(items),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(self.say(error)),
        }
    }

    /// Whether the API server serves the kind.
    pub(crate) async fn serves(&self, resource: &Resource) -> Result<bool, CliError> {
        let page = async || self.api.list_page(resource, &ListQuery::default(), 1, None).await;
        match self.patience.ask(page).await.result {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) if error.is_forbidden() => Ok(true),
            Err(error) => Err(self.say(error)),
        }
    }

    /// Whether the API server takes objects of a new kind: for some seconds it answers 503 to all of them where a
    /// MutatingAdmissionPolicy concerns the kind, because it reads the schemas of kinds only now and then.
    pub(crate) async fn takes(&self, crd: &Value, resource: &Resource) -> bool {
        let namespace = (text(crd, "/spec/scope") == "Namespaced").then_some("default");
        let mut object = json!({
            "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"generateName": "tried-"},
        });
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        // Any other refusal is about this object, or about who asks.
        let tried = self.api.try_create(resource, namespace, &object).await;
        !tried.is_err_and(|error| error.class == Class::Server)
    }

    /// A discovery document; `None` when the API server does not have it.
    pub(crate) async fn discovery(&self, path: &str) -> Result<Option<Value>, CliError> {
        match self.patience.ask(async || self.api.raw_get(path).await).await.result {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.say(error)),
        }
    }

    /// POSTs a review (an object that is answered, not stored).
    pub(crate) async fn review(&self, resource: &Resource, body: &Value) -> Result<Value, CliError> {
        self.ask(async || self.api.create(resource, None, body).await).await
    }

    /// Creates by apply; the plain error, because `AlreadyExists` means something to callers.
    pub(crate) async fn create(&self, resource: &Resource, key: &ObjectKey, body: &Value) -> Result<Value, ApiError> {
        let create = async || self.api.apply_create_only(resource, key, body, MANAGER).await;
        let tried = self.patience.ask(create).await;
        match tried.result {
            // It was done the first time, and the answer got lost on the way.
            Err(error) if error.is_conflict() && tried.unsure => {
                match self.patience.ask(async || self.api.get_opt(resource, key).await).await.result? {
                    Some(live) if is_ours(&live) => Ok(live),
                    _ => Err(error),
                }
            }
            result => result,
        }
    }

    /// Applies to the object of that uid.
    pub(crate) async fn update(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        body: &Value,
        uid: &str,
    ) -> Result<Value, CliError> {
        self.ask(async || self.api.apply_update_only(resource, key, body, uid, MANAGER).await).await
    }

    pub(crate) async fn merge_patch(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, CliError> {
        let key = ObjectKey::new(namespace, name);
        self.ask(async || self.api.merge_patch(resource, &key, Subresource::Main, patch, MANAGER).await).await
    }

    /// Takes a finalizer off the object as it was read; says whether it was on it.
    pub(crate) async fn remove_finalizer(
        &self,
        resource: &Resource,
        object: &Value,
        finalizer: &str,
    ) -> Result<bool, CliError> {
        let removed = async || self.api.remove_finalizer(resource, object, finalizer, MANAGER).await;
        Ok(self.ask(removed).await?.is_some())
    }

    /// Deletes exactly this object; gone or replaced already is as good.
    pub(crate) async fn delete(&self, resource: &Resource, object: &Value) -> Result<(), CliError> {
        let key = ObjectKey::new(text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        let uid = text(object, "/metadata/uid");
        match self.patience.ask(async || self.api.delete(resource, &key, uid).await).await.result {
            Ok(()) => Ok(()),
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(self.say(error)),
        }
    }

    /// The identity of the cluster: the UID of its namespace `kube-system`.
    pub(crate) async fn identity(&self) -> Result<String, CliError> {
        let namespace = self.get(&kinds::namespaces(), "", "kube-system").await?;
        let uid = namespace
            .as_ref()
            .map(|namespace| text(namespace, "/metadata/uid").to_owned())
            .filter(|uid| !uid.is_empty());
        uid.ok_or_else(|| CliError::Api {
            side: self.api.side().to_owned(),
            verb: "get",
            target: "namespaces kube-system".to_owned(),
            message: "there is none, so the cluster has no identity; pass --cluster-identity".to_owned(),
        })
    }

    /// Which of these the kubeconfig's user may not do.
    pub(crate) async fn missing(&self, wanted: &[Permission]) -> Result<Vec<String>, CliError> {
        let mut missing = Vec::new();
        for permission in wanted {
            let body = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {
                    "verb": permission.verb, "group": permission.group, "resource": permission.resource, "namespace": permission.namespace,
                }},
            });
            let answer = self.review(&kinds::self_subject_access_reviews(), &body).await?;
            if answer.pointer("/status/allowed") != Some(&Value::Bool(true)) {
                missing.push(permission.to_string());
            }
        }
        Ok(missing)
    }
}

/// The file in `KUBECONFIG`, if it names one and no more.
fn only_file() -> Option<std::path::PathBuf> {
    let paths = std::env::var_os("KUBECONFIG")?;
    let mut paths = std::env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty());
    paths.next().filter(|_| paths.next().is_none())
}

/// Whether there is anything for a kubeconfig to come from.
fn found_by_environment() -> bool {
    std::env::var_os("KUBECONFIG").is_some()
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        || std::env::home_dir().is_some_and(|home| home.join(".kube").join("config").exists())
}

/// Something that a user may or may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    verb: String,
    group: String,
    resource: String,
    namespace: String,
}

impl Permission {
    pub(crate) fn new(verb: &str, group: &str, resource: &str, namespace: &str) -> Self {
        let [verb, group, resource, namespace] = [verb, group, resource, namespace].map(str::to_owned);
        Self { verb, group, resource, namespace }
    }
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if !self.namespace.is_empty() {
            write!(f, " in namespace {}", self.namespace)?;
        }
        Ok(())
    }
}

/// Whether we are among those who wrote an object.
fn is_ours(object: &Value) -> bool {
    let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    managers.into_iter().flatten().any(|entry| text(entry, "/manager") == MANAGER.0)
}

/// The text at a JSON pointer, empty if there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The kinds that commands touch.
pub(crate) mod kinds {
    use kube_client::resource::Resource;
    use serde_json::Value;

    macro_rules! kinds {
        ($($function:ident: $group:literal $version:literal $plural:literal $kind:literal;)*) => {
            $(pub(crate) fn $function() -> Resource { Resource::new($group, $version, $plural, $kind) })*
            /// The kind of an object that we write.
            pub(crate) fn of(object: &Value) -> Option<Resource> {
                let api_version = object.get("apiVersion")?.as_str()?;
                let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
                match (group, version, object.get("kind")?.as_str()?) {
                    $(($group, $version, $kind) => Some($function()),)*
                    _ => None,
                }
            }
        };
    }

    kinds! {
        namespaces: "" "v1" "namespaces" "Namespace";
        secrets: "" "v1" "secrets" "Secret";
        service_accounts: "" "v1" "serviceaccounts" "ServiceAccount";
        pods: "" "v1" "pods" "Pod";
        leases: "coordination.k8s.io" "v1" "leases" "Lease";
        deployments: "apps" "v1" "deployments" "Deployment";
        crds: "apiextensions.k8s.io" "v1" "customresourcedefinitions" "CustomResourceDefinition";
        cluster_roles: "rbac.authorization.k8s.io" "v1" "clusterroles" "ClusterRole";
        cluster_role_bindings: "rbac.authorization.k8s.io" "v1" "clusterrolebindings" "ClusterRoleBinding";
        roles: "rbac.authorization.k8s.io" "v1" "roles" "Role";
        role_bindings: "rbac.authorization.k8s.io" "v1" "rolebindings" "RoleBinding";
        admission_policies: "admissionregistration.k8s.io" "v1" "validatingadmissionpolicies" "ValidatingAdmissionPolicy";
        admission_policy_bindings: "admissionregistration.k8s.io" "v1" "validatingadmissionpolicybindings" "ValidatingAdmissionPolicyBinding";
        birth_policies: "admissionregistration.k8s.io" "v1" "mutatingadmissionpolicies" "MutatingAdmissionPolicy";
        birth_policy_bindings: "admissionregistration.k8s.io" "v1" "mutatingadmissionpolicybindings" "MutatingAdmissionPolicyBinding";
        self_subject_access_reviews: "authorization.k8s.io" "v1" "selfsubjectaccessreviews" "SelfSubjectAccessReview";
        token_reviews: "authentication.k8s.io" "v1" "tokenreviews" "TokenReview";
        bindings: "kube-bind.io" "v1alpha2" "apiservicebindings" "APIServiceBinding";
        requests: "kube-bind.io" "v1alpha2" "apiserviceexportrequests" "APIServiceExportRequest";
        exports: "kube-bind.io" "v1alpha2" "apiserviceexports" "APIServiceExport";
        templates: "kube-bind.io" "v1alpha2" "apiserviceexporttemplates" "APIServiceExportTemplate";
        bound_schemas: "kube-bind.io" "v1alpha2" "boundschemas" "BoundSchema";
        cluster_bindings: "kube-bind.io" "v1alpha2" "clusterbindings" "ClusterBinding";
        mapped_namespaces: "kube-bind.io" "v1alpha2" "apiservicenamespaces" "APIServiceNamespace";
    }
}
