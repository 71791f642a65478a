//! Reviewed requests: from a file, standard input or an https URL. Out: `APIServiceExportRequest`s, or one sentence about
//! what is wrong with the manifest.

use kube_bind_api::{API_VERSION, APIServiceExportRequest, APIServiceExportRequestSpec};
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use url::Url;

use crate::args::Common;
use crate::cluster::text;
use crate::errors::CliError;
use crate::server::{ReadError, client, read_at_most, unreachable};

/// A manifest with more bytes is refused.
const LIMIT: usize = 1024 * 1024;

/// One request: the name that request, export and binding share, and what is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) spec: APIServiceExportRequestSpec,
}

/// Reads `-`, a path or an https URL.
pub(crate) async fn read(from: &str, common: &Common) -> Result<Vec<Request>, CliError> {
    if from == "-" {
        let mut bytes = Vec::new();
        let failed = |reason: String| CliError::Manifest { origin: "on standard input".to_owned(), reason };
        let mut limited = std::io::Read::take(std::io::stdin().lock(), LIMIT as u64 + 1);
        std::io::Read::read_to_end(&mut limited, &mut bytes)
            .map_err(|error| failed(format!("{error}. Pipe a file into the command")))?;
        return parse("on standard input", &bytes);
    }
    if from.contains("://") {
        return parse(from, &fetch(from, common).await?);
    }
    let failed = |error: std::io::Error| CliError::Manifest {
        origin: from.to_owned(),
        reason: format!("{error}. Check the path"),
    };
    let file = tokio::fs::File::open(from).await.map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LIMIT as u64 + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    parse(from, &bytes)
}

async fn fetch(from: &str, common: &Common) -> Result<Vec<u8>, CliError> {
    let failed = |reason: String| CliError::Manifest { origin: from.to_owned(), reason };
    let url = Url::parse(from).map_err(|error| failed(format!("is not a URL: {error}")))?;
    if url.scheme() != "https" {
        return Err(failed(format!(
            "must come over https, not {}, because whoever changes it on the way decides what is bound",
            url.scheme()
        )));
    }
    let answer = client(&url, common)?.get(url.clone()).header(ACCEPT, "application/yaml, text/yaml, */*").send().await;
    let mut answer = answer.map_err(|error| unreachable(&url, &error))?;
    if answer.url().scheme() != "https" {
        return Err(failed("was redirected away from https, so it is not trusted".to_owned()));
    }
    match answer.status() {
        status if status.is_success() => {}
        StatusCode::NOT_FOUND => return Err(failed("is not there (404). Check the URL".to_owned())),
        status => return Err(failed(format!("cannot be fetched: the server answers {status}"))),
    }
    read_at_most(&mut answer, LIMIT).await.map_err(|error| match error {
        ReadError::TooLarge => too_large(from),
        ReadError::Broken(error) => unreachable(&url, &error),
    })
}

fn too_large(origin: &str) -> CliError {
    CliError::Manifest { origin: origin.to_owned(), reason: "is larger than 1 MiB, which no request is".to_owned() }
}

fn parse(origin: &str, bytes: &[u8]) -> Result<Vec<Request>, CliError> {
    let failed = |reason: String| CliError::Manifest { origin: origin.to_owned(), reason };
    if bytes.len() > LIMIT {
        return Err(too_large(origin));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| failed("is not text (UTF-8)".to_owned()))?;
    let documents =
        apimachinery::yaml::documents(text).map_err(|error| failed(format!("is not valid YAML: {error}")))?;
    if documents.is_empty() {
        return Err(failed(format!("is empty; an APIServiceExportRequest of {API_VERSION} is expected")));
    }
    documents.iter().map(|document| request(document).map_err(failed)).collect()
}

/// A request from an object, as manifests and bind responses carry them.
pub(crate) fn request(document: &Value) -> Result<Request, String> {
    let (kind, api_version) = (text(document, "/kind"), text(document, "/apiVersion"));
    if kind != "APIServiceExportRequest" || api_version != API_VERSION {
        let found = if kind.is_empty() { "something else".to_owned() } else { format!("{kind} of {api_version}") };
        return Err(format!("holds {found}; an APIServiceExportRequest of {API_VERSION} is expected"));
    }
    let name = text(document, "/metadata/name").to_owned();
    // Everything but the name is dropped: a request is made by us, not by what else stands in a file.
    let mut plain = document.clone();
    plain["metadata"] = serde_json::json!({ "name": name });
    if let Some(fields) = plain.as_object_mut() {
        fields.remove("status");
    }
    let typed: APIServiceExportRequest = serde_json::from_value(plain)
        .map_err(|error| format!("holds an APIServiceExportRequest {name:?} that cannot be read: {error}"))?;
    if typed.spec.resources.is_empty() {
        return Err(format!(
            "holds an APIServiceExportRequest {name:?} that asks for nothing: spec.resources is empty"
        ));
    }
    Ok(Request { name, spec: typed.spec })
}

#[cfg(test)]
mod tests {
    use kube_bind_api::ClaimState;

    use super::*;

    const GOOD: &str = "apiVersion: kube-bind.io/v1alpha2\nkind: APIServiceExportRequest\nmetadata: {name: things}\nspec:\n  resources:\n  - {group: x.io, resource: things, versions: [v1]}\n  permissionClaims:\n  - {resource: secrets, state: Accepted, selector: {namedResources: [{name: a}]}}\n";

    fn problem(text: &str) -> String {
        parse("file", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_reviewed_request_is_read_with_its_states() {
        let requests = parse("file", format!("---\n{GOOD}---\n{GOOD}").as_bytes()).unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].spec.permission_claims[0].state(), ClaimState::Accepted);
    }

    #[test]
    fn each_mistake_has_a_sentence() {
        assert!(problem("a: [").contains("file: is not valid YAML: line"));
        assert!(
            problem("apiVersion: v1\nkind: ConfigMap").contains("holds ConfigMap of v1; an APIServiceExportRequest")
        );
        assert!(problem("- 1").contains("holds something else"));
        assert!(problem("# nothing").contains("is empty"));
        assert!(problem(&GOOD.replace("[v1]", "7")).contains("cannot be read"));
        assert!(problem(&"#".repeat(LIMIT + 1)).contains("larger than 1 MiB"));
        assert!(problem(&GOOD.replace("state: Accepted", "state: y")).contains("cannot be read"));
    }

    #[tokio::test]
    async fn http_is_refused_before_anything_is_fetched() {
        let common = Common {
            kubeconfig: None,
            context: None,
            config_file: None,
            server_ca_file: None,
            insecure_skip_tls_verify: false,
        };
        let error = read("http://127.0.0.1:1/x.yaml", &common).await.unwrap_err().to_string();
        assert!(error.contains("must come over https"), "{error}");
    }
}
