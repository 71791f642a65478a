//! The sentence that a person accepts: `Create secrets referenced in MongoDB.spec.tokenSecret`.
//!
//! Everything in a claim is the provider's text, so nothing in it may break the line or hide what is asked.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_bind_api::{ClaimOwner, GroupResource, NamedResource};

use super::{Claim, Direction, ParsedReference, Verb};

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence(|_| None))
    }
}

impl Claim {
    /// The sentence. `kind_of` gives the kind of a referring resource where the claim itself does not name it; without
    /// either the resource is named (`acmedbs.acmedb.com`).
    pub fn sentence(&self, kind_of: impl Fn(&GroupResource) -> Option<String>) -> String {
        let verbs = capitalise(&join(&self.words()));
        let plural = self.resource.resource.as_str();
        let mut parts = Vec::new();
        for reference in &self.references {
            let kind = clean(&kind_name(reference, &kind_of));
            let mut part = if reference.name.is_own_name() {
                format!("{} named {kind}.{}", singular(plural), reference.name)
            } else {
                format!("{plural} referenced in {kind}.{}", reference.name)
            };
            if let Some(namespace) = &reference.namespace {
                part.push_str(&format!(" (in namespace {kind}.{namespace})"));
            }
            parts.push(part);
        }
        let named = &self.wire.selector.named_resources;
        if !named.is_empty() {
            let noun = if named.len() == 1 { singular(plural) } else { plural.to_owned() };
            parts.push(format!("{noun} {}", join(&named.iter().map(name_of).collect::<Vec<_>>())));
        }
        if let Some(selector) = &self.wire.selector.label_selector {
            parts.push(match labels(selector) {
                Some(terms) => format!("{plural} {terms}"),
                None => format!("all {plural} in namespaces where the API is used"),
            });
        }
        if parts.is_empty() {
            return format!("{verbs} no {plural} (the selector picks nothing)");
        }
        parts.dedup();
        format!("{verbs} {}", join(&parts))
    }

    /// What a person should know before accepting, beyond the sentence.
    pub fn notes(&self, kind_of: impl Fn(&GroupResource) -> Option<String>) -> Vec<String> {
        let mut notes = Vec::new();
        if self.direction() != Direction::ToConsumer {
            for reference in self.references.iter().filter(|reference| !reference.name.is_own_name()) {
                let place = if reference.namespace.is_some() { "the namespace it names" } else { "its namespace" };
                notes.push(format!(
                    "Whoever may create a {} can have any {} of {place} sent to the provider.",
                    clean(&kind_name(reference, &kind_of)),
                    singular(&self.resource.resource)
                ));
            }
        }
        if self.direction() == Direction::WhoeverIsFirst {
            notes.push("The provider does not say who owns these objects: they are copied in both directions.".into());
        }
        if let Some(reason) = self.reason() {
            notes.push(format!("The provider's reason: {}", clean(reason)));
        }
        notes.dedup();
        notes
    }

    /// The verbs as words; without any what the owner implies.
    fn words(&self) -> Vec<String> {
        let implied: &[Verb] = match self.owner() {
            Some(ClaimOwner::Provider) => &[Verb::Create],
            Some(ClaimOwner::Consumer) => &[Verb::Read],
            None => &[Verb::Read, Verb::Create],
        };
        let verbs: Vec<Verb> =
            if self.verbs.is_empty() { implied.to_vec() } else { self.verbs.iter().copied().collect() };
        verbs.into_iter().map(|verb| verb.word().to_owned()).collect()
    }
}

/// The singular of a resource's plural name, for sentences.
pub fn singular(plural: &str) -> String {
    if plural == "endpoints" {
        return plural.to_owned();
    }
    if let Some(stem) = plural.strip_suffix("ies") {
        return format!("{stem}y");
    }
    for ending in ["sses", "xes", "ches", "shes"] {
        if plural.ends_with(ending) {
            return plural[..plural.len() - 2].to_owned();
        }
    }
    plural.strip_suffix('s').unwrap_or(plural).to_owned()
}

fn kind_name(reference: &ParsedReference, kind_of: impl Fn(&GroupResource) -> Option<String>) -> String {
    kind_of(&reference.resource).or_else(|| reference.kind.clone()).unwrap_or_else(|| reference.resource.to_string())
}

fn name_of(named: &NamedResource) -> String {
    match named.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{} in namespace {}", clean(&named.name), clean(namespace)),
        None => clean(&named.name),
    }
}

/// `labelled a=b, c in (d, e)`; none if the selector picks everything.
fn labels(selector: &LabelSelector) -> Option<String> {
    let mut terms: Vec<String> =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{}={}", clean(key), clean(value))).collect();
    for term in selector.match_expressions.iter().flatten() {
        let values = term.values.iter().flatten().map(|value| clean(value)).collect::<Vec<_>>().join(", ");
        terms.push(match term.operator.as_str() {
            "In" => format!("{} in ({values})", clean(&term.key)),
            "NotIn" => format!("{} not in ({values})", clean(&term.key)),
            "Exists" => clean(&term.key),
            _ => format!("!{}", clean(&term.key)),
        });
    }
    (!terms.is_empty()).then(|| format!("labelled {}", terms.join(", ")))
}

fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

fn capitalise(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Control characters and overlong texts cannot reach a terminal.
fn clean(text: &str) -> String {
    const LIMIT: usize = 300;
    let bidi = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().take(LIMIT).map(|c| if c.is_control() || bidi(c) { '\u{fffd}' } else { c }).collect()
}
