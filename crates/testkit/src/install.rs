//! How backend and agent get into a cluster: kinds, accounts, rights. In: a site. Out: the token of the program's
//! ServiceAccount.
//!
//! By the stage's setup, or with `KUBE_BIND_TEST_INSTALL=chart` by the charts as Helm renders them: then every scenario shows
//! that the programs can work with what the charts grant. Called by [`crate::world`] and nowhere else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kube_bind::stage::cluster::{self, BACKEND, NAMESPACE};
use kube_bind_api::constants::KONNECTOR;
use kube_client::resource::Resource;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::eventually;
use crate::helm::Helm;
use crate::service::Service;
use crate::site::{Site, core, crds};

/// A site in which a backend can work: what [`provider`] starts from.
pub(crate) const PROVIDER: &str = "provider";
/// A site in which an agent can work: what [`consumer`] leaves.
pub(crate) const CONSUMER: &str = "consumer";

const INSTALL: &str = "KUBE_BIND_TEST_INSTALL";

/// Kinds that charts render, with their plural; and whether every API server has them.
const KINDS: [(&str, &str, bool); 13] = [
    ("ClusterRole", "clusterroles", true),
    ("ClusterRoleBinding", "clusterrolebindings", true),
    ("ConfigMap", "configmaps", true),
    ("CustomResourceDefinition", "customresourcedefinitions", true),
    ("Deployment", "deployments", false),
    ("NetworkPolicy", "networkpolicies", false),
    ("PodDisruptionBudget", "poddisruptionbudgets", false),
    ("Role", "roles", true),
    ("RoleBinding", "rolebindings", true),
    ("Service", "services", true),
    ("ServiceAccount", "serviceaccounts", true),
    ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", true),
    ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", true),
];

fn by_chart() -> bool {
    match std::env::var(INSTALL).as_deref() {
        Ok("chart") => true,
        Ok("setup" | "") | Err(_) => false,
        Ok(other) => panic!("{INSTALL} is {other:?}; it must be setup or chart"),
    }
}

/// Installs what a provider needs, if the site came without it, and offers a service.
pub(crate) async fn provider(site: &mut Site, folder: &Path, service: &Service) -> String {
    let setup = site.setup().await;
    let values = |kinds: &Value| {
        json!({
            "serviceAccount": {"name": BACKEND},
            "frontend": {"enabled": false},
            "apiServer": {"url": "https://api.example"},
            "offers": {"kinds": kinds},
        })
    };
    let nothing = values(&json!([]));
    let token = installed(site, PROVIDER, BACKEND, async |site| {
        if by_chart() {
            chart(site, folder, "backend", &nothing, &[]).await;
            token_secret(site, NAMESPACE, BACKEND).await;
        } else {
            setup.backend().await.unwrap();
        }
    })
    .await;
    if by_chart() {
        let offers = values(&json!([{"group": service.group, "resource": service.plural}]));
        let there = rendered(folder, "backend", &nothing).await;
        chart(site, folder, "backend", &offers, &there).await;
    }
    let (crd, template) = (apimachinery::yaml::write(&service.crd()), apimachinery::yaml::write(&service.template()));
    setup.offering(&crd, &template).await.unwrap();
    token
}

/// Installs what a consumer needs, if the site came without it.
pub(crate) async fn consumer(site: &mut Site, folder: &Path) -> String {
    installed(site, CONSUMER, KONNECTOR, async |site| {
        if by_chart() {
            chart(site, folder, "konnector", &json!({"admissionPolicies": {"install": "always"}}), &[]).await;
            token_secret(site, NAMESPACE, KONNECTOR).await;
        } else {
            site.setup().await.consumer().await.unwrap();
        }
    })
    .await
}

/// The token of `account`: the one that the site came with, or that of what is installed now and lent to others.
async fn installed(site: &mut Site, what: &str, account: &str, install: impl AsyncFnOnce(&Site)) -> String {
    if let Some(token) = site.token() {
        return token;
    }
    install(site).await;
    let token = site.setup().await.token(NAMESPACE, account).await.unwrap();
    remember(site, what, account, &token).await;
    token
}

/// Lets others have the site as it is now. Kubernetes (1.26 and newer) writes the day on which a token was first used on its
/// Secret, some time after: that is over before anybody looks at who writes what.
async fn remember(site: &mut Site, what: &str, account: &str, token: &str) {
    if !site.enforces_admission() {
        return;
    }
    let kubeconfig = site.kubeconfig_with(account, token);
    let client = kube_client::connect::from_kubeconfig(&kubeconfig, None).await.unwrap().client;
    kube_client::api::Api::new(client, account).raw_get("/version").await.unwrap();
    let used = async || {
        let secret = site.get(&core("secrets"), NAMESPACE, &format!("{account}-token")).await.unwrap_or_default();
        secret["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"].is_string()
    };
    for _ in 0..30 {
        if used().await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    site.remember(what, token).await;
}

/// Asks for a token of a ServiceAccount that lasts.
pub async fn token_secret(site: &Site, namespace: &str, account: &str) {
    site.apply(&core("secrets"), &cluster::token_secret(namespace, account)).await;
}

/// Waits until a CRD is served.
pub async fn established(site: &Site, name: &str) {
    eventually(&format!("{name} is established"), async || {
        let live = site.get(&crds(), "", name).await.unwrap_or_default();
        let mut conditions = live["status"]["conditions"].as_array().into_iter().flatten();
        let there = conditions.any(|condition| condition["type"] == "Established" && condition["status"] == "True");
        if there { Ok(()) } else { Err(live["status"].to_string()) }
    })
    .await;
}

/// Writes what a chart renders, as far as the API server knows the kinds; what is `there` as it is to be stays.
async fn chart(site: &Site, folder: &Path, name: &str, values: &Value, there: &[Value]) {
    site.namespace(NAMESPACE).await;
    for object in rendered(folder, name, values).await.iter().filter(|object| !there.contains(object)) {
        let kind = object["kind"].as_str().unwrap();
        let (_, plural, everywhere) = KINDS
            .iter()
            .find(|known| known.0 == kind)
            .unwrap_or_else(|| panic!("{name} renders a {kind}: add it here"));
        let (group, version) = object["apiVersion"].as_str().unwrap().rsplit_once('/').unwrap_or(("", "v1"));
        let resource = Resource::new(group, version, plural, kind);
        if *everywhere || serves(site, &resource).await {
            site.apply(&resource, object).await;
        }
        if kind == "CustomResourceDefinition" {
            established(site, object["metadata"]["name"].as_str().unwrap()).await;
        }
    }
}

type Objects = Arc<Vec<Value>>;

/// What Helm renders. It is asked once for the same: the agent's values are those of every scenario.
async fn rendered(folder: &Path, name: &str, values: &Value) -> Objects {
    static RENDERED: Mutex<BTreeMap<String, Arc<OnceCell<Objects>>>> = Mutex::new(BTreeMap::new());
    let cell = RENDERED.lock().entry(format!("{name} {values}")).or_default().clone();
    let render = async || {
        std::fs::create_dir_all(folder).unwrap();
        let helm = Helm::find(folder).unwrap_or_else(|| panic!("{INSTALL}=chart needs Helm"));
        Arc::new(helm.template(name, NAMESPACE, values, &[]).await)
    };
    cell.get_or_init(render).await.clone()
}

async fn serves(site: &Site, resource: &Resource) -> bool {
    let kinds = site.api.raw_get(&format!("/apis/{}", resource.api_version())).await.unwrap_or_default();
    kinds["resources"].as_array().into_iter().flatten().any(|kind| kind["name"] == resource.plural.as_str())
}
