//! The first container of a Deployment as a process of this machine: what a kubelet would do with it. In: the Deployment as
//! the API server has it, and a kubeconfig of its ServiceAccount. Out: a running program, with the very arguments,
//! environment and mounted files of the Deployment; probes that ask where its probes ask. Where the machine lets a process
//! have mounts of its own ([`crate::inside`]) it finds its API server as in a cluster, else by a kubeconfig.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_client::resource::Resource;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::inside::Inside;
use crate::install::{established, token_secret};
use crate::program::Person;
use crate::site::{Site, core, crds};
use crate::{eventually, ports};

/// How long a kubelet waits between asking a program to end and ending it.
const GRACE: Duration = Duration::from_secs(30);

/// Deployments.
#[must_use]
pub fn deployments() -> Resource {
    Resource::new("apps", "v1", "deployments", "Deployment")
}

/// Makes Deployments a kind of an API server that has none, so that something can be installed there.
pub async fn serve_deployments(site: &Site) {
    if site.api.raw_get("/apis/apps/v1").await.is_ok() {
        return;
    }
    let crd = json!({
        "metadata": {"name": "deployments.apps"},
        "spec": {
            "group": "apps", "scope": "Namespaced",
            "names": {"plural": "deployments", "singular": "deployment", "kind": "Deployment", "listKind": "DeploymentList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    site.apply(&crds(), &crd).await;
    established(site, "deployments.apps").await;
}

/// A running container. It ends when this is dropped.
pub struct Pod {
    child: Child,
    container: Value,
    log: PathBuf,
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

impl Pod {
    /// Waits for a Deployment of `kube-bind` and runs it as the program `konnector` of this person, under a token of exactly
    /// its ServiceAccount. Returns when its probes are answered.
    pub async fn run(site: &Site, person: &Person, namespace: &str, name: &str) -> Self {
        let mut deployment = eventually(&format!("Deployment {namespace}/{name} is there"), async || {
            site.get(&deployments(), namespace, name).await.ok_or("no".to_owned())
        })
        .await;
        let labels = deployment["spec"]["template"]["metadata"]["labels"].clone();
        for (label, value) in deployment["spec"]["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(labels.get(label), Some(value), "the Deployment does not select its own pods");
        }
        let spec = &mut deployment["spec"]["template"]["spec"];
        let account = spec["serviceAccountName"].as_str().unwrap().to_owned();
        // A pod has an address of its own; here the port is one of the machine's.
        let container = &mut spec["containers"][0];
        let inside = format!(":{}", container["ports"][0]["containerPort"]);
        let outside = ports::free().port();
        container["ports"][0]["containerPort"] = json!(outside);
        for argument in container["args"].as_array_mut().unwrap() {
            *argument = json!(argument.as_str().unwrap().replace(&inside, &format!(":{outside}")));
        }
        eventually(&format!("ServiceAccount {namespace}/{account} is there"), async || {
            site.get(&core("serviceaccounts"), namespace, &account).await.map(drop).ok_or("no".to_owned())
        })
        .await;
        token_secret(site, namespace, &account).await;
        let token = site.setup().await.token(namespace, &account).await.unwrap();
        let kubeconfig = site.kubeconfig_with("pod", &token);
        let program = (person.program.as_path(), "konnector");
        let pod = format!("{name}-0");
        let mut pod = Self::start(site, &deployment, &pod, &person.home, program, &kubeconfig).await;
        pod.ready().await;
        pod
    }

    /// Starts it under `name`: `program` is the program of the image, with the words that come before the arguments.
    pub async fn start(
        site: &Site,
        deployment: &Value,
        name: &str,
        folder: &Path,
        program: (&Path, &str),
        kubeconfig: &str,
    ) -> Self {
        let namespace = deployment["metadata"]["namespace"].as_str().unwrap();
        let spec = &deployment["spec"]["template"]["spec"];
        let container = spec["containers"][0].clone();
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut mounts = Vec::new();
        for mount in items(&container["volumeMounts"]) {
            let volume = items(&spec["volumes"]).find(|volume| volume["name"] == mount["name"]).unwrap();
            let place = folder.join(mount["name"].as_str().unwrap());
            std::fs::create_dir_all(&place).unwrap();
            for (file, content) in files(site, namespace, volume).await {
                std::fs::write(place.join(file), content).unwrap();
            }
            mounts.push((mount["mountPath"].as_str().unwrap().to_owned(), place.to_string_lossy().into_owned()));
        }
        let here = |text: &str| mounts.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here));
        let log = folder.join("pod.log");
        let file = std::fs::File::create(&log).unwrap();
        let mut command = match Inside::new(&folder, namespace, kubeconfig) {
            Some(inside) => inside.command(program.0),
            None => {
                let credential = folder.join("credential");
                std::fs::write(&credential, kubeconfig).unwrap();
                let mut command = Command::new(program.0);
                command.env_clear().env("KUBECONFIG", &credential);
                command
            }
        };
        command.arg(program.1).args(texts(&container["args"]).map(here)).env("HOME", &folder);
        for variable in items(&container["env"]) {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => name,
                Some("metadata.namespace") => namespace,
                Some(other) => panic!("the test kit does not know the field {other}"),
                None => variable["value"].as_str().unwrap_or_default(),
            };
            command.env(variable["name"].as_str().unwrap(), value);
        }
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).kill_on_drop(true);
        Self { child: command.spawn().unwrap(), container, log }
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the probes of the Deployment are answered.
    pub async fn ready(&mut self) {
        for probe in ["livenessProbe", "readinessProbe"] {
            let get = &self.container[probe]["httpGet"];
            let port = items(&self.container["ports"]).find(|port| port["name"] == get["port"]).unwrap_or_else(|| {
                panic!("{probe} asks at the port {}, which is none of the container's", get["port"])
            });
            let scheme = get["scheme"].as_str().unwrap_or("HTTP").to_lowercase();
            let url = format!("{scheme}://127.0.0.1:{}{}", port["containerPort"], get["path"].as_str().unwrap());
            // As a kubelet does, which does not look at certificates.
            let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
            eventually(&format!("{probe} {url}"), async || {
                if let Some(status) = self.child.try_wait().unwrap() {
                    panic!("the program ended with {status}:\n{}", self.log());
                }
                match client.get(&url).send().await {
                    Ok(answer) if answer.status().is_success() => Ok(()),
                    Ok(answer) => Err(format!("{}\n{}", answer.status(), self.log())),
                    Err(error) => Err(format!("{error}\n{}", self.log())),
                }
            })
            .await;
        }
    }

    /// Asks it to end, as a kubelet does.
    pub async fn stop(mut self) {
        let id = self.child.id().unwrap();
        let _ = Command::new("kill").arg(id.to_string()).status().await;
        let ended = tokio::time::timeout(GRACE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("does not end:\n{}", self.log())).unwrap();
        assert!(status.success(), "ended with {status}:\n{}", self.log());
    }
}

/// The files of a volume.
async fn files(site: &Site, namespace: &str, volume: &Value) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut sources: Vec<(&str, &str, &Value)> = Vec::new();
    let name = |source: &'static str, field: &str| volume[source][field].as_str().map(|name| (source, name));
    if let Some((source, name)) = name("secret", "secretName").or(name("configMap", "name")) {
        sources.push((source, name, &volume[source]["items"]));
    }
    for source in items(&volume["projected"]["sources"]) {
        for kind in ["secret", "configMap"] {
            if let Some(name) = source[kind]["name"].as_str() {
                sources.push((kind, name, &source[kind]["items"]));
            }
        }
    }
    for (kind, name, wanted) in sources {
        let object = site.get(&core(&format!("{}s", kind.to_lowercase())), namespace, name).await;
        let object =
            object.unwrap_or_else(|| panic!("a volume wants the {kind} {namespace}/{name}, which is not there"));
        let content = |text: &str| match kind {
            "secret" => STANDARD.decode(text).unwrap(),
            _ => text.as_bytes().to_vec(),
        };
        let data = object["data"].as_object().unwrap();
        if wanted.is_array() {
            for item in items(wanted) {
                let (key, path) = (item["key"].as_str().unwrap(), item["path"].as_str().unwrap());
                let text = data.get(key).unwrap_or_else(|| panic!("the {kind} {namespace}/{name} has no key {key}"));
                files.insert(path.to_owned(), content(text.as_str().unwrap()));
            }
        } else {
            files.extend(data.iter().map(|(key, text)| (key.clone(), content(text.as_str().unwrap()))));
        }
    }
    files
}
