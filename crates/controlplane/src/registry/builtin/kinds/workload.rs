//! The kinds of the core group, and of what runs in a cluster.

use k8s_openapi::api as k8s;

use super::{Kind, kind, of};
use crate::registry::Subresource;
use crate::registry::builtin::columns;

const FINALIZE: Subresource =
    Subresource { name: "finalize", kind: "Namespace", group: None, version: None, verbs: &["update"] };

const TOKEN: Subresource = Subresource {
    name: "token",
    kind: "TokenRequest",
    group: Some("authentication.k8s.io"),
    version: Some("v1"),
    verbs: &["create"],
};

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source.component",
    "type",
];

const POD_FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];

pub(super) fn core() -> Vec<Kind> {
    use k8s::core::v1;
    vec![
        kind("", "v1", "configmaps", "ConfigMap", &["cm"], of!(v1::ConfigMap), columns::config_maps),
        kind("", "v1", "endpoints", "Endpoints", &["ep"], of!(v1::Endpoints), columns::endpoints),
        kind("", "v1", "events", "Event", &["ev"], of!(v1::Event), columns::events).fields(EVENT_FIELDS),
        kind("", "v1", "limitranges", "LimitRange", &["limits"], of!(v1::LimitRange), columns::created_at),
        kind("", "v1", "namespaces", "Namespace", &["ns"], of!(v1::Namespace), columns::namespaces)
            .cluster()
            .status()
            .fields(&["status.phase"])
            .subresources(&[FINALIZE]),
        kind("", "v1", "nodes", "Node", &["no"], of!(v1::Node), columns::nodes)
            .cluster()
            .status()
            .fields(&["spec.unschedulable"]),
        kind(
            "",
            "v1",
            "persistentvolumeclaims",
            "PersistentVolumeClaim",
            &["pvc"],
            of!(v1::PersistentVolumeClaim),
            columns::persistent_volume_claims,
        )
        .status(),
        kind(
            "",
            "v1",
            "persistentvolumes",
            "PersistentVolume",
            &["pv"],
            of!(v1::PersistentVolume),
            columns::persistent_volumes,
        )
        .cluster()
        .status(),
        kind("", "v1", "pods", "Pod", &["po"], of!(v1::Pod), columns::pods)
            .in_all()
            .status()
            .generation()
            .fields(POD_FIELDS),
        kind("", "v1", "podtemplates", "PodTemplate", &[], of!(v1::PodTemplate), columns::pod_templates).generation(),
        kind(
            "",
            "v1",
            "replicationcontrollers",
            "ReplicationController",
            &["rc"],
            of!(v1::ReplicationController),
            columns::replica_controllers,
        )
        .in_all()
        .status()
        .scale()
        .generation()
        .fields(&["status.replicas"]),
        kind("", "v1", "resourcequotas", "ResourceQuota", &["quota"], of!(v1::ResourceQuota), columns::resource_quotas)
            .status(),
        kind("", "v1", "secrets", "Secret", &[], of!(v1::Secret), columns::secrets).fields(&["type"]),
        kind(
            "",
            "v1",
            "serviceaccounts",
            "ServiceAccount",
            &["sa"],
            of!(v1::ServiceAccount),
            columns::service_accounts,
        )
        .subresources(&[TOKEN]),
        kind("", "v1", "services", "Service", &["svc"], of!(v1::Service), columns::services)
            .in_all()
            .status()
            .fields(&["spec.clusterIP", "spec.type"]),
    ]
}

pub(super) fn workloads() -> Vec<Kind> {
    use k8s::apps::v1 as apps;
    use k8s::autoscaling::v2 as autoscaling;
    use k8s::batch::v1 as batch;
    vec![
        kind(
            "apps",
            "v1",
            "controllerrevisions",
            "ControllerRevision",
            &[],
            of!(apps::ControllerRevision),
            columns::created_at,
        ),
        kind("apps", "v1", "daemonsets", "DaemonSet", &["ds"], of!(apps::DaemonSet), columns::daemon_sets)
            .in_all()
            .status()
            .generation(),
        kind("apps", "v1", "deployments", "Deployment", &["deploy"], of!(apps::Deployment), columns::deployments)
            .in_all()
            .status()
            .scale()
            .generation(),
        kind("apps", "v1", "replicasets", "ReplicaSet", &["rs"], of!(apps::ReplicaSet), columns::replica_controllers)
            .in_all()
            .status()
            .scale()
            .generation()
            .fields(&["status.replicas"]),
        kind("apps", "v1", "statefulsets", "StatefulSet", &["sts"], of!(apps::StatefulSet), columns::stateful_sets)
            .in_all()
            .status()
            .scale()
            .generation(),
        kind("batch", "v1", "cronjobs", "CronJob", &["cj"], of!(batch::CronJob), columns::cron_jobs)
            .in_all()
            .status()
            .generation(),
        kind("batch", "v1", "jobs", "Job", &[], of!(batch::Job), columns::jobs).in_all().status().generation(),
        kind(
            "autoscaling",
            "v2",
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            &["hpa"],
            of!(autoscaling::HorizontalPodAutoscaler),
            columns::autoscalers,
        )
        .in_all()
        .status(),
    ]
}
