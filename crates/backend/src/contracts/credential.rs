//! The credential of a contract: a ServiceAccount's token, and the kubeconfig made of it.
//!
//! In: a contract namespace. Out: the kubeconfig that opens it, a new one in its place ([`rotate`]), or none any more
//! ([`revoke`]). Called by the contracts, the contract controller and the end of a contract.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_bind_api::constants::{KUBE_BINDER, KUBECONFIG_KEY, KUBECONFIG_SECRET};
use kube_client::{Api, ApiError, ObjectKey, Subresource};
use serde_json::{Value, json};

use super::{ContractError, Issuing, MANAGER, POLL, patiently, present};
use crate::resources;

/// How long the API server may take to fill in a token.
const TOKEN_PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn account(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": KUBE_BINDER, "namespace": namespace},
    })
}

pub(super) fn token_secret(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": KUBE_BINDER, "namespace": namespace,
            "annotations": {"kubernetes.io/service-account.name": KUBE_BINDER}},
    })
}

pub(super) async fn await_token(api: &Api, namespace: &str, not: Option<&str>) -> Result<String, ContractError> {
    let key = ObjectKey::new(namespace, KUBE_BINDER);
    let give_up = tokio::time::Instant::now() + TOKEN_PATIENCE;
    loop {
        let secret = api.get_opt(&resources::secrets(), &key).await?.unwrap_or_default();
        let token = secret["data"]["token"]
            .as_str()
            .and_then(|text| STANDARD.decode(text).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|token| !token.is_empty() && Some(token.as_str()) != not);
        if let Some(token) = token {
            return Ok(token);
        }
        if tokio::time::Instant::now() >= give_up {
            return Err(ContractError::NoToken(namespace.to_owned()));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The consumer's kubeconfig: everything in it is named `default`, as clients of the wire expect.
pub(super) fn kubeconfig(issuing: &Issuing, namespace: &str, token: &str) -> String {
    let mut cluster = json!({"server": issuing.server});
    if !issuing.ca.is_empty() {
        cluster["certificate-authority-data"] = json!(STANDARD.encode(&issuing.ca));
    }
    if let Some(name) = &issuing.tls_server_name {
        cluster["tls-server-name"] = json!(name);
    }
    let value = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default",
        "clusters": [{"name": "default", "cluster": cluster}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "namespace": namespace, "user": "default"}}],
        "users": [{"name": "default", "user": {"token": token}}],
    });
    serde_saphyr::to_string(&value).unwrap_or_else(|_| value.to_string())
}

pub(super) async fn store_kubeconfig(api: &Api, namespace: &str, name: &str, kubeconfig: &str) -> Result<(), ApiError> {
    let key = ObjectKey::new(namespace, name);
    let data = json!({KUBECONFIG_KEY: STANDARD.encode(kubeconfig)});
    match api.get_opt(&resources::secrets(), &key).await? {
        Some(there) if there["data"][KUBECONFIG_KEY] == data[KUBECONFIG_KEY] => Ok(()),
        Some(_) => {
            let patch = json!({"data": data});
            api.merge_patch(&resources::secrets(), &key, Subresource::Main, &patch, MANAGER).await.map(|_| ())
        }
        None => {
            let body = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": name, "namespace": namespace}, "data": data,
            });
            api.create(&resources::secrets(), Some(namespace), &body).await.map(|_| ())
        }
    }
}

/// Replaces the token: the old one stops working as soon as its Secret is gone. Twice is a third token.
///
/// # Errors
/// [`ContractError`].
pub async fn rotate(api: &Api, issuing: &Issuing, namespace: &str) -> Result<(), ContractError> {
    let kind = resources::secrets();
    let key = ObjectKey::new(namespace, KUBE_BINDER);
    let mut old = None;
    if let Some(secret) = patiently(|| api.get_opt(&kind, &key)).await? {
        old = secret["data"]["token"]
            .as_str()
            .and_then(|text| STANDARD.decode(text).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(uid) = secret["metadata"]["uid"].as_str() {
            api.delete(&kind, &key, uid).await?;
        }
    }
    // A contract that was revoked has none, and without it there is no token.
    present(api, &resources::service_accounts(), &account(namespace)).await?;
    present(api, &kind, &token_secret(namespace)).await?;
    let token = await_token(api, namespace, old.as_deref()).await?;
    store_kubeconfig(api, namespace, KUBECONFIG_SECRET, &kubeconfig(issuing, namespace, &token)).await?;
    Ok(())
}

/// Takes the credential away: account, token and kubeconfig. Exports and objects stay.
///
/// # Errors
/// Those of the API server.
pub async fn revoke(api: &Api, namespace: &str) -> Result<(), ApiError> {
    let doomed = [
        (resources::service_accounts(), KUBE_BINDER),
        (resources::secrets(), KUBE_BINDER),
        (resources::secrets(), KUBECONFIG_SECRET),
    ];
    for (kind, name) in doomed {
        let key = ObjectKey::new(namespace, name);
        let there = api.get_opt(&kind, &key).await?;
        if let Some(uid) = there.as_ref().and_then(|object| object["metadata"]["uid"].as_str()) {
            api.delete(&kind, &key, uid).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kube_bind_api::{InformerScope, Isolation};

    use super::*;

    #[test]
    fn the_kubeconfig_is_what_clients_of_the_wire_expect() {
        let issuing = Issuing {
            pretty_name: "P".into(),
            namespace_prefix: "cluster-".into(),
            server: "https://api.example:6443".into(),
            ca: "-----BEGIN CERTIFICATE-----".into(),
            tls_server_name: None,
            informer_scope: InformerScope::Namespaced,
            isolation: Isolation::Prefixed,
            user: "u".into(),
        };
        let value: Value = serde_saphyr::from_str(&kubeconfig(&issuing, "cluster-x", "t")).unwrap();
        assert_eq!(value["current-context"], "default");
        assert_eq!(value["contexts"][0]["context"]["namespace"], "cluster-x");
        assert_eq!(value["users"][0]["user"]["token"], "t");
        assert_eq!(value["clusters"][0]["cluster"]["server"], "https://api.example:6443");
    }
}
