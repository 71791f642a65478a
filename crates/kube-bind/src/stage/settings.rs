//! What is made once for a data folder and kept: ports, passwords, secrets and the issuer's key. In and out: the file
//! `settings.json`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Folder, GROUP};
use crate::issuer::{Person, SigningKey};

const FILE: &str = "settings.json";

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    /// Ports by part of the set.
    #[serde(default)]
    ports: BTreeMap<String, u16>,
    /// Passwords by user name, client secrets and signing keys by part.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(default)]
    issuer_key: Option<String>,
}

impl Settings {
    pub(super) fn load(folder: &Folder) -> Result<Self> {
        match folder.read(FILE)? {
            Some(text) => serde_json::from_str(&text).with_context(|| {
                format!("{} is damaged; remove the data folder to start anew", folder.path().join(FILE).display())
            }),
            None => Ok(Self::default()),
        }
    }

    pub(super) fn save(&self, folder: &Folder) -> Result<()> {
        folder.write(FILE, &serde_json::to_string_pretty(self)?)
    }

    /// Where a part listens: on the port of last time, else on any.
    pub(super) fn listen(&self, part: &str) -> Result<SocketAddr> {
        let port = self.ports.get(part).copied().unwrap_or(0);
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Keeps the port in a URL.
    pub(super) fn keep(&mut self, part: &str, url: &str) -> Result<()> {
        if let Some(port) = Url::parse(url)?.port() {
            self.ports.insert(part.to_owned(), port);
        }
        Ok(())
    }

    /// A secret by name, made when it is asked for first.
    pub(super) fn secret(&mut self, name: &str) -> String {
        self.secrets
            .entry(name.to_owned())
            .or_insert_with(|| URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
            .clone()
    }

    pub(super) fn issuer_key(&mut self) -> Result<SigningKey> {
        if let Some(pem) = &self.issuer_key {
            return Ok(SigningKey::from_pem(pem)?);
        }
        let key = SigningKey::generate()?;
        self.issuer_key = Some(key.pem().expose_secret().to_owned());
        Ok(key)
    }

    /// The people who can log in: one to try with, one more to see that consumers do not see each other.
    pub(super) fn people(&mut self) -> Vec<Person> {
        [("dev", "Dev Eloper"), ("sam", "Sam Other")]
            .into_iter()
            .map(|(username, name)| Person {
                subject: format!("{username}-{}", &self.secret(&format!("subject-{username}"))[..8]),
                username: username.to_owned(),
                // Something to type: no signs.
                password: self
                    .secret(&format!("password-{username}"))
                    .chars()
                    .filter(char::is_ascii_alphanumeric)
                    .take(16)
                    .collect::<String>()
                    .into(),
                email: format!("{username}@kube-bind.localhost"),
                name: name.to_owned(),
                groups: vec![GROUP.to_owned()],
            })
            .collect()
    }
}
