//! Every reason that the code can set stands in the documentation, with what it means; and the documentation names none
//! that the code does not know. Reasons are found in the source itself, so that a new one cannot be forgotten.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Words in program text that look like reasons and are kinds, condition types or parts of Kubernetes' own objects.
const NOT_REASONS: [&str; 31] = [
    "APIServiceBinding",
    "APIServiceExport",
    "APIServiceExportRequest",
    "APIServiceNamespace",
    "BindableResourcesRequest",
    "BindingResourceResponse",
    "BoundSchema",
    "CRDs",
    "ClaimsResolved",
    "ClusterBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "CustomResourceDefinition",
    "False",
    "MangoDB",
    "NamesAccepted",
    "NamespaceReady",
    "Normal",
    "PermissionClaim",
    "RelyingParty",
    "RoleBinding",
    "SecretReady",
    "SelfSubjectAccessReview",
    "SelfSubjectReview",
    "ServiceAccount",
    "SubjectAccessReview",
    "The",
    "True",
    "Unknown",
    "Warning",
];
/// Answers of the binding HTTP API, not of conditions that anybody describes.
const ANSWERS: [&str; 2] = ["HandleResourcesFailed", "TemplateNotFound"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program text of a crate, without tests.
fn source(krate: &str) -> String {
    fn collect(folder: &Path, all: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                collect(&path, all);
            } else if name.ends_with(".rs") && !name.contains("tests") && name != "simulation.rs" {
                let text = std::fs::read_to_string(&path).unwrap();
                let program = text.split("#[cfg(test)]").next().unwrap_or_default();
                for line in program.lines().filter(|line| !line.trim_start().starts_with("//")) {
                    all.push_str(line.trim());
                    all.push(' ');
                }
            }
        }
    }
    let mut all = String::new();
    collect(&root().join("crates").join(krate).join("src"), &mut all);
    all
}

fn humps(word: &str) -> usize {
    word.chars().filter(char::is_ascii_uppercase).count()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphabetic())
        && text.chars().any(|c| c.is_ascii_lowercase())
}

/// Literals of one word.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').filter(|part| is_word(part))
}

/// What a crate can set as a reason.
fn reasons(krate: &str) -> BTreeSet<String> {
    let text = source(krate);
    let known = constants();
    // In several words: anywhere. A single word: where a reason is given.
    let mut found: BTreeSet<String> = words(&text).filter(|word| humps(word) > 1).map(str::to_owned).collect();
    for call in
        ["Problem::error(", "Problem::warning(", "Problem::info(", "events.warn(", "events.note(", "mark_false("]
    {
        for (_, rest) in text.match_indices(call).map(|(at, call)| (at, &text[at + call.len()..])) {
            let arguments: String = rest.chars().take(120).collect();
            found.extend(words(&arguments).next().map(str::to_owned));
        }
    }
    for (at, mark) in text.match_indices("reason::").filter(|(at, _)| !text[..*at].ends_with(':')) {
        let name: String =
            text[at + mark.len()..].chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
        found.extend(known.get(&name).cloned());
    }
    found.retain(|word| !NOT_REASONS.contains(&word.as_str()) && !ANSWERS.contains(&word.as_str()));
    found
}

/// The reasons that both sides know, by the names of their constants.
fn constants() -> BTreeMap<String, String> {
    let text = source("kube-bind-api");
    let module = text.split("pub mod reason {").nth(1).unwrap();
    let module = module.split('}').next().unwrap();
    let pairs = module.split("pub const ").filter_map(|part| {
        let (name, rest) = part.split_once(": &str = \"")?;
        Some((name.to_owned(), rest.split('"').next()?.to_owned()))
    });
    pairs.collect()
}

/// Words in `code` on a page, those after a heading only.
fn explained(page: &str, after: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
    let text = text.split_once(after).unwrap_or_else(|| panic!("docs/{page} has no {after:?}")).1;
    text.split('`').skip(1).step_by(2).filter(|word| is_word(word)).map(str::to_owned).collect()
}

#[test]
fn every_reason_of_the_agent_is_explained_to_consumers() {
    let reasons = reasons("konnector");
    assert!(reasons.len() > 30 && reasons.contains("SyncDelayed") && reasons.contains("Connecting"), "{reasons:?}");
    let page = explained("troubleshooting.md", "## The binding");
    let missing: Vec<_> = reasons.difference(&page).collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md: {missing:?}");
}

#[test]
fn every_reason_of_the_backend_is_explained_to_providers() {
    let reasons = reasons("backend");
    assert!(reasons.len() > 15 && reasons.contains("SharedClusterScope") && reasons.contains("Revoked"), "{reasons:?}");
    let page = explained("provider.md", "## Conditions and what mends them");
    let missing: Vec<_> = reasons.difference(&page).collect();
    assert!(missing.is_empty(), "not in docs/provider.md: {missing:?}");
}

#[test]
fn no_reason_is_explained_that_nobody_sets() {
    let text = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let tables =
        text.lines().skip_while(|line| *line != "## The binding").take_while(|line| *line != "## Your own cluster");
    let mut set = reasons("konnector");
    let types = source("kube-bind-api");
    for line in tables.filter(|line| line.starts_with('|')) {
        // The first two columns: types and reasons.
        let names: String = line.split('|').skip(1).take(if line.contains("| mend |") { 0 } else { 2 }).collect();
        for word in names.split('`').skip(1).step_by(2).filter(|word| is_word(word)) {
            let known =
                set.remove(word) || reasons("konnector").contains(word) || types.contains(&format!("\"{word}\""));
            assert!(known, "docs/troubleshooting.md explains {word}, which nobody sets");
        }
    }
    assert!(set.is_empty(), "only mentioned, not explained: {set:?}");
}
