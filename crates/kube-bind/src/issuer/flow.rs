//! The authorization code flow as decisions over what the issuer remembers; no IO, time and randomness come from outside.
//!
//! In: what a browser or a backend sent. Out: which page, redirect or answer it gets. Called by `http`.
//! Everything is short-lived: a login in progress and the state it carries 10 minutes, a code one minute and one use, an
//! access token 10 minutes, a session of the browser one hour.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Client, Person, SigningKey};

/// The time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
/// Fresh texts that nobody can guess.
pub type Randomness = Box<dyn FnMut() -> String + Send>;

const LOGIN_LASTS: SignedDuration = SignedDuration::from_mins(10);
const CODE_LASTS: SignedDuration = SignedDuration::from_mins(1);
const TOKEN_LASTS: SignedDuration = SignedDuration::from_mins(10);
const SESSION_LASTS: SignedDuration = SignedDuration::from_hours(1);
/// Wrong passwords before a login has to be started anew.
const MAX_FAILURES: u8 = 5;
/// What the issuer can tell about a person.
pub(super) const SCOPES: [&str; 4] = ["openid", "email", "profile", "groups"];

/// 32 random bytes as URL-safe text.
pub(super) fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// The query of `/authorize`. `response_mode` and what else there may be is ignored.
#[derive(Deserialize)]
pub(super) struct AuthorizeQuery {
    #[serde(default)]
    response_type: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    redirect_uri: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    state: String,
    nonce: Option<String>,
    #[serde(default)]
    code_challenge: String,
    #[serde(default)]
    code_challenge_method: String,
}

/// The form of `/token`.
#[derive(Deserialize, Default)]
pub(super) struct TokenForm {
    #[serde(default)]
    pub(super) grant_type: String,
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) redirect_uri: String,
    #[serde(default)]
    pub(super) code_verifier: String,
    #[serde(default)]
    pub(super) client_id: String,
    #[serde(default)]
    pub(super) client_secret: String,
}

/// What a browser is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Show the login page; `refused` after a wrong password.
    Login { interaction: String, application: String, refused: bool },
    /// Show the consent page with what will be read.
    Consent { interaction: String, application: String, person: String, reads: Vec<(String, String)> },
    /// Back to the application.
    Redirect(String),
    /// An error page: whom to trust with a redirect is not known, or there is nothing to go on with.
    Refuse(&'static str),
}

/// An error of `/token` or `/userinfo` (RFC 6749 §5.2): code, words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenError(pub(super) &'static str, pub(super) &'static str);

/// A login in progress.
struct Interaction {
    client: String,
    redirect_uri: String,
    scopes: Vec<String>,
    state: String,
    nonce: Option<String>,
    challenge: String,
    browser: String,
    failures: u8,
    expires: Timestamp,
}

struct Code {
    client: String,
    redirect_uri: String,
    scopes: Vec<String>,
    nonce: Option<String>,
    challenge: String,
    subject: String,
    authenticated: Timestamp,
    access_token: Option<String>,
    used: bool,
    expires: Timestamp,
}

struct Session {
    subject: String,
    authenticated: Timestamp,
    expires: Timestamp,
}

struct AccessToken {
    subject: String,
    scopes: Vec<String>,
    expires: Timestamp,
}

/// All that the issuer knows.
pub(super) struct Flow {
    issuer: String,
    key: SigningKey,
    people: Vec<Person>,
    clients: HashMap<String, Client>,
    clock: Clock,
    random: Randomness,
    interactions: HashMap<String, Interaction>,
    /// `(client, state)` of logins that came to an end: a second answer to the same state would be a replay.
    finished: HashMap<(String, String), Timestamp>,
    codes: HashMap<String, Code>,
    sessions: HashMap<String, Session>,
    tokens: HashMap<String, AccessToken>,
}

impl Flow {
    pub(super) fn new(
        issuer: String,
        key: SigningKey,
        people: Vec<Person>,
        clients: Vec<Client>,
        clock: Clock,
        random: Randomness,
    ) -> Self {
        let clients = clients.into_iter().map(|client| (client.id.clone(), client)).collect();
        Self {
            issuer,
            key,
            people,
            clients,
            clock,
            random,
            interactions: HashMap::new(),
            finished: HashMap::new(),
            codes: HashMap::new(),
            sessions: HashMap::new(),
            tokens: HashMap::new(),
        }
    }

    pub(super) fn register(&mut self, client: Client) {
        self.clients.insert(client.id.clone(), client);
    }

    /// A fresh name for a browser that has none.
    pub(super) fn new_browser(&mut self) -> String {
        (self.random)()
    }

    /// The discovery document.
    pub(super) fn discovery(&self) -> Value {
        let issuer = &self.issuer;
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "jwks_uri": format!("{issuer}/jwks.json"),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": SCOPES,
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "email", "email_verified",
                "name", "preferred_username", "groups"],
        })
    }

    pub(super) fn jwks(&self) -> Value {
        self.key.jwks()
    }

    /// A browser arrives from an application.
    pub(super) fn authorize(&mut self, query: AuthorizeQuery, browser: &str) -> Step {
        self.forget_old();
        let Some(client) = self.clients.get(&query.client_id) else {
            return Step::Refuse("No application of that client_id is registered here.");
        };
        if !client.redirect_uris.contains(&query.redirect_uri) {
            return Step::Refuse("The redirect_uri is not one that the application registered.");
        }
        let application = client.name.clone();
        let back = |error: &str, words: &str| {
            Step::Redirect(answer(&query.redirect_uri, &query.state, &[("error", error), ("error_description", words)]))
        };
        if query.response_type != "code" {
            return back("unsupported_response_type", "only response_type=code is served");
        }
        if query.code_challenge_method != "S256"
            || URL_SAFE_NO_PAD.decode(&query.code_challenge).map_or(0, |d| d.len()) != 32
        {
            return back("invalid_request", "PKCE with code_challenge_method=S256 is required");
        }
        let scopes: Vec<String> =
            query.scope.split(' ').filter(|scope| SCOPES.contains(scope)).map(str::to_owned).collect();
        if !scopes.iter().any(|scope| scope == "openid") {
            return back("invalid_scope", "the scope openid is required");
        }
        if query.state.is_empty() {
            return back("invalid_request", "a state is required");
        }
        if self.finished.contains_key(&(query.client_id.clone(), query.state.clone())) {
            return Step::Refuse("This login has been finished already. Start again from the application.");
        }
        let interaction = (self.random)();
        self.interactions.insert(
            interaction.clone(),
            Interaction {
                client: query.client_id,
                redirect_uri: query.redirect_uri,
                scopes,
                state: query.state,
                nonce: query.nonce,
                challenge: query.code_challenge,
                browser: browser.to_owned(),
                failures: 0,
                expires: (self.clock)() + LOGIN_LASTS,
            },
        );
        if self.sessions.contains_key(browser) {
            self.consent_page(interaction, browser)
        } else {
            Step::Login { interaction, application, refused: false }
        }
    }

    /// The login form. On success the browser gets a new name (the second value), so that a name planted in it before
    /// the login is worth nothing.
    pub(super) fn login(
        &mut self,
        interaction: &str,
        browser: &str,
        username: &str,
        password: &SecretString,
    ) -> (Step, Option<String>) {
        self.forget_old();
        let Some(known) = self.interactions.get_mut(interaction).filter(|known| known.browser == browser) else {
            return (
                Step::Refuse("This login is over or was begun in another browser. Start again from the application."),
                None,
            );
        };
        let person = self.people.iter().find(|person| person.username == username);
        let expected = person.map_or("", |person| person.password.expose_secret());
        let right = same(expected, password.expose_secret());
        let Some(person) = person.filter(|_| right) else {
            known.failures += 1;
            if known.failures >= MAX_FAILURES {
                self.interactions.remove(interaction);
                return (Step::Refuse("Too many wrong passwords. Start again from the application."), None);
            }
            let application = self.clients.get(&known.client).map(|client| client.name.clone()).unwrap_or_default();
            return (Step::Login { interaction: interaction.to_owned(), application, refused: true }, None);
        };
        let now = (self.clock)();
        let renewed = (self.random)();
        known.browser = renewed.clone();
        let session = Session { subject: person.subject.clone(), authenticated: now, expires: now + SESSION_LASTS };
        self.sessions.remove(browser);
        self.sessions.insert(renewed.clone(), session);
        (self.consent_page(interaction.to_owned(), &renewed), Some(renewed))
    }

    /// The consent form.
    pub(super) fn consent(&mut self, interaction: &str, browser: &str, allow: bool) -> Step {
        self.forget_old();
        let over =
            Step::Refuse("This login is over or was begun in another browser. Start again from the application.");
        let Some(session) = self.sessions.get(browser) else { return over };
        if self.interactions.get(interaction).is_none_or(|known| known.browser != browser) {
            return over;
        }
        let Some(done) = self.interactions.remove(interaction) else { return over };
        let now = (self.clock)();
        if self.finished.insert((done.client.clone(), done.state.clone()), now + LOGIN_LASTS).is_some() {
            return Step::Refuse("This login has been finished already. Start again from the application.");
        }
        if !allow {
            let words = "the consent was refused on the login service's page";
            return Step::Redirect(answer(
                &done.redirect_uri,
                &done.state,
                &[("error", "access_denied"), ("error_description", words)],
            ));
        }
        let code = (self.random)();
        let location = answer(&done.redirect_uri, &done.state, &[("code", &code), ("iss", &self.issuer)]);
        self.codes.insert(
            code,
            Code {
                client: done.client,
                redirect_uri: done.redirect_uri,
                scopes: done.scopes,
                nonce: done.nonce,
                challenge: done.challenge,
                subject: session.subject.clone(),
                authenticated: session.authenticated,
                access_token: None,
                used: false,
                expires: now + CODE_LASTS,
            },
        );
        Step::Redirect(location)
    }

    /// A backend exchanges a code. A code that comes a second time also ends the access token made from it (RFC 6749
    /// §4.1.2).
    pub(super) fn token(&mut self, form: &TokenForm) -> Result<Value, TokenError> {
        self.forget_old();
        let known =
            self.clients.get(&form.client_id).filter(|client| same(client.secret.expose_secret(), &form.client_secret));
        if known.is_none() {
            return Err(TokenError("invalid_client", "the client is not known or its secret is wrong"));
        }
        if form.grant_type != "authorization_code" {
            return Err(TokenError("unsupported_grant_type", "only grant_type=authorization_code is served"));
        }
        let refused = Err(TokenError("invalid_grant", "the code is unknown, expired, or not this client's"));
        let Some(code) = self.codes.get_mut(&form.code).filter(|code| code.client == form.client_id) else {
            return refused;
        };
        if code.used {
            if let Some(token) = code.access_token.take() {
                self.tokens.remove(&token);
            }
            return Err(TokenError("invalid_grant", "the code was used before"));
        }
        code.used = true;
        if code.redirect_uri != form.redirect_uri {
            return Err(TokenError("invalid_grant", "the redirect_uri is not that of the authorization request"));
        }
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(form.code_verifier.as_bytes()));
        if !same(&code.challenge, &challenge) {
            return Err(TokenError("invalid_grant", "the code_verifier does not match the code_challenge"));
        }
        let Some(person) = self.people.iter().find(|person| person.subject == code.subject) else { return refused };
        let now = (self.clock)();
        let mut claims = person_claims(person, &code.scopes);
        claims["iss"] = json!(self.issuer);
        claims["aud"] = json!(code.client);
        claims["iat"] = json!(now.as_second());
        claims["exp"] = json!((now + TOKEN_LASTS).as_second());
        claims["auth_time"] = json!(code.authenticated.as_second());
        if let Some(nonce) = &code.nonce {
            claims["nonce"] = json!(nonce);
        }
        let id_token = self.key.sign(&claims).map_err(|error| {
            tracing::error!(%error, "an id_token cannot be signed");
            TokenError("server_error", "the id_token cannot be signed")
        })?;
        let access_token = (self.random)();
        code.access_token = Some(access_token.clone());
        let scopes = code.scopes.clone();
        let scope = scopes.join(" ");
        self.tokens.insert(
            access_token.clone(),
            AccessToken { subject: person.subject.clone(), scopes, expires: now + TOKEN_LASTS },
        );
        Ok(json!({
            "access_token": access_token, "token_type": "Bearer", "expires_in": TOKEN_LASTS.as_secs(),
            "id_token": id_token, "scope": scope,
        }))
    }

    /// What the access token's scopes let its holder read.
    pub(super) fn userinfo(&mut self, access_token: &str) -> Result<Value, TokenError> {
        self.forget_old();
        let refused = TokenError("invalid_token", "the access token is unknown or expired");
        let token = self.tokens.get(access_token).ok_or(TokenError(refused.0, refused.1))?;
        let person = self.people.iter().find(|person| person.subject == token.subject).ok_or(refused)?;
        Ok(person_claims(person, &token.scopes))
    }

    fn consent_page(&self, interaction: String, browser: &str) -> Step {
        let over = Step::Refuse("This login is over. Start again from the application.");
        let (Some(known), Some(session)) = (self.interactions.get(&interaction), self.sessions.get(browser)) else {
            return over;
        };
        let Some(person) = self.people.iter().find(|person| person.subject == session.subject) else { return over };
        let application = self.clients.get(&known.client).map(|client| client.name.clone()).unwrap_or_default();
        let mut reads = Vec::new();
        for scope in &known.scopes {
            match scope.as_str() {
                "email" => reads.push(("Your email address".to_owned(), person.email.clone())),
                "profile" => reads.push(("Your profile".to_owned(), format!("{} ({})", person.name, person.username))),
                "groups" => reads.push(("Your groups".to_owned(), person.groups.join(", "))),
                _ => {}
            }
        }
        Step::Consent { interaction, application, person: person.name.clone(), reads }
    }

    fn forget_old(&mut self) {
        let now = (self.clock)();
        self.interactions.retain(|_, known| known.expires > now);
        self.finished.retain(|_, until| *until > now);
        self.codes.retain(|_, code| code.expires > now);
        self.sessions.retain(|_, session| session.expires > now);
        self.tokens.retain(|_, token| token.expires > now);
    }
}

fn person_claims(person: &Person, scopes: &[String]) -> Value {
    let mut claims = json!({ "sub": person.subject });
    for scope in scopes {
        match scope.as_str() {
            "email" => {
                claims["email"] = json!(person.email);
                claims["email_verified"] = json!(true);
            }
            "profile" => {
                claims["name"] = json!(person.name);
                claims["preferred_username"] = json!(person.username);
            }
            "groups" => claims["groups"] = json!(person.groups),
            _ => {}
        }
    }
    claims
}

/// `redirect_uri` with the answer and the state in its query.
fn answer(redirect_uri: &str, state: &str, pairs: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse(redirect_uri) else { return redirect_uri.to_owned() };
    url.query_pairs_mut().extend_pairs(pairs);
    if !state.is_empty() {
        url.query_pairs_mut().append_pair("state", state);
    }
    url.into()
}

/// Whether two texts are the same, in a time that does not tell where they differ. Nothing is the same as no text.
fn same(a: &str, b: &str) -> bool {
    let differing = a.bytes().zip(b.bytes()).fold(0, |seen, (a, b)| seen | (a ^ b));
    !a.is_empty() && a.len() == b.len() && differing == 0
}
