//! Requests against one API server on raw JSON objects, each with the precondition that makes it safe. In: a
//! [`Resource`], a key, a body. Out: the object as the server answered it, or an [`ApiError`].
//!
//! Server-side apply comes in two forms only (tried on kube-apiserver 1.36): *create-only* carries
//! `metadata.resourceVersion: "1"` and is a 409 wherever an object is; *update-only* carries `metadata.uid` and is a 409
//! where nothing is. So nothing foreign is taken over and nothing deleted comes back.

mod read;
mod undeclared;

pub use self::read::{Frame, ListQuery, Listed, Page};

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

use crate::{
    error::{ApiError, Class, chain, classify_answer, patience, read_status},
    resource::{Resource, encode},
    store::ObjectKey,
    transport::Lanes,
};

/// Requests but watches are given up after this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What API servers say that take the precondition of a create-only apply for a mistake.
const NOTHING_THERE: &str = "resourceVersion should not be set on objects to be created";

/// Which part of an object a write goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// The object itself.
    Main,
    /// Its `status`.
    Status,
}

impl Subresource {
    fn path(self) -> Option<&'static str> {
        match self {
            Self::Main => None,
            Self::Status => Some("status"),
        }
    }
}

/// The name under which server-side apply records ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldManager(pub &'static str);

/// A connection to one API server.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    /// Connections for watches; without them, watches share the client.
    lanes: Option<Arc<Lanes>>,
    side: Arc<str>,
    /// Watches that broke and were begun anew.
    restarts: Arc<AtomicU64>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("side", &self.side).finish_non_exhaustive()
    }
}

impl Api {
    /// Wraps a client; `side` names the cluster in error messages.
    pub fn new(client: kube::Client, side: &str) -> Self {
        Self { client, lanes: None, side: side.into(), restarts: Arc::default() }
    }

    /// The same, with connections of their own for watches.
    pub fn with_lanes(self, lanes: Arc<Lanes>) -> Self {
        Self { lanes: Some(lanes), ..self }
    }

    /// The same, counting in `counter` how often a watch broke and was begun anew.
    pub fn counting_restarts(self, counter: Arc<AtomicU64>) -> Self {
        Self { restarts: counter, ..self }
    }

    /// A watch broke and is begun anew.
    pub(crate) fn note_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// The name of the cluster in messages.
    pub fn side(&self) -> &str {
        &self.side
    }

    /// Reads one object; a missing one is an error of class [`Class::NotFound`].
    pub async fn get(&self, resource: &Resource, key: &ObjectKey) -> Result<Value, ApiError> {
        let path = resource.object_path(key.namespace(), &key.name, None);
        self.call("get", resource, key, Method::GET, &path, None, None).await
    }

    /// Reads one object; `None` when the server says that it is not there.
    pub async fn get_opt(&self, resource: &Resource, key: &ObjectKey) -> Result<Option<Value>, ApiError> {
        match self.get(resource, key).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// POSTs an object with a fixed name.
    pub async fn create(&self, resource: &Resource, namespace: Option<&str>, body: &Value) -> Result<Value, ApiError> {
        self.post(resource, namespace, body, "").await
    }

    /// As [`Self::create`], admitted and validated but not stored.
    pub async fn try_create(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.post(resource, namespace, body, "?dryRun=All").await
    }

    async fn post(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        body: &Value,
        query: &str,
    ) -> Result<Value, ApiError> {
        let key = ObjectKey::new(namespace.unwrap_or_default(), body["metadata"]["name"].as_str().unwrap_or_default());
        let path = resource.collection_path(namespace) + query;
        self.call("create", resource, &key, Method::POST, &path, Some(body), Some("application/json")).await
    }

    /// Server-side apply that only creates: 409 where an object of that name is.
    pub async fn apply_create_only(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        body: &Value,
        manager: FieldManager,
    ) -> Result<Value, ApiError> {
        let mut body = body.clone();
        body["metadata"]["resourceVersion"] = json!("1");
        match self.apply(resource, key, &body, manager, Subresource::Main).await {
            // Kubernetes 1.20 on Services: it says of the precondition, not of the object, that nothing is there.
            Err(error) if error.message.contains(NOTHING_THERE) => {
                if let Some(metadata) = body["metadata"].as_object_mut() {
                    metadata.remove("resourceVersion");
                }
                let query = format!("?fieldManager={}", encode(manager.0));
                let made = self.post(resource, key.namespace(), &body, &query).await?;
                self.own_as_applied(resource, key, &made, manager).await
            }
            answer => answer,
        }
    }

    /// Makes the fields of an object that we have just POSTed ours as if applied: what a later apply drops goes away.
    async fn own_as_applied(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        made: &Value,
        manager: FieldManager,
    ) -> Result<Value, ApiError> {
        let mut entries = made["metadata"]["managedFields"].clone();
        for entry in entries.as_array_mut().into_iter().flatten().filter(|entry| entry["manager"] == manager.0) {
            entry["operation"] = json!("Apply");
        }
        let uid = made["metadata"]["uid"].as_str().unwrap_or_default();
        self.put_managed_fields(resource, key, made, uid, &entries, manager).await
    }

    /// Says anew who owns which fields of the object of that uid, as it is in `live`; [`Class::Conflict`] where it is another
    /// by now.
    pub async fn put_managed_fields(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        live: &Value,
        uid: &str,
        entries: &Value,
        manager: FieldManager,
    ) -> Result<Value, ApiError> {
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        ]);
        self.json_patch(resource, key, Subresource::Main, &patch, manager).await
    }

    /// Server-side apply that only updates the object of that uid: 409 where nothing is or another uid.
    pub async fn apply_update_only(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        body: &Value,
        uid: &str,
        manager: FieldManager,
    ) -> Result<Value, ApiError> {
        let mut body = body.clone();
        body["metadata"]["uid"] = json!(uid);
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        self.apply(resource, key, &body, manager, Subresource::Main).await.map_err(|mut error| {
            // A differing uid is reported as 422 on metadata.uid: for callers the object that they meant is gone.
            if error.code == 422 && error.message.contains("metadata.uid") {
                error.class = Class::Conflict;
            }
            error
        })
    }

    /// Forced server-side apply as is (an upsert). Callers outside of the two forms above must have a reason. What an old
    /// API server does not know in a CRD is left out, and the log says so.
    pub async fn apply(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        body: &Value,
        manager: FieldManager,
        subresource: Subresource,
    ) -> Result<Value, ApiError> {
        let path = patch_path(resource, key, subresource, manager) + "&force=true";
        let apply = async |body: &Value| {
            let content = Some("application/apply-patch+yaml");
            self.call("apply", resource, key, Method::PATCH, &path, Some(body), content).await
        };
        let mut error = match apply(body).await {
            Err(error) if resource.group == "apiextensions.k8s.io" => error,
            answer => return answer,
        };
        let (mut body, mut fields) = (body.clone(), Vec::new());
        // Some servers name all of them, some one at a time; each round leaves out one at least, so it ends.
        let answer = loop {
            let Some((less, out)) = undeclared::without(&error.message, &body) else { return Err(error) };
            body = less;
            fields.extend(out);
            match apply(&body).await {
                Ok(answer) => break answer,
                Err(another) => error = another,
            }
        };
        tracing::warn!(
            side = self.side(), crd = %key, fields = fields.join(", "),
            "the API server is too old for these fields of the CRD: it is applied without them, and what they check is not \
             checked there (rules, x-kubernetes-validations, need Kubernetes 1.25)"
        );
        Ok(answer)
    }

    /// JSON merge patch (RFC 7386). `metadata.uid`/`metadata.resourceVersion` in the patch are preconditions (409).
    pub async fn merge_patch(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        subresource: Subresource,
        patch: &Value,
        manager: FieldManager,
    ) -> Result<Value, ApiError> {
        let path = patch_path(resource, key, subresource, manager);
        self.call("patch", resource, key, Method::PATCH, &path, Some(patch), Some("application/merge-patch+json")).await
    }

    /// JSON patch (RFC 6902, as Kubernetes does it). A failed `test` comes back as class [`Class::Conflict`].
    pub async fn json_patch(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        subresource: Subresource,
        patch: &Value,
        manager: FieldManager,
    ) -> Result<Value, ApiError> {
        let path = patch_path(resource, key, subresource, manager);
        self.call("patch", resource, key, Method::PATCH, &path, Some(patch), Some("application/json-patch+json"))
            .await
            .map_err(|mut error| {
                if error.code == 422 && is_unmet(&error.message) {
                    error.class = Class::Conflict;
                }
                error
            })
    }

    /// Replaces (`Some`) or removes (`None`) the whole `status` of the object of that uid, whatever its shape.
    pub async fn put_status(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        uid: &str,
        status: Option<&Value>,
        subresource: Subresource,
        manager: FieldManager,
    ) -> Result<Value, ApiError> {
        let change = match status {
            Some(status) => json!({"op": "add", "path": "/status", "value": status}),
            None => json!({"op": "remove", "path": "/status"}),
        };
        let patch = json!([{"op": "test", "path": "/metadata/uid", "value": uid}, change]);
        self.json_patch(resource, key, subresource, &patch, manager).await
    }

    /// Deletes the object of exactly that uid, in the background manner. Gone already is not an error; another uid is
    /// class [`Class::Conflict`].
    pub async fn delete(&self, resource: &Resource, key: &ObjectKey, uid: &str) -> Result<(), ApiError> {
        let path = resource.object_path(key.namespace(), &key.name, None);
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": uid}, "propagationPolicy": "Background",
        });
        let answer =
            self.call("delete", resource, key, Method::DELETE, &path, Some(&options), Some("application/json")).await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes a finalizer off the object as it was read (`live`): 409 when it has changed since. `Ok(None)` when the
    /// finalizer was not on it.
    pub async fn remove_finalizer(
        &self,
        resource: &Resource,
        live: &Value,
        finalizer: &str,
        manager: FieldManager,
    ) -> Result<Option<Value>, ApiError> {
        let finalizers = finalizers_of(live);
        if !finalizers.contains(&finalizer) {
            return Ok(None);
        }
        let left: Vec<&str> = finalizers.into_iter().filter(|f| *f != finalizer).collect();
        let patch = json!({"metadata": {
            "uid": live["metadata"]["uid"], "resourceVersion": live["metadata"]["resourceVersion"],
            "finalizers": if left.is_empty() { Value::Null } else { json!(left) },
        }});
        let Some(key) = ObjectKey::of(live) else { return Ok(None) };
        self.merge_patch(resource, &key, Subresource::Main, &patch, manager).await.map(Some)
    }

    /// Puts a finalizer (and annotations with it, in the same write) on the object as it was read: 409 when it has
    /// changed since.
    pub async fn add_finalizer(
        &self,
        resource: &Resource,
        live: &Value,
        finalizer: &str,
        annotations: &[(&str, &str)],
        manager: FieldManager,
    ) -> Result<Value, ApiError> {
        let mut finalizers: Vec<&str> = finalizers_of(live);
        if !finalizers.contains(&finalizer) {
            finalizers.push(finalizer);
        }
        let mut metadata = json!({
            "uid": live["metadata"]["uid"], "resourceVersion": live["metadata"]["resourceVersion"],
            "finalizers": finalizers,
        });
        for (name, value) in annotations {
            metadata["annotations"][*name] = json!(value);
        }
        let key = ObjectKey::of(live).unwrap_or_else(|| ObjectKey::cluster(""));
        self.merge_patch(resource, &key, Subresource::Main, &json!({"metadata": metadata}), manager).await
    }

    /// GET of a non-resource path such as `/version`.
    pub async fn raw_get(&self, path: &str) -> Result<Value, ApiError> {
        let nothing = Resource::new("", "", path, "");
        self.call("get", &nothing, &ObjectKey::cluster(""), Method::GET, path, None, None).await
    }

    // Boxed from here on: what is not is compiled anew in every crate that awaits it.
    fn call<'a>(
        &'a self,
        verb: &'static str,
        resource: &'a Resource,
        key: &'a ObjectKey,
        method: Method,
        path: &'a str,
        body: Option<&'a Value>,
        content_type: Option<&'static str>,
    ) -> BoxFuture<'a, Result<Value, ApiError>> {
        async move {
            let bytes = self.bytes(verb, resource, key, method, path, body, content_type).await?;
            serde_json::from_slice(&bytes).map_err(|e| self.failure(verb, resource, key, Class::Decode, &e))
        }
        .boxed()
    }

    fn bytes<'a>(
        &'a self,
        verb: &'static str,
        resource: &'a Resource,
        key: &'a ObjectKey,
        method: Method,
        path: &'a str,
        body: Option<&'a Value>,
        content_type: Option<&'static str>,
    ) -> BoxFuture<'a, Result<bytes::Bytes, ApiError>> {
        async move {
            let work = async {
                let answer = self.send(verb, resource, key, method, path, body, content_type).await?;
                let collected = answer.into_body().collect().await;
                collected
                    .map(http_body_util::Collected::to_bytes)
                    .map_err(|e| self.failure(verb, resource, key, Class::Unreachable, &e))
            };
            match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
                Ok(result) => result,
                Err(elapsed) => Err(self.failure(verb, resource, key, Class::Unreachable, &elapsed)),
            }
        }
        .boxed()
    }

    async fn send(
        &self,
        verb: &'static str,
        resource: &Resource,
        key: &ObjectKey,
        method: Method,
        path: &str,
        body: Option<&Value>,
        content_type: Option<&'static str>,
    ) -> Result<http::Response<Body>, ApiError> {
        self.send_over(self.client.clone(), verb, resource, key, method, path, body, content_type).await
    }

    fn send_over<'a>(
        &'a self,
        client: kube::Client,
        verb: &'static str,
        resource: &'a Resource,
        key: &'a ObjectKey,
        method: Method,
        path: &'a str,
        body: Option<&'a Value>,
        content_type: Option<&'static str>,
    ) -> BoxFuture<'a, Result<http::Response<Body>, ApiError>> {
        async move {
            let bytes = match body {
                Some(body) => {
                    serde_json::to_vec(body).map_err(|e| self.failure(verb, resource, key, Class::Decode, &e))?
                }
                None => Vec::new(),
            };
            let mut request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::ACCEPT, "application/json")
                .header(header::ACCEPT_ENCODING, "identity")
                .header(header::USER_AGENT, concat!("kube-bind/", env!("CARGO_PKG_VERSION")));
            if let Some(content_type) = content_type {
                request = request.header(header::CONTENT_TYPE, content_type);
            }
            let request =
                request.body(Body::from(bytes)).map_err(|e| self.failure(verb, resource, key, Class::Invalid, &e))?;
            let sent = tokio::time::timeout(REQUEST_TIMEOUT, client.send(request)).await;
            let answer = match sent {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return Err(self.failure(verb, resource, key, Class::Unreachable, &error)),
                Err(elapsed) => return Err(self.failure(verb, resource, key, Class::Unreachable, &elapsed)),
            };
            if answer.status().is_success() {
                return Ok(answer);
            }
            let code = answer.status().as_u16();
            let header_retry = answer
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|v| v.to_str().ok())
                .and_then(|v| v.parse().ok())
                .map(Duration::from_secs)
                .map(patience);
            let body = tokio::time::timeout(REQUEST_TIMEOUT, answer.into_body().collect()).await;
            let body = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let (reason, message, status_retry) = read_status(&body, code);
            Err(ApiError {
                side: self.side.to_string(),
                verb,
                target: format!("{resource} {key}"),
                class: classify_answer(code, &reason, &message),
                code,
                reason,
                message,
                retry_after: header_retry.or(status_retry),
            })
        }
        .boxed()
    }

    fn failure(
        &self,
        verb: &'static str,
        resource: &Resource,
        key: &ObjectKey,
        class: Class,
        error: &dyn std::error::Error,
    ) -> ApiError {
        ApiError {
            side: self.side.to_string(),
            verb,
            target: format!("{resource} {key}"),
            class,
            code: 0,
            reason: String::new(),
            message: chain(error),
            retry_after: None,
        }
    }
}

/// Whether a refused JSON patch is one whose `test` failed, or that does not fit the object as it is by now. The content of
/// an object that fits is refused in other words: `Kind.group "name" is invalid`, whatever its name and fields are.
fn is_unmet(message: &str) -> bool {
    let words = ["the server rejected our request due to an error in our request", "test failed"];
    !message.contains(" is invalid") && words.iter().any(|word| message.contains(word))
}

/// Where a patch of any form goes.
fn patch_path(resource: &Resource, key: &ObjectKey, subresource: Subresource, manager: FieldManager) -> String {
    let object = resource.object_path(key.namespace(), &key.name, subresource.path());
    format!("{object}?fieldManager={}", encode(manager.0))
}

/// The finalizers on an object.
pub fn finalizers_of(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("the server rejected our request due to an error in our request", true)]
    #[case("testing value /metadata/uid failed: test failed", true)]
    #[case("Kudu.example.com \"test\" is invalid: status.latest: Invalid value: \"string\"", false)]
    #[case("admission webhook \"latest.example.com\" denied the request: no", false)]
    fn only_a_patch_that_does_not_fit_is_a_conflict(#[case] message: &str, #[case] unmet: bool) {
        assert_eq!(is_unmet(message), unmet);
    }
}
