//! The controllers against an API server with RBAC: the embedded one, or the one whose administrator's kubeconfig
//! `KUBE_BIND_TEST_KUBECONFIG` names (its token controller is then done here, if it has none). The backend runs with the
//! rights of `contract::rbac` and nothing else; the consumer with the credential that it was given.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use backend::contracts::{self, Issuing};
use backend::identity::oidc::Person;
use backend::{Config, KubeSource};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::rbac;
use kube_bind_api::{
    APIServiceExport, APIServiceExportRequest, APIServiceExportTemplate, APIServiceNamespace, BoundSchema,
    ClusterBinding, GroupResource, InformerScope, Isolation,
};
use kube_client::{Api, FieldManager, ListQuery, ObjectKey, Resource, Subresource, connect};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const MANAGER: FieldManager = FieldManager("test");

struct Provider {
    admin: Api,
    server: String,
    ca: String,
    backend: String,
    issuing: Issuing,
    stop: CancellationToken,
    _embedded: Option<controlplane::ControlPlane>,
    suffix: String,
    scope: &'static str,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn eventually<F: Future<Output = Option<T>>, T>(what: &str, check: impl Fn() -> F) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn resource(group: &str, plural: &str, kind: &str) -> Resource {
    Resource::new(group, "v1", plural, kind)
}

fn secrets() -> Resource {
    resource("", "secrets", "Secret")
}

fn of<K: kube::Resource<DynamicType = ()>>() -> Resource {
    backend::resources::of::<K>()
}

async fn apply(api: &Api, kind: &Resource, namespace: &str, object: &impl serde::Serialize) -> Value {
    let mut body = serde_json::to_value(object).unwrap();
    body["apiVersion"] = json!(kind.api_version());
    body["kind"] = json!(kind.kind);
    let key = ObjectKey::new(namespace, body["metadata"]["name"].as_str().unwrap());
    api.apply(kind, &key, &body, MANAGER, Subresource::Main).await.unwrap()
}

fn widget_crd(kind: &GroupResource, scope: &str) -> Value {
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
    async fn start(isolation: Isolation) -> Self {
        Self::start_with(isolation, "Namespaced").await
    }

    async fn start_with(isolation: Isolation, scope: &'static str) -> Self {
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
        let config = Config {
            kube: KubeSource::Text(provider.backend.clone()),
            listen: ([127, 0, 0, 1], 0).into(),
            namespace_prefix: provider.issuing.namespace_prefix.clone(),
            isolation,
            external_address: Some(provider.server.clone()),
            ..Config::default()
        };
        let stop = provider.stop.clone();
        tokio::spawn(async move { backend::run(config, stop, None).await.unwrap() });
        provider
    }

    async fn install(&self) {
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

    async fn template(&self, more: &Value) {
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

    fn name(&self) -> String {
        format!("widget{}", self.suffix)
    }

    fn kind(&self) -> GroupResource {
        GroupResource::new(format!("{}.widgets.example", self.suffix), "widgets")
    }

    fn widgets(&self) -> Resource {
        resource(&self.kind().group, "widgets", "Widget")
    }

    async fn token(&self, namespace: &str, account: &str) -> String {
        // The subresource of a service account: there is no shorter way with this client.
        let kind = Resource::new("", "v1", &format!("serviceaccounts/{account}/token"), "TokenRequest");
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {"name": account},
            "spec": {"expirationSeconds": 3600}});
        self.admin.create(&kind, Some(namespace), &body).await.unwrap()["status"]["token"].as_str().unwrap().to_owned()
    }

    fn kubeconfig(&self, token: &str, namespace: &str) -> String {
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
    fn issue_tokens(&self) {
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
    async fn contract(&self, subject: &str, cluster: &str) -> Consumer {
        let backend = Api::new(connect::from_kubeconfig(&self.backend, None).await.unwrap().client, "provider");
        let subject = format!("{subject}-{}", self.suffix);
        let person =
            Person { issuer: "https://issuer".into(), subject: subject.clone(), groups: vec![], display: subject };
        let made = contracts::ensure(&backend, &self.issuing, &person, cluster, "").await.unwrap();
        let mut kubeconfig: Value = serde_saphyr::from_str(std::str::from_utf8(&made.kubeconfig).unwrap()).unwrap();
        if self.ca.is_empty() {
            kubeconfig["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = json!(true);
        }
        let connection = connect::from_kubeconfig(&kubeconfig.to_string(), None).await.unwrap();
        assert_eq!(connection.namespace, made.namespace);
        Consumer { api: Api::new(connection.client, "provider"), namespace: made.namespace }
    }
}

struct Consumer {
    api: Api,
    namespace: String,
}

impl Consumer {
    async fn request(&self, provider: &Provider, resource: &str) {
        let kind = of::<APIServiceExportRequest>();
        let body = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": provider.name()},
            "spec": {"resources": [{"group": provider.kind().group, "resource": resource, "versions": ["v1"]}]}});
        self.api.create(&kind, Some(&self.namespace), &body).await.unwrap();
    }

    async fn phase(&self, provider: &Provider) -> Value {
        let key = ObjectKey::new(&self.namespace, &provider.name());
        eventually("request answered", || async {
            let live = self.api.get(&of::<APIServiceExportRequest>(), &key).await.unwrap();
            (live["status"]["phase"] != "Pending" && live["status"]["phase"].is_string())
                .then(|| live["status"].clone())
        })
        .await
    }

    /// Bound, with all claims accepted; the mapped namespace for `default`.
    async fn bound(&self, provider: &Provider) -> String {
        self.request(provider, &provider.kind().resource).await;
        assert_eq!(self.phase(provider).await["phase"], "Succeeded");
        self.accept(provider).await;
        self.mapped("default").await
    }

    async fn accept(&self, provider: &Provider) {
        let kind = of::<APIServiceExport>();
        let key = ObjectKey::new(&self.namespace, &provider.name());
        let live = self.api.get(&kind, &key).await.unwrap();
        let mut claims = live["spec"]["permissionClaims"].as_array().unwrap().clone();
        claims.iter_mut().for_each(|claim| claim["state"] = json!("Accepted"));
        let patch = json!({"status": {"permissionClaims": claims}});
        self.api.merge_patch(&kind, &key, Subresource::Status, &patch, MANAGER).await.unwrap();
    }

    async fn map(&self, name: &str) {
        let kind = of::<APIServiceNamespace>();
        let body = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": name}, "spec": {}});
        self.api.create(&kind, Some(&self.namespace), &body).await.unwrap();
    }

    async fn mapped(&self, name: &str) -> String {
        self.map(name).await;
        eventually("namespace mapped", || async {
            self.mapping(name).await["status"]["namespace"].as_str().map(str::to_owned)
        })
        .await
    }

    async fn mapping(&self, name: &str) -> Value {
        self.api.get(&of::<APIServiceNamespace>(), &ObjectKey::new(&self.namespace, name)).await.unwrap()
    }

    /// The entry for a claimed object once it is as wanted.
    async fn entry(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("entry for {name}"), || async {
            let mapping = self.mapping("default").await;
            let list = mapping["status"]["claimedObjects"].as_array()?.clone();
            list.into_iter().find(|entry| entry["name"] == name && wanted(entry))
        })
        .await
    }

    async fn code(&self, kind: &Resource, key: &ObjectKey) -> u16 {
        match self.api.get(kind, key).await {
            Ok(_) => 200,
            Err(err) => err.code,
        }
    }

    async fn list_code(&self, kind: &Resource, namespace: Option<&str>) -> u16 {
        let query = ListQuery { namespace: namespace.map(str::to_owned), ..ListQuery::default() };
        match self.api.list(kind, &query).await {
            Ok(_) => 200,
            Err(err) => err.code,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_request_to_claimed_objects() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let mapped = alice.bound(&provider).await;
    assert_eq!(mapped, format!("{}-default", alice.namespace));

    let schema = ObjectKey::new(&alice.namespace, &provider.kind().crd_name());
    eventually("schema owned by the export", || async {
        let live = alice.api.get(&of::<BoundSchema>(), &schema).await.unwrap();
        (live["metadata"]["ownerReferences"][0]["kind"] == "APIServiceExport").then_some(())
    })
    .await;
    let export = ObjectKey::new(&alice.namespace, &provider.name());
    eventually("export in sync", || async {
        let live = alice.api.get(&of::<APIServiceExport>(), &export).await.unwrap();
        let list = live["status"]["conditions"].as_array()?.clone();
        list.into_iter().find(|c| c["type"] == "ProviderInSync" && c["status"] == "True")
    })
    .await;

    // The consumer's copy names a Secret: granted before it exists.
    let widget = json!({"metadata": {"name": "prod"}, "spec": {"tokenSecret": "token"}});
    let prod = apply(&alice.api, &provider.widgets(), &mapped, &widget).await;
    alice.entry("token", |entry| entry["uid"].is_null() && entry["owner"] == "Provider").await;
    alice.entry("prod", |entry| entry["resource"] == "services").await;
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "token")).await, 404, "granted, not there");
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "other")).await, 403);
    assert_eq!(alice.list_code(&secrets(), Some(&mapped)).await, 403, "no list of Secrets in a mapped namespace");
    assert_eq!(alice.list_code(&provider.widgets(), None).await, 403);
    assert_eq!(alice.list_code(&resource("", "namespaces", "Namespace"), None).await, 403);

    // The operator makes it.
    let made = json!({
        "metadata": {"name": "token", "namespace": mapped, "ownerReferences": [{"apiVersion": provider.widgets().api_version(),
            "kind": "Widget", "name": "prod", "uid": prod["metadata"]["uid"]}]},
        "stringData": {"token": "s3cret"},
    });
    let made = apply(&provider.admin, &secrets(), &mapped, &made).await;
    let uid = made["metadata"]["uid"].clone();
    alice.entry("token", |entry| entry["uid"] == uid && entry["deleted"].is_null()).await;
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "token")).await, 200);

    // What the operator keeps for itself is fetched by no name.
    let own = json!({"metadata": {"name": "root-password"}, "stringData": {"password": "p"}});
    apply(&provider.admin, &secrets(), &mapped, &own).await;
    let thief = json!({"metadata": {"name": "thief"}, "spec": {"tokenSecret": "root-password"}});
    apply(&alice.api, &provider.widgets(), &mapped, &thief).await;
    eventually("the refusal is visible", || async {
        let mapping = alice.mapping("default").await;
        let list = mapping["status"]["conditions"].as_array()?.clone();
        list.into_iter().find(|c| {
            c["type"] == "ClaimsResolved" && c["message"].as_str().unwrap_or_default().contains("root-password")
        })
    })
    .await;
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "root-password")).await, 403);

    // Evidence of its deletion.
    provider.admin.delete(&secrets(), &ObjectKey::new(&mapped, "token"), uid.as_str().unwrap()).await.unwrap();
    alice.entry("token", |entry| entry["uid"] == uid && entry["deleted"] == true).await;

    // A second consumer reaches nothing of it.
    let bob = provider.contract("bob", "uid-a").await;
    assert_ne!(bob.namespace, alice.namespace);
    let bobs = bob.bound(&provider).await;
    for namespace in [&alice.namespace, &mapped] {
        assert_eq!(bob.list_code(&provider.widgets(), Some(namespace)).await, 403);
        assert_eq!(bob.list_code(&secrets(), Some(namespace)).await, 403);
        assert_eq!(bob.code(&secrets(), &ObjectKey::new(namespace, "token")).await, 403);
        assert_eq!(bob.list_code(&of::<APIServiceExport>(), Some(namespace)).await, 403);
    }
    assert_eq!(bob.list_code(&provider.widgets(), Some(&bobs)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_granted_say_why_and_recover() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.request(&provider, "gadgets").await;
    let refused = alice.phase(&provider).await;
    assert_eq!(refused["phase"], "Failed");
    assert!(refused["terminalMessage"].as_str().unwrap().contains("does not offer gadgets."), "{refused}");
    assert_eq!(refused["conditions"][1]["reason"], "SchemaNotFound");

    // The label goes: not offered to others, what is bound stays; it comes back: the request is granted.
    let bob = provider.contract("bob", "uid-b").await;
    let crds = resource("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition");
    let crd = ObjectKey::cluster(&provider.kind().crd_name());
    let label = |value: Value| json!({"metadata": {"labels": {"kube-bind.io/exported": value}}});
    provider.admin.merge_patch(&crds, &crd, Subresource::Main, &label(Value::Null), MANAGER).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    bob.request(&provider, &provider.kind().resource).await;
    let refused = bob.phase(&provider).await;
    assert!(refused["terminalMessage"].as_str().unwrap().contains("kubectl bind provider offer"), "{refused}");
    provider.admin.merge_patch(&crds, &crd, Subresource::Main, &label(json!("true")), MANAGER).await.unwrap();
    let key = ObjectKey::new(&bob.namespace, &provider.name());
    eventually("granted after all", || async {
        let live = bob.api.get(&of::<APIServiceExportRequest>(), &key).await.unwrap();
        (live["status"]["phase"] == "Succeeded").then_some(())
    })
    .await;

    // A namespace that is somebody else's is not taken over.
    let taken = format!("{}-taken", bob.namespace);
    apply(&provider.admin, &resource("", "namespaces", "Namespace"), "", &json!({"metadata": {"name": taken}})).await;
    bob.map("taken").await;
    let mapping = eventually("refused", || async {
        let mapping = bob.mapping("taken").await;
        mapping["status"]["conditions"].is_array().then_some(mapping)
    })
    .await;
    assert_eq!(mapping["status"]["conditions"][0]["reason"], "ForeignNamespace");
    assert!(mapping["status"]["namespace"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_follow_the_template_and_rights_follow_consent() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let mapped = alice.bound(&provider).await;
    let widget = json!({"metadata": {"name": "prod"}, "spec": {"tokenSecret": "token"}});
    apply(&alice.api, &provider.widgets(), &mapped, &widget).await;
    alice.entry("token", |_| true).await;
    // The provider asks for more: the new claim is nobody's consent.
    let wider = json!({"permissionClaims": [{"resource": "secrets", "owner": "Provider", "verbs": ["create"],
        "selector": {"namedResources": [{"name": "more"}],
            "references": [{"group": provider.kind().group, "resource": "widgets", "jsonPath": {"name": ".spec.tokenSecret"}}]}}]});
    provider.template(&wider).await;
    let key = ObjectKey::new(&alice.namespace, &provider.name());
    eventually("claims follow", || async {
        let live = alice.api.get(&of::<APIServiceExport>(), &key).await.unwrap();
        (live["spec"]["permissionClaims"].as_array()?.len() == 1).then_some(())
    })
    .await;
    eventually("rights are gone", || async {
        (alice.code(&secrets(), &ObjectKey::new(&mapped, "token")).await == 403).then_some(())
    })
    .await;
    alice.accept(&provider).await;
    alice.entry("more", |_| true).await;
    assert_eq!(alice.code(&secrets(), &ObjectKey::new(&mapped, "more")).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_unbind_ends_the_contract_and_destroys_no_object() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let mapped = alice.bound(&provider).await;
    let empty = alice.mapped("empty").await;
    apply(&alice.api, &provider.widgets(), &mapped, &json!({"metadata": {"name": "kept"}, "spec": {}})).await;
    let export = ObjectKey::new(&alice.namespace, &provider.name());
    let live = alice.api.get(&of::<APIServiceExport>(), &export).await.unwrap();
    let uid = live["metadata"]["uid"].as_str().unwrap();
    alice.api.delete(&of::<APIServiceExport>(), &export, uid).await.unwrap();
    let namespaces = resource("", "namespaces", "Namespace");
    let going = |name: String| {
        let (admin, namespaces) = (provider.admin.clone(), namespaces.clone());
        async move {
            let live = admin.get_opt(&namespaces, &ObjectKey::cluster(&name)).await.unwrap();
            live.is_none_or(|live| live["metadata"]["deletionTimestamp"].is_string()).then_some(())
        }
    };
    eventually("the contract goes", || going(alice.namespace.clone())).await;
    eventually("the empty namespace goes", || going(empty.clone())).await;
    assert!(going(mapped.clone()).await.is_none(), "objects are left in it");
    assert!(provider.admin.get_opt(&provider.widgets(), &ObjectKey::new(&mapped, "kept")).await.unwrap().is_some());
    eventually("rights are withdrawn", || async {
        let roles = resource(rbac::RBAC_GROUP, "roles", "Role");
        provider.admin.list(&roles, &ListQuery::namespace(&mapped)).await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_one_consumer_ends_its_credential_only() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let (alice, bob) = (provider.contract("alice", "uid-a").await, provider.contract("bob", "uid-b").await);
    let key = ObjectKey::new(&alice.namespace, "cluster");
    let patch = json!({"metadata": {"annotations": {contracts::ANNOTATION_REVOKED: "2026-01-01T00:00:00Z"}}});
    provider.admin.merge_patch(&of::<ClusterBinding>(), &key, Subresource::Main, &patch, MANAGER).await.unwrap();
    eventually("the credential stops", || async {
        (alice.list_code(&of::<APIServiceExport>(), Some(&alice.namespace)).await == 401).then_some(())
    })
    .await;
    assert_eq!(bob.list_code(&of::<APIServiceExport>(), Some(&bob.namespace)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_approves_a_hand_over() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let kind = of::<ClusterBinding>();
    let key = ObjectKey::new(&alice.namespace, "cluster");
    let beat = |uid: &str| {
        json!({"status": {"lastHeartbeatTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "heartbeatInterval": "5m0s", "konnectorVersion": "v0.1.0", "consumerClusterUID": uid}})
    };
    alice.api.merge_patch(&kind, &key, Subresource::Status, &beat("uid-b"), MANAGER).await.unwrap();
    eventually("healthy", || async {
        let live = alice.api.get(&kind, &key).await.unwrap();
        let list = live["status"]["conditions"].as_array()?.clone();
        list.into_iter().find(|c| c["type"] == "Healthy" && c["status"] == "True")
    })
    .await;
    assert_eq!(
        alice.api.get(&kind, &key).await.unwrap()["spec"]["consumerClusterUID"],
        "uid-a",
        "a heartbeat alone moves nothing"
    );
    let approve = json!({"spec": {"approvedClusterUID": "uid-b"}});
    provider.admin.merge_patch(&kind, &key, Subresource::Main, &approve, MANAGER).await.unwrap();
    eventually("moved", || async {
        let live = alice.api.get(&kind, &key).await.unwrap();
        (live["spec"]["consumerClusterUID"] == "uid-b" && live["spec"]["approvedClusterUID"].is_null()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfenced_isolation_is_for_one_consumer() {
    if std::env::var_os("KUBE_BIND_TEST_KUBECONFIG").is_some() {
        return println!("skipped: other tests are consumers of the same API server");
    }
    let provider = Provider::start(Isolation::None).await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.request(&provider, &provider.kind().resource).await;
    assert_eq!(alice.phase(&provider).await["phase"], "Succeeded");
    let bob = provider.contract("bob", "uid-b").await;
    bob.request(&provider, &provider.kind().resource).await;
    let refused = bob.phase(&provider).await;
    assert!(refused["terminalMessage"].as_str().unwrap().contains("used by another consumer"), "{refused}");
    provider.template(&json!({"sharedClusterScope": true})).await;
    let key = ObjectKey::new(&bob.namespace, &provider.name());
    eventually("shared on purpose", || async {
        let live = bob.api.get(&of::<APIServiceExportRequest>(), &key).await.unwrap();
        (live["status"]["phase"] == "Succeeded").then_some(())
    })
    .await;
}

/// Isolation `Namespaced`: cluster-scoped for the consumer, in the contract namespace at the provider.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_scoped_for_the_consumer_only() {
    let provider = Provider::start(Isolation::Namespaced).await;
    let (alice, bob) = (provider.contract("alice", "uid-a").await, provider.contract("bob", "uid-b").await);
    for consumer in [&alice, &bob] {
        consumer.request(&provider, "widgets").await;
        assert_eq!(consumer.phase(&provider).await["phase"], "Succeeded");
        eventually("rights in the contract namespace", || async {
            (consumer.list_code(&provider.widgets(), Some(&consumer.namespace)).await == 200).then_some(())
        })
        .await;
    }
    let schema = ObjectKey::new(&alice.namespace, &provider.kind().crd_name());
    assert_eq!(alice.api.get(&of::<BoundSchema>(), &schema).await.unwrap()["spec"]["scope"], "Cluster");
    assert_eq!(alice.list_code(&provider.widgets(), Some(&bob.namespace)).await, 403);
}

/// Isolation `Prefixed` of a cluster-scoped kind: for one consumer, until the provider shares it on purpose, and with the
/// rights that it gives for that.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_scoped_on_both_sides_is_shared_on_purpose() {
    let provider = Provider::start_with(Isolation::Prefixed, "Cluster").await;
    let alice = provider.contract("alice", "uid-a").await;
    alice.request(&provider, "widgets").await;
    assert_eq!(alice.phase(&provider).await["phase"], "Succeeded");
    let key = ObjectKey::new(&alice.namespace, &provider.name());
    let condition = || async {
        let live = alice.api.get(&of::<APIServiceExport>(), &key).await.unwrap();
        let list = live["status"]["conditions"].as_array()?.clone();
        list.into_iter().find(|c| c["type"] == "ProviderInSync")
    };
    let missing = eventually("missing rights are told", condition).await;
    assert_eq!((&missing["status"], &missing["reason"]), (&json!("False"), &json!("RightsMissing")), "{missing}");
    let roles = resource(rbac::RBAC_GROUP, "clusterroles", "ClusterRole");
    apply(&provider.admin, &roles, "", &rbac::backend::shared(&provider.kind())).await;
    let us = rbac::service_account("kube-bind", "backend");
    let (role, binding) = rbac::backend::keeper(&provider.kind(), vec![us]);
    apply(&provider.admin, &roles, "", &role).await;
    let bindings = resource(rbac::RBAC_GROUP, "clusterrolebindings", "ClusterRoleBinding");
    apply(&provider.admin, &bindings, "", &binding).await;
    eventually("rights on the kind", || async {
        (alice.list_code(&provider.widgets(), None).await == 200).then_some(())
    })
    .await;
    let bob = provider.contract("bob", "uid-b").await;
    bob.request(&provider, "widgets").await;
    assert!(bob.phase(&provider).await["terminalMessage"].as_str().unwrap().contains("used by another consumer"));
    assert_eq!(bob.list_code(&provider.widgets(), None).await, 403);
    provider.template(&json!({"sharedClusterScope": true})).await;
    eventually("shared on purpose", || async { (bob.list_code(&provider.widgets(), None).await == 200).then_some(()) })
        .await;
    assert_eq!(alice.list_code(&provider.widgets(), None).await, 200);
}
