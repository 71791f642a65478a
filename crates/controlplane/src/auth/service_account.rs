//! Tokens of ServiceAccounts.
//!
//! In: a ServiceAccount (and what the token is to be bound to), or a token from a request. Out: a signed token with
//! the claims that Kubernetes writes, or the user behind it, if the ServiceAccount, the Secret or the Pod it is bound
//! to is still the same object. Called by authentication, TokenRequest and the token controller.
//!
//! A token names its logical cluster in `clusterName` and is nothing in any other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::signing::{SigningError, SigningKey, digest};
use super::{AUTHENTICATED, SERVICE_ACCOUNT_PREFIX};
use crate::request::{ObjectReader, UserInfo};

/// Issuer of bound tokens, and the audience of the API server itself.
pub const ISSUER: &str = "https://kubernetes.default.svc";
/// Issuer of tokens that stand in Secrets.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// Type of the Secrets that hold a token.
pub const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
/// Annotation of such a Secret: name of the ServiceAccount.
pub const NAME_ANNOTATION: &str = "kubernetes.io/service-account.name";
/// Annotation of such a Secret: UID of the ServiceAccount.
pub const UID_ANNOTATION: &str = "kubernetes.io/service-account.uid";

/// Verified signatures kept at most.
const VERIFIED_LIMIT: usize = 8192;

/// An object by name and UID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// The private claim of a bound token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Logical cluster.
    #[serde(rename = "clusterName")]
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Pod it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// Secret it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The ServiceAccount.
    pub serviceaccount: Reference,
}

/// Claims of both forms: of a bound token, or (`kubernetes.io/serviceaccount/…`) of one in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// Audiences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// Expiry, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// Issued at, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Issuer.
    pub iss: String,
    /// Identity of the token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io", skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// Logical cluster of a token in a Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/clusterName", skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Namespace of a token in a Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of that Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", skip_serializing_if = "String::is_empty")]
    pub secret_name: String,
    /// Name of the ServiceAccount of a token in a Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", skip_serializing_if = "String::is_empty")]
    pub account_name: String,
    /// UID of the ServiceAccount of a token in a Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", skip_serializing_if = "String::is_empty")]
    pub account_uid: String,
    /// Not before, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// The user name.
    pub sub: String,
}

/// The user that a ServiceAccount is.
#[must_use]
pub fn user(namespace: &str, name: &str, uid: &str) -> UserInfo {
    UserInfo {
        username: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
        uid: uid.into(),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            AUTHENTICATED.into(),
        ],
        ..UserInfo::default()
    }
}

/// The token for a Secret of type [`SECRET_TYPE`]; it does not expire, it dies with the Secret or the ServiceAccount.
///
/// # Errors
/// Signing failed.
pub fn secret_token(
    key: &SigningKey,
    cluster: &str,
    namespace: &str,
    account: &Reference,
    secret: &str,
) -> Result<String, SigningError> {
    key.sign(&Claims {
        iss: LEGACY_ISSUER.into(),
        sub: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{}", account.name),
        cluster: cluster.into(),
        namespace: namespace.into(),
        secret_name: secret.into(),
        account_name: account.name.clone(),
        account_uid: account.uid.clone(),
        ..Claims::default()
    })
}

/// A bound token as TokenRequest makes it. `id` is the token's identity (a UUID).
///
/// # Errors
/// Signing failed.
pub fn bound_token(
    key: &SigningKey,
    bound: Bound,
    audiences: Vec<String>,
    id: String,
    now: Timestamp,
    expires: Timestamp,
) -> Result<String, SigningError> {
    key.sign(&Claims {
        aud: audiences,
        exp: Some(expires.as_second()),
        iat: Some(now.as_second()),
        nbf: Some(now.as_second()),
        iss: ISSUER.into(),
        jti: id,
        sub: format!("{SERVICE_ACCOUNT_PREFIX}{}:{}", bound.namespace, bound.serviceaccount.name),
        bound: Some(bound),
        ..Claims::default()
    })
}

/// Tokens whose signature has been verified already, by digest; what they are bound to is looked at every time.
#[derive(Default)]
pub struct VerifiedTokens(RwLock<HashMap<[u8; 32], Arc<Claims>>>);

impl VerifiedTokens {
    /// The user behind a token in a logical cluster; `None` if it is not valid there, now, for these audiences (empty:
    /// for the API server).
    pub fn user(
        &self,
        key: &SigningKey,
        reader: &dyn ObjectReader,
        cluster: &str,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<UserInfo> {
        let claims = self.claims(key, token)?;
        live_user(&claims, reader, cluster, token, audiences, now)
    }

    /// The claims of a token with a valid signature.
    pub fn claims(&self, key: &SigningKey, token: &str) -> Option<Arc<Claims>> {
        let digest = digest(token.as_bytes());
        if let Some(claims) = self.0.read().get(&digest) {
            return Some(claims.clone());
        }
        let claims: Arc<Claims> = Arc::new(key.verify(token)?);
        let mut verified = self.0.write();
        if verified.len() >= VERIFIED_LIMIT {
            verified.clear();
        }
        verified.insert(digest, claims.clone());
        Some(claims)
    }
}

fn live_user(
    claims: &Claims,
    reader: &dyn ObjectReader,
    cluster: &str,
    token: &str,
    audiences: &[String],
    now: Timestamp,
) -> Option<UserInfo> {
    match (&claims.bound, claims.iss.as_str()) {
        (Some(bound), ISSUER) => {
            let seconds = now.as_second();
            let own = [ISSUER.to_owned()];
            let wanted = if audiences.is_empty() { &own[..] } else { audiences };
            let in_time =
                claims.exp.is_some_and(|exp| seconds < exp) && claims.nbf.is_none_or(|nbf| nbf <= seconds + 60);
            if bound.cluster != cluster || !in_time || !claims.aud.iter().any(|audience| wanted.contains(audience)) {
                return None;
            }
            let mut extra = BTreeMap::new();
            let mut tell = |name: &str, value: &str| {
                extra.insert(format!("authentication.kubernetes.io/{name}"), vec![value.to_owned()]);
            };
            if !claims.jti.is_empty() {
                tell("credential-id", &format!("JTI={}", claims.jti));
            }
            if let Some(secret) = &bound.secret {
                same(reader, cluster, "secrets", &bound.namespace, secret, now)?;
            }
            if let Some(pod) = &bound.pod {
                same(reader, cluster, "pods", &bound.namespace, pod, now)?;
                tell("pod-name", &pod.name);
                tell("pod-uid", &pod.uid);
            }
            same(reader, cluster, "serviceaccounts", &bound.namespace, &bound.serviceaccount, now)?;
            let account = &bound.serviceaccount;
            Some(UserInfo {
                extra,
                cluster: Some(cluster.to_owned()),
                ..user(&bound.namespace, &account.name, &account.uid)
            })
        }
        (None, LEGACY_ISSUER) => {
            if claims.cluster != cluster || !audiences.is_empty() && !audiences.iter().any(|a| a == ISSUER) {
                return None;
            }
            let secret = reader.get(cluster, "", "secrets", &claims.namespace, &claims.secret_name)?;
            let stored = secret.pointer("/data/token").and_then(Value::as_str)?;
            if secret.pointer("/metadata/deletionTimestamp").is_some() || stored != STANDARD.encode(token) {
                return None;
            }
            let account = Reference { name: claims.account_name.clone(), uid: claims.account_uid.clone() };
            same(reader, cluster, "serviceaccounts", &claims.namespace, &account, now)?;
            Some(UserInfo { cluster: Some(cluster.to_owned()), ..user(&claims.namespace, &account.name, &account.uid) })
        }
        _ => None,
    }
}

/// The object is there, is the same one, and has not been under deletion for long (Kubernetes gives a minute).
fn same(
    reader: &dyn ObjectReader,
    cluster: &str,
    resource: &str,
    namespace: &str,
    reference: &Reference,
    now: Timestamp,
) -> Option<()> {
    let object = reader.get(cluster, "", resource, namespace, &reference.name)?;
    let metadata = object.get("metadata")?;
    let deleted = metadata
        .get("deletionTimestamp")
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<Timestamp>().ok())
        .is_some_and(|at| now.as_second() > at.as_second() + 60);
    let uid = metadata.get("uid").and_then(Value::as_str);
    (!reference.uid.is_empty() && uid == Some(reference.uid.as_str()) && !deleted).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Objects, now};
    use serde_json::json;

    fn reference(name: &str, uid: &str) -> Reference {
        Reference { name: name.into(), uid: uid.into() }
    }

    fn world() -> (SigningKey, Objects) {
        let objects = Objects::default();
        objects.put("c", "", "serviceaccounts", json!({"metadata":{"namespace":"n","name":"a","uid":"u1"}}));
        (SigningKey::generate().unwrap(), objects)
    }

    fn bound(key: &SigningKey, secret: Option<Reference>, audience: &str) -> String {
        let bound = Bound {
            cluster: "c".into(),
            namespace: "n".into(),
            pod: None,
            secret,
            serviceaccount: reference("a", "u1"),
        };
        let end = Timestamp::from_second(now().as_second() + 600).unwrap();
        bound_token(key, bound, vec![audience.into()], "id".into(), now(), end).unwrap()
    }

    fn ask(key: &SigningKey, objects: &Objects, cluster: &str, token: &str, later: i64) -> Option<UserInfo> {
        let at = Timestamp::from_second(now().as_second() + later).unwrap();
        VerifiedTokens::default().user(key, objects, cluster, token, &[], at)
    }

    #[test]
    fn a_bound_token_lives_until_its_time_and_no_longer_than_its_account() {
        let (key, objects) = world();
        let token = bound(&key, None, ISSUER);
        let user = ask(&key, &objects, "c", &token, 0).unwrap();
        assert_eq!(user.username, "system:serviceaccount:n:a");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]);
        assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=id"]);
        assert!(ask(&key, &objects, "d", &token, 0).is_none());
        assert!(ask(&key, &objects, "c", &token, 599).is_some());
        assert!(ask(&key, &objects, "c", &token, 600).is_none());
        objects.put("c", "", "serviceaccounts", json!({"metadata":{"namespace":"n","name":"a","uid":"u2"}}));
        assert!(ask(&key, &objects, "c", &token, 0).is_none());
    }

    #[test]
    fn an_audience_is_for_nobody_else() {
        let (key, objects) = world();
        let token = bound(&key, None, "vault");
        assert!(ask(&key, &objects, "c", &token, 0).is_none());
        let vault = ["vault".to_owned()];
        assert!(VerifiedTokens::default().user(&key, &objects, "c", &token, &vault, now()).is_some());
    }

    #[test]
    fn a_token_bound_to_a_secret_dies_with_that_very_secret() {
        let (key, objects) = world();
        objects.put("c", "", "secrets", json!({"metadata":{"namespace":"n","name":"s","uid":"s1"}}));
        let token = bound(&key, Some(reference("s", "s1")), ISSUER);
        assert!(ask(&key, &objects, "c", &token, 0).is_some());
        objects.put("c", "", "secrets", json!({"metadata":{"namespace":"n","name":"s","uid":"s2"}}));
        assert!(ask(&key, &objects, "c", &token, 0).is_none());
    }

    #[test]
    fn the_token_in_a_secret_is_valid_while_the_secret_holds_it() {
        let (key, objects) = world();
        let token = secret_token(&key, "c", "n", &reference("a", "u1"), "s").unwrap();
        assert!(ask(&key, &objects, "c", &token, 0).is_none());
        let secret = |data: &str| json!({"metadata":{"namespace":"n","name":"s","uid":"s1"},"data":{"token":STANDARD.encode(data)}});
        objects.put("c", "", "secrets", secret(&token));
        assert_eq!(ask(&key, &objects, "c", &token, 0).unwrap().uid, "u1");
        assert!(ask(&key, &objects, "d", &token, 0).is_none());
        objects.put("c", "", "secrets", secret("another"));
        assert!(ask(&key, &objects, "c", &token, 0).is_none());
    }

    #[test]
    fn claims_are_written_as_kubernetes_writes_them() {
        let (key, _) = world();
        let token = secret_token(&key, "c", "n", &reference("a", "u1"), "s").unwrap();
        assert_eq!(
            key.verify::<Value>(&token).unwrap(),
            json!({
                "iss": "kubernetes/serviceaccount",
                "sub": "system:serviceaccount:n:a",
                "kubernetes.io/serviceaccount/clusterName": "c",
                "kubernetes.io/serviceaccount/namespace": "n",
                "kubernetes.io/serviceaccount/secret.name": "s",
                "kubernetes.io/serviceaccount/service-account.name": "a",
                "kubernetes.io/serviceaccount/service-account.uid": "u1",
            })
        );
    }
}
