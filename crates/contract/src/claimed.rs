//! Which claimed objects an agent may touch in one mapped namespace, and what it is told about them.
//!
//! In: the accepted claims, the provider's copies of the referring objects, the objects of claimed kinds that exist in the
//! namespace, and the list as it stands. Out: the new `APIServiceNamespace.status.claimedObjects`, the names for the
//! agent's Role (write that first), and what did not fit or was not meant. The backend calls it for every change in the
//! namespace; the same input gives the same output, so an unchanged list is not written.
//!
//! Rights name each object, because operators keep Secrets of their own beside the consumer's. An entry says:
//!
//! | entry | meaning |
//! | --- | --- |
//! | no `uid` | may be created: granted to the consumer's agent, unless only the provider makes it |
//! | `uid` | exists; read it when `resourceVersion` changes |
//! | `uid`, `deleted: true` | that very object was deleted at the provider |
//! | no entry | nothing: it proves nothing |

use std::collections::{BTreeMap, BTreeSet};

use kube_bind_api::constants::MAX_CLAIMED_OBJECTS;
use kube_bind_api::{ClaimOwner, ClaimedObject, GroupResource};
use serde_json::Value;

use crate::claims::Direction;
use crate::consent::AcceptedClaim;
use crate::safety::{is_provider_copy, meant_for_consumer};

/// Everything the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Claims that the consumer has accepted.
    pub claims: &'a [AcceptedClaim],
    /// The contract namespace.
    pub contract_namespace: &'a str,
    /// The consumer's namespace.
    pub consumer_namespace: &'a str,
    /// Provider's copies of objects of the exported kinds in the mapped namespace, and of the contract's objects of kinds
    /// that are cluster-scoped for the consumer.
    pub referring: &'a [Referring<'a>],
    /// Objects of claimed kinds in the mapped namespace.
    pub existing: &'a [Existing<'a>],
    /// `existing` was read from the API server after `previous` was, so what is not in it is gone. From a cache: false.
    pub fresh: bool,
    /// UIDs whose DELETE event was seen.
    pub deleted_uids: &'a BTreeSet<String>,
    /// The list as it stands.
    pub previous: &'a [ClaimedObject],
    /// Schema of the referring kinds by group and plural, so that defaulted fields are not followed.
    pub schemas: &'a BTreeMap<GroupResource, Value>,
}

/// A provider's copy of an object of an exported kind.
#[derive(Clone, Copy, Debug)]
pub struct Referring<'a> {
    /// Its kind.
    pub resource: &'a GroupResource,
    /// The whole object; of a kind that is cluster-scoped for the consumer without `metadata.namespace`.
    pub object: &'a Value,
    /// The kind is cluster-scoped for the consumer: what it refers to is where it says, which may be another namespace.
    pub cluster_scoped: bool,
}

/// An object of a claimed kind.
#[derive(Clone, Copy, Debug)]
pub struct Existing<'a> {
    /// Its kind.
    pub resource: &'a GroupResource,
    /// The object; of Secrets the metadata is enough.
    pub object: &'a Value,
}

/// Names for the agent's Role, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Objects that the provider makes: `get`.
    pub read: BTreeMap<GroupResource, BTreeSet<String>>,
    /// Objects that the consumer makes, or whoever is first: `get`, `create`, `patch`, `delete`.
    pub write: BTreeMap<GroupResource, BTreeSet<String>>,
}

/// What the backend writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The new list, sorted.
    pub entries: Vec<ClaimedObject>,
    /// Names for the Role; write it before the list.
    pub grants: Grants,
    /// Objects beyond [`MAX_CLAIMED_OBJECTS`]: condition `TooManyClaimedObjects`.
    pub left_out: usize,
    /// Why a name leads nowhere, for a condition or Event on the referring object.
    pub problems: Vec<Problem>,
}

/// Why a name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Kind of the object that refers, if one does.
    pub referring: Option<GroupResource>,
    /// Its name.
    pub name: Option<String>,
    /// What is wrong, for people.
    pub message: String,
}

/// What is known of one name while deciding.
#[derive(Debug, Default)]
struct Wanted<'a> {
    to_consumer: bool,
    to_provider: bool,
    undecided: bool,
    trusted: bool,
    referrers: BTreeSet<&'a str>,
    by: Option<(&'a GroupResource, &'a str)>,
}

impl Wanted<'_> {
    fn owner(&self) -> Option<ClaimOwner> {
        match (self.undecided, self.to_consumer, self.to_provider) {
            (false, true, false) => Some(ClaimOwner::Provider),
            (false, false, true) => Some(ClaimOwner::Consumer),
            _ => None,
        }
    }
}

/// Evaluates the claims in one mapped namespace.
pub fn evaluate(input: &Input<'_>) -> Outcome {
    let mut problems = BTreeSet::new();
    let existing: BTreeMap<(&GroupResource, &str), &Value> = input
        .existing
        .iter()
        .filter_map(|entry| Some(((entry.resource, name_of(entry.object)?), entry.object)))
        .collect();
    let previous: BTreeMap<(GroupResource, String), &ClaimedObject> = input
        .previous
        .iter()
        .map(|entry| ((GroupResource::new(entry.group.clone(), entry.resource.clone()), entry.name.clone()), entry))
        .collect();
    let wanted = wanted(input, &mut problems);

    let mut entries = Vec::new();
    let mut barred = BTreeSet::new();
    for ((resource, name), want) in &wanted {
        let before = previous.get(&(resource.clone(), name.clone())).copied();
        let object = existing.get(&(resource, name.as_str())).copied();
        if let Some(object) = object
            && let Err(message) = admissible(input, want, object)
        {
            problems.insert(Problem {
                referring: want.by.map(|(kind, _)| kind.clone()),
                name: want.by.map(|(_, name)| name.to_owned()),
                message,
            });
            barred.insert((resource.clone(), name.clone()));
            // The object that was granted is gone, something else has its name: say so, grant nothing.
            let replaced = before.and_then(|before| before.uid.as_deref()) != text(object, "/metadata/uid");
            if let Some(before) = before.filter(|before| before.uid.is_some() && replaced) {
                entries.push(ClaimedObject { resource_version: None, deleted: Some(true), ..before.clone() });
            }
            continue;
        }
        entries.push(entry(input, resource, name, want.owner(), object, before));
    }
    // A name leaves only after its object is gone: the agent still has to clean up with its rights.
    for ((resource, name), before) in &previous {
        if wanted.contains_key(&(resource.clone(), name.clone())) {
            continue;
        }
        let Some(uid) = &before.uid else { continue };
        let object = existing.get(&(resource, name.as_str())).copied();
        if before.deleted == Some(true) {
            if by_label(input, resource) {
                bury(&mut entries, &mut barred, before, object);
            }
            continue;
        }
        let still_there = object.is_some_and(|object| text(object, "/metadata/uid") == Some(uid));
        let unknown = object.is_none() && !input.fresh && !input.deleted_uids.contains(uid);
        if still_there || unknown {
            entries.push(entry(input, resource, name, before.owner, object, Some(before)));
        } else if by_label(input, resource) {
            bury(&mut entries, &mut barred, before, object);
        }
    }

    // A copy that the agent made at the very moment when its name was no longer wanted: the list had no uid yet.
    for ((resource, name), object) in &existing {
        let known = entries
            .iter()
            .any(|entry| entry.group == resource.group && entry.resource == resource.resource && entry.name == *name);
        let ours = is_provider_copy(object, input.contract_namespace);
        if !known && ours && !barred.contains(&((*resource).clone(), (*name).to_owned())) {
            let owner = Some(ClaimOwner::Consumer);
            entries.push(entry(input, resource, name, owner, Some(object), None));
        }
    }

    entries.sort();
    let left_out = entries.len().saturating_sub(MAX_CLAIMED_OBJECTS);
    if left_out > 0 {
        // What is granted already stays; newcomers wait.
        let known = |entry: &ClaimedObject| {
            previous
                .contains_key(&(GroupResource::new(entry.group.clone(), entry.resource.clone()), entry.name.clone()))
        };
        entries.sort_by_key(|entry| (!known(entry), entry.deleted == Some(true)));
        entries.truncate(MAX_CLAIMED_OBJECTS);
        entries.sort();
    }
    let grants = grants(&entries, &barred);
    Outcome { entries, grants, left_out, problems: problems.into_iter().collect() }
}

/// Whether objects of a kind come to the consumer by their labels. Then nothing refers to them, and an entry that leaves
/// with its object would prove nothing: it stays, as the evidence that the object was deleted.
fn by_label(input: &Input<'_>, resource: &GroupResource) -> bool {
    input
        .claims
        .iter()
        .any(|claim| claim.resource() == resource && claim.labels().is_some() && claim.direction().to_consumer())
}

/// Keeps an entry as evidence of a deletion; whatever has the name now is not granted.
fn bury(
    entries: &mut Vec<ClaimedObject>,
    barred: &mut BTreeSet<(GroupResource, String)>,
    before: &ClaimedObject,
    object: Option<&Value>,
) {
    if object.is_some() {
        let resource = GroupResource::new(before.group.clone(), before.resource.clone());
        barred.insert((resource, before.name.clone()));
    }
    entries.push(ClaimedObject { resource_version: None, deleted: Some(true), ..before.clone() });
}

fn wanted<'a>(input: &Input<'a>, problems: &mut BTreeSet<Problem>) -> BTreeMap<(GroupResource, String), Wanted<'a>> {
    let mut wanted: BTreeMap<(GroupResource, String), Wanted<'a>> = BTreeMap::new();
    for claim in input.claims {
        for name in claim.direct_names(input.consumer_namespace) {
            want(&mut wanted, claim, name);
        }
        if let Some(selector) = claim.labels() {
            for entry in input.existing.iter().filter(|entry| entry.resource == claim.resource()) {
                let labels = entry.object.pointer("/metadata/labels").unwrap_or(&Value::Null);
                if let Some(name) = name_of(entry.object).filter(|_| selector.matches(labels)) {
                    want(&mut wanted, claim, name);
                }
            }
        }
        for referring in input.referring {
            let schema = input.schemas.get(referring.resource);
            let targets = claim.targets(referring.resource, referring.object, schema);
            let by = name_of(referring.object);
            // What a cluster-scoped object says in vain concerns no namespace; the agent tells it on the object.
            let told = if referring.cluster_scoped { Vec::new() } else { targets.problems };
            problems.extend(told.into_iter().map(|message| Problem {
                referring: Some(referring.resource.clone()),
                name: by.map(str::to_owned),
                message,
            }));
            for target in targets.found {
                if referring.cluster_scoped && target.namespace.as_deref() != Some(input.consumer_namespace) {
                    continue;
                }
                let want = want(&mut wanted, claim, &target.name);
                want.referrers.extend(text(referring.object, "/metadata/uid"));
                want.trusted |= claim.trusts_name(referring.resource);
                want.by = want.by.or_else(|| by.map(|name| (referring.resource, name)));
            }
        }
    }
    wanted
}

/// Notes that a claim covers a name, and which way the object may travel under it.
fn want<'m, 'a>(
    wanted: &'m mut BTreeMap<(GroupResource, String), Wanted<'a>>,
    claim: &AcceptedClaim,
    name: &str,
) -> &'m mut Wanted<'a> {
    let want = wanted.entry((claim.resource().clone(), name.to_owned())).or_default();
    match claim.direction() {
        Direction::ToConsumer => want.to_consumer = true,
        Direction::ToProvider => want.to_provider = true,
        Direction::WhoeverIsFirst => want.undecided = true,
    }
    want
}

/// Whether an existing object may be granted: a copy of this contract's, or an object of the provider's that is meant for
/// the consumer. Anything else is the operator's own.
fn admissible(input: &Input<'_>, want: &Wanted<'_>, object: &Value) -> Result<(), String> {
    let may_read = want.to_consumer || want.undecided;
    let may_write = want.to_provider || want.undecided;
    if may_write && is_provider_copy(object, input.contract_namespace) {
        return Ok(());
    }
    let meant = meant_for_consumer(object, &want.referrers, want.trusted);
    match meant {
        Ok(()) if may_read => Ok(()),
        Err(refusal) if may_read => Err(refusal.to_string()),
        _ => Err(format!(
            "{} {:?} at the provider is not a copy of the consumer's object and is left alone: choose another name",
            text(object, "/kind").unwrap_or("object"),
            name_of(object).unwrap_or_default()
        )),
    }
}

fn entry(
    input: &Input<'_>,
    resource: &GroupResource,
    name: &str,
    owner: Option<ClaimOwner>,
    object: Option<&Value>,
    before: Option<&ClaimedObject>,
) -> ClaimedObject {
    let mut entry = ClaimedObject {
        group: resource.group.clone(),
        resource: resource.resource.clone(),
        name: name.to_owned(),
        owner,
        uid: None,
        resource_version: None,
        deleted: None,
    };
    match (object, before) {
        (Some(object), _) => {
            entry.uid = text(object, "/metadata/uid").map(str::to_owned);
            entry.resource_version = text(object, "/metadata/resourceVersion").map(str::to_owned);
        }
        (None, Some(before)) => {
            entry.uid = before.uid.clone();
            if let Some(uid) = &before.uid {
                let gone = before.deleted == Some(true) || input.fresh || input.deleted_uids.contains(uid);
                entry.deleted = gone.then_some(true);
                entry.resource_version = if gone { None } else { before.resource_version.clone() };
            }
        }
        (None, None) => {}
    }
    entry
}

fn grants(entries: &[ClaimedObject], barred: &BTreeSet<(GroupResource, String)>) -> Grants {
    let mut grants = Grants::default();
    for entry in entries {
        let resource = GroupResource::new(entry.group.clone(), entry.resource.clone());
        if barred.contains(&(resource.clone(), entry.name.clone())) {
            continue;
        }
        let kind = match entry.owner {
            // What is not there yet may turn out to be the operator's own: it is judged before anybody may read it.
            Some(ClaimOwner::Provider) if entry.uid.is_none() || entry.deleted == Some(true) => continue,
            Some(ClaimOwner::Provider) => &mut grants.read,
            Some(ClaimOwner::Consumer) | None => &mut grants.write,
        };
        kind.entry(resource).or_default().insert(entry.name.clone());
    }
    grants
}

fn name_of(object: &Value) -> Option<&str> {
    text(object, "/metadata/name")
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

#[cfg(test)]
mod tests;
