//! Credentials of the programs' own that are renewed in their kubeconfigs: taken up without a restart.

use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

use testkit::daemon::{self, Daemon};
use testkit::ports;
use testkit::program::file;
use testkit::service::Service;
use testkit::site::{Site, core};
use testkit::world::World;
use testkit::{install, within};

const SECONDS: Duration = Duration::from_secs(90);
const NAMESPACE: &str = "kube-bind";

/// Revokes what an account has and gives it another token.
async fn another_token(site: &Site, account: &str) -> String {
    site.delete(&core("secrets"), NAMESPACE, &format!("{account}-token")).await;
    install::token_secret(site, NAMESPACE, account).await;
    site.setup().await.token(NAMESPACE, account).await.unwrap()
}

#[tokio::test]
async fn a_token_that_is_renewed_in_the_kubeconfig_is_taken_up_by_both_programs() {
    let mut world = World::new(super::PROGRAM, Service::new(231)).await;
    world.provider().stop_backend().await;
    // Both have addresses for probes, which they take again.
    let probes = [ports::free().to_string(), ports::free().to_string()];
    let provider = &world.providers[0];
    let listen = provider.config().listen;
    let command = daemon::replica(provider, Path::new(super::PROGRAM), world.folder(), "one", listen, &probes[0]);
    let backend = Daemon::start(command, &world.folder().join("backend.log"));
    daemon::answers(&world.providers[0]).await;
    let _ = world.bind(0, 0).await.ok();
    world.consumer().stop_agent().await;
    let kubeconfig = file(world.folder(), "agent.kubeconfig", &world.consumers[0].agent_kubeconfig);
    let mut command = Command::new(super::PROGRAM);
    command.args(["konnector", "--kubeconfig", &kubeconfig, "--server-address", &probes[1]]).env_remove("RUST_LOG");
    let agent = Daemon::start(command, &world.folder().join("agent.log"));
    world.make("default", "one", "one-token").await;

    let consumer = &world.consumers[0].site;
    let token = another_token(consumer, "konnector").await;
    let log = world.folder().join("agent.log");
    within(SECONDS, "the log says it", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains("expired or was revoked") { Ok(()) } else { Err(text) }
    })
    .await;
    let _ = file(world.folder(), "agent.kubeconfig", &consumer.kubeconfig_with("konnector", &token));
    world.make("default", "two", "two-token").await;

    let provider = &world.providers[0].site;
    let token = another_token(provider, "backend").await;
    let _ = file(world.folder(), "backend.kubeconfig", &provider.kubeconfig_with("backend", &token));
    let log = world.folder().join("backend.log");
    within(SECONDS, "the backend connects anew", async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.matches("backend starts").count() == 2 { Ok(()) } else { Err(text) }
    })
    .await;
    world.add_consumer().await;
    let _ = world.bind(1, 0).await.ok();
    for program in [agent, backend] {
        // It has not ended meanwhile.
        program.terminate().await;
    }
    world.end().await;
}
