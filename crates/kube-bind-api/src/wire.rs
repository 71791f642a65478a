//! JSON shapes of the backend's HTTP API (reference §1.4). Never stored in a cluster.
//!
//! The backend writes them, the CLI reads them; readers ignore fields they do not know and do not check `kind`.

use k8s_openapi::ByteString;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::API_VERSION;

/// Name of the only login method.
pub const OAUTH2_CODE_GRANT: &str = "OAuth2CodeGrant";

/// What a URL that can be bound answers: who the provider is and how to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingProvider {
    /// `BindingProvider`.
    #[serde(default)]
    pub kind: String,
    /// `v1alpha2`, without the group: that is how it is on the wire.
    #[serde(default)]
    pub api_version: String,
    /// Name for people.
    #[serde(default)]
    pub provider_pretty_name: String,
    /// Version of the backend, `v0.0.0` if unknown.
    #[serde(default)]
    pub version: String,
    /// Ways to log in.
    #[serde(default, deserialize_with = "null_as_default")]
    pub authentication_methods: Vec<AuthenticationMethod>,
}

impl BindingProvider {
    /// The document of a backend whose login starts at `authenticated_url`.
    pub fn new(
        pretty_name: impl Into<String>,
        version: impl Into<String>,
        authenticated_url: impl Into<String>,
    ) -> Self {
        Self {
            kind: "BindingProvider".into(),
            api_version: crate::VERSION.into(),
            provider_pretty_name: pretty_name.into(),
            version: version.into(),
            authentication_methods: vec![AuthenticationMethod {
                method: OAUTH2_CODE_GRANT.into(),
                oauth2_code_grant: Some(OAuth2CodeGrant { authenticated_url: authenticated_url.into() }),
            }],
        }
    }

    /// Where the login starts, if the provider offers the one method there is.
    pub fn authenticated_url(&self) -> Option<&str> {
        self.authentication_methods
            .iter()
            .find(|method| method.method == OAUTH2_CODE_GRANT)
            .and_then(|method| method.oauth2_code_grant.as_ref())
            .map(|grant| grant.authenticated_url.as_str())
    }
}

/// A way to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthenticationMethod {
    /// [`OAUTH2_CODE_GRANT`].
    pub method: String,
    /// Its parameters.
    #[serde(rename = "oauth2CodeGrant", default, skip_serializing_if = "Option::is_none")]
    pub oauth2_code_grant: Option<OAuth2CodeGrant>,
}

/// Parameters of the browser login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuth2CodeGrant {
    /// Where it starts.
    #[serde(rename = "authenticatedURL")]
    pub authenticated_url: String,
}

/// What a bind gives: a credential for the contract and the requests to make with it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingResourceResponse {
    /// `BindingResponse` over HTTP, `BindingResourceResponse` in a Secret.
    #[serde(default)]
    pub kind: String,
    /// [`API_VERSION`].
    #[serde(default)]
    pub api_version: String,
    /// Who logged in.
    #[serde(default)]
    pub authentication: BindingResponseAuthentication,
    /// The kubeconfig (base64 in JSON). A credential: never log it.
    #[serde(default = "no_bytes", deserialize_with = "null_as_no_bytes")]
    pub kubeconfig: ByteString,
    /// `APIServiceExportRequest`s with only a name in their metadata.
    #[serde(default, deserialize_with = "null_as_default")]
    pub requests: Vec<Value>,
    /// The contract namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_namespace: Option<String>,
    /// Name of the request that the backend itself made (browser flow only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding_name: Option<String>,
}

impl BindingResourceResponse {
    /// A response over HTTP.
    pub fn new(kubeconfig: Vec<u8>, requests: Vec<Value>, authentication: BindingResponseAuthentication) -> Self {
        Self {
            kind: "BindingResponse".into(),
            api_version: API_VERSION.into(),
            authentication,
            kubeconfig: ByteString(kubeconfig),
            requests,
            provider_namespace: None,
            binding_name: None,
        }
    }
}

impl std::fmt::Debug for BindingResourceResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BindingResourceResponse")
            .field("kubeconfig", &format_args!("<{} bytes>", self.kubeconfig.0.len()))
            .field("requests", &self.requests.len())
            .field("provider_namespace", &self.provider_namespace)
            .field("binding_name", &self.binding_name)
            .finish_non_exhaustive()
    }
}

/// Who a [`BindingResourceResponse`] is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingResponseAuthentication {
    /// Present after a browser login.
    #[serde(rename = "oauth2CodeGrant", default, skip_serializing_if = "Option::is_none")]
    pub oauth2_code_grant: Option<BindingResponseLogin>,
}

/// Session and identity of a login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingResponseLogin {
    /// Session.
    #[serde(default)]
    pub sid: String,
    /// `<issuer>/<subject>`.
    #[serde(default)]
    pub id: String,
}

/// Machine-readable part of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// No or no valid login.
    AuthenticationFailed,
    /// Logged in, but not allowed.
    AuthorizationFailed,
    /// No such thing.
    ResourceNotFound,
    /// The backend's fault.
    InternalError,
    /// The request's fault.
    BadRequest,
    /// The other cluster does not answer.
    ClusterConnectionFailed,
    /// A code this version does not know.
    #[serde(other)]
    Unknown,
}

/// Error body of the HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Error {
    /// `Error`.
    #[serde(default)]
    pub kind: String,
    /// [`API_VERSION`].
    #[serde(default)]
    pub api_version: String,
    /// One sentence for people.
    pub message: String,
    /// What kind of error.
    pub code: ErrorCode,
    /// More, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

impl Error {
    /// An error body.
    pub fn new(code: ErrorCode, message: impl Into<String>, details: Option<String>) -> Self {
        Self { kind: "Error".into(), api_version: API_VERSION.into(), message: message.into(), code, details }
    }
}

/// A kind that may be claimed, as `GET /api/bindable-resources` lists them (keys spelled as the Go release does).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClaimableApi {
    /// Its names.
    pub names: ClaimableNames,
    /// Group, version and plural.
    pub group_version_resource: ClaimableGvr,
    /// An empty object; means nothing.
    #[serde(default)]
    pub instance: Value,
    /// `Namespaced`.
    pub resource_scope: String,
    /// Always false.
    #[serde(rename = "HasStatus")]
    pub has_status: bool,
}

impl ClaimableApi {
    /// A namespaced kind of version `v1`.
    pub fn namespaced(group: &str, plural: &str, singular: &str, kind: &str) -> Self {
        Self {
            names: ClaimableNames { plural: plural.into(), singular: singular.into(), kind: kind.into() },
            group_version_resource: ClaimableGvr { group: group.into(), version: "v1".into(), resource: plural.into() },
            instance: serde_json::json!({"metadata": {}}),
            resource_scope: "Namespaced".into(),
            has_status: false,
        }
    }
}

/// Names of a [`ClaimableApi`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimableNames {
    /// `secrets`.
    pub plural: String,
    /// `secret`.
    pub singular: String,
    /// `Secret`.
    pub kind: String,
}

/// Group, version, resource of a [`ClaimableApi`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClaimableGvr {
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural.
    pub resource: String,
}

/// Addition. Body of `POST /api/redeem`: turns the short-lived code of a redirect into what it stands for, so that no
/// credential enters the browser's history.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RedeemRequest {
    /// The sealed code.
    pub code: String,
    /// The secret whose S256 challenge opened the flow (PKCE, RFC 7636).
    pub code_verifier: String,
}

/// Addition. What a redeemed login gives.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenResponse {
    /// Bearer token. A credential: never log it.
    pub access_token: String,
    /// `Bearer`.
    #[serde(default)]
    pub token_type: String,
    /// Seconds of life.
    #[serde(default)]
    pub expires_in: u64,
    /// Provider-side logical cluster, if there is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
}

fn no_bytes() -> ByteString {
    ByteString(Vec::new())
}

fn null_as_no_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteString, D::Error> {
    Ok(Option::<ByteString>::deserialize(deserializer)?.unwrap_or_else(no_bytes))
}

/// Go writes a nil list as `null`.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shapes_are_those_of_the_wire() {
        let provider = BindingProvider::new("AcmeDB Inc.", "v0.0.0", "http://x/api/authorize");
        assert_eq!(
            serde_json::to_value(&provider).unwrap(),
            json!({"kind": "BindingProvider", "apiVersion": "v1alpha2", "providerPrettyName": "AcmeDB Inc.",
                "version": "v0.0.0", "authenticationMethods": [{"method": "OAuth2CodeGrant",
                "oauth2CodeGrant": {"authenticatedURL": "http://x/api/authorize"}}]})
        );
        assert_eq!(provider.authenticated_url(), Some("http://x/api/authorize"));

        let error = Error::new(ErrorCode::ResourceNotFound, "m", Some("d".into()));
        assert_eq!(
            serde_json::to_value(&error).unwrap(),
            json!({"kind": "Error", "apiVersion": "kube-bind.io/v1alpha2", "message": "m",
                "code": "RESOURCE_NOT_FOUND", "details": "d"})
        );
        let unknown: Error = serde_json::from_value(json!({"message": "m", "code": "NEW"})).unwrap();
        assert_eq!(unknown.code, ErrorCode::Unknown);

        assert_eq!(
            serde_json::to_value(ClaimableApi::namespaced("", "secrets", "secret", "Secret")).unwrap(),
            json!({"Names": {"plural": "secrets", "singular": "secret", "kind": "Secret"},
                "GroupVersionResource": {"Group": "", "Version": "v1", "Resource": "secrets"},
                "Instance": {"metadata": {}}, "ResourceScope": "Namespaced", "HasStatus": false})
        );
    }

    #[test]
    fn responses_survive_nulls_and_hide_the_credential() {
        let response: BindingResourceResponse = serde_json::from_value(
            json!({"kind": "BindingResponse", "authentication": {"oauth2CodeGrant": {"sid": "s", "id": "i/s"}},
                "kubeconfig": "c2VjcmV0", "requests": null}),
        )
        .unwrap();
        assert_eq!(response.kubeconfig.0, b"secret");
        assert!(response.requests.is_empty());
        assert!(!format!("{response:?}").contains("secret"));
        assert_eq!(serde_json::to_value(&response).unwrap()["kubeconfig"], json!("c2VjcmV0"));
    }
}
