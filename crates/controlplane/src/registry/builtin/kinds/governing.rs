//! The kinds that govern a cluster: access, extensions, coordination, networks, storage.

use k8s_openapi::api as k8s;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;

use super::{Kind, kind, of};
use crate::registry::StoredAs;
use crate::registry::builtin::columns;

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

pub(super) fn access() -> Vec<Kind> {
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
        kind(RBAC, "v1", "clusterroles", "ClusterRole", &[], of!(rbac::ClusterRole), columns::created_at).cluster(),
        kind(RBAC, "v1", "rolebindings", "RoleBinding", &[], of!(rbac::RoleBinding), columns::bindings),
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

pub(super) fn machinery() -> Vec<Kind> {
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
        kind("coordination.k8s.io", "v1", "leases", "Lease", &[], of!(coordination::Lease), columns::leases),
        Kind {
            stored_as: Some(CORE_EVENTS),
            ..kind("events.k8s.io", "v1", "events", "Event", &["ev"], of!(events::Event), columns::events)
                .fields(NEW_EVENT_FIELDS)
        },
    ]
}

pub(super) fn infrastructure() -> Vec<Kind> {
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
        kind(NETWORKING, "v1", "ingresses", "Ingress", &["ing"], of!(networking::Ingress), columns::ingresses)
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
