//! What the service has to be told: flags, environment and file of the same names (reference §2.8), or a [`Config`] from
//! a program that runs it in-process.
//!
//! In: arguments. Out: a checked [`Config`]. Called by [`crate::main_from_args`] and by `kube-bind`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use kube_bind_api::{InformerScope, Isolation};
use secrecy::SecretString;
use url::Url;

use crate::identity::oidc::OidcConfig;

/// Where the provider's API server is.
#[derive(Clone, Debug, Default)]
pub enum KubeSource {
    /// In-cluster, or the usual kubeconfig rules.
    #[default]
    Inferred,
    /// A kubeconfig file and optionally one of its contexts.
    File(PathBuf, Option<String>),
    /// The text of a kubeconfig (its current context).
    Text(String),
}

/// Certificate chain and key of the HTTPS listener, both PEM.
#[derive(Clone)]
pub struct TlsPem {
    /// Certificate chain, leaf first.
    pub certificate: String,
    /// Private key.
    pub key: SecretString,
}

impl std::fmt::Debug for TlsPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsPem(..)")
    }
}

/// The whole configuration of one backend.
#[derive(Clone, Debug)]
pub struct Config {
    /// The provider's API server.
    pub kube: KubeSource,
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
    /// HTTPS instead of HTTP.
    pub tls: Option<TlsPem>,
    /// The URL that browsers and command lines use, without path; default the listen address.
    pub external_url: Option<Url>,
    /// Believe `X-Forwarded-Proto` and `X-Forwarded-Host` (only behind a proxy that sets them).
    pub trust_forwarded: bool,
    /// The provider's name as people read it.
    pub pretty_name: String,
    /// Start of contract namespaces' names.
    pub namespace_prefix: String,
    /// How cluster-scoped consumer kinds are isolated.
    pub isolation: Isolation,
    /// Whether agents watch the provider per mapped namespace or cluster-wide.
    pub informer_scope: InformerScope,
    /// API server URL in consumers' kubeconfigs; default the one this service uses.
    pub external_address: Option<String>,
    /// CA in consumers' kubeconfigs (PEM); default the one this service uses.
    pub external_ca: Option<String>,
    /// `tls-server-name` in consumers' kubeconfigs.
    pub external_server_name: Option<String>,
    /// The relying party's registration; `None` turns HTTP API and pages off (`--frontend-disabled`).
    pub oidc: Option<OidcConfig>,
    /// Secret material (32 bytes or more) for sessions, tokens and codes. The same for all replicas and restarts;
    /// `None` makes a random one, so that a restart ends all sessions.
    pub signing_key: Option<Vec<u8>>,
    /// Lifetime of sessions and bearer tokens.
    pub token_expiry: Duration,
    /// How often schemas with policy `Always` are compared, and everything is looked at again.
    pub schema_sync_interval: Duration,
    /// Image of the konnector in `/api/konnector-manifests`, without tag.
    pub konnector_image: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kube: KubeSource::Inferred,
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            external_url: None,
            trust_forwarded: false,
            pretty_name: "Backend".to_owned(),
            namespace_prefix: "cluster-".to_owned(),
            isolation: Isolation::Prefixed,
            informer_scope: InformerScope::Namespaced,
            external_address: None,
            external_ca: None,
            external_server_name: None,
            oidc: None,
            signing_key: None,
            token_expiry: Duration::from_secs(3600),
            schema_sync_interval: Duration::from_secs(300),
            konnector_image: "ghcr.io/kube-bind/konnector".to_owned(),
        }
    }
}

/// Why a configuration is refused; each names the flag.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag's value.
    #[error("--{flag}: {reason}")]
    Flag {
        /// Without dashes.
        flag: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A file that cannot be read.
    #[error("--{flag}: cannot read {path}: {source}")]
    File {
        /// Without dashes.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn bad(flag: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Flag { flag, reason: reason.into() }
}

/// The provider's side of kube-bind: login, catalogue, contracts.
#[derive(Parser, Debug)]
#[command(name = "kube-bind-backend", version, about, args_override_self = true)]
pub struct Flags {
    /// YAML file with flags as keys, e.g. `pretty-name: Widget Inc.`; flags given here win over it
    #[arg(long, env = "KUBE_BIND_CONFIG")]
    config: Option<PathBuf>,
    /// Kubeconfig of the provider's API server; default in-cluster or the usual rules
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Context in that kubeconfig
    #[arg(long, env = "KUBE_BIND_CONTEXT")]
    context: Option<String>,
    /// Start of contract namespaces' names
    #[arg(long, env = "KUBE_BIND_NAMESPACE_PREFIX", default_value = "cluster-")]
    namespace_prefix: String,
    /// The provider's name as people read it
    #[arg(long, env = "KUBE_BIND_PRETTY_NAME", default_value = "Backend")]
    pretty_name: String,
    /// Namespaced or Cluster: how agents watch the provider
    #[arg(long, env = "KUBE_BIND_CONSUMER_SCOPE", default_value = "Namespaced")]
    consumer_scope: String,
    /// Prefixed, Namespaced or None: isolation of cluster-scoped consumer kinds
    #[arg(long, env = "KUBE_BIND_ISOLATION", default_value = "Prefixed", alias = "cluster-scoped-isolation")]
    isolation: String,
    /// API server URL that consumers use (https://...)
    #[arg(long, env = "KUBE_BIND_EXTERNAL_ADDRESS")]
    external_address: Option<String>,
    /// CA file of that API server
    #[arg(long, env = "KUBE_BIND_EXTERNAL_CA_FILE")]
    external_ca_file: Option<PathBuf>,
    /// TLS server name of that API server
    #[arg(long, env = "KUBE_BIND_EXTERNAL_SERVER_NAME")]
    external_server_name: Option<String>,
    /// The URL under which browsers and command lines reach this service
    #[arg(long, env = "KUBE_BIND_EXTERNAL_URL")]
    external_url: Option<String>,
    /// Believe X-Forwarded-Proto and X-Forwarded-Host
    #[arg(long, env = "KUBE_BIND_TRUST_FORWARDED_HEADERS")]
    trust_forwarded_headers: bool,
    /// No HTTP API, login and pages: only the controllers and BindableResourcesRequests
    #[arg(long, env = "KUBE_BIND_FRONTEND_DISABLED")]
    frontend_disabled: bool,
    /// Lifetime of sessions and tokens, e.g. 1h
    #[arg(long, env = "KUBE_BIND_TOKEN_EXPIRY", default_value = "1h")]
    token_expiry: String,
    /// How often bound schemas are compared, e.g. 5m; at least 10s
    #[arg(long, env = "KUBE_BIND_SCHEMA_SYNC_INTERVAL", default_value = "5m")]
    schema_sync_interval: String,
    /// Where to listen
    #[arg(long, env = "KUBE_BIND_LISTEN_ADDRESS", default_value = "127.0.0.1:8080")]
    listen_address: String,
    /// Certificate chain (PEM) for HTTPS
    #[arg(long, env = "KUBE_BIND_TLS_CERT_FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Private key (PEM) for HTTPS
    #[arg(long, env = "KUBE_BIND_TLS_KEY_FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// The OpenID Connect issuer
    #[arg(long, env = "KUBE_BIND_OIDC_ISSUER_URL")]
    oidc_issuer_url: Option<String>,
    /// Our client id there
    #[arg(long, env = "KUBE_BIND_OIDC_ISSUER_CLIENT_ID")]
    oidc_issuer_client_id: Option<String>,
    /// File with our client secret there (or the environment variable OIDC_CLIENT_SECRET)
    #[arg(long, env = "KUBE_BIND_OIDC_ISSUER_CLIENT_SECRET_FILE")]
    oidc_issuer_client_secret_file: Option<PathBuf>,
    /// Our client secret there; prefer the file or OIDC_CLIENT_SECRET, arguments are visible to others
    #[arg(long, env = "OIDC_CLIENT_SECRET", hide_env_values = true)]
    oidc_issuer_client_secret: Option<String>,
    /// The callback URL registered there; must end with /api/callback
    #[arg(long, env = "KUBE_BIND_OIDC_CALLBACK_URL")]
    oidc_callback_url: Option<String>,
    /// CA file of the issuer
    #[arg(long, env = "KUBE_BIND_OIDC_CA_FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// Groups that may bind
    #[arg(long, env = "KUBE_BIND_OIDC_ALLOWED_GROUPS", value_delimiter = ',')]
    oidc_allowed_groups: Vec<String>,
    /// Subjects that may bind
    #[arg(long, env = "KUBE_BIND_OIDC_ALLOWED_USERS", value_delimiter = ',')]
    oidc_allowed_users: Vec<String>,
    /// Base64 of at least 32 random bytes for sessions and tokens; the same for all replicas
    #[arg(long, env = "KUBE_BIND_COOKIE_SIGNING_KEY", hide_env_values = true)]
    cookie_signing_key: Option<String>,
    /// File with that key
    #[arg(long, env = "KUBE_BIND_COOKIE_SIGNING_KEY_FILE", conflicts_with = "cookie_signing_key")]
    cookie_signing_key_file: Option<PathBuf>,
    /// Image of the konnector in /api/konnector-manifests, without tag
    #[arg(long, env = "KUBE_BIND_KONNECTOR_IMAGE", default_value = "ghcr.io/kube-bind/konnector")]
    konnector_image: String,
}

/// Arguments with those of the `--config` file put before them, so that what is typed wins.
///
/// # Errors
/// [`ConfigError`] if the file cannot be read or is not a mapping of flags.
pub fn with_file(args: Vec<OsString>) -> Result<Vec<OsString>, ConfigError> {
    let mut path = std::env::var_os("KUBE_BIND_CONFIG").map(PathBuf::from);
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        if text == "--config" {
            path = rest.next().map(PathBuf::from);
        } else if let Some(value) = text.strip_prefix("--config=") {
            path = Some(PathBuf::from(value));
        }
    }
    let Some(path) = path else { return Ok(args) };
    let text = read("config", &path)?;
    let map: std::collections::BTreeMap<String, serde_json::Value> =
        serde_saphyr::from_str(&text).map_err(|err| bad("config", format!("{}: {err}", path.display())))?;
    let mut out: Vec<OsString> = args.iter().take(1).cloned().collect();
    for (key, value) in map {
        let values = match value {
            serde_json::Value::Array(list) => list,
            one => vec![one],
        };
        for value in values {
            match value {
                serde_json::Value::Bool(true) => out.push(format!("--{key}").into()),
                serde_json::Value::Bool(false) | serde_json::Value::Null => {}
                serde_json::Value::String(text) => out.push(format!("--{key}={text}").into()),
                other => out.push(format!("--{key}={other}").into()),
            }
        }
    }
    out.extend(args.into_iter().skip(1));
    Ok(out)
}

fn read(flag: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::File { flag, path: path.to_owned(), source })
}

fn duration(flag: &'static str, text: &str) -> Result<Duration, ConfigError> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| bad(flag, format!("{text:?} is not a duration such as 90s, 5m or 1h")))?;
    Duration::try_from(span).map_err(|_| bad(flag, "must not be negative"))
}

fn key(text: &str) -> Result<Vec<u8>, ConfigError> {
    let bytes = STANDARD
        .decode(text.trim())
        .map_err(|_| bad("cookie-signing-key", "must be base64 of at least 32 random bytes"))?;
    if bytes.len() < 32 {
        return Err(bad("cookie-signing-key", format!("has {} bytes; at least 32 are needed", bytes.len())));
    }
    Ok(bytes)
}

impl Flags {
    /// Checks the flags and reads the files they name.
    ///
    /// # Errors
    /// [`ConfigError`] naming the flag.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let informer_scope = match self.consumer_scope.to_ascii_lowercase().as_str() {
            "namespaced" => InformerScope::Namespaced,
            "cluster" => InformerScope::Cluster,
            other => return Err(bad("consumer-scope", format!("{other:?} is neither Namespaced nor Cluster"))),
        };
        let isolation = match self.isolation.to_ascii_lowercase().as_str() {
            "prefixed" => Isolation::Prefixed,
            "namespaced" => Isolation::Namespaced,
            "none" | "" => Isolation::None,
            other => return Err(bad("isolation", format!("{other:?} is none of Prefixed, Namespaced, None"))),
        };
        for (flag, value) in [("namespace-prefix", &self.namespace_prefix), ("pretty-name", &self.pretty_name)] {
            if value.is_empty() {
                return Err(bad(flag, "must not be empty"));
            }
        }
        if let Some(address) = &self.external_address
            && !address.starts_with("https://")
        {
            return Err(bad("external-address", "must start with https://"));
        }
        let listen = self
            .listen_address
            .parse()
            .map_err(|_| bad("listen-address", format!("{:?} is not <ip>:<port>", self.listen_address)))?;
        let schema_sync_interval = duration("schema-sync-interval", &self.schema_sync_interval)?;
        if schema_sync_interval < Duration::from_secs(10) {
            return Err(bad("schema-sync-interval", "must be at least 10s"));
        }
        let external_url = match &self.external_url {
            Some(text) => Some(Url::parse(text).map_err(|err| bad("external-url", format!("{text:?}: {err}")))?),
            None => None,
        };
        let tls = match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(cert), Some(key)) => Some(TlsPem {
                certificate: read("tls-cert-file", cert)?,
                key: SecretString::from(read("tls-key-file", key)?),
            }),
            _ => None,
        };
        let signing_key = match (&self.cookie_signing_key, &self.cookie_signing_key_file) {
            (Some(text), _) => Some(key(text)?),
            (None, Some(path)) => Some(key(&read("cookie-signing-key-file", path)?)?),
            (None, None) => None,
        };
        let oidc = if self.frontend_disabled { None } else { Some(self.oidc()?) };
        let kube = match self.kubeconfig {
            Some(path) => KubeSource::File(path, self.context),
            None => KubeSource::Inferred,
        };
        Ok(Config {
            kube,
            listen,
            tls,
            external_url,
            trust_forwarded: self.trust_forwarded_headers,
            pretty_name: self.pretty_name,
            namespace_prefix: self.namespace_prefix,
            isolation,
            informer_scope,
            external_address: self.external_address,
            external_ca: self.external_ca_file.map(|path| read("external-ca-file", &path)).transpose()?,
            external_server_name: self.external_server_name,
            oidc,
            signing_key,
            token_expiry: duration("token-expiry", &self.token_expiry)?,
            schema_sync_interval,
            konnector_image: self.konnector_image,
        })
    }

    fn oidc(&self) -> Result<OidcConfig, ConfigError> {
        let issuer_url = self.oidc_issuer_url.clone().ok_or_else(|| {
            bad("oidc-issuer-url", "is needed (or --frontend-disabled, to go without login and pages)")
        })?;
        let client_id = self.oidc_issuer_client_id.clone().ok_or_else(|| bad("oidc-issuer-client-id", "is needed"))?;
        if let Some(url) = &self.oidc_callback_url
            && !url.ends_with("/api/callback")
        {
            return Err(bad("oidc-callback-url", "must end with /api/callback"));
        }
        let client_secret = match (&self.oidc_issuer_client_secret, &self.oidc_issuer_client_secret_file) {
            (Some(text), _) => Some(SecretString::from(text.clone())),
            (None, Some(path)) => {
                Some(SecretString::from(read("oidc-issuer-client-secret-file", path)?.trim().to_owned()))
            }
            (None, None) => None,
        };
        if self.oidc_allowed_groups.is_empty() && self.oidc_allowed_users.is_empty() {
            return Err(bad("oidc-allowed-groups", "name at least one group, or a user with --oidc-allowed-users"));
        }
        Ok(OidcConfig {
            issuer_url,
            client_id,
            client_secret,
            ca: self.oidc_ca_file.as_deref().map(|path| read("oidc-ca-file", path)).transpose()?,
            callback_url: self.oidc_callback_url.clone(),
            allowed_groups: self.oidc_allowed_groups.clone(),
            allowed_users: self.oidc_allowed_users.clone(),
            ..OidcConfig::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, ConfigError> {
        let mut all = vec!["kube-bind-backend"];
        all.extend(args);
        Flags::try_parse_from(all).unwrap().into_config()
    }

    const OIDC: [&str; 6] = [
        "--oidc-issuer-url",
        "https://issuer.example",
        "--oidc-issuer-client-id",
        "id",
        "--oidc-allowed-users",
        "alice",
    ];

    #[test]
    fn flags_of_the_go_release_are_read() {
        let mut args = OIDC.to_vec();
        args.extend(["--consumer-scope", "cluster", "--isolation", "namespaced", "--token-expiry", "30m"]);
        let config = parse(&args).unwrap();
        assert_eq!(config.informer_scope, InformerScope::Cluster);
        assert_eq!(config.isolation, Isolation::Namespaced);
        assert_eq!(config.token_expiry, Duration::from_secs(1800));
    }

    #[test]
    fn wrong_values_name_their_flag() {
        let refused = |extra: &[&str]| {
            let mut args = OIDC.to_vec();
            args.extend(extra);
            parse(&args).unwrap_err().to_string()
        };
        assert!(refused(&["--isolation", "full"]).starts_with("--isolation: "));
        assert!(refused(&["--external-address", "http://x"]).starts_with("--external-address: "));
        assert!(refused(&["--cookie-signing-key", "c2hvcnQ="]).starts_with("--cookie-signing-key: "));
        assert!(refused(&["--schema-sync-interval", "1s"]).starts_with("--schema-sync-interval: "));
        assert!(parse(&[]).unwrap_err().to_string().starts_with("--oidc-issuer-url: "));
    }

    #[test]
    fn the_file_has_the_same_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yaml");
        std::fs::write(&file, "pretty-name: From File\noidc-allowed-users: [a, b]\nfrontend-disabled: true\n").unwrap();
        let args = with_file(vec!["x".into(), "--config".into(), file.into(), "--isolation=none".into()]).unwrap();
        let config = Flags::try_parse_from(args).unwrap().into_config().unwrap();
        assert_eq!(config.pretty_name, "From File");
        assert!(config.oidc.is_none());
        assert_eq!(config.isolation, Isolation::None);
    }
}
