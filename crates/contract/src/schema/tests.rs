use super::*;
use rstest::rstest;

fn crd() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "acmedbs.acmedb.com", "labels": {"kube-bind.io/exported": "true"}},
        "spec": {"group": "acmedb.com", "scope": "Namespaced",
            "names": {"plural": "acmedbs", "singular": "acmedb", "kind": "MongoDB", "listKind": "MongoDBList", "shortNames": ["mdb"]},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true,
                "selectableFields": [{"jsonPath": ".spec.tier"}],
                "additionalPrinterColumns": [{"name": "Tier", "type": "string", "jsonPath": ".spec.tier"}],
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["tier"], "properties": {
                        "tier": {"type": "string", "enum": ["shared", "dedicated"]},
                        "region": {"type": "string", "default": "eu-central-1"},
                        "free": {"x-kubernetes-preserve-unknown-fields": true},
                        "size": {"x-kubernetes-int-or-string": true}},
                        "x-kubernetes-validations": [{"rule": "self.tier != ''"}]},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}}))
    .unwrap()
}

fn projected() -> BoundSchemaSpec {
    project(&crd(), InformerScope::Namespaced, Isolation::Prefixed).unwrap()
}

#[test]
fn a_crd_comes_back_as_it_was() {
    let there = projected();
    let wire: BoundSchemaSpec = serde_json::from_value(serde_json::to_value(&there).unwrap()).unwrap();
    let back = consumer_crd(&wire, "acmedb", Some("u")).unwrap();
    let mut expected = crd().spec;
    expected.conversion = Some(CustomResourceConversion { strategy: "None".into(), ..Default::default() });
    assert_eq!(back.spec, expected);
    assert_eq!(back.metadata.owner_references, None);
    assert_eq!(back.metadata.labels.unwrap()[LABEL_BINDING], "acmedb");
    assert_eq!(back.metadata.annotations.as_ref().unwrap()[ANNOTATION_BINDING_UID], "u");
}

#[test]
fn revisions_name_the_published_form() {
    let a = projected();
    assert_eq!(revision(&a), revision(&a.clone()));
    assert!(revision(&a).starts_with("v1alpha1-"));
    assert!(revision(&a).ends_with(".acmedbs.acmedb.com"));
    let mut b = a.clone();
    b.names.short_names = None;
    assert_ne!(revision(&a), revision(&b));
    let schema = bound_schema("cluster-x", a.clone());
    assert_eq!(schema.metadata.name.as_deref(), Some("acmedbs.acmedb.com"));
    assert_eq!(schema.metadata.annotations.unwrap()[ANNOTATION_SOURCE_SPEC_HASH], source_spec_hash(&a));
    assert_ne!(export_hash([&a]), export_hash([&a, &b]));
}

#[test]
fn both_encodings_are_read() {
    let mut schema = projected();
    let bare = schema.versions[0].schema["openAPIV3Schema"].clone();
    let wrapped = consumer_crd(&schema, "b", None).unwrap();
    schema.versions[0].schema = bare;
    assert_eq!(consumer_crd(&schema, "b", None).unwrap().spec, wrapped.spec);
}

#[test]
fn namespaced_isolation_shows_the_consumer_a_cluster_scoped_kind() {
    assert_eq!(project(&crd(), InformerScope::Cluster, Isolation::Namespaced).unwrap().scope, Scope::Cluster);
}

#[rstest]
#[case::webhook(&|crd: &mut CustomResourceDefinition| crd.spec.conversion = Some(CustomResourceConversion { strategy: "Webhook".into(), ..Default::default() }), "webhook")]
#[case::apps(&|crd: &mut CustomResourceDefinition| crd.spec.group = "apps".into(), "group apps")]
#[case::core(&|crd: &mut CustomResourceDefinition| crd.spec.group = String::new(), "core group")]
#[case::k8s(&|crd: &mut CustomResourceDefinition| crd.spec.group = "rbac.authorization.k8s.io".into(), "rbac.authorization.k8s.io")]
#[case::ours(&|crd: &mut CustomResourceDefinition| crd.spec.group = "kube-bind.io".into(), "kube-bind.io")]
#[case::plural(&|crd: &mut CustomResourceDefinition| crd.spec.names.plural = "secrets".into(), "\"secrets\"")]
#[case::short(&|crd: &mut CustomResourceDefinition| crd.spec.names.short_names = Some(vec!["po".into()]), "\"po\"")]
#[case::kind(&|crd: &mut CustomResourceDefinition| crd.spec.names.kind = "Secret".into(), "\"secret\"")]
#[case::stored(&|crd: &mut CustomResourceDefinition| crd.spec.versions[0].storage = false, "exactly one version")]
#[case::served(&|crd: &mut CustomResourceDefinition| crd.spec.versions[0].served = false, "no version is served")]
#[case::unknown(&|crd: &mut CustomResourceDefinition| crd.spec.preserve_unknown_fields = Some(true), "preserveUnknownFields")]
#[case::no_schema(&|crd: &mut CustomResourceDefinition| crd.spec.versions[0].schema = None, "no schema")]
#[case::scope(&|crd: &mut CustomResourceDefinition| crd.spec.scope = "Galaxy".into(), "Galaxy")]
#[case::huge(&|crd: &mut CustomResourceDefinition| crd.spec.versions[0].deprecation_warning = Some("x".repeat(MAX_BYTES)), "bytes")]
fn what_would_break_a_consumer_is_refused(
    #[case] change: &dyn Fn(&mut CustomResourceDefinition),
    #[case] expected: &str,
) {
    let mut crd = crd();
    change(&mut crd);
    let error = project(&crd, InformerScope::Namespaced, Isolation::Prefixed).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_agent_checks_what_it_installs() {
    let mut schema = projected();
    schema.conversion = Some(Conversion { strategy: None, webhook: Some(Default::default()) });
    assert!(matches!(consumer_crd(&schema, "b", None), Err(SchemaError::WebhookConversion { .. })));
    let mut schema = projected();
    schema.versions[0].schema = json!({"openAPIV3Schema": {"type": 7}});
    assert!(matches!(consumer_crd(&schema, "b", None), Err(SchemaError::Invalid { .. })));
    let mut schema = projected();
    schema.versions[0].schema =
        json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    assert!(matches!(consumer_crd(&schema, "b", None), Err(SchemaError::NoSchema { .. })));
}

#[test]
fn existing_crds_are_told_apart() {
    let ours = consumer_crd(&projected(), "acmedb", Some("u")).unwrap();
    assert_eq!(crd_owner(&ours, "acmedb", Some("u2")), CrdOwner::Ours);
    assert_eq!(crd_owner(&ours, "other", None), CrdOwner::OtherBinding("acmedb".into()));
    assert_eq!(crd_owner(&crd(), "acmedb", None), CrdOwner::Foreign);
    let mut go = crd();
    go.metadata.owner_references = Some(
        serde_json::from_value(json!([{"apiVersion": "kube-bind.io/v1alpha2",
        "kind": "APIServiceBinding", "name": "acmedb", "uid": "u", "controller": true}]))
        .unwrap(),
    );
    assert_eq!(crd_owner(&go, "acmedb", Some("u")), CrdOwner::OursByReference);
    assert_eq!(crd_owner(&go, "acmedb", Some("u2")), CrdOwner::OtherBinding("acmedb".into()));
}

#[test]
fn the_stored_version_is_synced_if_it_is_served() {
    let mut schema = projected();
    let mut old = schema.versions[0].clone();
    old.name = "v1".into();
    old.storage = false;
    schema.versions.insert(0, old);
    assert_eq!(sync_version(&schema).unwrap().name, "v1alpha1");
    assert!(has_status(sync_version(&schema).unwrap()));
    schema.versions[1].served = false;
    assert_eq!(sync_version(&schema).unwrap().name, "v1");
}
