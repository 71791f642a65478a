//! What a provider's URL means (scenario S1): the BindingProvider document for programs; chooser and bind page for
//! browsers.
//!
//! In: `GET` on `/`, `/exports`, `/export`, `/kubernetes`, `/api/exports`, `/exports/<offering or collection>`, and the
//! posted bind form. Out: JSON, pages, and at the end a redirect to the command line that waits on the loopback
//! interface, with a code to redeem (or, for the Go release's command line, the whole answer).

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use kube_bind_api::wire::BindingProvider;
use url::Url;

use super::authorize::{found, same_machine, same_origin};
use super::{App, Query, Wants, access, refuse, wants};
use crate::bind::{self, Ask};
use crate::catalogue::{Catalogue, Offering};
use crate::contracts::{self, Claim};
use crate::error::ApiError;
use crate::identity::redirect;
use crate::identity::session::{self, BindGrant, Grant, Session};
use crate::pages::{self, BindPage, ChooserPage};
use crate::seal::random_text;

/// `GET /api/exports`.
pub async fn api_exports(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: OriginalUri,
    RawQuery(raw): RawQuery,
) -> Response {
    if wants(&headers) == Wants::Html {
        return page(&app, &headers, &uri.0, None).await.unwrap_or_else(|err| refuse(&headers, err));
    }
    provider(&app, &headers, &Query::parse(raw.as_deref())).unwrap_or_else(|err| refuse(&headers, err))
}

/// `GET` on the URL forms without a name.
pub async fn root(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: OriginalUri,
    RawQuery(raw): RawQuery,
) -> Response {
    let answer = match wants(&headers) {
        Wants::Html => page(&app, &headers, &uri.0, None).await,
        Wants::Any if uri.0.path() == "/exports" => to_api_exports(&app, &headers, raw.as_deref()),
        _ => provider(&app, &headers, &Query::parse(raw.as_deref())),
    };
    answer.unwrap_or_else(|err| refuse(&headers, err))
}

/// The Go release redirects clients without preference.
fn to_api_exports(_: &App, _: &HeaderMap, raw: Option<&str>) -> Result<Response, ApiError> {
    let location = match raw {
        Some(query) => format!("/api/exports?{query}"),
        None => "/api/exports".to_owned(),
    };
    Ok((StatusCode::FOUND, [(http::header::LOCATION, location)]).into_response())
}

/// `GET /exports/<offering or collection>`.
pub async fn named(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: OriginalUri,
    Path(name): Path<String>,
    RawQuery(raw): RawQuery,
) -> Response {
    let answer = async {
        if wants(&headers) == Wants::Html {
            return page(&app, &headers, &uri.0, Some(&name)).await;
        }
        let catalogue = load(&app).await?;
        choose(&catalogue, Some(&name))?;
        provider(&app, &headers, &Query::parse(raw.as_deref()))
    };
    answer.await.unwrap_or_else(|err| refuse(&headers, err))
}

fn provider(app: &App, headers: &HeaderMap, query: &Query) -> Result<Response, ApiError> {
    let mut url = app.base(headers)?;
    url.set_path("/api/authorize");
    let echoed = ["cluster_id", "session_id", "client_type", "consumer_id"].map(|name| (name, query.get(name)));
    let url = redirect::with_query(&url, &echoed);
    Ok(Json(BindingProvider::new(&app.issuing.pretty_name, &app.version, url.as_str())).into_response())
}

async fn load(app: &App) -> Result<Catalogue, ApiError> {
    Catalogue::load(&app.api).await.map_err(|err| ApiError::from_kube("The provider's catalogue cannot be read", &err))
}

/// What a name stands for: an offering, or the offerings of a collection. Without a name all of them.
fn choose<'a>(catalogue: &'a Catalogue, name: Option<&str>) -> Result<Vec<&'a Offering>, ApiError> {
    let Some(name) = name else { return Ok(catalogue.offerings.iter().collect()) };
    if let Some(offering) = catalogue.offering(name) {
        return Ok(vec![offering]);
    }
    if let Some(collection) = catalogue.collection(name) {
        return Ok(collection
            .spec
            .templates
            .iter()
            .filter_map(|template| catalogue.offering(&template.name))
            .collect());
    }
    Err(ApiError::not_found(
        format!("This provider does not offer {name:?}"),
        "there is neither an offering nor a collection of that name; all offerings are under /exports",
    ))
}

/// The parameters of an interactive bind, checked.
struct Visit {
    base: Url,
    query: Query,
    /// Where the command line waits, if one does.
    client: Option<Url>,
    /// Path and query of this page.
    here: String,
}

impl Visit {
    fn read(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<Self, ApiError> {
        let base = app.base(headers)?;
        let query = Query::parse(uri.query());
        let bad = |details: String| ApiError::bad_request("This bind cannot go on", details);
        let client = match query.get("redirect_url") {
            "" => None,
            text => Some(redirect::loopback(text).map_err(|err| bad(err.to_string()))?),
        };
        if client.is_some() && query.get("session_id").is_empty() {
            return Err(bad("session_id is missing; start again with kubectl bind".to_owned()));
        }
        let challenge = query.get("code_challenge");
        if !challenge.is_empty() && !session::is_challenge(challenge) {
            return Err(bad("code_challenge is not an S256 challenge (43 characters of base64url)".to_owned()));
        }
        if !query.get("cluster_id").is_empty() {
            return Err(bad("cluster_id is not known here: this provider has one cluster".to_owned()));
        }
        let here = uri.path_and_query().map_or("/exports", http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { base, query, client, here })
    }

    /// The cluster that asks: what the command line says, else the person itself.
    fn consumer(&self, session: &Session) -> String {
        match self.query.get("consumer_id") {
            "" => session.identity(),
            id => id.to_owned(),
        }
    }

    /// The refusal that ends the command line's wait.
    fn cancel_url(&self) -> Option<Url> {
        let pairs = [
            ("error", "access_denied"),
            ("error_description", "the bind was cancelled in the browser"),
            ("session_id", self.query.get("session_id")),
        ];
        self.client.as_ref().map(|client| redirect::with_query(client, &pairs))
    }

    /// The same visit on the page of one offering.
    fn offering_url(&self, name: &str) -> String {
        let query = self.here.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        format!("/exports/{name}{query}")
    }

    fn chooser_url(&self) -> String {
        let query = self.here.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
        format!("/exports{query}")
    }
}

async fn page(app: &App, headers: &HeaderMap, uri: &Uri, name: Option<&str>) -> Result<Response, ApiError> {
    let visit = Visit::read(app, headers, uri)?;
    if let Some(there) = same_machine(&visit.base, headers) {
        let url = there.join(&visit.here).unwrap_or(there);
        return Ok(found(&url, &[]));
    }
    let Some(session) = access::browser_session(app, &visit.base, headers) else {
        let sid = match visit.query.get("session_id") {
            "" => random_text(),
            sid => sid.to_owned(),
        };
        let mut url = visit.base.clone();
        url.set_path("/api/authorize");
        let pairs = [
            ("client_type", "ui"),
            ("session_id", &sid),
            ("consumer_id", visit.query.get("consumer_id")),
            ("redirect_url", &visit.here),
        ];
        return Ok(found(&redirect::with_query(&url, &pairs), &[]));
    };
    access::authorize(app, &session.person).await?;
    let catalogue = load(app).await?;
    let offerings = choose(&catalogue, name)?;
    match offerings.as_slice() {
        [only] => bind_page(app, &visit, &session, &catalogue, only).await,
        many => Ok(chooser_page(app, &visit, &session, many, name)),
    }
}

fn chooser_page(app: &App, visit: &Visit, session: &Session, offerings: &[&Offering], name: Option<&str>) -> Response {
    let page = ChooserPage {
        provider: app.issuing.pretty_name.clone(),
        person: session.person.display.clone(),
        collection: name.unwrap_or_default().to_owned(),
        cards: offerings.iter().map(|offering| pages::card(offering, visit.offering_url(&offering.name))).collect(),
        cancel: visit.cancel_url().map(|url| url.to_string()).unwrap_or_default(),
    };
    pages::html(StatusCode::OK, &page, None)
}

async fn bind_page(
    app: &App,
    visit: &Visit,
    session: &Session,
    catalogue: &Catalogue,
    offering: &Offering,
) -> Result<Response, ApiError> {
    let consumer = visit.consumer(session);
    let target = visit.offering_url(&offering.name);
    let token = session::form_token(&app.sealer, session, &target, app.now())
        .map_err(|err| ApiError::internal("The page could not be made", err.to_string()))?;
    let claim = contracts::held(&app.api, &session.person, visit.query.get("contract"), &consumer, app.now())
        .await
        .map_err(|err| ApiError::from_kube("The contract could not be looked up", &err))?;
    let back = if catalogue.offerings.len() > 1 {
        visit.chooser_url()
    } else {
        visit.cancel_url().map(|url| url.to_string()).unwrap_or_default()
    };
    let mut command = visit.base.clone();
    command.set_path(visit.here.split('?').next().unwrap_or("/exports"));
    let page = BindPage {
        provider: app.issuing.pretty_name.clone(),
        person: session.person.display.clone(),
        offering: pages::card(offering, target.clone()),
        sample: pages::sample::yaml(offering),
        sentences: pages::sentences(offering),
        token,
        action: target,
        back,
        waiting: visit.client.is_some(),
        dry_run: visit.query.flag("dry_run"),
        command: format!("kubectl bind {command}"),
        moving: match &claim {
            Claim::Elsewhere { question } => question.clone(),
            _ => String::new(),
        },
    };
    Ok(pages::html(StatusCode::OK, &page, visit.client.as_ref()))
}

/// The posted bind form.
pub async fn agree(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: OriginalUri,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    agreed(&app, &headers, &uri.0, &name, &body).await.unwrap_or_else(|err| refuse(&headers, err))
}

async fn agreed(app: &App, headers: &HeaderMap, uri: &Uri, name: &str, body: &[u8]) -> Result<Response, ApiError> {
    let visit = Visit::read(app, headers, uri)?;
    let form = Query::parse(std::str::from_utf8(body).ok());
    let session = access::browser_session(app, &visit.base, headers)
        .ok_or_else(|| ApiError::unauthenticated("the login has expired; start again with kubectl bind"))?;
    let foreign = |details: &str| ApiError::forbidden("This form was not accepted", details);
    if !same_origin(headers, &visit.base) {
        return Err(foreign("it was sent by another site"));
    }
    session::check_form(&app.sealer, &session, &visit.offering_url(name), form.get("token"), app.now())
        .map_err(|err| foreign(&format!("{err}; go back and load the page again")))?;
    access::authorize(app, &session.person).await?;
    let client = visit.client.clone().ok_or_else(|| {
        ApiError::bad_request(
            "Nothing waits for this bind",
            "start it with kubectl bind on the machine that is to use the API",
        )
    })?;
    let ask = Ask {
        offering: name.to_owned(),
        name: name.to_owned(),
        consumer: visit.consumer(&session),
        pretty_name: String::new(),
        dry_run: visit.query.flag("dry_run"),
        moved_contract: if form.get("move") == "yes" { visit.query.get("contract").to_owned() } else { String::new() },
    };
    let session = Session { sid: visit.query.get("session_id").to_owned(), ..session };
    let challenge = visit.query.get("code_challenge");
    // Whoever redeems a code gets the contract then; until that nothing is made for somebody who may have gone.
    let now = Ask { dry_run: ask.dry_run || !challenge.is_empty(), ..ask.clone() };
    let response = bind::bind(&app.api, &app.issuing, &session, &now).await?;
    let sid = visit.query.get("session_id");
    let consumer = visit.query.get("consumer_id");
    tracing::info!(
        subject = %session.person.subject, offering = %ask.offering, consumer = %ask.consumer, dry_run = ask.dry_run,
        namespace = response.provider_namespace.as_deref().unwrap_or_default(), "bind agreed to in the browser"
    );
    let url = if challenge.is_empty() {
        let json = serde_json::to_vec(&response)
            .map_err(|err| ApiError::internal("The answer could not be made", err.to_string()))?;
        let answer = URL_SAFE.encode(json);
        redirect::with_query(&client, &[("session_id", sid), ("consumer_id", consumer), ("binding_response", &answer)])
    } else {
        let grant = BindGrant {
            offering: ask.offering,
            consumer: ask.consumer,
            dry_run: ask.dry_run,
            // Moved already: redeeming reads the same contract.
            contract: ask.moved_contract,
        };
        let code = session::issue_code(&app.sealer, &session, challenge, Grant::Bind(grant), app.now())
            .map_err(|err| ApiError::internal("The code could not be made", err.to_string()))?;
        redirect::with_query(&client, &[("session_id", sid), ("consumer_id", consumer), ("code", &code)])
    };
    Ok(found(&url, &[]))
}
