use super::*;
use kube_bind_api::StatedClaim;
use rstest::rstest;

fn claim(value: Value) -> Claim {
    Claim::parse(&serde_json::from_value(value).unwrap()).unwrap()
}

fn error(value: Value) -> String {
    Claim::parse(&serde_json::from_value(value).unwrap()).unwrap_err().to_string()
}

fn by_path(path: &str) -> Value {
    json!({"resource": "secrets", "owner": "Provider", "selector": {"references": [
        {"group": "acmedb.com", "resource": "acmedbs", "kind": "MongoDB", "jsonPath": {"name": path}}]}})
}

fn acmedbs() -> GroupResource {
    GroupResource::new("acmedb.com", "acmedbs")
}

fn found(claim: &Claim, object: &Value, schema: Option<&Value>) -> Vec<String> {
    claim.targets(&acmedbs(), object, schema).found.into_iter().map(|target| target.name).collect()
}

#[test]
fn sentences_are_golden() {
    let reference = |path: &str| json!([{"group": "acmedb.com", "resource": "acmedbs", "kind": "MongoDB", "jsonPath": {"name": path}}]);
    let sentences: Vec<String> = [
        json!({"resource": "secrets", "owner": "Provider", "verbs": ["create"], "selector": {"references": reference(".spec.tokenSecret")}}),
        json!({"resource": "services", "owner": "Provider", "verbs": ["create"], "selector": {"references": reference(".metadata.name")}}),
        json!({"resource": "secrets", "owner": "Provider", "selector": {"references": reference("spec.tokenSecret")}}),
        json!({"resource": "secrets", "owner": "Consumer", "selector": {"references": reference("spec.users.#.passwordSecret")}}),
        json!({"resource": "secrets", "selector": {"references": reference("{.spec.tokenSecret}")}}),
        json!({"resource": "configmaps", "owner": "Consumer", "verbs": ["read", "update"], "selector": {"namedResources": [{"name": "acmedb-settings", "namespace": "default"}]}}),
        json!({"resource": "configmaps", "owner": "Provider", "verbs": ["create", "update", "delete"], "selector": {"namedResources": [{"name": "a"}, {"name": "b"}, {"name": "c", "namespace": "x"}]}}),
        json!({"group": "core", "resource": "secrets", "owner": "Consumer", "selector": {"labelSelector": {"matchLabels": {"app": "acmedb"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]}}}),
        json!({"resource": "serviceaccounts", "owner": "Consumer", "selector": {"labelSelector": {}}}),
        json!({"resource": "secrets", "selector": {"labelSelector": {"matchLabels": {"app": "acmedb"}}, "references": reference("spec.tokenSecret")}}),
        json!({"resource": "secrets", "owner": "Provider", "selector": {"references": [{"group": "acmedb.com", "resource": "acmedbs", "jsonPath": {"name": "spec.tokenSecret"}}]}}),
        json!({"resource": "secrets", "owner": "Provider", "selector": {}}),
        json!({"resource": "secrets", "owner": "Provider", "selector": {"references": [{"group": "m", "resource": "mm", "kind": "X\n2. Read nothing", "jsonPath": {"name": "spec.s"}}]}}),
    ]
    .into_iter()
    .map(|value| claim(value).to_string())
    .collect();
    insta::assert_snapshot!(sentences.join("\n"), @r"
    Create secrets referenced in MongoDB.spec.tokenSecret
    Create service named MongoDB.metadata.name
    Create secrets referenced in MongoDB.spec.tokenSecret
    Read secrets referenced in MongoDB.spec.users.#.passwordSecret
    Read and create secrets referenced in MongoDB.spec.tokenSecret
    Read and update configmap acmedb-settings in namespace default
    Create, update and delete configmaps a, b and c in namespace x
    Read secrets labelled app=acmedb, tier in (a, b), !old
    Read all serviceaccounts in namespaces where the API is used
    Read and create secrets referenced in MongoDB.spec.tokenSecret and secrets labelled app=acmedb
    Create secrets referenced in acmedbs.acmedb.com.spec.tokenSecret
    Create no secrets (the selector picks nothing)
    Create secrets referenced in X�2. Read nothing.spec.s
    ");
}

#[test]
fn notes_tell_what_the_sentence_does_not() {
    let kind = |_: &GroupResource| Some("MongoDB".to_owned());
    assert!(claim(by_path("spec.tokenSecret")).notes(kind).is_empty());
    let mut consumer = by_path("spec.tokenSecret");
    consumer["owner"] = json!("Consumer");
    consumer["reason"] = json!("to log\nin");
    assert_eq!(
        claim(consumer).notes(kind),
        [
            "Whoever may create a MongoDB can have any secret of its namespace sent to the provider.",
            "The provider's reason: to log\u{fffd}in"
        ]
    );
}

#[rstest]
#[case(".spec.tokenSecret", &["db-token"])]
#[case("{.spec.tokenSecret}", &["db-token"])]
#[case("$.spec.tokenSecret", &["db-token"])]
#[case("spec.tokenSecret", &["db-token"])]
#[case("metadata.name", &["prod"])]
#[case("spec.users.#.secret", &["a", "b"])]
#[case(".spec.users[*].secret", &["a", "b"])]
#[case("spec.users.1.secret", &["b"])]
#[case(".spec.users[1].secret", &["b"])]
#[case("spec.list", &["x", "y"])]
#[case(r"metadata.annotations.example\.com/secret", &["annotated"])]
#[case("spec.nothing", &[])]
#[case("spec.users", &[])]
#[case("spec.number", &["7"])]
#[case("spec.blank", &[])]
#[case("spec.nested.#.inner.#.name", &["p", "q"])]
fn paths_lead_to_names(#[case] path: &str, #[case] expected: &[&str]) {
    let object = json!({"metadata": {"name": "prod", "namespace": "default", "annotations": {"example.com/secret": "annotated"}},
        "spec": {"tokenSecret": " db-token ", "users": [{"secret": "a"}, {"secret": "b"}, {}], "list": ["x", "y", ""],
            "number": 7, "blank": "  ", "nested": [{"inner": [{"name": "p"}]}, {"inner": [{"name": "q"}]}]}});
    assert_eq!(found(&claim(by_path(path)), &object, None), expected);
}

#[rstest]
#[case("", "is empty")]
#[case(".", "is empty")]
#[case("{}", "is empty")]
#[case("spec.*", "is not supported")]
#[case("spec.u?er", "is not supported")]
#[case("spec.users.#(a==1).b", "is not supported")]
#[case("spec.users.#", "# at the end")]
#[case("spec.name|@reverse", "is not supported")]
#[case("spec..name", "an empty key")]
#[case("spec.name.", "an empty key")]
#[case("@this", "is not supported")]
#[case("spec.a b", "white space")]
#[case("spec.x#", "is not supported")]
#[case(".spec.users[", "invalid JSONPath")]
#[case("status.secret", "the consumer's")]
#[case(".status.secret", "the consumer's")]
fn other_paths_are_refused(#[case] path: &str, #[case] expected: &str) {
    let message = error(by_path(path));
    assert!(message.contains(expected), "{message}");
}

#[test]
fn other_mistakes_are_refused() {
    for (value, expected) in [
        (json!({"resource": "pods", "selector": {}}), "pods cannot be claimed"),
        (json!({"group": "apps", "resource": "secrets", "selector": {}}), "secrets.apps cannot be claimed"),
        (
            json!({"group": "rbac.authorization.k8s.io", "resource": "clusterroles", "selector": {}}),
            "cannot be claimed",
        ),
        (json!({"resource": "secrets", "verbs": ["own"], "selector": {}}), "verb \"own\""),
        (json!({"resource": "secrets", "selector": {"namedResources": [{"name": "../x"}]}}), "namedResources"),
        (
            json!({"resource": "secrets", "selector": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}}),
            "labelSelector",
        ),
    ] {
        let message = error(value);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn names_come_from_the_consumer() {
    let claim = claim(by_path(".spec.tokenSecret"));
    let object =
        |spec: Value| json!({"metadata": {"name": "prod", "namespace": "default"}, "spec": spec, "status": {"x": "y"}});
    let schema = |token: Value| json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"tokenSecret": token}}}});
    let plain = schema(json!({"type": "string"}));
    let defaulted = schema(json!({"type": "string", "default": "root-password"}));
    assert_eq!(found(&claim, &object(json!({"tokenSecret": "a"})), Some(&plain)), ["a"]);
    assert!(found(&claim, &object(json!({"tokenSecret": "root-password"})), Some(&defaulted)).is_empty());
    let outer = json!({"properties": {"spec": {"default": {"tokenSecret": "root-password"}, "properties": {"tokenSecret": {"type": "string"}}}}});
    let targets = claim.targets(&acmedbs(), &object(json!({"tokenSecret": "root-password"})), Some(&outer));
    assert!(targets.found.is_empty());
    assert!(targets.problems[0].contains("schema's default"), "{:?}", targets.problems);
    let empty = json!({"properties": {"spec": {"default": {}, "properties": {"tokenSecret": {"type": "string"}}}}});
    assert_eq!(found(&claim, &object(json!({"tokenSecret": "a"})), Some(&empty)), ["a"]);
    let recursive = self::claim(by_path("$..x"));
    assert!(found(&recursive, &object(json!({})), None).is_empty(), "status is never looked into");
    let list = json!({"properties": {"spec": {"properties": {"users": {"items": {"properties": {"secret": {"default": "root"}}}}}}}});
    let users = self::claim(by_path("spec.users.#.secret"));
    assert!(found(&users, &object(json!({"users": [{"secret": "root"}]})), Some(&list)).is_empty());
}

#[test]
fn objects_speak_for_their_own_namespace() {
    let mut value = by_path("spec.s");
    value["selector"]["references"][0]["jsonPath"]["namespace"] = json!("spec.ns");
    let claim = claim(value);
    let object = |own: Option<&str>, ns: Value| json!({"metadata": {"name": "o", "namespace": own}, "spec": {"s": ["a", "b"], "ns": ns}});
    let elsewhere = claim.targets(&acmedbs(), &object(Some("default"), json!("kube-system")), None);
    assert!(elsewhere.found.is_empty());
    assert_eq!(elsewhere.problems.len(), 2);
    let here = claim.targets(&acmedbs(), &object(Some("default"), json!("default")), None);
    assert_eq!(here.found.len(), 2);
    let cluster = claim.targets(&acmedbs(), &object(None, json!(["x", "y"])), None);
    let pairs: Vec<_> = cluster.found.iter().map(|t| (t.namespace.as_deref().unwrap(), t.name.as_str())).collect();
    assert_eq!(pairs, [("x", "a"), ("y", "b")]);
    let bad = claim.targets(
        &acmedbs(),
        &json!({"metadata": {"name": "o", "namespace": "d"}, "spec": {"s": "../../x"}}),
        None,
    );
    assert!(bad.found.is_empty() && bad.problems.len() == 1);
}

#[test]
fn selectors_are_ored_and_empty_ones_pick_nothing() {
    let claim = claim(json!({"resource": "secrets", "selector": {"labelSelector": {"matchLabels": {"app": "m"}},
        "namedResources": [{"name": "n", "namespace": "default"}, {"name": "any"}]}}));
    let labels = json!({"app": "m"});
    assert!(claim.matches(Some("x"), "z", &labels, false));
    assert!(claim.matches(Some("default"), "n", &Value::Null, false));
    assert!(!claim.matches(Some("other"), "n", &Value::Null, false));
    assert!(claim.matches(Some("other"), "any", &Value::Null, false));
    assert!(claim.matches(Some("other"), "z", &Value::Null, true));
    assert!(!claim.matches(Some("other"), "z", &Value::Null, false));
    assert_eq!(claim.direct_names("other").collect::<Vec<_>>(), ["any"]);
    let nothing = self::claim(json!({"resource": "secrets", "selector": {}}));
    assert!(nothing.selects_nothing() && !nothing.matches(Some("x"), "z", &labels, false));
    let all = self::claim(json!({"resource": "secrets", "selector": {"labelSelector": {}}}));
    assert!(all.matches(None, "z", &Value::Null, false));
}

#[test]
fn claims_are_compared_by_meaning() {
    let base = by_path(".spec.tokenSecret");
    let same = |change: &dyn Fn(&mut Value)| {
        let mut other = base.clone();
        change(&mut other);
        claim(base.clone()) == claim(other)
    };
    assert!(same(&|v| v["group"] = json!("core")));
    assert!(same(&|v| v["reason"] = json!("because")));
    assert!(same(&|v| v["required"] = json!(true)));
    assert!(same(&|v| v["selector"]["references"][0]["jsonPath"]["name"] = json!("spec.tokenSecret")));
    assert!(same(&|v| v["selector"]["references"][0]["jsonPath"]["name"] = json!("{.spec.tokenSecret}")));
    assert!(same(&|v| v["selector"]["references"][0]["kind"] = json!("Other")));
    assert!(!same(&|v| v["owner"] = json!("Consumer")));
    assert!(!same(&|v| v["resource"] = json!("services")));
    assert!(!same(&|v| v["verbs"] = json!(["delete"])));
    assert!(!same(&|v| v["selector"]["references"][0]["trustName"] = json!(true)));
    assert!(!same(&|v| v["selector"]["references"][0]["jsonPath"]["name"] = json!("spec.other")));
    assert!(!same(&|v| v["selector"]["labelSelector"] = json!({})));
    let order = |names: [&str; 2]| {
        claim(json!({"resource": "secrets", "verbs": ["create", "read"],
        "selector": {"namedResources": [{"name": names[0]}, {"name": names[1], "namespace": ""}]}}))
    };
    assert!(order(["a", "b"]) == order(["b", "a"]));
    let stated: StatedClaim = serde_json::from_value(base.clone()).unwrap();
    assert_eq!(stated.state(), kube_bind_api::ClaimState::Pending);
}

proptest::proptest! {
    /// Templates are other people's text: whatever it is, reading it ends well, and what was read leads only to names.
    #[test]
    fn no_path_does_harm(path in "\\PC{0,40}", value in "[a-z]{0,5}") {
        let object = json!({"metadata": {"name": value}, "spec": {"a": [{"b": value}], "status": "x"}, "status": {"secret": "s"}});
        if let Ok(claim) = Claim::parse(&serde_json::from_value(by_path(&path)).unwrap()) {
            for target in claim.targets(&acmedbs(), &object, None).found {
                proptest::prop_assert!(names::dns1123_subdomain(&target.name).is_empty());
            }
            proptest::prop_assert!(!claim.to_string().contains('\n'));
        }
    }

    /// The canonical text does not depend on the order of what means a set.
    #[test]
    fn order_does_not_matter(mut named in proptest::collection::vec("[a-z]{1,4}", 1..5), turn in 0..5usize) {
        let build = |list: &[String]| claim(json!({"resource": "secrets", "selector": {
            "namedResources": list.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
            "labelSelector": {"matchExpressions": [{"key": "k", "operator": "In", "values": list}]}}}));
        let first = build(&named);
        let turn = turn % named.len();
        named.rotate_left(turn);
        let second = build(&named);
        proptest::prop_assert_eq!(first.canonical(), second.canonical());
    }
}
