//! The CLI's own file `~/.kube-bind/config`: JSON, shared with the Go CLI, so unknown fields are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Known servers and which one is meant when none is named.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CliConfig {
    /// `v1`.
    #[serde(default = "version")]
    pub api_version: String,
    /// `Config`.
    #[serde(default = "kind")]
    pub kind: String,
    /// By [`server_key`].
    #[serde(default)]
    pub servers: BTreeMap<String, Server>,
    /// Key of the current server.
    #[serde(default)]
    pub current: String,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One server with the token of the last login.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// `scheme://host[:port]`.
    pub url: String,
    /// Provider-side logical cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// A credential: never log it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// `Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Who logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for CliConfig {
    fn default() -> Self {
        Self {
            api_version: version(),
            kind: kind(),
            servers: BTreeMap::new(),
            current: String::new(),
            other: Map::new(),
        }
    }
}

/// `<url>`, or `<cluster>@<url>` for a provider with several logical clusters.
pub fn server_key(url: &str, cluster: Option<&str>) -> String {
    match cluster.filter(|cluster| !cluster.is_empty()) {
        Some(cluster) => format!("{cluster}@{url}"),
        None => url.to_owned(),
    }
}

fn version() -> String {
    "v1".into()
}

fn kind() -> String {
    "Config".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_does_not_know() {
        let text = r#"{"apiVersion":"v1","kind":"Config","servers":{"https://a":{"url":"https://a","later":1}},
            "current":"https://a","more":true}"#;
        let config: CliConfig = serde_json::from_str(text).unwrap();
        let back = serde_json::to_value(&config).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(server_key("https://a", Some("c")), "c@https://a");
        assert_eq!(server_key("https://a", Some("")), "https://a");
        let empty: CliConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(empty.kind, "Config");
    }
}
