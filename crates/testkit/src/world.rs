//! A world: a provider and a consumer on API servers of their own, a login, a backend, an operator and an agent. In: a
//! service and the program under test. Out: parts that can be looked at, stopped and started again.
//!
//! Backend and agent run with the rights that the contract generates; only operator and scenario are administrators.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backend::config::KubeSource;
use backend::identity::oidc::OidcConfig;
use contract::rbac::backend::LEASE;
use kube_bind::issuer::{self, Issuer, SigningKey};
use kube_bind::stage::{Login, cluster};
use kube_bind_api::Isolation;
use kube_bind_api::constants::KONNECTOR;
use kube_client::resource::Resource;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::fault::FaultProxy;
use crate::logs::Folder;
use crate::program::{Ended, Person};
use crate::rights::Witness;
use crate::service::Service;
use crate::site::{Side, Site, bindings, crds, ours};
use crate::{eventually, install, operator, ports};

/// Members of this group may bind.
const GROUP: &str = "developers";

/// Tasks that end together.
#[derive(Default)]
struct Running {
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    async fn stop(&mut self) {
        self.shutdown.cancel();
        for task in self.tasks.drain(..) {
            let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
        }
        self.shutdown = CancellationToken::new();
    }

    /// Without a goodbye.
    fn kill(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.shutdown.cancel();
        self.shutdown = CancellationToken::new();
    }
}

/// A provider: API server, backend, operator.
pub struct Provider {
    /// Its API server.
    pub site: Site,
    /// What it offers.
    pub service: Service,
    /// URL of its backend, without path.
    pub server: String,
    /// Its name for people.
    pub pretty_name: String,
    /// What stands before the API server for its consumers, in a world with faults.
    pub faults: Option<FaultProxy>,
    /// What stands before the API server for its backend, in a world with faults.
    pub backend_faults: Option<FaultProxy>,
    config: backend::Config,
    backend: Running,
    operator: Running,
}

/// A consumer: API server, agent, and the person who administrates it.
pub struct Consumer {
    /// Its API server.
    pub site: Site,
    /// Its administrator.
    pub person: Person,
    /// Kubeconfig of the agent's ServiceAccount.
    pub agent_kubeconfig: String,
    /// What stands before the API server for the agent, in a world with faults.
    pub faults: Option<FaultProxy>,
    agent: Running,
}

/// Everything.
pub struct World {
    folder: Folder,
    program: PathBuf,
    issuer: Issuer,
    /// Who can log in.
    pub logins: Vec<Login>,
    /// The providers.
    pub providers: Vec<Provider>,
    /// The consumers.
    pub consumers: Vec<Consumer>,
    /// Of all sites that are recorded: every scenario is part of the recording.
    witnesses: Vec<Witness>,
    expected: Option<&'static str>,
    shutdown: CancellationToken,
    faulty: bool,
}

impl World {
    /// One provider with `service`, one consumer; `program` is `kube-bind`.
    pub async fn new(program: &str, service: Service) -> Self {
        let mut world = Self::without_consumer(program, service).await;
        world.add_consumer().await;
        world
    }

    /// The same with nothing of ours in the consumer's cluster.
    pub async fn without_agent(program: &str, service: Service) -> Self {
        let mut world = Self::without_consumer(program, service).await;
        world.add_bare_consumer().await;
        world
    }

    async fn without_consumer(program: &str, service: Service) -> Self {
        Self::start(program, service, false).await
    }

    /// [`World::new`] with a [`FaultProxy`] before every API server: for the agent (`consumers[_].faults`), for what the
    /// provider's credentials open (`providers[_].faults`) and for the backend (`providers[_].backend_faults`).
    pub async fn with_faults(program: &str, service: Service) -> Self {
        let mut world = Self::start(program, service, true).await;
        world.add_consumer().await;
        world
    }

    async fn start(program: &str, service: Service, faulty: bool) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = Folder::new("world");
        let shutdown = CancellationToken::new();
        let person = |name: &str| issuer::Person {
            subject: format!("{name}-subject"),
            username: name.to_owned(),
            password: format!("{name}-password").into(),
            email: format!("{name}@example.com"),
            name: name.to_owned(),
            groups: vec![GROUP.to_owned()],
        };
        let people = vec![person("ada"), person("bob")];
        let logins = people.iter().map(|p| Login {
            username: p.username.clone(),
            password: p.password.clone(),
            email: p.email.clone(),
        });
        let logins = logins.collect();
        let options =
            issuer::Options { listen: any(), key: SigningKey::generate().unwrap(), people, clients: Vec::new() };
        let issuer = Issuer::start(options, shutdown.clone()).await.unwrap();
        let program = PathBuf::from(program);
        let mut world = Self {
            folder,
            program,
            issuer,
            logins,
            providers: Vec::new(),
            consumers: Vec::new(),
            witnesses: Vec::new(),
            expected: None,
            shutdown,
            faulty,
        };
        world.add_provider(service).await;
        world
    }

    async fn proxy(&self, kubeconfig: &str) -> Option<FaultProxy> {
        if self.faulty { Some(FaultProxy::start(kubeconfig).await) } else { None }
    }

    /// Where files of the scenario may lie. What is called `*.log` is kept if the scenario fails.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where people log in.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The first provider.
    pub fn provider(&mut self) -> &mut Provider {
        &mut self.providers[0]
    }

    /// The first consumer.
    pub fn consumer(&mut self) -> &mut Consumer {
        &mut self.consumers[0]
    }

    /// The service of the first provider.
    #[must_use]
    pub fn service(&self) -> Service {
        self.providers[0].service.clone()
    }

    /// One more provider.
    pub async fn add_provider(&mut self, service: Service) {
        let number = self.providers.len() + 1;
        let name = format!("provider{number}");
        let mut site =
            Site::start(&self.folder.path().join(&name), &name, Side::Provider, Some(install::PROVIDER)).await;
        self.watch(&site).await;
        let token = install::provider(&mut site, self.folder.path(), &service).await;
        if service.cluster_scoped && !service.isolated {
            // What is cluster-scoped at the provider needs roles of its own.
            let admin = Person {
                program: self.program.clone(),
                home: self.folder.path().to_owned(),
                kubeconfig: site.kubeconfig.clone(),
            };
            let _ = admin.bind(&["provider", "offer", &service.crd_name()], "").await.ok();
        }
        let listen = ports::free();
        let server = format!("http://{listen}");
        let client = issuer::Client {
            id: name.clone(),
            secret: format!("{name}-secret").into(),
            name: name.clone(),
            redirect_uris: vec![format!("{server}/api/callback")],
        };
        self.issuer.register(client.clone());
        let pretty_name = format!("Provider {number} Inc.");
        let kubeconfig = site.kubeconfig_with("backend", &token);
        let faults = self.proxy(&kubeconfig).await;
        let backend_faults = self.proxy(&kubeconfig).await;
        let config = backend::Config {
            kube: KubeSource::Text(backend_faults.as_ref().map_or(kubeconfig.clone(), |p| p.kubeconfig(&kubeconfig))),
            external_address: faults.as_ref().map(FaultProxy::url),
            external_ca: faults.as_ref().map(FaultProxy::ca_pem),
            listen,
            external_url: Some(Url::parse(&server).unwrap()),
            pretty_name: pretty_name.clone(),
            oidc: Some(OidcConfig {
                issuer_url: self.issuer.url().to_owned(),
                client_id: client.id,
                client_secret: Some(client.secret),
                allowed_groups: vec![GROUP.to_owned()],
                ..OidcConfig::default()
            }),
            isolation: if service.isolated { Isolation::Namespaced } else { Isolation::Prefixed },
            signing_key: Some(format!("the signing key of {name}, long enough").into_bytes()),
            lease: Some(backend::Lease {
                namespace: cluster::NAMESPACE.to_owned(),
                name: LEASE.to_owned(),
                identity: "scenario".to_owned(),
            }),
            ..backend::Config::default()
        };
        let mut provider = Provider {
            site,
            service,
            server,
            pretty_name,
            faults,
            backend_faults,
            config,
            backend: Running::default(),
            operator: Running::default(),
        };
        provider.start_backend().await;
        provider.open().await;
        provider.start_operator();
        self.providers.push(provider);
    }

    /// One more offering of a provider, with an operator of its own: as `kubectl bind provider offer` and a template make it.
    pub async fn offer(&mut self, provider: usize, service: Service) {
        let there = &mut self.providers[provider];
        there.site.apply(&crds(), &service.crd()).await;
        let admin = Person {
            program: self.program.clone(),
            home: self.folder.path().to_owned(),
            kubeconfig: there.site.kubeconfig.clone(),
        };
        let _ = admin.bind(&["provider", "offer", &service.crd_name()], "").await.ok();
        there.site.apply(&ours("apiserviceexporttemplates", "APIServiceExportTemplate"), &service.template()).await;
        let shutdown = there.operator.shutdown.clone();
        there.operator.tasks.push(operator::start(there.site.api.clone(), service, shutdown));
    }

    /// Binds one of several offerings, as [`World::bind`] does.
    pub async fn bind_offering(&self, consumer: usize, provider: usize, offering: &str) -> Ended {
        let url = format!("{}/exports/{offering}", self.providers[provider].server);
        let words = [url.as_str(), "--skip-browser", "--accept-claims"];
        self.consumers[consumer].person.bind_in_browser(&words, &self.logins[consumer.min(1)], None).await
    }

    /// Has a witness look at a site from now on.
    async fn watch(&mut self, site: &Site) {
        if site.is_recorded() {
            self.witnesses.push(Witness::start(site).await);
        }
    }

    /// One more consumer.
    pub async fn add_consumer(&mut self) {
        let mut consumer = self.consumer_with(Some(install::CONSUMER)).await;
        let token = install::consumer(&mut consumer.site, self.folder.path()).await;
        let kubeconfig = consumer.site.kubeconfig_with(KONNECTOR, &token);
        consumer.faults = self.proxy(&kubeconfig).await;
        consumer.agent_kubeconfig = consumer.faults.as_ref().map_or(kubeconfig.clone(), |p| p.kubeconfig(&kubeconfig));
        consumer.start_agent().await;
        self.consumers.push(consumer);
    }

    /// One more consumer, with nothing of ours in its cluster.
    pub async fn add_bare_consumer(&mut self) {
        let consumer = self.consumer_with(None).await;
        self.consumers.push(consumer);
    }

    async fn consumer_with(&mut self, installed: Option<&str>) -> Consumer {
        let name = format!("consumer{}", self.consumers.len() + 1);
        let folder = self.folder.path().join(&name);
        let site = Site::start(&folder, &name, Side::Consumer, installed).await;
        self.watch(&site).await;
        let person =
            Person { program: self.program.clone(), home: folder.join("home"), kubeconfig: site.kubeconfig.clone() };
        std::fs::create_dir_all(&person.home).unwrap();
        Consumer { site, person, agent_kubeconfig: String::new(), faults: None, agent: Running::default() }
    }

    /// Binds what a provider offers in the consumer, as a person does: browser, login, consent, bind; claims accepted.
    pub async fn bind(&self, consumer: usize, provider: usize) -> Ended {
        self.bind_with(consumer, provider, &[]).await
    }

    /// The same with further flags.
    pub async fn bind_with(&self, consumer: usize, provider: usize, flags: &[&str]) -> Ended {
        let url = format!("{}/kubernetes", self.providers[provider].server);
        let words = [&[url.as_str(), "--skip-browser", "--accept-claims"], flags].concat();
        self.consumers[consumer].person.bind_in_browser(&words, &self.logins[0], None).await
    }

    /// [`World::new`] with the first consumer bound to the first provider.
    pub async fn bound(program: &str, service: Service) -> Self {
        let world = Self::new(program, service).await;
        let _ = world.bind(0, 0).await.ok();
        world
    }

    /// The name of the first consumer's binding to a provider.
    #[must_use]
    pub fn binding(&self, provider: usize) -> String {
        self.providers[provider].service.plural.clone()
    }

    /// The provider's copy of a consumer's object.
    pub async fn copy(&self, provider: usize, name: &str) -> Option<Value> {
        let provider = &self.providers[provider];
        let copies = provider.site.list(&provider.service.resource()).await;
        copies.into_iter().find(|copy| copy["metadata"]["name"] == name)
    }

    /// Waits for a phase of the first consumer's binding.
    pub async fn phase(&self, binding: &str, phase: &str) {
        eventually(&format!("binding {binding} is {phase}"), async || {
            let binding = self.consumers[0].site.get(&bindings(), "", binding).await.unwrap_or_default();
            if binding["status"]["phase"] == phase { Ok(()) } else { Err(binding["status"].to_string()) }
        })
        .await;
    }

    /// Makes an object at the first consumer and waits until its status is back.
    pub async fn make(&self, namespace: &str, name: &str, secret: &str) -> Value {
        let service = self.service();
        self.consumers[0].site.apply(&service.resource(), &service.object(namespace, name, secret)).await;
        self.running(namespace, name).await
    }

    /// Waits until an object of the first consumer has the operator's status.
    pub async fn running(&self, namespace: &str, name: &str) -> Value {
        let resource = self.service().resource();
        eventually(&format!("{namespace}/{name} is Running"), async || {
            let object = self.consumers[0].site.get(&resource, namespace, name).await.unwrap_or_default();
            if object["status"]["phase"] == "Running" { Ok(object) } else { Err(object.to_string()) }
        })
        .await
    }

    /// In this scenario somebody uses our programs' credentials for what they are not for, or takes rights away for good: what
    /// is refused says nothing about the programs.
    pub fn expect_refusals(&mut self, reason: &'static str) {
        self.expected = Some(reason);
    }

    /// Ends everything. Panics if one of our programs asked for something that it never might.
    pub async fn end(mut self) {
        for consumer in &mut self.consumers {
            consumer.agent.stop().await;
        }
        for provider in &mut self.providers {
            provider.operator.stop().await;
            provider.backend.stop().await;
        }
        let never: BTreeSet<String> = self.witnesses.drain(..).flat_map(|witness| witness.never()).collect();
        for provider in &mut self.providers {
            provider.site.end().await;
        }
        for consumer in &mut self.consumers {
            consumer.site.end().await;
        }
        self.shutdown.cancel();
        let never: Vec<String> = never.into_iter().collect();
        match self.expected {
            _ if never.is_empty() => {}
            Some(reason) => eprintln!("refused, because {reason}:\n{}", never.join("\n")),
            None => panic!("our programs asked for what they never might:\n{}", never.join("\n")),
        }
    }
}

impl Provider {
    /// What its backend is told.
    #[must_use]
    pub fn config(&self) -> &backend::Config {
        &self.config
    }

    /// Starts the backend and waits until it answers.
    pub async fn start_backend(&mut self) {
        let (ready, answers) = tokio::sync::oneshot::channel();
        let (config, shutdown) = (self.config.clone(), self.backend.shutdown.clone());
        self.backend.tasks.push(tokio::spawn(async move {
            if let Err(error) = backend::run(config, shutdown, Some(ready)).await {
                eprintln!("the backend ended: {error}");
            }
        }));
        answers.await.unwrap();
    }

    /// Waits until people may bind: the replica that leads writes that down, after it answers already.
    async fn open(&self) {
        let reviews = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview");
        let body = json!({
            "apiVersion": reviews.api_version(), "kind": reviews.kind, "metadata": {},
            "spec": {"user": "somebody", "groups": [GROUP], "resourceAttributes": {"verb": "bind", "group": kube_bind_api::GROUP}},
        });
        eventually("people may bind", async || {
            let answer = self.site.api.create(&reviews, None, &body).await.map_err(|error| error.to_string())?;
            if answer["status"]["allowed"] == true { Ok(()) } else { Err(answer["status"].to_string()) }
        })
        .await;
    }

    /// Stops the backend.
    pub async fn stop_backend(&mut self) {
        self.backend.stop().await;
    }

    /// Starts the operator.
    pub fn start_operator(&mut self) {
        let shutdown = self.operator.shutdown.clone();
        self.operator.tasks.push(operator::start(self.site.api.clone(), self.service.clone(), shutdown));
    }

    /// Stops the operator.
    pub async fn stop_operator(&mut self) {
        self.operator.stop().await;
    }
}

impl Consumer {
    /// Starts the agent.
    pub async fn start_agent(&mut self) {
        let mut config = konnector::Config::from_kubeconfig(&self.agent_kubeconfig).await.unwrap();
        config.identity = "scenario".to_owned();
        let shutdown = self.agent.shutdown.clone();
        self.agent.tasks.push(tokio::spawn(async move {
            if let Err(error) = konnector::run(config, shutdown).await {
                eprintln!("the agent ended: {error}");
            }
        }));
        let before = jiff::Timestamp::now();
        let leases = kube_client::resource::Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
        eventually("the agent holds its Lease", async || {
            let lease = self.site.get(&leases, "kube-bind", "kube-bind").await.unwrap_or_default();
            let renewed = lease["spec"]["renewTime"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
            if renewed.is_some_and(|renewed| renewed >= before) { Ok(()) } else { Err(lease.to_string()) }
        })
        .await;
    }

    /// Stops the agent.
    pub async fn stop_agent(&mut self) {
        self.agent.stop().await;
    }

    /// Ends the agent without a goodbye, in the middle of whatever it does.
    pub fn kill_agent(&mut self) {
        self.agent.kill();
    }

    /// Conditions and phase of a binding.
    pub async fn binding_status(&self, binding: &str) -> Value {
        self.site.get(&bindings(), "", binding).await.map(|binding| binding["status"].clone()).unwrap_or(json!(null))
    }
}

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
