//! A record of what was asked for, for those who want to know which rights are used.
//!
//! Flows in: every decision about a request, and every right that the write of a Role or binding rested on. Flows out:
//! calls of [`AccessLog::decided`]. Without an observer nothing is made.

use std::sync::Arc;

use super::rbac::Rule;
use crate::request::{Attributes, UserInfo};

/// Why a right was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// The request itself.
    Request,
    /// The request writes a Role or a binding, which gives this right to somebody; only rights that were held are told.
    Grant,
}

/// One decision.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Who asked.
    pub user: &'a UserInfo,
    /// For what.
    pub attributes: &'a Attributes,
    /// The answer.
    pub allowed: bool,
    /// Why it was looked at.
    pub purpose: Purpose,
}

/// Told of every decision, in the middle of the request: note it and return.
pub trait AccessLog: Send + Sync {
    /// A decision was made.
    fn decided(&self, access: &Access<'_>);
}

/// An observer, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Observer(pub(crate) Option<Arc<dyn AccessLog>>);

impl Observer {
    pub(crate) fn request(&self, user: &UserInfo, attributes: &Attributes, allowed: bool) {
        if let Some(log) = &self.0 {
            log.decided(&Access { user, attributes, allowed, purpose: Purpose::Request });
        }
    }

    /// The write rested on this right.
    pub(crate) fn grant(&self, user: &UserInfo, attributes: &Attributes) {
        if let Some(log) = &self.0 {
            log.decided(&Access { user, attributes, allowed: true, purpose: Purpose::Grant });
        }
    }

    /// The write rested on all rights of these rules.
    pub(crate) fn grant_rules(&self, user: &UserInfo, cluster: &str, namespace: &str, rules: &[Rule]) {
        if self.0.is_none() {
            return;
        }
        let any = [String::new()];
        for rule in rules {
            let names = if rule.resource_names.is_empty() { &any[..] } else { &rule.resource_names };
            for group in &rule.api_groups {
                for resource in &rule.resources {
                    let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                    for verb in &rule.verbs {
                        for name in names {
                            self.grant(
                                user,
                                &Attributes {
                                    cluster: cluster.to_owned(),
                                    verb: verb.clone(),
                                    group: group.clone(),
                                    resource: plural.to_owned(),
                                    subresource: subresource.to_owned(),
                                    namespace: namespace.to_owned(),
                                    name: name.clone(),
                                    ..Attributes::default()
                                },
                            );
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Objects, now, service_account};
    use crate::auth::{Auth, Credentials, RbacWrite};
    use parking_lot::Mutex;
    use serde_json::json;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl AccessLog for Lines {
        fn decided(&self, access: &Access<'_>) {
            let Attributes { verb, resource, name, path, .. } = access.attributes;
            let Access { allowed, purpose, .. } = access;
            self.0.lock().push(format!("{purpose:?} {verb} {resource}{path} {name} {allowed}"));
        }
    }

    #[test]
    fn requests_and_what_a_written_role_rests_on_are_told() {
        let lines = Arc::new(Lines::default());
        let mut auth = Auth::open(None).unwrap();
        auth.observe(Some(lines.clone()));
        let objects = Objects::default();
        let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]);
        objects.put(
            "c",
            super::super::rbac::GROUP,
            "roles",
            json!({"metadata": {"namespace": "n", "name": "r"}, "rules": rules}),
        );
        objects.put(
            "c",
            super::super::rbac::GROUP,
            "rolebindings",
            json!({"metadata": {"namespace": "n", "name": "b"}, "roleRef": {"apiGroup": super::super::rbac::GROUP, "kind": "Role", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "name": "agent", "namespace": "n"}]}),
        );
        let agent = service_account("n", "agent");
        let ask = |verb: &str| Attributes {
            cluster: "c".into(),
            verb: verb.into(),
            resource: "secrets".into(),
            namespace: "n".into(),
            ..Attributes::default()
        };
        auth.require(&objects, &agent, &ask("get")).unwrap();
        auth.require(&objects, &agent, &ask("list")).unwrap_err();
        let nobody = auth.authenticate(&objects, "c", &Credentials::default(), now()).unwrap();
        let health =
            Attributes { cluster: "c".into(), verb: "get".into(), path: "/readyz".into(), ..Attributes::default() };
        auth.require(&objects, &nobody, &health).unwrap();
        let named = json!({"metadata": {"namespace": "n", "name": "more"}, "rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]}]});
        auth.admit(
            &objects,
            &RbacWrite {
                user: &agent,
                cluster: "c",
                group: super::super::rbac::GROUP,
                resource: "roles",
                namespace: "n",
                addressed: "",
                old: None,
                new: &named,
            },
        )
        .unwrap();
        let told = lines.0.lock().clone();
        assert_eq!(
            told,
            [
                "Request get secrets  true",
                "Request list secrets  false",
                "Request get/readyz  true",
                "Grant get secrets one true"
            ]
            .map(|line| line.replace("get/readyz", "get /readyz"))
        );
    }
}
