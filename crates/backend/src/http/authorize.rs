//! Login: `/api/authorize` sends the browser to the issuer, `/api/callback` receives it, `/api/logout` forgets.
//!
//! In: an [`AuthorizeRequest`]. Out: redirects; at the end a session cookie (pages) or a code or token for a command
//! line on the loopback interface. The state is sealed and tied to the browser by a cookie; the id_token is verified.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use url::Url;

use super::{App, Query, Wants, access, wants};
use crate::error::ApiError;
use crate::identity::oidc::OidcError;
use crate::identity::redirect;
use crate::identity::session::{self, AuthorizeRequest, Grant, LOGIN_LIFETIME, LoginHalf, LoginState, Session};
use crate::metrics::LoginOutcome;
use crate::pages;
use crate::seal::{Purpose, random_text};

/// `GET /api/authorize`.
pub async fn authorize_get(State(app): State<Arc<App>>, headers: HeaderMap, RawQuery(raw): RawQuery) -> Response {
    let query = Query::parse(raw.as_deref());
    let text = |name: &str| query.get(name).to_owned();
    let request = AuthorizeRequest {
        redirect_url: text("redirect_url"),
        session_id: text("session_id"),
        cluster_id: text("cluster_id"),
        client_type: text("client_type"),
        consumer_id: text("consumer_id"),
        code_challenge: text("code_challenge"),
    };
    start(&app, &headers, request).await
}

/// `POST /api/authorize` with a JSON body.
pub async fn authorize_post(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    match serde_json::from_slice::<AuthorizeRequest>(&body) {
        Ok(request) => start(&app, &headers, request).await,
        Err(err) => plain_refusal(&headers, false, StatusCode::BAD_REQUEST, &format!("invalid request body: {err}")),
    }
}

/// Refusals here are JSON for command lines, a page for browsers, else text (reference §2.2).
fn plain_refusal(headers: &HeaderMap, cli: bool, status: StatusCode, text: &str) -> Response {
    if wants(headers) == Wants::Html {
        let code = crate::error::ErrorCode::BadRequest;
        return pages::refusal(&ApiError::new(status, code, "The login did not work", text)).into_response();
    }
    if cli {
        return (status, axum::Json(serde_json::json!({"success": false, "error": text}))).into_response();
    }
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{text}\n")).into_response()
}

async fn start(app: &App, headers: &HeaderMap, request: AuthorizeRequest) -> Response {
    let cli = request.is_cli();
    match departure(app, headers, request).await {
        Ok(response) => response,
        Err((status, text)) => plain_refusal(headers, cli, status, &text),
    }
}

type Refusal = (StatusCode, String);

async fn departure(app: &App, headers: &HeaderMap, request: AuthorizeRequest) -> Result<Response, Refusal> {
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    if request.redirect_url.is_empty() || request.session_id.is_empty() {
        return Err(bad("missing redirect_url or session_id".to_owned()));
    }
    if !request.cluster_id.is_empty() {
        return Err(bad(format!(
            "cluster_id {:?} is not known here: this provider has one cluster",
            request.cluster_id
        )));
    }
    if !request.code_challenge.is_empty() && !session::is_challenge(&request.code_challenge) {
        return Err(bad("code_challenge is not an S256 challenge (43 characters of base64url)".to_owned()));
    }
    let base = app.base(headers).map_err(|err| (err.status, err.to_string()))?;
    target(&request, &base).map_err(|err| bad(err.to_string()))?;
    let callback = app.callback(headers).map_err(|err| (err.status, err.to_string()))?;
    if let Some(there) = same_machine(&base, headers) {
        // The cookie must be set on the host that the issuer sends the browser back to.
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs(&request).into_iter().filter(|(_, value)| !value.is_empty()))
            .finish();
        let mut url = there;
        url.set_path("/api/authorize");
        url.set_query(Some(&query));
        return Ok(found(&url, &[]));
    }
    let failed = |text: String| (StatusCode::INTERNAL_SERVER_ERROR, text);
    let state = LoginState { id: random_text(), request };
    let now = app.now();
    let sealed = app.sealer.seal(Purpose::State, &state, now, LOGIN_LIFETIME).map_err(|err| failed(err.to_string()))?;
    let leave = app.relying.depart(&callback, sealed).await.map_err(|err| {
        tracing::warn!(error = %err, "login cannot start");
        app.metrics.login(LoginOutcome::Failed);
        (StatusCode::SERVICE_UNAVAILABLE, err.to_string())
    })?;
    let half = LoginHalf { id: state.id.clone(), nonce: leave.nonce, verifier: leave.verifier };
    let half = app.sealer.seal(Purpose::Login, &half, now, LOGIN_LIFETIME).map_err(|err| failed(err.to_string()))?;
    let cookie = access::login_cookie(&base, &state.id, &half, LOGIN_LIFETIME.as_secs());
    Ok(found(&leave.url, &[cookie]))
}

fn pairs(request: &AuthorizeRequest) -> [(&'static str, &str); 6] {
    [
        ("redirect_url", &request.redirect_url),
        ("session_id", &request.session_id),
        ("cluster_id", &request.cluster_id),
        ("client_type", &request.client_type),
        ("consumer_id", &request.consumer_id),
        ("code_challenge", &request.code_challenge),
    ]
}

/// `localhost` and `127.0.0.1` are one machine but two cookie jars: where to go if the client used the other name.
pub(super) fn same_machine(base: &Url, headers: &HeaderMap) -> Option<Url> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let asked = Url::parse(&format!("{}://{host}/", base.scheme())).ok()?;
    let local = |url: &Url| redirect::loopback(&format!("http://{}:1/", url.host_str().unwrap_or_default())).is_ok();
    (asked.host() != base.host() && local(&asked) && local(base)).then(|| base.clone())
}

/// Where the request may lead: loopback for command lines, our own pages otherwise.
fn target(request: &AuthorizeRequest, base: &Url) -> Result<Url, redirect::RedirectError> {
    if request.is_cli() {
        redirect::loopback(&request.redirect_url)
    } else {
        redirect::own(&request.redirect_url, base)
    }
}

/// The command line that waits behind a page: the page's own `redirect_url`.
fn waiting(page: &Url) -> Option<Url> {
    page.query_pairs().find(|(key, _)| key == "redirect_url").and_then(|(_, value)| redirect::loopback(&value).ok())
}

/// A 302 with cookies.
pub(super) fn found(url: &Url, cookies: &[String]) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    if let Ok(value) = HeaderValue::from_str(url.as_str()) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    for cookie in cookies {
        if let Ok(value) = HeaderValue::from_str(cookie) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
    response
}

/// `GET /api/callback`.
pub async fn callback(State(app): State<Arc<App>>, headers: HeaderMap, RawQuery(raw): RawQuery) -> Response {
    let query = Query::parse(raw.as_deref());
    let mut outcome = LoginOutcome::Refused;
    let arrived = arrival(&app, &headers, &query, &mut outcome).await;
    if arrived.as_ref().is_err_and(|(status, _)| status.is_server_error()) {
        outcome = LoginOutcome::Failed;
    }
    app.metrics.login(outcome);
    match arrived {
        Ok(response) => response,
        Err((status, text)) => {
            tracing::info!(status = status.as_u16(), reason = %text, "login refused");
            plain_refusal(&headers, false, status, &text)
        }
    }
}

async fn arrival(
    app: &App,
    headers: &HeaderMap,
    query: &Query,
    outcome: &mut LoginOutcome,
) -> Result<Response, Refusal> {
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    let failed = |text: String| (StatusCode::INTERNAL_SERVER_ERROR, text);
    let now = app.now();
    let base = app.base(headers).map_err(|err| (err.status, err.to_string()))?;
    let state: LoginState = app
        .sealer
        .open(Purpose::State, query.get("state"), now)
        .map_err(|err| bad(format!("the login's state is not acceptable: {err}; start again")))?;
    let cookie = access::cookie(headers, &access::login_cookie_name(&base, &state.id));
    let half = session::rejoin(&app.sealer, &state, cookie, now)
        .map_err(|err| bad(format!("this login is not acceptable: {err}; start again")))?;
    let request = &state.request;
    let target = target(request, &base).map_err(|err| bad(err.to_string()))?;
    let forget = access::login_cookie(&base, &state.id, "", 0);

    // RFC 9207: an answer that names its issuer must name ours.
    let issuer = query.get("iss");
    if !issuer.is_empty() && issuer != app.relying.issuer() {
        return Err(bad(format!("the answer is from {issuer:?}, not from {}", app.relying.issuer())));
    }
    let error = query.get("error");
    if !error.is_empty() {
        let mut description = query.get("error_description").to_owned();
        tracing::info!(error, "the issuer refused the login");
        if error == "invalid_scope" {
            description = unknown_scope(app, &description);
        }
        *outcome = LoginOutcome::Denied;
        let client = if request.is_cli() { Some(target) } else { waiting(&target) };
        let Some(client) = client else {
            return Err(bad(if description.is_empty() { error.to_owned() } else { format!("{error}: {description}") }));
        };
        let sid = request.session_id.as_str();
        let url = redirect::with_query(
            &client,
            &[("error", error), ("error_description", &description), ("session_id", sid)],
        );
        return Ok(found(&url, &[forget]));
    }
    let code = query.get("code");
    if code.is_empty() {
        return Err(bad("missing code".to_owned()));
    }
    if !app.used.first(&state.id, now, LOGIN_LIFETIME) {
        return Err(bad("this login has been used already; start again".to_owned()));
    }
    let callback = app.callback(headers).map_err(|err| (err.status, err.to_string()))?;
    let person =
        app.relying.arrive(&callback, code.to_owned(), half.verifier, half.nonce).await.map_err(|err| match err {
            OidcError::Exchange(_) | OidcError::Token(_) | OidcError::UserInfo(_) => {
                (StatusCode::BAD_REQUEST, err.to_string())
            }
            other => failed(other.to_string()),
        })?;
    tracing::info!(issuer = %person.issuer, subject = %person.subject, client = %request.client_type, "logged in");
    let session = Session::new(person, request.session_id.clone(), request.cluster_id.clone(), now);
    if request.is_cli() {
        let url = answer_cli(app, &session, request, &target).map_err(failed)?;
        *outcome = LoginOutcome::Ok;
        return Ok(found(&url, &[forget]));
    }
    let value = seal_session(app, &session).map_err(failed)?;
    let cookie = access::session_cookie(&base, &value, app.token_expiry.as_secs());
    let mut url = target;
    for (key, value) in [("cluster_id", &request.cluster_id), ("session_id", &request.session_id)] {
        if !url.query_pairs().any(|(known, _)| known == key) {
            url = redirect::with_query(&url, &[(key, value)]);
        }
    }
    *outcome = LoginOutcome::Ok;
    Ok(found(&url, &[cookie, forget]))
}

/// Nobody can log in before the provider asks for less, so that is said with the issuer's words.
fn unknown_scope(app: &App, description: &str) -> String {
    let asked = app.relying.scopes();
    tracing::warn!(%asked, "the login service refuses one of the scopes: leave it out of --oidc-scopes (chart: oidc.scopes)");
    let start = if description.is_empty() { String::new() } else { format!("{description}; ") };
    format!(
        "{start}asked was for the scopes `{asked}`: the provider leaves out those that the login service does not know, with \
         --oidc-scopes (oidc.scopes in the chart), for instance profile,email"
    )
}

/// Cookies hold 4 KiB; beyond that only the groups that the provider knows about travel.
fn seal_session(app: &App, session: &Session) -> Result<String, String> {
    let seal = |session: &Session| {
        app.sealer.seal(Purpose::Session, session, app.now(), app.token_expiry).map_err(|err| err.to_string())
    };
    let text = seal(session)?;
    if text.len() <= 3_800 {
        return Ok(text);
    }
    let mut small = session.clone();
    small.person.groups.retain(|group| app.relying.knows_group(group));
    let text = seal(&small)?;
    if text.len() <= 3_800 { Ok(text) } else { Err("the login has too many groups for a cookie".to_owned()) }
}

/// What a command line gets: a code if it sent a challenge, the wire's token in the URL otherwise.
fn answer_cli(app: &App, session: &Session, request: &AuthorizeRequest, target: &Url) -> Result<Url, String> {
    if !request.code_challenge.is_empty() {
        let code = session::issue_code(&app.sealer, session, &request.code_challenge, Grant::Token, app.now())
            .map_err(|err| err.to_string())?;
        return Ok(redirect::with_query(target, &[("code", &code), ("session_id", &request.session_id)]));
    }
    let token =
        app.sealer.seal(Purpose::Bearer, session, app.now(), app.token_expiry).map_err(|err| err.to_string())?;
    let seconds = app.token_expiry.as_secs().to_string();
    let pairs = [
        ("access_token", token.as_str()),
        ("token_type", "Bearer"),
        ("expires_in", &seconds),
        ("cluster_id", &request.cluster_id),
    ];
    Ok(redirect::with_query(target, &pairs))
}

/// `POST /api/logout`: the session is self-contained, so forgetting the cookie ends it in this browser.
pub async fn logout(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let base = match app.base(&headers) {
        Ok(base) => base,
        Err(err) => return err.into_response(),
    };
    if !same_origin(&headers, &base) {
        return ApiError::forbidden("Sign out was asked for by another site", "the Origin header is not ours")
            .into_response();
    }
    let cookie = access::session_cookie(&base, "", 0);
    if wants(&headers) == Wants::Html {
        let mut response =
            pages::notice("Signed out", "You are signed out of this provider in this browser.").into_response();
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
        return response;
    }
    ([(header::SET_COOKIE, cookie)], "logged out").into_response()
}

/// Whether a posted form comes from our own pages: browsers say so in `Sec-Fetch-Site` or `Origin`.
#[must_use]
pub fn same_origin(headers: &HeaderMap, base: &Url) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    // `null` is what `Referrer-Policy: no-referrer` makes of a form's Origin; the form token decides then.
    text("origin").is_none_or(|origin| origin == "null" || origin == base.origin().ascii_serialization())
}
