use contract::install::{VERSION, deployment, objects, policies};
use kube_bind_api::constants::CONSUMER_NAMESPACE;
use serde_json::json;

use super::*;

const CONTAINER: &str = "k:{\"name\":\"konnector\"}";

fn by(manager: &str, mut object: Value) -> Value {
    object["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Apply", "fieldsV1": {}}]);
    object
}

fn ours(object: Value) -> Value {
    by(MANAGER.0, object)
}

/// An installation of some version, as somebody made it.
fn found(there: &str, wanted: &str, make: impl Fn(Value) -> Value) -> Vec<Found> {
    let all = |version: &str| [objects(version), policies(version)].concat();
    let lives = all(there).into_iter().map(make);
    all(wanted).into_iter().zip(lives).map(|(desired, live)| Found { desired, live: Some(live) }).collect()
}

fn kinds_of(plan: &Plan) -> Vec<&str> {
    plan.write.iter().map(|object| text(object, "/kind")).collect()
}

#[test]
fn a_fresh_cluster_gets_everything() {
    let wanted = [objects("1.2.3"), policies("1.2.3")].concat();
    let found: Vec<Found> = wanted.iter().cloned().map(|desired| Found { desired, live: None }).collect();
    let plan = plan(&found, None, "1.2.3").unwrap();
    assert_eq!(plan.write, wanted);
    assert!(plan.notes.is_empty() && plan.older.is_none() && plan.newer.is_none());
}

#[test]
fn what_is_there_already_is_not_written() {
    let plan = plan(&found("1.2.3", "1.2.3", ours), None, "1.2.3").unwrap();
    assert!(plan.write.is_empty() && plan.notes.is_empty(), "{plan:?}");
}

#[test]
fn half_an_installation_is_completed() {
    let mut half = found("1.2.3", "1.2.3", ours);
    half.last_mut().unwrap().live = None;
    half[4].live = None;
    let plan = plan(&half, None, "1.2.3").unwrap();
    assert_eq!(plan.write, [half[4].desired.clone(), half.last().unwrap().desired.clone()]);
}

#[test]
fn an_older_one_is_upgraded_but_for_the_namespace() {
    let found = found("1.2.3", "1.10.0", ours);
    let plan = plan(&found, None, "1.10.0").unwrap();
    assert_eq!(plan.older.as_deref(), Some("1.2.3"));
    assert_eq!(plan.write.len(), found.len() - 1);
    assert!(!kinds_of(&plan).contains(&"Namespace"));
}

#[test]
fn a_newer_one_is_left_alone_and_named_even_if_only_a_part_is_newer() {
    let mut mixed = found("1.2.3", "1.9.0", ours);
    mixed[3].live.as_mut().unwrap()["metadata"]["labels"][LABEL_VERSION] = json!("v1.10.0");
    let plan = plan(&mixed, None, "1.9.0").unwrap();
    assert!(plan.write.is_empty());
    assert_eq!(plan.newer.as_deref(), Some("v1.10.0"));
    assert!(plan.notes[0].contains("1.10.0") && plan.notes[0].contains("1.9.0"), "{:?}", plan.notes);
}

#[test]
fn half_of_a_newer_one_is_for_the_newer_command() {
    let mut half = found("2.0.0", "1.0.0", ours);
    half[2].live = None;
    let error = plan(&half, None, "1.0.0").unwrap_err().to_string();
    assert!(error.contains(&named(&half[2].desired)) && error.contains("2.0.0"), "{error}");
}

#[test]
fn what_helm_or_gitops_keeps_is_named_and_left() {
    let helm = |mut object: Value| {
        if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
            labels.insert(LABEL_MANAGED_BY.to_owned(), json!("Helm"));
        }
        object["rules"] = json!([]);
        by("helm", object)
    };
    let plan_helm = plan(&found("1.0.0", "2.0.0", helm), None, "2.0.0").unwrap();
    assert!(plan_helm.write.is_empty(), "{:?}", kinds_of(&plan_helm));
    assert!(plan_helm.notes[0].contains("ClusterRole kube-bind-konnector (Helm)"), "{:?}", plan_helm.notes);
    // The printed manifest, applied with kubectl: rights are left to whoever applies it; CRDs follow.
    let applied = |mut object: Value| {
        object["rules"] = json!([]);
        by("kubectl", object)
    };
    let plan_kubectl = plan(&found("1.0.0", "2.0.0", applied), None, "2.0.0").unwrap();
    assert!(kinds_of(&plan_kubectl).iter().all(|kind| *kind == "CustomResourceDefinition"), "{plan_kubectl:?}");
    assert!(plan_kubectl.notes[0].contains("Role kube-bind/konnector (kubectl)"), "{:?}", plan_kubectl.notes);
    // Of the same content, whatever the version: no word about it.
    let same = plan(&found("1.0.0", "2.0.0", |object| by("kubectl", object)), None, "2.0.0").unwrap();
    assert!(same.notes.is_empty(), "{:?}", same.notes);
}

#[test]
fn what_is_being_deleted_is_waited_for_by_the_person() {
    let mut going = found("1.0.0", "1.0.0", ours);
    going[1].live.as_mut().unwrap()["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let error = plan(&going, None, "1.0.0").unwrap_err().to_string();
    assert!(error.contains("CustomResourceDefinition") && error.contains("kubectl get"), "{error}");
    let mut gone = ours(deployment("1.0.0", None));
    gone["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let error = plan(&found("1.0.0", "1.0.0", ours), Some(&gone), "1.0.0").unwrap_err().to_string();
    assert!(error.contains("kubectl -n kube-bind get deployment konnector"), "{error}");
}

#[test]
fn a_binding_to_another_role_is_not_changed_into_ours() {
    let mut wrong = found("1.0.0", "1.0.0", ours);
    for found in &mut wrong {
        if found.desired["kind"] == "ClusterRoleBinding" {
            found.live.as_mut().unwrap()["roleRef"]["name"] = json!("cluster-admin");
        }
    }
    let error = plan(&wrong, None, "1.0.0").unwrap_err().to_string();
    assert!(error.contains("kubectl delete clusterrolebinding kube-bind-konnector"), "{error}");
}

#[test]
fn versions_are_compared_as_such() {
    for (less, more) in
        [("1.2.3", "1.10.0"), ("0.9.9", "v1.0.0"), ("1.0.0-rc.1", "1.0.0"), ("nightly", "0.0.1"), ("1.0", "1.0.1")]
    {
        assert_eq!(compare(less, more), Ordering::Less, "{less} {more}");
        assert_eq!(compare(more, less), Ordering::Greater, "{less} {more}");
    }
    assert_eq!(compare("v1.2.3", "1.2.3+build"), Ordering::Equal);
}

fn image_of(deploy: &Deploy) -> &str {
    match deploy {
        Deploy::Write(object, _) => container(object).map(|container| text(container, "/image")).unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

fn with_owner(mut live: Value, manager: &str, field: &str) -> Value {
    let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {CONTAINER: {field: {}}}}}}});
    let entries = live["metadata"]["managedFields"].as_array_mut().unwrap();
    entries.push(json!({"manager": manager, "operation": "Update", "fieldsV1": fields}));
    live
}

#[test]
fn a_deployment_is_made_unless_an_agent_answers() {
    let desired = deployment("1.0.0", None);
    assert_eq!(deploy(None, &desired, None, true), Deploy::Nothing);
    assert_eq!(deploy(None, &desired, None, false), Deploy::Write(desired.clone(), Vec::new()));
    assert_eq!(image_of(&deploy(None, &desired, Some("mirror/k:1"), false)), "mirror/k:1");
    assert_eq!(deploy(Some(&ours(desired.clone())), &desired, None, false), Deploy::Nothing);
}

#[test]
fn an_older_deployment_gets_the_new_image_a_chosen_one_stays() {
    let desired = deployment("2.0.0", None);
    let older = ours(deployment("1.0.0", None));
    assert_eq!(image_of(&deploy(Some(&older), &desired, None, true)), default_image("2.0.0"));
    let chosen = ours(deployment("1.0.0", Some("mirror/k:1")));
    let kept = deploy(Some(&chosen), &desired, None, true);
    assert_eq!(image_of(&kept), "mirror/k:1");
    let Deploy::Write(object, notes) = kept else { unreachable!() };
    assert_eq!(version(&object), Some("2.0.0"));
    assert!(notes[0].contains("mirror/k:1") && notes[0].contains("--konnector-image"), "{notes:?}");
    assert_eq!(image_of(&deploy(Some(&chosen), &desired, Some("mirror/k:2"), true)), "mirror/k:2");
    // Chosen and of this version: nothing to do, nothing to say.
    let chosen = ours(deployment("2.0.0", Some("mirror/k:1")));
    assert_eq!(deploy(Some(&chosen), &desired, None, true), Deploy::Nothing);
}

#[test]
fn what_somebody_has_set_by_hand_stays_and_is_named() {
    let desired = deployment("2.0.0", None);
    let mut live = with_owner(ours(deployment("1.0.0", None)), "kubectl-set", "f:image");
    live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("patched:7");
    let Deploy::Write(object, notes) = deploy(Some(&live), &desired, None, true) else { panic!("nothing to do?") };
    let container = container(&object).unwrap();
    assert!(container.get("image").is_none(), "not ours to write: {container}");
    assert!(container.get("livenessProbe").is_some());
    assert!(notes[0].contains("kubectl-set") && notes[0].contains("image=patched:7"), "{notes:?}");
    // By flag it is.
    assert_eq!(image_of(&deploy(Some(&live), &desired, Some("mirror/k:2"), true)), "mirror/k:2");
    // Nothing else to do: nothing is written.
    let mut live = with_owner(ours(desired.clone()), "kubectl-edit", "f:resources");
    live["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "1Gi"}});
    live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "sidecar"}));
    live["spec"]["replicas"] = json!(2);
    assert_eq!(deploy(Some(&live), &desired, None, true), Deploy::Nothing);
}

#[test]
fn somebody_elses_deployment_is_left_alone() {
    let desired = deployment("2.0.0", None);
    let live = by("helm", deployment("1.0.0", Some("chart/k:1")));
    let Deploy::Leave(note) = deploy(Some(&live), &desired, None, true) else { panic!("written") };
    assert!(note.contains("helm") && note.contains("kube-bind/konnector"), "{note}");
    let live = by("helm", deployment("2.0.0", Some("chart/k:2")));
    assert_eq!(deploy(Some(&live), &desired, None, true), Deploy::Nothing);
    let Deploy::Leave(note) = deploy(Some(&live), &desired, Some("mirror/k:2"), true) else { panic!("written") };
    assert!(note.contains("mirror/k:2"), "{note}");
    // The status is nobody's hand.
    let mut ours = ours(deployment("2.0.0", None));
    let status = json!({"manager": "kube-controller-manager", "subresource": "status", "fieldsV1": {"f:status": {}}});
    ours["metadata"]["managedFields"].as_array_mut().unwrap().push(status);
    assert_eq!(deploy(Some(&ours), &desired, None, true), Deploy::Nothing);
}

#[test]
fn a_person_needs_what_will_be_written_and_no_more() {
    let all = [objects(VERSION), vec![deployment(VERSION, None)]].concat();
    let fresh: Vec<String> =
        permissions(all.iter().map(|object| (object, false))).iter().map(ToString::to_string).collect();
    for wanted in [
        "create namespaces",
        "patch customresourcedefinitions.apiextensions.k8s.io",
        "create deployments.apps in namespace kube-bind",
        "create roles.rbac.authorization.k8s.io in namespace kube-bind",
    ] {
        assert!(fresh.contains(&wanted.to_owned()), "{wanted}: {fresh:?}");
    }
    let change = permissions([(all.last().unwrap(), true)]);
    assert_eq!(change, [Permission::new("patch", "apps", "deployments", CONSUMER_NAMESPACE)]);
    assert!(permissions([]).is_empty());
}
