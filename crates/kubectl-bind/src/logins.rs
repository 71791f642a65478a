//! The file of logins, `~/.kube-bind/config` (reference §3.1): which providers there are tokens for, and the current one.
//!
//! In: the file. Out: the file again, replaced as a whole (0600, its folder 0700), with what we do not know kept.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use kube_bind_api::config::{CliConfig, Server, server_key};
use kube_bind_api::wire::TokenResponse;
use secrecy::SecretString;
use url::Url;

use crate::errors::CliError;

/// A token with less life left is not used.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// The file and what it says.
pub(crate) struct Logins {
    path: PathBuf,
    config: CliConfig,
}

/// A provider with a live token.
pub(crate) struct Login {
    /// `scheme://host[:port]`.
    pub(crate) server: Url,
    /// The bearer token.
    pub(crate) token: SecretString,
}

impl Logins {
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, CliError> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        let failed = |reason: String| CliError::ConfigFile { path: path.display().to_string(), reason };
        let config = match fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => CliConfig::default(),
            Ok(text) => serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => CliConfig::default(),
            Err(error) => return Err(failed(error.to_string())),
        };
        Ok(Self { path, config })
    }

    /// Keeps a fresh token and makes its server the current one.
    pub(crate) fn keep(&mut self, server: &Url, token: TokenResponse, now: Timestamp) -> Result<(), CliError> {
        let url = origin(server);
        let key = server_key(&url, token.cluster_id.as_deref());
        let expires_at =
            now + SignedDuration::from_secs(i64::try_from(token.expires_in).unwrap_or(i64::MAX / 2).min(10_000_000));
        let entry = self.config.servers.entry(key.clone()).or_insert_with(|| Server {
            url: url.clone(),
            cluster: None,
            access_token: None,
            token_type: None,
            expires_at: None,
            username: None,
            other: serde_json::Map::new(),
        });
        entry.cluster = token.cluster_id.filter(|cluster| !cluster.is_empty());
        entry.access_token = Some(token.access_token);
        entry.token_type = Some(token.token_type).filter(|kind| !kind.is_empty());
        entry.expires_at = Some(expires_at.round(jiff::Unit::Second).unwrap_or(expires_at).to_string());
        self.config.current = key;
        self.save()
    }

    /// The live token for `server`, or of the last login when no server is named.
    pub(crate) fn live(&self, server: Option<&Url>, now: Timestamp) -> Result<Login, CliError> {
        let key = match server {
            Some(url) => origin(url),
            None if self.config.current.is_empty() => return Err(CliError::NoServer),
            None => self.config.current.clone(),
        };
        let missing = || CliError::NoLogin { server: key.clone() };
        let entry = self.config.servers.get(&key).ok_or_else(missing)?;
        let token = entry.access_token.clone().filter(|token| !token.is_empty()).ok_or_else(missing)?;
        if let Some(expires) = entry.expires_at.as_deref().and_then(|text| text.parse::<Timestamp>().ok())
            && expires < now + MARGIN
        {
            return Err(missing());
        }
        let server = Url::parse(&entry.url).map_err(|error| CliError::ConfigFile {
            path: self.path.display().to_string(),
            reason: format!("server {key:?} has the URL {:?}: {error}", entry.url),
        })?;
        Ok(Login { server, token: token.into() })
    }

    fn save(&self) -> Result<(), CliError> {
        let failed = |error: std::io::Error| CliError::ConfigFile {
            path: self.path.display().to_string(),
            reason: error.to_string(),
        };
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let text = serde_json::to_vec_pretty(&self.config).map_err(|error| failed(error.into()))?;
        let beside = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&beside, &self.path).map_err(failed)
    }
}

fn default_path() -> Result<PathBuf, CliError> {
    let home = std::env::home_dir().ok_or_else(|| CliError::ConfigFile {
        path: "~/.kube-bind/config".to_owned(),
        reason: "there is no home directory; pass --config-file".to_owned(),
    })?;
    Ok(home.join(".kube-bind").join("config"))
}

/// `scheme://host[:port]` of a URL.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn token(text: &str) -> TokenResponse {
        TokenResponse { access_token: text.into(), token_type: "Bearer".into(), expires_in: 3600, cluster_id: None }
    }

    #[test]
    fn a_login_is_kept_private_and_found_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("config");
        let now = Timestamp::from_second(1_000_000).unwrap();
        let server = Url::parse("https://p.example/exports?x=1").unwrap();
        Logins::load(Some(&path)).unwrap().keep(&server, token("t1"), now).unwrap();
        let logins = Logins::load(Some(&path)).unwrap();
        assert_eq!(logins.live(None, now).unwrap().token.expose_secret(), "t1");
        assert_eq!(logins.live(Some(&server), now).unwrap().server.as_str(), "https://p.example/");
        let late = now + SignedDuration::from_secs(3590);
        assert!(matches!(logins.live(None, late), Err(CliError::NoLogin { server }) if server == "https://p.example"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_broken_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, "{").unwrap();
        let error = Logins::load(Some(&path)).err().unwrap().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{");
    }
}
