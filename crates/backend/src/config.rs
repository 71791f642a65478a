//! What the service has to be told: flags, environment and file of the same names (reference §2.8), or a [`Config`] from
//! a program that runs it in-process.
//!
//! In: arguments. Out: a checked [`Config`]. Called by [`crate::main_from_args`] and by `kube-bind`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{ArgAction, Parser};
use contract::rbac::backend::LEASE;
use kube_bind_api::constants::CONSUMER_NAMESPACE;
use kube_bind_api::{InformerScope, Isolation};
use kube_client::Source;
use program::run::Shutdown;
use program::settings::{Environment, read_file};
use program::value::{address, duration, filled, listen, some_time};
use program::{Listen, Logs, Program, Refused, Secret};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::identity::oidc::{OidcConfig, SCOPES};

/// Where the provider's API server is.
#[derive(Clone, Debug, Default)]
pub enum KubeSource {
    /// In-cluster, or the usual kubeconfig rules.
    #[default]
    Inferred,
    /// The usual kubeconfig rules, with another context than the current one.
    Context(String),
    /// A kubeconfig file and optionally one of its contexts.
    File(PathBuf, Option<String>),
    /// The text of a kubeconfig (its current context).
    Text(String),
}

impl KubeSource {
    /// The files to look at for changes, and the same source with the context that it means now; none for a text.
    pub(crate) fn pinned(&self) -> Option<(Source, Self)> {
        let source = match self {
            Self::Inferred => Source::new(None, None),
            Self::Context(context) => Source::new(None, Some(context)),
            Self::File(path, context) => Source::new(Some(path), context.as_deref()),
            Self::Text(_) => return None,
        };
        let context = source.context().map(str::to_owned);
        let pinned = match (self, context) {
            (Self::File(path, _), context) => Self::File(path.clone(), context),
            (_, Some(context)) => Self::Context(context),
            (_, None) => Self::Inferred,
        };
        Some((source, pinned))
    }
}

/// Certificate chain and key of the HTTPS listener: PEM files that are read again, because certificates are renewed.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// How often they are looked at.
    pub look: Duration,
}

impl TlsFiles {
    /// Looked at every ten seconds.
    #[must_use]
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, look: Duration::from_secs(10) }
    }
}

/// The Lease whose holder runs the controllers.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Our name among the replicas.
    pub identity: String,
}

/// The whole configuration of one backend.
#[derive(Clone, Debug)]
pub struct Config {
    /// The provider's API server.
    pub kube: KubeSource,
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
    /// HTTPS instead of HTTP.
    pub tls: Option<TlsFiles>,
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
    /// Of several replicas the holder of this Lease runs the controllers; `None`: there is only this one.
    pub lease: Option<Lease>,
    /// Where probes and metrics are served; `None`: nowhere.
    pub server_address: Option<SocketAddr>,
    /// How long requests under way may take after the end was asked for.
    pub drain: Duration,
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
            konnector_image: contract::install::IMAGE.to_owned(),
            lease: None,
            server_address: None,
            drain: Duration::from_secs(15),
        }
    }
}

/// The relying party's secret at the issuer.
const CLIENT_SECRET: Secret = Secret {
    name: "oidc-issuer-client-secret",
    file: "oidc-issuer-client-secret-file",
    also: Some("OIDC_CLIENT_SECRET"),
};
/// The key for sessions and tokens.
const SIGNING_KEY: Secret = Secret { name: "cookie-signing-key", file: "cookie-signing-key-file", also: None };

/// How the program is configured.
pub const PROGRAM: Program = Program {
    prefix: "KUBE_BIND",
    also: &[("lease-namespace", "POD_NAMESPACE"), ("identity", "POD_NAME"), ("log-level", "RUST_LOG")],
    secrets: &[CLIENT_SECRET, SIGNING_KEY],
};

/// The provider's side of kube-bind: login, catalogue, contracts.
#[derive(Parser, Debug)]
#[command(name = "kube-bind-backend", version, about = "The provider's side of kube-bind: login, catalogue, contracts")]
pub struct Flags {
    /// YAML file with settings, such as `prettyName: Widget Inc.`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    contracts: ContractFlags,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    login: LoginFlags,
    #[command(flatten)]
    replicas: ReplicaFlags,
    /// Where /healthz, /readyz and /metrics are served: IP:PORT, :PORT for all addresses, or none; the first two are
    /// served on the listen address too
    #[arg(long, default_value = "127.0.0.1:8091", value_name = "ADDRESS", value_parser = listen, help_heading = "Probes and metrics")]
    server_address: Listen,
    #[command(flatten)]
    logs: Logs,
    #[command(flatten)]
    shutdown: Shutdown,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Provider cluster")]
struct ClusterFlags {
    /// Kubeconfig of the provider's API server (default: $KUBECONFIG, ~/.kube/config, or the pod's service account)
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig (default: its current one)
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// URL of the API server as agents of consumers reach it, https://... (default: the one used here)
    #[arg(long, value_name = "URL", value_parser = https)]
    external_address: Option<String>,
    /// CA of that API server, PEM (default: the one used here)
    #[arg(long, value_name = "FILE")]
    external_ca_file: Option<PathBuf>,
    /// TLS server name of that API server, where its certificate names another host than the URL
    #[arg(long, value_name = "NAME")]
    external_server_name: Option<String>,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Contracts")]
struct ContractFlags {
    /// The provider's name as people read it
    #[arg(long, default_value = "Backend", value_name = "NAME", value_parser = filled)]
    pretty_name: String,
    /// Start of the names of contract namespaces
    #[arg(long, default_value = "cluster-", value_name = "PREFIX", value_parser = filled)]
    namespace_prefix: String,
    /// How cluster-scoped kinds of consumers are kept apart: Prefixed, Namespaced or None
    #[arg(long, default_value = "Prefixed", value_name = "ISOLATION", value_parser = isolation, alias = "cluster-scoped-isolation")]
    isolation: Isolation,
    /// What agents watch: their own namespaces (Namespaced), or the whole provider (Cluster; only for trusted consumers)
    #[arg(long, default_value = "Namespaced", value_name = "SCOPE", value_parser = scope)]
    consumer_scope: InformerScope,
    /// How often published schemas are compared with their CRDs; at least 10s
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = interval)]
    schema_sync_interval: Duration,
    /// Image of the agent in /api/konnector-manifests, without tag
    #[arg(long, default_value = contract::install::IMAGE, value_name = "IMAGE", value_parser = filled)]
    konnector_image: String,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "HTTP")]
struct HttpFlags {
    /// Where pages and HTTP API are served: IP:PORT, or :PORT for all addresses
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS", value_parser = address)]
    listen_address: SocketAddr,
    /// URL under which browsers and command lines reach this service (default: the listen address)
    #[arg(long, value_name = "URL", value_parser = url)]
    external_url: Option<Url>,
    /// Certificate chain for HTTPS, PEM; a renewed one is taken up from the file (default: HTTP, with TLS in front of it)
    #[arg(long, value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
    /// Private key for HTTPS, PEM
    #[arg(long, value_name = "FILE")]
    tls_key_file: Option<PathBuf>,
    /// Believe X-Forwarded-Proto and X-Forwarded-Host; only behind a proxy that sets them
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    trust_forwarded_headers: bool,
    /// No HTTP API, login and pages: only the controllers and BindableResourcesRequests
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    frontend_disabled: bool,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Login")]
struct LoginFlags {
    /// The OpenID Connect issuer, exactly as it calls itself
    #[arg(long, value_name = "URL")]
    oidc_issuer_url: Option<String>,
    /// Our client id there
    #[arg(long, value_name = "ID")]
    oidc_issuer_client_id: Option<String>,
    /// File with our client secret there (or the environment variable OIDC_CLIENT_SECRET; neither: a public client)
    #[arg(long, value_name = "FILE")]
    oidc_issuer_client_secret_file: Option<PathBuf>,
    /// The callback registered there (default: <external URL>/api/callback)
    #[arg(long, value_name = "URL", value_parser = callback)]
    oidc_callback_url: Option<String>,
    /// CA of the issuer, PEM (default: those of the system)
    #[arg(long, value_name = "FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// Scopes that a login asks for beside openid, separated by commas; issuers that know no groups may want
    /// profile,email
    #[arg(long, default_value = SCOPES, value_delimiter = ',', value_name = "SCOPES", value_parser = scope_token)]
    oidc_scopes: Vec<String>,
    /// Groups that may bind, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "GROUPS")]
    oidc_allowed_groups: Vec<String>,
    /// Subjects that may bind, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "SUBJECTS")]
    oidc_allowed_users: Vec<String>,
    /// Lifetime of sessions and tokens
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = some_time)]
    token_expiry: Duration,
    /// File with base64 of at least 32 random bytes that seal sessions and tokens, the same for all replicas (or the
    /// environment variable KUBE_BIND_COOKIE_SIGNING_KEY; neither: random, and a restart ends all sessions)
    #[arg(long, value_name = "FILE")]
    cookie_signing_key_file: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Replicas")]
struct ReplicaFlags {
    /// Name of the Lease; every replica serves HTTP, the holder of the Lease runs the controllers
    #[arg(long, default_value = LEASE, value_name = "NAME", value_parser = filled)]
    lease_name: String,
    /// Namespace of the Lease; also $POD_NAMESPACE
    #[arg(long, default_value = CONSUMER_NAMESPACE, value_name = "NAMESPACE", value_parser = filled)]
    lease_namespace: String,
    /// Name of this replica (default: random); also $POD_NAME
    #[arg(long, value_name = "NAME", value_parser = filled)]
    identity: Option<String>,
}

fn isolation(text: &str) -> Result<Isolation, String> {
    match text.to_ascii_lowercase().as_str() {
        "prefixed" => Ok(Isolation::Prefixed),
        "namespaced" => Ok(Isolation::Namespaced),
        "none" => Ok(Isolation::None),
        _ => Err("must be Prefixed, Namespaced or None".to_owned()),
    }
}

fn scope(text: &str) -> Result<InformerScope, String> {
    match text.to_ascii_lowercase().as_str() {
        "namespaced" => Ok(InformerScope::Namespaced),
        "cluster" => Ok(InformerScope::Cluster),
        _ => Err("must be Namespaced or Cluster".to_owned()),
    }
}

/// A scope as RFC 6749 writes it; none at all stands for no further ones.
fn scope_token(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    if text.chars().all(fits) { Ok(text.to_owned()) } else { Err("must be scopes separated by commas".to_owned()) }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < Duration::from_secs(10) { Err("must be at least 10s".to_owned()) } else { Ok(interval) }
}

fn https(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.has_host() => Ok(text.to_owned()),
        _ => Err("must be a URL that starts with https://".to_owned()),
    }
}

fn url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "https" | "http") && url.has_host() => Ok(url),
        _ => Err("must be a URL such as https://provider.example".to_owned()),
    }
}

fn callback(text: &str) -> Result<String, String> {
    url(text)?;
    if text.ends_with("/api/callback") { Ok(text.to_owned()) } else { Err("must end with /api/callback".to_owned()) }
}

fn key(secret: &SecretString) -> Result<Vec<u8>, Refused> {
    let flag = SIGNING_KEY.file;
    let bytes = STANDARD
        .decode(secret.expose_secret())
        .map_err(|_| Refused::flag(flag, "the key must be base64 of at least 32 random bytes"))?;
    if bytes.len() < 32 {
        return Err(Refused::flag(flag, format!("the key has {} bytes; at least 32 are needed", bytes.len())));
    }
    Ok(bytes)
}

impl Flags {
    /// How it logs.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// How long the end may take.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.shutdown.shutdown_grace_period
    }

    /// Checks what has to go together and reads the files that are named.
    ///
    /// # Errors
    /// [`Refused`] naming the flag.
    pub fn into_config(self, environment: Environment<'_>) -> Result<Config, Refused> {
        let grace = self.grace();
        let Self { cluster, contracts, http, login, replicas, server_address, .. } = self;
        let tls = match (http.tls_cert_file, http.tls_key_file) {
            (Some(certificate), Some(key)) => {
                // Only whether they can be read; the listener reads them, and not only once.
                read_file("tls-cert-file", &certificate)?;
                let _ = SecretString::from(read_file("tls-key-file", &key)?);
                Some(TlsFiles::new(certificate, key))
            }
            (None, None) => None,
            (Some(_), None) => return Err(Refused::flag("tls-key-file", "is needed with --tls-cert-file")),
            (None, Some(_)) => return Err(Refused::flag("tls-cert-file", "is needed with --tls-key-file")),
        };
        let signing_key = PROGRAM.secret(&SIGNING_KEY, login.cookie_signing_key_file.as_deref(), environment)?;
        let signing_key = signing_key.as_ref().map(key).transpose()?;
        let token_expiry = login.token_expiry;
        let oidc = if http.frontend_disabled { None } else { Some(login.oidc(environment)?) };
        let kube = match (cluster.kubeconfig, cluster.context) {
            (Some(path), context) => KubeSource::File(path, context),
            (None, Some(context)) => KubeSource::Context(context),
            (None, None) => KubeSource::Inferred,
        };
        Ok(Config {
            kube,
            listen: http.listen_address,
            tls,
            external_url: http.external_url,
            trust_forwarded: http.trust_forwarded_headers,
            pretty_name: contracts.pretty_name,
            namespace_prefix: contracts.namespace_prefix,
            isolation: contracts.isolation,
            informer_scope: contracts.consumer_scope,
            external_address: cluster.external_address,
            external_ca: cluster.external_ca_file.map(|path| read_file("external-ca-file", &path)).transpose()?,
            external_server_name: cluster.external_server_name,
            oidc,
            signing_key,
            token_expiry,
            schema_sync_interval: contracts.schema_sync_interval,
            konnector_image: contracts.konnector_image,
            lease: Some(Lease {
                namespace: replicas.lease_namespace,
                name: replicas.lease_name,
                identity: replicas.identity.unwrap_or_else(|| format!("{LEASE}-{}", uuid::Uuid::new_v4())),
            }),
            server_address: server_address.0,
            // The Lease is given back in what remains.
            drain: grace.mul_f64(0.75),
        })
    }
}

impl LoginFlags {
    fn oidc(self, environment: Environment<'_>) -> Result<OidcConfig, Refused> {
        let needed = |flag: &'static str, more: &str| Refused::flag(flag, format!("is needed{more}"));
        let issuer_url = self
            .oidc_issuer_url
            .ok_or_else(|| needed("oidc-issuer-url", " (or --frontend-disabled, to go without login and pages)"))?;
        let client_id = self.oidc_issuer_client_id.ok_or_else(|| needed("oidc-issuer-client-id", ""))?;
        if self.oidc_allowed_groups.is_empty() && self.oidc_allowed_users.is_empty() {
            let reason = "name at least one group, or a user with --oidc-allowed-users";
            return Err(Refused::flag("oidc-allowed-groups", reason));
        }
        Ok(OidcConfig {
            issuer_url,
            client_id,
            client_secret: PROGRAM.secret(
                &CLIENT_SECRET,
                self.oidc_issuer_client_secret_file.as_deref(),
                environment,
            )?,
            ca: self.oidc_ca_file.as_deref().map(|path| read_file("oidc-ca-file", path)).transpose()?,
            callback_url: self.oidc_callback_url,
            allowed_groups: self.oidc_allowed_groups,
            allowed_users: self.oidc_allowed_users,
            scopes: self.oidc_scopes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    const OIDC: [&str; 6] = [
        "--oidc-issuer-url",
        "https://issuer.example",
        "--oidc-issuer-client-id",
        "id",
        "--oidc-allowed-users",
        "alice",
    ];

    fn parse(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, Refused> {
        let look =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        let all = std::iter::once("kube-bind-backend").chain(args.iter().copied()).map(OsString::from).collect();
        PROGRAM.read::<Flags>(all, &look)?.into_config(&look)
    }

    fn with_login(extra: &[&str], environment: &[(&str, &str)]) -> Result<Config, Refused> {
        parse(&[&OIDC, extra].concat(), environment)
    }

    #[test]
    fn flags_of_the_go_release_are_read() {
        let config =
            with_login(&["--consumer-scope", "cluster", "--isolation", "namespaced", "--token-expiry", "30m"], &[]);
        let config = config.unwrap();
        assert_eq!(config.informer_scope, InformerScope::Cluster);
        assert_eq!(config.isolation, Isolation::Namespaced);
        assert_eq!(config.token_expiry, Duration::from_secs(1800));
        assert!(!config.trust_forwarded);
        assert!(with_login(&["--trust-forwarded-headers"], &[]).unwrap().trust_forwarded);
    }

    #[test]
    fn wrong_values_name_their_flag() {
        let refused = |extra: &[&str]| with_login(extra, &[]).unwrap_err().to_string();
        for (flag, value) in [
            ("--isolation", "full"),
            ("--external-address", "http://x"),
            ("--schema-sync-interval", "1s"),
            ("--external-url", "provider.example"),
            ("--oidc-callback-url", "https://x/callback"),
            ("--pretty-name", ""),
            ("--oidc-scopes", "profile email"),
        ] {
            let said = refused(&[flag, value]);
            assert!(said.contains(flag) && said.contains("must"), "{flag}: {said}");
        }
        assert!(refused(&["--tls-cert-file", "/x"]).starts_with("--tls-key-file: is needed"));
        assert!(parse(&[], &[]).unwrap_err().to_string().starts_with("--oidc-issuer-url: "));
        assert!(parse(&["--frontend-disabled"], &[]).unwrap().oidc.is_none());
    }

    #[test]
    fn secrets_come_from_the_environment_or_files_and_are_checked() {
        let short = with_login(&[], &[("KUBE_BIND_COOKIE_SIGNING_KEY", "c2hvcnQ=")]).unwrap_err().to_string();
        assert_eq!(short, "--cookie-signing-key-file: the key has 5 bytes; at least 32 are needed");
        let config = with_login(&[], &[("OIDC_CLIENT_SECRET", "hush")]).unwrap();
        assert_eq!(config.oidc.unwrap().client_secret.unwrap().expose_secret(), "hush");
        let said = with_login(&["--oidc-issuer-client-secret", "hush"], &[]).unwrap_err().to_string();
        assert!(said.contains("--oidc-issuer-client-secret-file") && !said.contains("hush"), "{said}");
        let said = with_login(&["--cookie-signing-key=abc"], &[]).unwrap_err().to_string();
        assert!(said.contains("--cookie-signing-key-file"), "{said}");
    }

    #[test]
    fn scopes_are_told_in_all_three_places() {
        let scopes =
            |extra: &[&str], environment: &[(&str, &str)]| with_login(extra, environment).unwrap().oidc.unwrap().scopes;
        assert_eq!(scopes(&[], &[]), ["profile", "email", "groups"]);
        assert_eq!(scopes(&[], &[]), OidcConfig::default().scopes);
        assert_eq!(scopes(&["--oidc-scopes=profile, email"], &[]), ["profile", "email"]);
        assert_eq!(scopes(&["--oidc-scopes="], &[]), [""], "none but openid");
        let set = [("KUBE_BIND_OIDC_SCOPES", "email,https://issuer.example/teams")];
        assert_eq!(scopes(&[], &set), ["email", "https://issuer.example/teams"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        std::fs::write(&file, "oidcScopes: [profile, email]\n").unwrap();
        let named = ["--config", file.to_str().unwrap()];
        assert_eq!(scopes(&named, &[]), ["profile", "email"]);
        assert_eq!(scopes(&named, &set), ["email", "https://issuer.example/teams"]);
        assert_eq!(scopes(&[&named[..], &["--oidc-scopes", "roles"]].concat(), &set), ["roles"]);
    }

    #[test]
    fn the_file_has_the_same_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        let text = "prettyName: From File\noidcAllowedUsers: [a, b]\nfrontendDisabled: true\nleaseNamespace: here\n";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let config = parse(&["--config", file, "--isolation=none"], &[("POD_NAME", "b-1")]).unwrap();
        assert_eq!(config.pretty_name, "From File");
        assert!(config.oidc.is_none());
        assert_eq!(config.isolation, Isolation::None);
        let lease = config.lease.unwrap();
        assert_eq!((lease.namespace.as_str(), lease.name.as_str(), lease.identity.as_str()), ("here", LEASE, "b-1"));
        let config = with_login(&["--config", file, "--frontend-disabled=false"], &[]).unwrap();
        assert_eq!(config.oidc.unwrap().allowed_users, ["alice"]);
    }
}
