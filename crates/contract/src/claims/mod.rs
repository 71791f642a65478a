//! Permission claims: what a provider asks for, read once, then matched, compared and printed.
//!
//! ```text
//!   PermissionClaim (wire) ──parse──► Claim ──► targets(referring object) ──► which objects
//!                                       ├────► matches(object)
//!                                       ├────► canonical: is it the same claim?
//!                                       └────► Display: the sentence that a person accepts
//! ```
//!
//! The backend parses a template's claims, the CLI prints them, the agent and the backend evaluate them. A claim that
//! cannot be read makes its template invalid; it never matches "a little".
//!
//! **Where a named object lives.** Claimed objects are namespaced. At the consumer:
//!
//! - a namespaced object speaks for its own namespace only, whatever it says at `jsonPath.namespace`;
//! - an object that is cluster-scoped for the consumer (isolation `Prefixed`, `Namespaced` or `None`) has no namespace of
//!   its own: it names one at `jsonPath.namespace`, where its author put it. Without such a path nobody can know the
//!   namespace, and the claim is refused ([`Claim::fits`]). No default of a schema and no status counts, and the
//!   namespaces of the cluster's own machinery ([`CLOSED_NAMESPACES`]) are never followed: whoever may create the kind
//!   would read Secrets there.
//!
//! At the provider it lives in the mapped namespace of that consumer namespace (its APIServiceNamespace), as the wire has
//! it, also where the copy of the referring object is cluster-scoped (`Prefixed`, `None`) or in the contract namespace
//! (`Namespaced`). Never in the contract namespace: there lie the contract's credentials, and two consumer namespaces
//! could not be told apart. An owner reference to a cluster-scoped copy says that the provider's object is meant for the
//! consumer; owner references do not cross namespaces, so with `Namespaced` the label `kube-bind.io/owner: provider`
//! or `trustName` has to say it.

mod path;
mod sentence;
mod view;

use std::collections::BTreeSet;

use apimachinery::names;
use apimachinery::selector::LabelSelector;
use kube_bind_api::constants::CONSUMER_NAMESPACE;
use kube_bind_api::{ClaimOwner, GroupResource, PermissionClaim, Scope};
use serde_json::{Map, Value, json};

pub use path::{Path, PathError};
pub use sentence::singular;
pub use view::trusted_view;

/// Kinds that may be claimed at all (all of the core group). Others would let one side work through the other's agent.
pub const CLAIMABLE: [&str; 4] = ["configmaps", "secrets", "serviceaccounts", "services"];

/// Namespaces that a cluster-scoped object refers to in vain: they hold what the cluster and the agent live on.
pub const CLOSED_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", CONSUMER_NAMESPACE];

/// A claim cannot be read. Says which and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The kind may not be claimed.
    #[error(
        "{resource} cannot be claimed: only configmaps, secrets, serviceaccounts and services of the core group can"
    )]
    NotClaimable {
        /// The kind.
        resource: GroupResource,
    },
    /// A path is not of the language.
    #[error("claim for {resource}: path {path:?} in selector.references of {referring}: {source}")]
    Path {
        /// Claimed kind.
        resource: GroupResource,
        /// Referring kind.
        referring: GroupResource,
        /// The path.
        path: String,
        /// What is wrong.
        source: PathError,
    },
    /// The label selector is invalid.
    #[error("claim for {resource}: selector.labelSelector: {message}")]
    LabelSelector {
        /// Claimed kind.
        resource: GroupResource,
        /// What is wrong.
        message: String,
    },
    /// A named resource has no valid name.
    #[error("claim for {resource}: selector.namedResources: {message}")]
    NamedResource {
        /// Claimed kind.
        resource: GroupResource,
        /// What is wrong.
        message: String,
    },
    /// The referring kind is cluster-scoped for the consumer, and nothing says in which namespace the object is.
    #[error(
        "claim for {resource}: objects of {referring} are cluster-scoped for the consumer, so it is not known in which \
         namespace what they refer to is: the provider has to name the field that says it in \
         selector.references[].jsonPath.namespace of the template"
    )]
    NoNamespace {
        /// Claimed kind.
        resource: GroupResource,
        /// Referring kind.
        referring: GroupResource,
    },
    /// A verb is not known.
    #[error("claim for {resource}: verb {verb:?} is not known: use create, read, update or delete")]
    Verb {
        /// Claimed kind.
        resource: GroupResource,
        /// The verb.
        verb: String,
    },
}

/// What the sentence says; has no effect on rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// See.
    Read,
    /// Make.
    Create,
    /// Change.
    Update,
    /// Remove.
    Delete,
}

impl Verb {
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "read" | "get" | "list" | "watch" => Some(Verb::Read),
            "create" => Some(Verb::Create),
            "update" | "patch" => Some(Verb::Update),
            "delete" => Some(Verb::Delete),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Delete => "delete",
        }
    }
}

/// Which way objects of a claim travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The provider makes them, the consumer gets copies.
    ToConsumer,
    /// The consumer makes them, the provider gets copies.
    ToProvider,
    /// Whoever has it first (the wire's rule without `owner`).
    WhoeverIsFirst,
}

impl Direction {
    /// Whether objects may travel from the provider to the consumer.
    pub fn to_consumer(self) -> bool {
        self != Direction::ToProvider
    }

    /// Whether objects may travel from the consumer to the provider.
    pub fn to_provider(self) -> bool {
        self != Direction::ToConsumer
    }
}

/// An object that a claim names, on the side of the object that refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Its namespace (that of the referring object unless that is cluster-scoped).
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// What an object refers to under a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Named objects.
    pub found: BTreeSet<Target>,
    /// Why something that stands there is not a name we follow, for a condition or Event on the referring object.
    pub problems: Vec<String>,
}

/// A reference of a selector, read.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedReference {
    /// Referring kind.
    pub resource: GroupResource,
    /// Versions to read it in; empty: those of the export.
    pub versions: Vec<String>,
    /// Kind for people.
    pub kind: Option<String>,
    /// Where the name stands.
    pub name: Path,
    /// Where the namespace stands.
    pub namespace: Option<Path>,
    /// The provider vouches for the name.
    pub trust_name: bool,
}

/// A claim that can be read.
#[derive(Clone, Debug)]
pub struct Claim {
    wire: PermissionClaim,
    resource: GroupResource,
    verbs: BTreeSet<Verb>,
    labels: Option<LabelSelector>,
    references: Vec<ParsedReference>,
    canonical: String,
}

impl PartialEq for Claim {
    /// Two claims are the same if they mean the same; see [`Claim::canonical`].
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl Eq for Claim {}

impl Claim {
    /// Reads a claim of the wire.
    pub fn parse(wire: &PermissionClaim) -> Result<Self, ClaimError> {
        let resource = wire.group_resource();
        if !resource.group.is_empty() || !CLAIMABLE.contains(&resource.resource.as_str()) {
            return Err(ClaimError::NotClaimable { resource });
        }
        let verbs = wire
            .verbs
            .iter()
            .map(|verb| {
                Verb::parse(verb).ok_or_else(|| ClaimError::Verb { resource: resource.clone(), verb: verb.clone() })
            })
            .collect::<Result<BTreeSet<_>, _>>()?;
        let labels = match &wire.selector.label_selector {
            None => None,
            Some(selector) => {
                let value = serde_json::to_value(selector).unwrap_or_default();
                Some(LabelSelector::from_json(&value).map_err(|error| ClaimError::LabelSelector {
                    resource: resource.clone(),
                    message: error.to_string(),
                })?)
            }
        };
        for named in &wire.selector.named_resources {
            if let Some(message) = names::dns1123_subdomain(&named.name).into_iter().next() {
                let message = format!("{:?}: {message}", named.name);
                return Err(ClaimError::NamedResource { resource, message });
            }
        }
        let references = wire
            .selector
            .references
            .iter()
            .map(|reference| parse_reference(&resource, reference))
            .collect::<Result<Vec<_>, _>>()?;
        let canonical = canonical(wire, &resource, &verbs, &references);
        Ok(Self { wire: wire.clone(), resource, verbs, labels, references, canonical })
    }

    /// The claim as it stands on the wire.
    pub fn wire(&self) -> &PermissionClaim {
        &self.wire
    }

    /// The claimed kind.
    pub fn resource(&self) -> &GroupResource {
        &self.resource
    }

    /// Who makes the objects; none: whoever has it first.
    pub fn owner(&self) -> Option<ClaimOwner> {
        self.wire.owner
    }

    /// Which way objects travel.
    pub fn direction(&self) -> Direction {
        match self.wire.owner {
            Some(ClaimOwner::Provider) => Direction::ToConsumer,
            Some(ClaimOwner::Consumer) => Direction::ToProvider,
            None => Direction::WhoeverIsFirst,
        }
    }

    /// Whether the provider says that nothing works without it.
    pub fn required(&self) -> bool {
        self.wire.required.unwrap_or(false)
    }

    /// Why the provider asks.
    pub fn reason(&self) -> Option<&str> {
        self.wire.reason.as_deref().filter(|reason| !reason.is_empty())
    }

    /// The references of the selector.
    pub fn references(&self) -> &[ParsedReference] {
        &self.references
    }

    /// Whether references from a kind can be followed, given its scope at the consumer.
    ///
    /// # Errors
    /// [`ClaimError::NoNamespace`].
    pub fn fits(&self, referring: &GroupResource, scope: Scope) -> Result<(), ClaimError> {
        let lost = |reference: &&ParsedReference| reference.resource == *referring && reference.namespace.is_none();
        match self.references.iter().find(lost) {
            Some(_) if scope == Scope::Cluster => {
                Err(ClaimError::NoNamespace { resource: self.resource.clone(), referring: referring.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The label selector, if the claim has one. Needs readable namespaces (`openNamespaces`).
    pub fn labels(&self) -> Option<&LabelSelector> {
        self.labels.as_ref()
    }

    /// Whether the selector picks nothing, ever.
    pub fn selects_nothing(&self) -> bool {
        self.labels.is_none() && self.references.is_empty() && self.wire.selector.named_resources.is_empty()
    }

    /// Two claims with the same text mean the same. Left out: `reason`, `required` and a reference's `kind`, which only
    /// explain; lists that mean sets are sorted; a plain path is the same with and without its leading dot; the group
    /// `core` is the empty one.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The names that an object of the consumer refers to, or that the provider's copy of it does.
    ///
    /// `object` is the whole object, `schema` the OpenAPI schema of its version: a field that the schema gives a default
    /// is not the consumer's word and is never followed; neither is anything under `status`.
    pub fn targets(&self, referring: &GroupResource, object: &Value, schema: Option<&Value>) -> Targets {
        let mut targets = Targets::default();
        if !self.references.iter().any(|reference| reference.resource == *referring) {
            return targets;
        }
        let trusted = trusted_view(object, schema);
        let own = object.pointer("/metadata/namespace").and_then(Value::as_str).filter(|ns| !ns.is_empty());
        for reference in self.references.iter().filter(|reference| reference.resource == *referring) {
            let names = reference.name.strings(&trusted);
            if names.is_empty() && !reference.name.strings(object).is_empty() {
                targets.problems.push(format!(
                    "{} in {} is filled in by the schema's default or by the provider; such a name is not followed: \
                     set it in the object",
                    reference.name, referring
                ));
            }
            let namespaces = reference.namespace.as_ref().map(|path| path.strings(&trusted));
            self.collect(reference, own, &names, namespaces.as_deref(), &mut targets);
        }
        targets
    }

    fn collect(
        &self,
        reference: &ParsedReference,
        own: Option<&str>,
        names_found: &[String],
        namespaces: Option<&[String]>,
        targets: &mut Targets,
    ) {
        for (index, name) in names_found.iter().enumerate() {
            if let Some(message) = names::dns1123_subdomain(name).into_iter().next() {
                targets.problems.push(format!("{}: {name:?} is not the name of an object: {message}", reference.name));
                continue;
            }
            // A namespaced object speaks only for its own namespace.
            let namespace = match (own, namespaces) {
                (Some(own), Some(stated)) if !stated.is_empty() && !stated.iter().any(|stated| stated == own) => {
                    targets.problems.push(format!(
                        "{name:?} is in another namespace; an object refers only to objects of its own namespace {own:?}"
                    ));
                    continue;
                }
                (Some(own), _) => Some(own.to_owned()),
                (None, None) => None,
                // Of several namespaces the one at the same place belongs to the name.
                (None, Some([only])) => Some(only.clone()),
                (None, Some(stated)) => match stated.get(index) {
                    Some(namespace) => Some(namespace.clone()),
                    None => {
                        targets.problems.push(format!(
                            "nothing says in which namespace {name:?} is: set {} in the object",
                            reference.namespace.as_ref().map(ToString::to_string).unwrap_or_default()
                        ));
                        continue;
                    }
                },
            };
            if own.is_none()
                && let Some(closed) = namespace.as_deref().and_then(closed)
            {
                targets.problems.push(format!("{name:?} is not followed: {closed}; name another namespace"));
                continue;
            }
            targets.found.insert(Target { namespace, name: name.clone() });
        }
    }

    /// Whether the claim covers an object of its kind: by label, by name, or because something refers to it
    /// (`referenced`, from [`Claim::targets`]). Labels and names are those of either side; `namespace` is the consumer's.
    pub fn matches(&self, namespace: Option<&str>, name: &str, labels: &Value, referenced: bool) -> bool {
        referenced
            || self.labels.as_ref().is_some_and(|selector| selector.matches(labels))
            || self.names_directly(namespace, name)
    }

    /// Whether `namedResources` names the object. `namespace` is the consumer's.
    pub fn names_directly(&self, namespace: Option<&str>, name: &str) -> bool {
        self.wire.selector.named_resources.iter().any(|named| {
            named.name == name
                && named.namespace.as_deref().filter(|ns| !ns.is_empty()).is_none_or(|ns| Some(ns) == namespace)
        })
    }

    /// Names of `namedResources` that apply in a consumer namespace.
    pub fn direct_names<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let named = self.wire.selector.named_resources.iter();
        named
            .filter(move |named| {
                named.namespace.as_deref().filter(|ns| !ns.is_empty()).is_none_or(|ns| ns == namespace)
            })
            .map(|named| named.name.as_str())
    }

    /// Whether the provider vouches for the names that objects of this kind give.
    pub fn trusts_name(&self, referring: &GroupResource) -> bool {
        self.references.iter().any(|reference| reference.resource == *referring && reference.trust_name)
    }
}

/// Why a cluster-scoped object cannot refer to objects of a namespace.
fn closed(namespace: &str) -> Option<String> {
    if let Some(message) = names::dns1123_label(namespace).into_iter().next() {
        return Some(format!("{namespace:?} is not the name of a namespace: {message}"));
    }
    CLOSED_NAMESPACES
        .contains(&namespace)
        .then(|| format!("objects of namespace {namespace:?} never cross under a claim of a cluster-scoped kind"))
}

fn parse_reference(
    resource: &GroupResource,
    reference: &kube_bind_api::Reference,
) -> Result<ParsedReference, ClaimError> {
    let referring = reference.group_resource();
    let parse = |text: &str| {
        Path::parse(text).map_err(|source| ClaimError::Path {
            resource: resource.clone(),
            referring: referring.clone(),
            path: text.to_owned(),
            source,
        })
    };
    Ok(ParsedReference {
        name: parse(&reference.json_path.name)?,
        namespace: reference.json_path.namespace.as_deref().filter(|path| !path.is_empty()).map(parse).transpose()?,
        versions: reference.versions.clone(),
        kind: reference.kind.clone().filter(|kind| !kind.is_empty()),
        trust_name: reference.trust_name.unwrap_or(false),
        resource: referring,
    })
}

fn canonical(
    wire: &PermissionClaim,
    resource: &GroupResource,
    verbs: &BTreeSet<Verb>,
    references: &[ParsedReference],
) -> String {
    let labels = wire.selector.label_selector.as_ref().map(|selector| {
        let mut terms: Vec<Value> = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            terms.push(json!([key, "In", [value]]));
        }
        for term in selector.match_expressions.iter().flatten() {
            let values: BTreeSet<&String> = term.values.iter().flatten().collect();
            terms.push(json!([term.key, term.operator, values]));
        }
        sorted(terms)
    });
    let named =
        wire.selector.named_resources.iter().map(|named| json!([named.namespace.as_deref().unwrap_or(""), named.name]));
    let references = references.iter().map(|reference| {
        let versions: BTreeSet<&String> = reference.versions.iter().collect();
        json!([
            reference.resource.group,
            reference.resource.resource,
            versions,
            reference.name.canonical(),
            reference.namespace.as_ref().map(Path::canonical),
            reference.trust_name,
        ])
    });
    let mut out = Map::new();
    out.insert("resource".into(), json!([resource.group, resource.resource]));
    out.insert("owner".into(), json!(wire.owner));
    out.insert("verbs".into(), json!(verbs.iter().map(|verb| verb.word()).collect::<Vec<_>>()));
    out.insert("labels".into(), json!(labels));
    out.insert("named".into(), json!(sorted(named.collect())));
    out.insert("references".into(), json!(sorted(references.collect())));
    Value::Object(out).to_string()
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_key(Value::to_string);
    values.dedup();
    values
}

#[cfg(test)]
mod tests;
