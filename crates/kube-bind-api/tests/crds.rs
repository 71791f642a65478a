//! The generated CRDs: the same as in `deploy/crds`, well formed, and with what people rely on.
// Clippy knows test functions, not the helpers between them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use serde_json::{Value, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds")
}

fn generated() -> Vec<Value> {
    kube_bind_api::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect()
}

fn crd(plural: &str) -> Value {
    generated().into_iter().find(|crd| crd["spec"]["names"]["plural"] == plural).unwrap()
}

/// `cargo run -p kube-bind-api --example crds` writes them anew.
#[test]
fn deploy_crds_is_what_is_generated() {
    let mut files: Vec<String> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let mut expected = Vec::new();
    for crd in generated() {
        let file = format!("kube-bind.io_{}.yaml", crd["spec"]["names"]["plural"].as_str().unwrap());
        let text = std::fs::read_to_string(folder().join(&file)).unwrap_or_default();
        let there: Value = serde_saphyr::from_str(&text).unwrap_or_default();
        assert_eq!(there, crd, "{file} is stale: cargo run -p kube-bind-api --example crds");
        expected.push(file);
    }
    expected.sort();
    assert_eq!(files, expected);
}

#[test]
fn consumers_and_providers_get_every_kind_between_them() {
    let names = |crds: Vec<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    >| { crds.into_iter().map(|crd| crd.metadata.name.unwrap()).collect::<Vec<_>>() };
    let consumer = names(kube_bind_api::consumer_crds());
    assert_eq!(consumer, ["apiservicebindings.kube-bind.io", "apiservicebindingbundles.kube-bind.io"]);
    let mut all = consumer;
    all.extend(names(kube_bind_api::provider_crds()));
    all.sort();
    let mut crds = names(kube_bind_api::crds());
    crds.sort();
    assert_eq!(all, crds);
    assert_eq!(crds.len(), 11);
}

#[test]
fn bindings_show_export_and_phase() {
    let crd = crd("apiservicebindings");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["sb", "apibindings", "apibinding"]));
    for version in crd["spec"]["versions"].as_array().unwrap() {
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        let narrow: Vec<_> = columns
            .iter()
            .filter(|column| column["priority"].as_i64().unwrap_or(0) == 0)
            .map(|column| &column["name"])
            .collect();
        assert_eq!(narrow, ["Export", "Phase", "Age"]);
        assert_eq!(columns[0]["jsonPath"], ".spec.reference.export.url");
    }
}

#[test]
fn claims_of_an_export_may_change_and_its_kinds_may_not() {
    let crd = crd("apiserviceexports");
    let schema =
        crd["spec"]["versions"].as_array().unwrap().iter().find(|version| version["name"] == "v1alpha2").unwrap();
    let spec = &schema["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    assert_eq!(spec["permissionClaims"]["x-kubernetes-validations"], Value::Null);
    assert_eq!(spec["resources"]["x-kubernetes-validations"][0]["rule"], "self == oldSelf");
}

/// What the API server demands of a structural schema, as far as a generator can get it wrong.
#[test]
fn schemas_are_structural() {
    fn walk(path: &str, schema: &Value, root: bool) {
        let Some(object) = schema.as_object() else { panic!("{path}: {schema}") };
        let typed = object.contains_key("type")
            || object.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true))
            || object.get("x-kubernetes-int-or-string") == Some(&json!(true));
        assert!(typed, "{path} has no type: {schema}");
        for banned in ["$ref", "nullable", "title", "uniqueItems", "anyOf", "oneOf", "definitions", "const"] {
            assert!(!object.contains_key(banned), "{path} has {banned}");
        }
        assert!(!(object.contains_key("properties") && object.contains_key("additionalProperties")), "{path}");
        assert_eq!(root, path.is_empty());
        assert!(object.get("description").is_none_or(|text| !text.as_str().unwrap().is_empty()), "{path}");
        for (name, child) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(&format!("{path}.{name}"), child, false);
        }
        for key in ["items", "additionalProperties"] {
            if let Some(child) = object.get(key) {
                walk(&format!("{path}[{key}]"), child, false);
            }
        }
    }
    for crd in generated() {
        let versions = crd["spec"]["versions"].as_array().unwrap();
        assert_eq!(versions.iter().filter(|version| version["storage"] == true).count(), 1);
        for version in versions {
            walk("", &version["schema"]["openAPIV3Schema"], true);
            assert_eq!(version["subresources"], json!({"status": {}}));
        }
    }
}
