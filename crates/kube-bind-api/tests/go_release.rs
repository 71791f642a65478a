//! Compatibility with the Go release 0.8: our CRDs accept every object that its CRDs accept and keep every field, and what
//! its programs wrote comes through our types unharmed.
//!
//! `KUBE_BIND_GO_CRDS` names the folder with its CRDs (one YAML a kind), `KUBE_BIND_GO_RECORDINGS` the one with recorded
//! objects (default: `recordings` beside the CRDs). Without the first both tests are skipped, and say so.
// Clippy knows test functions, not the helpers between them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kube_bind_api::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Kinds of theirs that no code path of theirs uses.
const UNUSED: [&str; 1] = ["APIConversion"];

fn folder() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("KUBE_BIND_GO_CRDS").map(PathBuf::from) else {
        println!("skipped: KUBE_BIND_GO_CRDS is not set");
        return None;
    };
    assert!(folder.is_dir(), "KUBE_BIND_GO_CRDS: {} is not a folder", folder.display());
    Some(folder)
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple::<Value>(&text)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_iter()
        .filter(|document| !document.is_null())
        .collect()
}

#[test]
fn our_crds_accept_and_keep_what_theirs_do() {
    let Some(folder) = folder() else { return };
    let mut problems = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for theirs in documents(&path) {
            let kind = theirs["spec"]["names"]["kind"].as_str().unwrap().to_owned();
            if UNUSED.contains(&kind.as_str()) {
                continue;
            }
            let ours = crds().into_iter().map(|crd| serde_json::to_value(crd).unwrap());
            let Some(ours) = ours.into_iter().find(|crd| crd["spec"]["names"]["kind"] == kind.as_str()) else {
                problems.push(format!("{kind} is missing"));
                continue;
            };
            seen += 1;
            compare_crd(&kind, &theirs["spec"], &ours["spec"], &mut problems);
        }
    }
    assert_eq!(seen, 11, "all kinds of theirs were compared");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn compare_crd(kind: &str, theirs: &Value, ours: &Value, problems: &mut Vec<String>) {
    for key in ["group", "scope"] {
        if theirs[key] != ours[key] {
            problems.push(format!("{kind}: {key} {} is {}", theirs[key], ours[key]));
        }
    }
    for key in ["plural", "singular", "kind", "listKind", "categories"] {
        if theirs["names"][key] != ours["names"][key] {
            problems.push(format!("{kind}: names.{key} {} is {}", theirs["names"][key], ours["names"][key]));
        }
    }
    if !set(&theirs["names"]["shortNames"]).is_subset(&set(&ours["names"]["shortNames"])) {
        problems.push(format!("{kind}: short names {}", ours["names"]["shortNames"]));
    }
    for version in theirs["versions"].as_array().unwrap() {
        let name = version["name"].as_str().unwrap();
        let Some(own) = ours["versions"].as_array().unwrap().iter().find(|own| own["name"] == name) else {
            problems.push(format!("{kind}: version {name} is missing"));
            continue;
        };
        for key in ["served", "storage"] {
            if version[key] != own[key] {
                problems.push(format!("{kind}/{name}: {key} is {}", own[key]));
            }
        }
        let columns = |value: &Value| -> Vec<(String, String)> {
            let list = value["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
            list.iter().map(|c| (c["name"].as_str().unwrap().into(), c["jsonPath"].as_str().unwrap().into())).collect()
        };
        for column in columns(version) {
            if !columns(own).contains(&column) {
                problems.push(format!("{kind}/{name}: column {column:?} is missing"));
            }
        }
        let (their, our) = (&version["schema"]["openAPIV3Schema"], &own["schema"]["openAPIV3Schema"]);
        compare(&format!("{kind}/{name}"), their, our, problems);
    }
}

fn set(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().map(Value::to_string).collect()
}

/// Everything that `theirs` accepts, `ours` accepts; every field of `theirs` is one of `ours`.
fn compare(path: &str, theirs: &Value, ours: &Value, problems: &mut Vec<String>) {
    let mut problem = |what: String| problems.push(format!("{path}: {what}"));
    let open = ours["x-kubernetes-preserve-unknown-fields"] == true;
    if theirs["x-kubernetes-preserve-unknown-fields"] == true && !open {
        problem("they keep unknown fields, we do not".into());
    }
    if !theirs["type"].is_null() && theirs["type"] != ours["type"] && !open {
        problem(format!("type {} is {}", theirs["type"], ours["type"]));
    }
    if !ours["enum"].is_null() {
        let allowed = if theirs["enum"].is_null() { &theirs["allOf"][0]["enum"] } else { &theirs["enum"] };
        if allowed.is_null() || !set(allowed).is_subset(&set(&ours["enum"])) {
            problem(format!("enum {allowed} is {}", ours["enum"]));
        }
    }
    for key in ["pattern", "format"] {
        if !ours[key].is_null() && ours[key] != theirs[key] {
            problem(format!("{key} {} is {}", theirs[key], ours[key]));
        }
    }
    for key in ["maxLength", "maxItems", "maxProperties", "maximum"] {
        let (their, our) = (theirs[key].as_f64().unwrap_or(f64::INFINITY), ours[key].as_f64().unwrap_or(f64::INFINITY));
        if our < their {
            problem(format!("{key} is stricter"));
        }
    }
    for key in ["minLength", "minItems", "minProperties", "minimum"] {
        let (their, our) =
            (theirs[key].as_f64().unwrap_or(f64::NEG_INFINITY), ours[key].as_f64().unwrap_or(f64::NEG_INFINITY));
        if our > their {
            problem(format!("{key} is stricter"));
        }
    }
    if !set(&ours["required"]).is_subset(&set(&theirs["required"])) {
        problem(format!("required {} is {}", theirs["required"], ours["required"]));
    }
    if theirs["default"] != ours["default"] && !theirs["default"].is_null() {
        problem(format!("default {} is {}", theirs["default"], ours["default"]));
    }
    let rules = |value: &Value| -> BTreeSet<String> {
        let rules = value["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
        rules
            .iter()
            .map(|rule| rule["rule"].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    if !rules(ours).is_subset(&rules(theirs)) {
        problem(format!("rules {:?}", rules(ours)));
    }
    for key in ["x-kubernetes-list-type", "x-kubernetes-map-type", "x-kubernetes-list-map-keys"] {
        // Lists and structs without a word are atomic and granular: saying so changes nothing.
        let silent = theirs[key] == "atomic" && key == "x-kubernetes-list-type" && ours[key].is_null();
        if theirs[key] != ours[key] && !silent && !open {
            problem(format!("{key} {} is {}", theirs[key], ours[key]));
        }
    }
    for (name, child) in theirs["properties"].as_object().unwrap_or(&Map::new()) {
        match ours["properties"].get(name) {
            Some(own) => compare(&format!("{path}.{name}"), child, own, problems),
            None if open => {}
            None => problems.push(format!("{path}.{name} is missing")),
        }
    }
    for key in ["items", "additionalProperties"] {
        if theirs[key].is_object() && !open {
            compare(&format!("{path}[{key}]"), &theirs[key], &ours[key], problems);
        }
    }
}

#[test]
fn what_their_programs_wrote_comes_through_unharmed() {
    let Some(crds) = folder() else { return };
    let folder = std::env::var_os("KUBE_BIND_GO_RECORDINGS").map_or_else(|| crds.join("../recordings"), PathBuf::from);
    assert!(folder.is_dir(), "KUBE_BIND_GO_RECORDINGS: {} is not a folder", folder.display());
    let mut files = Vec::new();
    collect(&folder, &mut files);
    let mut kinds = BTreeSet::new();
    for file in files {
        for document in documents(&file) {
            if let Some(kind) = round_trip(&file, &document) {
                kinds.insert(kind);
            }
        }
    }
    let expected = [
        "APIServiceBinding",
        "APIServiceExport",
        "APIServiceExportRequest",
        "APIServiceExportTemplate",
        "APIServiceNamespace",
        "BoundSchema",
        "Cluster",
        "ClusterBinding",
        "Collection",
    ];
    assert!(expected.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}

fn round_trip(file: &Path, document: &Value) -> Option<String> {
    if document["apiVersion"] != API_VERSION {
        return None;
    }
    let kind = document["kind"].as_str()?.to_owned();
    let back = match kind.as_str() {
        "APIServiceBinding" => through::<APIServiceBinding>(document),
        "APIServiceBindingBundle" => through::<APIServiceBindingBundle>(document),
        "APIServiceExport" => through::<APIServiceExport>(document),
        "APIServiceExportRequest" => through::<APIServiceExportRequest>(document),
        "APIServiceExportTemplate" => through::<APIServiceExportTemplate>(document),
        "APIServiceNamespace" => through::<APIServiceNamespace>(document),
        "BindableResourcesRequest" => through::<BindableResourcesRequest>(document),
        "BoundSchema" => through::<BoundSchema>(document),
        "Cluster" => through::<Cluster>(document),
        "ClusterBinding" => through::<ClusterBinding>(document),
        "Collection" => through::<Collection>(document),
        other => panic!("{}: kind {other} is not known", file.display()),
    };
    let back = back.unwrap_or_else(|error| panic!("{}: {kind}: {error}", file.display()));
    contained(&format!("{}: {kind}", file.display()), document, &back);
    Some(kind)
}

fn through<T: Serialize + DeserializeOwned>(document: &Value) -> Result<Value, serde_json::Error> {
    let typed: T = serde_json::from_value(document.clone())?;
    serde_json::to_value(typed)
}

/// Nothing of `before` is lost or changed in `after`.
fn contained(path: &str, before: &Value, after: &Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                contained(&format!("{path}.{key}"), value, after.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{path}");
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                contained(&format!("{path}[{index}]"), before, after);
            }
        }
        _ => assert_eq!(before, after, "{path}"),
    }
}

/// Objects that have to be read whatever is left out.
#[test]
fn sparse_objects_are_read() {
    let read = |value: Value| serde_json::from_value::<APIServiceNamespace>(value).unwrap();
    let metadata = serde_json::json!({"name": "default"});
    assert_eq!(read(serde_json::json!({"metadata": metadata})).spec, APIServiceNamespaceSpec {});
    assert_eq!(
        read(serde_json::json!({"metadata": metadata, "spec": {}, "status": {}})).status.unwrap().namespace,
        None
    );
    let request: BindableResourcesRequest = serde_json::from_str(
        r#"{"metadata":{"name":"mangodb"},"spec":{"templateRef":{"name":"mangodb"},"clusterIdentity":{"identity":"x"}},"status":{}}"#,
    )
    .unwrap();
    assert_eq!(request.spec.cluster_identity.identity, "x");
    let claim: StatedClaim = serde_json::from_str(r#"{"resource":"secrets","selector":{}}"#).unwrap();
    assert_eq!((claim.state(), claim.claim.group.as_str()), (ClaimState::Pending, ""));
}
