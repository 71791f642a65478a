//! Questions about access, and requests for tokens: resources that are answered and never stored.
//!
//! In: the body of the POST, who asks, and in which logical cluster and namespace. Out: the same object with its
//! `status`. Called by the HTTP front after it has authorised the POST itself ([`Auth::review`],
//! [`Auth::request_token`]).

use std::collections::BTreeMap;

use apimachinery::status::{Cause, StatusError};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::rbac::rules::quoted_list;
use super::service_account::{Bound, ISSUER, Reference, bound_token};
use super::{Auth, Rbac};
use crate::request::{Attributes, ObjectReader, UserInfo};

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Lifetime of a requested token when the request names none, seconds.
const DEFAULT_LIFETIME: i64 = 3600;
/// The shortest lifetime that may be asked for, seconds.
const MIN_LIFETIME: i64 = 600;
/// The longest, seconds.
const MAX_LIFETIME: i64 = 1 << 32;

/// Who asks, where.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The state.
    pub reader: &'a dyn ObjectReader,
    /// The caller.
    pub user: &'a UserInfo,
    /// Logical cluster.
    pub cluster: &'a str,
    /// Namespace of the URL, empty for cluster scope.
    pub namespace: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// Whether a resource is answered by [`Auth::review`].
#[must_use]
pub fn is_review(group: &str, resource: &str) -> bool {
    matches!(
        (group, resource),
        (
            AUTHORIZATION,
            "selfsubjectaccessreviews"
                | "subjectaccessreviews"
                | "localsubjectaccessreviews"
                | "selfsubjectrulesreviews"
        ) | (AUTHENTICATION, "tokenreviews" | "selfsubjectreviews")
    )
}

impl Auth {
    /// Answers a review: `body` with its `status`, and `apiVersion` and `kind` as they were.
    ///
    /// # Errors
    /// `Invalid` or `BadRequest` for a malformed question, `NotFound` for a resource that is no review.
    pub fn review(
        &self,
        asker: &Asker<'_>,
        group: &str,
        resource: &str,
        mut body: Value,
    ) -> Result<Value, StatusError> {
        if !body.is_object() {
            return Err(StatusError::bad_request("the body of a review must be an object"));
        }
        let status = match (group, resource) {
            (AUTHORIZATION, "selfsubjectaccessreviews") => {
                let attributes = questioned(&body, asker.cluster)?;
                access_status(self, asker.reader, asker.user, &attributes)
            }
            (AUTHORIZATION, "subjectaccessreviews") => self.access_of_another(asker, &body)?,
            (AUTHORIZATION, "localsubjectaccessreviews") => {
                let namespace = body.pointer("/spec/resourceAttributes/namespace").and_then(Value::as_str);
                let fault = if body.pointer("/spec/nonResourceAttributes").is_some_and(|given| !given.is_null()) {
                    Some(Cause::invalid_value(
                        "spec.nonResourceAttributes",
                        &go_names(&body["spec"]["nonResourceAttributes"]),
                        "disallowed on this kind of request",
                    ))
                } else if namespace.unwrap_or("") != asker.namespace {
                    Some(Cause::invalid_value(
                        "spec.resourceAttributes.namespace",
                        &json!(namespace.unwrap_or("")),
                        "must match metadata.namespace",
                    ))
                } else {
                    None
                };
                if let Some(fault) = fault {
                    return Err(invalid_review(vec![fault]));
                }
                let status = self.access_of_another(asker, &body)?;
                body["metadata"]["namespace"] = json!(asker.namespace);
                status
            }
            (AUTHORIZATION, "selfsubjectrulesreviews") => {
                let namespace = body.pointer("/spec/namespace").and_then(Value::as_str).unwrap_or("").to_owned();
                if namespace.is_empty() {
                    return Err(StatusError::bad_request("no namespace on request"));
                }
                // As Kubernetes answers: the question is not repeated.
                body["spec"] = json!({});
                rules_status(self.rbac(), asker, &namespace)
            }
            (AUTHENTICATION, "selfsubjectreviews") => {
                body["metadata"]["creationTimestamp"] = json!(seconds(asker.now));
                json!({"userInfo": user_json(asker.user)})
            }
            (AUTHENTICATION, "tokenreviews") => self.token_status(asker, &body)?,
            _ => return Err(StatusError::no_such_resource()),
        };
        if body.get("metadata").is_none_or(Value::is_null) {
            body["metadata"] = json!({});
        }
        body["status"] = status;
        Ok(body)
    }

    fn access_of_another(&self, asker: &Asker<'_>, body: &Value) -> Result<Value, StatusError> {
        let attributes = questioned(body, asker.cluster)?;
        let spec = &body["spec"];
        let username = spec["user"].as_str().unwrap_or("");
        let groups = strings(&spec["groups"]);
        if username.is_empty() && groups.is_empty() {
            let fault =
                Cause::invalid_value("spec.user", &json!(""), "at least one of user or group must be specified");
            return Err(invalid_review(vec![fault]));
        }
        let extra = spec["extra"]
            .as_object()
            .map(|extra| extra.iter().map(|(key, values)| (key.clone(), strings(values))).collect())
            .unwrap_or_default();
        let user = UserInfo {
            username: username.into(),
            uid: spec["uid"].as_str().unwrap_or("").into(),
            groups,
            extra,
            cluster: Some(asker.cluster.into()),
        };
        Ok(access_status(self, asker.reader, &user, &attributes))
    }

    fn token_status(&self, asker: &Asker<'_>, body: &Value) -> Result<Value, StatusError> {
        let token = body.pointer("/spec/token").and_then(Value::as_str).unwrap_or("");
        if token.is_empty() {
            return Err(StatusError::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences = strings(&body["spec"]["audiences"]);
        let found = self
            .token_user(asker.reader, asker.cluster, token, &audiences, asker.now)
            .filter(|user| super::valid_in(user, asker.cluster));
        Ok(match found {
            Some(user) => {
                let meant_for =
                    self.verified.claims(&self.key, token).map(|claims| claims.aud.clone()).unwrap_or_default();
                let own = [ISSUER.to_owned()];
                let wanted = if audiences.is_empty() { &own[..] } else { &audiences };
                // A token without an audience (static, in a Secret) is for the API server.
                let met: Vec<&String> =
                    wanted.iter().filter(|audience| meant_for.is_empty() || meant_for.contains(audience)).collect();
                json!({"authenticated": true, "user": user_json(&user), "audiences": met})
            }
            None => {
                let meant_for =
                    self.verified.claims(&self.key, token).map(|claims| claims.aud.clone()).unwrap_or_default();
                let own = [ISSUER.to_owned()];
                let wanted = if audiences.is_empty() { &own[..] } else { &audiences };
                let error = if meant_for.is_empty() || meant_for.iter().any(|audience| wanted.contains(audience)) {
                    "invalid bearer token".to_owned()
                } else {
                    format!(
                        "[invalid bearer token, token audiences {} is invalid for the target audiences {}]",
                        quoted_list(&meant_for),
                        quoted_list(wanted)
                    )
                };
                json!({"user": {}, "error": error})
            }
        })
    }

    /// Answers `POST …/serviceaccounts/<name>/token`. `id` is the identity of the new token (a fresh UUID).
    ///
    /// # Errors
    /// `NotFound` for the ServiceAccount or the object to bind to, `Invalid` or `BadRequest` for the rest.
    pub fn request_token(
        &self,
        asker: &Asker<'_>,
        account_name: &str,
        mut body: Value,
        id: String,
    ) -> Result<Value, StatusError> {
        let account = asker
            .reader
            .get(asker.cluster, "", "serviceaccounts", asker.namespace, account_name)
            .ok_or_else(|| StatusError::not_found("", "serviceaccounts", account_name))?;
        let seconds_asked = body.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_LIFETIME);
        let fault = if seconds_asked < MIN_LIFETIME {
            Some("may not specify a duration less than 10 minutes")
        } else if seconds_asked > MAX_LIFETIME {
            Some("may not specify a duration larger than 2^32 seconds")
        } else {
            None
        };
        if let Some(fault) = fault {
            let cause = Cause::invalid_value("spec.expirationSeconds", &json!(seconds_asked), fault);
            return Err(StatusError::invalid(AUTHENTICATION, "TokenRequest", "", vec![cause]));
        }
        let mut audiences = strings(&body["spec"]["audiences"]);
        if audiences.is_empty() {
            audiences.push(ISSUER.into());
        }
        let mut bound = Bound {
            cluster: asker.cluster.into(),
            namespace: asker.namespace.into(),
            pod: None,
            secret: None,
            serviceaccount: Reference { name: account_name.into(), uid: text(&account, "/metadata/uid").into() },
        };
        let reference = body.pointer("/spec/boundObjectRef").cloned().unwrap_or_default();
        if !reference.is_null() {
            bind_to(&mut bound, asker, &reference, account_name)?;
        }
        let expires = Timestamp::from_second(asker.now.as_second().saturating_add(seconds_asked))
            .map_err(|error| StatusError::bad_request(error.to_string()))?;
        let token = bound_token(self.signing_key(), bound, audiences.clone(), id, asker.now, expires)
            .map_err(StatusError::internal)?;
        body["kind"] = json!("TokenRequest");
        body["apiVersion"] = json!("authentication.k8s.io/v1");
        body["metadata"] = json!({
            "name": account_name,
            "namespace": asker.namespace,
            "uid": text(&account, "/metadata/uid"),
            "creationTimestamp": seconds(asker.now),
        });
        body["spec"] = json!({
            "audiences": audiences,
            "expirationSeconds": seconds_asked,
            "boundObjectRef": reference,
        });
        body["status"] = json!({"token": token, "expirationTimestamp": seconds(expires)});
        Ok(body)
    }
}

fn bind_to(bound: &mut Bound, asker: &Asker<'_>, reference: &Value, account: &str) -> Result<(), StatusError> {
    let (kind, version) = (text(reference, "/kind"), text(reference, "/apiVersion"));
    let (name, uid) = (text(reference, "/name"), text(reference, "/uid"));
    let resource = match (version, kind) {
        ("v1", "Secret") => "secrets",
        ("v1", "Pod") => "pods",
        _ => {
            let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
            return Err(StatusError::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let object = asker
        .reader
        .get(asker.cluster, "", resource, asker.namespace, name)
        .ok_or_else(|| StatusError::not_found("", resource, name))?;
    let live = text(&object, "/metadata/uid");
    if !uid.is_empty() && uid != live {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(StatusError::conflict("", resource, name, why));
    }
    let found = Reference { name: name.into(), uid: live.into() };
    if kind == "Pod" {
        if text(&object, "/spec/serviceAccountName") != account {
            return Err(StatusError::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        bound.pod = Some(found);
    } else {
        bound.secret = Some(found);
    }
    Ok(())
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default()
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Kubernetes reports faults of reviews without a kind.
fn invalid_review(causes: Vec<Cause>) -> StatusError {
    StatusError::invalid(AUTHORIZATION, "", "", causes)
}

/// `{"path":…}` as `{"Path":…}`, which is how Kubernetes shows it in a fault.
fn go_names(attributes: &Value) -> Value {
    let shown = |name: &str| json!(attributes[name].as_str().unwrap_or(""));
    json!({"Path": shown("path"), "Verb": shown("verb")})
}

fn questioned(body: &Value, cluster: &str) -> Result<Attributes, StatusError> {
    let (resource, path) = (&body["spec"]["resourceAttributes"], &body["spec"]["nonResourceAttributes"]);
    match (resource.is_object(), path.is_object()) {
        (true, true) => {
            let why = "cannot be specified in combination with resourceAttributes";
            Err(invalid_review(vec![Cause::invalid_value("spec.nonResourceAttributes", &go_names(path), why)]))
        }
        (false, false) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(invalid_review(vec![Cause::invalid_value("spec.resourceAttributes", &Value::Null, why)]))
        }
        (true, false) => {
            let field = |name: &str| resource[name].as_str().unwrap_or("").to_owned();
            Ok(Attributes {
                cluster: cluster.into(),
                verb: field("verb"),
                group: field("group"),
                version: field("version"),
                resource: field("resource"),
                subresource: field("subresource"),
                namespace: field("namespace"),
                name: field("name"),
                path: String::new(),
            })
        }
        (false, true) => Ok(Attributes {
            cluster: cluster.into(),
            verb: path["verb"].as_str().unwrap_or("").into(),
            path: path["path"].as_str().unwrap_or("").into(),
            ..Attributes::default()
        }),
    }
}

fn access_status(auth: &Auth, reader: &dyn ObjectReader, user: &UserInfo, attributes: &Attributes) -> Value {
    let decision = auth.authorize(reader, user, attributes);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    status
}

fn rules_status(rbac: &Rbac, asker: &Asker<'_>, namespace: &str) -> Value {
    let (mut held, errors) = rbac.rules_for(asker.reader, asker.user, asker.cluster, Some(namespace));
    if asker.user.groups.iter().any(|group| group == super::rbac::MASTERS) {
        let all = || vec!["*".to_owned()];
        held.insert(0, super::rbac::Rule { verbs: all(), api_groups: all(), resources: all(), ..Default::default() });
        held.insert(1, super::rbac::Rule { verbs: all(), non_resource_urls: all(), ..Default::default() });
    }
    let (paths, resources): (Vec<_>, Vec<_>) = held.into_iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let json_of = |rules: Vec<super::rbac::Rule>| rules.iter().map(super::rbac::Rule::to_json).collect::<Vec<_>>();
    let mut status = json!({
        "resourceRules": json_of(resources),
        "nonResourceRules": json_of(paths),
        "incomplete": !errors.is_empty(),
    });
    if !errors.is_empty() {
        status["evaluationError"] = json!(errors.join(", "));
    }
    status
}

fn user_json(user: &UserInfo) -> Value {
    let mut json = serde_json::Map::new();
    json.insert("username".into(), json!(user.username));
    if !user.uid.is_empty() {
        json.insert("uid".into(), json!(user.uid));
    }
    json.insert("groups".into(), json!(user.groups));
    if !user.extra.is_empty() {
        let extra: BTreeMap<&String, &Vec<String>> = user.extra.iter().collect();
        json.insert("extra".into(), json!(extra));
    }
    Value::Object(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::rbac::{GROUP, bootstrap};
    use crate::auth::testing::{Objects, now, service_account};
    use crate::auth::{Credentials, rbac::MASTERS};

    fn world() -> (Auth, Objects) {
        let objects = Objects::default();
        for (resource, object) in bootstrap::objects() {
            objects.put("c", GROUP, resource, object);
        }
        objects.put("c", "", "serviceaccounts", json!({"metadata":{"namespace":"a","name":"agent","uid":"uid-1"}}));
        (Auth::open(None).unwrap(), objects)
    }

    fn ask(resource: &str, spec: Value) -> Result<Value, StatusError> {
        let (auth, objects) = world();
        let user = service_account("a", "agent");
        let asker = Asker { reader: &objects, user: &user, cluster: "c", namespace: "a", now: now() };
        let group = if resource.starts_with("token") || resource == "selfsubjectreviews" {
            AUTHENTICATION
        } else {
            AUTHORIZATION
        };
        auth.review(&asker, group, resource, json!({"kind":"K","apiVersion":"v","spec":spec}))
    }

    #[test]
    fn may_i() {
        let answer =
            ask("selfsubjectaccessreviews", json!({"resourceAttributes":{"verb":"get","resource":"secrets"}})).unwrap();
        assert_eq!(answer["status"], json!({"allowed":false}));
        let answer =
            ask("selfsubjectaccessreviews", json!({"nonResourceAttributes":{"verb":"get","path":"/apis"}})).unwrap();
        assert_eq!(answer["status"]["allowed"], true);
        let error = ask("selfsubjectaccessreviews", json!({})).unwrap_err();
        assert_eq!(
            error.message,
            ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: \
             exactly one of nonResourceAttributes or resourceAttributes must be specified"
        );
    }

    #[test]
    fn may_another() {
        let answer = ask(
            "subjectaccessreviews",
            json!({"user":"u","groups":[MASTERS],"resourceAttributes":{"verb":"get","resource":"secrets"}}),
        )
        .unwrap();
        assert_eq!(answer["status"]["allowed"], true);
        assert_eq!(ask("subjectaccessreviews", json!({"resourceAttributes":{"verb":"get"}})).unwrap_err().code, 422);
        let other = json!({"user":"u","resourceAttributes":{"verb":"get","resource":"secrets","namespace":"b"}});
        assert_eq!(ask("localsubjectaccessreviews", other).unwrap_err().code, 422);
    }

    #[test]
    fn what_may_i() {
        let answer = ask("selfsubjectrulesreviews", json!({"namespace":"a"})).unwrap();
        assert_eq!(answer["status"]["incomplete"], false);
        let rules = answer["status"]["resourceRules"].as_array().unwrap();
        assert!(rules.iter().any(|rule| rule["resources"][0] == "selfsubjectaccessreviews"), "{rules:?}");
        assert_eq!(ask("selfsubjectrulesreviews", json!({})).unwrap_err().message, "no namespace on request");
    }

    #[test]
    fn who_am_i() {
        let answer = ask("selfsubjectreviews", json!({})).unwrap();
        assert_eq!(answer["status"]["userInfo"]["username"], "system:serviceaccount:a:agent");
    }

    #[test]
    fn a_requested_token_works_and_reviews() {
        let (auth, objects) = world();
        let admin = UserInfo { groups: vec![MASTERS.into()], ..UserInfo::default() };
        let asker = Asker { reader: &objects, user: &admin, cluster: "c", namespace: "a", now: now() };
        let made = auth.request_token(&asker, "agent", json!({"spec":{"expirationSeconds":700}}), "id".into()).unwrap();
        assert_eq!(made["spec"]["audiences"], json!([ISSUER]));
        let token = made["status"]["token"].as_str().unwrap();
        let user =
            auth.authenticate(&objects, "c", &Credentials { bearer: Some(token), certificate: None }, now()).unwrap();
        assert_eq!(user.username, "system:serviceaccount:a:agent");
        let review = |spec: Value| {
            auth.review(&asker, AUTHENTICATION, "tokenreviews", json!({"spec":spec})).unwrap()["status"].clone()
        };
        let status = review(json!({"token":token}));
        assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!([ISSUER])));
        assert_eq!(review(json!({"token":token,"audiences":["vault"]}))["authenticated"], Value::Null);
        assert_eq!(review(json!({"token":"x"}))["error"], "invalid bearer token");
    }

    #[test]
    fn token_requests_that_cannot_be() {
        let (auth, objects) = world();
        let admin = UserInfo { groups: vec![MASTERS.into()], ..UserInfo::default() };
        let asker = Asker { reader: &objects, user: &admin, cluster: "c", namespace: "a", now: now() };
        let ask = |account: &str, spec: Value| {
            auth.request_token(&asker, account, json!({"spec":spec}), "id".into()).unwrap_err()
        };
        assert_eq!(ask("none", json!({})).message, "serviceaccounts \"none\" not found");
        assert_eq!(
            ask("agent", json!({"expirationSeconds":10})).message,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 10: \
             may not specify a duration less than 10 minutes"
        );
        assert_eq!(
            ask("agent", json!({"boundObjectRef":{"kind":"ConfigMap","apiVersion":"v1","name":"x"}})).message,
            "cannot bind token to object of type /v1, Kind=ConfigMap"
        );
        assert_eq!(ask("agent", json!({"boundObjectRef":{"kind":"Secret","apiVersion":"v1","name":"x"}})).code, 404);
    }
}
