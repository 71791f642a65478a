//! What to do about one object. In: both sides as they are known, the terms of the contract for it, and what was written
//! before. Out: at most a few actions, in order. Pure; `kind` carries them out and feeds back what it sees.
//!
//! | consumer | provider | then |
//! |---|---|---|
//! | alive | – | finalizer and place first, before anything goes up |
//! | alive | absent | create-only apply |
//! | alive | ours | update-only apply if digests differ; status down if it differs |
//! | alive | foreign | nothing but a report |
//! | deleting | ours | delete the copy, with an intent; the finalizer stays until the copy is really gone |
//! | deleting | absent | finalizer off |
//! | deleting | no place yet | a place first, to see that nothing is there |
//! | absent | anything | nothing: absence is no intent |
//! | unknown | anything | nothing |

use super::{
    Side,
    digest::Digest,
    intent::{Deletion, Teardown},
    status::{Generations, StatusKey},
    summary::{Belongs, ConsumerSummary, ProviderSummary},
};

/// Something to do. Actions on the same side come in the order in which they must happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the provider for a mapped namespace.
    EnsureMapping,
    /// Put our finalizer and the annotation that says where the copy will be on the consumer's object.
    Hold,
    /// Create the copy (needs the consumer's body).
    Create,
    /// Update the copy of this uid (needs the consumer's body).
    Update {
        /// Precondition.
        uid: String,
        /// Convert what the Go agent recorded as an update into an apply.
        migrate: bool,
        /// The copy was changed behind our back after a write of the same content.
        revert: bool,
    },
    /// Delete the copy.
    Delete(Deletion),
    /// Write the translated status to the consumer (needs the provider's body).
    PutStatus(Generations),
    /// Take our finalizer off the consumer's object.
    Release,
    /// Say what is in the way.
    Report(Obstacle),
}

/// Why an object does not sync, for an Event on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// An object of that name at the provider is not ours.
    ForeignObject(String),
    /// The provider is deleting its copy though the consumer is not.
    ProviderDeleting,
    /// The name cannot be mapped.
    Unmappable(String),
    /// Somebody at the provider keeps changing fields that are ours.
    Contested,
}

/// What the contract says about one object now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Nothing may move (another cluster holds the contract, or the export is gone).
    pub frozen: bool,
    /// What is going on around it.
    pub teardown: Teardown,
    /// Where it goes at the provider.
    pub target: Target,
}

/// Where an object goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// There, in this namespace (empty for cluster-scoped).
    Known(String),
    /// Not known before the provider has mapped the namespace.
    Pending,
    /// Nowhere, for this reason.
    Impossible(String),
}

/// What was written before, kept in memory only: everything works without it, but for the few objects whose content the
/// provider changes on write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Our last write of the copy.
    pub applied: Option<Applied>,
    /// Our last write of the consumer's status: what we meant, and what the API server made of it.
    pub status: Option<(StatusKey, StatusKey)>,
    /// How often the same content was reverted at the provider since it was last stable.
    pub reverts: u32,
}

/// A write of the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What we meant.
    pub desired: Digest,
    /// What the API server made of it (pruning, webhooks).
    pub result: Option<Digest>,
    /// Uid of the copy.
    pub uid: String,
    /// Generation of the copy right after.
    pub provider_generation: i64,
    /// Generation of the consumer's object that was carried.
    pub consumer_generation: i64,
}

/// After how many reverts of the same content we slow down and say so.
pub const CONTESTED_AFTER: u32 = 3;

/// Decides about one object.
pub fn decide(
    consumer: &Side<ConsumerSummary>,
    provider: &Side<ProviderSummary>,
    terms: &Terms,
    memory: &Memory,
) -> Vec<Action> {
    let Side::Present(consumer) = consumer else { return Vec::new() };
    match terms.teardown {
        // The objects stay where they are (or go with their CRD); only our mark comes off.
        Teardown::Orphan => return release_if_held(consumer),
        Teardown::Kind if consumer.deleting => return release_if_held(consumer),
        Teardown::Kind => return Vec::new(),
        Teardown::None | Teardown::Delete => {}
    }
    if terms.frozen {
        return Vec::new();
    }
    if consumer.deleting { terminating(consumer, provider, terms) } else { alive(consumer, provider, terms, memory) }
}

fn release_if_held(consumer: &ConsumerSummary) -> Vec<Action> {
    if consumer.finalizer { vec![Action::Release] } else { Vec::new() }
}

fn terminating(consumer: &ConsumerSummary, provider: &Side<ProviderSummary>, terms: &Terms) -> Vec<Action> {
    if !consumer.finalizer {
        // Nothing of ours went up before the finalizer was on.
        return Vec::new();
    }
    match provider {
        Side::Unknown => match &terms.target {
            // It never had a place, so nothing is there.
            Target::Impossible(_) => vec![Action::Release],
            // Born with the finalizer, deleted before it had a place. Only there can one see that nothing is there.
            Target::Pending => vec![Action::EnsureMapping],
            Target::Known(_) => Vec::new(),
        },
        Side::Absent => vec![Action::Release],
        Side::Present(copy) => match &copy.belongs {
            Belongs::Ours { .. } if copy.deleting => Vec::new(),
            Belongs::Ours { .. } => Deletion::consumer_terminating(true, terms.teardown, &copy.uid)
                .map(Action::Delete)
                .into_iter()
                .collect(),
            Belongs::Other(_) | Belongs::Foreign => vec![Action::Release],
        },
    }
}

fn alive(consumer: &ConsumerSummary, provider: &Side<ProviderSummary>, terms: &Terms, memory: &Memory) -> Vec<Action> {
    if terms.teardown == Teardown::Delete {
        // Its deletion comes through the API server (the CRD goes); until then nothing new.
        return Vec::new();
    }
    let namespace = match &terms.target {
        Target::Known(namespace) => namespace,
        Target::Pending => return vec![Action::EnsureMapping],
        Target::Impossible(reason) => return vec![Action::Report(Obstacle::Unmappable(reason.clone()))],
    };
    if let Side::Present(copy) = provider
        && let Some(owner) = not_ours(copy)
    {
        return vec![Action::Report(Obstacle::ForeignObject(owner))];
    }
    let marked = namespace.is_empty() || consumer.provider_namespace.as_deref() == Some(namespace);
    if !consumer.finalizer || !marked {
        // The write comes back as an event; only then does anything go up.
        return vec![Action::Hold];
    }
    match provider {
        Side::Unknown => Vec::new(),
        Side::Absent => vec![Action::Create],
        Side::Present(copy) => present(consumer, copy, memory),
    }
}

fn not_ours(copy: &ProviderSummary) -> Option<String> {
    match &copy.belongs {
        Belongs::Ours { .. } => None,
        Belongs::Other(who) => Some(format!("it belongs to {who}")),
        Belongs::Foreign => Some("it was not made by this agent".into()),
    }
}

fn present(consumer: &ConsumerSummary, copy: &ProviderSummary, memory: &Memory) -> Vec<Action> {
    let mut actions = Vec::new();
    let applied = memory.applied.as_ref().filter(|applied| applied.uid == copy.uid);
    let meant_before = applied.is_some_and(|applied| applied.desired == consumer.desired);
    // What the API server made of exactly this content counts as in sync, or a pruned field would loop for ever.
    let equal = copy.owned == Some(consumer.desired);
    let accepted = meant_before && copy.owned.is_some() && copy.owned == applied.and_then(|a| a.result);
    let in_sync = (equal || accepted) && !copy.needs_migration;
    if copy.deleting {
        actions.push(Action::Report(Obstacle::ProviderDeleting));
    } else if !in_sync {
        if meant_before && memory.reverts >= CONTESTED_AFTER {
            actions.push(Action::Report(Obstacle::Contested));
        }
        actions.push(Action::Update { uid: copy.uid.clone(), migrate: copy.needs_migration, revert: meant_before });
    }
    let rule = Generations {
        consumer: consumer.generation,
        provider: copy.generation,
        written: applied.map(|a| (a.provider_generation, a.consumer_generation)),
        in_sync,
    };
    let wanted = copy.status.translated(&rule);
    let rewritten =
        memory.status.as_ref().is_some_and(|(meant, result)| *meant == wanted && *result == consumer.status);
    if wanted != consumer.status && !rewritten {
        actions.push(Action::PutStatus(rule));
    }
    actions
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
