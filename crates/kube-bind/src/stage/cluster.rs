//! What an administrator does to a fresh cluster: CRDs, ServiceAccounts, generated rights, the offering. Everything is
//! applied, so a restart on the same data folder changes nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::rbac;
use controlplane::ControlPlane;
use jiff::Timestamp;
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR_LEASE};
use kube_client::api::{Api, FieldManager, Subresource};
use kube_client::connect;
use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Where backend and agent have their ServiceAccounts.
pub const NAMESPACE: &str = CONSUMER_NAMESPACE;
/// The backend's ServiceAccount.
pub const BACKEND: &str = "backend";

const MANAGER: FieldManager = FieldManager("kube-bind-dev");
const RBAC: &str = "rbac.authorization.k8s.io";
const PATIENCE: Duration = Duration::from_secs(20);
/// On the Secret of a token: whose it is, by name and, once it is filled, by uid.
const OF_NAME: &str = "kubernetes.io/service-account.name";
const OF_UID: &str = "kubernetes.io/service-account.uid";

/// An administrator at work on one logical cluster.
pub struct Setup {
    api: Api,
}

impl Setup {
    /// Connects with an administrator's kubeconfig; `side` is how errors name the cluster.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn connect(kubeconfig: &str, side: &str) -> Result<Self> {
        let connection = connect::from_kubeconfig(kubeconfig, None).await?;
        Ok(Self { api: Api::new(connection.client, side) })
    }

    /// A provider: what the backend needs, the kind that is offered, and the offering.
    pub async fn provider(&self, crd: &str, template: &str) -> Result<()> {
        self.backend().await?;
        self.offering(crd, template).await
    }

    /// Kinds of kube-bind, the backend's account and rights.
    pub async fn backend(&self) -> Result<()> {
        for kind in kube_bind_api::provider_crds() {
            self.crd(&json!(kind)).await?;
        }
        self.apply("", "v1", "namespaces", "Namespace", &json!({"metadata": {"name": NAMESPACE}})).await?;
        self.account(BACKEND).await?;
        let backend = rbac::service_account(NAMESPACE, BACKEND);
        self.rbac("clusterroles", "ClusterRole", &rbac::backend::base()).await?;
        self.rbac("clusterrolebindings", "ClusterRoleBinding", &rbac::backend::base_binding(&backend)).await?;
        self.rbac("roles", "Role", &rbac::backend::lease(NAMESPACE)).await?;
        self.rbac("rolebindings", "RoleBinding", &rbac::backend::lease_binding(&backend, NAMESPACE)).await?;
        self.rbac("clusterroles", "ClusterRole", &rbac::backend::contracts()).await?;
        self.rbac("clusterroles", "ClusterRole", &rbac::backend::oidc_user()).await
    }

    /// A kind that is offered, the backend's rights to it, and the offering.
    pub async fn offering(&self, crd: &str, template: &str) -> Result<()> {
        let crd = apimachinery::yaml::document(crd)?;
        let template = apimachinery::yaml::document(template)?;
        self.crd(&crd).await?;
        // The provider extends this one to offer more; that must survive a restart.
        let offers = rbac::backend::offers([&super::kind_of(&crd)]);
        let roles = Resource::new(RBAC, "v1", "clusterroles", "ClusterRole");
        if self.api.get_opt(&roles, &ObjectKey::new("", rbac::backend::OFFERS)).await?.is_none() {
            self.rbac("clusterroles", "ClusterRole", &offers).await?;
        }
        self.apply(
            kube_bind_api::GROUP,
            kube_bind_api::VERSION,
            "apiserviceexporttemplates",
            "APIServiceExportTemplate",
            &template,
        )
        .await
    }

    /// A consumer: what the agent needs, as the plugin installs it, but for the Deployment.
    pub async fn consumer(&self) -> Result<()> {
        for object in contract::install::objects(contract::install::VERSION) {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let (kind, api_version) = (text("/kind"), text("/apiVersion"));
            if kind == "CustomResourceDefinition" {
                self.crd(&object).await?;
                continue;
            }
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            self.apply(group, version, &format!("{}s", kind.to_lowercase()), kind, &object).await?;
        }
        self.account_token(kube_bind_api::constants::KONNECTOR).await
    }

    /// A ServiceAccount with a Secret for a token that lasts.
    async fn account(&self, name: &str) -> Result<()> {
        let metadata = json!({"metadata": {"name": name, "namespace": NAMESPACE}});
        self.apply("", "v1", "serviceaccounts", "ServiceAccount", &metadata).await?;
        self.account_token(name).await
    }

    /// A Secret for a token that lasts.
    pub async fn account_token(&self, name: &str) -> Result<()> {
        self.apply("", "v1", "secrets", "Secret", &token_secret(NAMESPACE, name)).await
    }

    /// The token of a ServiceAccount, once the token controller has written it.
    pub async fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let secrets = Resource::new("", "v1", "secrets", "Secret");
        let accounts = Resource::new("", "v1", "serviceaccounts", "ServiceAccount");
        let key = ObjectKey::new(namespace, &format!("{account}-token"));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(secret) = self.api.get_opt(&secrets, &key).await?
                && let Some(token) = secret.pointer("/data/token").and_then(Value::as_str)
            {
                let live = self.api.get_opt(&accounts, &ObjectKey::new(namespace, account)).await?.unwrap_or_default();
                let of = &secret["metadata"]["annotations"][OF_UID];
                if of.is_null() || *of == live["metadata"]["uid"] {
                    return Ok(String::from_utf8(STANDARD.decode(token)?)?);
                }
                // Whoever fills such Secrets still knew an earlier account of that name: asked for once more.
                let uid = secret["metadata"]["uid"].as_str().unwrap_or_default();
                self.api.delete(&secrets, &key, uid).await?;
                self.apply("", "v1", "secrets", "Secret", &token_secret(namespace, account)).await?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the ServiceAccount {namespace}/{account} got no token")
    }

    /// Waits until the agent holds its Lease.
    pub async fn agent_lives(&self) -> Result<()> {
        let leases = Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
        let key = ObjectKey::new(CONSUMER_NAMESPACE, KONNECTOR_LEASE);
        let started = Timestamp::now();
        let deadline = Instant::now() + Duration::from_secs(40);
        while Instant::now() < deadline {
            let lease = self.api.get_opt(&leases, &key).await?.unwrap_or_default();
            let renewed = lease
                .pointer("/spec/renewTime")
                .and_then(Value::as_str)
                .and_then(|time| time.parse::<Timestamp>().ok());
            if renewed.is_some_and(|renewed| renewed >= started) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the agent does not take its Lease {CONSUMER_NAMESPACE}/{KONNECTOR_LEASE}")
    }

    async fn crd(&self, crd: &Value) -> Result<()> {
        self.apply("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", crd).await?;
        let name = crd.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let crds = Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let live = self.api.get(&crds, &ObjectKey::new("", name)).await?;
            let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
            let mut conditions = conditions.into_iter().flatten();
            if conditions.any(|condition| condition["type"] == "Established" && condition["status"] == "True") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the CustomResourceDefinition {name} does not get established")
    }

    async fn rbac(&self, plural: &str, kind: &str, object: &impl Serialize) -> Result<()> {
        self.apply(RBAC, "v1", plural, kind, &json!(object)).await
    }

    async fn apply(&self, group: &str, version: &str, plural: &str, kind: &str, object: &Value) -> Result<()> {
        let resource = Resource::new(group, version, plural, kind);
        let mut object = object.clone();
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(kind);
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let key = ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"));
        self.api.apply(&resource, &key, &object, MANAGER, Subresource::Main).await?;
        Ok(())
    }
}

/// Asks for a token of a ServiceAccount that lasts.
#[must_use]
pub fn token_secret(namespace: &str, account: &str) -> Value {
    json!({
        "metadata": {"name": format!("{account}-token"), "namespace": namespace, "annotations": {OF_NAME: account}},
        "type": "kubernetes.io/service-account-token",
    })
}

/// A client with an administrator's kubeconfig.
pub async fn client(kubeconfig: &str) -> Result<kube::Client> {
    Ok(connect::from_kubeconfig(kubeconfig, None).await.context("the administrator's kubeconfig")?.client)
}

/// A kubeconfig with a token for a logical cluster.
pub fn kubeconfig(control_plane: &ControlPlane, cluster: &str, user: &str, token: &str) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": cluster,
        "clusters": [{"name": cluster, "cluster": {
            "server": control_plane.cluster_url(cluster), "certificate-authority-data": STANDARD.encode(control_plane.ca_pem()),
        }}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user, "namespace": NAMESPACE}}],
        "users": [{"name": user, "user": {"token": token}}],
    });
    apimachinery::yaml::write(&config)
}
