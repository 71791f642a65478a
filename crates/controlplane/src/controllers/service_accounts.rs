//! What every namespace has, and the tokens in Secrets.
//!
//! In: namespaces that are not terminating, Secrets of type `kubernetes.io/service-account-token`. Out: the
//! ServiceAccount `default` and the ConfigMap `kube-root-ca.crt` in each namespace; `token`, `ca.crt` and `namespace` in
//! each such Secret; the deletion of a Secret whose ServiceAccount is gone.

use apimachinery::status::StatusError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::ObjectId;
use super::access::Access;
use super::queue::Finished;
use crate::auth::service_account::{NAME_ANNOTATION, Reference, SECRET_TYPE, UID_ANNOTATION, secret_token};
use crate::pipeline::{Part, Propagation};
use crate::store::{ObjectKey, TableId};

const ACCOUNTS: &str = "service-account-controller";
const TOKENS: &str = "tokens-controller";
const CERTIFICATES: &str = "root-ca-certificate-publisher";
/// The ConfigMap with the CA of the API server.
pub const ROOT_CA: &str = "kube-root-ca.crt";
/// The ServiceAccount of those who name none.
pub const DEFAULT: &str = "default";
const ROOT_CA_KEY: &str = "ca.crt";
const ROOT_CA_DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Sees to what a namespace has to have.
///
/// # Errors
/// What a write was refused with.
pub async fn furnish(access: &Access, namespace: &ObjectId) -> Result<Finished, StatusError> {
    if access.stored(namespace).is_none_or(|stored| stored.deleting) {
        return Ok(Finished::Done);
    }
    let inside = |resource: &str, name: &str| ObjectId {
        table: TableId::new("", resource),
        key: ObjectKey::new(&namespace.key.cluster, &namespace.key.name, name),
    };
    let account = inside("serviceaccounts", DEFAULT);
    if access.stored(&account).is_none() {
        access.create(ACCOUNTS, &account, json!({"metadata": {"name": DEFAULT}})).await?;
    }
    let certificate = inside("configmaps", ROOT_CA);
    match access.stored(&certificate) {
        None => {
            let object = json!({
                "metadata": {"name": ROOT_CA, "annotations": {"kubernetes.io/description": ROOT_CA_DESCRIPTION}},
                "data": {ROOT_CA_KEY: &*access.ca_pem},
            });
            access.create(CERTIFICATES, &certificate, object).await?;
        }
        Some(stored) => {
            access
                .modify(CERTIFICATES, &certificate, &stored.uid, Part::Main, |object| {
                    let wanted = json!({ROOT_CA_KEY: &*access.ca_pem});
                    let differs = object.get("data") != Some(&wanted);
                    object["data"] = wanted;
                    differs
                })
                .await?;
        }
    }
    Ok(Finished::Done)
}

/// What is to be done about a Secret.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenSecret {
    /// Nothing: not of the type, complete, or on its way out.
    Leave,
    /// Fill it for this ServiceAccount.
    Fill(Reference),
    /// Its ServiceAccount is gone or is another one.
    Delete,
}

/// Decides about a Secret, given its ServiceAccount as it was just read.
#[must_use]
pub fn judge(secret: &Value, account: Option<&Value>, ca: &str) -> TokenSecret {
    if !is_token_secret(secret) || secret.pointer("/metadata/deletionTimestamp").is_some() {
        return TokenSecret::Leave;
    }
    let text = |pointer: &str| account.and_then(|account| account.pointer(pointer)).and_then(Value::as_str);
    let (Some(name), Some(uid)) = (text("/metadata/name"), text("/metadata/uid")) else { return TokenSecret::Delete };
    let wanted_uid = secret["metadata"]["annotations"][UID_ANNOTATION].as_str().unwrap_or("");
    if !wanted_uid.is_empty() && wanted_uid != uid {
        return TokenSecret::Delete;
    }
    let namespace = secret["metadata"]["namespace"].as_str().unwrap_or("");
    let data = |key: &str| secret["data"][key].as_str().unwrap_or("");
    let complete = !data("token").is_empty()
        && data("ca.crt") == STANDARD.encode(ca)
        && data("namespace") == STANDARD.encode(namespace)
        && wanted_uid == uid;
    if complete { TokenSecret::Leave } else { TokenSecret::Fill(Reference { name: name.into(), uid: uid.into() }) }
}

fn is_token_secret(secret: &Value) -> bool {
    secret.get("type").and_then(Value::as_str) == Some(SECRET_TYPE)
}

/// Works on one Secret.
///
/// # Errors
/// What a write was refused with, or a failure to sign.
pub async fn token_secret(access: &Access, id: &ObjectId) -> Result<Finished, StatusError> {
    let Some(stored) = access.stored(id) else { return Ok(Finished::Done) };
    let secret = stored.to_value();
    let name = secret["metadata"]["annotations"][NAME_ANNOTATION].as_str().unwrap_or("");
    let account = access.stored(&ObjectId {
        table: TableId::new("", "serviceaccounts"),
        key: ObjectKey::new(&id.key.cluster, &id.key.namespace, name),
    });
    let account = account.map(|account| account.to_value());
    match judge(&secret, account.as_ref(), &access.ca_pem) {
        TokenSecret::Leave => {}
        TokenSecret::Delete => {
            tracing::info!(cluster = %id.key.cluster, object = %id, "deleting the token of a ServiceAccount that is gone");
            access.delete(TOKENS, id, &stored.uid, Some(stored.revision), Propagation::Background).await?;
        }
        TokenSecret::Fill(account) => {
            let token = secret_token(
                access.core.auth.signing_key(),
                &id.key.cluster,
                &id.key.namespace,
                &account,
                &id.key.name,
            )
            .map_err(StatusError::internal)?;
            access
                .modify(TOKENS, id, &stored.uid, Part::Main, |secret| fill(secret, &account, &token, &access.ca_pem))
                .await?;
        }
    }
    Ok(Finished::Done)
}

fn fill(secret: &mut Value, account: &Reference, token: &str, ca: &str) -> bool {
    let namespace = secret["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
    if !secret["data"].is_object() {
        secret["data"] = json!({});
    }
    if secret["data"]["token"].as_str().is_none_or(str::is_empty) {
        secret["data"]["token"] = json!(STANDARD.encode(token));
    }
    secret["data"]["ca.crt"] = json!(STANDARD.encode(ca));
    secret["data"]["namespace"] = json!(STANDARD.encode(namespace));
    secret["metadata"]["annotations"][UID_ANNOTATION] = json!(account.uid);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Value {
        json!({"type": SECRET_TYPE, "metadata": {"name": "s", "namespace": "n", "annotations": {NAME_ANNOTATION: "a"}}})
    }

    fn account(uid: &str) -> Value {
        json!({"metadata": {"name": "a", "namespace": "n", "uid": uid}})
    }

    #[test]
    fn a_token_secret_is_filled_once() {
        let mut secret = secret();
        let TokenSecret::Fill(reference) = judge(&secret, Some(&account("u")), "CA") else { panic!("not filled") };
        fill(&mut secret, &reference, "t", "CA");
        assert_eq!(secret["data"], json!({"token": "dA==", "ca.crt": "Q0E=", "namespace": "bg=="}));
        assert_eq!(judge(&secret, Some(&account("u")), "CA"), TokenSecret::Leave);
    }

    #[test]
    fn it_goes_with_its_account() {
        let mut secret = secret();
        assert_eq!(judge(&secret, None, "CA"), TokenSecret::Delete);
        secret["metadata"]["annotations"][UID_ANNOTATION] = json!("u");
        assert_eq!(judge(&secret, Some(&account("other")), "CA"), TokenSecret::Delete);
    }

    #[test]
    fn other_secrets_are_left_alone() {
        assert_eq!(judge(&json!({"type": "Opaque", "metadata": {}}), None, "CA"), TokenSecret::Leave);
    }

    #[test]
    fn a_new_ca_keeps_the_token() {
        let mut secret = secret();
        let reference = Reference { name: "a".into(), uid: "u".into() };
        fill(&mut secret, &reference, "t", "CA");
        assert_eq!(judge(&secret, Some(&account("u")), "NEW"), TokenSecret::Fill(reference.clone()));
        fill(&mut secret, &reference, "t2", "NEW");
        assert_eq!(secret["data"]["token"], "dA==");
    }
}
