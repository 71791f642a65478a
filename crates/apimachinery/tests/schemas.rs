//! Schemas beyond what was recorded: rules of many kinds, budgets, built-in types with references.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use apimachinery::schema::{ListType, MapType, NodeType, Structural, digest};
use rstest::rstest;
use serde_json::{Value, json};

/// A schema whose `spec` has the given rule and fields of many types.
fn ruled(rule: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "x-kubernetes-validations": [rule],
        "properties": {
            "n": {"type": "integer"}, "d": {"type": "number"}, "s": {"type": "string"},
            "when": {"type": "string", "format": "date-time"},
            "wait": {"type": "string", "format": "duration"},
            "blob": {"type": "string", "format": "byte"},
            "port": {"x-kubernetes-int-or-string": true},
            "namespace": {"type": "string"}, "a-b": {"type": "string"}, "x__y": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {
                "k": {"type": "string"}, "v": {"type": "integer"}}}},
            "words": {"type": "array", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "null": {"type": "string", "nullable": true},
        },
    }}})
}

fn holds(rule: Value, spec: Value, old: Option<Value>) -> Result<(), String> {
    let schema = Structural::compile(&ruled(rule)).map_err(|errors| format!("{errors:?}"))?;
    let object = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let errors = schema.validate(&object(spec), old.map(object).as_ref());
    match errors.first() {
        None => Ok(()),
        Some(error) => Err(error.to_string()),
    }
}

#[rstest]
#[case("self.n + 1 == 8")]
#[case("self.d == 7.0")]
#[case("has(self.s) && !has(self.when)")]
#[case("self.?s.orValue('') == 'text' && self.?words.orValue([]).size() == 2")]
#[case("self.list.all(x, x.v > 0) && self.list.exists(x, x.k == 'b')")]
#[case("self.list.exists_one(x, x.k == 'a')")]
#[case("self.list.map(x, x.v) == [1, 2] && self.list.filter(x, x.v > 1).size() == 1")]
#[case("self.map.all(k, self.map[k] < 10) && 'one' in self.map")]
#[case("self.words.isSorted() && self.words.sum() == 'ab' || self.words.size() == 2")]
#[case("self.s.matches('^[a-z]+$') && self.s.startsWith('te') && self.s.upperAscii() == 'TEXT'")]
#[case("self.__namespace__ == 'ns' && self.a__dash__b == 'ab' && self.x__underscores__y == 'xy'")]
#[case("quantity('1Gi').isGreaterThan(quantity('500Mi'))")]
#[case("isURL('https://a.b/c') && url('https://a.b/c').getHost() == 'a.b'")]
#[case("ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.2.3')")]
#[case("math.greatest(1, 2) == 2 && sets.contains([1, 2], [1])")]
#[case("'%s-%d'.format([self.s, self.n]) == 'text-7'")]
#[case("type(self.port) == int || type(self.port) == string")]
#[case("self.n in [7, 8] ? true : false")]
#[case("type(self.port) == string ? self.port == 'http' : int(self.port) > 0")]
#[case("dyn(self.n) == 7 && bool('true')")]
#[case("self.s.replace('t', 'x').split('e').join('') == 'xxx' || self.s.substring(1) == 'ext'")]
#[case("self.words.indexOf('b') == 1 && self.words.min() == 'a' && self.words.max() == 'b'")]
#[case("isIP('10.0.0.1') && isCIDR('10.0.0.0/8') && isQuantity('1Gi') && !isQuantity('x')")]
#[case("format.dns1123Label().validate('a').hasValue() == false")]
#[case("base64.encode(b'a') == 'YQ==' && string(1) == '1' && int('1') == 1 && double('1.5') == 1.5")]
#[case("self.s.find('[a-z]+') == 'text' && self.s.findAll('t').size() == 2")]
#[case("self.map == {'one': 1} && size(self.map) == 1 && self.s.contains('ex')")]
#[case("duration('1h').getHours() == 1 || true")]
#[case("!has(self.free) || self.free == self.free")]
#[case("self.words[0] == 'a' && self.words.exists(w, w in ['b'])")]
fn rules_evaluate(#[case] rule: &str) {
    let spec = json!({
        "n": 7, "d": 7, "s": "text", "port": "http", "namespace": "ns", "a-b": "ab", "x__y": "xy",
        "list": [{"k": "a", "v": 1}, {"k": "b", "v": 2}], "words": ["a", "b"], "map": {"one": 1},
    });
    assert_eq!(holds(json!({"rule": rule}), spec, None), Ok(()), "{rule}");
}

#[rstest]
#[case("self.when > timestamp('2024-01-01T00:00:00Z') && self.when.getFullYear() == 2025")]
#[case("self.wait == duration('90m') && self.wait < duration('2h')")]
#[case("self.blob == b'hello'")]
fn formats_have_their_types(#[case] rule: &str) {
    let spec = json!({"when": "2025-02-03T04:05:06Z", "wait": "1h30m", "blob": "aGVsbG8="});
    assert_eq!(holds(json!({"rule": rule}), spec, None), Ok(()), "{rule}");
}

#[test]
fn old_values_are_seen_when_there_are_any() {
    let rule = json!({"rule": "self.n >= oldSelf.n", "message": "only up"});
    assert_eq!(holds(rule.clone(), json!({"n": 1}), None), Ok(()));
    assert_eq!(holds(rule.clone(), json!({"n": 2}), Some(json!({"n": 1}))), Ok(()));
    assert_eq!(holds(rule, json!({"n": 0}), Some(json!({"n": 1}))), Err("spec: Invalid value: only up".to_owned()));
    let optional = json!({
        "rule": "oldSelf.hasValue() ? oldSelf.value().n == self.n : self.n == 1", "optionalOldSelf": true});
    assert_eq!(holds(optional.clone(), json!({"n": 1}), None), Ok(()));
    assert!(holds(optional.clone(), json!({"n": 2}), None).is_err());
    assert_eq!(holds(optional.clone(), json!({"n": 2}), Some(json!({"n": 2}))), Ok(()));
    assert!(holds(optional, json!({"n": 2}), Some(json!({"n": 1}))).is_err());
}

#[test]
fn rules_that_would_take_too_long_do_not_run() {
    let rule = json!({"rule": "self.words.all(a, self.words.all(b, self.words.all(c, a != b || c != 'x')))"});
    let words = |n: usize| json!({"words": (0..n).map(|i| i.to_string()).collect::<Vec<_>>()});
    assert_eq!(holds(rule.clone(), words(10), None), Ok(()));
    let error = holds(rule, words(1000), None).unwrap_err();
    assert!(error.contains("call cost exceeds limit"), "{error}");
    // A long list that the rule does not look at costs nothing.
    let other = json!({"rule": "self.list.all(a, self.list.all(b, a.v == b.v || a.k != b.k))"});
    let mut spec = words(5000);
    spec["list"] = json!([{"k": "a", "v": 1}]);
    assert_eq!(holds(other, spec, None), Ok(()));
}

#[test]
fn rules_of_all_of_count_with_the_types_of_the_field() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "number", "allOf": [
        {"x-kubernetes-validations": [{"rule": "self < 5.0"}]}]}}});
    let schema = Structural::compile(&schema).unwrap();
    assert!(schema.validate(&json!({"n": 4}), None).is_empty());
    assert_eq!(schema.validate(&json!({"n": 6}), None).len(), 1);
}

#[test]
fn null_is_a_value_of_its_own_where_it_may_be() {
    let rule = json!({"rule": "true"});
    assert_eq!(holds(rule.clone(), json!({"null": null}), None), Ok(()));
    assert!(holds(rule, json!({"s": null}), None).is_err());
}

#[test]
fn a_schema_that_is_no_schema_is_refused() {
    for schema in
        [json!(null), json!([]), json!("x"), json!({"type": 5}), json!({"type": "object", "properties": {"a": true}})]
    {
        assert!(Structural::compile(&schema).is_err(), "{schema}");
    }
    // Odd keywords do no harm.
    for schema in [
        json!({"type": "object", "required": "x"}),
        json!({"type": "object", "minProperties": -1}),
        json!({"type": "object", "x-kubernetes-validations": {}}),
    ] {
        assert!(Structural::compile(&schema).is_ok(), "{schema}");
    }
}

#[test]
fn built_in_types_follow_their_references() {
    let definitions = json!({
        "io.k8s.Pod": {
            "type": "object",
            "properties": {
                "metadata": {"$ref": "#/definitions/io.k8s.ObjectMeta"},
                "spec": {"$ref": "#/components/schemas/io.k8s.PodSpec", "default": {}},
                "status": {"allOf": [{"$ref": "#/definitions/io.k8s.Status"}], "default": {}},
            },
        },
        "io.k8s.ObjectMeta": {"type": "object", "properties": {"name": {"type": "string"}}},
        "io.k8s.PodSpec": {
            "type": "object",
            "required": ["containers"],
            "properties": {
                "containers": {
                    "type": "array",
                    "items": {"$ref": "#/definitions/io.k8s.Container"},
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "x-kubernetes-patch-merge-key": "name",
                    "x-kubernetes-patch-strategy": "merge,retainKeys",
                },
                "nodeSelector": {"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-map-type": "atomic"},
            },
        },
        "io.k8s.Container": {"type": "object", "properties": {
            "name": {"type": "string"}, "port": {"type": "string", "format": "int-or-string"},
            "inner": {"$ref": "#/definitions/io.k8s.Container"}}},
        "io.k8s.Status": {"type": "object", "properties": {"raw": {"type": "object"}, "phase": {"type": ["string", "null"]}}},
    });
    let schema = Structural::compile_builtin(&json!({"$ref": "#/definitions/io.k8s.Pod"}), &definitions).unwrap();
    let spec = &schema.root().properties["spec"];
    let containers = &spec.properties["containers"];
    assert_eq!(containers.list_type, ListType::Map);
    assert_eq!(containers.patch_merge_key.as_deref(), Some("name"));
    assert_eq!(containers.patch_strategy, ["merge", "retainKeys"]);
    assert_eq!(spec.properties["nodeSelector"].map_type, MapType::Atomic);
    let container = containers.items.as_ref().unwrap();
    assert_eq!(container.properties["port"].kind, NodeType::IntOrString);
    assert_eq!(schema.root().properties["status"].properties["phase"].kind, NodeType::String);

    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"containers": [{"name": "a", "port": 80, "inner": {"name": "b", "inner": {"any": 1}}, "foo": 1}], "bar": 1},
        "status": {"raw": {"any": {"thing": 1}}, "phase": "Running"},
    });
    assert_eq!(schema.prune(&mut pod), ["spec.bar", "spec.containers[0].foo"]);
    assert!(schema.validate(&pod, None).is_empty(), "{:?}", schema.validate(&pod, None));
}

#[test]
fn equal_schemas_have_equal_digests() {
    let a: Value = serde_json::from_str(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#).unwrap();
    let b: Value = serde_json::from_str(r#"{"properties":{"a":{"type":"string"}},"type":"object"}"#).unwrap();
    assert_eq!(digest(&a), digest(&b));
    assert_eq!(Structural::compile(&a).unwrap().digest(), &digest(&b));
}

#[test]
fn an_untyped_schema_keeps_everything() {
    let schema = Structural::untyped();
    let mut object = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}, "spec": {"a": [null, {}]}});
    let before = object.clone();
    assert!(schema.prune(&mut object).is_empty());
    schema.apply_defaults(&mut object);
    assert_eq!(object, before);
    assert!(schema.validate(&object, None).is_empty());
}
