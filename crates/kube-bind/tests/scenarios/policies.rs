//! The agent's credential in the hands of a thief: what `docs/rights.md` says under "A stolen credential" is tried line by
//! line, and each refusal must come from whom the page names. Where the API server stores admission policies without
//! evaluating them, the lines that they answer are left out.

use std::collections::VecDeque;

use contract::rbac::consumer::claims_role_name;
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR, LABEL_BINDING};
use kube_client::api::{Api, FieldManager, ListQuery, Subresource};
use kube_client::connect;
use kube_client::error::ApiError;
use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::service::Service;
use testkit::site::{Site, bindings, core, crds};
use testkit::world::World;

const PAGE: &str = include_str!("../../../../docs/rights.md");
const HEAD: &str = "| with the agent's credential | answer |";
const ALLOWED: &str = "allowed";
const RBAC: &str = "RBAC";
const THIEF: FieldManager = FieldManager("thief");

fn rbac(plural: &str, kind: &str) -> Resource {
    Resource::new("rbac.authorization.k8s.io", "v1", plural, kind)
}

fn role_bindings() -> Resource {
    rbac("rolebindings", "RoleBinding")
}

fn admission(plural: &str, kind: &str) -> Resource {
    Resource::new("admissionregistration.k8s.io", "v1", plural, kind)
}

fn policies() -> [Resource; 2] {
    [
        admission("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
        admission("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
    ]
}

/// The page's table: what is tried and who answers, in order.
fn page(binding: &str) -> VecDeque<(String, String)> {
    let table = PAGE.split_once(HEAD).expect("the page has no table of what a thief can do").1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let (words, answer) = line.trim_matches(['|', ' ']).rsplit_once(" | ").unwrap();
        (words.to_owned(), answer.replace('`', "").replace("<binding>", binding))
    };
    rows.map(row).collect()
}

/// Who refused.
fn verdict(answer: &Result<(), ApiError>) -> String {
    let Err(error) = answer else { return ALLOWED.to_owned() };
    let policy = error.message.split_once("ValidatingAdmissionPolicy '").and_then(|(_, rest)| rest.split_once('\''));
    match policy {
        Some((policy, _)) => policy.to_owned(),
        None if error.code == 403 => RBAC.to_owned(),
        None => format!("{} {}", error.code, error.message),
    }
}

/// Goes through the page.
struct Thief {
    api: Api,
    rows: VecDeque<(String, String)>,
    policies: bool,
}

impl Thief {
    /// The next line of the page must be `words`, and `attempt` be answered as it says.
    async fn tries(&mut self, words: &str, attempt: impl AsyncFn(&Api) -> Result<(), ApiError>) {
        let (said, expected) = self.rows.pop_front().unwrap_or_else(|| panic!("the page does not say: {words}"));
        assert_eq!(words, said, "the page has another order");
        if expected != ALLOWED && expected != RBAC && !self.policies {
            return;
        }
        // Rights that were just given reach the authorizer a moment later, and a refused attempt may be made again.
        eventually(&format!("{words}: {expected}"), async || {
            let answer = attempt(&self.api).await;
            let verdict = verdict(&answer);
            assert!(verdict != ALLOWED || expected == ALLOWED, "{words}: allowed, and should be refused by {expected}");
            if verdict == expected { Ok(()) } else { Err(format!("{verdict}: {answer:?}")) }
        })
        .await;
    }
}

async fn apply(api: &Api, resource: &Resource, object: &Value) -> Result<(), ApiError> {
    let mut object = object.clone();
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind);
    let key = ObjectKey::of(&object).unwrap();
    api.apply(resource, &key, &object, THIEF, Subresource::Main).await.map(drop)
}

async fn create(api: &Api, resource: &Resource, object: &Value) -> Result<(), ApiError> {
    let mut object = object.clone();
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind);
    let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
    api.create(resource, namespace.as_deref(), &object).await.map(drop)
}

async fn patch(api: &Api, resource: &Resource, namespace: &str, name: &str, patch: &Value) -> Result<(), ApiError> {
    let key = ObjectKey::new(namespace, name);
    api.merge_patch(resource, &key, Subresource::Main, patch, THIEF).await.map(drop)
}

async fn delete(api: &Api, resource: &Resource, namespace: &str, name: &str, uid: &str) -> Result<(), ApiError> {
    api.delete(resource, &ObjectKey::new(namespace, name), uid).await
}

async fn list(api: &Api, resource: &Resource, namespace: Option<&str>) -> Result<(), ApiError> {
    let query = namespace.map_or_else(ListQuery::default, ListQuery::namespace);
    api.list(resource, &query).await.map(drop)
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

/// A RoleBinding of the name, to a ClusterRole, for a ServiceAccount of `kube-bind`.
fn role_binding(namespace: &str, name: &str, role: &str, account: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": CONSUMER_NAMESPACE}],
    })
}

/// Names of the policies, and of what puts them in force, that a binding has or none has.
async fn names(site: &Site, binding: &str) -> (Vec<String>, Vec<String>) {
    let mut all = Vec::new();
    for kind in policies().into_iter().chain(super::birth::policies()) {
        all.extend(site.names(&kind).await);
    }
    let all = all.into_iter().filter(|name| name.starts_with("/kube-bind."));
    all.partition(|name| name.starts_with(&format!("/kube-bind.{binding}.")))
}

#[tokio::test]
async fn a_stolen_agent_is_answered_as_the_page_says() {
    let mut world = World::bound(super::PROGRAM, Service::new(191)).await;
    world.expect_refusals("somebody holds a stolen credential");
    let service = world.service();
    let binding = world.binding(0);
    let role = claims_role_name(&binding);
    for name in ["used", "unused"] {
        world.consumer().site.namespace(name).await;
    }
    world.make("used", "one", "one-token").await;
    {
        let here = &world.consumers[0].site;
        for (kind, name) in [(role_bindings(), role.as_str()), (core("secrets"), "one-token")] {
            eventually(&format!("the agent makes {name}"), async || {
                here.get(&kind, "used", name).await.ok_or("not yet".to_owned())
            })
            .await;
        }
    }
    // From here on everything that this credential does is the thief's doing.
    world.consumer().stop_agent().await;
    let consumer = &world.consumers[0];
    let here = &consumer.site;
    let (of_binding, of_agent) = names(here, &binding).await;
    assert_eq!((of_binding.len(), of_agent.len()), (2, 4), "{of_binding:?} {of_agent:?}");
    type_checked(here).await;
    in_force(here, &role).await;
    let secret = |name: &str, label: Option<&str>| {
        let mut secret = json!({"metadata": {"name": name, "namespace": "used"}, "stringData": {"a": "b"}});
        if let Some(label) = label {
            secret["metadata"]["labels"] = json!({LABEL_BINDING: label});
        }
        secret
    };
    let theirs = here.apply(&core("secrets"), &secret("theirs", None)).await;
    let elsewhere = here.apply(&role_bindings(), &role_binding("used", "theirs", "view", "somebody")).await;
    let live = here.get(&bindings(), "", &binding).await.unwrap();

    let connection = connect::from_kubeconfig(&consumer.agent_kubeconfig, None).await.unwrap();
    let api = Api::new(connection.client, "consumer");
    let mut thief = Thief { api, rows: page(&binding), policies: here.enforces_admission() };
    if !thief.policies {
        eprintln!("skipped: what admission policies answer, which this API server does not evaluate");
    }
    let touch = json!({"metadata": {"annotations": {"thief": "was here"}}});
    let secrets = core("secrets");

    thief
        .tries("read bindings, CRDs and namespaces", async |api| {
            for kind in [bindings(), crds(), core("namespaces")] {
                list(api, &kind, None).await?;
            }
            Ok(())
        })
        .await;
    let own = Some(CONSUMER_NAMESPACE);
    thief.tries("read the providers' credentials in `kube-bind`", async |api| list(api, &secrets, own).await).await;
    thief
        .tries("change a binding (what it accepts gives no rights)", async |api| {
            patch(api, &bindings(), "", &binding, &touch).await
        })
        .await;
    thief.tries("delete a binding", async |api| delete(api, &bindings(), "", &binding, uid(&live)).await).await;
    let bound = service.resource();
    thief.tries("change an object of a bound kind", async |api| patch(api, &bound, "used", "one", &touch).await).await;
    let object = service.object("used", "two", "two-token");
    thief.tries("create an object of a bound kind", async |api| create(api, &bound, &object).await).await;
    let crd = service.crd_name();
    thief.tries("change the CRD of a bound kind", async |api| patch(api, &crds(), "", &crd, &touch).await).await;
    let crd = "apiservicebindings.kube-bind.io";
    thief.tries("change a CRD that is not bound", async |api| patch(api, &crds(), "", crd, &touch).await).await;
    thief
        .tries(
            "read the Secrets of a namespace where the kind is used and a claim on `secrets` was accepted",
            async |api| list(api, &secrets, Some("used")).await,
        )
        .await;
    thief
        .tries("read the Secrets of a namespace where the kind is not used", async |api| {
            // Both must be refused, so the second is asked only after the first was.
            match list(api, &secrets, Some("kube-system")).await {
                Ok(()) => Ok(()),
                Err(_) => list(api, &secrets, Some("unused")).await,
            }
        })
        .await;

    // RoleBindings and roles.
    let mine = |namespace: &str, role: &str| role_binding(namespace, &claims_role_name(&binding), role, KONNECTOR);
    thief
        .tries("bind the claims role where the kind is not used", async |api| {
            apply(api, &role_bindings(), &mine("unused", &role)).await
        })
        .await;
    here.delete(&role_bindings(), "used", &role).await;
    thief
        .tries("bind the claims role where the kind is used", async |api| {
            apply(api, &role_bindings(), &mine("used", &role)).await
        })
        .await;
    here.delete(&role_bindings(), "used", &role).await;
    thief
        .tries("bind the claims role to somebody else", async |api| {
            apply(api, &role_bindings(), &role_binding("used", &role, &role, "somebody")).await
        })
        .await;
    thief
        .tries("bind a role that gives no more than the agent has", async |api| {
            apply(api, &role_bindings(), &mine("used", "kube-bind-konnector")).await
        })
        .await;
    thief
        .tries("bind a role that gives more than the agent has", async |api| {
            apply(api, &role_bindings(), &mine("used", "cluster-admin")).await
        })
        .await;
    // It reads and writes claimed objects by its right in this namespace.
    here.apply(&role_bindings(), &mine("used", &role)).await;
    let other = role_binding("used", "other", &role, KONNECTOR);
    thief
        .tries("create a RoleBinding of another name", async |api| match create(api, &role_bindings(), &other).await {
            Ok(()) => Ok(()),
            Err(_) => apply(api, &role_bindings(), &other).await,
        })
        .await;
    thief
        .tries("delete a RoleBinding of another name", async |api| {
            delete(api, &role_bindings(), "used", "theirs", uid(&elsewhere)).await
        })
        .await;
    let roles = rbac("clusterroles", "ClusterRole");
    let more = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    thief
        .tries("change ClusterRoles, its own or others", async |api| {
            for name in ["kube-bind-konnector", "view", role.as_str()] {
                if patch(api, &roles, "", name, &more).await.is_ok() {
                    return Ok(());
                }
            }
            patch(api, &roles, "", &format!("kube-bind:{binding}"), &more).await
        })
        .await;
    thief
        .tries("change or remove an admission policy", async |api| {
            for kind in policies().into_iter().chain(super::birth::policies()) {
                for name in here.names(&kind).await {
                    let name = name.trim_start_matches('/');
                    let Some(live) = here.get(&kind, "", name).await else { continue };
                    if patch(api, &kind, "", name, &touch).await.is_ok()
                        || delete(api, &kind, "", name, uid(&live)).await.is_ok()
                    {
                        return Ok(());
                    }
                }
            }
            let [kind, _] = super::birth::policies();
            create(api, &kind, &json!({"metadata": {"name": "more"}, "spec": {}})).await
        })
        .await;
    let mut wide = role_binding("", "wide", &role, KONNECTOR);
    wide["metadata"] = json!({"name": "wide"});
    thief
        .tries("create a ClusterRoleBinding", async |api| {
            create(api, &rbac("clusterrolebindings", "ClusterRoleBinding"), &wide).await
        })
        .await;

    // Claimed objects.
    thief
        .tries("create a claimed object without the label", async |api| {
            create(api, &secrets, &secret("planted", None)).await
        })
        .await;
    thief
        .tries("create a claimed object with the label", async |api| {
            create(api, &secrets, &secret("ours", Some(&binding))).await
        })
        .await;
    thief
        .tries("change a claimed object without the label", async |api| {
            patch(api, &secrets, "used", "theirs", &json!({"data": {"a": "Yw=="}})).await
        })
        .await;
    if thief.policies {
        let now = here.get(&secrets, "used", "theirs").await;
        assert_eq!(now, Some(theirs.clone()), "a refused change changed it");
    }
    thief
        .tries("delete a claimed object without the label", async |api| {
            delete(api, &secrets, "used", "theirs", uid(&theirs)).await
        })
        .await;
    let label = |value: Value| json!({"metadata": {"labels": {LABEL_BINDING: value}}});
    for (words, name, label) in [
        ("put the label on an object without it", "theirs", label(json!(binding))),
        ("move the label to another binding", "ours", label(json!("another"))),
        ("take the label off", "ours", label(Value::Null)),
    ] {
        thief.tries(words, async |api| patch(api, &secrets, "used", name, &label).await).await;
    }
    let mut token = secret("token", Some(&binding));
    token["type"] = json!("kubernetes.io/service-account-token");
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    thief.tries("create a Secret for a ServiceAccount's token", async |api| create(api, &secrets, &token).await).await;
    let mut trap = secret("trap", Some(&binding));
    trap.as_object_mut().unwrap().remove("stringData");
    trap["spec"] = json!({"ports": [{"port": 443}], "externalIPs": ["198.51.100.7"]});
    thief.tries("create a Service with `externalIPs`", async |api| create(api, &core("services"), &trap).await).await;
    let ours = here.get(&secrets, "used", "ours").await.unwrap();
    thief
        .tries("delete a claimed object with the label", async |api| {
            delete(api, &secrets, "used", "ours", uid(&ours)).await
        })
        .await;

    // Everything else.
    let pod = json!({"metadata": {"name": "miner", "namespace": "used"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let pods = Resource::new("", "v1", "pods", "Pod");
    thief.tries("create pods", async |api| create(api, &pods, &pod).await).await;
    let mut kubeconfig = apimachinery::yaml::document(&consumer.agent_kubeconfig).unwrap();
    kubeconfig["users"][0]["user"]["as"] = json!("system:admin");
    kubeconfig["users"][0]["user"]["as-groups"] = json!(["system:masters"]);
    let connection = connect::from_kubeconfig(&apimachinery::yaml::write(&kubeconfig), None).await.unwrap();
    let masked = Api::new(connection.client, "consumer");
    // What it may do as itself is refused under another name.
    thief.tries("impersonate", async |_| list(&masked, &bindings(), None).await).await;
    assert!(thief.rows.is_empty(), "the page says more than is tried: {:?}", thief.rows);

    world.consumer().start_agent().await;
    let consumer = &world.consumers[0];
    let _ = consumer.person.bind(&["unbind", &binding, "--delete-objects"], "").await.ok();
    let (left, others) = names(&consumer.site, &binding).await;
    assert_eq!((left, others), (Vec::new(), of_agent), "unbinding takes the binding's policies and no other");
    world.end().await;
}

/// Waits until the policies, which were written a moment ago, are looked at. The binding's was written last, and holds for
/// administrators too.
async fn in_force(site: &Site, role: &str) {
    if !site.enforces_admission() {
        return;
    }
    let attempt = role_binding("unused", role, role, KONNECTOR);
    eventually("the policies are in force", async || match apply(&site.api, &role_bindings(), &attempt).await {
        Ok(()) => {
            site.delete(&role_bindings(), "unused", role).await;
            Err("not yet".to_owned())
        }
        Err(error) => {
            assert!(verdict(&Err(error.clone())).ends_with(".where-used"), "{error}");
            Ok(())
        }
    })
    .await;
}

/// Waits until the cluster has type-checked the policies, where it does, and finds nothing.
async fn type_checked(site: &Site) {
    let [kind, _] = policies();
    if !site.enforces_admission() {
        return;
    }
    for policy in site.names(&kind).await {
        let name = policy.trim_start_matches('/');
        let warnings = eventually(&format!("the policy {name} is type-checked"), async || {
            let policy = site.get(&kind, "", name).await.unwrap_or_default();
            let checked = policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
            if checked { Ok(policy["status"]["typeChecking"].clone()) } else { Err(policy["status"].to_string()) }
        })
        .await;
        let none = warnings["expressionWarnings"].as_array().is_none_or(Vec::is_empty);
        assert!(none, "{name} does not type-check: {warnings}");
    }
}
