//! Everything that one machine needs: a control plane with a consumer and two providers, the login, backends, operators
//! and the agent. In: a data folder. Out: URLs, kubeconfigs and `dev.json` in that folder. `dev` keeps it running, `demo`
//! and tests play on it.
//!
//! Nobody here runs as administrator who would not in a real installation: backends and agent hold ServiceAccounts with
//! the rights that `contract::rbac` generates; only the operators, which are the provider's own, are administrators of
//! their cluster.

pub mod cluster;
mod folder;
mod settings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use backend::config::KubeSource;
use backend::identity::oidc::OidcConfig;
use controlplane::ControlPlane;
use futures::future::BoxFuture;
use kube_bind_api::GroupResource;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::issuer::{self, Issuer, Person};
pub use folder::Folder;
use settings::Settings;

/// The consumer's logical cluster.
pub const CONSUMER: &str = "consumer";
/// Members of this group may bind.
const GROUP: &str = "developers";

/// A provider on the stage.
struct Cast {
    /// Short name, also of its offering.
    name: &'static str,
    /// Its logical cluster.
    cluster: &'static str,
    /// Its name for people.
    pretty_name: &'static str,
    /// The path that it advertises.
    path: &'static str,
    crd: &'static str,
    template: &'static str,
    operator: fn(kube::Client, PathBuf, CancellationToken) -> BoxFuture<'static, Result<()>>,
}

const CAST: [Cast; 2] = [
    Cast {
        name: "mangodb",
        cluster: "provider",
        pretty_name: "MangoDB Inc.",
        path: "/kubernetes",
        crd: mangodb::CRD,
        template: mangodb::TEMPLATE,
        operator: |client, data_dir, shutdown| Box::pin(mangodb::run(mangodb::Config { client, data_dir }, shutdown)),
    },
    Cast {
        name: "tshirt",
        cluster: "tshirt-provider",
        pretty_name: "The T-Shirt Booth",
        path: "/export",
        crd: tshirt::CRD,
        template: tshirt::TEMPLATE,
        operator: |client, _, shutdown| Box::pin(tshirt::run(client, shutdown)),
    },
];

/// A running provider.
pub struct Provider {
    /// Short name, also of its offering.
    pub name: &'static str,
    /// Its name for people.
    pub pretty_name: &'static str,
    /// Its logical cluster.
    pub cluster: &'static str,
    /// URL of its backend, without path.
    pub server: String,
    /// What to bind.
    pub url: String,
    /// An administrator's kubeconfig.
    pub kubeconfig: PathBuf,
}

/// The login that was made for the data folder.
#[derive(Clone)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password.
    pub password: SecretString,
    /// Email address.
    pub email: String,
}

/// The running set.
pub struct Stage {
    folder: Folder,
    control_plane: ControlPlane,
    issuer: Issuer,
    providers: Vec<Provider>,
    logins: Vec<Login>,
    shutdown: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<Result<()>>)>,
}

impl Stage {
    /// Starts everything in `data_dir` (kept), or in a temporary folder (removed by [`Stage::stop`]). Returns when all of
    /// it answers and the files are written.
    ///
    /// # Errors
    /// Says which part did not start, and why.
    pub async fn start(data_dir: Option<&Path>) -> Result<Self> {
        let folder = Folder::open(data_dir)?;
        let mut settings = Settings::load(&folder)?;
        let shutdown = CancellationToken::new();
        let mut clusters: Vec<String> = CAST.iter().map(|cast| cast.cluster.to_owned()).collect();
        clusters.push(CONSUMER.to_owned());
        let options = controlplane::Options {
            data_dir: data_dir.map(|_| folder.path().join("control-plane")),
            listen: settings.listen("control-plane")?,
            clusters,
            ..Default::default()
        };
        let control_plane = ControlPlane::start(options).await.context("the control plane did not start")?;
        settings.keep("control-plane", &control_plane.url())?;

        let people = settings.people();
        let issuer_options = issuer::Options {
            listen: settings.listen("issuer")?,
            key: settings.issuer_key()?,
            people: people.clone(),
            clients: Vec::new(),
        };
        let issuer = Issuer::start(issuer_options, shutdown.clone()).await?;
        settings.keep("issuer", issuer.url())?;
        let mut stage = Self {
            logins: people.iter().map(login).collect(),
            folder,
            control_plane,
            issuer,
            providers: Vec::new(),
            shutdown,
            tasks: Vec::new(),
        };
        for cast in &CAST {
            let started = stage.start_provider(cast, &mut settings).await;
            started.with_context(|| format!("the provider {} did not start", cast.pretty_name))?;
        }
        stage.start_consumer().await.context("the consumer's agent did not start")?;
        settings.save(&stage.folder)?;
        stage.write_files()?;
        Ok(stage)
    }

    async fn start_provider(&mut self, cast: &Cast, settings: &mut Settings) -> Result<()> {
        let admin = self.control_plane.admin_kubeconfig(cast.cluster);
        let setup = cluster::Setup::connect(&admin, cast.cluster).await?;
        setup.provider(cast.crd, cast.template).await?;
        let token = setup.token(cluster::NAMESPACE, cluster::BACKEND).await?;
        let listen = settings.listen(cast.name)?;
        let address = listen_now(listen).await?;
        settings.keep(cast.name, &format!("http://{address}"))?;
        let server = format!("http://{address}");
        let client = issuer::Client {
            id: format!("{}-backend", cast.name),
            secret: settings.secret(&format!("{}-client", cast.name)).into(),
            name: cast.pretty_name.to_owned(),
            redirect_uris: vec![format!("{server}/api/callback")],
        };
        self.issuer.register(client.clone());
        let config = backend::Config {
            kube: KubeSource::Text(cluster::kubeconfig(&self.control_plane, cast.cluster, "backend", &token)),
            listen: address,
            external_url: Some(Url::parse(&server)?),
            pretty_name: cast.pretty_name.to_owned(),
            oidc: Some(OidcConfig {
                issuer_url: self.issuer.url().to_owned(),
                client_id: client.id,
                client_secret: Some(client.secret),
                allowed_groups: vec![GROUP.to_owned()],
                ..OidcConfig::default()
            }),
            signing_key: Some(settings.secret(&format!("{}-signing", cast.name)).into_bytes()),
            // The same name after a restart, as for the agent below.
            lease: Some(backend::Lease {
                namespace: cluster::NAMESPACE.to_owned(),
                name: contract::rbac::backend::LEASE.to_owned(),
                identity: "kube-bind-dev".to_owned(),
            }),
            ..backend::Config::default()
        };
        let (ready, answers) = tokio::sync::oneshot::channel();
        let shutdown = self.shutdown.clone();
        let mut task = tokio::spawn(async move { Ok(backend::run(config, shutdown, Some(ready)).await?) });
        tokio::select! {
            answer = answers => { answer.context("the backend ended")?; }
            result = &mut task => { result??; }
            () = tokio::time::sleep(Duration::from_secs(20)) => anyhow::bail!("its backend does not answer"),
        }
        self.tasks.push(("backend", task));

        let client = cluster::client(&admin).await?;
        let data = self.folder.path().join(cast.name);
        self.tasks.push(("operator", tokio::spawn((cast.operator)(client, data, self.shutdown.clone()))));
        let kubeconfig = match cast.cluster {
            "provider" => "provider.kubeconfig".to_owned(),
            other => format!("{other}.kubeconfig"),
        };
        self.folder.write(&kubeconfig, &admin)?;
        self.providers.push(Provider {
            name: cast.name,
            pretty_name: cast.pretty_name,
            cluster: cast.cluster,
            url: format!("{server}{}", cast.path),
            server,
            kubeconfig: self.folder.path().join(kubeconfig),
        });
        Ok(())
    }

    async fn start_consumer(&mut self) -> Result<()> {
        let admin = self.control_plane.admin_kubeconfig(CONSUMER);
        let setup = cluster::Setup::connect(&admin, CONSUMER).await?;
        setup.consumer().await?;
        let token = setup.token(cluster::NAMESPACE, kube_bind_api::constants::KONNECTOR).await?;
        let kubeconfig = cluster::kubeconfig(&self.control_plane, CONSUMER, "konnector", &token);
        self.folder.write("konnector.kubeconfig", &kubeconfig)?;
        let mut config = konnector::Config::from_kubeconfig(&kubeconfig).await?;
        // The same name after a restart: its own Lease need not expire first.
        config.identity = "kube-bind-dev".to_owned();
        let shutdown = self.shutdown.clone();
        self.tasks.push(("konnector", tokio::spawn(async move { Ok(konnector::run(config, shutdown).await?) })));
        self.folder.write("consumer.kubeconfig", &admin)?;
        setup.agent_lives().await
    }

    /// What scripts need: `dev.json`, and the plugin on a folder for PATH.
    fn write_files(&self) -> Result<()> {
        let bin = self.folder.path().join("bin");
        std::fs::create_dir_all(&bin)?;
        let program = std::env::current_exe().context("the path of this program is not known")?;
        for name in ["kubectl-bind", "konnector", "kube-bind-backend"] {
            let link = bin.join(name);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&program, &link).with_context(|| format!("cannot link {}", link.display()))?;
        }
        let login = |login: &Login| json!({"username": login.username, "password": login.password.expose_secret(), "email": login.email});
        let provider = |provider: &Provider| {
            json!({
                "name": provider.name, "prettyName": provider.pretty_name, "cluster": provider.cluster,
                "server": provider.server, "url": provider.url, "kubeconfig": provider.kubeconfig,
            })
        };
        let document = json!({
            "pid": std::process::id(),
            "controlPlane": self.control_plane.url(),
            "issuer": self.issuer.url(),
            "consumer": {"cluster": CONSUMER, "kubeconfig": self.consumer_kubeconfig()},
            "providers": self.providers.iter().map(provider).collect::<Vec<_>>(),
            "login": self.logins.first().map(login),
            "logins": self.logins.iter().map(login).collect::<Vec<_>>(),
            "bin": bin,
        });
        self.folder.write("dev.json", &format!("{document:#}\n"))
    }

    /// The data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder with the plugin, for PATH.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// An administrator's kubeconfig of the consumer cluster.
    #[must_use]
    pub fn consumer_kubeconfig(&self) -> PathBuf {
        self.folder.path().join("consumer.kubeconfig")
    }

    /// The providers.
    #[must_use]
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// Who can log in; the first is meant for people.
    #[must_use]
    pub fn logins(&self) -> &[Login] {
        &self.logins
    }

    /// Ends when a part of the set ends by itself, which none should.
    pub async fn broken(&mut self) -> anyhow::Error {
        loop {
            for (name, task) in &mut self.tasks {
                if task.is_finished() {
                    return match task.await {
                        Ok(Ok(())) => anyhow::anyhow!("the {name} ended"),
                        Ok(Err(error)) => error.context(format!("the {name} ended")),
                        Err(error) => anyhow::anyhow!("the {name} ended: {error}"),
                    };
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Ends everything; a temporary folder goes.
    pub async fn stop(self) {
        self.shutdown.cancel();
        for (name, task) in self.tasks {
            if tokio::time::timeout(Duration::from_secs(5), task).await.is_err() {
                tracing::warn!(name, "did not end in time");
            }
        }
        self.control_plane.shutdown().await;
        self.folder.close();
    }
}

fn login(person: &Person) -> Login {
    Login { username: person.username.clone(), password: person.password.clone(), email: person.email.clone() }
}

/// A concrete address for a port that the operating system chooses: URLs with it are needed before the listener is made.
async fn listen_now(address: std::net::SocketAddr) -> Result<std::net::SocketAddr> {
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    Ok(listener.local_addr()?)
}

/// The kind that a CRD defines.
fn kind_of(crd: &serde_json::Value) -> GroupResource {
    let text = |pointer: &str| crd.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
    GroupResource::new(text("/spec/group"), text("/spec/names/plural"))
}
