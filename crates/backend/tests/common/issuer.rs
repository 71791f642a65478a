//! An OpenID Connect issuer that says what a test tells it to.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::Url;

use super::param;

/// What is wrong with the id_token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    None,
    ForeignAudience,
    ForeignIssuer,
    WrongNonce,
    NoNonce,
    Expired,
    OtherKey,
    Unsigned,
    Missing,
    /// Nothing is wrong: groups stand at the UserInfo endpoint only.
    GroupsElsewhere,
    /// The UserInfo endpoint speaks of somebody else.
    ForeignUserInfo,
}

struct Login {
    subject: String,
    nonce: String,
    challenge: String,
    twist: Twist,
}

#[derive(Default)]
struct Inner {
    codes: HashMap<String, Login>,
    count: u32,
}

struct Shared {
    url: String,
    key: EncodingKey,
    other: EncodingKey,
    jwk: Value,
    inner: Mutex<Inner>,
}

#[derive(Clone)]
pub struct Issuer {
    pub url: String,
    shared: Arc<Shared>,
}

fn key() -> EncodingKey {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let text = STANDARD.encode(pair.as_der().unwrap().as_ref());
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
}

impl Issuer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key_one = key();
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key_one, Algorithm::RS256).unwrap()).unwrap();
        jwk["kid"] = json!("k1");
        jwk["use"] = json!("sig");
        jwk["alg"] = json!("RS256");
        let shared = Arc::new(Shared { url: url.clone(), key: key_one, other: key(), jwk, inner: Mutex::default() });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// An issuer that knows only these scopes refuses what asks for another, before anybody logs in (RFC 6749, 4.1.2.1);
    /// returns where it sends the browser then.
    pub fn refuse_scopes(&self, authorization: &Url, known: &[&str]) -> Option<Url> {
        let asked = param(authorization, "scope");
        let foreign = asked.split(' ').find(|scope| !known.contains(scope))?;
        let mut back = Url::parse(&param(authorization, "redirect_uri")).unwrap();
        back.query_pairs_mut()
            .append_pair("error", "invalid_scope")
            .append_pair("error_description", &format!("unknown scope {foreign}"))
            .append_pair("state", &param(authorization, "state"));
        Some(back)
    }

    /// The person logs in and agrees; returns where the issuer sends the browser.
    pub fn consent(&self, authorization: &Url, subject: &str, twist: Twist) -> Url {
        assert!(authorization.as_str().starts_with(&format!("{}/authorize?", self.url)), "{authorization}");
        assert_eq!(param(authorization, "response_type"), "code");
        assert_eq!(param(authorization, "client_id"), "backend");
        assert_eq!(param(authorization, "code_challenge_method"), "S256");
        assert!(param(authorization, "scope").split(' ').any(|scope| scope == "openid"));
        let mut inner = self.shared.inner.lock();
        inner.count += 1;
        let code = format!("code-{}", inner.count);
        let login = Login {
            subject: subject.to_owned(),
            nonce: param(authorization, "nonce"),
            challenge: param(authorization, "code_challenge"),
            twist,
        };
        assert!(!login.nonce.is_empty() && !login.challenge.is_empty());
        inner.codes.insert(code.clone(), login);
        let mut back = Url::parse(&param(authorization, "redirect_uri")).unwrap();
        back.query_pairs_mut().append_pair("code", &code).append_pair("state", &param(authorization, "state"));
        back
    }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let url = &shared.url;
    Json(json!({
        "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"), "userinfo_endpoint": format!("{url}/userinfo"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }))
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({"keys": [shared.jwk]}))
}

async fn userinfo(headers: http::HeaderMap) -> (StatusCode, Json<Value>) {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    match token.strip_prefix("Bearer for-") {
        Some(subject) => (StatusCode::OK, Json(json!({"sub": subject, "groups": ["engineering"]}))),
        None => (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_token"}))),
    }
}

async fn token(
    State(shared): State<Arc<Shared>>,
    Form(form): Form<HashMap<String, String>>,
) -> (StatusCode, Json<Value>) {
    let text = |name: &str| form.get(name).cloned().unwrap_or_default();
    let refused = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error})));
    let Some(login) = shared.inner.lock().codes.remove(&text("code")) else { return refused("invalid_grant") };
    if backend::seal::s256(&text("code_verifier")) != login.challenge {
        return refused("invalid_grant");
    }
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": shared.url, "aud": "backend", "sub": login.subject, "nonce": login.nonce, "iat": now, "exp": now + 300,
        "preferred_username": login.subject, "groups": ["engineering"],
    });
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some("k1".to_owned());
    let mut key = &shared.key;
    match login.twist {
        Twist::None | Twist::Missing | Twist::Unsigned => {}
        Twist::GroupsElsewhere | Twist::ForeignUserInfo => {
            claims.as_object_mut().unwrap().remove("groups");
        }
        Twist::ForeignAudience => claims["aud"] = json!("somebody-else"),
        Twist::ForeignIssuer => claims["iss"] = json!("https://evil.example"),
        Twist::WrongNonce => claims["nonce"] = json!("another"),
        Twist::NoNonce => {
            claims.as_object_mut().unwrap().remove("nonce");
        }
        Twist::Expired => {
            claims["iat"] = json!(now - 7200);
            claims["exp"] = json!(now - 3600);
        }
        Twist::OtherKey => key = &shared.other,
    }
    let mut id_token = jsonwebtoken::encode(&header, &claims, key).unwrap();
    if login.twist == Twist::Unsigned {
        let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        id_token = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims));
    }
    let about = if login.twist == Twist::ForeignUserInfo { "mallory" } else { &login.subject };
    let mut answer = json!({"access_token": format!("for-{about}"), "token_type": "Bearer", "expires_in": 300, "id_token": id_token});
    if login.twist == Twist::Missing {
        answer.as_object_mut().unwrap().remove("id_token");
    }
    (StatusCode::OK, Json(answer))
}
