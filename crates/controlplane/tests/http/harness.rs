//! One control plane in memory and a client for it.

use std::time::Duration;

use controlplane::{ControlPlane, Options};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// A running control plane.
pub struct Server {
    pub plane: ControlPlane,
    pub client: Client,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub warnings: Vec<String>,
    pub body: Value,
}

impl Answer {
    /// The body of a success.
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{self:#?}");
        self.body
    }

    /// The message of a failure with this code.
    pub fn failed(self, code: u16) -> String {
        assert_eq!(self.status.as_u16(), code, "{self:#?}");
        self.body["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// The lines of a watch.
pub struct Lines {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next event; `None` when the stream ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.response.chunk()).await;
            match chunk.expect("an event within ten seconds").unwrap() {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return None,
            }
        }
    }

    /// Type and name of the next event.
    pub async fn seen(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("/type"), text("/object/metadata/name"))
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Options { clusters: vec!["default".into(), "a".into(), "b".into()], ..Options::default() }).await
    }

    pub async fn with(options: Options) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let plane = ControlPlane::start(options).await.unwrap();
        let ca = reqwest::Certificate::from_pem(plane.ca_pem().as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([ca]).build().unwrap();
        Self { plane, client }
    }

    /// Sends a request as the administrator of all clusters.
    pub async fn send(&self, method: Method, path: &str, content: &str, body: impl Into<Vec<u8>>) -> Answer {
        let token = self.plane.admin_token("*");
        self.send_as(&token, method, path, content, body).await
    }

    pub async fn send_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        content: &str,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let request = self
            .client
            .request(method, format!("{}{path}", self.plane.url()))
            .bearer_auth(token)
            .header("content-type", content)
            .header("user-agent", "test/1")
            .body(body.into());
        let response = request.send().await.unwrap();
        let warnings = response.headers().get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        let status = response.status();
        let text = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&text).unwrap_or_else(|_| String::from_utf8_lossy(&text).into());
        Answer { status, warnings, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "application/json", "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, "application/json", body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, "application/json", body.to_string()).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(Method::DELETE, path, "application/json", body).await
    }

    /// A patch; `kind` is `json`, `merge`, `strategic-merge` or `apply`.
    pub async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        let content = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            kind => format!("application/{kind}-patch+json"),
        };
        self.send(Method::PATCH, path, &content, body.to_string()).await
    }

    pub async fn watch(&self, path: &str) -> Lines {
        let request = self.client.get(format!("{}{path}", self.plane.url())).bearer_auth(self.plane.admin_token("*"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Lines { response, buffer: Vec::new() }
    }

    /// Waits until a path answers with a code.
    pub async fn until(&self, path: &str, code: u16) -> Answer {
        for _ in 0..200 {
            let answer = self.get(path).await;
            if answer.status.as_u16() == code {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{path} did not answer with {code} within five seconds");
    }
}

/// A ConfigMap.
pub fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A definition of `mangodbs.mangodb.com` with defaults, a rule and subresources.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "mangodbs.mangodb.com"},
        "spec": {
            "group": "mangodb.com", "scope": "Namespaced",
            "names": {"plural": "mangodbs", "kind": "MangoDB", "shortNames": ["mdb"]},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["tier"], "properties": {
                        "tier": {"type": "string", "enum": ["Shared", "Dedicated"]},
                        "replicas": {"type": "integer", "default": 1, "minimum": 1},
                        "backup": {"type": "boolean"},
                    }, "x-kubernetes-validations": [
                        {"rule": "self.tier == 'Dedicated' || self.replicas == 1", "message": "shared tiers have one replica"},
                    ]},
                    "status": {"type": "object", "properties": {
                        "phase": {"type": "string"}, "replicas": {"type": "integer"},
                    }},
                }}},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "additionalPrinterColumns": [{"name": "Tier", "type": "string", "jsonPath": ".spec.tier"}],
            }],
        },
    })
}
