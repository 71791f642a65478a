//! Which rights identities have, and which they use.
//!
//! ```text
//!   API server ──every decision──► Record ──what was asked──┐   (a real one by its audit log, crate::audit)
//!                                                           ├──► compare ──► Findings ──► judge: faults
//!   Roles and bindings, as they come and go ──► Witness ────┘
//! ```
//!
//! A grant is needed if there was a request (or a Role written for somebody) that nothing else would have allowed: taking
//! it away fails the scenario. A refusal is judged by when it was: [`refused`] knows why. Called by the scenarios about
//! rights.

mod judge;
pub mod refused;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use controlplane::{Access, AccessLog};
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::audit::Tail;

pub use judge::{Excuses, judge};
pub use refused::Why;
pub use witness::{Grant, Held, Rights, Witness};

const MASTERS: &str = "system:masters";

/// Whether a user is the agent.
#[must_use]
pub fn is_agent(user: &str) -> bool {
    user == "system:serviceaccount:kube-bind:konnector"
}

/// Whether a user is the backend.
#[must_use]
pub fn is_backend(user: &str) -> bool {
    user == "system:serviceaccount:kube-bind:backend"
}

/// Whether a user is what a consumer holds of a contract.
#[must_use]
pub fn is_credential(user: &str) -> bool {
    user.ends_with(":kube-binder")
}

/// Something that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// User name.
    pub user: String,
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
}

/// A Role or binding was written. Whoever writes one has to hold all rights of one of the ways (`bind`, or all that it
/// gives).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    /// The write itself.
    pub what: Use,
    /// On which rights it may have rested.
    pub ways: Vec<Vec<Use>>,
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for.
    pub what: Use,
    /// When it was asked.
    pub at: Timestamp,
}

/// What was asked at one API server.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Allowed; and, where the API server tells it, the rights on which written Roles and bindings rested.
    pub uses: BTreeSet<Use>,
    /// Written Roles and bindings, where the API server does not tell on what they rested.
    pub writes: BTreeSet<Write>,
    /// Refused.
    pub refusals: Vec<Refusal>,
}

impl Seen {
    /// The same, of some users only.
    #[must_use]
    pub fn of(&self, who: &dyn Fn(&str) -> bool) -> Self {
        Self {
            uses: self.uses.iter().filter(|used| who(&used.user)).cloned().collect(),
            writes: self.writes.iter().filter(|write| who(&write.what.user)).cloned().collect(),
            refusals: self.refusals.iter().filter(|refusal| who(&refusal.what.user)).cloned().collect(),
        }
    }
}

/// What was asked for at one API server, by all but administrators.
#[derive(Default)]
pub struct Record {
    seen: Mutex<Seen>,
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
        let asked = Use {
            user: access.user.username.clone(),
            verb: what.verb.clone(),
            group: what.group.clone(),
            resource,
            namespace: what.namespace.clone(),
            name: what.name.clone(),
            path: what.path.clone(),
        };
        // Of the rights that a written Role or binding rests on, the embedded control plane tells those that were held.
        let mut seen = self.seen.lock();
        if access.allowed {
            seen.uses.insert(asked);
        } else {
            seen.refusals.push(Refusal { what: asked, at: Timestamp::now() });
        }
    }
}

impl Record {
    /// Takes the audit log of a kube-apiserver as source, from a position on.
    pub(crate) fn follow(&mut self, log: &Path, from: u64) {
        self.audit = Some(Mutex::new(Tail::new(log, from)));
    }

    /// What was asked so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let mut seen = self.seen.lock();
        if let Some(audit) = &self.audit {
            audit.lock().read(&mut seen);
        }
        seen.clone()
    }
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
    /// Asked for and refused, why, and details for people.
    pub refused: BTreeMap<(Why, String), Vec<String>>,
    /// Allowed by what everybody may, not by a grant.
    pub by_default: BTreeSet<String>,
}

impl Findings {
    /// Granted and never used, or used only beside another grant of the same.
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
        for (what, details) in other.refused {
            self.refused.entry(what).or_default().extend(details);
        }
        self.by_default.extend(other.by_default);
        self
    }
}

/// Compares what some users asked for with what they held; `plain` replaces names that differ from run to run.
#[must_use]
pub fn compare(rights: &Rights, seen: &Seen, who: &dyn Fn(&str) -> bool, plain: &dyn Fn(&str) -> String) -> Findings {
    let line = |role: &str, verb: &str, resource: &str, group: &str| {
        let kind = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let kind = plain(&kind);
        if role.is_empty() { format!("{verb} {kind}") } else { format!("{}: {verb} {kind}", plain(role)) }
    };
    let of = |grant: &Grant| line(&grant.role, &grant.verb, &grant.resource, &grant.group);
    let words = |asked: &Use| match asked.resource.as_str() {
        "" => format!("{} {}", asked.verb, plain(&asked.path)),
        resource => line("", &asked.verb, resource, &asked.group),
    };
    let seen = seen.of(who);
    let grants = rights.grants(who);
    let allowing = |asked: &Use| -> BTreeSet<String> {
        grants.iter().filter(|(grant, names)| grant.allows(names, asked)).map(|(grant, _)| of(grant)).collect()
    };
    let mut findings = Findings { granted: grants.keys().map(of).collect(), ..Findings::default() };
    for asked in &seen.uses {
        let allowing = allowing(asked);
        match allowing.len() {
            0 => drop(findings.by_default.insert(words(asked))),
            1 => findings.needed.extend(allowing.clone()),
            _ => {}
        }
        findings.used.extend(allowing);
    }
    for write in &seen.writes {
        let ways = write.ways.iter().map(|way| way.iter().map(allowing).collect::<Vec<_>>());
        let open: Vec<_> = ways.filter(|way| way.iter().all(|allowing| !allowing.is_empty())).collect();
        if open.is_empty() {
            findings.by_default.insert(format!("{} with rights that it does not hold", words(&write.what)));
        }
        for allowing in open.iter().flatten() {
            if open.len() == 1 && allowing.len() == 1 {
                findings.needed.extend(allowing.clone());
            }
            findings.used.extend(allowing.clone());
        }
    }
    for refusal in &seen.refusals {
        let (why, when) = rights.why(refusal);
        let Use { namespace, name, user, .. } = &refusal.what;
        let detail = format!("{when}: namespace {namespace:?}, name {name:?}, {user}");
        findings.refused.entry((why, words(&refusal.what))).or_default().push(detail);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const USER: &str = "system:serviceaccount:a:agent";

    fn used(verb: &str, namespace: &str, name: &str) -> Use {
        Use {
            user: USER.to_owned(),
            verb: verb.into(),
            resource: "secrets".into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Use::default()
        }
    }

    fn rights() -> Rights {
        let named = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "delete"], "resourceNames": ["one"]}]);
        let all = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]);
        Rights::always(USER, &[("named", "n", named), ("all", "", all)])
    }

    fn found(seen: &Seen) -> Findings {
        compare(&rights(), seen, &|_| true, &str::to_owned)
    }

    #[test]
    fn what_nobody_needs_is_found() {
        let uses = [used("get", "n", "one"), used("list", "n", ""), used("get", "m", "one")];
        let refusals = vec![Refusal { what: used("watch", "n", ""), at: Timestamp::UNIX_EPOCH }];
        let findings = found(&Seen { uses: uses.into(), refusals, ..Seen::default() });
        let unused: Vec<_> = findings.granted.difference(&findings.used).collect();
        assert_eq!(unused, ["named: delete secrets"]);
        assert_eq!(
            findings.needless(),
            BTreeSet::from(["named: delete secrets".to_owned(), "named: get secrets".to_owned()])
        );
        assert_eq!(findings.refused.keys().collect::<Vec<_>>(), [&(Why::Never, "watch secrets".to_owned())]);
        assert!(findings.by_default.is_empty());
    }

    #[test]
    fn what_is_given_must_be_held_in_one_way() {
        let what =
            Use { resource: "roles".into(), group: "rbac.authorization.k8s.io".into(), ..used("patch", "n", "r") };
        let bind = Use { verb: "bind".into(), ..what.clone() };
        let write = |ways: Vec<Vec<Use>>| {
            found(&Seen { writes: [Write { what: what.clone(), ways }].into(), ..Seen::default() })
        };
        let held = write(vec![vec![bind.clone()], vec![used("delete", "n", "one"), used("list", "n", "")]]);
        assert_eq!(held.needed, BTreeSet::from(["named: delete secrets".to_owned(), "all: list secrets".to_owned()]));
        assert!(held.by_default.is_empty());
        // One right of the only way that remains is not held, though another is.
        let not = write(vec![vec![bind], vec![used("delete", "n", "two"), used("list", "n", "")]]);
        assert_eq!(not.by_default.len(), 1);
        assert!(not.needed.is_empty() && not.used.is_empty());
        // Two ways are open: neither is needed.
        let both = write(vec![vec![used("delete", "n", "one")], vec![used("list", "n", "")]]);
        assert!(both.needed.is_empty() && both.used.len() == 2);
    }
}
