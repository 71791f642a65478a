//! The issuer's routes and pages: forms and JSON in, pages, redirects and JSON out; all decisions are `flow`'s.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, Query, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::flow::{AuthorizeQuery, Flow, Step, TokenError, TokenForm};

const COOKIE_NAME: &str = "kube-bind-dev-login";

type Shared = State<Arc<Mutex<Flow>>>;

pub(super) fn router(flow: Arc<Mutex<Flow>>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(async |State(flow): Shared| Json(flow.lock().discovery())))
        .route("/jwks.json", get(async |State(flow): Shared| Json(flow.lock().jwks())))
        .route("/authorize", get(authorize))
        .route("/login", post(login))
        .route("/consent", post(consent))
        .route("/token", post(token))
        .route("/userinfo", get(userinfo))
        .layer(middleware::map_response(async |mut response: Response| {
            let headers = response.headers_mut();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
            headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
            headers.insert(
                "content-security-policy",
                HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
            );
            response
        }))
        .with_state(flow)
}

async fn authorize(State(flow): Shared, headers: HeaderMap, Query(query): Query<AuthorizeQuery>) -> Response {
    let mut flow = flow.lock();
    match browser(&headers) {
        Some(browser) => page(flow.authorize(query, &browser), None),
        None => {
            let browser = flow.new_browser();
            page(flow.authorize(query, &browser), Some(browser))
        }
    }
}

#[derive(Deserialize)]
struct LoginForm {
    interaction: String,
    username: String,
    password: String,
}

async fn login(State(flow): Shared, headers: HeaderMap, Form(form): Form<LoginForm>) -> Response {
    let browser = browser(&headers).unwrap_or_default();
    let (step, renewed) =
        flow.lock().login(&form.interaction, &browser, form.username.trim(), &SecretString::from(form.password));
    page(step, renewed)
}

#[derive(Deserialize)]
struct ConsentForm {
    interaction: String,
    #[serde(default)]
    decision: String,
}

async fn consent(State(flow): Shared, headers: HeaderMap, Form(form): Form<ConsentForm>) -> Response {
    let browser = browser(&headers).unwrap_or_default();
    page(flow.lock().consent(&form.interaction, &browser, form.decision == "allow"), None)
}

async fn token(State(flow): Shared, headers: HeaderMap, Form(mut form): Form<TokenForm>) -> Response {
    if let Some((id, secret)) = basic(&headers) {
        (form.client_id, form.client_secret) = (id, secret);
    }
    match flow.lock().token(&form) {
        Ok(answer) => Json(answer).into_response(),
        Err(error @ TokenError("invalid_client", _)) => {
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Basic realm=\"token\"")], refusal(&error)).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, refusal(&error)).into_response(),
    }
}

async fn userinfo(State(flow): Shared, headers: HeaderMap) -> Response {
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    match flow.lock().userinfo(given.unwrap_or_default()) {
        Ok(claims) => Json(claims).into_response(),
        Err(error) => {
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")], refusal(&error))
                .into_response()
        }
    }
}

fn refusal(TokenError(error, words): &TokenError) -> Json<serde_json::Value> {
    Json(json!({ "error": error, "error_description": words }))
}

/// Client id and secret from HTTP Basic, each percent-encoded (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    // The form decoder does the percent decoding.
    let decoded =
        |part: &str| url::form_urlencoded::parse(format!("v={part}").as_bytes()).next().map(|(_, v)| v.into_owned());
    Some((decoded(id)?, decoded(secret)?))
}

fn browser(headers: &HeaderMap) -> Option<String> {
    let cookies =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    cookies
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, v)| v.to_owned())
}

#[derive(Template)]
#[template(path = "issuer/login.html")]
struct LoginPage {
    application: String,
    interaction: String,
    refused: bool,
}

#[derive(Template)]
#[template(path = "issuer/consent.html")]
struct ConsentPage {
    application: String,
    person: String,
    interaction: String,
    reads: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "issuer/refused.html")]
struct RefusedPage {
    message: &'static str,
}

/// The page or redirect for `step`, and the browser's (new) name as a cookie.
fn page(step: Step, browser: Option<String>) -> Response {
    let (status, html) = match step {
        Step::Redirect(location) => {
            let Ok(location) = HeaderValue::try_from(location) else {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            };
            return (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response();
        }
        Step::Login { interaction, application, refused } => {
            let status = if refused { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
            (status, LoginPage { application, interaction, refused }.render())
        }
        Step::Consent { interaction, application, person, reads } => {
            (StatusCode::OK, ConsentPage { application, person, interaction, reads }.render())
        }
        Step::Refuse(message) => (StatusCode::BAD_REQUEST, RefusedPage { message }.render()),
    };
    let mut response = match html {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page of the issuer cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    };
    if let Some(cookie) =
        browser.and_then(|b| HeaderValue::try_from(format!("{COOKIE_NAME}={b}; Path=/; HttpOnly; SameSite=Lax")).ok())
    {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}
