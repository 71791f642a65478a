//! Agent and backend as programs in production: configured in three ways, probed and scraped over HTTP, two replicas each
//! of which one is killed, and ended by a signal.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use contract::rbac::backend::LEASE;
use kube_bind_api::constants::KONNECTOR_LEASE;
use testkit::daemon::{self, Daemon};
use testkit::eventually;
use testkit::logs::Folder;
use testkit::ports;
use testkit::program::file;
use testkit::service::Service;
use testkit::world::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// An end that was asked for takes at most this long: what is under way is short, and the Lease is given back.
const PROMPT: Duration = Duration::from_secs(10);

/// Status and body of a GET.
async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    let answer = http.get(format!("http://{address}{path}")).send().await.map_err(|error| error.to_string())?;
    Ok((answer.status().as_u16(), answer.text().await.map_err(|error| error.to_string())?))
}

/// Waits until `/readyz` is 200 and says `words`.
async fn ready(address: SocketAddr, words: &str) {
    eventually(&format!("{address} is ready: {words}"), async || match get(address, "/readyz").await? {
        (200, text) if text.contains(words) => Ok(()),
        (status, text) => Err(format!("{status} {text}")),
    })
    .await;
}

/// Waits until a metric with these words in its line has a value that is as wanted.
async fn metric(address: SocketAddr, words: &[&str], wanted: impl Fn(f64) -> bool) {
    eventually(&format!("{words:?} of {address}"), async || {
        let (_, text) = get(address, "/metrics").await?;
        assert!(text.ends_with("# EOF\n"), "OpenMetrics ends with EOF:\n{text}");
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
        let value = line.and_then(|line| line.rsplit_once(' ')).and_then(|(_, value)| value.parse::<f64>().ok());
        if value.is_some_and(&wanted) { Ok(()) } else { Err(line.map_or_else(|| text.clone(), str::to_owned)) }
    })
    .await;
}

/// Every metric has a help text, and no label is made of what somebody may choose freely.
async fn documented(address: SocketAddr) {
    let (_, text) = get(address, "/metrics").await.unwrap();
    let families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next()).collect();
    assert!(families.len() >= 5, "{text}");
    for family in families {
        let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {family} ")));
        assert!(help.is_some_and(|help| help.len() > 15), "{family} has no help text:\n{text}");
    }
}

async fn signal(daemon: &Daemon, name: &str) {
    let mut command = tokio::process::Command::new("kill");
    assert!(command.args([&format!("-{name}"), &daemon.id().to_string()]).status().await.unwrap().success());
}

/// Ends it by a signal: soon, with exit code 0, and with its Lease given back.
async fn ends_well(daemon: Daemon, name: &str, site: &testkit::site::Site, lease: &str) {
    let began = Instant::now();
    signal(&daemon, name).await;
    let status = daemon.ended().await;
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < PROMPT, "it took {:?}", began.elapsed());
    assert_eq!(daemon::holder(site, lease).await, "", "the Lease is given back");
}

fn agent(world: &World, settings: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(super::PROGRAM);
    command.arg("konnector").arg("--config").arg(settings);
    for name in ["RUST_LOG", "POD_NAME", "POD_NAMESPACE", "KUBECONFIG"] {
        command.env_remove(name);
    }
    command.env("HOME", world.folder());
    command
}

/// The first agent is told everything by a file, the second by the environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_takes_over_when_the_first_is_killed() {
    let mut world = World::bound(super::PROGRAM, Service::new(4001)).await;
    let _ = world.make("default", "before", "before-token").await;
    world.consumer().stop_agent().await;
    let folder = world.folder().to_owned();
    let kubeconfig = file(&folder, "agent.kubeconfig", &world.consumers[0].agent_kubeconfig);
    let (first_probes, second_probes) = (ports::free(), ports::free());
    let settings =
        format!("kubeconfig: {kubeconfig}\nidentity: first\nserverAddress: {first_probes}\nlogFormat: json\n");
    let settings = file(&folder, "first.yaml", &settings);
    let first = Daemon::start(agent(&world, Path::new(&settings)), &folder.join("first.log"));
    daemon::leads(&world.consumers[0], "first").await;
    ready(first_probes, "lease: held by this agent").await;
    metric(first_probes, &["konnector_objects{", "state=\"in_sync\""], |count| count == 1.0).await;
    metric(first_probes, &["konnector_provider_connected{"], |up| up == 1.0).await;

    let mut command = agent(&world, Path::new(&file(&folder, "second.yaml", "identity: nobody\n")));
    command.env("KONNECTOR_KUBECONFIG", &kubeconfig).env("KONNECTOR_IDENTITY", "second");
    command.env("KONNECTOR_SERVER_ADDRESS", second_probes.to_string());
    let second = Daemon::start(command, &folder.join("second.log"));
    ready(second_probes, "held by first; this agent stands by").await;
    metric(second_probes, &["konnector_leading "], |leads| leads == 0.0).await;

    first.kill().await;
    assert!(get(first_probes, "/healthz").await.is_err(), "it is gone");
    // Whatever happens meanwhile is not lost.
    let _ = world.make("default", "after", "after-token").await;
    daemon::leads(&world.consumers[0], "second").await;
    ready(second_probes, "lease: held by this agent").await;
    metric(second_probes, &["konnector_leading "], |leads| leads == 1.0).await;
    metric(second_probes, &["konnector_objects{", "state=\"in_sync\""], |count| count == 2.0).await;
    let plural = world.service().plural;
    let written = ["konnector_writes_total{", "side=\"provider\"", plural.as_str(), "outcome=\"ok\""];
    metric(second_probes, &written, |count| count >= 1.0).await;
    metric(second_probes, &["konnector_sync_seconds_count{side=\"consumer\"}"], |count| count >= 1.0).await;
    assert_eq!(get(second_probes, "/healthz").await.unwrap().0, 200);
    assert_eq!(get(second_probes, "/nothing").await.unwrap().0, 404);
    documented(second_probes).await;

    ends_well(second, "TERM", &world.consumers[0].site, KONNECTOR_LEASE).await;
    let log = std::fs::read_to_string(folder.join("first.log")).unwrap();
    assert!(log.lines().count() > 2, "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    world.end().await;
}

/// The person is at the standby when the leader is killed: the bind gets through.
#[tokio::test(flavor = "multi_thread")]
async fn a_bind_through_the_standby_survives_the_end_of_the_leader() {
    let mut world = World::new(super::PROGRAM, Service::new(4002)).await;
    world.provider().stop_backend().await;
    let folder = world.folder().to_owned();
    let provider = &world.providers[0];
    let (first_probes, second_probes) = (ports::free(), ports::free());
    let program = Path::new(super::PROGRAM);
    let first = daemon::replica(provider, program, &folder, "first", ports::free(), &first_probes.to_string());
    let first = Daemon::start(first, &folder.join("first.log"));
    daemon::holds(&provider.site, LEASE, "first").await;
    ready(first_probes, "controllers: run").await;
    metric(first_probes, &["kube_bind_backend_templates "], |count| count == 1.0).await;

    let listen = provider.config().listen;
    let mut second = daemon::replica(provider, program, &folder, "second", listen, &second_probes.to_string());
    second.env("KUBE_BIND_LOG_FORMAT", "json");
    let second = Daemon::start(second, &folder.join("second.log"));
    ready(second_probes, "held by first; the controllers run there").await;
    // Load balancers ask the listener itself; metrics are not for everybody.
    ready(listen, "held by first").await;
    assert_eq!(get(listen, "/metrics").await.unwrap().0, 404);

    first.kill().await;
    let _ = world.bind(0, 0).await.ok();
    let _ = world.make("default", "one", "one-token").await;
    let provider = &world.providers[0];
    daemon::holds(&provider.site, LEASE, "second").await;
    ready(second_probes, "lease: held by this replica").await;
    metric(second_probes, &["kube_bind_backend_leading "], |leads| leads == 1.0).await;
    metric(second_probes, &["kube_bind_backend_contracts "], |count| count == 1.0).await;
    metric(second_probes, &["kube_bind_backend_exports "], |count| count == 1.0).await;
    metric(second_probes, &["kube_bind_backend_logins_total{outcome=\"ok\"}"], |count| count == 1.0).await;
    let asked = ["kube_bind_backend_http_requests_total{route=\"/api/callback\"", "status=\"302\""];
    metric(second_probes, &asked, |count| count == 1.0).await;
    let done = ["kube_bind_backend_reconciles_total{controller=\"request\"", "result=\"done\""];
    metric(second_probes, &done, |count| count >= 1.0).await;
    documented(second_probes).await;

    // What is under way is finished: a request whose body is still coming.
    let mut slow = TcpStream::connect(listen).await.unwrap();
    let body = "{\"session_id\": \"s\"}";
    let head = format!("POST /api/authorize HTTP/1.1\r\nhost: {listen}\r\ncontent-length: {}\r\n\r\n", body.len());
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&body.as_bytes()[..5]).await.unwrap();
    // The request is there once another connection that came later has its answer.
    assert_eq!(get(listen, "/healthz").await.unwrap().0, 200);
    let began = Instant::now();
    signal(&second, "TERM").await;
    eventually("nothing new is taken", async || match TcpStream::connect(listen).await {
        Ok(_) => Err("it still listens".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
    let (status, text) = get(second_probes, "/readyz").await.unwrap();
    assert!(status == 503 && text.contains("[-] shutdown: has begun"), "{status} {text}");
    slow.write_all(&body.as_bytes()[5..]).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("redirect_url"), "{answer}");
    let status = second.ended().await;
    assert!(status.success() && began.elapsed() < PROMPT, "{status} after {:?}", began.elapsed());
    assert_eq!(daemon::holder(&provider.site, LEASE).await, "", "the Lease is given back");
    let log = std::fs::read_to_string(folder.join("second.log")).unwrap();
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not JSON: {line}");
    }
    world.end().await;
}

/// An agent that gives its Lease back lets the other one begin at once, not after the Lease has expired.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let mut world = World::bound(super::PROGRAM, Service::new(4003)).await;
    world.consumer().stop_agent().await;
    let folder = world.folder().to_owned();
    let first = daemon::agent(&world.consumers[0], &folder, "first");
    daemon::leads(&world.consumers[0], "first").await;
    let second = daemon::agent(&world.consumers[0], &folder, "second");
    let began = Instant::now();
    signal(&first, "INT").await;
    assert!(first.ended().await.success());
    daemon::leads(&world.consumers[0], "second").await;
    assert!(began.elapsed() < PROMPT, "the Lease would have held for 15 s: {:?}", began.elapsed());
    ends_well(second, "TERM", &world.consumers[0].site, KONNECTOR_LEASE).await;
    world.end().await;
}

/// An API server that takes connections and says nothing: the programs say so, and end when they are told to.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_api_server_keeps_nobody_from_ending() {
    let folder = Folder::new("programs");
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let kubeconfig = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}], \
         contexts: [{{name: c, context: {{cluster: c, user: u, namespace: kube-bind}}}}], users: [{{name: u, user: {{token: t}}}}]}}",
        silent.local_addr().unwrap()
    );
    let kubeconfig = file(folder.path(), "kubeconfig", &kubeconfig);
    for (program, more) in
        [("konnector", &[][..]), ("kube-bind-backend", &["--frontend-disabled", "--listen-address=127.0.0.1:0"])]
    {
        let probes = ports::free();
        let mut command = tokio::process::Command::new(super::PROGRAM);
        command.args([program, "--kubeconfig", &kubeconfig, "--server-address", &probes.to_string()]).args(more);
        let daemon = Daemon::start(command, &folder.path().join(format!("{program}.log")));
        eventually("it says that it is not ready", async || match get(probes, "/readyz").await? {
            (503, text) if text.contains("cluster: has not answered yet") => Ok(()),
            (status, text) => Err(format!("{status} {text}")),
        })
        .await;
        assert_eq!(get(probes, "/healthz").await.unwrap().0, 200);
        let began = Instant::now();
        signal(&daemon, "TERM").await;
        let status = daemon.ended().await;
        assert!(status.success() && began.elapsed() < PROMPT, "{program}: {status} after {:?}", began.elapsed());
    }
}

/// Starts a program that shall refuse; exit code and what it said.
fn refused(words: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(super::PROGRAM);
    command.args(words).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words:?} should be refused: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn wrong_settings_are_refused_with_place_name_and_mend() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| file(folder.path(), name, text);
    for program in ["konnector", "kube-bind-backend"] {
        let unknown = path("unknown.yaml", "logFromat: json\n");
        let said = refused(&[program, "--config", &unknown], &[]);
        assert!(
            said.contains(&format!("{unknown}: logFromat: ")) && said.contains("did you mean logFormat?"),
            "{said}"
        );
        let wrong = path("wrong.yaml", "logLevel: info\nlogFormat: xml\n");
        let said = refused(&[program, "--config", &wrong], &[]);
        assert!(said.contains(&format!("{wrong}: logFormat: \"xml\" is none of text, json")), "{said}");
        let prefix = if program == "konnector" { "KONNECTOR" } else { "KUBE_BIND" };
        let variable = format!("{prefix}_SHUTDOWN_GRACE_PERIOD");
        let said = refused(&[program], &[(&variable, "soon")]);
        assert!(said.contains(&variable) && said.contains("such as 90s"), "{said}");
        let said = refused(&[program, "--server-address", "nowhere"], &[]);
        assert!(said.contains("--server-address") && said.contains("IP:PORT"), "{said}");
    }
    let said = refused(&["kube-bind-backend", "--oidc-issuer-client-secret=hush-hush"], &[]);
    assert!(said.contains("--oidc-issuer-client-secret-file") && !said.contains("hush-hush"), "{said}");
    let secret = path("secret.yaml", "cookieSigningKey: hush-hush\n");
    let said = refused(&["kube-bind-backend", "--config", &secret], &[]);
    assert!(said.contains("cookieSigningKeyFile") && !said.contains("hush-hush"), "{said}");
}
