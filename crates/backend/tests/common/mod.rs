//! What the HTTP tests share: an API server in memory, an issuer, a browser.

#![allow(dead_code, missing_docs)]

pub mod fake_api;
pub mod issuer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use backend::contracts::Issuing;
use backend::http::{App, UsedOnce, router};
use backend::identity::oidc::{OidcConfig, RelyingParty};
use backend::seal::Sealer;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use kube_bind_api::{InformerScope, Isolation};
use tower::ServiceExt as _;
use url::Url;

pub use fake_api::FakeApi;
pub use issuer::{Issuer, Twist};

pub const BASE: &str = "http://127.0.0.1:18070/";
pub const CLIENT: &str = "http://127.0.0.1:44597/callback";
pub const VERIFIER: &str = "a-verifier-of-forty-three-or-more-characters-0123456789";

/// A backend without controllers, its issuer and its API server.
pub struct Set {
    pub api: FakeApi,
    pub issuer: Issuer,
    pub router: Router,
}

pub async fn set() -> Set {
    set_with(OidcConfig::default()).await
}

/// As [`set`], with what is told of the issuer beside its URL and our registration.
pub async fn set_with(oidc: OidcConfig) -> Set {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let api = FakeApi::with_offering();
    let issuer = Issuer::start().await;
    let app = App {
        api: api.client(),
        issuing: Issuing {
            pretty_name: "Widget Inc.".into(),
            namespace_prefix: "cluster-".into(),
            server: "https://api.provider.example:6443".into(),
            ca: String::new(),
            tls_server_name: None,
            informer_scope: InformerScope::Namespaced,
            isolation: Isolation::Prefixed,
            user: "system:serviceaccount:kube-bind:backend".into(),
        },
        relying: RelyingParty::new(OidcConfig {
            issuer_url: issuer.url.clone(),
            client_id: "backend".into(),
            client_secret: Some("secret".into()),
            ..oidc
        })
        .unwrap(),
        sealer: Sealer::new(&[42; 32]).unwrap(),
        base: Some(Url::parse(BASE).unwrap()),
        tls: false,
        trust_forwarded: false,
        callback: None,
        token_expiry: Duration::from_secs(3600),
        konnector_image: "registry.example/konnector".into(),
        version: "v0.1.0".into(),
        clock: jiff::Timestamp::now,
        used: UsedOnce::default(),
        metrics: Arc::default(),
    };
    Set { api, issuer, router: router(Arc::new(app)) }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn location(&self) -> Url {
        assert_eq!(self.status, StatusCode::FOUND, "no redirect: {}", self.body);
        let text = self.headers[header::LOCATION].to_str().unwrap();
        Url::parse(BASE).unwrap().join(text).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {}", self.body))
    }
}

pub fn param(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// A browser with its cookies.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    pub async fn send(
        &mut self,
        router: &Router,
        method: Method,
        url: &str,
        extra: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let url = Url::parse(BASE).unwrap().join(url).unwrap();
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1:18070")
            .header(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8");
        if !self.cookies.is_empty() {
            let line: Vec<String> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
            request = request.header(header::COOKIE, line.join("; "));
        }
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let answer =
            read(router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()).await;
        for line in answer.headers.get_all(header::SET_COOKIE) {
            let line = line.to_str().unwrap();
            assert!(line.contains("HttpOnly") && line.contains("SameSite=Lax") && line.contains("Path=/"), "{line}");
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub async fn get(&mut self, router: &Router, url: &str) -> Answer {
        self.send(router, Method::GET, url, &[], "").await
    }

    /// Follows the way to the issuer, logs in there, and comes back; returns the callback's answer.
    pub async fn log_in(&mut self, set: &Set, start: &str, subject: &str) -> Answer {
        let callback = self.reach_callback(set, start, subject, Twist::None).await;
        self.get(&set.router, callback.as_str()).await
    }

    /// As [`Browser::log_in`], but stops before the callback and returns its URL.
    pub async fn reach_callback(&mut self, set: &Set, start: &str, subject: &str, twist: Twist) -> Url {
        let there = self.reach_issuer(set, start).await;
        set.issuer.consent(&there, subject, twist)
    }

    /// Follows the way to the issuer; returns the authorization URL.
    pub async fn reach_issuer(&mut self, set: &Set, start: &str) -> Url {
        let mut next = Url::parse(BASE).unwrap().join(start).unwrap();
        while next.origin() == Url::parse(BASE).unwrap().origin() {
            next = self.get(&set.router, next.as_str()).await.location();
        }
        next
    }
}

/// A program: no cookies, no preference.
pub async fn call(router: &Router, method: Method, path: &str, extra: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:18070");
    for (name, value) in extra {
        request = request.header(*name, *value);
    }
    read(router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()).await
}

async fn read(response: axum::response::Response) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

/// A token as the Go release's command line gets it.
pub async fn wire_token(set: &Set, subject: &str) -> String {
    let start = format!("/api/authorize?client_type=cli&redirect_url={}&session_id=S1", encode(CLIENT));
    param(&Browser::default().log_in(set, &start, subject).await.location(), "access_token")
}

pub fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The page that our command line opens.
pub fn bind_url(path: &str, consumer: &str, extra: &str) -> String {
    format!(
        "{path}?redirect_url={}&session_id=S1&consumer_id={consumer}&cluster_id=&client_type=ui{extra}",
        encode(CLIENT)
    )
}

/// The value of a hidden field.
pub fn field(page: &str, name: &str) -> String {
    let from =
        page.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no field {name}: {page}"));
    from.split('"').next().unwrap().to_owned()
}

/// Where the page's bind form posts to.
pub fn action(page: &str) -> String {
    let form = page.split("<form method=\"post\" action=\"").find(|part| part.starts_with("/exports")).unwrap();
    form.split('"').next().unwrap().replace("&amp;", "&").replace("&#38;", "&")
}
