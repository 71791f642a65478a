//! The charts of `deploy/charts`: what they render is what the code generates, they refuse values that cannot work, and
//! Helm installs, upgrades and removes them on a real API server, where the programs run with the arguments of the
//! Deployments as the ServiceAccounts of the charts, with no rights but theirs.
//!
//! They need Helm and a real Kubernetes: `scripts/helm` builds the first and runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use contract::rbac::{admission, backend, consumer, service_account};
use kube_bind::issuer::{self, Issuer, SigningKey};
use kube_bind::stage::Login;
use kube_bind_api::GroupResource;
use kube_client::resource::Resource;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::helm::{Helm, chart};
use testkit::install::token_secret;
use testkit::operator;
use testkit::pod::Pod;
use testkit::ports;
use testkit::program::{Ended, Person};
use testkit::service::Service;
use testkit::site::{Side, Site, bindings, core, crds, ours};
use tokio_util::sync::CancellationToken;

use crate::PROGRAM;

/// The namespace of the backend: not the agent's.
const NAMESPACE: &str = "provider-system";
const POLICIES: [&str; 2] = ["--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"];

fn least() -> Value {
    json!({
        "externalUrl": "https://provider.example", "apiServer": {"url": "https://api.provider.example:6443"},
        "oidc": {"issuerUrl": "https://issuer.example", "clientId": "kube-bind", "allowedGroups": ["developers"]},
        "signingKey": {"existingSecret": "backend-signing-key"},
    })
}

/// `kind/name` → the object without what the release adds.
fn bare(objects: impl IntoIterator<Item = Value>) -> BTreeMap<String, Value> {
    let name = |object: &Value| {
        format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
    };
    let strip = |mut object: Value| {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("labels");
        metadata.remove("annotations");
        object.as_object_mut().unwrap().remove("apiVersion");
        object
    };
    objects.into_iter().map(|object| (name(&object), strip(object))).collect()
}

fn kind(kind: &str, object: impl serde::Serialize) -> Value {
    let mut object = json!(object);
    object["kind"] = json!(kind);
    object
}

#[tokio::test]
#[ignore = "needs Helm: scripts/helm runs it"]
async fn the_charts_render_what_the_code_generates() {
    let folder = tempfile::tempdir().unwrap();
    let Some(helm) = Helm::find(folder.path()) else { return };
    let generated = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "CustomResourceDefinition"];
    let compared = |object: &Value| {
        let kind = object["kind"].as_str().unwrap();
        generated.contains(&kind) || kind.starts_with("ValidatingAdmission")
    };

    let base = consumer::base();
    let mut wanted = vec![
        kind("ClusterRole", base.cluster_role),
        kind("ClusterRoleBinding", base.cluster_role_binding),
        kind("Role", base.role),
        kind("RoleBinding", base.role_binding),
    ];
    wanted.extend(kube_bind_api::consumer_crds().iter().map(|crd| kind("CustomResourceDefinition", crd)));
    let without_policies = bare(wanted.clone());
    for policy in admission::agent() {
        wanted.push(kind("ValidatingAdmissionPolicy", policy.policy));
        wanted.push(kind("ValidatingAdmissionPolicyBinding", policy.binding));
    }
    let rendered = helm.template("konnector", "kube-bind", &json!({}), &POLICIES).await;
    assert!(rendered.iter().any(|object| object["kind"] == "Deployment"));
    assert_eq!(bare(rendered.into_iter().filter(compared)), bare(wanted), "where the cluster has policies");
    let rendered = helm.template("konnector", "kube-bind", &json!({}), &[]).await;
    assert_eq!(bare(rendered.into_iter().filter(compared)), without_policies, "where it has none");

    let boats = GroupResource::new("harbour.example", "boats");
    let mut values = least();
    values["offers"] = json!({"kinds": [{"group": boats.group, "resource": boats.resource}]});
    let account = service_account(NAMESPACE, "kube-bind-backend");
    let mut wanted = vec![
        kind("ClusterRole", backend::base()),
        kind("ClusterRoleBinding", backend::base_binding(&account)),
        kind("Role", backend::lease(NAMESPACE)),
        kind("RoleBinding", backend::lease_binding(&account, NAMESPACE)),
        kind("ClusterRole", backend::contracts()),
        kind("ClusterRole", backend::oidc_user()),
        kind("ClusterRole", backend::offers([&boats])),
    ];
    wanted.extend(kube_bind_api::provider_crds().iter().map(|crd| kind("CustomResourceDefinition", crd)));
    let rendered = helm.template("backend", NAMESPACE, &values, &[]).await;
    assert_eq!(bare(rendered.into_iter().filter(compared)), bare(wanted));
}

#[tokio::test]
#[ignore = "needs Helm: scripts/helm runs it"]
async fn values_that_cannot_work_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(helm) = Helm::find(folder.path()) else { return };
    let refused: [(&str, &str, &str); 15] = [
        ("konnector", "replica=3", "replica"),
        ("konnector", "replicas=two", "replicas"),
        ("konnector", "image.digest=sha256:abc", "digest"),
        ("konnector", "image.name=x", "name"),
        ("konnector", "port=80", "port"),
        ("konnector", "log.format=xml", "format"),
        ("konnector", "admissionPolicies.install=perhaps", "admissionPolicies"),
        ("konnector", "extraArgs={kubeconfig}", "extraArgs"),
        ("backend", "apiServer.url=http://insecure.example", "apiServer"),
        ("backend", "externalUrl=https://provider.example/path", "externalUrl"),
        ("backend", "oidc.callbackUrl=https://provider.example/callback", "callbackUrl"),
        ("backend", "isolation=Full", "isolation"),
        ("backend", "oidc.clientSecret.value=hunter2", "value"),
        ("backend", "oidc.scopes={profile email}", "scopes"),
        ("backend", "offers.kinds[0].group=*,offers.kinds[0].resource=secrets", "kinds"),
    ];
    let least = helm.values(&least());
    for (name, set, word) in refused {
        let chart = chart(name).to_string_lossy().into_owned();
        let mut words = vec!["template", name, &chart, "--namespace", "kube-bind", "--set", set];
        if name == "backend" {
            words.extend(["--values", &least]);
        }
        let said = helm.run(None, &words).await.refused(&[word]).stderr;
        assert!(said.contains("schema"), "{set} should be refused by the schema:\n{said}");
    }
    // What only the templates can see.
    let chart_of = |name: &str| chart(name).to_string_lossy().into_owned();
    let words = ["template", "konnector", &chart_of("konnector"), "--namespace", "default"];
    let _ = helm.run(None, &words).await.refused(&["kube-bind, not in default", "--create-namespace"]);
    let words = ["template", "backend", &chart_of("backend"), "--namespace", NAMESPACE];
    let all = ["apiServer.url", "externalUrl", "oidc.issuerUrl", "oidc.clientId", "allowedGroups", "signingKey"];
    let _ = helm.run(None, &words).await.refused(&all);
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The arguments of the Deployment that a chart renders.
fn arguments(rendered: &[Value]) -> Vec<String> {
    let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    list(&container["args"]).map(|argument| argument.as_str().unwrap().to_owned()).collect()
}

/// The values that switch everything on.
fn everything(name: &str) -> String {
    chart(name).join("ci/everything-values.yaml").to_string_lossy().into_owned()
}

#[tokio::test]
#[ignore = "needs Helm: scripts/helm runs it"]
async fn the_backend_is_told_which_scopes_a_login_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let Some(helm) = Helm::find(folder.path()) else { return };
    let told = async |scopes: Option<Value>, words: &[&str]| {
        let mut values = least();
        if let Some(scopes) = scopes {
            values["oidc"]["scopes"] = scopes;
        }
        let arguments = arguments(&helm.template("backend", NAMESPACE, &values, words).await);
        let all = std::iter::once("kube-bind-backend").chain(arguments.iter().map(String::as_str));
        let read = ::backend::config::PROGRAM.read(all.map(OsString::from).collect(), &|_| None);
        let _: ::backend::config::Flags = read.unwrap();
        arguments.into_iter().filter(|argument| argument.starts_with("--oidc-scopes")).collect::<Vec<_>>()
    };
    assert_eq!(told(None, &[]).await, ["--oidc-scopes=profile,email,groups"]);
    assert_eq!(told(Some(json!(["profile", "email"])), &[]).await, ["--oidc-scopes=profile,email"]);
    assert_eq!(told(Some(json!([])), &[]).await, ["--oidc-scopes="], "none but openid");
    // Values kept from a release before there was this one.
    assert!(told(Some(Value::Null), &[]).await.is_empty());
    let all = told(None, &["--values", &everything("backend")]).await;
    assert_eq!(all, ["--oidc-scopes=profile,email,https://issuer.example/teams"]);
}

/// Whether a selector by labels chooses what has these.
fn chooses(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().unwrap();
    !wanted.is_empty() && wanted.iter().all(|(label, value)| labels.get(label) == Some(value))
}

#[tokio::test]
#[ignore = "needs Helm: scripts/helm runs it"]
async fn services_monitors_and_policies_lead_to_where_the_programs_listen() {
    let folder = tempfile::tempdir().unwrap();
    let Some(helm) = Helm::find(folder.path()) else { return };
    let listening = [
        ("konnector", "kube-bind", vec![("metrics", "--server-address")]),
        ("backend", NAMESPACE, vec![("http", "--listen-address"), ("metrics", "--server-address")]),
    ];
    for (name, namespace, flags) in listening {
        let rendered = helm.template(name, namespace, &json!({}), &["--values", &everything(name)]).await;
        let all = |kind: &str| rendered.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
        let pod = &all("Deployment")[0]["spec"]["template"];
        let labels = &pod["metadata"]["labels"];
        let container = &pod["spec"]["containers"][0];
        let declared = list(&container["ports"]);
        let ports: BTreeMap<&str, u64> =
            declared.map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap())).collect();
        let arguments = arguments(&rendered);
        let told = |flag: &str| arguments.iter().find_map(|argument| argument.strip_prefix(&format!("{flag}=:")));
        let listens: BTreeMap<&str, u64> =
            flags.iter().map(|(port, flag)| (*port, told(flag).unwrap().parse().unwrap())).collect();
        assert_eq!(ports, listens, "{name}: the container's ports are those of its arguments");

        // A port of the pods, by name or by number.
        let leads = |port: &Value| match port.as_str() {
            Some(port) => ports.get(port).copied(),
            None => port.as_u64().filter(|number| ports.values().any(|known| known == number)),
        };
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(leads(&container[probe]["httpGet"]["port"]), Some(ports["metrics"]), "{name}: {probe}");
        }
        let services = all("Service");
        assert_eq!(services.len(), flags.len(), "{name}: a Service for each port");
        for service in &services {
            assert!(chooses(&service["spec"]["selector"], labels), "{name}: {service}");
            for port in list(&service["spec"]["ports"]) {
                assert!(leads(&port["targetPort"]).is_some(), "{name}: {service}");
            }
        }

        let monitors = all("ServiceMonitor");
        assert_eq!(monitors.len(), 1, "{name}");
        for monitor in monitors {
            let seen = services.iter().filter(|service| {
                let near = service["metadata"]["namespace"] == monitor["metadata"]["namespace"];
                near && chooses(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"])
            });
            let seen: Vec<&Value> = seen.flat_map(|service| list(&service["spec"]["ports"])).collect();
            assert_eq!(list(&monitor["spec"]["endpoints"]).count(), 1, "{name}: {monitor}");
            for endpoint in list(&monitor["spec"]["endpoints"]) {
                let found = seen.iter().filter(|port| port["name"] == endpoint["port"]);
                let found: Vec<_> = found.map(|port| leads(&port["targetPort"])).collect();
                assert_eq!(found, [Some(ports["metrics"])], "{name}: one Service has the port of {monitor}");
                assert_eq!(endpoint["path"], "/metrics", "{name}: what the probes' server serves");
            }
        }

        let policies = all("NetworkPolicy");
        assert_eq!(policies.len(), 1, "{name}");
        for policy in policies {
            assert!(chooses(&policy["spec"]["podSelector"]["matchLabels"], labels), "{name}: {policy}");
            let rules = list(&policy["spec"]["ingress"]);
            let open: Vec<_> = rules.flat_map(|rule| list(&rule["ports"])).map(|port| leads(&port["port"])).collect();
            let open: BTreeSet<_> = open.into_iter().collect();
            let wanted: BTreeSet<_> = ports.values().copied().map(Some).collect();
            assert_eq!(open, wanted, "{name}: {policy}");
        }

        // The ways in from outside.
        let http = services.iter().find(|service| list(&service["spec"]["ports"]).any(|port| port["name"] == "http"));
        for ingress in all("Ingress") {
            for path in list(&ingress["spec"]["rules"]).flat_map(|rule| list(&rule["http"]["paths"])) {
                let wanted = &path["backend"]["service"];
                let service = http.unwrap();
                assert_eq!(wanted["name"], service["metadata"]["name"], "{name}: {ingress}");
                assert_eq!(wanted["port"]["name"], "http", "{name}: {ingress}");
            }
        }
        for route in all("HTTPRoute") {
            for wanted in list(&route["spec"]["rules"]).flat_map(|rule| list(&rule["backendRefs"])) {
                let service = http.unwrap();
                assert_eq!(wanted["name"], service["metadata"]["name"], "{name}: {route}");
                let port = list(&service["spec"]["ports"]).find(|port| port["name"] == "http").unwrap();
                assert_eq!(wanted["port"], port["port"], "{name}: {route}");
            }
        }
    }
}

fn deployments() -> Resource {
    Resource::new("apps", "v1", "deployments", "Deployment")
}

fn rbac(plural: &str, kind: &str) -> Resource {
    Resource::new("rbac.authorization.k8s.io", "v1", plural, kind)
}

fn policies() -> Resource {
    let kind = "ValidatingAdmissionPolicy";
    Resource::new("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", kind)
}

/// A kubeconfig of a ServiceAccount.
async fn credential(site: &Site, namespace: &str, account: &str) -> String {
    token_secret(site, namespace, account).await;
    let token = site.setup().await.token(namespace, account).await.unwrap();
    site.kubeconfig_with(account, &token)
}

/// The API server's CA, from a kubeconfig.
fn authority(kubeconfig: &str) -> String {
    use base64::Engine as _;
    let config = apimachinery::yaml::document(kubeconfig).unwrap();
    let ca = config["clusters"][0]["cluster"]["certificate-authority-data"].as_str().unwrap();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(ca).unwrap()).unwrap()
}

fn url(kubeconfig: &str) -> String {
    let config = apimachinery::yaml::document(kubeconfig).unwrap();
    config["clusters"][0]["cluster"]["server"].as_str().unwrap().to_owned()
}

/// `helm <verb> <release> <chart>` at a site.
async fn helm_at(helm: &Helm, site: &Site, verb: &str, name: &str, values: &Value, more: &[&str]) -> Ended {
    let chart = chart(name).to_string_lossy().into_owned();
    let namespace = if name == "konnector" { "kube-bind" } else { NAMESPACE };
    let values = helm.values(values);
    let mut words = vec![verb, name, &chart, "--namespace", namespace, "--values", &values];
    words.extend(more);
    helm.run(Some(&site.kubeconfig), &words).await
}

async fn deployment(site: &Site, namespace: &str, name: &str) -> Value {
    site.get(&deployments(), namespace, name).await.unwrap_or_else(|| panic!("no Deployment {namespace}/{name}"))
}

/// A real API server of a side, or none: Deployments are needed.
async fn real(folder: &Path, name: &str, side: Side) -> Option<Site> {
    let site = Site::start(folder, name, side, None).await;
    let kinds = site.api.raw_get("/apis/apps/v1").await.unwrap_or_default();
    if kinds["resources"].is_array() {
        return Some(site);
    }
    assert!(
        std::env::var_os("KUBE_BIND_REQUIRE_TOOLS").is_none(),
        "the charts need a real Kubernetes: KUBE_BIND_TEST_PAIRING=real/real"
    );
    eprintln!("charts: skipped, they need a real Kubernetes; scripts/helm says which");
    None
}

/// The whole story between two clusters that know of kube-bind only what Helm installs.
#[tokio::test]
#[ignore = "needs Helm and a real Kubernetes: scripts/helm runs it"]
async fn a_bind_between_two_charts() {
    let folder = testkit::logs::Folder::new("charts");
    let Some(helm) = Helm::find(folder.path()) else { return };
    let Some(mut provider) = real(&folder.path().join("provider"), "provider", Side::Provider).await else { return };
    let Some(mut consumer) = real(&folder.path().join("consumer"), "consumer", Side::Consumer).await else { return };
    let service = Service::new(4711);
    let shutdown = CancellationToken::new();

    // A login.
    let person = issuer::Person {
        subject: "ada-subject".into(),
        username: "ada".into(),
        password: "ada-password".to_owned().into(),
        email: "ada@example.com".into(),
        name: "ada".into(),
        groups: vec!["developers".into()],
    };
    let login = Login { username: "ada".into(), password: person.password.clone(), email: person.email.clone() };
    let options = issuer::Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        key: SigningKey::generate().unwrap(),
        people: vec![person],
        clients: Vec::new(),
    };
    let issuer = Issuer::start(options, shutdown.clone()).await.unwrap();
    let port = ports::free().port();
    // An Ingress wants a name.
    let server = format!("http://localhost:{port}");
    issuer.register(issuer::Client {
        id: "the provider".into(),
        secret: "the secret, with spaces".to_owned().into(),
        name: "Provider".into(),
        redirect_uris: vec![format!("{server}/api/callback")],
    });

    // The provider's cluster.
    provider.namespace(NAMESPACE).await;
    for (name, key, value) in [
        ("backend-signing-key", "signing-key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
        ("backend-oidc", "client-secret", "the secret, with spaces"),
    ] {
        let secret = json!({"metadata": {"name": name, "namespace": NAMESPACE}, "stringData": {key: value}});
        provider.apply(&core("secrets"), &secret).await;
    }
    let admin = std::fs::read_to_string(&provider.kubeconfig).unwrap();
    let mut values = json!({
        "externalUrl": server, "prettyName": "Provider, \"quoted\" Inc.", "port": port, "metricsPort": ports::free().port(),
        "apiServer": {"url": url(&admin), "ca": authority(&admin)},
        "oidc": {
            "issuerUrl": issuer.url(), "clientId": "the provider", "clientSecret": {"existingSecret": "backend-oidc"},
            "allowedGroups": ["developers"],
        },
        "signingKey": {"existingSecret": "backend-signing-key"},
        "networkPolicy": {"egress": {"enabled": true}},
        "ingress": {"enabled": true},
    });
    let said = helm_at(&helm, &provider, "install", "backend", &values, &[]).await.ok().stdout;
    assert!(said.contains("kubectl bind provider offer"), "{said}");
    let backend_kubeconfig = credential(&provider, NAMESPACE, "kube-bind-backend").await;
    let live = deployment(&provider, NAMESPACE, "kube-bind-backend").await;
    let program = |name| (Path::new(PROGRAM), name);
    let mut backend_pod =
        Pod::start(&provider, &live, "backend-0", folder.path(), program("kube-bind-backend"), &backend_kubeconfig)
            .await;
    backend_pod.ready().await;
    provider.apply(&crds(), &service.crd()).await;
    let at_provider =
        Person { program: PROGRAM.into(), home: folder.path().to_owned(), kubeconfig: provider.kubeconfig.clone() };
    let _ = at_provider.bind(&["provider", "offer", &service.crd_name()], "").await.ok();
    provider.apply(&ours("apiserviceexporttemplates", "APIServiceExportTemplate"), &service.template()).await;
    let operating = operator::start(provider.api.clone(), service.clone(), shutdown.clone());

    // The consumer's cluster.
    let port = ports::free().port();
    let agent_values = json!({"port": port});
    let said =
        helm_at(&helm, &consumer, "install", "konnector", &agent_values, &["--create-namespace"]).await.ok().stdout;
    assert!(said.contains("kubectl bind https://"), "{said}");
    let names = consumer.names(&policies()).await;
    assert!(names.contains(&"/kube-bind.only-ours".to_owned()), "a cluster with policies gets ours: {names:?}");
    let agent_kubeconfig = credential(&consumer, "kube-bind", "konnector").await;
    let live = deployment(&consumer, "kube-bind", "konnector").await;
    assert_eq!(live["spec"]["replicas"], 2);
    let mut agent =
        Pod::start(&consumer, &live, "konnector-0", folder.path(), program("konnector"), &agent_kubeconfig).await;
    agent.ready().await;

    // A person binds; nothing is installed any more, Helm looks after the agent.
    let home = folder.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let person = Person { program: PROGRAM.into(), home, kubeconfig: consumer.kubeconfig.clone() };
    let offering = format!("{server}/exports/{}", service.plural);
    let words = [offering.as_str(), "--skip-browser", "--accept-claims"];
    let said = person.bind_in_browser(&words, &login, None).await.ok().stdout;
    assert!(!said.contains("Installed the agent") && !said.contains("Upgraded the agent"), "{said}");
    let running = async |name: &str| {
        eventually(&format!("{name} is Running and its Secret here"), async || {
            let object = consumer.get(&service.resource(), "default", name).await.unwrap_or_default();
            let secret = consumer.get(&core("secrets"), "default", &format!("{name}-token")).await;
            match (object["status"]["phase"].as_str(), secret) {
                (Some("Running"), Some(_)) => Ok(()),
                (_, secret) => Err(format!("{object} {}\n{}", secret.is_some(), agent.log())),
            }
        })
        .await;
    };
    consumer.apply(&service.resource(), &service.object("default", "one", "one-token")).await;
    running("one").await;
    let binding = consumer.get(&bindings(), "", &service.plural).await.unwrap();
    assert_eq!(binding["status"]["phase"], "Connected", "{binding}");

    // Upgrades: what was granted by command stays, with what the values grant now; CRDs follow the chart.
    values["offers"] = json!({"kinds": [{"group": "harbour.example", "resource": "boats"}]});
    values["replicas"] = json!(3);
    let crd = "collections.kube-bind.io";
    let column = json!([{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/0"}]);
    let patched = at_provider.kubectl(&["patch", "crd", crd, "--type=json", "-p", &column.to_string()], "").await;
    assert!(patched.is_none_or(|patched| patched.success));
    let _ = helm_at(&helm, &provider, "upgrade", "backend", &values, &["--force-conflicts"]).await.ok();
    let offers = provider.get(&rbac("clusterroles", "ClusterRole"), "", "kube-bind-backend-offers").await.unwrap();
    let wanted = backend::offers([&GroupResource::new("harbour.example", "boats")]).rules.unwrap().len();
    assert_eq!(offers["rules"].as_array().unwrap().len(), wanted + 1, "{offers}");
    let typed: k8s_openapi::api::rbac::v1::ClusterRole = serde_json::from_value(offers.clone()).unwrap();
    for kind in [GroupResource::new(&service.group, &service.plural), GroupResource::new("harbour.example", "boats")] {
        assert!(backend::is_granted(&typed, &kind), "{kind} in {offers}");
    }
    let live = provider.get(&crds(), "", crd).await.unwrap();
    assert_eq!(live["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().len(), 3, "{live}");
    let _ = helm_at(&helm, &provider, "upgrade", "backend", &values, &["--force-conflicts"]).await.ok();
    let again = provider.get(&rbac("clusterroles", "ClusterRole"), "", "kube-bind-backend-offers").await.unwrap();
    assert_eq!(again["rules"], offers["rules"], "twice is once");
    let live = deployment(&provider, NAMESPACE, "kube-bind-backend").await;
    assert_eq!(live["spec"]["replicas"], 3);

    // The other replica takes over when the first goes.
    let live = deployment(&consumer, "kube-bind", "konnector").await;
    agent.stop().await;
    let mut agent =
        Pod::start(&consumer, &live, "konnector-1", folder.path(), program("konnector"), &agent_kubeconfig).await;
    agent.ready().await;
    consumer.apply(&service.resource(), &service.object("default", "two", "two-token")).await;
    eventually("two is Running", async || {
        let object = consumer.get(&service.resource(), "default", "two").await.unwrap_or_default();
        if object["status"]["phase"] == "Running" { Ok(()) } else { Err(format!("{object}\n{}", agent.log())) }
    })
    .await;

    // Uninstalled: nothing that anybody has made goes.
    agent.stop().await;
    backend_pod.stop().await;
    let words = ["uninstall", "konnector", "--namespace", "kube-bind"];
    let _ = helm.run(Some(&consumer.kubeconfig), &words).await.ok();
    let words = ["uninstall", "backend", "--namespace", NAMESPACE];
    let _ = helm.run(Some(&provider.kubeconfig), &words).await.ok();
    assert!(consumer.get(&deployments(), "kube-bind", "konnector").await.is_none());
    assert!(consumer.get(&rbac("clusterroles", "ClusterRole"), "", "kube-bind-konnector").await.is_none());
    assert!(consumer.get(&bindings(), "", &service.plural).await.is_some(), "the binding stays");
    assert!(consumer.get(&service.resource(), "default", "one").await.is_some(), "its objects stay");
    let exports = provider.names(&ours("apiserviceexports", "APIServiceExport")).await;
    assert_eq!(exports.len(), 1, "the contract stays");
    assert!(provider.get(&rbac("clusterroles", "ClusterRole"), "", "kube-bind-backend-offers").await.is_some());

    // And installed again it goes on.
    let _ = helm_at(&helm, &provider, "install", "backend", &values, &[]).await.ok();
    let _ = helm_at(&helm, &consumer, "install", "konnector", &agent_values, &[]).await.ok();
    let again = provider.get(&rbac("clusterroles", "ClusterRole"), "", "kube-bind-backend-offers").await.unwrap();
    assert_eq!(again["rules"], offers["rules"], "what was offered is offered again");
    let kubeconfig = credential(&consumer, "kube-bind", "konnector").await;
    let live = deployment(&consumer, "kube-bind", "konnector").await;
    let mut agent = Pod::start(&consumer, &live, "konnector-2", folder.path(), program("konnector"), &kubeconfig).await;
    agent.ready().await;
    consumer.apply(&service.resource(), &service.object("default", "two", "two-token")).await;
    consumer.delete(&service.resource(), "default", "two").await;
    eventually("two is gone on both sides", async || {
        let here = consumer.get(&service.resource(), "default", "two").await;
        let there = provider.names(&service.resource()).await;
        match (here, there.iter().any(|name| name.ends_with("/two"))) {
            (None, false) => Ok(()),
            (here, there) => Err(format!("{} {there}\n{}", here.is_some(), agent.log())),
        }
    })
    .await;
    agent.stop().await;

    shutdown.cancel();
    let _ = operating.await;
    provider.end().await;
    consumer.end().await;
}

/// What the plugin installed, Helm takes over; there is one agent, not two.
#[tokio::test]
#[ignore = "needs Helm and a real Kubernetes: scripts/helm runs it"]
async fn helm_takes_over_what_the_plugin_installed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(helm) = Helm::find(folder.path()) else { return };
    let Some(mut site) = real(&folder.path().join("consumer"), "consumer", Side::Consumer).await else { return };
    let person =
        Person { program: PROGRAM.into(), home: folder.path().to_owned(), kubeconfig: site.kubeconfig.clone() };
    let printed = person.bind(&["konnector"], "").await.ok().stdout;
    for object in apimachinery::yaml::documents(&printed).unwrap() {
        let kind = object["kind"].as_str().unwrap_or_default();
        let plural = match kind {
            "" => continue,
            "ValidatingAdmissionPolicy" => "validatingadmissionpolicies".to_owned(),
            other => format!("{}s", other.to_lowercase()),
        };
        let (group, version) = object["apiVersion"].as_str().unwrap().rsplit_once('/').unwrap_or(("", "v1"));
        site.apply(&Resource::new(group, version, &plural, kind), &object).await;
    }
    let said = helm_at(&helm, &site, "install", "konnector", &json!({}), &[]).await;
    let _ = said.refused(&["cannot be imported"]);
    let words = ["--take-ownership", "--force-conflicts"];
    let _ = helm_at(&helm, &site, "install", "konnector", &json!({}), &words).await.ok();
    let agents = site.names(&deployments()).await;
    assert_eq!(agents, ["kube-bind/konnector"]);
    let live = deployment(&site, "kube-bind", "konnector").await;
    assert_eq!(live["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm", "{live}");
    assert_eq!(live["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1, "{live}");
    let _ = helm_at(&helm, &site, "upgrade", "konnector", &json!({"replicas": 1}), &[]).await.ok();
    assert_eq!(deployment(&site, "kube-bind", "konnector").await["spec"]["replicas"], 1);
    site.end().await;
}
