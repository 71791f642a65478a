use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::Structural;

fn schema() -> Structural {
    Structural::compile(&json!({
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {
                "text": {"type": "string"},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "map": {"type": "object", "additionalProperties": {"type": "string"}},
                "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "required": ["k"], "properties": {
                        "k": {"type": "integer"}, "v": {"type": "string"}}}},
                "atomic": {"type": "array", "items": {"type": "integer"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            }},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
    }))
    .unwrap()
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "a", "namespace": "n"}, "spec": spec})
}

fn options(manager: &str, force: bool) -> ApplyOptions {
    ApplyOptions {
        manager: manager.to_owned(),
        force,
        now: "2026-01-02T03:04:05Z".parse().unwrap(),
        ..ApplyOptions::default()
    }
}

fn update(manager: &str) -> UpdateOptions {
    UpdateOptions {
        manager: manager.to_owned(),
        now: "2026-01-02T03:04:06Z".parse().unwrap(),
        ..UpdateOptions::default()
    }
}

fn owners(object: &Value) -> Vec<String> {
    Managed::decode(object).unwrap().owners.iter().map(|o| o.manager.clone()).collect()
}

#[test]
fn conflicts_name_owner_and_field() {
    let schema = schema();
    let live = apply(None, &object(json!({"list": [{"k": 1, "v": "a"}], "text": "x"})), &options("a", false), &schema)
        .unwrap();
    let error =
        apply(Some(&live), &object(json!({"list": [{"k": 1, "v": "b"}], "text": "y"})), &options("b", false), &schema)
            .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.text\n- .spec.list[k=1].v"
    );
}

#[test]
fn a_configuration_must_not_carry_managed_fields() {
    let mut config = object(json!({}));
    config["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    let error = apply(None, &config, &options("a", false), &schema()).unwrap_err();
    assert_eq!(error.to_string(), "metadata.managedFields must be nil");
    let error = apply(None, &object(json!({})), &options("", false), &schema()).unwrap_err();
    assert!(matches!(error, ApplyError::BadRequest(_)));
}

#[test]
fn what_the_server_sets_is_no_change() {
    let schema = schema();
    let mut live = apply(None, &object(json!({"text": "x"})), &options("a", false), &schema).unwrap();
    live["metadata"]["uid"] = json!("u");
    live["metadata"]["resourceVersion"] = json!("7");
    live["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut config = object(json!({"text": "x"}));
    config["metadata"]["creationTimestamp"] = Value::Null;
    config["metadata"]["uid"] = json!("u");
    config["status"] = json!({"a": 1});
    let later = ApplyOptions {
        now: "2027-01-02T03:04:05Z".parse().unwrap(),
        reset: ResetFields::Status,
        ..options("a", false)
    };
    assert_eq!(apply(Some(&live), &config, &later, &schema).unwrap(), live);
}

#[test]
fn at_most_ten_updaters_are_kept() {
    let schema = schema();
    let mut live: Option<Value> = None;
    for n in 0..15 {
        let mut new = live.clone().unwrap_or_else(|| object(json!({"map": {}})));
        new["spec"]["map"][format!("k{n:02}")] = json!("v");
        let options = UpdateOptions {
            manager: format!("m{n:02}"),
            now: Timestamp::from_second(1_000_000 + n).unwrap(),
            ..UpdateOptions::default()
        };
        track_update(live.as_ref(), &mut new, &options, &schema);
        live = Some(new);
    }
    let owners = owners(&live.unwrap());
    assert_eq!(owners.len(), 10);
    assert_eq!(owners[0], "ancient-changes");
    assert_eq!(owners[1], "m06");
}

#[test]
fn an_update_without_a_manager_is_from_unknown() {
    let mut new = object(json!({"text": "x"}));
    track_update(None, &mut new, &update(""), &schema());
    assert_eq!(owners(&new), ["unknown"]);
}

#[test]
fn a_field_that_became_atomic_is_owned_as_a_whole() {
    let granular = schema();
    let atomic = Structural::compile(&json!({"type": "object", "properties": {"spec": {
        "type": "object", "properties": {"map": {"type": "object", "x-kubernetes-map-type": "atomic",
            "additionalProperties": {"type": "string"}}}}}}))
    .unwrap();
    let live = apply(None, &object(json!({"map": {"a": "1"}})), &options("a", false), &granular).unwrap();
    let error = apply(Some(&live), &object(json!({"map": {"b": "1"}})), &options("b", false), &atomic).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.map");
}

#[test]
fn times_alone_are_no_difference() {
    let schema = schema();
    let a = apply(None, &object(json!({"text": "x"})), &options("a", false), &schema).unwrap();
    let mut b = a.clone();
    b["metadata"]["managedFields"][0]["time"] = json!("2030-01-01T00:00:00Z");
    assert!(equal_but_times(&a, &b));
    b["spec"]["text"] = json!("y");
    assert!(!equal_but_times(&a, &b));
}

#[test]
fn malformed_managed_fields_are_ignored() {
    let schema = schema();
    let mut live = object(json!({"text": "x"}));
    live["metadata"]["managedFields"] = json!([{"manager": "a", "operation": "Apply", "fieldsType": "FieldsV1",
        "fieldsV1": {"q:spec": {}}}]);
    let new = apply(Some(&live), &object(json!({"text": "x"})), &options("b", false), &schema).unwrap();
    assert_eq!(owners(&new), ["b", "before-first-apply"]);
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn spec() -> impl Strategy<Value = Value> {
    let text = prop::option::of(word());
    let set = prop::option::of(prop::collection::btree_set(word(), 0..3));
    let map = prop::option::of(prop::collection::btree_map(word(), word(), 0..3));
    let list = prop::option::of(prop::collection::btree_map(0..3_u8, prop::option::of(word()), 0..3));
    let atomic = prop::option::of(prop::collection::vec(0..3_u8, 0..3));
    let free =
        prop::option::of(prop::collection::btree_map(word(), prop::collection::btree_map(word(), 0..2_u8, 0..2), 0..2));
    (text, set, map, list, atomic, free).prop_map(|(text, set, map, list, atomic, free)| {
        let mut spec = json!({});
        if let Some(text) = text {
            spec["text"] = json!(text);
        }
        if let Some(set) = set {
            spec["set"] = json!(set);
        }
        if let Some(map) = map {
            spec["map"] = json!(map);
        }
        if let Some(list) = list {
            let items = list.into_iter().map(|(k, v)| match v {
                Some(v) => json!({"k": k, "v": v}),
                None => json!({"k": k}),
            });
            spec["list"] = items.collect();
        }
        if let Some(atomic) = atomic {
            spec["atomic"] = json!(atomic);
        }
        if let Some(free) = free {
            spec["free"] = json!(free);
        }
        spec
    })
}

/// A history: who does what with which spec.
fn history() -> impl Strategy<Value = Vec<(u8, bool, Value)>> {
    prop::collection::vec((0..3_u8, any::<bool>(), spec()), 1..6)
}

fn run(history: &[(u8, bool, Value)], schema: &Structural) -> Option<Value> {
    let mut live: Option<Value> = None;
    for (who, applies, spec) in history {
        let manager = format!("m{who}");
        if *applies {
            live = apply(live.as_ref(), &object(spec.clone()), &options(&manager, true), schema).ok();
        } else {
            let mut new = object(spec.clone());
            track_update(live.as_ref(), &mut new, &update(&manager), schema);
            live = Some(new);
        }
    }
    live
}

/// All configured leaves are in the object.
fn holds(object: &Value, config: &Value) -> bool {
    match (object, config) {
        (Value::Object(object), Value::Object(config)) => {
            config.iter().all(|(k, v)| object.get(k).is_some_and(|o| holds(o, v)))
        }
        (Value::Array(object), Value::Array(config)) => config.iter().all(|v| object.iter().any(|o| holds(o, v))),
        _ => object == config,
    }
}

/// Empty maps and lists as null.
fn without_empty(value: &Value) -> Value {
    match value {
        Value::Object(map) if map.is_empty() => Value::Null,
        Value::Object(map) => map.iter().map(|(name, child)| (name.clone(), without_empty(child))).collect(),
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Array(list) => list.iter().map(without_empty).collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn force_never_conflicts_and_what_is_applied_is_there(history in history(), config in spec()) {
        let schema = schema();
        let live = run(&history, &schema);
        let new = apply(live.as_ref(), &object(config.clone()), &options("z", true), &schema).unwrap();
        prop_assert!(holds(&new["spec"], &config), "{new} does not hold {config}");
    }

    #[test]
    fn applying_twice_changes_nothing(history in history(), config in spec()) {
        let schema = schema();
        let live = run(&history, &schema);
        let once = apply(live.as_ref(), &object(config.clone()), &options("z", true), &schema).unwrap();
        let later = ApplyOptions { now: "2030-01-01T00:00:00Z".parse().unwrap(), ..options("z", false) };
        let twice = apply(Some(&once), &object(config), &later, &schema).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_only_applier_leaves_nothing_behind(first in spec(), second in spec()) {
        let schema = schema();
        // Nobody owns an empty list.
        let (mut first, mut second) = (first, second);
        for spec in [&mut first, &mut second] {
            spec.as_object_mut().unwrap().retain(|_, v| *v != json!([]));
        }
        let live = apply(None, &object(first), &options("z", false), &schema).unwrap();
        let new = apply(Some(&live), &object(second.clone()), &options("z", false), &schema).unwrap();
        let fresh = apply(None, &object(second), &options("z", false), &schema).unwrap();
        // The order of lists of type map and set is the live one's; what was emptied is null.
        let sorted = |v: &Value| -> Value {
            let mut v = without_empty(&v["spec"]);
            for list in ["set", "list"] {
                if let Some(Value::Array(items)) = v.get_mut(list) {
                    items.sort_by_key(ToString::to_string);
                }
            }
            v
        };
        prop_assert_eq!(sorted(&new), sorted(&fresh));
    }

    #[test]
    fn managed_fields_survive_storage(history in history()) {
        let schema = schema();
        if let Some(live) = run(&history, &schema) {
            let managed = Managed::decode(&live).unwrap();
            let mut again = object::without_managed_fields(&live);
            managed.encode_into(&mut again);
            prop_assert_eq!(&again, &live);
        }
    }

    #[test]
    fn owners_own_what_exists(history in history()) {
        let schema = schema();
        if let Some(live) = run(&history, &schema) {
            let root = object::root(schema.root());
            let nothing = Value::Object(Map::new());
            let bare = object::without_managed_fields(&live);
            let there = typed::compare(&root, &nothing, &bare).set().union(&typed::field_set(&root, &bare));
            for owner in Managed::decode(&live).unwrap().owners {
                let ghosts = owner.fields.difference(&there);
                prop_assert!(ghosts.is_empty(), "{} owns {:?}", owner.manager, ghosts.paths());
            }
        }
    }

    #[test]
    fn sets_obey_their_laws(a in spec(), b in spec()) {
        let schema = schema();
        let root = object::root(schema.root());
        let (a, b) = (typed::field_set(&root, &object(a)), typed::field_set(&root, &object(b)));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(FieldSet::from_fields_v1(&a.to_fields_v1()), Some(a.clone()));
        prop_assert_eq!(a.paths().into_iter().collect::<FieldSet>(), a);
    }
}
