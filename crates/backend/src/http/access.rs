//! Who is calling, and may they bind?
//!
//! In: a bearer token or a session cookie. Out: the [`Session`], after the provider's API server has agreed
//! (SubjectAccessReview, verb `bind`, group `kube-bind.io`). Asked on every request, so taking a right away works at
//! once. A cookie counts for what changes something only where the request comes from our own pages. Called by `api`,
//! `exports`, `redeem`.

use http::{HeaderMap, Method, header};
use serde_json::json;
use sha2::Digest as _;
use url::Url;

use super::authorize::same_origin;
use super::{App, Query};
use crate::error::ApiError;
use crate::identity::oidc::Person;
use crate::identity::session::Session;
use crate::resources;
use crate::seal::{Purpose, SealError};

/// Cookies are shared between the ports of a host, so the name says which backend they belong to.
fn cookie_name(base: &Url, kind: &str) -> String {
    let digest = sha2::Sha256::digest(base.origin().ascii_serialization().as_bytes());
    let tag: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    // The prefix makes browsers refuse the cookie from other hosts and over plain HTTP; needs `Path=/`.
    let prefix = if base.scheme() == "https" { "__Host-" } else { "" };
    format!("{prefix}kube-bind{kind}-{tag}")
}

/// A `Set-Cookie` value; sealed values need no quoting. `seconds` 0 removes the cookie.
fn set_cookie(base: &Url, name: &str, value: &str, seconds: u64) -> String {
    let secure = if base.scheme() == "https" { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// The `Set-Cookie` value that holds a session for so many seconds.
#[must_use]
pub fn session_cookie(base: &Url, value: &str, seconds: u64) -> String {
    set_cookie(base, &cookie_name(base, ""), value, seconds)
}

/// The `Set-Cookie` value that holds the browser's half of login `id`.
#[must_use]
pub fn login_cookie(base: &Url, id: &str, value: &str, seconds: u64) -> String {
    set_cookie(base, &login_cookie_name(base, id), value, seconds)
}

/// A cookie of the request.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// The name of the login cookie for login `id`; several logins may be in progress in one browser.
#[must_use]
pub fn login_cookie_name(base: &Url, id: &str) -> String {
    format!("{}-{}", cookie_name(base, "-login"), id.get(..12).unwrap_or(id))
}

/// The session in the cookie, if there is a valid one.
#[must_use]
pub fn browser_session(app: &App, base: &Url, headers: &HeaderMap) -> Option<Session> {
    app.sealer.open(Purpose::Session, cookie(headers, &cookie_name(base, ""))?, app.now()).ok()
}

/// The session of the request: bearer token first, then cookie; checked for the cluster named in the query.
///
/// # Errors
/// 401 with the wire's texts; 403 if the provider does not let this person bind, or if a browser brings its cookie to a
/// change that another site asked for.
pub async fn caller(app: &App, method: &Method, headers: &HeaderMap, query: &Query) -> Result<Session, ApiError> {
    let session = authenticate(app, method, headers)?;
    if session.cluster != query.get("cluster_id") {
        return Err(ApiError::forbidden(
            "The login was for another cluster",
            "the token's cluster is not the one in cluster_id; log in again for it",
        ));
    }
    authorize(app, &session.person).await?;
    Ok(session)
}

fn authenticate(app: &App, method: &Method, headers: &HeaderMap) -> Result<Session, ApiError> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")));
    if let Some(token) = bearer {
        match app.sealer.open::<Session>(Purpose::Bearer, token.trim(), app.now()) {
            Ok(session) => return Ok(session),
            Err(SealError::Expired) => return Err(ApiError::unauthenticated("Session has expired")),
            Err(_) => {}
        }
    }
    let base = app.base(headers)?;
    let session =
        browser_session(app, &base, headers).ok_or_else(|| ApiError::unauthenticated("No valid session found"))?;
    if !method.is_safe() && !from_our_pages(headers, &base) {
        return Err(ApiError::forbidden(
            "Another site asked for this",
            format!(
                "the login of a browser counts here only for requests from the provider's own pages at {base}, and \
                 Sec-Fetch-Site or Origin says that this is none; a program sends a bearer token instead"
            ),
        ));
    }
    Ok(session)
}

/// Whether a request that changes something comes from our own pages. Cookies travel with what other hosts of our site ask
/// for, and no form token stands in here: an Origin that a browser keeps to itself (`null`) is not ours.
fn from_our_pages(headers: &HeaderMap, base: &Url) -> bool {
    let hidden = headers.get(header::ORIGIN).is_some_and(|origin| origin == "null");
    same_origin(headers, base) && (!hidden || headers.contains_key("sec-fetch-site"))
}

/// Asks the provider's API server whether this person may bind.
///
/// # Errors
/// 403 if not; 502 if the API server does not answer.
pub async fn authorize(app: &App, person: &Person) -> Result<(), ApiError> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": person.subject,
            "groups": person.groups,
            "resourceAttributes": {"verb": "bind", "group": kube_bind_api::GROUP},
        },
    });
    let answer =
        app.api.create(&resources::subject_access_reviews(), None, &review).await.map_err(|err| {
            ApiError::from_kube("The provider's API server did not answer whether you may bind", &err)
        })?;
    if answer["status"]["allowed"] == json!(true) {
        return Ok(());
    }
    tracing::info!(issuer = %person.issuer, subject = %person.subject, "bind denied by the provider's authorization");
    Err(ApiError::forbidden(
        "You are not allowed to bind APIs of this provider",
        format!(
            "user {:?} with groups {:?} may not `bind` in group kube-bind.io; the provider allows it with --oidc-allowed-users or --oidc-allowed-groups",
            person.subject, person.groups
        ),
    ))
}
