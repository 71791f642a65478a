//! What a login leaves behind: sessions, login state, form tokens and redeem codes.
//!
//! In: a verified person and the parameters of the flow. Out: the sealed texts that carry them through browsers and
//! command lines, and the refusals when they come back altered, late or from somebody else's browser. Called by `http`.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::oidc::Person;
use crate::seal::{Purpose, SealError, Sealer, random_text, s256};

/// How long a login may take between leaving for the issuer and coming back.
pub const LOGIN_LIFETIME: Duration = Duration::from_secs(600);
/// How long a form stays valid.
pub const FORM_LIFETIME: Duration = Duration::from_secs(3600);
/// How long a code can be redeemed.
pub const CODE_LIFETIME: Duration = Duration::from_secs(120);

/// A logged-in person, in a cookie or a bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Who it is.
    pub person: Person,
    /// Chosen by us at login; forms are bound to it. Never chosen by the client.
    pub id: String,
    /// The client's own `session_id`, only echoed.
    pub sid: String,
    /// The provider-side cluster that the login was for (`cluster_id`; empty on plain Kubernetes).
    #[serde(default)]
    pub cluster: String,
    /// When the login happened, seconds since the epoch.
    pub issued: i64,
}

impl Session {
    /// A new session with a fresh id.
    #[must_use]
    pub fn new(person: Person, sid: String, cluster: String, now: Timestamp) -> Self {
        Self { person, id: random_text(), sid, cluster, issued: now.as_second() }
    }

    /// The identity of the login as the wire writes it: `<issuer>/<subject>`.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{}/{}", self.person.issuer, self.person.subject)
    }
}

/// What a client asked `/api/authorize` for; query parameters and JSON keys are the wire's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizeRequest {
    /// Where to go afterwards.
    pub redirect_url: String,
    /// The client's own session id, echoed back.
    pub session_id: String,
    /// The provider-side cluster; empty on plain Kubernetes.
    pub cluster_id: String,
    /// `cli` or `ui`.
    pub client_type: String,
    /// The consumer cluster's identity.
    pub consumer_id: String,
    /// S256 challenge of the command line: answer with a code to redeem instead of a token in a URL.
    pub code_challenge: String,
}

impl AuthorizeRequest {
    /// Whether a command line waits for the answer.
    #[must_use]
    pub fn is_cli(&self) -> bool {
        self.client_type == "cli"
    }
}

/// The `state` of a login in progress: what was asked for, and the id that ties it to one browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginState {
    /// Also in the browser's cookie.
    pub id: String,
    /// What to do afterwards.
    pub request: AuthorizeRequest,
}

/// The browser's half of a login in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginHalf {
    /// Also in the state.
    pub id: String,
    /// Expected in the id_token.
    pub nonce: String,
    /// For the token request.
    pub verifier: String,
}

/// A token in a form: valid in one session for one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FormToken {
    session: String,
    target: String,
}

/// What a code can be redeemed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Unique, so that it can be used once.
    pub id: String,
    /// The S256 challenge that the redeemer's verifier must meet.
    pub challenge: String,
    /// Who agreed.
    pub session: Session,
    /// A bind, or only a login.
    pub grant: Grant,
}

/// The two things that a code stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// An access token.
    Token,
    /// A bind that was agreed to in the browser.
    Bind(BindGrant),
}

/// A bind that was agreed to in the browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindGrant {
    /// The offering.
    pub offering: String,
    /// The consumer cluster's identity.
    pub consumer: String,
    /// Compute only.
    pub dry_run: bool,
    /// An existing contract to move here, named by its namespace; agreed to on the page.
    #[serde(default)]
    pub contract: String,
}

/// Why a session, state or code is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SessionError {
    /// It does not open.
    #[error("{0}")]
    Sealed(#[from] SealError),
    /// State and cookie do not belong together.
    #[error("it was started in another browser, or has been used already")]
    OtherBrowser,
    /// The form belongs to another session or page.
    #[error("the form belongs to another session or page")]
    OtherForm,
    /// The verifier does not meet the challenge.
    #[error("the code was issued to another client")]
    OtherClient,
}

/// Checks that a returning login is the one that this browser started.
///
/// # Errors
/// [`SessionError::Sealed`] for altered or late texts, [`SessionError::OtherBrowser`] if they do not match.
pub fn rejoin(
    sealer: &Sealer,
    state: &LoginState,
    cookie: Option<&str>,
    now: Timestamp,
) -> Result<LoginHalf, SessionError> {
    let half: LoginHalf = sealer.open(Purpose::Login, cookie.ok_or(SessionError::OtherBrowser)?, now)?;
    if half.id == state.id { Ok(half) } else { Err(SessionError::OtherBrowser) }
}

/// A token for a form that posts to `target` in `session`.
///
/// # Errors
/// [`SealError`] if it cannot be sealed.
pub fn form_token(sealer: &Sealer, session: &Session, target: &str, now: Timestamp) -> Result<String, SealError> {
    let token = FormToken { session: session.id.clone(), target: target.to_owned() };
    sealer.seal(Purpose::Form, &token, now, FORM_LIFETIME)
}

/// Checks a form's token.
///
/// # Errors
/// [`SessionError`] if it is not for this session and target.
pub fn check_form(
    sealer: &Sealer,
    session: &Session,
    target: &str,
    token: &str,
    now: Timestamp,
) -> Result<(), SessionError> {
    let token: FormToken = sealer.open(Purpose::Form, token, now)?;
    if token.session == session.id && token.target == target { Ok(()) } else { Err(SessionError::OtherForm) }
}

/// Seals a code for the client that knows the verifier of `challenge`.
///
/// # Errors
/// [`SealError`] if it cannot be sealed.
pub fn issue_code(
    sealer: &Sealer,
    session: &Session,
    challenge: &str,
    grant: Grant,
    now: Timestamp,
) -> Result<String, SealError> {
    let code = Code { id: random_text(), challenge: challenge.to_owned(), session: session.clone(), grant };
    sealer.seal(Purpose::Code, &code, now, CODE_LIFETIME)
}

/// Opens a code with the client's verifier. The caller makes sure that its id was not used before.
///
/// # Errors
/// [`SessionError`] for altered or late codes and wrong verifiers.
pub fn open_code(sealer: &Sealer, code: &str, verifier: &str, now: Timestamp) -> Result<Code, SessionError> {
    let code: Code = sealer.open(Purpose::Code, code, now)?;
    if verifier.len() >= 43 && s256(verifier) == code.challenge { Ok(code) } else { Err(SessionError::OtherClient) }
}

/// Whether a text can be an S256 challenge: 43 characters of base64url.
#[must_use]
pub fn is_challenge(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn session(subject: &str) -> Session {
        let person = Person {
            issuer: "https://issuer".into(),
            subject: subject.into(),
            groups: vec![],
            display: subject.into(),
        };
        Session::new(person, "chosen-by-client".into(), String::new(), now())
    }

    #[test]
    fn a_session_never_uses_the_clients_id() {
        let one = session("alice");
        assert_ne!(one.id, one.sid);
        assert_ne!(one.id, session("alice").id);
    }

    #[test]
    fn state_and_cookie_must_match() {
        let sealer = Sealer::new(&[1; 32]).unwrap();
        let state = LoginState { id: "a".into(), request: AuthorizeRequest::default() };
        let half = |id: &str| {
            let half = LoginHalf { id: id.into(), nonce: "n".into(), verifier: "v".into() };
            sealer.seal(Purpose::Login, &half, now(), LOGIN_LIFETIME).unwrap()
        };
        assert!(rejoin(&sealer, &state, Some(&half("a")), now()).is_ok());
        assert_eq!(rejoin(&sealer, &state, Some(&half("b")), now()), Err(SessionError::OtherBrowser));
        assert_eq!(rejoin(&sealer, &state, None, now()), Err(SessionError::OtherBrowser));
    }

    #[test]
    fn forms_belong_to_a_session_and_a_page() {
        let sealer = Sealer::new(&[1; 32]).unwrap();
        let (alice, bob) = (session("alice"), session("bob"));
        let token = form_token(&sealer, &alice, "/exports/a", now()).unwrap();
        assert!(check_form(&sealer, &alice, "/exports/a", &token, now()).is_ok());
        assert!(check_form(&sealer, &alice, "/exports/b", &token, now()).is_err());
        assert!(check_form(&sealer, &bob, "/exports/a", &token, now()).is_err());
    }

    #[test]
    fn codes_need_the_verifier() {
        let sealer = Sealer::new(&[1; 32]).unwrap();
        let verifier = random_text();
        let code = issue_code(&sealer, &session("alice"), &s256(&verifier), Grant::Token, now()).unwrap();
        assert!(open_code(&sealer, &code, &verifier, now()).is_ok());
        assert_eq!(open_code(&sealer, &code, &random_text(), now()).unwrap_err(), SessionError::OtherClient);
        let late = Timestamp::from_second(1_700_000_121).unwrap();
        assert!(open_code(&sealer, &code, &verifier, late).is_err());
    }
}
