use super::*;
use crate::consent::Consent;
use kube_bind_api::{ClaimState, PermissionClaim, StatedClaim};
use serde_json::json;

fn accepted(owner: Option<&str>, selector: Value) -> Vec<AcceptedClaim> {
    let wire: PermissionClaim =
        serde_json::from_value(json!({"resource": "secrets", "owner": owner, "selector": selector})).unwrap();
    let stated = StatedClaim::new(wire.clone(), ClaimState::Accepted);
    Consent::decide(&[wire], &[stated]).accepted()
}

fn by_token(owner: &str) -> Vec<AcceptedClaim> {
    accepted(
        Some(owner),
        json!({"references": [{"group": "acmedb.com", "resource": "acmedbs", "jsonPath": {"name": "spec.tokenSecret"}}]}),
    )
}

struct World {
    claims: Vec<AcceptedClaim>,
    referring: Vec<Value>,
    secrets: Vec<Value>,
    previous: Vec<ClaimedObject>,
    deleted: BTreeSet<String>,
    fresh: bool,
}

impl World {
    fn new(claims: Vec<AcceptedClaim>, tokens: &[&str]) -> Self {
        let referring = tokens
            .iter()
            .map(|token| json!({"metadata": {"name": format!("db-{token}"), "uid": format!("uid-{token}"), "namespace": "p"}, "spec": {"tokenSecret": token}}))
            .collect();
        Self { claims, referring, secrets: vec![], previous: vec![], deleted: BTreeSet::new(), fresh: false }
    }

    fn secret(mut self, name: &str, uid: &str, extra: Value) -> Self {
        let mut metadata = json!({"name": name, "uid": uid, "resourceVersion": "1"});
        metadata.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.secrets.push(json!({"kind": "Secret", "metadata": metadata}));
        self
    }

    fn run(&self) -> Outcome {
        let acmedbs = GroupResource::new("acmedb.com", "acmedbs");
        let secrets = GroupResource::new("", "secrets");
        let referring: Vec<_> = self
            .referring
            .iter()
            .map(|object| Referring { resource: &acmedbs, object, cluster_scoped: false })
            .collect();
        let existing: Vec<_> = self.secrets.iter().map(|object| Existing { resource: &secrets, object }).collect();
        evaluate(&Input {
            claims: &self.claims,
            contract_namespace: "cluster-x",
            consumer_namespace: "default",
            referring: &referring,
            existing: &existing,
            fresh: self.fresh,
            deleted_uids: &self.deleted,
            previous: &self.previous,
            schemas: &BTreeMap::new(),
        })
    }
}

fn owned(referrer: &str) -> Value {
    json!({"ownerReferences": [{"uid": referrer}]})
}

fn line(entry: &ClaimedObject) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or("-".into());
    format!(
        "{} {:?} {} {} {:?}",
        entry.name,
        entry.owner,
        text(&entry.uid),
        text(&entry.resource_version),
        entry.deleted
    )
}

fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.entries.iter().map(line).collect()
}

#[test]
fn what_only_the_provider_makes_is_read_while_it_is_there_and_judged() {
    let mut world = World::new(by_token("Provider"), &["root-password"]);
    let before = world.run();
    assert_eq!(before.entries.len(), 1, "so that the agent knows the name");
    assert_eq!(before.grants, Grants::default(), "it may come as the operator's own");
    world = world.secret("root-password", "s", json!({"labels": {"kube-bind.io/owner": "provider"}}));
    let there = world.run();
    assert_eq!(there.grants.read.len(), 1);
    world.secrets.clear();
    world.previous = there.entries;
    world.fresh = true;
    let gone = world.run();
    assert_eq!(gone.entries[0].deleted, Some(true));
    assert_eq!(gone.grants, Grants::default(), "whatever takes the name next may be the operator's own");
}

#[test]
fn a_claimed_object_is_born_lives_and_goes() {
    let mut world = World::new(by_token("Provider"), &["a"]);
    let outcome = world.run();
    assert_eq!(lines(&outcome), ["a Some(Provider) - - None"], "may be created");
    world.previous = outcome.entries;

    let mut world = world.secret("a", "u1", owned("uid-a"));
    let outcome = world.run();
    assert_eq!(lines(&outcome), ["a Some(Provider) u1 1 None"]);
    assert_eq!(outcome.grants.read.values().next().unwrap().len(), 1);
    assert!(outcome.grants.write.is_empty(), "what the provider makes is only read");
    world.previous = outcome.entries;
    assert_eq!(world.run().entries, world.previous, "nothing changes at rest");

    world.secrets.clear();
    let outcome = world.run();
    assert_eq!(lines(&outcome), ["a Some(Provider) u1 1 None"], "absence from a cache proves nothing");
    world.deleted.insert("u1".into());
    let outcome = world.run();
    assert_eq!(lines(&outcome), ["a Some(Provider) u1 - Some(true)"]);
    world.previous = outcome.entries;
    world.deleted.clear();
    assert_eq!(lines(&world.run()), ["a Some(Provider) u1 - Some(true)"], "evidence stays");

    let mut world = world.secret("a", "u2", owned("uid-a"));
    assert_eq!(lines(&world.run()), ["a Some(Provider) u2 1 None"], "a new uid replaces it");
    world.secrets.clear();
    world.referring.clear();
    assert!(world.run().entries.is_empty(), "and it goes with the object that refers to it");
}

#[test]
fn a_fresh_read_is_evidence_too() {
    let mut world = World::new(by_token("Provider"), &["a"]).secret("a", "u1", owned("uid-a"));
    world.previous = world.run().entries;
    world.secrets.clear();
    world.fresh = true;
    assert_eq!(lines(&world.run()), ["a Some(Provider) u1 - Some(true)"]);
}

#[test]
fn a_name_leaves_only_after_its_object() {
    let mut world = World::new(by_token("Consumer"), &["a"]).secret(
        "a",
        "u1",
        json!({"labels": {"kube-bind.io/owner": "consumer"}, "annotations": {"kube-bind.io/cluster-namespace": "cluster-x"}}),
    );
    let outcome = world.run();
    assert_eq!(outcome.grants.write.len(), 1);
    world.previous = outcome.entries;
    world.referring.clear();
    assert_eq!(lines(&world.run()), ["a Some(Consumer) u1 1 None"], "the agent still has to delete it");
    world.secrets.clear();
    assert_eq!(world.run().entries.len(), 1, "a cache does not know");
    world.fresh = true;
    assert!(world.run().entries.is_empty());
}

#[test]
fn the_operators_own_secrets_are_not_granted() {
    for owner in ["Provider", "Consumer"] {
        let world = World::new(by_token(owner), &["root-password"]).secret("root-password", "u1", json!({}));
        let outcome = world.run();
        assert!(outcome.entries.is_empty(), "{owner}");
        assert_eq!(outcome.grants, Grants::default());
        assert_eq!(outcome.problems.len(), 1);
        assert_eq!(outcome.problems[0].name.as_deref(), Some("db-root-password"));
        assert!(outcome.problems[0].message.contains("root-password"), "{:?}", outcome.problems);
    }
}

#[test]
fn a_foreign_object_under_a_granted_name_ends_the_grant() {
    let mut world = World::new(by_token("Provider"), &["a"]).secret("a", "u1", owned("uid-a"));
    world.previous = world.run().entries;
    world.secrets.clear();
    let world = world.secret("a", "u2", json!({}));
    let outcome = world.run();
    assert_eq!(lines(&outcome), ["a Some(Provider) u1 - Some(true)"]);
    assert_eq!(outcome.grants, Grants::default());
}

#[test]
fn named_labelled_and_shared_objects() {
    let mut claims = accepted(
        None,
        json!({"labelSelector": {"matchLabels": {"app": "m"}},
        "namedResources": [{"name": "settings", "namespace": "default"}, {"name": "elsewhere", "namespace": "other"}]}),
    );
    claims.extend(by_token("Provider"));
    let world = World::new(claims, &["t"])
        .secret("labelled", "u1", json!({"labels": {"app": "m", "kube-bind.io/owner": "provider"}}))
        .secret("private", "u2", json!({}));
    let outcome = world.run();
    assert_eq!(lines(&outcome), ["labelled None u1 1 None", "settings None - - None", "t Some(Provider) - - None"]);
    let write: Vec<_> = outcome.grants.write.values().flatten().collect();
    assert_eq!(write, ["labelled", "settings"]);

    let mut world = World::new(by_token("Provider"), &["same"]);
    world.referring.push(json!({"metadata": {"name": "second", "uid": "uid-2"}, "spec": {"tokenSecret": "same"}}));
    let world = world.secret("same", "u1", owned("uid-2"));
    assert_eq!(lines(&world.run()), ["same Some(Provider) u1 1 None"], "any of those who refer will do");
}

#[test]
fn there_is_a_limit_and_what_was_granted_stays() {
    let tokens: Vec<String> = (0..MAX_CLAIMED_OBJECTS + 5).map(|n| format!("t{n:05}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let mut world = World::new(by_token("Provider"), &tokens);
    let outcome = world.run();
    assert_eq!((outcome.entries.len(), outcome.left_out), (MAX_CLAIMED_OBJECTS, 5));
    let last = tokens.last().unwrap();
    world.previous = vec![ClaimedObject { name: (*last).to_string(), ..outcome.entries[0].clone() }];
    let outcome = world.run();
    assert!(outcome.entries.iter().any(|entry| entry.name == *last));
    assert_eq!(outcome.entries.len(), MAX_CLAIMED_OBJECTS);
}

#[test]
fn nothing_accepted_nothing_granted() {
    let mut world = World::new(by_token("Provider"), &["a"]).secret("a", "u1", owned("uid-a"));
    world.previous = world.run().entries;
    world.claims.clear();
    assert_eq!(world.run().entries.len(), 1, "until the object is gone the name stays");
    world.previous.clear();
    assert_eq!(world.run(), Outcome::default());
}

#[test]
fn a_copy_made_while_its_name_was_given_up_stays_listed_until_it_is_gone() {
    // The list had the name without uid; then the agent made the copy, and the referring object changed its mind.
    let mark = json!({"labels": {"kube-bind.io/owner": "consumer"}, "annotations": {"kube-bind.io/cluster-namespace": "cluster-x"}});
    let mut world = World::new(by_token("Consumer"), &["new"]).secret("old", "u1", mark);
    world.previous = World::new(by_token("Consumer"), &["old"]).run().entries;
    assert_eq!(lines(&world.run()), ["new Some(Consumer) - - None", "old Some(Consumer) u1 1 None"]);
    let secrets = GroupResource::new("", "secrets");
    assert!(world.run().grants.write[&secrets].contains("old"), "so that the agent can take it away");
    // Somebody else's object is never listed that way.
    let foreign = World::new(by_token("Consumer"), &["new"]).secret("old", "u1", json!({}));
    assert_eq!(lines(&foreign.run()), ["new Some(Consumer) - - None"]);
}

#[test]
fn an_object_that_came_by_its_label_and_was_deleted_is_said_to_be_deleted() {
    let labelled = json!({"labels": {"share": "yes", "kube-bind.io/owner": "provider"}});
    let claims = || accepted(Some("Provider"), json!({"labelSelector": {"matchLabels": {"share": "yes"}}}));
    let first = World::new(claims(), &[]).secret("s", "u1", labelled.clone()).run();
    assert_eq!(lines(&first), ["s Some(Provider) u1 1 None"]);
    let mut gone = World::new(claims(), &[]);
    gone.previous = first.entries.clone();
    assert_eq!(lines(&gone.run()), ["s Some(Provider) u1 1 None"], "not seen, perhaps not looked");
    gone.deleted.insert("u1".into());
    let told = gone.run();
    assert_eq!(lines(&told), ["s Some(Provider) u1 - Some(true)"]);
    // It stays, and what has the name now is not given away unless it is labelled too.
    let secrets = GroupResource::new("", "secrets");
    let mut other = World::new(claims(), &[]).secret("s", "u2", json!({}));
    other.previous = told.entries.clone();
    assert_eq!(lines(&other.run()), ["s Some(Provider) u1 - Some(true)"]);
    assert!(other.run().grants.read.get(&secrets).is_none_or(|names| !names.contains("s")));
    let mut again = World::new(claims(), &[]).secret("s", "u3", labelled);
    again.previous = told.entries;
    assert_eq!(lines(&again.run()), ["s Some(Provider) u3 1 None"]);
}
