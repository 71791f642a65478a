//! Pruning, defaulting and validation against what a real kube-apiserver (1.36) answered.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use apimachinery::schema::Structural;
use serde_json::{Value, json};

fn schema(name: &str) -> Structural {
    let schemas: Value = serde_json::from_str(include_str!("recorded/schemas.json")).unwrap();
    Structural::compile(&schemas[name]).unwrap()
}

fn errors(schema: &Structural, mut object: Value, old: Option<&Value>) -> Vec<String> {
    schema.prune(&mut object);
    schema.apply_defaults(&mut object);
    let errors = schema.validate(&object, old);
    errors.iter().map(ToString::to_string).collect()
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "h1.example/v1", "kind": "X", "metadata": {"name": "xx"}, "spec": spec})
}

#[test]
fn values_are_refused_in_the_servers_words() {
    let schema = schema("things");
    let cases = [
        (json!({"tier": "x"}), vec![r#"spec.tier: Unsupported value: "x": supported values: "a", "b""#]),
        (
            json!({"replicas": "a"}),
            vec![r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#],
        ),
        (
            json!({"replicas": 0}),
            vec!["spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"],
        ),
        (
            json!({"replicas": 6}),
            vec!["spec.replicas: Invalid value: 6: spec.replicas in body should be less than or equal to 5"],
        ),
        (
            json!({"replicas": 1.5}),
            vec![
                r#"spec.replicas: Invalid value: "number": spec.replicas in body must be of type integer: "number""#,
                r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.replicas"#,
            ],
        ),
        (json!({"replicas": 1.0}), vec![]),
        (
            json!({"i32": 3_000_000_000_u64}),
            vec![r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.i32"#],
        ),
        (
            json!({"ratio": 0.3}),
            vec![
                "spec.ratio: Invalid value: 0.3: spec.ratio in body should be a multiple of 0.5",
                "spec.ratio: Invalid value: 0.3: spec.ratio in body should be greater than or equal to 0.5",
            ],
        ),
        (
            json!({"ratio": 1_000_000.5}),
            vec!["spec.ratio: Invalid value: 1.0000005e+06: spec.ratio in body should be less than or equal to 1e+06"],
        ),
        (
            json!({"ratio": 1_000_001}),
            vec!["spec.ratio: Invalid value: 1000001: spec.ratio in body should be less than or equal to 1000000"],
        ),
        (json!({"excl": 3}), vec!["spec.excl: Invalid value: 3: spec.excl in body should be greater than 3"]),
        (
            json!({"name": "a"}),
            vec![r#"spec.name: Invalid value: "a": spec.name in body should be at least 2 chars long"#],
        ),
        (json!({"name": "abcde"}), vec!["spec.name: Too long: may not be more than 4 bytes"]),
        (json!({"name": "A1"}), vec![r#"spec.name: Invalid value: "A1": spec.name in body should match '^[a-z]+$'"#]),
        (
            json!({"when": "x"}),
            vec![r#"spec.when: Invalid value: "x": spec.when in body must be of type date-time: "x""#],
        ),
        (
            json!({"port": true}),
            vec![r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#],
        ),
        (json!({"port2": "a"}), vec![r#"spec.port2: Invalid value: "a": spec.port2 in body should match '^x'"#]),
        (
            json!({"list": [null]}),
            vec![r#"spec.list[0]: Invalid value: "null": spec.list[0] in body must be of type string: "null""#],
        ),
        (json!({"list": []}), vec!["spec.list: Invalid value: 0: spec.list in body should have at least 1 items"]),
        (
            json!({"list": ["a", "bb", "cc", "dd"]}),
            vec![
                r#"spec.list[0]: Invalid value: "a": spec.list[0] in body should be at least 2 chars long"#,
                "spec.list: Too many: 4: must have at most 3 items",
            ],
        ),
        (json!({"tags": ["a", "b", "a", "a"]}), vec![r#"spec.tags[2]: Duplicate value: "a""#]),
        (
            json!({"ports": [{"port": 1}, {"port": 1, "protocol": "TCP"}]}),
            vec![r#"spec.ports[1]: Duplicate value: {"port":1,"protocol":"TCP"}"#],
        ),
        (json!({"ports": [{"name": "x"}]}), vec!["spec.ports[0].port: Required value"]),
        (
            json!({"labels": {"a": 1}}),
            vec![r#"spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer""#],
        ),
        (
            json!({"labels": {}}),
            vec!["spec.labels: Invalid value: 0: spec.labels in body should have at least 1 properties"],
        ),
        (
            json!({"labels": {"a": "1", "b": "2", "c": "3"}}),
            vec!["spec.labels: Too many: 3: must have at most 2 items"],
        ),
        (
            json!({"choice": {}}),
            vec![
                r#"<nil>: Invalid value: "": "spec.choice" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.choice.a: Required value",
            ],
        ),
        (
            json!({"choice": {"a": "1", "b": "2"}}),
            vec![
                r#"<nil>: Invalid value: "": "spec.choice" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            json!({"any": {}}),
            vec![
                r#"<nil>: Invalid value: "": "spec.any" must validate at least one schema (anyOf)"#,
                "spec.any.a: Required value",
            ],
        ),
        (
            json!({"allnot": {"a": "x"}}),
            vec![
                "spec.allnot.b: Required value",
                r#"<nil>: Invalid value: "": "spec.allnot" must validate all the schemas (allOf)"#,
                r#"<nil>: Invalid value: "": "spec.allnot.a" must not validate the schema (not)"#,
            ],
        ),
        (json!({"nested": {"x": {}}}), vec!["spec.nested.x.k: Required value"]),
        (
            json!({"nested": {"x": "s"}}),
            vec![r#"spec.nested.x: Invalid value: "string": spec.nested.x in body must be of type object: "string""#],
        ),
        (json!({"emb": {"a": 1}}), vec!["spec.emb.apiVersion: Required value", "spec.emb.kind: Required value"]),
        (json!("str"), vec![r#"spec: Invalid value: "string": spec in body must be of type object: "string""#]),
    ];
    for (spec, expected) in cases {
        assert_eq!(errors(&schema, object(spec.clone()), None), expected, "{spec}");
    }
    assert_eq!(errors(&schema, json!({"metadata": {"name": "q"}}), None), ["spec: Required value"]);
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let schema = schema("things");
    let mut given = json!({
        "apiVersion": "h1.example/v1", "kind": "Thing", "bar": 1,
        "metadata": {"name": "a", "foo": 1, "labels": {"a": "b"}},
        "spec": {
            "bogus": 1, "empty": {"a": 1}, "flag": null, "nul": null, "nuld": null, "tier": null,
            "free": {"x": {"y": 1}, "known": {"a": "1", "b": 2}},
            "ports": [{"port": 1, "zz": 1}],
            "emb": {"apiVersion": "v1", "kind": "x", "metadata": {"name": "a", "foo": 1}, "any": 1},
        },
    });
    let mut unknown = schema.prune(&mut given);
    unknown.sort();
    assert_eq!(
        unknown,
        [
            "bar",
            "metadata.foo",
            "spec.bogus",
            "spec.emb.metadata.foo",
            "spec.empty.a",
            "spec.free.known.b",
            "spec.ports[0].zz",
        ]
    );
    schema.apply_defaults(&mut given);
    assert_eq!(
        given["spec"],
        json!({
            "empty": {}, "free": {"known": {"a": "1"}, "x": {"y": 1}}, "nul": null, "nuld": "dflt",
            "ports": [{"port": 1, "protocol": "TCP"}], "replicas": 2,
            "emb": {"apiVersion": "v1", "kind": "x", "metadata": {"name": "a"}, "any": 1},
        })
    );
    assert_eq!(given["metadata"], json!({"name": "a", "labels": {"a": "b"}}));
}

#[test]
fn rules_speak_as_the_server_does() {
    let schema = schema("celthings");
    let cases = [
        (json!({"min": 3, "max": 2}), vec!["spec: Invalid value: failed rule: self.min <= self.max"]),
        (json!({"min": 3, "max": 200}), vec!["spec.max: Required value: max way too big"]),
        (json!({"min": 3, "max": 4, "mode": "bad"}), vec!["spec.mode: Forbidden: mode bad"]),
        (
            json!({"min": 3}),
            vec![
                r#"spec: Invalid value: "object": no such key: max evaluating rule: self.min <= self.max"#,
                r#"spec: Invalid value: "object": no such key: max evaluating rule: self.max < 100"#,
            ],
        ),
        (json!({"min": 1, "max": 2, "word": "abcdefg"}), vec![r#"spec.word: Invalid value: "abcdefg": too big"#]),
        (json!({"min": 1, "max": 2, "count": 7}), vec!["spec.count: Invalid value: 7: failed rule: self < 5"]),
        (json!({"min": 1, "max": 2, "ratio": 7.5}), vec!["spec.ratio: Invalid value: 7.5: failed rule: self < 5.0"]),
        (json!({"min": 1, "max": 2, "ratio": 7}), vec!["spec.ratio: Invalid value: 7: failed rule: self < 5.0"]),
        (json!({"min": 1, "max": 2, "enabled": true}), vec![]),
        (json!({"min": 1, "max": 2, "list": [0]}), vec!["spec.list: Invalid value: failed rule: self.all(x, x > 0)"]),
        (json!({"min": 1, "max": 2, "list": [7]}), vec!["spec.list[0]: Invalid value: 7: failed rule: self < 5"]),
        (
            json!({"min": 1, "max": 2, "map": {"no": "abcdefg"}}),
            vec![
                "spec.map: Duplicate value",
                r#"spec.map[no]: Invalid value: "abcdefg": failed rule: self.size() < 5"#,
            ],
        ),
        (
            json!({"min": "a", "max": 2}),
            vec![
                r#"spec.min: Invalid value: "string": spec.min in body must be of type integer: "string""#,
                "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
            ],
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(errors(&schema, object(spec.clone()), None), expected, "{spec}");
    }
    let mut other = object(json!({"min": 1, "max": 2}));
    other["metadata"]["name"] = json!("yy");
    assert_eq!(errors(&schema, other, None), ["<nil>: Invalid value: name must start with x"]);
    let old = object(json!({"min": 1, "max": 2, "mode": "m"}));
    let new = object(json!({"min": 1, "max": 2, "mode": "n"}));
    assert_eq!(errors(&schema, new, Some(&old)), [r#"spec.mode: Invalid value: "n": immutable"#]);
}

#[test]
fn updates_do_not_report_what_did_not_change() {
    let schema = Structural::compile(&json!({
        "type": "object", "required": ["zz"],
        "properties": {"spec": {"type": "object", "required": ["q"], "properties": {
            "q": {"type": "string"},
            "a": {"type": "string", "enum": ["good"]},
            "o": {"type": "object", "properties": {
                "x": {"type": "string", "enum": ["good"]}, "y": {"type": "string"}}},
            "l": {"type": "array", "items": {"type": "string", "enum": ["good"]}},
            "b": {"type": "string"},
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {
                    "k": {"type": "string"}, "v": {"type": "string", "enum": ["good"]}}}},
        }}},
    }))
    .unwrap();
    let old = json!({"metadata": {"name": "r"}, "spec": {
        "a": "bad", "b": "x", "o": {"x": "bad"}, "l": ["bad"], "m": [{"k": "1", "v": "bad"}]}});
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(errors(&schema, new, Some(&old)), ["zz: Required value"]);
    let mut new = old.clone();
    new["spec"]["b"] = json!("y");
    assert_eq!(errors(&schema, new, Some(&old)), ["spec.q: Required value", "zz: Required value"]);
    let mut new = old.clone();
    new["spec"]["q"] = json!("1");
    new["spec"]["l"] = json!(["bad", "good"]);
    new["spec"]["o"]["y"] = json!("1");
    new["spec"]["m"] = json!([{"k": "2", "v": "good"}, {"k": "1", "v": "bad"}]);
    assert_eq!(
        errors(&schema, new, Some(&old)),
        [r#"spec.l[0]: Unsupported value: "bad": supported values: "good""#, "zz: Required value",]
    );
}

/// Schemas that are not structural, one property each, and what the server says of them.
#[test]
fn schemas_are_refused_in_the_servers_words() {
    let cases = [
        (json!({}), ".type: Required value: must not be empty for specified object fields"),
        (json!({"type": "array"}), ".items: Required value: must be specified"),
        (
            json!({"type": "array", "items": {}}),
            ".items.type: Required value: must not be empty for specified array items",
        ),
        (
            json!({"type": "bogus"}),
            r#".type: Unsupported value: "bogus": supported values: "array", "boolean", "integer", "number", "object", "string""#,
        ),
        (
            json!({"type": "object", "properties": {"q": {"type": "string"}}, "anyOf": [{"properties": {"q": {"type": "string"}}}]}),
            ".anyOf[0].properties[q].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
            ".items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["z"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
            r#".x-kubernetes-list-map-keys: Invalid value: ["z"]: entries must all be names of item properties"#,
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
            ".items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        (
            json!({"type": "string", "uniqueItems": true}),
            ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
            ".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            json!({"type": "object", "default": {"x": 1}}),
            r#".default: Invalid value: {"x":1}: must not have unknown fields"#,
        ),
        (
            json!({"type": "string", "default": 5}),
            r#".default: Invalid value: "integer":  in body must be of type string: "integer""#,
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 1}}, "default": {"a": "xx"}}),
            ".default.a: Too long: may not be more than 1 byte",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "default": {}}),
            ".default.a: Required value",
        ),
        (json!({"type": "object", "$ref": "#/x"}), ".$ref: Forbidden: $ref is not supported"),
        (
            json!({"type": "object", "definitions": {"a": {"type": "string"}}}),
            ".definitions: Forbidden: definitions is not supported",
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            ".x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            ".properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ),
        (
            json!({"type": "array", "items": [{"type": "string"}]}),
            ".items: Forbidden: items must be a schema object and not an array",
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.foo == 1"}], "properties": {"a": {"type": "integer"}}}),
            r#".x-kubernetes-validations[0].rule: Invalid value: "self.foo == 1": compilation failed: ERROR: undefined field 'foo'"#,
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "bar"}]}),
            r#".x-kubernetes-validations[0].rule: Invalid value: "bar": compilation failed: ERROR: undeclared reference to 'bar' (in container '')"#,
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "nofn(1)"}]}),
            r#".x-kubernetes-validations[0].rule: Invalid value: "nofn(1)": compilation failed: ERROR: undeclared reference to 'nofn' (in container '')"#,
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "'a'"}]}),
            r#".x-kubernetes-validations[0].rule: Invalid value: "'a'": cel expression must evaluate to a bool"#,
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "message": "x\ny"}]}),
            r#".x-kubernetes-validations[0].message: Invalid value: "x\ny": must not contain line breaks"#,
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".zz"}]}),
            r#".x-kubernetes-validations[0].fieldPath: Invalid value: ".zz": must be a valid path"#,
        ),
        (
            json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}),
            r#".items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within properties[p]"#,
        ),
    ];
    for (property, expected) in cases {
        let schema = json!({"type": "object", "properties": {"p": property}});
        let errors = Structural::compile(&schema).unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, [format!("properties[p]{expected}")], "{property}");
    }
    let syntax = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self +"}]});
    assert_eq!(Structural::compile(&syntax).unwrap_err().len(), 1);
    let metadata = json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}});
    assert_eq!(
        Structural::compile(&metadata).unwrap_err()[0].to_string(),
        "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
    );
    let plain = json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}});
    assert!(Structural::compile(&plain).is_ok());
}
