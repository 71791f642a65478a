//! The agent's installation by `kubectl bind`: from nothing, again, from an older and a newer version, from a half. The
//! scenario plays the nodes: it runs what the Deployment says, under the ServiceAccount that it names.

use std::collections::BTreeMap;
use std::path::Path;

use contract::install::{LABEL_MANAGED_BY, LABEL_VERSION, MANAGED_BY, VERSION, default_image};
use kube_client::api::{FieldManager, Subresource};
use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use serde_json::{Value, json};
use testkit::daemon::Daemon;
use testkit::eventually;
use testkit::pod::{Pod, deployments, serve_deployments};
use testkit::program::{Ended, file};
use testkit::service::Service;
use testkit::site::{Site, bindings, core, crds};
use testkit::world::World;

/// The field manager of the plugin.
const PLUGIN: FieldManager = FieldManager("kubectl-bind");

fn kinds() -> Vec<Resource> {
    let rbac = |plural: &str, kind: &str| Resource::new("rbac.authorization.k8s.io", "v1", plural, kind);
    let admission = |plural: &str, kind: &str| Resource::new("admissionregistration.k8s.io", "v1", plural, kind);
    vec![
        core("namespaces"),
        crds(),
        core("serviceaccounts"),
        rbac("clusterroles", "ClusterRole"),
        rbac("clusterrolebindings", "ClusterRoleBinding"),
        rbac("roles", "Role"),
        rbac("rolebindings", "RoleBinding"),
        admission("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
        admission("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
        deployments(),
    ]
}

fn kind_of(object: &Value) -> Resource {
    kinds().into_iter().find(|kind| object["kind"] == kind.kind.as_str()).unwrap_or_else(|| panic!("{object}"))
}

/// `<kind> <namespace>/<name>`.
fn named(kind: &Resource, object: &Value) -> String {
    let key = ObjectKey::of(object).unwrap();
    format!("{} {}/{}", kind.kind, key.namespace().unwrap_or_default(), key.name)
}

/// What `kubectl bind konnector` prints.
async fn printed(world: &World) -> Vec<Value> {
    let text = world.consumers[0].person.bind(&["konnector"], "").await.ok().stdout;
    apimachinery::yaml::documents(&text).unwrap()
}

async fn live(site: &Site, object: &Value) -> Option<Value> {
    let key = ObjectKey::of(object).unwrap();
    site.get(&kind_of(object), key.namespace().unwrap_or_default(), &key.name).await
}

/// Names of everything in the cluster that says the plugin looks after it.
async fn installed(site: &Site) -> Vec<String> {
    let mut names = Vec::new();
    for kind in kinds() {
        let all = site.list(&kind).await;
        let ours = all.iter().filter(|object| object["metadata"]["labels"][LABEL_MANAGED_BY] == MANAGED_BY);
        names.extend(ours.map(|object| named(&kind, object)));
    }
    names.sort();
    names
}

/// Versions of all objects that a bind could write but secrets.
async fn revisions(site: &Site) -> BTreeMap<String, String> {
    let mut revisions = BTreeMap::new();
    for kind in kinds() {
        for object in site.list(&kind).await {
            revisions.insert(named(&kind, &object), object["metadata"]["resourceVersion"].to_string());
        }
    }
    revisions
}

/// Whether everything that was printed is so in the cluster; what the API server adds does not count.
fn is_so(live: &Value, printed: &Value) -> bool {
    match (live, printed) {
        (Value::Object(live), Value::Object(printed)) => printed.iter().all(|(field, value)| match live.get(field) {
            Some(live) => is_so(live, value),
            None => value.is_null() || *value == json!([]) || *value == json!({}) || *value == json!(""),
        }),
        (Value::Array(live), Value::Array(printed)) => {
            live.len() == printed.len() && live.iter().zip(printed).all(|(live, printed)| is_so(live, printed))
        }
        _ => live == printed,
    }
}

async fn all_there(site: &Site, objects: &[Value]) {
    for object in objects {
        let live = live(site, object).await.unwrap_or_else(|| panic!("not there: {object}"));
        assert!(is_so(&live, object), "printed: {object}\nthere:   {live}");
    }
}

/// Changes what is installed as the plugin itself would have.
async fn as_plugin(site: &Site, object: &Value, patch: &Value) {
    let (kind, key) = (kind_of(object), ObjectKey::of(object).unwrap());
    let _ = site.api.merge_patch(&kind, &key, Subresource::Main, patch, PLUGIN).await.unwrap();
}

/// Gives everything installed the label of a version.
async fn of_version(site: &Site, objects: &[Value], version: &str) {
    for object in objects.iter().filter(|object| object["kind"] != "Namespace") {
        as_plugin(site, object, &json!({"metadata": {"labels": {LABEL_VERSION: version}}})).await;
    }
}

/// A world whose consumer has nothing of ours, with nodes; its person is logged in.
async fn fresh(seed: u64) -> World {
    let world = World::without_agent(super::PROGRAM, Service::new(seed)).await;
    let consumer = &world.consumers[0];
    serve_deployments(&consumer.site).await;
    let _ = consumer.person.log_in(&world.providers[0].server, &world.logins[0]).await.ok();
    world
}

async fn bind(world: &World, more: &[&str]) -> Ended {
    let service = world.service();
    let words =
        [&[world.providers[0].server.as_str(), "--template", &service.plural, "--accept-claims"], more].concat();
    world.consumers[0].person.bind(&words, "").await
}

#[tokio::test]
async fn one_bind_installs_everything_and_keeps_it_up_to_date() {
    let world = fresh(201).await;
    let consumer = &world.consumers[0];
    let site = &consumer.site;
    let objects = printed(&world).await;
    assert!(installed(site).await.is_empty(), "printing writes nothing");

    // From nothing; the nodes run what they find.
    let (said, pod) = tokio::join!(bind(&world, &[]), Pod::run(site, &consumer.person, "kube-bind", "konnector"));
    let said = said.ok().stderr;
    assert!(said.contains(&format!("Installed the agent, version {VERSION}")), "{said}");
    all_there(site, &objects).await;
    let mut names: Vec<String> = objects.iter().map(|object| named(&kind_of(object), object)).collect();
    names.retain(|name| name != "Namespace /kube-bind");
    names.sort();
    assert_eq!(installed(site).await, names, "a bind installs what is printed, and no more");
    world.make("default", "one", "one-token").await;

    // Again: nothing is written, nothing is said of it.
    eventually("the agent has made what it makes", async || {
        site.get(&core("secrets"), "default", "one-token").await.map(drop).ok_or("no Secret".to_owned())
    })
    .await;
    let before = revisions(site).await;
    let said = bind(&world, &[]).await.ok().stderr;
    assert!(!said.contains("Installed") && !said.contains("Upgraded"), "{said}");
    assert_eq!(revisions(site).await, before, "twice is once");

    // What an older version installed is brought to this one.
    let find = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let (role, deployment) = (find("ClusterRole"), find("Deployment"));
    of_version(site, &objects, "0.0.1").await;
    as_plugin(site, role, &json!({"rules": [role["rules"][0], role["rules"][2], role["rules"][3]]})).await;
    let mut old = live(site, deployment).await.unwrap()["spec"].clone();
    old["template"]["spec"]["containers"][0]["image"] = json!(default_image("0.0.1"));
    as_plugin(site, deployment, &json!({"spec": old})).await;
    let said = bind(&world, &[]).await.ok().stderr;
    let words = format!("Upgraded the agent from version 0.0.1 to {VERSION}: ");
    assert!(said.contains(&words), "{said}");
    for what in ["ClusterRole kube-bind-konnector", "Deployment kube-bind/konnector"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    all_there(site, &objects).await;

    // What a newer one installed stays, even where this one would have it different.
    of_version(site, &objects, "99.0.0").await;
    let more = json!(
        [
            role["rules"].as_array().unwrap().as_slice(),
            &[json!({"apiGroups": ["a.b"], "resources": ["cs"], "verbs": ["get"]})]
        ]
        .concat()
    );
    as_plugin(site, role, &json!({"rules": more})).await;
    let before = revisions(site).await;
    let said = bind(&world, &[]).await.ok().stderr;
    let words = format!("version 99.0.0, newer than this command ({VERSION}): left as it is");
    assert!(said.contains(&words), "{said}");
    assert_eq!(revisions(site).await, before, "nothing of a newer version is touched");

    // What half an installation lacks is made.
    of_version(site, &objects, VERSION).await;
    for kind in ["ClusterRoleBinding", "Role", "ValidatingAdmissionPolicyBinding", "ClusterRole"] {
        let key = ObjectKey::of(find(kind)).unwrap();
        site.delete(&kind_of(find(kind)), key.namespace().unwrap_or_default(), &key.name).await;
    }
    let _ = bind(&world, &[]).await.ok();
    all_there(site, &objects).await;
    world.make("default", "two", "two-token").await;
    drop(pod);
    world.end().await;
}

#[tokio::test]
async fn an_interrupted_installation_is_completed() {
    let world = fresh(202).await;
    let consumer = &world.consumers[0];
    let site = &consumer.site;
    let objects = printed(&world).await;
    // Namespace, CRDs, account, and the Deployment that nobody had time to give rights to.
    for object in objects.iter().filter(|object| {
        ["Namespace", "CustomResourceDefinition", "ServiceAccount", "Deployment"]
            .contains(&object["kind"].as_str().unwrap())
    }) {
        let key = ObjectKey::of(object).unwrap();
        let _ = site.api.apply(&kind_of(object), &key, object, PLUGIN, Subresource::Main).await.unwrap();
    }
    // Without an agent the bind gives up, but what it has installed stays for the agent that comes late.
    let words = ["no agent", "kube-bind/konnector", "stays installed"];
    let ended = bind(&world, &["--wait", "2"]).await;
    let ended = Ended { stderr: ended.stderr.to_lowercase(), ..ended };
    let _ = ended.refused(&words);
    all_there(site, &objects).await;
    assert!(site.list(&bindings()).await.is_empty());
    let (said, pod) = tokio::join!(bind(&world, &[]), Pod::run(site, &consumer.person, "kube-bind", "konnector"));
    let _ = said.ok();
    world.make("default", "one", "one-token").await;
    drop(pod);
    world.end().await;
}

#[tokio::test]
async fn an_agent_that_runs_elsewhere_is_run_as_the_command_says() {
    let world = fresh(203).await;
    let consumer = &world.consumers[0];
    let site = &consumer.site;
    let agent = async {
        // The words that the command prints, typed while it waits.
        let kubeconfig = eventually("a kubeconfig is printed", async || {
            let ended = consumer.person.bind(&["konnector", "--print-kubeconfig"], "").await;
            if ended.success { Ok(ended.stdout) } else { Err(ended.stderr) }
        })
        .await;
        let path = file(world.folder(), "konnector.kubeconfig", &kubeconfig);
        let mut command = tokio::process::Command::new(super::PROGRAM);
        command
            .args(["konnector", "--kubeconfig", &path, "--server-address", "127.0.0.1:0"])
            .env("HOME", world.folder());
        Daemon::start(command, Path::new(&format!("{path}.log")))
    };
    let (said, agent) = tokio::join!(bind(&world, &["--skip-konnector"]), agent);
    let said = said.ok().stderr;
    for words in ["No agent answers", "kubectl bind konnector --print-kubeconfig", "konnector --kubeconfig"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(site.list(&deployments()).await.is_empty(), "no Deployment was asked for");
    world.make("default", "one", "one-token").await;
    agent.terminate().await;
    world.end().await;
}
