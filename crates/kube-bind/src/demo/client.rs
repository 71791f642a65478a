//! The database's client: somebody's application in the consumer cluster. It reads nothing but the Service and the
//! Secret there.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A connection to a database.
pub(super) struct Database {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Database {
    /// From the Service and the Secret as the API server shows them.
    pub(super) fn new(service: &Value, secret: &Value) -> Result<Self> {
        let host =
            service.pointer("/spec/externalName").and_then(Value::as_str).context("the Service has no externalName")?;
        let port = service.pointer("/spec/ports/0/port").and_then(Value::as_u64).context("the Service has no port")?;
        let token = secret.pointer("/data/token").and_then(Value::as_str).context("the Secret has no token")?;
        let token = String::from_utf8(STANDARD.decode(token)?)?;
        // Names under .localhost are loopback (RFC 6761); not every system's resolver knows.
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?));
        let mut http = reqwest::Client::builder().tls_certs_only([]).no_proxy();
        if host.ends_with(".localhost") {
            http = http.resolve(host, address);
        }
        Ok(Self { http: http.build()?, url: format!("http://{host}:{port}/v1"), token })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Stores a value; gives the HTTP status.
    pub(super) async fn write(&self, key: &str, value: String) -> Result<u16> {
        let request = self.http.put(format!("{}/{key}", self.url)).bearer_auth(&self.token).body(value);
        Ok(request.send().await.context("the database does not answer")?.status().as_u16())
    }

    /// Reads a value back.
    pub(super) async fn read(&self, key: &str) -> Result<String> {
        let request = self.http.get(format!("{}/{key}", self.url)).bearer_auth(&self.token);
        Ok(request.send().await.context("the database does not answer")?.error_for_status()?.text().await?)
    }

    /// Tries with a token of the right length that is not the right one; gives the HTTP status.
    pub(super) async fn read_with_wrong_token(&self, key: &str) -> Result<u16> {
        let wrong: String = self.token.chars().map(|c| if c == 'x' { 'y' } else { 'x' }).collect();
        let request = self.http.get(format!("{}/{key}", self.url)).bearer_auth(wrong);
        Ok(request.send().await.context("the database does not answer")?.status().as_u16())
    }
}
