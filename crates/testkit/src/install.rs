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
use crate::site::{Site, core, crds, ours};

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

/// Installs what a provider needs, and offers a service.
pub(crate) async fn provider(site: &Site, folder: &Path, service: &Service) -> String {
    let setup = site.setup().await;
    if !by_chart() {
        let (crd, template) =
            (apimachinery::yaml::write(&service.crd()), apimachinery::yaml::write(&service.template()));
        setup.provider(&crd, &template).await.unwrap();
        return setup.token(NAMESPACE, BACKEND).await.unwrap();
    }
    let values = json!({
        "serviceAccount": {"name": BACKEND},
        "frontend": {"enabled": false},
        "apiServer": {"url": "https://api.example"},
        "offers": {"kinds": [{"group": service.group, "resource": service.plural}]},
    });
    chart(site, folder, "backend", &values).await;
    site.apply(&crds(), &service.crd()).await;
    established(site, &service.crd_name()).await;
    site.apply(&ours("apiserviceexporttemplates", "APIServiceExportTemplate"), &service.template()).await;
    token_secret(site, NAMESPACE, BACKEND).await;
    setup.token(NAMESPACE, BACKEND).await.unwrap()
}

/// Installs what a consumer needs.
pub(crate) async fn consumer(site: &Site, folder: &Path) -> String {
    let setup = site.setup().await;
    if by_chart() {
        chart(site, folder, "konnector", &json!({"admissionPolicies": {"install": "always"}})).await;
        token_secret(site, NAMESPACE, KONNECTOR).await;
    } else {
        setup.consumer().await.unwrap();
    }
    setup.token(NAMESPACE, KONNECTOR).await.unwrap()
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

/// Writes what a chart renders, as far as the API server knows the kinds.
async fn chart(site: &Site, folder: &Path, name: &str, values: &Value) {
    site.namespace(NAMESPACE).await;
    for object in rendered(folder, name, values).await.iter() {
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
