//! `kubectl bind login <url>`: a token from the provider, kept in the file of logins.

use std::time::Duration;

use jiff::Timestamp;
use kube_bind_api::wire::TokenResponse;
use url::Url;

use crate::args::Common;
use crate::browser::{self, Answer, Trip};
use crate::errors::CliError;
use crate::logins::{Logins, origin};
use crate::server::{ProviderServer, parse_url};

pub(crate) async fn run(url: &str, skip_browser: bool, timeout: u64, common: &Common) -> Result<(), CliError> {
    let url = parse_url(url)?;
    let mut logins = Logins::load(common.config_file.as_deref())?;
    let server = ProviderServer::new(&url, common)?;
    let document = server.document(&url).await?;
    let begin = document.authenticated_url().unwrap_or_default();
    let begin = Url::parse(begin).map_err(|error| CliError::NotKubeBind {
        url: url.to_string(),
        reason: format!("its login URL {begin:?}: {error}"),
    })?;
    let trip = Trip::prepare(true).await?;
    browser::open(&trip.url(&begin, &[("client_type", "cli")]), skip_browser);
    let token = match trip.answer(Duration::from_secs(timeout)).await? {
        (Answer::Code(code), verifier) => server.redeem_login(&code, &verifier).await?,
        (Answer::Token(mut query), _) => TokenResponse {
            access_token: query.remove("access_token").unwrap_or_default(),
            token_type: query.remove("token_type").unwrap_or_default(),
            expires_in: query.get("expires_in").and_then(|text| text.parse().ok()).unwrap_or(3600),
            cluster_id: query.remove("cluster_id"),
        },
        (Answer::Response(_), _) => {
            return Err(CliError::Login { reason: "the provider answered with a bind instead of a login".to_owned() });
        }
    };
    let lasts = token.expires_in / 60;
    logins.keep(&url, token, Timestamp::now())?;
    eprintln!("Logged in at {} ({}) for {lasts} minutes.", document.provider_pretty_name, origin(&url));
    Ok(())
}
