//! The relying party: the part that talks OpenID Connect to the issuer.
//!
//! In: the client registration, authorization codes. Out: authorization URLs, and the verified person behind a code.
//! Discovery happens when the first login needs it and again when a key is unknown, so it does not matter whether the
//! issuer or this service starts first. Called by `http::authorize`.

use std::pin::Pin;
use std::time::Duration;

use kube_client::error::chain;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreRevocableToken,
    CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AdditionalClaims, AsyncHttpClient, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdTokenFields,
    IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    StandardErrorResponse, StandardTokenResponse, SubjectIdentifier, TokenResponse as _, UserInfoClaims,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use url::Url;

/// Scopes beside `openid`, separated by commas, where nothing else is said.
pub const SCOPES: &str = "profile,email,groups";

/// How this service is registered with the issuer.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// The issuer, exactly as it appears in `iss`.
    pub issuer_url: String,
    /// The client id given by the issuer.
    pub client_id: String,
    /// The client secret; none for a public client.
    pub client_secret: Option<SecretString>,
    /// PEM certificates to trust for the issuer instead of the system's.
    pub ca: Option<String>,
    /// The registered callback; default `<external URL>/api/callback`.
    pub callback_url: Option<String>,
    /// Groups that may bind (they get the ClusterRole `kube-bind-oidc-user`).
    pub allowed_groups: Vec<String>,
    /// Subjects that may bind (they get the ClusterRole `kube-bind-oidc-user`).
    pub allowed_users: Vec<String>,
    /// Scopes beside `openid`; some issuers refuse a login that asks for one that they do not know.
    pub scopes: Vec<String>,
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            issuer_url: String::new(),
            client_id: String::new(),
            client_secret: None,
            ca: None,
            callback_url: None,
            allowed_groups: Vec::new(),
            allowed_users: Vec::new(),
            scopes: SCOPES.split(',').map(str::to_owned).collect(),
        }
    }
}

/// The person an issuer vouches for: only what we use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `groups`, empty if the issuer sends none.
    #[serde(default)]
    pub groups: Vec<String>,
    /// A name to greet with: `preferred_username`, else `email`, else the subject.
    #[serde(default)]
    pub display: String,
}

/// Why a login failed on the way to or from the issuer.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The configuration cannot be used.
    #[error("the OIDC configuration is not usable: {0}")]
    Config(String),
    /// The discovery document could not be read.
    #[error("the login service {issuer} cannot be reached: {reason}")]
    Discovery {
        /// The configured issuer.
        issuer: String,
        /// What went wrong.
        reason: String,
    },
    /// The code was refused.
    #[error("the login service refused to exchange the code: {0}")]
    Exchange(String),
    /// What the issuer says of the person beside the id_token.
    #[error("the login service's answer about the person is not acceptable: {0}")]
    UserInfo(String),
    /// The id_token is missing or not acceptable.
    #[error("the login service's id_token is not acceptable: {0}")]
    Token(String),
}

#[derive(Debug, Clone, Deserialize, Serialize)]
struct GroupClaims {
    #[serde(default)]
    groups: Option<serde_json::Value>,
}
impl AdditionalClaims for GroupClaims {}

type Fields = IdTokenFields<
    GroupClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type OidcClient = Client<
    GroupClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A login about to start: where to send the browser, and what to remember for the way back.
#[derive(Debug)]
pub struct Departure {
    /// The issuer's authorization endpoint with all parameters.
    pub url: Url,
    /// The nonce expected in the id_token.
    pub nonce: String,
    /// The PKCE verifier for the token request.
    pub verifier: String,
}

/// The HTTP client of the relying party: follows no redirects.
struct HttpClient(reqwest::Client);

impl<'c> AsyncHttpClient<'c> for HttpClient {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url = Url::parse(&parts.uri.to_string())?;
            let mut outgoing = reqwest::Request::new(parts.method, url);
            *outgoing.headers_mut() = parts.headers;
            *outgoing.body_mut() = Some(body.into());
            let incoming = self.0.execute(outgoing).await?;
            let mut response = http::Response::new(Vec::new());
            *response.status_mut() = incoming.status();
            *response.headers_mut() = incoming.headers().clone();
            *response.body_mut() = incoming.bytes().await?.to_vec();
            Ok(response)
        })
    }
}

/// Why a request to the issuer failed.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("not a URL: {0}")]
    Url(#[from] url::ParseError),
    #[error(transparent)]
    Transport(#[from] reqwest::Error),
}

/// The relying party for one issuer.
pub struct RelyingParty {
    config: OidcConfig,
    issuer: IssuerUrl,
    http: HttpClient,
    metadata: Mutex<Option<CoreProviderMetadata>>,
}

impl std::fmt::Debug for RelyingParty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelyingParty").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl RelyingParty {
    /// Checks the configuration; talks to nobody yet.
    ///
    /// # Errors
    /// [`OidcError::Config`].
    pub fn new(config: OidcConfig) -> Result<Self, OidcError> {
        let issuer = IssuerUrl::new(config.issuer_url.clone())
            .map_err(|err| OidcError::Config(format!("issuer URL {:?}: {err}", config.issuer_url)))?;
        if config.client_id.is_empty() {
            return Err(OidcError::Config("the client id is empty".to_owned()));
        }
        let mut builder =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(10));
        if let Some(pem) = &config.ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|err| OidcError::Config(format!("the CA file of the issuer: {err}")))?;
            builder = builder.tls_certs_only(certificates);
        } else if issuer.url().scheme() == "http" {
            // No TLS is spoken, so the system's trust store need not exist.
            builder = builder.tls_certs_only([]);
        }
        let http = HttpClient(builder.build().map_err(|err| OidcError::Config(format!("HTTP client: {err}")))?);
        Ok(Self { config, issuer, http, metadata: Mutex::new(None) })
    }

    /// The issuer as configured.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    /// What a login asks for, as it stands in the URL.
    #[must_use]
    pub fn scopes(&self) -> String {
        std::iter::once("openid").chain(self.further()).collect::<Vec<_>>().join(" ")
    }

    /// The scopes beside `openid`, which is always asked for.
    fn further(&self) -> impl Iterator<Item = &str> {
        self.config.scopes.iter().map(String::as_str).filter(|scope| !scope.is_empty() && *scope != "openid")
    }

    /// Whether the configuration names this group.
    #[must_use]
    pub fn knows_group(&self, group: &str) -> bool {
        self.config.allowed_groups.iter().any(|known| known == group)
    }

    /// Reads the discovery document and the keys if that has not happened yet.
    ///
    /// # Errors
    /// [`OidcError::Discovery`].
    pub async fn discover(&self) -> Result<(), OidcError> {
        self.metadata(false).await.map(|_| ())
    }

    async fn metadata(&self, fresh: bool) -> Result<CoreProviderMetadata, OidcError> {
        let mut slot = self.metadata.lock().await;
        if let (Some(known), false) = (slot.as_ref(), fresh) {
            return Ok(known.clone());
        }
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http)
            .await
            .map_err(|err| OidcError::Discovery { issuer: self.issuer.to_string(), reason: chain(&err) })?;
        *slot = Some(found.clone());
        Ok(found)
    }

    fn client(&self, metadata: CoreProviderMetadata, callback: &Url) -> OidcClient {
        Client::from_provider_metadata(
            metadata,
            ClientId::new(self.config.client_id.clone()),
            self.config.client_secret.as_ref().map(|secret| ClientSecret::new(secret.expose_secret().to_owned())),
        )
        .set_redirect_uri(RedirectUrl::from_url(callback.clone()))
    }

    /// Starts a login: the authorization URL with PKCE (S256), a fresh nonce and the given state.
    ///
    /// # Errors
    /// [`OidcError::Discovery`].
    pub async fn depart(&self, callback: &Url, state: String) -> Result<Departure, OidcError> {
        let client = self.client(self.metadata(false).await?, callback);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || CsrfToken::new(state), Nonce::new_random)
            .set_pkce_challenge(challenge);
        for scope in self.further() {
            request = request.add_scope(Scope::new(scope.to_owned()));
        }
        let (url, _, nonce) = request.url();
        Ok(Departure { url, nonce: nonce.secret().clone(), verifier: verifier.secret().clone() })
    }

    /// Exchanges the code and verifies the id_token: signature, issuer, audience, nonce and lifetime. Groups that are not in
    /// it are asked for at the UserInfo endpoint.
    ///
    /// # Errors
    /// [`OidcError::Exchange`], [`OidcError::Token`] or [`OidcError::UserInfo`].
    pub async fn arrive(
        &self,
        callback: &Url,
        code: String,
        verifier: String,
        nonce: String,
    ) -> Result<Person, OidcError> {
        let client = self.client(self.metadata(false).await?, callback);
        let response = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|err| OidcError::Exchange(err.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier))
            .request_async(&self.http)
            .await
            .map_err(|err| OidcError::Exchange(chain(&err)))?;
        let token = response.id_token().ok_or_else(|| OidcError::Token("there is none in the answer".to_owned()))?;
        let nonce = Nonce::new(nonce);
        let claims = match token.claims(&client.id_token_verifier(), &nonce) {
            Ok(claims) => claims.clone(),
            // The issuer may have rotated its keys since discovery: look once more, then believe the answer.
            Err(openidconnect::ClaimsVerificationError::SignatureVerification(_)) => {
                let client = self.client(self.metadata(true).await?, callback);
                token.claims(&client.id_token_verifier(), &nonce).map_err(|err| OidcError::Token(chain(&err)))?.clone()
            }
            Err(err) => return Err(OidcError::Token(chain(&err))),
        };
        let subject = claims.subject().to_string();
        if subject.is_empty() {
            return Err(OidcError::Token("it names no subject".to_owned()));
        }
        let mut name = claims.preferred_username().map(|name| name.to_string());
        let mut email = claims.email().map(|email| email.to_string());
        let mut told = claims.additional_claims().groups.clone();
        // Issuers that follow OpenID Connect Core 5.4 to the letter tell what a scope is about only there.
        if told.is_none() && client.user_info_url().is_some() {
            let more = self.user_info(&client, response.access_token().clone(), claims.subject().clone()).await?;
            name = name.or_else(|| more.preferred_username().map(|name| name.to_string()));
            email = email.or_else(|| more.email().map(|email| email.to_string()));
            told = more.additional_claims().groups.clone();
        }
        Ok(Person {
            issuer: claims.issuer().to_string(),
            groups: groups(told.as_ref()),
            display: name.or(email).unwrap_or_else(|| subject.clone()),
            subject,
        })
    }

    /// What the UserInfo endpoint says of the person; it must be about the same subject as the id_token.
    async fn user_info(
        &self,
        client: &OidcClient,
        token: AccessToken,
        subject: SubjectIdentifier,
    ) -> Result<UserInfoClaims<GroupClaims, CoreGenderClaim>, OidcError> {
        let bad = |err: &dyn std::error::Error| OidcError::UserInfo(chain(err));
        let request = client.user_info(token, Some(subject)).map_err(|err| bad(&err))?;
        request.request_async(&self.http).await.map_err(|err| bad(&err))
    }
}

/// Issuers send groups as a list or as one text.
fn groups(claim: Option<&serde_json::Value>) -> Vec<String> {
    match claim {
        Some(serde_json::Value::Array(list)) => list.iter().filter_map(|g| g.as_str().map(str::to_owned)).collect(),
        Some(serde_json::Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    }
}
