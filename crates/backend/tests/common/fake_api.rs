//! An API server in memory: enough of get, list, create, merge patch, apply and delete for the HTTP handlers. Tokens for
//! service accounts appear at once; `mallory` may not bind.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    writes: Vec<String>,
    revision: u64,
}

#[derive(Clone, Default)]
pub struct FakeApi {
    store: Arc<Mutex<Store>>,
}

pub const KIND: &str = "/apis/kube-bind.io/v1alpha2";
pub const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

impl FakeApi {
    /// With one offering `widget`, ready to be bound, in collection `databases`.
    pub fn with_offering() -> Self {
        let api = Self::default();
        api.put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.widgets.example", json!({
            "metadata": {"labels": {"kube-bind.io/exported": "true"}},
            "spec": {"group": "widgets.example", "scope": "Namespaced",
                "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
                "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": {"type": "object", "required": ["tier"], "properties": {
                        "tier": {"type": "string", "enum": ["shared", "dedicated"]},
                        "region": {"type": "string", "default": "eu-central-1"},
                        "tokenSecret": {"type": "string"}}}}}}}]}
        }));
        api.put(&format!("{KIND}/apiserviceexporttemplates/widget"), json!({
            "kind": "APIServiceExportTemplate", "apiVersion": "kube-bind.io/v1alpha2",
            "spec": {"description": "Widget as a service", "scope": "Namespaced",
                "resources": [{"group": "widgets.example", "resource": "widgets", "versions": ["v1alpha1"]}],
                "permissionClaims": [
                    {"group": "", "resource": "secrets", "owner": "Provider", "verbs": ["create"], "selector": {"references": [
                        {"group": "widgets.example", "resource": "widgets", "jsonPath": {"name": ".spec.tokenSecret"}}]}},
                    {"group": "", "resource": "services", "owner": "Provider", "verbs": ["create"], "selector": {"references": [
                        {"group": "widgets.example", "resource": "widgets", "jsonPath": {"name": ".metadata.name"}}]}}],
                "schemaUpdatePolicy": "Never"}
        }));
        api.put(
            &format!("{KIND}/collections/databases"),
            json!({
                "kind": "Collection", "apiVersion": "kube-bind.io/v1alpha2",
                "spec": {"description": "Databases", "templates": [{"name": "widget"}]}
            }),
        );
        let verbs = ["get", "list", "watch", "create", "patch", "delete"];
        api.put(
            &format!("{RBAC}/clusterroles/kube-bind-backend-offers"),
            json!({"rules": [
            {"apiGroups": [""], "resources": ["configmaps", "secrets", "services"], "verbs": verbs},
            {"apiGroups": ["widgets.example", "b.io"], "resources": ["widgets", "things"], "verbs": verbs}]}),
        );
        api
    }

    /// A second offering, so that there is something to choose.
    pub fn add_offering(&self) {
        self.put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.b.io", json!({
            "metadata": {"labels": {"kube-bind.io/exported": "true"}},
            "spec": {"group": "b.io", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}
        }));
        self.put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/others.c.io", json!({
            "metadata": {"labels": {"kube-bind.io/exported": "true"}},
            "spec": {"group": "c.io", "scope": "Namespaced", "names": {"plural": "others", "kind": "Other"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}
        }));
    }

    pub fn put(&self, path: &str, mut object: Value) {
        let mut store = self.store.lock();
        name(path, &mut object);
        stamp(&mut store, &mut object);
        store.objects.insert(path.to_owned(), object);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.store.lock().objects.get(path).cloned()
    }

    /// Everything written so far, as `VERB path`; access reviews aside.
    pub fn writes(&self) -> Vec<String> {
        self.store.lock().writes.clone()
    }

    pub fn client(&self) -> kube_client::Api {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(|err| std::io::Error::other(err.to_string()))?.to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let (status, answer) =
                    api.answer(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default(), body);
                let response = Response::builder()
                    .status(status)
                    .header("content-type", "application/json")
                    .body(Body::from(answer.to_string().into_bytes()))
                    .unwrap();
                Ok::<_, std::io::Error>(response)
            }
        });
        kube_client::Api::new(kube::Client::new(service, "default"), "provider")
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: Value) -> (StatusCode, Value) {
        let mut store = self.store.lock();
        let path = path.replace("%3A", ":");
        if path.ends_with("/subjectaccessreviews") {
            let mut review = body;
            assert_eq!(review["spec"]["resourceAttributes"], json!({"verb": "bind", "group": "kube-bind.io"}));
            // Grace is allowed by her group only, everybody else but Mallory by name.
            let groups =
                review["spec"]["groups"].as_array().is_some_and(|groups| groups.contains(&json!("engineering")));
            let user = &review["spec"]["user"];
            review["status"] = json!({"allowed": user != "mallory" && (user != "grace" || groups)});
            return (StatusCode::CREATED, review);
        }
        if method != Method::GET {
            store.writes.push(format!("{method} {path}"));
        }
        match *method {
            Method::GET => match store.objects.get(&path) {
                Some(object) => (StatusCode::OK, object.clone()),
                None if is_collection(&path) => list(&store, &path, query),
                None => status(404, "NotFound"),
            },
            Method::POST => {
                let mut object = body;
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                if store.objects.contains_key(&path) {
                    return status(409, "AlreadyExists");
                }
                if object["type"] == "kubernetes.io/service-account-token" {
                    let token =
                        format!("token-{}-{}", object["metadata"]["namespace"].as_str().unwrap(), store.revision);
                    object["data"] = json!({"token": STANDARD.encode(token)});
                }
                stamp(&mut store, &mut object);
                store.objects.insert(path, object.clone());
                (StatusCode::CREATED, object)
            }
            Method::PATCH => match store.objects.get(&path).cloned() {
                Some(mut object) => {
                    merge(&mut object, &body);
                    stamp(&mut store, &mut object);
                    store.objects.insert(path, object.clone());
                    (StatusCode::OK, object)
                }
                None => status(404, "NotFound"),
            },
            Method::DELETE => match store.objects.remove(&path) {
                Some(object) => (StatusCode::OK, object),
                None => status(404, "NotFound"),
            },
            _ => status(405, "MethodNotAllowed"),
        }
    }
}

/// Collections end with a plural: an odd number of segments after group and version, or after the namespace.
fn is_collection(path: &str) -> bool {
    let segments = path.trim_start_matches('/').split('/').count();
    let base = if path.starts_with("/api/") { 2 } else { 3 };
    (segments - base) % 2 == 1
}

fn name(path: &str, object: &mut Value) {
    object["metadata"]["name"] = json!(path.rsplit('/').next().unwrap());
}

fn stamp(store: &mut Store, object: &mut Value) {
    store.revision += 1;
    object["metadata"]["resourceVersion"] = json!(store.revision.to_string());
    if object["metadata"]["uid"].is_null() {
        object["metadata"]["uid"] = json!(format!("uid-{}", store.revision));
    }
}

fn list(store: &Store, path: &str, query: &str) -> (StatusCode, Value) {
    let exported = query.contains("exported");
    let items: Vec<&Value> = store
        .objects
        .iter()
        .filter(|(key, _)| key.rsplit_once('/').is_some_and(|(parent, _)| parent == path))
        .map(|(_, object)| object)
        .filter(|object| !exported || object["metadata"]["labels"]["kube-bind.io/exported"] == "true")
        .collect();
    (StatusCode::OK, json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}))
}

fn status(code: u16, reason: &str) -> (StatusCode, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
    (StatusCode::from_u16(code).unwrap(), body)
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else { return };
    for (key, value) in fields {
        if value.is_null() {
            if let Some(map) = target.as_object_mut() {
                map.remove(key);
            }
        } else if value.is_object() && target[key].is_object() {
            merge(&mut target[key], value);
        } else {
            target[key] = value.clone();
        }
    }
}
