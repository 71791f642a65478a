//! Which rights identities have, and which they use.
//!
//! ```text
//!   API server ──every decision──► Record ──uses──┐   (a real one by its audit log, crate::audit)
//!                                                 ├──► compare ──► Findings: needless, refused, by default
//!   Roles and bindings ──looked at all the time──► Witness ──grants──┘
//! ```
//!
//! A grant is needed if there was a request (or a Role written for somebody) that nothing else would have allowed: taking
//! it away fails the scenario. Called by the scenario about rights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use controlplane::{Access, AccessLog, Purpose};
use kube_client::api::{Api, ListQuery};
use kube_client::resource::Resource;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::audit::Tail;

const LOOK: Duration = Duration::from_millis(40);
const MASTERS: &str = "system:masters";
const ACCOUNT: &str = "system:serviceaccount:";

/// Something that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// User name.
    pub user: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// RBAC verb.
    pub verb: String,
    /// API group.
    pub group: String,
    /// Plural, with the subresource as RBAC writes it.
    pub resource: String,
    /// Namespace; empty for cluster scope and all namespaces.
    pub namespace: String,
    /// Name; empty for collections.
    pub name: String,
    /// Path of what is no resource.
    pub path: String,
    /// A Role or binding was written that rests on this right.
    pub granted: bool,
}

/// What was asked for at one API server, by all but administrators.
#[derive(Default)]
pub struct Record {
    uses: Mutex<BTreeSet<Use>>,
    audit: Option<Mutex<Tail>>,
}

impl AccessLog for Record {
    fn decided(&self, access: &Access<'_>) {
        if access.user.groups.iter().any(|group| group == MASTERS) {
            return;
        }
        let what = access.attributes;
        let resource = match what.subresource.as_str() {
            "" => what.resource.clone(),
            subresource => format!("{}/{subresource}", what.resource),
        };
        self.uses.lock().insert(Use {
            user: access.user.username.clone(),
            allowed: access.allowed,
            verb: what.verb.clone(),
            group: what.group.clone(),
            resource,
            namespace: what.namespace.clone(),
            name: what.name.clone(),
            path: what.path.clone(),
            granted: access.purpose == Purpose::Grant,
        });
    }
}

impl Record {
    /// Takes the audit log of a kube-apiserver as source, from a position on.
    pub(crate) fn follow(&mut self, log: &Path, from: u64) {
        self.audit = Some(Mutex::new(Tail::new(log, from)));
    }

    /// What users with this property asked for.
    pub fn uses(&self, of: impl Fn(&str) -> bool) -> Vec<Use> {
        if let Some(audit) = &self.audit {
            self.uses.lock().extend(audit.lock().read());
        }
        self.uses.lock().iter().filter(|used| of(&used.user)).cloned().collect()
    }
}

/// A right of a ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// User name.
    pub user: String,
    /// Name of the role.
    pub role: String,
    /// Namespace it holds in; empty: everywhere.
    pub scope: String,
    /// API group.
    pub group: String,
    /// Plural, with subresource.
    pub resource: String,
    /// Verb.
    pub verb: String,
    /// Whether it is for certain names.
    pub named: bool,
}

impl Grant {
    fn allows(&self, names: &BTreeSet<String>, used: &Use) -> bool {
        self.user == used.user
            && (self.scope.is_empty() || self.scope == used.namespace)
            && self.group == used.group
            && self.resource == used.resource
            && self.verb == used.verb
            && (!self.named || names.contains(&used.name))
    }
}

/// Grants with the names that they are for.
pub type Grants = BTreeMap<Grant, BTreeSet<String>>;

/// Looks at Roles and bindings all the time, because they come and go.
pub struct Witness {
    grants: Arc<Mutex<Grants>>,
    task: JoinHandle<()>,
}

impl Witness {
    /// Starts to look, with an administrator's hands.
    #[must_use]
    pub fn start(api: Api) -> Self {
        let grants = Arc::<Mutex<Grants>>::default();
        let seen = grants.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Some(found) = look(&api).await {
                    let mut seen = seen.lock();
                    for (grant, names) in found {
                        seen.entry(grant).or_default().extend(names);
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { grants, task }
    }

    /// Everything that was granted at some time. Stops looking.
    #[must_use]
    pub fn grants(self) -> Grants {
        self.task.abort();
        self.grants.lock().clone()
    }
}

/// All rights of ServiceAccounts by bindings that name them; `None` while the API server is away.
async fn look(api: &Api) -> Option<Grants> {
    let kind = |plural: &str, kind: &str| Resource::new("rbac.authorization.k8s.io", "v1", plural, kind);
    let mut roles: BTreeMap<(String, String), Value> = BTreeMap::new();
    for resource in [kind("roles", "Role"), kind("clusterroles", "ClusterRole")] {
        for role in api.list(&resource, &ListQuery::default()).await.ok()? {
            roles
                .insert((text(&role["metadata"], "namespace"), text(&role["metadata"], "name")), role["rules"].clone());
        }
    }
    let mut grants = Grants::new();
    for resource in [kind("rolebindings", "RoleBinding"), kind("clusterrolebindings", "ClusterRoleBinding")] {
        for binding in api.list(&resource, &ListQuery::default()).await.ok()? {
            let scope = text(&binding["metadata"], "namespace");
            let place = if binding["roleRef"]["kind"] == "Role" { scope.clone() } else { String::new() };
            let role = text(&binding["roleRef"], "name");
            let Some(rules) = roles.get(&(place, role.clone())) else { continue };
            for subject in items(&binding["subjects"]).filter(|subject| subject["kind"] == "ServiceAccount") {
                let user = format!("{ACCOUNT}{}:{}", text(subject, "namespace"), text(subject, "name"));
                expand(&mut grants, &user, &role, &scope, rules);
            }
        }
    }
    Some(grants)
}

fn expand(grants: &mut Grants, user: &str, role: &str, scope: &str, rules: &Value) {
    for rule in items(rules) {
        let names: BTreeSet<String> = words(&rule["resourceNames"]).collect();
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    let grant = Grant {
                        user: user.to_owned(),
                        role: role.to_owned(),
                        scope: scope.to_owned(),
                        group: group.clone(),
                        resource: resource.clone(),
                        verb,
                        named: !names.is_empty(),
                    };
                    grants.entry(grant).or_default().extend(names.iter().cloned());
                }
            }
        }
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn words(value: &Value) -> impl Iterator<Item = String> + '_ {
    items(value).filter_map(Value::as_str).map(str::to_owned)
}

/// How grants and uses differ. Lines look like `<role>: <verb> <resource>.<group>`, or without role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// All that was granted.
    pub granted: BTreeSet<String>,
    /// Grants that allowed something.
    pub used: BTreeSet<String>,
    /// Grants that allowed something that nothing else did: taking it away fails the scenario.
    pub needed: BTreeSet<String>,
    /// Asked for and refused.
    pub refused: BTreeSet<String>,
    /// Allowed by what everybody may, not by a grant.
    pub by_default: BTreeSet<String>,
    /// Details of what was refused, for people.
    pub details: Vec<String>,
}

impl Findings {
    /// Granted and never used, or used only beside another grant of the same: with what it was.
    #[must_use]
    pub fn needless(&self) -> BTreeSet<String> {
        self.granted.difference(&self.needed).cloned().collect()
    }

    /// The same of two API servers.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.granted.extend(other.granted);
        self.used.extend(other.used);
        self.needed.extend(other.needed);
        self.refused.extend(other.refused);
        self.by_default.extend(other.by_default);
        self.details.extend(other.details);
        self
    }
}

/// Compares; `plain` replaces names that differ from run to run.
#[must_use]
pub fn compare(grants: &Grants, uses: &[Use], plain: &dyn Fn(&str) -> String) -> Findings {
    let line = |role: &str, verb: &str, resource: &str, group: &str| {
        let kind = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let kind = plain(&kind);
        if role.is_empty() { format!("{verb} {kind}") } else { format!("{}: {verb} {kind}", plain(role)) }
    };
    let of = |grant: &Grant| line(&grant.role, &grant.verb, &grant.resource, &grant.group);
    let mut findings = Findings { granted: grants.keys().map(of).collect(), ..Findings::default() };
    for asked in uses {
        let what = match asked.resource.as_str() {
            "" => format!("{} {}", asked.verb, plain(&asked.path)),
            resource => line("", &asked.verb, resource, &asked.group),
        };
        if !asked.allowed {
            findings
                .details
                .push(format!("{what} (namespace {:?}, name {:?}, {})", asked.namespace, asked.name, asked.user));
            findings.refused.insert(what);
            continue;
        }
        let allowing: BTreeSet<String> =
            grants.iter().filter(|(grant, names)| grant.allows(names, asked)).map(|(grant, _)| of(grant)).collect();
        match allowing.len() {
            // A right that a Role could have rested on.
            0 if asked.granted => {}
            0 => drop(findings.by_default.insert(what)),
            1 => findings.needed.extend(allowing.clone()),
            _ => {}
        }
        findings.used.extend(allowing);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn used(verb: &str, namespace: &str, name: &str, allowed: bool) -> Use {
        Use {
            user: format!("{ACCOUNT}a:agent"),
            allowed,
            verb: verb.into(),
            group: String::new(),
            resource: "secrets".into(),
            namespace: namespace.into(),
            name: name.into(),
            path: String::new(),
            granted: false,
        }
    }

    #[test]
    fn what_nobody_needs_is_found() {
        let user = format!("{ACCOUNT}a:agent");
        let mut grants = Grants::new();
        let named = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "delete"], "resourceNames": ["one"]}]);
        let all = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]);
        expand(&mut grants, &user, "named", "n", &named);
        expand(&mut grants, &user, "all", "", &all);
        let uses = [
            used("get", "n", "one", true),
            used("list", "n", "", true),
            used("watch", "n", "", false),
            used("get", "m", "one", true),
        ];
        let findings = compare(&grants, &uses, &str::to_owned);
        let unused: Vec<_> = findings.granted.difference(&findings.used).collect();
        assert_eq!(unused, ["named: delete secrets"]);
        assert_eq!(
            findings.needless(),
            BTreeSet::from(["named: delete secrets".to_owned(), "named: get secrets".to_owned()])
        );
        assert_eq!(findings.refused, BTreeSet::from(["watch secrets".to_owned()]));
        assert!(findings.by_default.is_empty());
    }
}
