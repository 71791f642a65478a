//! Role-based access control as Kubernetes defines it.
//!
//! In: who asks for what, and the Roles and bindings of the logical cluster through [`ObjectReader`]. Out: a
//! [`Decision`], or all rules a user holds. Called by the HTTP front for every request, by the escalation
//! check and by the access reviews.
//!
//! Nothing is indexed: a request looks at the bindings of its cluster and namespace as they are committed at
//! that moment. What is kept is the decoded form of each object, recognised by the identity of its `Arc`, so a
//! changed object can never be answered from its old form.

pub mod bootstrap;
pub mod escalation;
pub mod rules;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use apimachinery::status::StatusError;
use parking_lot::RwLock;
use serde_json::Value;

pub use rules::Rule;

use crate::auth::access::Observer;
use crate::request::{Attributes, ObjectReader, UserInfo};

/// API group of Roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";

/// Decoded objects kept at most; beyond it the cache starts anew.
const CACHE_LIMIT: usize = 16_384;

/// The answer of the authorizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why (as in a SubjectAccessReview); on refusal only what went wrong while looking, else empty.
    pub reason: String,
}

/// Who gets a role: one entry of a binding's `subjects`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: Option<String>, name: String },
}

/// Which role a binding refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRef {
    /// API group, `rbac.authorization.k8s.io`.
    pub api_group: String,
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Name of the role.
    pub name: String,
}

impl RoleRef {
    /// The `roleRef` of a RoleBinding or ClusterRoleBinding.
    #[must_use]
    pub fn of(binding: &Value) -> Self {
        let field = |name: &str| binding.pointer(&format!("/roleRef/{name}")).and_then(Value::as_str).unwrap_or("");
        Self { api_group: field("apiGroup").into(), kind: field("kind").into(), name: field("name").into() }
    }

    /// Plural of the kind, `None` for a kind that is no role.
    #[must_use]
    pub fn resource(&self) -> Option<&'static str> {
        match self.kind.as_str() {
            "Role" => Some("roles"),
            "ClusterRole" => Some("clusterroles"),
            _ => None,
        }
    }
}

struct Binding {
    name: String,
    role: RoleRef,
    subjects: Vec<Subject>,
}

#[derive(Clone)]
enum Compiled {
    Rules(Arc<[Rule]>),
    Binding(Arc<Binding>),
}

/// Told of the rules of each binding that names the user, or why they could not be found; may stop the search.
type Visitor<'v> = dyn FnMut(Result<(Origin<'_>, &[Rule]), StatusError>) -> ControlFlow<()> + 'v;

/// The authorizer. Cheap to share; holds only decoded forms.
#[derive(Default)]
pub struct Rbac {
    // The Arc beside the compiled form keeps the address from being used again.
    compiled: RwLock<HashMap<usize, (Arc<Value>, Compiled)>>,
    /// Told of what requests and written roles rest on.
    pub(crate) observer: Observer,
}

impl Rbac {
    /// Decides about a request.
    #[must_use]
    pub fn authorize(&self, reader: &dyn ObjectReader, user: &UserInfo, attributes: &Attributes) -> Decision {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let mut errors: Vec<String> = Vec::new();
        let mut allowed_by = None;
        let namespace = (!attributes.namespace.is_empty()).then_some(attributes.namespace.as_str());
        self.visit(reader, user, &attributes.cluster, namespace, &mut |found| match found {
            Ok((origin, rules)) => {
                if rules.iter().any(|rule| rule.allows(attributes)) {
                    allowed_by = Some(origin.to_string());
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                // Reasons name the kind, where other errors name the resource.
                let message = error.message.replacen("roles.", "role.", 1);
                if !errors.contains(&message) {
                    errors.push(message);
                }
                ControlFlow::Continue(())
            }
        });
        match allowed_by {
            Some(origin) => Decision { allowed: true, reason: format!("RBAC: allowed by {origin}") },
            None => Decision { allowed: false, reason: refusal(&errors) },
        }
    }

    /// Every rule the user holds in a namespace (`None`: at cluster scope only), and what could not be resolved.
    #[must_use]
    pub fn rules_for(
        &self,
        reader: &dyn ObjectReader,
        user: &UserInfo,
        cluster: &str,
        namespace: Option<&str>,
    ) -> (Vec<Rule>, Vec<String>) {
        let mut held = Vec::new();
        let mut errors: Vec<String> = Vec::new();
        self.visit(reader, user, cluster, namespace, &mut |found| {
            match found {
                Ok((_, rules)) => held.extend_from_slice(rules),
                Err(error) if !errors.contains(&error.message) => errors.push(error.message),
                Err(_) => {}
            }
            ControlFlow::Continue(())
        });
        (held, errors)
    }

    /// The rules of the role that a binding in `namespace` refers to.
    ///
    /// # Errors
    /// `NotFound` if there is no such role; `Invalid`-like text for a kind that is no role.
    pub fn rules_of(
        &self,
        reader: &dyn ObjectReader,
        cluster: &str,
        role: &RoleRef,
        namespace: &str,
    ) -> Result<Arc<[Rule]>, StatusError> {
        let resource = role
            .resource()
            .ok_or_else(|| StatusError::internal(format!("unsupported role reference kind: {:?}", role.kind)))?;
        let namespace = if resource == "roles" { namespace } else { "" };
        let object = reader
            .get(cluster, GROUP, resource, namespace, &role.name)
            .ok_or_else(|| StatusError::not_found(GROUP, resource, &role.name))?;
        match self.compile(&object, |object| Compiled::Rules(Rule::list_from(object).into())) {
            Compiled::Rules(rules) => Ok(rules),
            Compiled::Binding(_) => Err(StatusError::internal(format!("{resource} {:?} is not a role", role.name))),
        }
    }

    fn visit(
        &self,
        reader: &dyn ObjectReader,
        user: &UserInfo,
        cluster: &str,
        namespace: Option<&str>,
        visitor: &mut Visitor<'_>,
    ) {
        for (resource, namespace) in [("clusterrolebindings", Some("")), ("rolebindings", namespace)] {
            let Some(namespace) = namespace else { continue };
            for object in reader.list(cluster, GROUP, resource, Some(namespace)) {
                let Compiled::Binding(binding) = self.compile(&object, compile_binding) else { continue };
                let Some(subject) = binding.subjects.iter().find(|subject| subject.is(user, namespace)) else {
                    continue;
                };
                let next = match self.rules_of(reader, cluster, &binding.role, namespace) {
                    Ok(rules) => visitor(Ok((Origin { namespace, binding: &binding, subject }, &rules))),
                    Err(error) => visitor(Err(error)),
                };
                if next.is_break() {
                    return;
                }
            }
        }
    }

    fn compile(&self, object: &Arc<Value>, decode: impl FnOnce(&Value) -> Compiled) -> Compiled {
        let address = Arc::as_ptr(object) as usize;
        if let Some((_, compiled)) = self.compiled.read().get(&address) {
            return compiled.clone();
        }
        let compiled = decode(object);
        let mut cache = self.compiled.write();
        if cache.len() >= CACHE_LIMIT {
            cache.clear();
        }
        cache.insert(address, (object.clone(), compiled.clone()));
        compiled
    }
}

fn refusal(errors: &[String]) -> String {
    match errors {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}

fn compile_binding(binding: &Value) -> Compiled {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let subjects = binding
        .get("subjects")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(|subject| {
            let name = text(subject, "name");
            Some(match text(subject, "kind").as_str() {
                "User" => Subject::User(name),
                "Group" => Subject::Group(name),
                "ServiceAccount" => {
                    let namespace = text(subject, "namespace");
                    Subject::ServiceAccount { namespace: (!namespace.is_empty()).then_some(namespace), name }
                }
                _ => return None,
            })
        })
        .collect();
    let name = binding.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("").to_owned();
    Compiled::Binding(Arc::new(Binding { name, role: RoleRef::of(binding), subjects }))
}

impl Subject {
    fn is(&self, user: &UserInfo, binding_namespace: &str) -> bool {
        match self {
            Subject::User(name) => *name == user.username,
            Subject::Group(name) => user.groups.contains(name),
            Subject::ServiceAccount { namespace, name } => {
                let namespace = namespace.as_deref().unwrap_or(binding_namespace);
                !namespace.is_empty()
                    && user
                        .username
                        .strip_prefix(crate::auth::SERVICE_ACCOUNT_PREFIX)
                        .and_then(|rest| rest.split_once(':'))
                        .is_some_and(|(ns, account)| ns == namespace && account == name)
            }
        }
    }
}

/// Where a rule comes from, for reasons.
struct Origin<'a> {
    namespace: &'a str,
    binding: &'a Binding,
    subject: &'a Subject,
}

impl std::fmt::Display for Origin<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Binding { name, role, .. } = self.binding;
        if self.namespace.is_empty() {
            write!(out, "ClusterRoleBinding {name:?}")?;
        } else {
            write!(out, "RoleBinding {:?}", format!("{name}/{}", self.namespace))?;
        }
        write!(out, " of {} {:?} to ", role.kind, role.name)?;
        match self.subject {
            Subject::User(name) => write!(out, "User {name:?}"),
            Subject::Group(name) => write!(out, "Group {name:?}"),
            Subject::ServiceAccount { namespace, name } => {
                let namespace = namespace.as_deref().unwrap_or(self.namespace);
                write!(out, "ServiceAccount {:?}", format!("{name}/{namespace}"))
            }
        }
    }
}

/// The text of a refusal, as kube-apiserver words it.
#[must_use]
pub fn forbidden(user: &UserInfo, attributes: &Attributes, reason: &str) -> StatusError {
    let mut message = if attributes.is_resource() {
        let resource = if attributes.subresource.is_empty() {
            attributes.resource.clone()
        } else {
            format!("{}/{}", attributes.resource, attributes.subresource)
        };
        let scope = if attributes.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", attributes.namespace)
        };
        format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
            user.username, attributes.verb, attributes.group
        )
    } else {
        format!("User {:?} cannot {} path {:?}", user.username, attributes.verb, attributes.path)
    };
    message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    StatusError::forbidden(&attributes.group, &attributes.resource, &attributes.name, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Objects, service_account};
    use serde_json::json;

    fn get_secret(namespace: &str, name: &str) -> Attributes {
        Attributes {
            cluster: "c".into(),
            verb: "get".into(),
            version: "v1".into(),
            resource: "secrets".into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }

    fn objects() -> Objects {
        let objects = Objects::default();
        objects.put(
            "c",
            GROUP,
            "roles",
            json!({"metadata":{"namespace":"n","name":"reader"},"rules":[
                {"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"resourceNames":["one"]}]}),
        );
        objects.put(
            "c",
            GROUP,
            "rolebindings",
            json!({"metadata":{"namespace":"n","name":"b"},"roleRef":{"apiGroup":GROUP,"kind":"Role","name":"reader"},
                "subjects":[{"kind":"ServiceAccount","name":"agent","namespace":"a"}]}),
        );
        objects
    }

    #[test]
    fn a_role_holds_in_its_namespace_and_cluster_only() {
        let (rbac, objects, agent) = (Rbac::default(), objects(), service_account("a", "agent"));
        let decision = rbac.authorize(&objects, &agent, &get_secret("n", "one"));
        assert_eq!(
            decision,
            Decision {
                allowed: true,
                reason: "RBAC: allowed by RoleBinding \"b/n\" of Role \"reader\" to ServiceAccount \"agent/a\"".into()
            }
        );
        assert!(!rbac.authorize(&objects, &agent, &get_secret("n", "two")).allowed);
        assert!(!rbac.authorize(&objects, &agent, &get_secret("m", "one")).allowed);
        assert!(!rbac.authorize(&objects, &service_account("b", "agent"), &get_secret("n", "one")).allowed);
        let elsewhere = Attributes { cluster: "d".into(), ..get_secret("n", "one") };
        assert!(!rbac.authorize(&objects, &agent, &elsewhere).allowed);
    }

    #[test]
    fn a_change_counts_at_once() {
        let (rbac, objects, agent) = (Rbac::default(), objects(), service_account("a", "agent"));
        assert!(rbac.authorize(&objects, &agent, &get_secret("n", "one")).allowed);
        objects.put("c", GROUP, "roles", json!({"metadata":{"namespace":"n","name":"reader"},"rules":[]}));
        assert!(!rbac.authorize(&objects, &agent, &get_secret("n", "one")).allowed);
        objects.delete("c", GROUP, "roles", "n", "reader");
        assert_eq!(
            rbac.authorize(&objects, &agent, &get_secret("n", "one")).reason,
            "RBAC: role.rbac.authorization.k8s.io \"reader\" not found"
        );
    }

    #[test]
    fn a_cluster_role_bound_in_a_namespace_reaches_only_there() {
        let objects = Objects::default();
        objects.put(
            "c",
            GROUP,
            "clusterroles",
            json!({"metadata":{"name":"r"},"rules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]}),
        );
        objects.put(
            "c",
            GROUP,
            "rolebindings",
            json!({"metadata":{"namespace":"n","name":"b"},"roleRef":{"apiGroup":GROUP,"kind":"ClusterRole","name":"r"},
                "subjects":[{"kind":"Group","name":"devs","apiGroup":GROUP}]}),
        );
        let dev = UserInfo { username: "d".into(), groups: vec!["devs".into()], ..UserInfo::default() };
        let rbac = Rbac::default();
        assert!(rbac.authorize(&objects, &dev, &get_secret("n", "x")).allowed);
        assert!(!rbac.authorize(&objects, &dev, &get_secret("m", "x")).allowed);
        assert!(!rbac.authorize(&objects, &dev, &get_secret("", "x")).allowed);
    }

    #[test]
    fn refusals_read_like_kubernetes() {
        let error = forbidden(&service_account("a", "agent"), &get_secret("y", "x"), "");
        assert_eq!(
            error.message,
            "secrets \"x\" is forbidden: User \"system:serviceaccount:a:agent\" cannot get resource \"secrets\" in API group \"\" in the namespace \"y\""
        );
        let path = Attributes { verb: "get".into(), path: "/metrics".into(), ..Attributes::default() };
        let anonymous = UserInfo { username: "system:anonymous".into(), ..UserInfo::default() };
        assert_eq!(
            forbidden(&anonymous, &path, "").message,
            "forbidden: User \"system:anonymous\" cannot get path \"/metrics\""
        );
    }
}
