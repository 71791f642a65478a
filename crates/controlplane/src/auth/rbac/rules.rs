//! One RBAC rule and what it means.
//!
//! In: the JSON of a `PolicyRule`. Out: [`Rule`], which answers whether it allows a request
//! ([`Rule::allows`]) and whether a set of rules covers another one ([`uncovered`]). Called by the
//! authorizer, the escalation check and the rules review. The semantics are those of the Kubernetes
//! document "Using RBAC Authorization".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Value, json};

use crate::request::Attributes;

/// A `rbac.authorization.k8s.io/v1` `PolicyRule`, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// API groups; `""` is the core group, `*` all.
    pub api_groups: Vec<String>,
    /// Plural resource names, `resource/subresource`, `*` or `*/subresource`.
    pub resources: Vec<String>,
    /// Paths that are no resource; a trailing `*` matches any rest.
    pub non_resource_urls: Vec<String>,
    /// Object names the rule is limited to; empty means every name.
    pub resource_names: Vec<String>,
    /// Verbs; `*` is every verb.
    pub verbs: Vec<String>,
}

fn strings(rule: &Value, field: &str) -> Vec<String> {
    rule.get(field)
        .and_then(Value::as_array)
        .map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == wanted)
}

impl Rule {
    /// Decodes a rule; unknown fields and values of a wrong type are left out (the schema refused
    /// them before they were stored).
    #[must_use]
    pub fn from_json(rule: &Value) -> Self {
        Self {
            api_groups: strings(rule, "apiGroups"),
            resources: strings(rule, "resources"),
            non_resource_urls: strings(rule, "nonResourceURLs"),
            resource_names: strings(rule, "resourceNames"),
            verbs: strings(rule, "verbs"),
        }
    }

    /// The rules of a Role or ClusterRole (`.rules`), in order.
    #[must_use]
    pub fn list_from(role: &Value) -> Vec<Self> {
        role.get("rules")
            .and_then(Value::as_array)
            .map(|rules| rules.iter().map(Self::from_json).collect())
            .unwrap_or_default()
    }

    /// The rule as JSON, without empty fields (`verbs` always present).
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut rule = serde_json::Map::new();
        rule.insert("verbs".into(), json!(self.verbs));
        for (field, values) in [
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("nonResourceURLs", &self.non_resource_urls),
            ("resourceNames", &self.resource_names),
        ] {
            if !values.is_empty() {
                rule.insert(field.into(), json!(values));
            }
        }
        Value::Object(rule)
    }

    /// Whether this rule alone allows the request.
    #[must_use]
    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !(has(&self.verbs, "*") || has(&self.verbs, &attributes.verb)) {
            return false;
        }
        if !attributes.is_resource() {
            return self.matches_path(&attributes.path);
        }
        (has(&self.api_groups, "*") || has(&self.api_groups, &attributes.group))
            && self.matches_resource(&attributes.resource, &attributes.subresource)
            && (self.resource_names.is_empty() || has(&self.resource_names, &attributes.name))
    }

    fn matches_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|allowed| {
            if allowed == "*" {
                return true;
            }
            if subresource.is_empty() {
                return allowed == resource;
            }
            match allowed.split_once('/') {
                Some((main, sub)) => sub == subresource && (main == "*" || main == resource),
                None => false,
            }
        })
    }

    fn matches_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|url| {
            url == "*" || url == path || url.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
        })
    }

    /// The rule taken apart into rules with one group, resource, name and verb each.
    fn atoms(&self) -> Vec<Rule> {
        let mut atoms = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom = Rule {
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        verbs: vec![verb.clone()],
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        atoms.push(atom);
                    } else {
                        atoms.extend(
                            self.resource_names
                                .iter()
                                .map(|name| Rule { resource_names: vec![name.clone()], ..atom.clone() }),
                        );
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            for verb in &self.verbs {
                atoms.push(Rule { non_resource_urls: vec![url.clone()], verbs: vec![verb.clone()], ..Rule::default() });
            }
        }
        atoms
    }

    fn covers(&self, atom: &Rule) -> bool {
        (has(&self.verbs, "*") || atom.verbs.iter().all(|verb| has(&self.verbs, verb)))
            && (has(&self.api_groups, "*") || atom.api_groups.iter().all(|group| has(&self.api_groups, group)))
            && atom.resources.iter().all(|resource| self.covers_resource(resource))
            && atom.non_resource_urls.iter().all(|url| self.matches_path(url))
            && (self.resource_names.is_empty()
                || (!atom.resource_names.is_empty()
                    && atom.resource_names.iter().all(|name| has(&self.resource_names, name))))
    }

    fn covers_resource(&self, resource: &str) -> bool {
        has(&self.resources, "*")
            || has(&self.resources, resource)
            || resource.split_once('/').is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
    }
}

/// The short form that Kubernetes prints: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| format!("{name}:{}", quoted_list(values)))
        .collect();
        write!(out, "{{{}}}", parts.join(", "))
    }
}

/// `["a" "b"]`: how Kubernetes prints a list of strings in a message.
#[must_use]
pub fn quoted_list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// What of `wanted` no rule of `held` covers, in atoms; empty when everything is covered.
#[must_use]
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().flat_map(Rule::atoms).filter(|atom| !held.iter().any(|rule| rule.covers(atom))).collect()
}

/// Merges rules that differ only in their verbs (one group, one resource, at most one name), so
/// that a message or a review is short; others stay as they are, after the merged ones.
#[must_use]
pub fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut order: Vec<Rule> = Vec::new();
    let mut index: BTreeMap<(String, String, Option<String>), usize> = BTreeMap::new();
    let mut others: Vec<Rule> = Vec::new();
    for rule in rules {
        let simple = rule.api_groups.len() == 1
            && rule.resources.len() == 1
            && rule.resource_names.len() <= 1
            && rule.non_resource_urls.is_empty();
        if !simple {
            others.push(rule);
            continue;
        }
        let key = (rule.api_groups[0].clone(), rule.resources[0].clone(), rule.resource_names.first().cloned());
        match index.get(&key) {
            Some(&at) => {
                for verb in rule.verbs {
                    if !has(&order[at].verbs, &verb) {
                        order[at].verbs.push(verb);
                    }
                }
            }
            None => {
                index.insert(key, order.len());
                order.push(rule);
            }
        }
    }
    order.extend(others);
    order
}

/// The lines of an escalation message: the missing rules, compacted, sorted, without repetition.
#[must_use]
pub fn describe(missing: Vec<Rule>) -> String {
    let lines: BTreeSet<String> = compact(missing).iter().map(Rule::to_string).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]) -> Rule {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Rule {
            api_groups: own(groups),
            resources: own(resources),
            verbs: own(verbs),
            resource_names: own(names),
            non_resource_urls: Vec::new(),
        }
    }

    fn ask(rule: &Rule, verb: &str, group: &str, resource: &str, name: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        rule.allows(&Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: "n".into(),
            name: name.into(),
            ..Attributes::default()
        })
    }

    #[rstest]
    #[case::exact(rule(&[""], &["secrets"], &["get"], &[]), "get", "", "secrets", "x", true)]
    #[case::other_verb(rule(&[""], &["secrets"], &["get"], &[]), "list", "", "secrets", "", false)]
    #[case::other_group(rule(&[""], &["deployments"], &["get"], &[]), "get", "apps", "deployments", "x", false)]
    #[case::every_group(rule(&["*"], &["deployments"], &["*"], &[]), "get", "apps", "deployments", "x", true)]
    #[case::subresource_is_not_included(rule(&[""], &["pods"], &["get"], &[]), "get", "", "pods/log", "x", false)]
    #[case::star_includes_subresources(rule(&[""], &["*"], &["get"], &[]), "get", "", "pods/log", "x", true)]
    #[case::resource_star_is_no_pattern(rule(&[""], &["pods/*"], &["get"], &[]), "get", "", "pods/log", "x", false)]
    #[case::any_scale(rule(&["*"], &["*/scale"], &["get"], &[]), "get", "apps", "deployments/scale", "x", true)]
    #[case::any_scale_not_the_resource(rule(&["*"], &["*/scale"], &["get"], &[]), "get", "apps", "deployments", "x", false)]
    #[case::named(rule(&[""], &["secrets"], &["get"], &["a", "b"]), "get", "", "secrets", "b", true)]
    #[case::named_other(rule(&[""], &["secrets"], &["get"], &["a"]), "get", "", "secrets", "b", false)]
    #[case::named_create_by_post_has_no_name(rule(&[""], &["secrets"], &["create"], &["a"]), "create", "", "secrets", "", false)]
    #[case::named_create_by_apply(rule(&[""], &["secrets"], &["create"], &["a"]), "create", "", "secrets", "a", true)]
    #[case::named_list_with_field_selector(rule(&[""], &["secrets"], &["list"], &["a"]), "list", "", "secrets", "a", true)]
    fn resource_rules(
        #[case] rule: Rule,
        #[case] verb: &str,
        #[case] group: &str,
        #[case] resource: &str,
        #[case] name: &str,
        #[case] allowed: bool,
    ) {
        assert_eq!(ask(&rule, verb, group, resource, name), allowed);
    }

    #[rstest]
    #[case("/healthz", "/healthz", true)]
    #[case("/healthz", "/healthz/etcd", false)]
    #[case("/healthz/*", "/healthz/etcd", true)]
    #[case("/api*", "/apis/apps", true)]
    #[case("*", "/metrics", true)]
    fn paths(#[case] url: &str, #[case] path: &str, #[case] allowed: bool) {
        let rule = Rule { non_resource_urls: vec![url.into()], verbs: vec!["get".into()], ..Rule::default() };
        let attributes = Attributes { verb: "get".into(), path: path.into(), ..Attributes::default() };
        assert_eq!(rule.allows(&attributes), allowed);
    }

    #[test]
    fn cover_is_per_atom_and_across_rules() {
        let held = [rule(&[""], &["secrets"], &["get"], &[]), rule(&[""], &["secrets", "configmaps"], &["list"], &[])];
        assert!(uncovered(&held, &[rule(&[""], &["secrets"], &["get", "list"], &[])]).is_empty());
        assert!(uncovered(&held, &[rule(&[""], &["secrets"], &["get"], &["one"])]).is_empty());
        let missing = uncovered(&held, &[rule(&[""], &["secrets", "configmaps"], &["get", "watch"], &[])]);
        assert_eq!(
            describe(missing),
            "{APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"get\" \"watch\"]}\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"watch\"]}"
        );
    }

    #[test]
    fn a_named_right_does_not_cover_all_names() {
        let held = [rule(&[""], &["secrets"], &["get"], &["a"])];
        assert_eq!(uncovered(&held, &[rule(&[""], &["secrets"], &["get"], &[])]).len(), 1);
        assert_eq!(uncovered(&held, &[rule(&[""], &["secrets"], &["get"], &["a", "b"])]).len(), 1);
    }

    #[test]
    fn subresource_stars_cover() {
        assert!(
            uncovered(
                &[rule(&["*"], &["*/scale"], &["*"], &[])],
                &[rule(&["apps"], &["deployments/scale"], &["update"], &[])]
            )
            .is_empty()
        );
    }

    #[test]
    fn json_round_trip_leaves_out_empty_fields() {
        let json = json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]});
        assert_eq!(Rule::from_json(&json).to_json(), json);
    }
}
