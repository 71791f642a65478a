//! The charts' `files/` folders hold what the Rust code generates: CRDs, rights, admission policies. In: the code. Out: a
//! failure that names each file that differs, is missing, or should not be there. `just charts` writes them
//! (`KUBE_BIND_WRITE=1 cargo test -p contract --test charts`).
//!
//! Only what depends on the release (namespace and name of the backend's ServiceAccount, labels) is filled in by the
//! templates.

// Tests panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::rbac::{admission, backend, consumer, service_account};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const ADMISSION: &str = "admissionregistration.k8s.io/v1";

/// Path under `deploy/charts` → text.
type Files = BTreeMap<PathBuf, String>;

struct Chart<'a> {
    name: &'a str,
    files: &'a mut Files,
}

impl Chart<'_> {
    fn add(&mut self, folder: &str, file: &str, api_version: &str, kind: &str, object: &impl Serialize) {
        let mut object = json!(object);
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        let path = Path::new(self.name).join("files").join(folder).join(format!("{file}.yaml"));
        let text = serde_saphyr::to_string(&object).unwrap();
        assert!(self.files.insert(path, text).is_none(), "two files {folder}/{file}");
    }

    fn crds(&mut self, crds: &[CustomResourceDefinition]) {
        for crd in crds {
            let file = format!("kube-bind.io_{}", crd.spec.names.plural);
            self.add("crds", &file, "apiextensions.k8s.io/v1", "CustomResourceDefinition", crd);
        }
    }
}

fn generated() -> Files {
    let mut files = Files::new();
    let mut konnector = Chart { name: "konnector", files: &mut files };
    konnector.crds(&kube_bind_api::consumer_crds());
    let base = consumer::base();
    konnector.add("rbac", "clusterrole", RBAC, "ClusterRole", &base.cluster_role);
    konnector.add("rbac", "clusterrolebinding", RBAC, "ClusterRoleBinding", &base.cluster_role_binding);
    konnector.add("rbac", "role", RBAC, "Role", &base.role);
    konnector.add("rbac", "rolebinding", RBAC, "RoleBinding", &base.role_binding);
    for policy in admission::agent() {
        let name = policy.policy.metadata.name.clone().unwrap();
        konnector.add("admission", &format!("{name}.policy"), ADMISSION, "ValidatingAdmissionPolicy", &policy.policy);
        let binding = &policy.binding;
        konnector.add("admission", &format!("{name}.binding"), ADMISSION, "ValidatingAdmissionPolicyBinding", binding);
    }

    // The templates put the release's namespace and account here.
    let account = service_account("kube-bind-backend", "kube-bind-backend");
    let mut provider = Chart { name: "backend", files: &mut files };
    provider.crds(&kube_bind_api::provider_crds());
    provider.add("rbac", "clusterrole", RBAC, "ClusterRole", &backend::base());
    provider.add("rbac", "clusterrolebinding", RBAC, "ClusterRoleBinding", &backend::base_binding(&account));
    provider.add("rbac", "role", RBAC, "Role", &backend::lease("kube-bind-backend"));
    let binding = backend::lease_binding(&account, "kube-bind-backend");
    provider.add("rbac", "rolebinding", RBAC, "RoleBinding", &binding);
    provider.add("rbac", "clusterrole-contracts", RBAC, "ClusterRole", &backend::contracts());
    provider.add("rbac", "clusterrole-oidc-user", RBAC, "ClusterRole", &backend::oidc_user());
    // Not under rbac/: its rules are the provider's to extend, so a template merges them.
    provider.add("offers", "clusterrole-offers", RBAC, "ClusterRole", &backend::offers([]));
    files
}

fn charts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/charts")
}

/// All files in the charts' `files/` folders, in the form of [`Files`].
fn present() -> Files {
    let mut found = Files::new();
    let mut folders: Vec<PathBuf> = ["konnector", "backend"].map(|name| charts().join(name).join("files")).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(charts()).unwrap().to_owned(), text);
            }
        }
    }
    found
}

#[test]
fn the_charts_hold_what_the_code_generates() {
    let (wanted, mut found) = (generated(), present());
    if std::env::var_os("KUBE_BIND_WRITE").is_some() {
        for path in found.keys().filter(|path| !wanted.contains_key(*path)) {
            std::fs::remove_file(charts().join(path)).unwrap();
        }
        for (path, text) in &wanted {
            let path = charts().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        found = present();
    }
    let mut faults: Vec<String> = wanted
        .iter()
        .filter(|(path, text)| found.get(*path) != Some(text))
        .map(|(path, _)| format!("deploy/charts/{} differs from the code or is missing", path.display()))
        .collect();
    faults.extend(
        found
            .keys()
            .filter(|path| !wanted.contains_key(*path))
            .map(|path| format!("deploy/charts/{} is nothing that the code generates", path.display())),
    );
    assert!(faults.is_empty(), "{}\nRun `just charts`.", faults.join("\n"));
}

#[test]
fn the_charts_have_the_version_of_the_programs() {
    for name in ["konnector", "backend"] {
        let text = std::fs::read_to_string(charts().join(name).join("Chart.yaml")).unwrap();
        let chart: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"), "{name}: version");
        assert_eq!(chart["appVersion"], format!("v{}", env!("CARGO_PKG_VERSION")), "{name}: appVersion");
    }
}
