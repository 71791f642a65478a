//! The development issuer over HTTP: what a browser and a backend see, and what they are refused.

#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube_bind::issuer::{Client, Issuer, Options, Person, SigningKey, StartError};
use reqwest::redirect::Policy;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use url::Url;

const CALLBACK: &str = "http://127.0.0.1:9/api/callback";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-anybody-0123";

struct Scene {
    issuer: String,
    browser: reqwest::Client,
    cookie: Option<String>,
}

/// A page's form: its hidden fields.
fn hidden(page: &str) -> HashMap<String, String> {
    page.split("<input type=\"hidden\"")
        .skip(1)
        .map(|rest| {
            let attribute =
                |name: &str| rest.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
            (attribute("name"), attribute("value"))
        })
        .collect()
}

impl Scene {
    async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let person = Person {
            subject: "sub-1".into(),
            username: "ada".into(),
            password: "right".to_owned().into(),
            email: "ada@example.test".into(),
            name: "Ada <b>".into(),
            groups: vec!["developers".into()],
        };
        let client = Client {
            id: "backend".into(),
            secret: "s3cr:et".to_owned().into(),
            name: "MangoDB Inc.".into(),
            redirect_uris: vec![CALLBACK.into()],
        };
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            key: SigningKey::generate().unwrap(),
            people: vec![person],
            clients: vec![client],
        };
        let issuer = Issuer::start(options, CancellationToken::new()).await.unwrap();
        let browser = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        Self { issuer: issuer.url().to_owned(), browser, cookie: None }
    }

    fn authorize_url(&self, state: &str) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let mut url = Url::parse(&format!("{}/authorize", self.issuer)).unwrap();
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", "backend"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid email profile"),
            ("state", state),
            ("nonce", "n-1"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        url
    }

    async fn send(&mut self, mut request: reqwest::RequestBuilder) -> reqwest::Response {
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie.clone());
        }
        let response = request.send().await.unwrap();
        if let Some(set) = response.headers().get("set-cookie") {
            self.cookie = Some(set.to_str().unwrap().split(';').next().unwrap().to_owned());
        }
        response
    }

    async fn get(&mut self, url: Url) -> reqwest::Response {
        let request = self.browser.get(url);
        self.send(request).await
    }

    async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> reqwest::Response {
        let request = self.browser.post(format!("{}{path}", self.issuer)).form(form);
        self.send(request).await
    }

    /// Logs in up to the consent page; gives its interaction.
    async fn login(&mut self, state: &str) -> String {
        let page = self.get(self.authorize_url(state)).await.text().await.unwrap();
        let interaction = hidden(&page)["interaction"].clone();
        let page =
            self.post("/login", &[("interaction", &interaction), ("username", "ada"), ("password", "right")]).await;
        assert_eq!(page.status(), 200);
        let text = page.text().await.unwrap();
        assert!(text.contains("Your email address<span>ada@example.test"), "{text}");
        assert!(text.contains("Your profile"), "{text}");
        assert!(!text.contains("Ada <b>"), "what people are called is escaped: {text}");
        hidden(&text)["interaction"].clone()
    }

    async fn consent(&mut self, interaction: &str, decision: &str) -> HashMap<String, String> {
        let response = self.post("/consent", &[("interaction", interaction), ("decision", decision)]).await;
        assert_eq!(response.status(), 303);
        let location = Url::parse(response.headers()["location"].to_str().unwrap()).unwrap();
        assert!(location.as_str().starts_with(CALLBACK));
        location.query_pairs().into_owned().collect()
    }

    async fn token(&self, code: &str, verifier: &str, secret: &str, callback: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", callback),
        ];
        let request =
            self.browser.post(format!("{}/token", self.issuer)).basic_auth("backend", Some(secret)).form(&form);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

#[tokio::test]
async fn a_login_gives_a_signed_token_and_userinfo() {
    let mut scene = Scene::new().await;
    let interaction = scene.login("state-1").await;
    let answer = scene.consent(&interaction, "allow").await;
    assert_eq!(answer["state"], "state-1");
    let (status, tokens) = scene.token(&answer["code"], VERIFIER, "s3cr%3Aet", CALLBACK).await;
    assert_eq!(status, 200, "{tokens}");

    let document: Value = scene
        .get(Url::parse(&format!("{}/.well-known/openid-configuration", scene.issuer)).unwrap())
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(document["issuer"], scene.issuer);
    let keys: jsonwebtoken::jwk::JwkSet =
        scene.get(Url::parse(document["jwks_uri"].as_str().unwrap()).unwrap()).await.json().await.unwrap();
    let id_token = tokens["id_token"].as_str().unwrap();
    let header = jsonwebtoken::decode_header(id_token).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    rules.set_audience(&["backend"]);
    rules.set_issuer(&[&scene.issuer]);
    let claims = jsonwebtoken::decode::<Value>(id_token, &key, &rules).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["nonce"]), (&"sub-1".into(), &"n-1".into()));
    assert_eq!(claims["email"], "ada@example.test");
    assert!(claims.get("groups").is_none(), "groups were not asked for");

    let userinfo = scene.browser.get(format!("{}/userinfo", scene.issuer));
    let answer: Value =
        userinfo.bearer_auth(tokens["access_token"].as_str().unwrap()).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["preferred_username"], "ada");
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_guessing_ends() {
    let mut scene = Scene::new().await;
    let page = scene.get(scene.authorize_url("s")).await.text().await.unwrap();
    let interaction = hidden(&page)["interaction"].clone();
    for password in ["wrong", "", "righ", "right "] {
        let response =
            scene.post("/login", &[("interaction", &interaction), ("username", "ada"), ("password", password)]).await;
        assert_eq!(response.status(), 401);
        assert!(response.text().await.unwrap().contains("Wrong user name or password"));
    }
    let fifth = scene.post("/login", &[("interaction", &interaction), ("username", "nobody"), ("password", "")]).await;
    assert_eq!(fifth.status(), 400);
    let right =
        scene.post("/login", &[("interaction", &interaction), ("username", "ada"), ("password", "right")]).await;
    assert_eq!(right.status(), 400, "the login has to be started anew");
}

#[tokio::test]
async fn a_used_code_is_refused_and_ends_the_token_made_from_it() {
    let mut scene = Scene::new().await;
    let interaction = scene.login("s").await;
    let code = scene.consent(&interaction, "allow").await["code"].clone();
    let (_, tokens) = scene.token(&code, VERIFIER, "s3cr%3Aet", CALLBACK).await;
    let (status, answer) = scene.token(&code, VERIFIER, "s3cr%3Aet", CALLBACK).await;
    assert_eq!((status, &answer["error"]), (400, &"invalid_grant".into()));
    let userinfo =
        scene.browser.get(format!("{}/userinfo", scene.issuer)).bearer_auth(tokens["access_token"].as_str().unwrap());
    assert_eq!(userinfo.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_foreign_redirect_uri_is_refused_without_a_redirect() {
    let mut scene = Scene::new().await;
    for foreign in
        ["https://evil.example/callback", "http://127.0.0.1:9/api/callback/../x", "http://127.0.0.1:9/api/callback?x"]
    {
        let url = scene.authorize_url("s").as_str().replace(&urlencoded(CALLBACK), &urlencoded(foreign));
        let response = scene.get(Url::parse(&url).unwrap()).await;
        assert_eq!(response.status(), 400);
        assert!(response.headers().get("location").is_none());
    }
    // At the token endpoint too.
    let interaction = scene.login("s").await;
    let code = scene.consent(&interaction, "allow").await["code"].clone();
    let (status, _) = scene.token(&code, VERIFIER, "s3cr%3Aet", "https://evil.example/callback").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_replayed_state_is_refused() {
    let mut scene = Scene::new().await;
    let interaction = scene.login("s").await;
    scene.consent(&interaction, "allow").await;
    let again = scene.post("/consent", &[("interaction", &interaction), ("decision", "allow")]).await;
    assert_eq!(again.status(), 400);
    let url = scene.authorize_url("s");
    let anew = scene.get(url).await;
    assert_eq!(anew.status(), 400);
    assert!(anew.text().await.unwrap().contains("finished already"));
}

#[tokio::test]
async fn a_wrong_verifier_a_wrong_secret_and_plain_pkce_are_refused() {
    let mut scene = Scene::new().await;
    let interaction = scene.login("s").await;
    let code = scene.consent(&interaction, "allow").await["code"].clone();
    assert_eq!(scene.token(&code, VERIFIER, "guess", CALLBACK).await.0, 401);
    let (status, answer) = scene.token(&code, "another-verifier", "s3cr%3Aet", CALLBACK).await;
    assert_eq!((status, &answer["error"]), (400, &"invalid_grant".into()));
    assert_eq!(scene.token(&code, VERIFIER, "s3cr%3Aet", CALLBACK).await.0, 400, "one try only");
    let plain = scene.authorize_url("t").as_str().replace("S256", "plain");
    let response = scene.get(Url::parse(&plain).unwrap()).await;
    assert!(response.headers()["location"].to_str().unwrap().contains("error=invalid_request"));
}

#[tokio::test]
async fn cancel_goes_back_with_access_denied() {
    let mut scene = Scene::new().await;
    let interaction = scene.login("s").await;
    let answer = scene.consent(&interaction, "deny").await;
    assert_eq!(answer["error"], "access_denied");
    assert!(!answer.contains_key("code"));
}

#[tokio::test]
async fn a_login_begun_in_another_browser_is_refused() {
    let mut scene = Scene::new().await;
    let interaction = scene.login("s").await;
    let mut other = Scene { issuer: scene.issuer.clone(), browser: scene.browser.clone(), cookie: None };
    assert_eq!(other.post("/consent", &[("interaction", &interaction), ("decision", "allow")]).await.status(), 400);
    other.cookie = Some("kube-bind-dev-login=planted".into());
    let page = other.get(other.authorize_url("t")).await.text().await.unwrap();
    let interaction = hidden(&page)["interaction"].clone();
    let response =
        other.post("/login", &[("interaction", &interaction), ("username", "ada"), ("password", "right")]).await;
    assert_eq!(response.status(), 200);
    assert_ne!(other.cookie.as_deref(), Some("kube-bind-dev-login=planted"), "the name changes with the login");
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let options = Options {
        listen: "0.0.0.0:0".parse().unwrap(),
        key: SigningKey::generate().unwrap(),
        people: vec![],
        clients: vec![],
    };
    assert!(matches!(Issuer::start(options, CancellationToken::new()).await, Err(StartError::NotLoopback(_))));
}

fn urlencoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
