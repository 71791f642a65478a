//! What was granted, from when until when. In: Roles, bindings and namespaces of one API server, watched as they come and
//! go. Out: [`Rights`], which know at any time who held what, and which namespace was going.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kube_client::api::{Api, ListQuery};
use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use kube_client::{Delta, Informer, InformerOptions};
use parking_lot::Mutex;
use serde_json::Value;

use super::{Record, Use, Why, is_agent, is_backend, is_credential};
use crate::eventually;
use crate::site::{Site, core};

const RBAC: &str = "rbac.authorization.k8s.io";
const ACCOUNT: &str = "system:serviceaccount:";

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
    pub(super) fn allows(&self, names: &BTreeSet<String>, used: &Use) -> bool {
        self.user == used.user
            && (self.scope.is_empty() || self.scope == used.namespace)
            && self.group == used.group
            && self.resource == used.resource
            && self.verb == used.verb
            && (!self.named || names.contains(&used.name))
    }
}

/// A right and when it was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The right.
    pub grant: Grant,
    /// The names that it is for.
    pub names: BTreeSet<String>,
    /// When it came.
    pub from: Timestamp,
    /// When it went, if it did.
    pub until: Option<Timestamp>,
}

/// Everything that was granted at some time.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    pub(super) held: Vec<Held>,
    /// When namespaces were going: from the request to delete them until they were gone.
    pub(super) going: BTreeMap<String, Vec<(Timestamp, Option<Timestamp>)>>,
}

impl Rights {
    /// Grants of some users with the names that they were ever for.
    #[must_use]
    pub fn grants(&self, who: &dyn Fn(&str) -> bool) -> BTreeMap<Grant, BTreeSet<String>> {
        let mut grants = BTreeMap::<Grant, BTreeSet<String>>::new();
        for held in self.held.iter().filter(|held| who(&held.grant.user)) {
            grants.entry(held.grant.clone()).or_default().extend(held.names.iter().cloned());
        }
        grants
    }

    /// Rights that were there all the time, by role and scope.
    #[cfg(test)]
    pub(super) fn always(user: &str, roles: &[(&str, &str, Value)]) -> Self {
        let mut rights = Self::default();
        for (role, scope, rules) in roles {
            rights.add(user, role, scope, rules, (Timestamp::UNIX_EPOCH, None));
        }
        rights
    }

    pub(super) fn add(
        &mut self,
        user: &str,
        role: &str,
        scope: &str,
        rules: &Value,
        (from, until): (Timestamp, Option<Timestamp>),
    ) {
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
                        self.held.push(Held { grant, names: names.clone(), from, until });
                    }
                }
            }
        }
    }
}

/// What an object was for a while.
struct Era {
    object: Arc<Value>,
    from: Timestamp,
    until: Option<Timestamp>,
}

impl Era {
    /// When both were.
    fn with(&self, other: &Self) -> Option<(Timestamp, Option<Timestamp>)> {
        let from = self.from.max(other.from);
        let until = match (self.until, other.until) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        until.is_none_or(|until| from < until).then_some((from, until))
    }
}

/// All that objects were, by plural and key.
#[derive(Default)]
struct History(BTreeMap<(String, ObjectKey), Vec<Era>>);

impl History {
    fn note(&mut self, plural: &str, key: &ObjectKey, object: Option<Arc<Value>>, now: Timestamp) {
        let eras = self.0.entry((plural.to_owned(), key.clone())).or_default();
        if let Some(last) = eras.last_mut().filter(|last| last.until.is_none()) {
            if object.as_ref() == Some(&last.object) {
                return;
            }
            last.until = Some(now);
        }
        if let Some(object) = object {
            eras.push(Era { object, from: now, until: None });
        }
    }

    fn of<'a>(&'a self, plural: &'a str) -> impl Iterator<Item = (&'a ObjectKey, &'a Era)> {
        self.0
            .iter()
            .filter(move |((of, _), _)| of == plural)
            .flat_map(|((_, key), eras)| eras.iter().map(move |era| (key, era)))
    }

    fn rights(&self) -> Rights {
        let mut rights = Rights::default();
        for plural in ["rolebindings", "clusterrolebindings"] {
            for (key, binding) in self.of(plural) {
                let reference = &binding.object["roleRef"];
                let name = text(reference, "name");
                let role = match reference["kind"].as_str() {
                    Some("Role") => ("roles".to_owned(), ObjectKey::new(&key.namespace, &name)),
                    _ => ("clusterroles".to_owned(), ObjectKey::cluster(&name)),
                };
                for subject in items(&binding.object["subjects"]).filter(|subject| subject["kind"] == "ServiceAccount")
                {
                    let user = format!("{ACCOUNT}{}:{}", text(subject, "namespace"), text(subject, "name"));
                    for era in self.0.get(&role).into_iter().flatten() {
                        if let Some(time) = binding.with(era) {
                            rights.add(&user, &name, &key.namespace, &era.object["rules"], time);
                        }
                    }
                }
            }
        }
        for (key, era) in self.of("namespaces").filter(|(_, era)| era.object["going"] == true) {
            rights.going.entry(key.name.clone()).or_default().push((era.from, era.until));
        }
        rights
    }
}

/// Watches Roles, bindings and namespaces.
pub struct Witness {
    history: Arc<Mutex<History>>,
    record: Arc<Record>,
    _watches: Vec<Informer<Arc<Value>>>,
}

impl Witness {
    /// Starts to look at a site, with an administrator's hands; returns when all that is there has been seen.
    pub async fn start(site: &Site) -> Self {
        let api = &site.api;
        let history = Arc::<Mutex<History>>::default();
        let rbac = |plural: &str, kind: &str| Resource::new(RBAC, "v1", plural, kind);
        let kinds = [
            rbac("roles", "Role"),
            rbac("clusterroles", "ClusterRole"),
            rbac("rolebindings", "RoleBinding"),
            rbac("clusterrolebindings", "ClusterRoleBinding"),
            core("namespaces"),
        ];
        let watches: Vec<_> = kinds.into_iter().map(|kind| watch(api, kind, history.clone())).collect();
        eventually("all rights are seen", async || {
            if watches.iter().all(Informer::synced) { Ok(()) } else { Err("some are not".to_owned()) }
        })
        .await;
        Self { history, record: site.record.clone(), _watches: watches }
    }

    /// Everything that was granted so far.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.history.lock().rights()
    }

    /// What our own identities asked for and never might, so far. Whether a right came or went just then is not asked here:
    /// that takes a witness whose own watches never broke.
    #[must_use]
    pub fn never(&self) -> BTreeSet<String> {
        let rights = self.rights();
        let refusals = self.record.seen().refusals.into_iter().filter(|refusal| {
            let user = refusal.what.user.as_str();
            is_agent(user) || is_backend(user) || is_credential(user)
        });
        let never = refusals.filter(|refusal| rights.why(refusal).0 == Why::Never);
        let line = |what: Use| match what.group.as_str() {
            "" => format!("{}: {} {} {}/{}", what.user, what.verb, what.resource, what.namespace, what.name),
            group => format!("{}: {} {}.{group} {}/{}", what.user, what.verb, what.resource, what.namespace, what.name),
        };
        never.map(|refusal| refusal.what).filter(|what| !is_excused(what)).map(line).collect()
    }
}

/// An export whose schema is gone may have been of a kind that is cluster-scoped at the provider: the backend looks whether
/// it was, and takes the answer that it may not as no.
fn is_excused(what: &Use) -> bool {
    what.verb == "get" && what.resource == "clusterrolebindings" && what.name.starts_with("kube-bind-shared:")
}

/// A story that stops in the middle may have stopped for want of a right.
impl Drop for Witness {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let rights = self.rights();
        let refusals = self.record.seen().refusals.into_iter();
        let said = refusals.map(|refusal| (rights.why(&refusal).0, refusal.what)).filter(|(why, _)| !why.excusable());
        for (why, what) in said.collect::<BTreeSet<_>>() {
            eprintln!("refused, {}: {what:?}", why.words());
        }
    }
}

fn watch(api: &Api, kind: Resource, history: Arc<Mutex<History>>) -> Informer<Arc<Value>> {
    let plural = kind.plural.clone();
    Informer::start(
        api,
        &kind,
        ListQuery::default(),
        InformerOptions::default(),
        Arc::new(|object: &Arc<Value>| Ok(Arc::new(kept(object)))),
        Arc::new(move |delta: &Delta<Arc<Value>>| {
            let (key, object) = match delta {
                Delta::Applied { key, new, .. } => (key, Some(new.summary.clone())),
                Delta::Removed { key, .. } => (key, None),
                Delta::Synced => return,
            };
            history.lock().note(&plural, key, object, Timestamp::now());
        }),
    )
}

/// What of an object matters here.
fn kept(object: &Value) -> Value {
    let mut kept = serde_json::Map::new();
    for field in ["rules", "roleRef", "subjects"] {
        if let Some(value) = object.get(field) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    kept.insert("going".to_owned(), (!object["metadata"]["deletionTimestamp"].is_null()).into());
    kept.into()
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_right_is_held_while_role_and_binding_are_there() {
        let mut history = History::default();
        let key = ObjectKey::new("n", "r");
        let role =
            |verb: &str| Arc::new(json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": [verb]}]}));
        let binding = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "namespace": "a", "name": "agent"}]});
        history.note("roles", &key, Some(role("get")), at(10));
        history.note("rolebindings", &key, Some(Arc::new(binding)), at(20));
        history.note("roles", &key, Some(role("get")), at(25));
        history.note("roles", &key, Some(role("list")), at(30));
        history.note("rolebindings", &key, None, at(40));
        history.note("roles", &key, None, at(50));
        let held: Vec<_> =
            history.rights().held.into_iter().map(|held| (held.grant.verb, held.from, held.until)).collect();
        assert_eq!(held, [("get".to_owned(), at(20), Some(at(30))), ("list".to_owned(), at(30), Some(at(40)))]);
    }
}
