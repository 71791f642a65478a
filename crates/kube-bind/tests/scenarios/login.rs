//! Negative test 7: logins. What a stranger can do with the addresses, cookies, codes and forms of somebody's login, against
//! the backend as the program that it is, over HTTP, with the API server of the pairing behind it. Each try is refused, and
//! nothing is written for it on either side; at the end the same steps of the right person bind.
//!
//! An id_token for another audience, from another issuer, expired or not signed comes only from an issuer that lies; that
//! is in `crates/backend/tests/login.rs`. Here the issuer is honest, and what passes between it and the backend is twisted.

use std::collections::BTreeMap;

use backend::seal::s256;
use kube_bind::browser::Page;
use kube_bind::issuer::Client;
use kube_bind::stage::Login;
use reqwest::header::{ACCEPT, COOKIE, LOCATION, SET_COOKIE};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testkit::daemon::{self, Daemon};
use testkit::service::Service;
use testkit::site::{bindings, core, ours};
use testkit::world::World;
use url::Url;

/// Where a command line would wait.
const WAITS: &str = "http://127.0.0.1:44597/callback";
const VERIFIER: &str = "a-verifier-of-forty-three-or-more-characters-0123456789";
/// What belongs to a login in progress, and what to a person who is logged in.
const HALF: &str = "kube-bind-login-";
const SESSION: &str = "kube-bind-";
/// The issuer's own.
const ISSUERS: &str = "kube-bind-dev-login";

/// An answer.
struct Answer {
    page: Page,
    location: Option<Url>,
    /// Names of the cookies that came with it.
    cookies: Vec<String>,
}

impl Answer {
    fn location(&self) -> &Url {
        self.location.as_ref().unwrap_or_else(|| panic!("{} is no redirect: {}", self.page.status, self.page.text()))
    }

    /// It says no, leads nowhere and logs nobody in.
    fn refused(&self, status: u16, what: &str) {
        assert_eq!(self.page.status, status, "{what}: {}", self.page.text());
        assert!(self.location.is_none(), "{what}: it leads to {:?}", self.location);
        assert!(!self.cookies.iter().any(|name| is_session(name)), "{what}: {:?}", self.cookies);
    }
}

fn is_session(name: &str) -> bool {
    name.starts_with(SESSION) && !name.starts_with(HALF) && name != ISSUERS
}

/// A browser that goes one step at a time and keeps the cookies that it gets, or that somebody puts there.
#[derive(Clone)]
struct Browser {
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).tls_certs_only([]).no_proxy();
        Self { http: http.build().unwrap(), cookies: BTreeMap::new() }
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request =
            request.header(ACCEPT, "text/html,application/xhtml+xml;q=0.9").header(COOKIE, cookies.join("; "));
        let answer = request.send().await.unwrap();
        let url = answer.url().clone();
        let mut names = Vec::new();
        for line in answer.headers().get_all(SET_COOKIE) {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                names.push(name.to_owned());
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let location = answer.headers().get(LOCATION).map(|text| url.join(text.to_str().unwrap()).unwrap());
        let status = answer.status().as_u16();
        Answer { page: Page { url, status, html: answer.text().await.unwrap() }, location, cookies: names }
    }

    async fn get(&mut self, url: &str) -> Answer {
        self.send(self.http.get(url)).await
    }

    async fn post(&mut self, url: &str, fields: &[(String, String)], headers: &[(&'static str, &str)]) -> Answer {
        let request = headers.iter().fold(self.http.post(url), |request, (name, value)| request.header(*name, *value));
        self.send(request.form(fields)).await
    }

    /// Presses a button.
    async fn press(&mut self, page: &Page, button: &str, fill: &[(&str, &str)]) -> Answer {
        let form = page.form_with(button).unwrap();
        let mut fields = form.fields.clone();
        for (field, value) in &mut fields {
            if let Some((_, given)) = fill.iter().find(|(name, _)| name == field) {
                (*given).clone_into(value);
            }
        }
        fields.extend(form.buttons.iter().find(|(text, _)| text == button).and_then(|(_, sent)| sent.clone()));
        self.post(page.url.join(&form.action).unwrap().as_str(), &fields, &[]).await
    }

    /// Goes from a page of the backend to where it sends people who are not logged in: the issuer.
    async fn leave(&mut self, start: &str) -> Url {
        let start = Url::parse(start).unwrap();
        let mut next = start.clone();
        while next.origin() == start.origin() {
            next = self.get(next.as_str()).await.location().clone();
        }
        next
    }

    /// Logs in at the issuer and consents; gives where it sends the browser then.
    async fn consent(&mut self, issuer: &Url, login: &Login) -> Url {
        let mut answer = self.get(issuer.as_str()).await;
        if answer.page.form_with("Log in").is_ok() {
            let fill = [("username", login.username.as_str()), ("password", login.password.expose_secret())];
            answer = self.press(&answer.page, "Log in", &fill).await;
        }
        self.press(&answer.page, "Allow", &[]).await.location().clone()
    }

    /// Both; stops before the callback.
    async fn reach_callback(&mut self, start: &str, login: &Login) -> Url {
        let issuer = self.leave(start).await;
        self.consent(&issuer, login).await
    }

    /// All of it.
    async fn log_in(&mut self, start: &str, login: &Login) {
        let callback = self.reach_callback(start, login).await;
        let answer = self.get(callback.as_str()).await;
        assert!(answer.cookies.iter().any(|name| is_session(name)), "{}: {}", answer.page.status, answer.page.text());
    }

    fn cookie(&self, wanted: impl Fn(&str) -> bool) -> (String, String) {
        let found = self.cookies.iter().find(|(name, _)| wanted(name));
        found.map(|(name, value)| (name.clone(), value.clone())).expect("the browser has this cookie")
    }
}

/// The URL with another value of a parameter, or without it.
fn with(url: &Url, name: &str, value: Option<&str>) -> Url {
    let kept: Vec<(String, String)> =
        url.query_pairs().filter(|(key, _)| key != name).map(|(key, value)| (key.into(), value.into())).collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(value.map(|value| (name, value)));
    url
}

fn param(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// A world whose backend is the program.
struct Set {
    world: World,
    backend: Daemon,
    server: String,
    before: Vec<String>,
}

impl Set {
    async fn new(seed: u64) -> Self {
        let mut world = World::new(super::PROGRAM, Service::new(seed)).await;
        world.provider().stop_backend().await;
        let provider = &world.providers[0];
        let backend = daemon::backend(provider, std::path::Path::new(super::PROGRAM), world.folder());
        daemon::answers(provider).await;
        let server = provider.server.clone();
        let before = written(&world).await;
        Self { world, backend, server, before }
    }

    /// A page as our command line opens it.
    fn page(&self, path: &str) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("redirect_url", WAITS), ("session_id", "S1"), ("consumer_id", "uid-1"), ("cluster_id", "")])
            .extend_pairs([("client_type", "ui"), ("code_challenge", &s256(VERIFIER))])
            .finish();
        format!("{}{path}?{query}", self.server)
    }

    async fn untouched(&self, what: &str) {
        assert_eq!(written(&self.world).await, self.before, "{what}: something was written");
    }

    /// Ends everything; none of `secrets` may be in the backend's log.
    async fn end(self, secrets: &[&str]) {
        self.backend.terminate().await;
        let log = std::fs::read_to_string(self.world.folder().join("backend.log")).unwrap();
        assert!(log.contains("logged in"), "{log}");
        for secret in secrets {
            assert!(secret.len() > 20 && !log.contains(secret), "a credential is in the backend's log");
        }
        self.world.end().await;
    }
}

/// What a bind makes, by name.
async fn written(world: &World) -> Vec<String> {
    let mut names = Vec::new();
    for kind in [
        core("namespaces"),
        core("secrets"),
        ours("clusterbindings", "ClusterBinding"),
        ours("apiserviceexportrequests", "APIServiceExportRequest"),
        ours("apiserviceexports", "APIServiceExport"),
    ] {
        let there = world.providers[0].site.names(&kind).await;
        names.extend(there.into_iter().map(|name| format!("provider: {} {name}", kind.plural)));
    }
    for kind in [bindings(), core("secrets")] {
        let here = world.consumers[0].site.names(&kind).await;
        names.extend(here.into_iter().map(|name| format!("consumer: {} {name}", kind.plural)));
    }
    names
}

#[tokio::test]
async fn a_login_works_once_for_the_browser_that_began_it() {
    let set = Set::new(71).await;
    let (ada, bob) = (&set.world.logins[0], &set.world.logins[1]);
    let page = set.page("/kubernetes");
    let mut victim = Browser::new();
    let callback = victim.reach_callback(&page, ada).await;
    let mut other = Browser::new();
    let theirs = other.reach_callback(&page, bob).await;

    // Another browser: without a login, with one of its own, with one of its own under the victim's name.
    Browser::new().get(callback.as_str()).await.refused(400, "a callback in a browser that began nothing");
    other.get(callback.as_str()).await.refused(400, "a callback in a browser that began something else");
    let (name, _) = victim.cookie(|name| name.starts_with(HALF));
    let (_, half) = other.cookie(|name| name.starts_with(HALF));
    let mut renamed = other.clone();
    renamed.cookies.insert(name, half);
    renamed.get(callback.as_str()).await.refused(400, "a callback with the half of another login");

    // A state that is not ours, or not this login's.
    for (state, what) in [
        (Some(format!("A{}", param(&callback, "state"))), "a forged state"),
        (Some("e30".to_owned()), "a made-up state"),
        (Some(param(&theirs, "state")), "another login's state"),
        (None, "no state"),
    ] {
        let url = with(&callback, "state", state.as_deref());
        victim.get(url.as_str()).await.refused(400, what);
    }
    let mixed = with(&callback, "iss", Some("https://issuer.example"));
    victim.get(mixed.as_str()).await.refused(400, "an answer of another issuer");
    set.untouched("state").await;

    // The right one, and the same again: in this browser, and in one with the cookies of before.
    let mut before = victim.clone();
    let fine = victim.get(callback.as_str()).await;
    assert_eq!(fine.location().path(), "/kubernetes");
    let (_, session) = victim.cookie(is_session);
    victim.get(callback.as_str()).await.refused(400, "a callback that is replayed");
    before.get(callback.as_str()).await.refused(400, "a callback that is replayed with its cookies");
    set.untouched("replay").await;
    set.end(&[&session, &param(&callback, "code"), &param(&callback, "state")]).await;
}

#[tokio::test]
async fn what_the_issuer_answers_belongs_to_one_login() {
    let set = Set::new(72).await;
    let ada = &set.world.logins[0];
    let page = set.page("/kubernetes");
    let mut victim = Browser::new();
    let issuer = victim.leave(&page).await;
    assert_eq!(
        (param(&issuer, "code_challenge").len(), param(&issuer, "code_challenge_method").as_str()),
        (43, "S256")
    );
    assert!(param(&issuer, "nonce").len() > 20 && param(&issuer, "state").len() > 20, "{issuer}");

    // On the way to the issuer: another challenge, another nonce, none.
    let stranger = s256("the verifier of somebody else, who waits for the code");
    for (name, value, what) in [
        ("code_challenge", Some(stranger.as_str()), "a code for another verifier"),
        ("nonce", Some("another nonce"), "an id_token with another nonce"),
        ("nonce", None, "an id_token without a nonce"),
    ] {
        let issuer = with(&victim.leave(&page).await, name, value);
        let callback = victim.consent(&issuer, ada).await;
        victim.get(callback.as_str()).await.refused(400, what);
    }
    // On the way back: the code of another login of the same person, and one that was given to another application.
    let mut other = Browser::new();
    let code = param(&other.reach_callback(&page, ada).await, "code");
    let callback = victim.reach_callback(&page, ada).await;
    victim.get(with(&callback, "code", Some(&code)).as_str()).await.refused(400, "a code of another login");
    set.world.issuer().register(Client {
        id: "elsewhere".to_owned(),
        secret: "the secret of elsewhere".to_owned().into(),
        name: "Elsewhere".to_owned(),
        redirect_uris: vec![WAITS.to_owned()],
    });
    let issuer = victim.leave(&page).await;
    let elsewhere = with(&with(&issuer, "client_id", Some("elsewhere")), "redirect_uri", Some(WAITS));
    let answer = victim.consent(&elsewhere, ada).await;
    assert!(answer.as_str().starts_with(WAITS) && !param(&answer, "code").is_empty(), "{answer}");
    let callback = format!("{}/api/callback?{}", set.server, answer.query().unwrap());
    victim.get(&callback).await.refused(400, "a code for another audience");
    set.untouched("nonce and PKCE").await;

    // Nowhere but to a page of the backend or to the machine of the browser, logged in or not.
    let mut known = Browser::new();
    known.log_in(&page, ada).await;
    for (client, target) in [
        ("cli", "https://evil.example/callback"),
        ("cli", "http://127.0.0.1.evil.example:80/callback"),
        ("cli", "http://user@127.0.0.1:80/"),
        ("cli", "/exports"),
        ("ui", "https://evil.example/"),
        ("ui", "//evil.example/"),
        ("ui", "/\\evil.example"),
        ("", "javascript:alert(1)"),
    ] {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("client_type", client), ("session_id", "S1"), ("redirect_url", target)])
            .finish();
        for browser in [&mut Browser::new(), &mut known] {
            for path in ["/api/authorize", "/kubernetes", "/api/exports"] {
                let answer = browser.get(&format!("{}{path}?{query}", set.server)).await;
                answer.refused(400, &format!("{path} on to {target} ({client})"));
                assert!(answer.cookies.is_empty(), "{target}: {:?}", answer.cookies);
            }
        }
    }
    set.untouched("redirects").await;
    let (_, session) = known.cookie(is_session);
    set.end(&[&session, &code]).await;
}

#[tokio::test]
async fn a_session_is_made_by_its_login_and_a_bind_by_its_person() {
    let set = Set::new(73).await;
    let (ada, bob) = (&set.world.logins[0], &set.world.logins[1]);
    let url = set.page(&format!("/exports/{}", set.world.service().plural));

    // A session that the attacker put into the victim's browser is not the one that the victim's login makes.
    let mut attacker = Browser::new();
    attacker.log_in(&url, bob).await;
    let (name, planted) = attacker.cookie(is_session);
    let mut victim = Browser::new();
    victim.cookies.insert(name.clone(), planted.clone());
    victim
        .log_in(&format!("{}/api/authorize?client_type=ui&session_id=S1&redirect_url=/kubernetes", set.server), ada)
        .await;
    let (_, own) = victim.cookie(is_session);
    assert_ne!(own, planted, "the login took the session that was there");
    let page = victim.get(&url).await.page;
    let bobs = attacker.get(&url).await.page;
    assert!(page.text().contains("ada") && !page.text().contains("bob"), "{}", page.text());
    assert!(bobs.text().contains("bob"), "the attacker's session became the victim's: {}", bobs.text());

    // One that nobody was given leads to the login, and agrees to nothing.
    let form = page.form_with("Bind").unwrap();
    let target = page.url.join(&form.action).unwrap().to_string();
    let mut half = Browser::new();
    half.leave(&url).await;
    let (_, half) = half.cookie(|name| name.starts_with(HALF));
    let mut altered = own.clone();
    altered.replace_range(30..31, if own.as_bytes()[30] == b'A' { "B" } else { "A" });
    for (value, what) in
        [("S1", "a chosen id"), (half.as_str(), "a login in progress"), (altered.as_str(), "an altered one")]
    {
        let mut made_up = Browser::new();
        made_up.cookies.insert(name.clone(), value.to_owned());
        assert_eq!(made_up.get(&url).await.location().path(), "/api/authorize", "{what} is taken for a session");
        made_up.post(&target, &form.fields, &[]).await.refused(401, what);
    }
    set.untouched("sessions").await;

    // A form of another site, of another person, of another cluster, of nobody.
    let theirs = bobs.form_with("Bind").unwrap().fields;
    let another = target.replace("consumer_id=uid-1", "consumer_id=uid-2");
    assert_ne!(another, target);
    let evil = with(&Url::parse(&target).unwrap(), "redirect_url", Some("https://evil.example/"));
    for (status, url, fields, headers, what) in [
        (403, target.as_str(), &form.fields, &[("origin", "https://evil.example")][..], "a form of another origin"),
        (403, target.as_str(), &form.fields, &[("sec-fetch-site", "cross-site")][..], "a form of another site"),
        (403, target.as_str(), &Vec::new(), &[][..], "a form without its token"),
        (403, target.as_str(), &theirs, &[][..], "a form of another person"),
        (403, another.as_str(), &form.fields, &[][..], "a form for another cluster"),
        (400, evil.as_str(), &form.fields, &[][..], "a form that ends elsewhere"),
    ] {
        victim.post(url, fields, headers).await.refused(status, what);
        set.untouched(what).await;
    }

    // What is agreed to is made when the command line that asked redeems it, and nobody else.
    let done = victim.post(&target, &form.fields, &[("sec-fetch-site", "same-origin")]).await.location().clone();
    assert!(done.as_str().starts_with(WAITS), "{done}");
    let code = param(&done, "code");
    let redeem = async |body: Value| {
        let url = format!("{}/api/redeem", set.server);
        let answer = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap().post(url).json(&body);
        let answer = answer.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let forged = format!("A{code}");
    for (body, what) in [
        (json!({"code": code}), "a code without a verifier"),
        (json!({"code": code, "codeVerifier": ""}), "a code with an empty verifier"),
        (json!({"code": code, "codeVerifier": s256(VERIFIER)}), "a code with the challenge"),
        (json!({"code": code, "codeVerifier": "the verifier of somebody else, who saw the address"}), "a stolen code"),
        (json!({"code": forged, "codeVerifier": VERIFIER}), "a forged code"),
        (json!({"code": own, "codeVerifier": VERIFIER}), "a session instead of a code"),
    ] {
        let (status, answer) = redeem(body).await;
        assert_eq!(status, 400, "{what}: {answer}");
        set.untouched(what).await;
    }
    let right = json!({"code": code, "codeVerifier": VERIFIER});
    let (status, answer) = redeem(right.clone()).await;
    assert_eq!((status, &answer["kind"]), (200, &json!("BindingResponse")));
    let after = written(&set.world).await;
    assert!(after.len() > set.before.len(), "the right code makes a contract");
    assert!(after.iter().any(|name| name.contains("clusterbindings")), "{after:?}");
    let (status, answer) = redeem(right).await;
    assert_eq!(status, 400, "a code works once: {}", answer["message"]);
    assert!(set.world.consumers[0].site.list(&bindings()).await.is_empty(), "the consumer bound nothing");
    set.end(&[&code, VERIFIER, &own, &planted]).await;
}
