//! What a provider offers, and the credential of a contract: commands that use the token of a login.

use jiff::Timestamp;
use serde_json::Value;
use url::Url;

use crate::args::{Common, ListFormat};
use crate::binder::condition;
use crate::cluster::{Cluster, text};
use crate::errors::CliError;
use crate::kubeconfig::with_export_url;
use crate::logins::{Login, Logins, origin};
use crate::print::{self, age, or_none};
use crate::server::{ProviderServer, parse_url, recorded_url};

/// The login for a URL (or the last one), and its server.
pub(crate) fn logged_in(url: Option<&str>, common: &Common) -> Result<(ProviderServer, Login, Option<Url>), CliError> {
    let url = url.map(parse_url).transpose()?;
    let login = Logins::load(common.config_file.as_deref())?.live(url.as_ref(), Timestamp::now())?;
    let server = ProviderServer::new(&login.server, common)?;
    Ok((server, login, url))
}

pub(crate) async fn templates(url: Option<&str>, format: ListFormat, common: &Common) -> Result<(), CliError> {
    let (server, login, _) = logged_in(url, common)?;
    let list = server.list("templates", &login.token).await?;
    let now = Timestamp::now();
    let names = |item: &Value, pointer: &str, field: &str| {
        let entries = item.pointer(pointer).and_then(Value::as_array);
        let names: Vec<&str> = entries.into_iter().flatten().filter_map(|entry| entry.get(field)?.as_str()).collect();
        or_none(names.join(","))
    };
    print::list(
        &list,
        "APIServiceExportTemplate",
        format,
        &["NAME", "RESOURCES", "PERMISSIONCLAIMS", "AGE"],
        |item| {
            vec![
                text(item, "/metadata/name").to_owned(),
                names(item, "/spec/resources", "group"),
                names(item, "/spec/permissionClaims", "resource"),
                age(text(item, "/metadata/creationTimestamp"), now),
            ]
        },
    )?;
    for item in list.get("items").and_then(Value::as_array).into_iter().flatten() {
        if condition(item, "Available", "status") == "False" {
            eprintln!(
                "{} is not available yet: {}",
                text(item, "/metadata/name"),
                condition(item, "Available", "message")
            );
        }
    }
    Ok(())
}

pub(crate) async fn collections(url: Option<&str>, format: ListFormat, common: &Common) -> Result<(), CliError> {
    let (server, login, _) = logged_in(url, common)?;
    let list = server.list("collections", &login.token).await?;
    let now = Timestamp::now();
    print::list(&list, "Collection", format, &["NAME", "DESCRIPTION", "TEMPLATES", "AGE"], |item| {
        let templates = item.pointer("/spec/templates").and_then(Value::as_array);
        let templates: Vec<&str> =
            templates.into_iter().flatten().filter_map(|entry| entry.get("name")?.as_str()).collect();
        vec![
            text(item, "/metadata/name").to_owned(),
            or_none(text(item, "/spec/description").to_owned()),
            or_none(templates.join(",")),
            age(text(item, "/metadata/creationTimestamp"), now),
        ]
    })
}

/// Prints the kubeconfig of this cluster's contract. A contract comes with an offering: the one that the URL names, else
/// any that can be bound, for the credential is the same.
pub(crate) async fn kubeconfig(url: Option<&str>, identity: Option<String>, common: &Common) -> Result<(), CliError> {
    let (server, login, url) = logged_in(url, common)?;
    let identity = match identity {
        Some(identity) => identity,
        None => Cluster::consumer(common).await?.identity().await?,
    };
    let list = server.list("templates", &login.token).await?;
    let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let names: Vec<&str> = items.iter().map(|item| text(item, "/metadata/name")).collect();
    let named = url
        .as_ref()
        .and_then(|url| url.path_segments().and_then(|mut segments| segments.next_back().map(str::to_owned)));
    let mut candidates: Vec<&str> = names.iter().copied().filter(|name| named.as_deref() == Some(*name)).collect();
    if candidates.is_empty() {
        candidates = names;
    }
    let mut refusal = CliError::Refused {
        url: origin(&login.server),
        message: "it offers nothing".to_owned(),
        mend: ". Ask the provider".to_owned(),
    };
    for offering in candidates {
        match server.bind(&login.token, offering, offering, &identity, false).await {
            Ok(response) => {
                let url = recorded_url(url.as_ref().unwrap_or(&login.server));
                return print::line(&String::from_utf8_lossy(&with_export_url(&response.kubeconfig.0, &url)));
            }
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}
