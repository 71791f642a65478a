use super::*;
use crate::claimed::Grants;
use serde::Serialize;
use serde_json::Value;

fn acmedbs() -> GroupResource {
    GroupResource::new("acmedb.com", "acmedbs")
}

fn secrets() -> GroupResource {
    GroupResource::new("", "secrets")
}

fn yaml(objects: &[Value]) -> String {
    objects.iter().map(|object| serde_saphyr::to_string(object).unwrap()).collect::<Vec<_>>().join("---\n")
}

fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

fn consumer() -> Vec<Value> {
    let base = consumer::base();
    let binding =
        consumer::binding("acmedb", Some("uid"), &[acmedbs()], &[secrets(), GroupResource::new("", "services")]);
    vec![
        value(&base.namespace),
        value(&base.service_account),
        value(&base.cluster_role),
        value(&base.cluster_role_binding),
        value(&base.role),
        value(&base.role_binding),
        value(&binding.cluster_role),
        value(&binding.cluster_role_binding),
        value(&binding.claims_role.unwrap()),
        value(&consumer::claims_in("acmedb", Some("uid"), "default")),
    ]
}

fn provider() -> Vec<Value> {
    let mut grants = Grants::default();
    grants.read.insert(secrets(), ["db-token".to_owned()].into());
    grants.write.insert(GroupResource::new("", "configmaps"), ["b".to_owned(), "a".to_owned()].into());
    let contract = provider::contract("cluster-x");
    let mapped = provider::mapped(&provider::Mapped {
        contract_namespace: "cluster-x",
        namespace: "cluster-x-default",
        export: "acmedb",
        exported: &[acmedbs()],
        claimed: &grants,
        open: &[],
    });
    let backend = service_account("backend", "backend");
    vec![
        value(&provider::consumer_service_account("cluster-x")),
        value(&contract.role),
        value(&contract.role_binding),
        value(&mapped.role),
        value(&mapped.role_binding),
        value(&backend::base()),
        value(&backend::base_binding(&backend)),
        value(&backend::contracts()),
        value(&backend::contracts_in(&backend, "cluster-x")),
        value(&backend::offers(&[acmedbs()])),
        value(&backend::offers_in(&backend, "cluster-x-default")),
    ]
}

#[test]
fn consumer_rights_are_golden() {
    insta::assert_snapshot!(yaml(&consumer()));
}

#[test]
fn provider_rights_are_golden() {
    insta::assert_snapshot!(yaml(&provider()));
}

#[test]
fn nobody_holds_a_wildcard_or_escalates() {
    for object in consumer().into_iter().chain(provider()) {
        for rule in object["rules"].as_array().into_iter().flatten() {
            let text = rule.to_string();
            assert!(!text.contains("\"*\"") && !text.contains("escalate") && !text.contains("impersonate"), "{object}");
            assert_ne!(rule["resourceNames"], serde_json::json!([]), "an empty list grants everything");
            let verbs = rule["verbs"].as_array().unwrap();
            if verbs.iter().any(|verb| verb == "bind") {
                assert!(rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty()), "{rule}");
            }
        }
        let cluster_wide = object["kind"] == "ClusterRole"
            && ["kube-bind-backend", "kube-bind-konnector", "kube-bind:acmedb"]
                .contains(&object["metadata"]["name"].as_str().unwrap());
        if cluster_wide {
            let reads_secrets = object["rules"]
                .as_array()
                .unwrap()
                .iter()
                .any(|rule| rule["resources"].to_string().contains("\"secrets\""));
            assert!(!reads_secrets, "no Secrets of the whole cluster: {object}");
        }
        assert_eq!(object["metadata"]["ownerReferences"], Value::Null);
    }
}

#[test]
fn the_backend_holds_what_it_grants() {
    // Kubernetes' escalation check: a Role may be written only by who holds its rules (or `escalate`).
    let grants = |rules: &[PolicyRule], wanted: &PolicyRule| {
        wanted.api_groups.iter().flatten().all(|group| {
            wanted.resources.iter().flatten().all(|resource| {
                let kind = GroupResource { group: group.clone(), resource: resource.clone() };
                wanted.verbs.iter().all(|verb| allows(rules, &kind, verb))
            })
        })
    };
    // Both hold in a contract namespace; neither repeats the other.
    let contracts = [backend::base().rules.unwrap(), backend::contracts().rules.unwrap()].concat();
    for rule in provider::contract("cluster-x").role.rules.unwrap() {
        assert!(grants(&contracts, &rule), "{rule:?}");
    }
    let offers = backend::offers(&[acmedbs()]).rules.unwrap();
    let mut claimed = Grants::default();
    claimed.write.insert(secrets(), ["a".to_owned()].into());
    let open = [secrets()];
    let mapped = provider::mapped(&provider::Mapped {
        contract_namespace: "c",
        namespace: "c-d",
        export: "e",
        exported: &[acmedbs()],
        claimed: &claimed,
        open: &open,
    });
    for rule in mapped.role.rules.unwrap() {
        assert!(grants(&offers, &rule), "{rule:?}");
    }
}

#[test]
fn no_names_no_rule() {
    assert_eq!(named("", &["secrets"], Vec::<String>::new(), &["get"]), None);
    assert_eq!(named("", &["secrets"], [""], &["get"]), None);
    let mut claimed = Grants::default();
    claimed.read.insert(secrets(), Default::default());
    let role = provider::mapped(&provider::Mapped {
        contract_namespace: "c",
        namespace: "c-d",
        export: "e",
        exported: &[acmedbs()],
        claimed: &claimed,
        open: &[],
    });
    assert_eq!(role.role.rules.unwrap().len(), 1);
    let binding = consumer::binding("b", None, &[acmedbs()], &[]);
    assert!(binding.claims_role.is_none());
    assert!(!value(&binding.cluster_role).to_string().contains("bind\""));
}

#[test]
fn a_label_without_the_grant_is_not_an_offer() {
    let offers = backend::offers(&[acmedbs()]);
    assert!(backend::is_granted(&offers, &acmedbs()));
    assert!(!backend::is_granted(&offers, &GroupResource::new("x.com", "xs")));
    let mut extended = offers;
    extended.rules.as_mut().unwrap().push(backend::offer_rule(&GroupResource::new("x.com", "xs")));
    assert!(backend::is_granted(&extended, &GroupResource::new("x.com", "xs")));
    assert_eq!(backend::offer_command(&acmedbs()), "kubectl bind provider offer acmedbs.acmedb.com");
}

#[test]
fn admission_policies_are_golden() {
    let bound = admission::BoundKind { group: "acmedb.com".into(), version: "v1alpha1".into(), kind: "MongoDB".into() };
    let mut policies = admission::agent();
    policies.push(admission::where_used("acmedb", Some("uid"), &bound));
    let objects: Vec<Value> =
        policies.iter().flat_map(|policy| [value(&policy.policy), value(&policy.binding)]).collect();
    insta::assert_snapshot!(yaml(&objects));
}

#[test]
fn shared_kinds_are_the_providers_word() {
    let kind = acmedbs();
    assert_eq!(backend::shared(&kind).metadata.name.unwrap(), backend::shared_name(&kind));
    let binding = backend::shared_binding(&kind, vec![service_account("cluster-x", "kube-binder")]);
    assert_eq!(binding.role_ref.name, "kube-bind-shared:acmedbs.acmedb.com");
    assert!(backend::shared_rules(&kind).iter().all(|rule| rule.resource_names.is_some()), "only by name");
    let (role, keeper) = backend::keeper(&kind, vec![service_account("kube-bind", "backend")]);
    assert_eq!(keeper.role_ref.name, backend::keeper_name(&kind));
    assert!(role.rules.unwrap().iter().all(|rule| rule.resource_names.is_some() || rule.verbs == ["list", "watch"]));
    assert!(
        !backend::base()
            .rules
            .unwrap()
            .iter()
            .any(|rule| { rule.resource_names.iter().flatten().any(|name| name.contains("shared")) })
    );
}
