//! What the consumer's API server can do. In: its answers to `/version` and discovery. Out: [`Served`], and sentences
//! about what is missing: refused when a bind cannot work without it, said once when it can.

use serde_json::Value;

use crate::cluster::{Cluster, text};
use crate::errors::CliError;

const CRDS: &str = "apiextensions.k8s.io/v1";
const ADMISSION: &str = "admissionregistration.k8s.io/v1";
const APPS: &str = "apps/v1";
/// The minor version since which rules in schemas are checked.
const RULES: u32 = 25;

/// Which of the kinds that not every API server has are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// As the API server calls itself.
    pub(crate) version: String,
    crds: bool,
    /// ValidatingAdmissionPolicies and their bindings.
    pub(crate) policies: bool,
    /// MutatingAdmissionPolicies and their bindings.
    pub(crate) births: bool,
    /// Deployments: without them no pods run here.
    pub(crate) deployments: bool,
}

impl Served {
    /// Asks.
    pub(crate) async fn ask(consumer: &Cluster) -> Result<Self, CliError> {
        let version = consumer.discovery("/version").await?;
        let crds = consumer.discovery(&format!("/apis/{CRDS}")).await?;
        let admission = consumer.discovery(&format!("/apis/{ADMISSION}")).await?;
        let apps = consumer.discovery(&format!("/apis/{APPS}")).await?;
        Ok(Self::read(version.as_ref(), crds.as_ref(), admission.as_ref(), apps.as_ref()))
    }

    /// Reads the answers; `None` is a 404.
    fn read(version: Option<&Value>, crds: Option<&Value>, admission: Option<&Value>, apps: Option<&Value>) -> Self {
        let has = |list: Option<&Value>, plural: &str| {
            let resources = list.and_then(|list| list.get("resources")).and_then(Value::as_array);
            resources.into_iter().flatten().any(|resource| text(resource, "/name") == plural)
        };
        let version = version.map(|version| text(version, "/gitVersion")).filter(|version| !version.is_empty());
        Self {
            version: version.unwrap_or("of unknown version").to_owned(),
            crds: has(crds, "customresourcedefinitions"),
            policies: has(admission, "validatingadmissionpolicies")
                && has(admission, "validatingadmissionpolicybindings"),
            births: has(admission, "mutatingadmissionpolicies") && has(admission, "mutatingadmissionpolicybindings"),
            deployments: has(apps, "deployments"),
        }
    }

    /// What nothing works without.
    pub(crate) fn enough(&self, server: &str) -> Result<(), CliError> {
        if self.crds {
            return Ok(());
        }
        Err(CliError::ServerTooOld { server: server.to_owned(), version: self.version.clone() })
    }

    /// What works without, but is not the same.
    pub(crate) fn notes(&self) -> Vec<String> {
        let version = &self.version;
        let mut notes = Vec::new();
        if !self.policies {
            notes.push(format!(
                "The API server ({version}) has no ValidatingAdmissionPolicy (Kubernetes 1.30 has): the agent is held to its \
                 rights by RBAC alone, which cannot say \"only what it made itself\". Everything else works."
            ));
        }
        if self.minor().is_some_and(|minor| minor < RULES) {
            notes.push(format!(
                "The API server ({version}) does not check the rules of a schema (x-kubernetes-validations, Kubernetes \
                 1.{RULES} does): what breaks one of the provider's is taken here, refused by the provider, and told by an \
                 Event SyncRefused on the object."
            ));
        }
        notes
    }

    /// `v1.20.15` is 20. Not all who speak this protocol are Kubernetes, so it says what is only to be told, not done.
    fn minor(&self) -> Option<u32> {
        let minor = self.version.strip_prefix("v1.")?.split('.').next()?;
        minor.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(names: &[&str]) -> Value {
        json!({"kind": "APIResourceList", "resources": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()})
    }

    fn version(text: &str) -> Value {
        json!({"major": "1", "minor": "0", "gitVersion": text})
    }

    #[test]
    fn a_server_of_today_has_everything() {
        let crds = list(&["customresourcedefinitions", "customresourcedefinitions/status"]);
        let admission = list(&[
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicies/status",
            "validatingadmissionpolicybindings",
        ]);
        assert!(!Served::read(None, Some(&crds), Some(&admission), None).births, "1.30 has them not");
        let admission = list(&[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ]);
        let apps = list(&["deployments", "deployments/scale"]);
        let served = Served::read(Some(&version("v1.36.3")), Some(&crds), Some(&admission), Some(&apps));
        assert!(served.policies && served.births && served.deployments);
        assert!(served.enough("https://c").is_ok());
        assert_eq!(served.notes(), [""; 0]);
    }

    #[test]
    fn without_policies_it_says_so_and_goes_on() {
        // 1.20 has webhooks in the same group; 1.29 serves policies only as v1beta1, so not in this list either.
        let crds = list(&["customresourcedefinitions"]);
        let admission = list(&["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]);
        for name in ["v1.20.15", "v1.29.4"] {
            let served =
                Served::read(Some(&version(name)), Some(&crds), Some(&admission), Some(&list(&["deployments"])));
            assert!(served.enough("https://c").is_ok());
            assert!(!served.policies && served.deployments);
            let notes = served.notes();
            let note = &notes[0];
            assert_eq!(notes.len(), if name == "v1.20.15" { 2 } else { 1 }, "{notes:?}");
            assert!(notes.iter().all(|note| note.contains(name)), "{notes:?}");
            assert!(notes.get(1).is_none_or(|note| note.contains("x-kubernetes-validations")), "{notes:?}");
            assert!(note.contains(name) && note.contains("ValidatingAdmissionPolicy"), "{note}");
        }
        // A policy without what puts it in force is of no use.
        let half = list(&["validatingadmissionpolicies"]);
        assert!(!Served::read(None, Some(&crds), Some(&half), None).policies);
    }

    #[test]
    fn without_custom_resources_it_cannot_work() {
        let old = Served::read(Some(&version("v1.15.0")), None, None, Some(&list(&["deployments"])));
        let error = old.enough("https://c").unwrap_err().to_string();
        assert!(error.contains("https://c") && error.contains("v1.15.0") && error.contains("1.16"), "{error}");
    }

    #[test]
    fn a_control_plane_without_pods_is_known_by_its_missing_deployments() {
        let served = Served::read(None, Some(&list(&["customresourcedefinitions"])), None, None);
        assert!(!served.deployments);
        assert!(served.notes()[0].contains("unknown version"));
    }
}
