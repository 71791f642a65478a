//! `kubectl bind <url>`: the browser, the question, the bind (scenarios S1 to S3).

use std::io::IsTerminal as _;
use std::time::Duration;

use jiff::Timestamp;
use kube_bind_api::wire::BindingResourceResponse;
use serde_json::{Value, json};
use url::Url;

use crate::args::{BindArgs, Common};
use crate::binder::{self, Bind, Bound, Credential};
use crate::browser::{self, Answer, Trip};
use crate::cluster::{Cluster, text};
use crate::consent::{self, Source};
use crate::errors::CliError;
use crate::held;
use crate::logins::{Login, Logins};
use crate::manifest::{self, Request};
use crate::print;
use crate::server::{ProviderServer, parse_url, recorded_url};

pub(crate) async fn run(args: BindArgs, common: &Common) -> Result<(), CliError> {
    let url = parse_url(args.url.as_deref().ok_or(CliError::NoUrl)?)?;
    if let Some(name) = &args.name {
        binder::check_name(name)?;
    }
    // The cluster first: nobody should log in for a bind that cannot work.
    let consumer = Cluster::consumer(common).await?;
    let identity = match &args.cluster_identity {
        Some(identity) => identity.clone(),
        None => consumer.identity().await?,
    };
    let server = ProviderServer::new(&url, common)?;
    let document = server.document(&url).await?;
    let provider = document.provider_pretty_name.clone();
    let held = held::elsewhere(&consumer, &url).await?;
    let response = ask_provider(&args, common, &server, &url, &identity, held.as_deref()).await?;
    let mut requests = requests(&response, &url)?;
    if let Some(name) = &args.name {
        rename(&mut requests, name)?;
    }
    if args.dry_run.dry_run {
        return print::documents(&documents(&requests, Some("Pending")), args.dry_run.output);
    }
    let origin = format!("from {}", recorded_url(&url));
    let credential = Credential {
        provider: Cluster::contract(&response.kubeconfig.0, &origin).await?,
        kubeconfig: response.kubeconfig.0,
        secret: None,
    };
    let bind = Bind { consumer, credential, requests, url: Some(recorded_url(&url)), agent: args.agent };
    carry_out(bind, &server, &provider, args.consent.accept_claims).await
}

/// Checks, asks and binds with a credential that was handed out for this. Whatever ends it before something is bound, the
/// contract that was made for it goes too.
pub(crate) async fn carry_out(
    mut bind: Bind,
    server: &ProviderServer,
    provider: &str,
    accept: bool,
) -> Result<(), CliError> {
    let result = decide_and_perform(&mut bind, provider, accept).await;
    if result.is_err() {
        server.give_back(&bind.credential.kubeconfig).await;
    }
    report(&result?)
}

async fn decide_and_perform(bind: &mut Bind, provider: &str, accept: bool) -> Result<Bound, CliError> {
    bind.check().await?;
    // The question blocks a thread; Ctrl-C while it is open is an answer too.
    let (mut requests, provider) = (std::mem::take(&mut bind.requests), provider.to_owned());
    let question = tokio::task::spawn_blocking(move || {
        consent::decide(&mut requests, &provider, accept, Source::Provider).map(|()| requests)
    });
    bind.requests = tokio::select! {
        decided = question => decided.map_err(std::io::Error::other)??,
        _ = tokio::signal::ctrl_c() => {
            eprintln!();
            return Err(CliError::ClaimsDeclined);
        }
    };
    bind.perform().await
}

/// What was bound, for people and for scripts that read standard output.
pub(crate) fn report(bound: &Bound) -> Result<(), CliError> {
    let accepted = if bound.claims_accepted { "Accepted permission claims.\n" } else { "" };
    print::line(&format!("Added APIs: {}\n{accepted}", bound.apis.join(", ")))
}

/// Contract, credential and requests from the provider: by the login that there is, when an offering is named or chosen
/// in the terminal; else by the browser.
async fn ask_provider(
    args: &BindArgs,
    common: &Common,
    server: &ProviderServer,
    url: &Url,
    identity: &str,
    held: Option<&str>,
) -> Result<BindingResourceResponse, CliError> {
    let login = Logins::load(common.config_file.as_deref())?.live(Some(url), Timestamp::now());
    if let Some(offering) = &args.template {
        return bind_by_login(server, &login?, offering, args, identity).await;
    }
    if args.skip_browser
        && std::io::stdin().is_terminal()
        && let Ok(login) = &login
        && let Some(offering) = choose(server, login, url).await?
    {
        return bind_by_login(server, login, &offering, args, identity).await;
    }
    let trip = Trip::prepare(false).await?;
    let mut more = vec![("consumer_id", identity), ("client_type", "ui")];
    if args.dry_run.dry_run {
        more.push(("dry_run", "true"));
    }
    if let Some(contract) = held {
        // The page asks whether it shall move here.
        more.push(("contract", contract));
    }
    browser::open(&trip.url(url, &more), args.skip_browser);
    match trip.answer(Duration::from_secs(args.timeout)).await? {
        (Answer::Code(code), verifier) => server.redeem_bind(&code, &verifier).await,
        (Answer::Response(bytes), _) => serde_json::from_slice(&bytes)
            .map_err(|error| CliError::Login { reason: format!("the provider's answer cannot be read: {error}") }),
        (Answer::Token(_), _) => {
            Err(CliError::Login { reason: "the provider answered with a login instead of a bind".to_owned() })
        }
    }
}

async fn bind_by_login(
    server: &ProviderServer,
    login: &Login,
    offering: &str,
    args: &BindArgs,
    identity: &str,
) -> Result<BindingResourceResponse, CliError> {
    let name = args.name.as_deref().unwrap_or(offering);
    server.bind(&login.token, offering, name, identity, args.dry_run.dry_run).await
}

/// The chooser of someone without a browser (scenario S2). None: the login does not do, or nothing was chosen.
async fn choose(server: &ProviderServer, login: &Login, url: &Url) -> Result<Option<String>, CliError> {
    let Ok(list) = server.list("templates", &login.token).await else { return Ok(None) };
    let named =
        url.path_segments().and_then(|mut segments| segments.next_back().map(str::to_owned)).unwrap_or_default();
    let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(one) = items.iter().find(|item| text(item, "/metadata/name") == named) {
        return Ok(Some(text(one, "/metadata/name").to_owned()));
    }
    if let [only] = items.as_slice() {
        return Ok(Some(text(only, "/metadata/name").to_owned()));
    }
    for (at, item) in items.iter().enumerate() {
        eprintln!("{}. {}  {}", at + 1, text(item, "/metadata/name"), text(item, "/spec/description"));
    }
    eprint!("Which one? [1-{}] ", items.len());
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let chosen = answer.trim().parse::<usize>().ok().and_then(|number| items.get(number.wrapping_sub(1)));
    Ok(chosen.map(|item| text(item, "/metadata/name").to_owned()))
}

/// The requests in a provider's answer.
pub(crate) fn requests(response: &BindingResourceResponse, url: &Url) -> Result<Vec<Request>, CliError> {
    let wrong =
        |reason: String| CliError::NotKubeBind { url: recorded_url(url), reason: format!("its answer {reason}") };
    let requests = response
        .requests
        .iter()
        .map(|request| manifest::request(request).map_err(wrong))
        .collect::<Result<Vec<_>, _>>()?;
    if requests.is_empty() {
        return Err(wrong("asks for no API".to_owned()));
    }
    Ok(requests)
}

/// Gives the only request another name.
pub(crate) fn rename(requests: &mut [Request], name: &str) -> Result<(), CliError> {
    match requests {
        [only] => name.clone_into(&mut only.name),
        _ => {
            return Err(CliError::BadName {
                name: name.to_owned(),
                reason: format!("there are {} requests, and each needs a name of its own", requests.len()),
            });
        }
    }
    Ok(())
}

/// Requests as objects for a file; `state` goes to each claim.
pub(crate) fn documents(requests: &[Request], state: Option<&str>) -> Vec<Value> {
    let document = |request: &Request| {
        let mut spec = json!(request.spec);
        if let Some(state) = state {
            for claim in spec.get_mut("permissionClaims").and_then(Value::as_array_mut).into_iter().flatten() {
                claim["state"] = json!(state);
            }
        }
        json!({
            "apiVersion": kube_bind_api::API_VERSION, "kind": "APIServiceExportRequest",
            "metadata": {"name": request.name}, "spec": spec,
        })
    };
    requests.iter().map(document).collect()
}
