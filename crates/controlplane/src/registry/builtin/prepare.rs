//! What Kubernetes fills in on built-in kinds where a field depends on others.
//!
//! Flows in: an object on its way to the store. Flows out: the same object with nulls dropped ([`drop_nulls`], right after
//! decoding) and dependent defaults set ([`complete`], after the schema's defaults). Called by the write pipeline. Kinds
//! with more rules of their own (Secrets, Services, Namespaces, RBAC) are in `pipeline/admission`.

use serde_json::{Value, json};

use crate::registry::Resource;

/// To a built-in type null is "not given". CustomResourceDefinitions and ControllerRevisions carry JSON of others, so
/// they keep theirs, as custom resources do.
pub fn drop_nulls(resource: &Resource, object: &mut Value) {
    if !resource.custom && !matches!(resource.kind.as_str(), "CustomResourceDefinition" | "ControllerRevision") {
        without_nulls(object);
    }
}

/// Sets the defaults that depend on other fields; the schema's defaults are there already.
pub fn complete(resource: &Resource, object: &mut Value) {
    if resource.custom {
        return;
    }
    if let Some(status) = empty_status(&resource.kind) {
        set_default(Some(object), "status", || status);
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => {
            set_default(object.get_mut("spec"), "enableServiceLinks", || true.into());
            complete_pod_spec(object.get_mut("spec"));
        }
        ("", "PodTemplate") => complete_pod_spec(object.pointer_mut("/template/spec")),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => {
            complete_pod_spec(object.pointer_mut("/spec/template/spec"));
        }
        ("apps", "Deployment") => {
            complete_strategy(
                object.pointer_mut("/spec/strategy"),
                json!({"maxSurge": "25%", "maxUnavailable": "25%"}),
            );
            complete_pod_spec(object.pointer_mut("/spec/template/spec"));
        }
        ("apps", "DaemonSet") => {
            complete_strategy(object.pointer_mut("/spec/updateStrategy"), json!({"maxSurge": 0, "maxUnavailable": 1}));
            complete_pod_spec(object.pointer_mut("/spec/template/spec"));
        }
        ("apps", "StatefulSet") => {
            complete_strategy(object.pointer_mut("/spec/updateStrategy"), json!({"partition": 0}));
            complete_pod_spec(object.pointer_mut("/spec/template/spec"));
        }
        ("batch", "Job") => {
            complete_job(object.get_mut("spec"));
            complete_pod_spec(object.pointer_mut("/spec/template/spec"));
        }
        ("batch", "CronJob") => complete_pod_spec(object.pointer_mut("/spec/jobTemplate/spec/template/spec")),
        ("networking.k8s.io", "NetworkPolicy") => complete_network_policy(object),
        _ => {}
    }
}

/// The status a new object begins with: its required fields, and what their zeros say.
fn empty_status(kind: &str) -> Option<Value> {
    Some(match kind {
        "Pod" | "PersistentVolume" | "PersistentVolumeClaim" => json!({"phase": "Pending"}),
        "Deployment" | "Job" | "CronJob" | "ResourceQuota" => json!({}),
        "Ingress" => json!({"loadBalancer": {}}),
        "ReplicaSet" | "ReplicationController" => json!({"replicas": 0}),
        "StatefulSet" => json!({"availableReplicas": 0, "replicas": 0}),
        "DaemonSet" => json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        }),
        "PodDisruptionBudget" => {
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
        }
        "HorizontalPodAutoscaler" => json!({"desiredReplicas": 0}),
        _ => return None,
    })
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn set_default(target: Option<&mut Value>, field: &str, default: impl FnOnce() -> Value) {
    if let Some(Value::Object(fields)) = target
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), default());
    }
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn complete_pod_spec(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let image = text(container, "image");
            set_default(Some(container), "imagePullPolicy", || pull_policy(&image).into());
        }
    }
}

/// Images without a fixed tag or digest are pulled each time.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) if tag != "latest" => "IfNotPresent",
        _ => "Always",
    }
}

fn complete_strategy(strategy: Option<&mut Value>, rolling: Value) {
    let Some(strategy) = strategy.filter(|s| text(s, "type") == "RollingUpdate") else {
        return;
    };
    set_default(Some(&mut *strategy), "rollingUpdate", || rolling.clone());
    if let (Some(target), Value::Object(fields)) = (strategy.get_mut("rollingUpdate"), rolling) {
        for (field, default) in fields {
            set_default(Some(&mut *target), &field, || default);
        }
    }
}

fn complete_job(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        set_default(Some(&mut *spec), "completions", || 1.into());
    }
    // not in the schema: a CronJob's template of a Job stays as it was written
    for (field, default) in [
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("suspend", json!(false)),
    ] {
        set_default(Some(&mut *spec), field, || default);
    }
}

fn complete_network_policy(policy: &mut Value) {
    let Some(spec) = policy.get_mut("spec") else {
        return;
    };
    let egress = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    set_default(Some(spec), "policyTypes", || if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(plural: &str, object: Value) -> Value {
        let all = super::super::resources();
        let resource = all.iter().find(|r| r.plural == plural).unwrap();
        let mut object = object;
        drop_nulls(resource, &mut object);
        resource.schema.apply_defaults(&mut object);
        complete(resource, &mut object);
        object
    }

    #[test]
    fn a_deployment_is_completed_as_kubernetes_does() {
        let deployment = completed(
            "deployments",
            json!({"metadata": {"name": "d", "creationTimestamp": null}, "spec": {"strategy": {}, "selector": {},
                "template": {"metadata": {"creationTimestamp": null}, "spec": {"containers": [{"name": "c", "image": "nginx:1.2"}]}}}}),
        );
        assert_eq!(deployment["metadata"], json!({"name": "d"}));
        assert_eq!(
            deployment["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(deployment["spec"]["replicas"], 1);
    }

    #[test]
    fn images_without_a_tag_are_pulled_each_time() {
        assert_eq!(pull_policy("nginx"), "Always");
        assert_eq!(pull_policy("reg:5000/nginx"), "Always");
        assert_eq!(pull_policy("reg:5000/nginx:1"), "IfNotPresent");
        assert_eq!(pull_policy("nginx@sha256:abc"), "IfNotPresent");
    }
}
