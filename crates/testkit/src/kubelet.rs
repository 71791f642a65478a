//! Plays the part of a cluster that nodes have: runs what the agent's Deployment says. In: a site with a Deployment. Out: the
//! program `konnector` as a process with these arguments and environment, under a token of exactly that ServiceAccount,
//! whose probes answer.

use std::path::PathBuf;
use std::process::Stdio;

use kube_client::resource::Resource;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::eventually;
use crate::program::Person;
use crate::site::{Site, core};

/// Deployments.
#[must_use]
pub fn deployments() -> Resource {
    Resource::new("apps", "v1", "deployments", "Deployment")
}

/// A running pod of a Deployment; it ends when it is dropped.
pub struct Pod {
    /// The image that a real one would run.
    pub image: String,
    child: Child,
    log: PathBuf,
}

impl Pod {
    /// Waits for the Deployment and runs it. Returns when its probes succeed.
    ///
    /// # Panics
    /// When the Deployment asks for something that no kubelet could give, or its probes do not succeed.
    pub async fn run(site: &Site, person: &Person, namespace: &str, name: &str) -> Self {
        let deployment = eventually(&format!("Deployment {namespace}/{name} is there"), async || {
            site.get(&deployments(), namespace, name).await.ok_or("no".to_owned())
        })
        .await;
        let spec = &deployment["spec"]["template"]["spec"];
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        for (label, value) in deployment["spec"]["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(labels.get(label), Some(value), "the Deployment does not select its own pods");
        }
        let container = &spec["containers"][0];
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{spec}");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{container}");
        let token = token(site, namespace, spec["serviceAccountName"].as_str().unwrap()).await;
        let home = person.home.join("pod");
        std::fs::create_dir_all(&home).unwrap();
        let kubeconfig = home.join("kubeconfig");
        std::fs::write(&kubeconfig, site.kubeconfig_with("pod", &token)).unwrap();

        // A pod has an address of its own; here the port is one of the machine's.
        let inside = container["ports"][0]["containerPort"].as_u64().unwrap();
        let outside = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mut command = Command::new(&person.program);
        command.arg("konnector").env_clear().env("KUBECONFIG", &kubeconfig).env("HOME", &home);
        for argument in container["args"].as_array().unwrap() {
            let argument = argument.as_str().unwrap();
            command.arg(argument.replace(&format!(":{inside}"), &format!(":{outside}")));
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => format!("{name}-0"),
                Some("metadata.namespace") => namespace.to_owned(),
                Some(other) => panic!("no field {other} here"),
                None => variable["value"].as_str().unwrap_or_default().to_owned(),
            };
            command.env(variable["name"].as_str().unwrap(), value);
        }
        let log = home.join("log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        for probe in ["livenessProbe", "readinessProbe"] {
            let probe = &container[probe]["httpGet"];
            let named = container["ports"].as_array().unwrap().iter().any(|port| port["name"] == probe["port"]);
            assert!(named || probe["port"] == inside, "the probe asks where nothing listens: {probe}");
            let url = format!("http://127.0.0.1:{outside}{}", probe["path"].as_str().unwrap());
            eventually(&format!("the probe {url} succeeds"), async || {
                assert!(child.try_wait().unwrap().is_none(), "it ended: {}", std::fs::read_to_string(&log).unwrap());
                match reqwest::get(&url).await {
                    Ok(answer) if answer.status().is_success() => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        }
        Self { image: container["image"].as_str().unwrap().to_owned(), child, log }
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it at once.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }
}

/// A token of a ServiceAccount, as the token controller makes it.
async fn token(site: &Site, namespace: &str, account: &str) -> String {
    let secret = json!({
        "metadata": {
            "name": format!("{account}-pod"), "namespace": namespace,
            "annotations": {"kubernetes.io/service-account.name": account},
        },
        "type": "kubernetes.io/service-account-token",
    });
    site.apply(&core("secrets"), &secret).await;
    eventually(&format!("ServiceAccount {namespace}/{account} has a token"), async || {
        let secret = site.get(&core("secrets"), namespace, &format!("{account}-pod")).await.unwrap_or_default();
        let token = secret.pointer("/data/token").and_then(Value::as_str);
        let token = token.and_then(|token| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(token).ok()
        });
        token.and_then(|token| String::from_utf8(token).ok()).ok_or_else(|| secret.to_string())
    })
    .await
}
