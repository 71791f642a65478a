//! A provider with one exported kind and a running backend, and consumers of it.

use std::time::Duration;

use backend::contracts::{self, Issuing};
use backend::identity::oidc::Person;
use backend::{Config, KubeSource};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::rbac;
use kube_bind_api::{
    APIServiceExport, APIServiceExportRequest, APIServiceExportTemplate, APIServiceNamespace, GroupResource,
    InformerScope, Isolation,
};
use kube_client::{Api, FieldManager, ListQuery, ObjectKey, Resource, Subresource, connect};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const MANAGER: FieldManager = FieldManager("test");

pub struct Provider {
    pub admin: Api,
    pub server: String,
    pub ca: String,
    pub backend: String,
    pub issuing: Issuing,
    pub stop: CancellationToken,
    pub running: Option<(CancellationToken, JoinHandle<()>)>,
    pub _embedded: Option<controlplane::ControlPlane>,
    pub suffix: String,
    pub scope: &'static str,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn eventually<F: Future<Output = Option<T>>, T>(what: &str, check: impl Fn() -> F) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub fn resource(group: &str, plural: &str, kind: &str) -> Resource {
    Resource::new(group, "v1", plural, kind)
}

pub fn secrets() -> Resource {
    resource("", "secrets", "Secret")
}

pub fn of<K: kube::Resource<DynamicType = ()>>() -> Resource {
    backend::resources::of::<K>()
}

pub async fn apply(api: &Api, kind: &Resource, namespace: &str, object: &impl serde::Serialize) -> Value {
    let mut body = serde_json::to_value(object).unwrap();
    body["apiVersion"] = json!(kind.api_version());
    body["kind"] = json!(kind.kind);
    let key = ObjectKey::new(namespace, body["metadata"]["name"].as_str().unwrap());
    api.apply(kind, &key, &body, MANAGER, Subresource::Main).await.unwrap()
}

pub fn widget_crd(kind: &GroupResource, scope: &str) -> Value {
    json!({
        "metadata": {"name": kind.crd_name(), "labels": {"kube-bind.io/exported": "true"}},
        "spec": {"group": kind.group, "scope": scope,
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"tokenSecret": {"type": "string"}, "mode": {"type": "string"}}},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}
    })
}

impl Provider {
    /// An API server with CRDs, generated rights, one exported kind with a template, and a running backend.
    pub async fn start(isolation: Isolation) -> Self {
        Self::start_with(isolation, "Namespaced").await
    }

    pub async fn start_with(isolation: Isolation, scope: &'static str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let _ = tracing_subscriber::fmt().with_env_filter("backend=debug,warn").with_test_writer().try_init();
        let (embedded, admin) = match std::env::var("KUBE_BIND_TEST_KUBECONFIG") {
            Ok(path) => (None, std::fs::read_to_string(path).unwrap()),
            Err(_) => {
                let options = controlplane::Options { clusters: vec!["provider".into()], ..Default::default() };
                let embedded = controlplane::ControlPlane::start(options).await.unwrap();
                let admin = embedded.admin_kubeconfig("provider");
                (Some(embedded), admin)
            }
        };
        let connection = connect::from_kubeconfig(&admin, None).await.unwrap();
        let api = Api::new(connection.client, "provider");
        let kubeconfig: Value = serde_saphyr::from_str(&admin).unwrap();
        let cluster = kubeconfig["clusters"][0]["cluster"].clone();
        let ca = cluster["certificate-authority-data"]
            .as_str()
            .map(|text| STANDARD.decode(text).unwrap())
            .unwrap_or_default();
        let server = connection.server.trim_end_matches('/').to_owned();
        // On a shared API server every test has names of its own.
        let suffix = format!("x{:x}", rand::random::<u32>());
        let mut provider = Self {
            admin: api,
            backend: String::new(),
            issuing: Issuing {
                pretty_name: "Widget Inc.".into(),
                namespace_prefix: format!("{suffix}-"),
                server: server.clone(),
                ca: String::from_utf8(ca.clone()).unwrap(),
                tls_server_name: None,
                informer_scope: InformerScope::Namespaced,
                isolation,
                user: "system:serviceaccount:kube-bind:backend".into(),
            },
            server,
            ca: String::from_utf8(ca).unwrap(),
            stop: CancellationToken::new(),
            running: None,
            _embedded: embedded,
            suffix,
            scope,
        };
        if provider._embedded.is_none() {
            provider.issue_tokens();
        }
        provider.install().await;
        let token = provider.token("kube-bind", "backend").await;
        provider.backend = provider.kubeconfig(&token, "default");
        provider.start_backend();
        provider
    }

    pub fn start_backend(&mut self) {
        let config = Config {
            kube: KubeSource::Text(self.backend.clone()),
            listen: ([127, 0, 0, 1], 0).into(),
            namespace_prefix: self.issuing.namespace_prefix.clone(),
            isolation: self.issuing.isolation,
            external_address: Some(self.server.clone()),
            ..Config::default()
        };
        let stop = self.stop.child_token();
        let end = stop.clone();
        let task = tokio::spawn(async move { backend::run(config, stop, None).await.unwrap() });
        self.running = Some((end, task));
    }

    pub async fn stop_backend(&mut self) {
        if let Some((end, task)) = self.running.take() {
            end.cancel();
            task.await.unwrap();
        }
    }

    /// The backend's own connection, without its controllers.
    pub async fn backend(&self) -> Api {
        Api::new(connect::from_kubeconfig(&self.backend, None).await.unwrap().client, "provider")
    }

    /// Somebody with a login.
    pub fn person(&self, subject: &str) -> Person {
        let subject = format!("{subject}-{}", self.suffix);
        Person { issuer: "https://issuer".into(), subject: subject.clone(), groups: vec![], display: subject }
    }

    /// The exported kind is granted to the backend, or not any more.
    pub async fn granted(&self, granted: bool) {
        let roles = resource(rbac::RBAC_GROUP, "clusterroles", "ClusterRole");
        let key = ObjectKey::cluster(rbac::backend::OFFERS);
        let mut rules = self.admin.get(&roles, &key).await.unwrap()["rules"].clone();
        let list = rules.as_array_mut().unwrap();
        list.retain(|rule| rule["apiGroups"][0] != self.kind().group.as_str());
        if granted {
            list.push(serde_json::to_value(rbac::backend::offer_rule(&self.kind())).unwrap());
        }
        let patch = json!([{"op": "replace", "path": "/rules", "value": rules}]);
        self.admin.json_patch(&roles, &key, Subresource::Main, &patch, MANAGER).await.unwrap();
    }

    pub async fn install(&self) {
        let crds = resource("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition");
        for crd in kube_bind_api::provider_crds() {
            apply(&self.admin, &crds, "", &crd).await;
        }
        let crd = apply(&self.admin, &crds, "", &widget_crd(&self.kind(), self.scope)).await;
        let name = crd["metadata"]["name"].as_str().unwrap().to_owned();
        for name in [name, "apiserviceexporttemplates.kube-bind.io".to_owned(), "collections.kube-bind.io".to_owned()] {
            eventually("CRD established", || async {
                let live = self.admin.get(&crds, &ObjectKey::cluster(&name)).await.unwrap();
                let list = live["status"]["conditions"].as_array()?.clone();
                list.iter().find(|c| c["type"] == "Established" && c["status"] == "True").cloned()
            })
            .await;
        }
        apply(&self.admin, &resource("", "namespaces", "Namespace"), "", &json!({"metadata": {"name": "kube-bind"}}))
            .await;
        let account = json!({"metadata": {"name": "backend", "namespace": "kube-bind"}});
        apply(&self.admin, &resource("", "serviceaccounts", "ServiceAccount"), "kube-bind", &account).await;
        let roles = resource(rbac::RBAC_GROUP, "clusterroles", "ClusterRole");
        let bindings = resource(rbac::RBAC_GROUP, "clusterrolebindings", "ClusterRoleBinding");
        let backend = rbac::service_account("kube-bind", "backend");
        apply(&self.admin, &roles, "", &rbac::backend::base()).await;
        apply(&self.admin, &bindings, "", &rbac::backend::base_binding(&backend)).await;
        apply(&self.admin, &roles, "", &rbac::backend::contracts()).await;
        apply(&self.admin, &roles, "", &rbac::backend::oidc_user()).await;
        // Tests that share an API server add to the offers of others.
        let key = ObjectKey::cluster(rbac::backend::OFFERS);
        match self.admin.get_opt(&roles, &key).await.unwrap() {
            None => {
                let own = [self.kind()];
                let mut body = serde_json::to_value(rbac::backend::offers(&own)).unwrap();
                body["apiVersion"] = json!(roles.api_version());
                body["kind"] = json!("ClusterRole");
                let _ = self.admin.create(&roles, None, &body).await;
            }
            Some(_) => {
                let patch =
                    json!([{"op": "add", "path": "/rules/-", "value": rbac::backend::offer_rule(&self.kind())}]);
                self.admin.json_patch(&roles, &key, Subresource::Main, &patch, MANAGER).await.unwrap();
            }
        }
        self.template(&json!({})).await;
    }

    pub async fn template(&self, more: &Value) {
        let mut path = json!({});
        if self.scope == "Cluster" || self.issuing.isolation == Isolation::Namespaced {
            path["namespace"] = json!(".spec.place");
        }
        let reference = |name: &str| {
            let mut path = path.clone();
            path["name"] = json!(name);
            json!({"references": [{"group": self.kind().group, "resource": "widgets", "jsonPath": path}]})
        };
        let mut spec = json!({
            "scope": "Namespaced", "resources": [self.kind()],
            "permissionClaims": [
                {"resource": "secrets", "owner": "Provider", "verbs": ["create"], "selector": reference(".spec.tokenSecret")},
                {"resource": "services", "owner": "Provider", "verbs": ["create"], "selector": reference(".metadata.name")}],
        });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let object = json!({"metadata": {"name": self.name()}, "spec": spec});
        apply(&self.admin, &of::<APIServiceExportTemplate>(), "", &object).await;
    }

    pub fn name(&self) -> String {
        format!("widget{}", self.suffix)
    }

    pub fn kind(&self) -> GroupResource {
        GroupResource::new(format!("{}.widgets.example", self.suffix), "widgets")
    }

    pub fn widgets(&self) -> Resource {
        resource(&self.kind().group, "widgets", "Widget")
    }

    pub async fn token(&self, namespace: &str, account: &str) -> String {
        // The subresource of a service account: there is no shorter way with this client.
        let kind = Resource::new("", "v1", &format!("serviceaccounts/{account}/token"), "TokenRequest");
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"name": account},
            "spec": {"expirationSeconds": 3600}});
        self.admin.create(&kind, Some(namespace), &body).await.unwrap()["status"]["token"].as_str().unwrap().to_owned()
    }

    pub fn kubeconfig(&self, token: &str, namespace: &str) -> String {
        let mut cluster = json!({"server": self.server});
        if self.ca.is_empty() {
            cluster["insecure-skip-tls-verify"] = json!(true);
        } else {
            cluster["certificate-authority-data"] = json!(STANDARD.encode(&self.ca));
        }
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c", "namespace": namespace}}],
            "users": [{"name": "c", "user": {"token": token}}]})
        .to_string()
    }

    /// What the token controller does.
    pub fn issue_tokens(&self) {
        let (admin, stop) = (self.admin.clone(), self.stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                for secret in admin.list(&secrets(), &ListQuery::default()).await.unwrap_or_default() {
                    let waiting =
                        secret["type"] == "kubernetes.io/service-account-token" && secret["data"]["token"].is_null();
                    let account = secret["metadata"]["annotations"]["kubernetes.io/service-account.name"].as_str();
                    if let (true, Some(account), Some(key)) = (waiting, account, ObjectKey::of(&secret)) {
                        let kind = Resource::new("", "v1", &format!("serviceaccounts/{account}/token"), "TokenRequest");
                        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"name": account},
                            "spec": {"expirationSeconds": 3600,
                                "boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": key.name}}});
                        if let Ok(answer) = admin.create(&kind, key.namespace(), &body).await {
                            let token = STANDARD.encode(answer["status"]["token"].as_str().unwrap_or_default());
                            let patch = json!({"data": {"token": token}});
                            let _ = admin.merge_patch(&secrets(), &key, Subresource::Main, &patch, MANAGER).await;
                        }
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    /// What a bind gives: the contract and the consumer's own connection.
    pub async fn contract(&self, subject: &str, cluster: &str) -> Consumer {
        let (backend, person) = (self.backend().await, self.person(subject));
        let made = contracts::ensure(&backend, &self.issuing, &person, cluster, "").await.unwrap();
        let mut kubeconfig: Value = serde_saphyr::from_str(std::str::from_utf8(&made.kubeconfig).unwrap()).unwrap();
        if self.ca.is_empty() {
            kubeconfig["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = json!(true);
        }
        let connection = connect::from_kubeconfig(&kubeconfig.to_string(), None).await.unwrap();
        assert_eq!(connection.namespace, made.namespace);
        let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap().to_owned();
        Consumer { api: Api::new(connection.client, "provider"), namespace: made.namespace, token }
    }
}

pub struct Consumer {
    pub api: Api,
    pub namespace: String,
    pub token: String,
}

impl Consumer {
    pub async fn request(&self, provider: &Provider, resource: &str) {
        self.ask(provider, &provider.name(), resource).await;
    }

    /// Asks for what the provider offers, under a name of one's own.
    pub async fn request_as(&self, provider: &Provider, name: &str) {
        self.ask(provider, name, &provider.kind().resource).await;
    }

    async fn ask(&self, provider: &Provider, name: &str, resource: &str) {
        let kind = of::<APIServiceExportRequest>();
        let body = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": name},
            "spec": {"resources": [{"group": provider.kind().group, "resource": resource, "versions": ["v1"]}]}});
        self.api.create(&kind, Some(&self.namespace), &body).await.unwrap();
    }

    pub async fn phase(&self, provider: &Provider) -> Value {
        let key = ObjectKey::new(&self.namespace, &provider.name());
        eventually("request answered", || async {
            let live = self.api.get(&of::<APIServiceExportRequest>(), &key).await.unwrap();
            (live["status"]["phase"] != "Pending" && live["status"]["phase"].is_string())
                .then(|| live["status"].clone())
        })
        .await
    }

    /// Bound, with all claims accepted; the mapped namespace for `default`.
    pub async fn bound(&self, provider: &Provider) -> String {
        self.request(provider, &provider.kind().resource).await;
        assert_eq!(self.phase(provider).await["phase"], "Succeeded");
        self.accept(provider).await;
        self.mapped("default").await
    }

    pub async fn accept(&self, provider: &Provider) {
        let kind = of::<APIServiceExport>();
        let key = ObjectKey::new(&self.namespace, &provider.name());
        let live = self.api.get(&kind, &key).await.unwrap();
        let mut claims = live["spec"]["permissionClaims"].as_array().unwrap().clone();
        claims.iter_mut().for_each(|claim| claim["state"] = json!("Accepted"));
        let patch = json!({"status": {"permissionClaims": claims}});
        self.api.merge_patch(&kind, &key, Subresource::Status, &patch, MANAGER).await.unwrap();
    }

    pub async fn map(&self, name: &str) {
        let kind = of::<APIServiceNamespace>();
        let body = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": name}, "spec": {}});
        self.api.create(&kind, Some(&self.namespace), &body).await.unwrap();
    }

    pub async fn mapped(&self, name: &str) -> String {
        self.map(name).await;
        eventually("namespace mapped", || async {
            self.mapping(name).await["status"]["namespace"].as_str().map(str::to_owned)
        })
        .await
    }

    pub async fn mapping(&self, name: &str) -> Value {
        self.api.get(&of::<APIServiceNamespace>(), &ObjectKey::new(&self.namespace, name)).await.unwrap()
    }

    /// The entry for a claimed object once it is as wanted.
    pub async fn entry(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("entry for {name}"), || async {
            let mapping = self.mapping("default").await;
            let list = mapping["status"]["claimedObjects"].as_array()?.clone();
            list.into_iter().find(|entry| entry["name"] == name && wanted(entry))
        })
        .await
    }

    pub async fn code(&self, kind: &Resource, key: &ObjectKey) -> u16 {
        match self.api.get(kind, key).await {
            Ok(_) => 200,
            Err(err) => err.code,
        }
    }

    pub async fn list_code(&self, kind: &Resource, namespace: Option<&str>) -> u16 {
        let query = ListQuery { namespace: namespace.map(str::to_owned), ..ListQuery::default() };
        match self.api.list(kind, &query).await {
            Ok(_) => 200,
            Err(err) => err.code,
        }
    }
}
