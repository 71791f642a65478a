//! The pages that people see: chooser, bind page, refusals and notices. Server-rendered, without scripts and without
//! anything from elsewhere.
//!
//! In: offerings and the state of a bind. Out: HTML with a strict Content-Security-Policy. Called by `http`.

pub mod sample;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use url::Url;

use crate::catalogue::Offering;
use crate::error::ApiError;

/// One offering as a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its name in the catalogue.
    pub name: String,
    /// What the provider says about it.
    pub description: String,
    /// `MongoDB (widgets.example)`.
    pub kinds: Vec<String>,
    /// How many claims come with it.
    pub claims: usize,
    /// Why it cannot be bound; empty if it can.
    pub problem: String,
    /// Its page.
    pub url: String,
}

/// The card of an offering whose page is `url`.
#[must_use]
pub fn card(offering: &Offering, url: String) -> Card {
    Card {
        name: offering.name.clone(),
        description: offering.template.spec.description.clone().unwrap_or_default(),
        kinds: offering.kinds.iter().map(|kind| format!("{} ({})", kind.kind, kind.group)).collect(),
        claims: offering.template.spec.permission_claims.len(),
        problem: offering.problem.clone().unwrap_or_default(),
        url,
    }
}

/// What an offering asks for, one sentence a claim, as the command line asks it, with what one should know about it.
#[must_use]
pub fn sentences(offering: &Offering) -> Vec<Sentence> {
    let kind_of = |resource: &kube_bind_api::GroupResource| {
        offering.kinds.iter().find(|kind| kind.group_resource() == *resource).map(|kind| kind.kind.clone())
    };
    let claims = offering.template.spec.permission_claims.iter().filter_map(|claim| contract::Claim::parse(claim).ok());
    claims.map(|claim| Sentence { text: claim.sentence(kind_of), notes: claim.notes(kind_of) }).collect()
}

/// A claim in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// What is asked.
    pub text: String,
    /// What one should know before accepting.
    pub notes: Vec<String>,
}

/// The chooser.
#[derive(Template)]
#[template(path = "chooser.html")]
pub struct ChooserPage {
    /// The provider's name.
    pub provider: String,
    /// Who is logged in.
    pub person: String,
    /// The collection, or empty.
    pub collection: String,
    /// The offerings.
    pub cards: Vec<Card>,
    /// Where giving up leads; empty if nobody waits.
    pub cancel: String,
}

/// The bind page.
#[derive(Template)]
#[template(path = "bind.html")]
pub struct BindPage {
    /// The provider's name.
    pub provider: String,
    /// Who is logged in.
    pub person: String,
    /// What is bound.
    pub offering: Card,
    /// A sample object as YAML.
    pub sample: String,
    /// What is claimed.
    pub sentences: Vec<Sentence>,
    /// The form's token.
    pub token: String,
    /// Where the form posts to.
    pub action: String,
    /// Where Back leads; empty if there is nowhere.
    pub back: String,
    /// Whether a command line waits for the answer.
    pub waiting: bool,
    /// Nothing will be created.
    pub dry_run: bool,
    /// What to type if no command line waits.
    pub command: String,
    /// The question whether an existing contract moves here; empty if there is none.
    pub moving: String,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct NoticePage {
    title: String,
    text: String,
    details: String,
}

/// The stylesheet.
pub async fn stylesheet() -> Response {
    (
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=3600")],
        include_str!("../../assets/style.css"),
    )
        .into_response()
}

/// Renders a page. `client` is where its form may lead in the end: browsers apply `form-action` to redirects too.
#[must_use]
pub fn html<T: Template>(status: StatusCode, page: &T, client: Option<&Url>) -> Response {
    let body = match page.render() {
        Ok(body) => body,
        Err(err) => {
            tracing::error!(error = %err, "a page could not be rendered");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let client = client.map(|url| format!(" {}", url.origin().ascii_serialization())).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'{client}; frame-ancestors 'none'; base-uri 'none'"
    );
    let mut response = (status, Html(body)).into_response();
    if let Ok(value) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, value);
    }
    response
}

/// A refusal as a page.
#[must_use]
pub fn refusal(error: &ApiError) -> Response {
    if error.status.is_server_error() {
        tracing::error!(status = error.status.as_u16(), message = %error.message, details = %error.details, "request failed");
    }
    let page = NoticePage { title: error.message.clone(), text: String::new(), details: error.details.clone() };
    html(error.status, &page, None)
}

/// A page with a title and a sentence.
#[must_use]
pub fn notice(title: &str, text: &str) -> Response {
    html(StatusCode::OK, &NoticePage { title: title.to_owned(), text: text.to_owned(), details: String::new() }, None)
}
