//! What this provider offers: templates, and exported CRDs without one.
//!
//! In: templates, collections, labelled CRDs and the ClusterRole that says what may be offered. Out: a [`Catalogue`] of
//! [`Offering`]s, each either ready to be bound or with the sentence that says what is missing and which command mends
//! it. [`Catalogue::assemble`] is pure. Called by `http`, `bind` and the request controller.

use std::collections::BTreeMap;

use kube_bind_api::constants::LABEL_EXPORTED;
use kube_bind_api::{
    APIServiceExportTemplate, APIServiceExportTemplateSpec, Collection, ExportedResource, GroupResource,
    PermissionClaim, Scope,
};
use kube_client::{Api, ApiError, ListQuery, ObjectKey};
use serde_json::{Value, json};

use crate::resources;

/// Kinds that claims may be about (core group): plural, singular, kind.
pub const CLAIMABLE: [(&str, &str, &str); 4] = [
    ("configmaps", "configmap", "ConfigMap"),
    ("secrets", "secret", "Secret"),
    ("serviceaccounts", "serviceaccount", "ServiceAccount"),
    ("services", "service", "Service"),
];

/// What consumers do with an offered kind in their mapped namespaces.
const KIND_VERBS: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];
/// What the agent does with a claimed object.
const CLAIM_VERBS: [&str; 4] = ["get", "create", "patch", "delete"];

/// One kind of an offering.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedKind {
    /// API group.
    pub group: String,
    /// Plural.
    pub plural: String,
    /// Kind.
    pub kind: String,
    /// The storage version.
    pub version: String,
    /// All served versions.
    pub versions: Vec<String>,
    /// Scope of the CRD at the provider.
    pub scope: Scope,
    /// `openAPIV3Schema` of the storage version.
    pub schema: Value,
}

impl OfferedKind {
    /// Reads a CRD; `None` if it has no storage version.
    #[must_use]
    pub fn of_crd(crd: &Value) -> Option<Self> {
        let spec = &crd["spec"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let versions = spec["versions"].as_array()?;
        let storage = versions.iter().find(|version| version["storage"] == json!(true))?;
        let served = versions.iter().filter(|version| version["served"] == json!(true));
        Some(Self {
            group: text(&spec["group"])?,
            plural: text(&spec["names"]["plural"])?,
            kind: text(&spec["names"]["kind"])?,
            version: text(&storage["name"])?,
            versions: served.filter_map(|version| text(&version["name"])).collect(),
            scope: if spec["scope"] == json!("Cluster") { Scope::Cluster } else { Scope::Namespaced },
            schema: storage["schema"]["openAPIV3Schema"].clone(),
        })
    }

    /// Group and plural.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.plural.clone())
    }
}

/// One entry of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Offering {
    /// Name: the template's, or the CRD's.
    pub name: String,
    /// The template, or what one for the CRD would be.
    pub template: APIServiceExportTemplate,
    /// Its kinds, as far as they exist.
    pub kinds: Vec<OfferedKind>,
    /// Why it cannot be bound yet, with what mends it.
    pub problem: Option<String>,
}

impl Offering {
    /// The offering as `/api/templates` lists it: with a condition that says whether it can be bound.
    #[must_use]
    pub fn listed(&self) -> Value {
        let mut object = serde_json::to_value(&self.template).unwrap_or_default();
        if let Some(problem) = &self.problem {
            object["status"] = json!({"conditions": [{
                "type": "Available", "status": "False", "severity": "Warning", "reason": "NotAvailable",
                "message": problem, "lastTransitionTime": self.template.metadata.creation_timestamp,
            }]});
        }
        object
    }

    /// The resources of a request for this offering; versions are filled in from the CRDs.
    #[must_use]
    pub fn resources(&self) -> Vec<ExportedResource> {
        let mut resources = self.template.spec.resources.clone();
        for resource in &mut resources {
            if resource.versions.is_empty()
                && let Some(kind) = self.kinds.iter().find(|kind| kind.group_resource() == resource.group_resource())
            {
                resource.versions.clone_from(&kind.versions);
            }
        }
        resources
    }

    /// Whether this offering has every one of the resources.
    #[must_use]
    pub fn covers(&self, resources: &[ExportedResource]) -> bool {
        resources.iter().all(|wanted| {
            self.template.spec.resources.iter().any(|own| own.group_resource() == wanted.group_resource())
        })
    }
}

/// Everything that is offered, and the CRDs behind it.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Sorted by name.
    pub offerings: Vec<Offering>,
    /// As stored.
    pub collections: Vec<Collection>,
    /// Exported CRDs.
    pub crds: BTreeMap<GroupResource, Value>,
}

impl Catalogue {
    /// Reads the catalogue from the provider's API server.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn load(api: &Api) -> Result<Self, ApiError> {
        let exported = ListQuery { labels: Some(format!("{LABEL_EXPORTED}=true")), ..ListQuery::default() };
        let (template_kind, collection_kind) =
            (resources::of::<APIServiceExportTemplate>(), resources::of::<Collection>());
        let (crd_kind, role_kind) = (resources::crds(), resources::cluster_roles());
        let all = ListQuery::default();
        let grants_key = ObjectKey::cluster(contract::rbac::backend::OFFERS);
        let (templates, collections, crds, grants) = tokio::try_join!(
            api.list(&template_kind, &all),
            api.list(&collection_kind, &all),
            api.list(&crd_kind, &exported),
            api.get_opt(&role_kind, &grants_key),
        )?;
        Ok(Self::assemble(templates, collections, crds, grants.as_ref()))
    }

    /// Puts the catalogue together; objects that do not parse are logged and left out.
    #[must_use]
    pub fn assemble(templates: Vec<Value>, collections: Vec<Value>, crds: Vec<Value>, grants: Option<&Value>) -> Self {
        let mut known = BTreeMap::new();
        for crd in crds {
            if let Some(kind) = OfferedKind::of_crd(&crd)
                && kind.group != kube_bind_api::GROUP
            {
                known.insert(kind.group_resource(), (kind, crd));
            }
        }
        let templates: Vec<APIServiceExportTemplate> = templates.into_iter().filter_map(decode).collect();
        let mut offerings: Vec<Offering> =
            templates.into_iter().map(|template| from_template(template, &known, grants)).collect();
        for (resource, (kind, crd)) in &known {
            let refined = offerings
                .iter()
                .any(|offering| offering.template.spec.resources.iter().any(|own| own.group_resource() == *resource));
            if !refined {
                offerings.push(from_crd(kind, crd, grants));
            }
        }
        offerings.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            offerings,
            collections: collections.into_iter().filter_map(decode).collect(),
            crds: known.into_iter().map(|(resource, (_, crd))| (resource, crd)).collect(),
        }
    }

    /// The offering of that name.
    #[must_use]
    pub fn offering(&self, name: &str) -> Option<&Offering> {
        self.offerings.iter().find(|offering| offering.name == name)
    }

    /// The collection of that name.
    #[must_use]
    pub fn collection(&self, name: &str) -> Option<&Collection> {
        self.collections.iter().find(|collection| collection.metadata.name.as_deref() == Some(name))
    }

    /// The offering that a request is about: the one of the request's name if it has the resources, else the first that
    /// can be bound and has them.
    #[must_use]
    pub fn covering(&self, name: &str, resources: &[ExportedResource]) -> Option<&Offering> {
        let fits = |offering: &&Offering| offering.covers(resources);
        self.offering(name)
            .filter(fits)
            .or_else(|| self.offerings.iter().filter(fits).find(|offering| offering.problem.is_none()))
            .or_else(|| self.offerings.iter().find(fits))
    }
}

fn decode<T: serde::de::DeserializeOwned>(value: Value) -> Option<T> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match serde_json::from_value(value) {
        Ok(object) => Some(object),
        Err(err) => {
            tracing::warn!(name, error = %err, "an object of the catalogue cannot be read and is left out");
            None
        }
    }
}

type Known = BTreeMap<GroupResource, (OfferedKind, Value)>;

fn from_template(template: APIServiceExportTemplate, known: &Known, grants: Option<&Value>) -> Offering {
    let mut kinds = Vec::new();
    let mut problem = None;
    for resource in &template.spec.resources {
        match known.get(&resource.group_resource()) {
            Some((kind, _)) => kinds.push(kind.clone()),
            None => {
                let crd = resource.group_resource().crd_name();
                problem.get_or_insert_with(|| {
                    format!(
                        "there is no CRD {crd} labelled {LABEL_EXPORTED}=true; run: kubectl bind provider offer {crd}"
                    )
                });
            }
        }
    }
    let problem = problem
        .or_else(|| kinds.iter().find_map(|kind| ungranted(kind, grants)))
        .or_else(|| template.spec.permission_claims.iter().find_map(|claim| bad_claim(claim, grants)));
    Offering { name: template.metadata.name.clone().unwrap_or_default(), template, kinds, problem }
}

fn from_crd(kind: &OfferedKind, crd: &Value, grants: Option<&Value>) -> Offering {
    let name = kind.group_resource().crd_name();
    let mut template = APIServiceExportTemplate::new(
        &name,
        APIServiceExportTemplateSpec {
            description: kind.schema["description"].as_str().map(|text| text.chars().take(300).collect()),
            scope: format!("{:?}", kind.scope),
            resources: vec![ExportedResource {
                group: kind.group.clone(),
                resource: kind.plural.clone(),
                versions: kind.versions.clone(),
            }],
            ..APIServiceExportTemplateSpec::default()
        },
    );
    template.metadata.creation_timestamp = serde_json::from_value(crd["metadata"]["creationTimestamp"].clone()).ok();
    template.metadata.uid = crd["metadata"]["uid"].as_str().map(str::to_owned);
    Offering { name, template, kinds: vec![kind.clone()], problem: ungranted(kind, grants) }
}

fn ungranted(kind: &OfferedKind, grants: Option<&Value>) -> Option<String> {
    if granted(grants, &kind.group, &kind.plural, &KIND_VERBS) {
        return None;
    }
    let crd = kind.group_resource().crd_name();
    Some(format!("the backend has no grant for {crd}; run: kubectl bind provider offer {crd}"))
}

fn bad_claim(claim: &PermissionClaim, grants: Option<&Value>) -> Option<String> {
    let resource = claim.group_resource();
    if let Err(err) = contract::Claim::parse(claim) {
        return Some(err.to_string());
    }
    if granted(grants, &resource.group, &resource.resource, &CLAIM_VERBS) {
        return None;
    }
    Some(format!(
        "the backend has no grant for the claimed {resource}; add a rule for them to ClusterRole {}",
        contract::rbac::backend::OFFERS
    ))
}

/// Whether a ClusterRole grants the verbs on all objects of a resource.
#[must_use]
pub fn granted(role: Option<&Value>, group: &str, resource: &str, verbs: &[&str]) -> bool {
    let has = |list: &Value, wanted: &str| {
        list.as_array().is_some_and(|list| list.iter().any(|item| item == wanted || item == "*"))
    };
    let rules: Vec<&Value> =
        role.and_then(|role| role["rules"].as_array()).map(|rules| rules.iter().collect()).unwrap_or_default();
    verbs.iter().all(|verb| {
        rules.iter().any(|rule| {
            let named = rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty());
            !named && has(&rule["apiGroups"], group) && has(&rule["resources"], resource) && has(&rule["verbs"], verb)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(group: &str, plural: &str, kind: &str) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.{group}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"group": group, "names": {"plural": plural, "kind": kind}, "scope": "Namespaced", "versions": [
                {"name": "v1alpha1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {}}},
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
        })
    }

    fn template(name: &str, group: &str, plural: &str, claims: Value) -> Value {
        json!({
            "apiVersion": "kube-bind.io/v1alpha2", "kind": "APIServiceExportTemplate", "metadata": {"name": name},
            "spec": {"scope": "Namespaced", "resources": [{"group": group, "resource": plural}], "permissionClaims": claims},
        })
    }

    fn grants(group: &str, plural: &str) -> Value {
        json!({"rules": [
            {"apiGroups": [group], "resources": [plural], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]}]})
    }

    #[test]
    fn a_labelled_crd_is_an_offering_until_a_template_refines_it() {
        let grants = grants("g.io", "things");
        let plain = Catalogue::assemble(vec![], vec![], vec![crd("g.io", "things", "Thing")], Some(&grants));
        assert_eq!(plain.offerings[0].name, "things.g.io");
        assert_eq!(plain.offerings[0].problem, None);
        assert_eq!(plain.offerings[0].resources()[0].versions, ["v1alpha1", "v1"]);
        let refined = Catalogue::assemble(
            vec![template("nice", "g.io", "things", json!([]))],
            vec![],
            vec![crd("g.io", "things", "Thing")],
            Some(&grants),
        );
        assert_eq!(refined.offerings.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["nice"]);
        assert_eq!(refined.offerings[0].resources()[0].versions, ["v1alpha1", "v1"]);
    }

    #[test]
    fn without_the_grant_it_is_not_yet_available_and_says_which_command_mends_it() {
        let catalogue = Catalogue::assemble(vec![], vec![], vec![crd("g.io", "things", "Thing")], None);
        let offering = &catalogue.offerings[0];
        assert!(offering.problem.as_deref().unwrap().ends_with("kubectl bind provider offer things.g.io"));
        assert_eq!(offering.listed()["status"]["conditions"][0]["status"], "False");
    }

    #[test]
    fn a_template_needs_its_crd_and_the_grant_for_its_claims() {
        let claim = |resource: &str| json!([{"resource": resource, "selector": {"namedResources": [{"name": "a"}]}}]);
        let problem = |templates, crds| {
            Catalogue::assemble(templates, vec![], crds, Some(&grants("g.io", "things"))).offerings[0].problem.clone()
        };
        let things = || vec![crd("g.io", "things", "Thing")];
        assert!(
            problem(vec![template("t", "g.io", "things", json!([]))], vec![]).unwrap().contains("no CRD things.g.io")
        );
        assert_eq!(problem(vec![template("t", "g.io", "things", claim("secrets"))], things()), None);
        assert!(
            problem(vec![template("t", "g.io", "things", claim("configmaps"))], things()).unwrap().contains("no grant")
        );
        assert!(
            problem(vec![template("t", "g.io", "things", claim("pods"))], things())
                .unwrap()
                .contains("cannot be claimed")
        );
    }

    #[test]
    fn our_own_kinds_are_never_offered() {
        let crds = vec![crd("kube-bind.io", "apiserviceexports", "APIServiceExport")];
        assert!(Catalogue::assemble(vec![], vec![], crds, None).offerings.is_empty());
    }
}
