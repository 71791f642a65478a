//! The table of built-in kinds.
//!
//! Flows in: nothing. Flows out: one [`Kind`] a resource and version, from which [`super::resources`] makes descriptors.
//! Adding a kind is adding a row here (and, if it should merge or fill in, lines in the tables of facts).

use apimachinery::table::Column;
use k8s_openapi::api as k8s;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;

use super::columns;
use super::definitions::TypeRef;
use crate::registry::{StoredAs, Subresource};

/// One built-in resource in one version.
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) short_names: &'static [&'static str],
    pub(super) categories: &'static [&'static str],
    pub(super) namespaced: bool,
    /// Only created and answered, never stored.
    pub(super) review: bool,
    pub(super) status: bool,
    pub(super) scale: bool,
    pub(super) generation: bool,
    pub(super) fields: &'static [&'static str],
    pub(super) subresources: &'static [Subresource],
    pub(super) stored_as: Option<StoredAs>,
    pub(super) columns: fn() -> Vec<Column>,
    pub(super) schema: TypeRef,
}

const fn kind(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    schema: TypeRef,
    columns: fn() -> Vec<Column>,
) -> Kind {
    Kind {
        group,
        version,
        plural,
        kind,
        short_names,
        categories: &[],
        namespaced: true,
        review: false,
        status: false,
        scale: false,
        generation: false,
        fields: &[],
        subresources: &[],
        stored_as: None,
        columns,
        schema,
    }
}

impl Kind {
    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn in_all(mut self) -> Self {
        self.categories = &["all"];
        self
    }

    const fn extension(mut self) -> Self {
        self.categories = &["api-extensions"];
        self.namespaced = false;
        self
    }

    const fn status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn scale(mut self) -> Self {
        self.scale = true;
        self
    }

    const fn generation(mut self) -> Self {
        self.generation = true;
        self
    }

    const fn fields(mut self, fields: &'static [&'static str]) -> Self {
        self.fields = fields;
        self
    }

    const fn subresources(mut self, subresources: &'static [Subresource]) -> Self {
        self.subresources = subresources;
        self
    }

    const fn review(mut self) -> Self {
        self.review = true;
        self
    }
}

const FINALIZE: Subresource = Subresource {
    name: "finalize",
    kind: "Namespace",
    group: None,
    version: None,
    verbs: &["update"],
};

const TOKEN: Subresource = Subresource {
    name: "token",
    kind: "TokenRequest",
    group: Some("authentication.k8s.io"),
    version: Some("v1"),
    verbs: &["create"],
};

/// Events of both groups are one resource; these fields have other names in the newer one.
const CORE_EVENTS: StoredAs = StoredAs {
    group: "",
    version: "v1",
    renames: &[
        ("regarding", "involvedObject"),
        ("note", "message"),
        ("reportingController", "reportingComponent"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
    ],
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

const NEW_EVENT_FIELDS: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
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

macro_rules! of {
    ($t:ty) => {
        TypeRef::of::<$t>()
    };
}

/// Every built-in resource.
pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds = core();
    kinds.extend(workloads());
    kinds.extend(access());
    kinds.extend(machinery());
    kinds.extend(infrastructure());
    kinds
}

fn core() -> Vec<Kind> {
    use k8s::core::v1;
    vec![
        kind(
            "",
            "v1",
            "configmaps",
            "ConfigMap",
            &["cm"],
            of!(v1::ConfigMap),
            columns::config_maps,
        ),
        kind(
            "",
            "v1",
            "endpoints",
            "Endpoints",
            &["ep"],
            of!(v1::Endpoints),
            columns::endpoints,
        ),
        kind("", "v1", "events", "Event", &["ev"], of!(v1::Event), columns::events).fields(EVENT_FIELDS),
        kind(
            "",
            "v1",
            "limitranges",
            "LimitRange",
            &["limits"],
            of!(v1::LimitRange),
            columns::created_at,
        ),
        kind(
            "",
            "v1",
            "namespaces",
            "Namespace",
            &["ns"],
            of!(v1::Namespace),
            columns::namespaces,
        )
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
        kind(
            "",
            "v1",
            "podtemplates",
            "PodTemplate",
            &[],
            of!(v1::PodTemplate),
            columns::pod_templates,
        )
        .generation(),
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
        kind(
            "",
            "v1",
            "resourcequotas",
            "ResourceQuota",
            &["quota"],
            of!(v1::ResourceQuota),
            columns::resource_quotas,
        )
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
        kind(
            "",
            "v1",
            "services",
            "Service",
            &["svc"],
            of!(v1::Service),
            columns::services,
        )
        .in_all()
        .status()
        .fields(&["spec.clusterIP", "spec.type"]),
    ]
}

fn workloads() -> Vec<Kind> {
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
        kind(
            "apps",
            "v1",
            "daemonsets",
            "DaemonSet",
            &["ds"],
            of!(apps::DaemonSet),
            columns::daemon_sets,
        )
        .in_all()
        .status()
        .generation(),
        kind(
            "apps",
            "v1",
            "deployments",
            "Deployment",
            &["deploy"],
            of!(apps::Deployment),
            columns::deployments,
        )
        .in_all()
        .status()
        .scale()
        .generation(),
        kind(
            "apps",
            "v1",
            "replicasets",
            "ReplicaSet",
            &["rs"],
            of!(apps::ReplicaSet),
            columns::replica_controllers,
        )
        .in_all()
        .status()
        .scale()
        .generation()
        .fields(&["status.replicas"]),
        kind(
            "apps",
            "v1",
            "statefulsets",
            "StatefulSet",
            &["sts"],
            of!(apps::StatefulSet),
            columns::stateful_sets,
        )
        .in_all()
        .status()
        .scale()
        .generation(),
        kind(
            "batch",
            "v1",
            "cronjobs",
            "CronJob",
            &["cj"],
            of!(batch::CronJob),
            columns::cron_jobs,
        )
        .in_all()
        .status()
        .generation(),
        kind("batch", "v1", "jobs", "Job", &[], of!(batch::Job), columns::jobs)
            .in_all()
            .status()
            .generation(),
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

fn access() -> Vec<Kind> {
    use k8s::authentication::v1 as authentication;
    use k8s::authorization::v1 as authorization;
    use k8s::rbac::v1 as rbac;
    const RBAC: &str = "rbac.authorization.k8s.io";
    const AUTHENTICATION: &str = "authentication.k8s.io";
    const AUTHORIZATION: &str = "authorization.k8s.io";
    vec![
        kind(
            RBAC,
            "v1",
            "clusterrolebindings",
            "ClusterRoleBinding",
            &[],
            of!(rbac::ClusterRoleBinding),
            columns::bindings,
        )
        .cluster(),
        kind(
            RBAC,
            "v1",
            "clusterroles",
            "ClusterRole",
            &[],
            of!(rbac::ClusterRole),
            columns::created_at,
        )
        .cluster(),
        kind(
            RBAC,
            "v1",
            "rolebindings",
            "RoleBinding",
            &[],
            of!(rbac::RoleBinding),
            columns::bindings,
        ),
        kind(RBAC, "v1", "roles", "Role", &[], of!(rbac::Role), columns::created_at),
        kind(
            AUTHENTICATION,
            "v1",
            "selfsubjectreviews",
            "SelfSubjectReview",
            &[],
            of!(authentication::SelfSubjectReview),
            columns::created_at,
        )
        .cluster()
        .review(),
        kind(
            AUTHENTICATION,
            "v1",
            "tokenreviews",
            "TokenReview",
            &[],
            of!(authentication::TokenReview),
            columns::created_at,
        )
        .cluster()
        .review(),
        kind(
            AUTHORIZATION,
            "v1",
            "localsubjectaccessreviews",
            "LocalSubjectAccessReview",
            &[],
            of!(authorization::LocalSubjectAccessReview),
            columns::created_at,
        )
        .review(),
        kind(
            AUTHORIZATION,
            "v1",
            "selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
            &[],
            of!(authorization::SelfSubjectAccessReview),
            columns::created_at,
        )
        .cluster()
        .review(),
        kind(
            AUTHORIZATION,
            "v1",
            "selfsubjectrulesreviews",
            "SelfSubjectRulesReview",
            &[],
            of!(authorization::SelfSubjectRulesReview),
            columns::created_at,
        )
        .cluster()
        .review(),
        kind(
            AUTHORIZATION,
            "v1",
            "subjectaccessreviews",
            "SubjectAccessReview",
            &[],
            of!(authorization::SubjectAccessReview),
            columns::created_at,
        )
        .cluster()
        .review(),
    ]
}

fn machinery() -> Vec<Kind> {
    use k8s::admissionregistration::v1 as admission;
    use k8s::coordination::v1 as coordination;
    use k8s::events::v1 as events;
    const ADMISSION: &str = "admissionregistration.k8s.io";
    vec![
        kind(
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            &["crd", "crds"],
            of!(apiextensions::CustomResourceDefinition),
            columns::created_at,
        )
        .extension()
        .status()
        .generation(),
        kind(
            ADMISSION,
            "v1",
            "mutatingadmissionpolicies",
            "MutatingAdmissionPolicy",
            &[],
            of!(admission::MutatingAdmissionPolicy),
            columns::mutating_policies,
        )
        .extension()
        .generation(),
        kind(
            ADMISSION,
            "v1",
            "mutatingadmissionpolicybindings",
            "MutatingAdmissionPolicyBinding",
            &[],
            of!(admission::MutatingAdmissionPolicyBinding),
            columns::admission_bindings,
        )
        .extension()
        .generation(),
        kind(
            ADMISSION,
            "v1",
            "mutatingwebhookconfigurations",
            "MutatingWebhookConfiguration",
            &[],
            of!(admission::MutatingWebhookConfiguration),
            columns::webhooks,
        )
        .extension()
        .generation(),
        kind(
            ADMISSION,
            "v1",
            "validatingadmissionpolicies",
            "ValidatingAdmissionPolicy",
            &[],
            of!(admission::ValidatingAdmissionPolicy),
            columns::validating_policies,
        )
        .extension()
        .status()
        .generation(),
        kind(
            ADMISSION,
            "v1",
            "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding",
            &[],
            of!(admission::ValidatingAdmissionPolicyBinding),
            columns::admission_bindings,
        )
        .extension()
        .generation(),
        kind(
            ADMISSION,
            "v1",
            "validatingwebhookconfigurations",
            "ValidatingWebhookConfiguration",
            &[],
            of!(admission::ValidatingWebhookConfiguration),
            columns::webhooks,
        )
        .extension()
        .generation(),
        kind(
            "coordination.k8s.io",
            "v1",
            "leases",
            "Lease",
            &[],
            of!(coordination::Lease),
            columns::leases,
        ),
        Kind {
            stored_as: Some(CORE_EVENTS),
            ..kind(
                "events.k8s.io",
                "v1",
                "events",
                "Event",
                &["ev"],
                of!(events::Event),
                columns::events,
            )
            .fields(NEW_EVENT_FIELDS)
        },
    ]
}

fn infrastructure() -> Vec<Kind> {
    use k8s::discovery::v1 as discovery;
    use k8s::networking::v1 as networking;
    use k8s::policy::v1 as policy;
    use k8s::scheduling::v1 as scheduling;
    use k8s::storage::v1 as storage;
    const NETWORKING: &str = "networking.k8s.io";
    vec![
        kind(
            "discovery.k8s.io",
            "v1",
            "endpointslices",
            "EndpointSlice",
            &[],
            of!(discovery::EndpointSlice),
            columns::endpoint_slices,
        )
        .generation(),
        kind(
            NETWORKING,
            "v1",
            "ingressclasses",
            "IngressClass",
            &[],
            of!(networking::IngressClass),
            columns::ingress_classes,
        )
        .cluster()
        .generation(),
        kind(
            NETWORKING,
            "v1",
            "ingresses",
            "Ingress",
            &["ing"],
            of!(networking::Ingress),
            columns::ingresses,
        )
        .status()
        .generation(),
        kind(
            NETWORKING,
            "v1",
            "networkpolicies",
            "NetworkPolicy",
            &["netpol"],
            of!(networking::NetworkPolicy),
            columns::network_policies,
        )
        .generation(),
        kind(
            "policy",
            "v1",
            "poddisruptionbudgets",
            "PodDisruptionBudget",
            &["pdb"],
            of!(policy::PodDisruptionBudget),
            columns::disruption_budgets,
        )
        .status()
        .generation(),
        kind(
            "scheduling.k8s.io",
            "v1",
            "priorityclasses",
            "PriorityClass",
            &["pc"],
            of!(scheduling::PriorityClass),
            columns::priority_classes,
        )
        .cluster()
        .generation(),
        kind(
            "storage.k8s.io",
            "v1",
            "storageclasses",
            "StorageClass",
            &["sc"],
            of!(storage::StorageClass),
            columns::storage_classes,
        )
        .cluster(),
    ]
}

/// The types of subresources and of the answers themselves, which OpenAPI describes too.
pub(super) fn shared_types() -> Vec<TypeRef> {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    vec![
        of!(k8s::autoscaling::v1::Scale),
        of!(k8s::authentication::v1::TokenRequest),
        of!(meta::DeleteOptions),
        of!(meta::ListMeta),
        of!(meta::ObjectMeta),
        of!(meta::Status),
    ]
}

/// Every type that is described.
#[cfg(test)]
pub(super) fn all_types() -> Vec<TypeRef> {
    kinds().iter().map(|kind| kind.schema).chain(shared_types()).collect()
}
