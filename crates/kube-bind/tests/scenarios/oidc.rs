//! The relying party against an issuer that no one here wrote: oidc-provider from npm, its own pages, a real browser. In:
//! the folder that `scripts/oidc` prepares. The backend is the program, told of the issuer by flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use backend::OidcConfig;
use secrecy::ExposeSecret as _;
use serde_json::json;
use testkit::daemon::{self, Daemon};
use testkit::ports;
use testkit::service::Service;
use testkit::site::bindings;
use testkit::world::{Provider, World};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const GROUP: &str = "developers";
const MISLED: &str = "misled";

/// A backend as it is told of the issuer: its client there and its own address.
fn registered(provider: &Provider, issuer: &str, id: &str, listen: SocketAddr) -> backend::Config {
    backend::Config {
        listen,
        external_url: Some(format!("http://{listen}/").parse().unwrap()),
        oidc: Some(OidcConfig {
            issuer_url: issuer.to_owned(),
            client_id: id.to_owned(),
            client_secret: Some(format!("the secret of {id}").into()),
            allowed_groups: vec![GROUP.to_owned()],
            ..OidcConfig::default()
        }),
        ..provider.config().clone()
    }
}

/// What the issuer is told of a backend.
fn client(config: &backend::Config) -> serde_json::Value {
    let oidc = config.oidc.as_ref().unwrap();
    json!({
        "client_id": oidc.client_id,
        "client_secret": oidc.client_secret.as_ref().unwrap().expose_secret(),
        "redirect_uris": [format!("http://{}/api/callback", config.listen)],
    })
}

/// Starts the issuer and waits until it answers.
async fn issuer(lane: &Path, port: u16, clients: &serde_json::Value) -> Child {
    let mut command = Command::new("node");
    command.arg(lane.join("issuer.mjs")).current_dir(lane).stdin(Stdio::null()).stdout(Stdio::piped());
    command.env("PORT", port.to_string()).env("CLIENTS", clients.to_string());
    command.env("GROUP", GROUP).env("MISLED", MISLED).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.expect("the issuer starts");
    assert_eq!(first.unwrap().as_deref(), Some(format!("http://127.0.0.1:{port}").as_str()));
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/oidc runs it: it needs Node and Chromium"]
async fn an_issuer_that_no_one_here_wrote() {
    let lane = PathBuf::from(std::env::var_os("OIDC_LANE").expect("scripts/oidc runs this"));
    let mut world = World::new(super::PROGRAM, Service::new(4101)).await;
    world.provider().stop_backend().await;
    let folder = world.folder().to_owned();
    let provider = &world.providers[0];
    let port = ports::free().port();
    let url = format!("http://127.0.0.1:{port}");
    let good = registered(provider, &url, "good", provider.config().listen);
    let misled = registered(provider, &url, MISLED, ports::free());
    let _issuer = issuer(&lane, port, &json!([client(&good), client(&misled)])).await;
    let mut backends = Vec::new();
    for config in [&good, &misled] {
        let id = &config.oidc.as_ref().unwrap().client_id;
        let place = folder.join(id);
        std::fs::create_dir_all(&place).unwrap();
        let command = daemon::replica_of(config, Path::new(super::PROGRAM), &place, id, "none");
        backends.push(Daemon::start(command, &folder.join(format!("{id}.log"))));
    }
    daemon::answers_at(&format!("http://{}", good.listen)).await;
    daemon::answers_at(&format!("http://{}", misled.listen)).await;

    let person = &world.consumers[0].person;
    let path = format!("/exports/{}", world.service().plural);
    let mut command = Command::new("node");
    command.arg(lane.join("login.mjs")).current_dir(&lane).stdin(Stdio::null()).kill_on_drop(true);
    command.env("PROGRAM", super::PROGRAM).env("KUBECONFIG", &person.kubeconfig).env("HOME", &person.home);
    command.env("URL", format!("http://{}{path}", good.listen));
    command.env("MISLED_URL", format!("http://{}{path}", misled.listen));
    let status = tokio::time::timeout(Duration::from_secs(240), command.status()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}; logs of the backends are in {}", folder.display());

    let bound = world.consumers[0].site.list(&bindings()).await;
    assert_eq!(bound.len(), 1, "only what was agreed to is bound");
    let _ = world.make("default", "one", "one-token").await;
    let log = std::fs::read_to_string(folder.join("good.log")).unwrap();
    assert!(!log.contains("the secret of"), "{log}");
    for backend in backends {
        backend.terminate().await;
    }
    world.end().await;
}
