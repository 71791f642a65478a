//! The hand that types: runs kubectl where there is one, else asks the API server for the same Tables itself.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::discovery::ApiResource;
use serde_json::Value;

use crate::stage::Stage;
use crate::terminal::Terminal;

/// What a command printed, and whether it succeeded.
pub(super) struct Outcome {
    pub(super) text: String,
    pub(super) success: bool,
}

/// Types commands at the consumer cluster.
pub(super) struct Hand {
    kubectl: Option<PathBuf>,
    kubeconfig: PathBuf,
    folder: PathBuf,
    bin: PathBuf,
}

impl Hand {
    pub(super) fn new(stage: &Stage) -> Result<Self> {
        let folder = stage.folder().join("demo");
        std::fs::create_dir_all(&folder)?;
        Ok(Self { kubectl: on_path("kubectl"), kubeconfig: stage.consumer_kubeconfig(), folder, bin: stage.bin() })
    }

    pub(super) fn introduction(&self) -> String {
        match &self.kubectl {
            Some(path) => format!("Commands are typed into {}, with {} on PATH.", path.display(), self.bin.display()),
            None => "There is no kubectl on PATH: what follows a $ is what you would type, and the answers are the API server's own Tables.".to_owned(),
        }
    }

    /// Starts `kubectl bind …` on a terminal; what it prints is shown.
    pub(super) fn bind(&self, args: &[&str]) -> Result<Terminal> {
        println!("\n$ kubectl bind {}", args.join(" "));
        let mut command = match &self.kubectl {
            Some(kubectl) => {
                let mut command = Command::new(kubectl);
                command.arg("bind");
                command
            }
            None => Command::new(self.bin.join("kubectl-bind")),
        };
        command.args(args).envs(self.environment());
        Terminal::start(command, |text| print!("{text}"))
    }

    /// Writes a manifest and shows it.
    pub(super) fn manifest(&self, name: &str, text: &str) -> Result<()> {
        println!("\n$ cat {name}\n{}", text.trim_end());
        std::fs::write(self.folder.join(name), text)?;
        Ok(())
    }

    /// Types a kubectl command and shows its answer.
    pub(super) async fn type_in(&self, args: &[&str]) -> Result<Outcome> {
        println!("\n$ kubectl {}", args.join(" "));
        let outcome = self.quietly(args).await?;
        print!("{}", outcome.text);
        Ok(outcome)
    }

    /// Types a command until its answer is as wanted, and shows that answer.
    pub(super) async fn until(
        &self,
        args: &[&str],
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Outcome> {
        println!("\n$ kubectl {}", args.join(" "));
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let outcome = self.quietly(args).await?;
            if wanted(&outcome.text) || tokio::time::Instant::now() > deadline {
                print!("{}", outcome.text);
                return Ok(outcome);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Runs a command without showing anything.
    pub(super) async fn quietly(&self, args: &[&str]) -> Result<Outcome> {
        match &self.kubectl {
            Some(kubectl) => {
                let mut command = tokio::process::Command::new(kubectl);
                command
                    .args(args)
                    .envs(self.environment())
                    .current_dir(&self.folder)
                    .stdin(Stdio::null())
                    .kill_on_drop(true);
                let output = command.output();
                let output = tokio::time::timeout(Duration::from_secs(60), output)
                    .await
                    .context("kubectl did not end within 60 s")??;
                let text =
                    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                Ok(Outcome { text, success: output.status.success() })
            }
            None => match self.ourselves(args).await {
                Ok(text) => Ok(Outcome { text, success: true }),
                Err(error) => Ok(Outcome { text: format!("{error:#}\n"), success: false }),
            },
        }
    }

    /// PATH with the plugin first, and a home of its own, so that the user's files are neither read nor written.
    fn environment(&self) -> HashMap<&'static str, OsString> {
        let mut path = OsString::from(&self.bin);
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        HashMap::from([
            ("PATH", path),
            ("KUBECONFIG", self.kubeconfig.clone().into()),
            ("HOME", self.folder.clone().into()),
        ])
    }

    /// The few commands of the story without kubectl: `get`, `apply -f`, `create -f`.
    async fn ourselves(&self, args: &[&str]) -> Result<String> {
        let config = kube::config::Kubeconfig::read_from(&self.kubeconfig)?;
        let client = kube::Client::try_from(kube::Config::from_custom_kubeconfig(config, &Default::default()).await?)?;
        let served = served(&client).await?;
        match args {
            ["get", what, rest @ ..] => {
                let all = rest.contains(&"-A");
                let yaml = rest.windows(2).any(|pair| pair == ["-o", "yaml"]);
                if *what == "-f" {
                    let object = self.read(rest.first().copied().unwrap_or_default())?;
                    let one = of_kind(&served, &object)?;
                    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                    return get(&client, &one.resource, one.namespaced && !all, Some(name), yaml).await;
                }
                let one = named(&served, what)?;
                let name = rest.first().copied().filter(|word| !word.starts_with('-'));
                get(&client, &one.resource, one.namespaced && !all, name, yaml).await
            }
            [verb @ ("apply" | "create"), "-f", file] => {
                let object = self.read(file)?;
                let resource = &of_kind(&served, &object)?.resource;
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
                let api: Api<DynamicObject> = Api::namespaced_with(client, "default", resource);
                if *verb == "apply" {
                    api.patch(&name, &PatchParams::apply("kube-bind-demo").force(), &Patch::Apply(&object)).await?;
                } else {
                    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
                }
                let dot = if resource.group.is_empty() { "" } else { "." };
                Ok(format!("{}{dot}{}/{name} created\n", resource.kind.to_lowercase(), resource.group))
            }
            _ => bail!("without kubectl, only get, apply -f and create -f can be played"),
        }
    }

    fn read(&self, file: &str) -> Result<Value> {
        let text = std::fs::read_to_string(self.folder.join(file))?;
        Ok(apimachinery::yaml::document(&text)?)
    }
}

/// The first program of that name on PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// A kind that the server serves, and the names under which it can be asked for.
struct Served {
    resource: ApiResource,
    namespaced: bool,
    names: Vec<String>,
}

/// Everything that the server serves, the core group first.
async fn served(client: &kube::Client) -> Result<Vec<Served>> {
    let mut lists = vec![client.list_core_api_resources("v1").await?];
    for group in client.list_api_groups().await?.groups {
        let Some(preferred) = group.preferred_version.or_else(|| group.versions.into_iter().next()) else { continue };
        lists.push(client.list_api_group_resources(&preferred.group_version).await?);
    }
    let mut all = Vec::new();
    for list in lists {
        let (group, version) = list.group_version.rsplit_once('/').unwrap_or(("", &list.group_version));
        for resource in list.resources.into_iter().filter(|resource| !resource.name.contains('/')) {
            let mut names = vec![resource.name.clone(), resource.singular_name, resource.kind.to_lowercase()];
            names.extend(resource.short_names.unwrap_or_default());
            let api_version = list.group_version.clone();
            let (group, version) = (group.to_owned(), version.to_owned());
            let resource_of = ApiResource { group, version, api_version, kind: resource.kind, plural: resource.name };
            all.push(Served { resource: resource_of, namespaced: resource.namespaced, names });
        }
    }
    Ok(all)
}

fn named<'a>(served: &'a [Served], name: &str) -> Result<&'a Served> {
    let found = served.iter().find(|one| one.names.iter().any(|known| known == name));
    found.with_context(|| format!("the server doesn't have a resource type {name:?}"))
}

fn of_kind<'a>(served: &'a [Served], object: &Value) -> Result<&'a Served> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    served.iter().find(|one| one.resource.kind == kind).with_context(|| format!("no matches for kind {kind:?}"))
}

/// A list or an object, as the server's Table or as YAML.
async fn get(
    client: &kube::Client,
    resource: &ApiResource,
    in_namespace: bool,
    name: Option<&str>,
    yaml: bool,
) -> Result<String> {
    let prefix = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let namespace = if in_namespace { "/namespaces/default" } else { "" };
    let object = name.map(|name| format!("/{name}")).unwrap_or_default();
    let accept = if yaml { "application/json" } else { "application/json;as=Table;v=v1;g=meta.k8s.io" };
    let request =
        http::Request::get(format!("{prefix}{namespace}/{}{object}", resource.plural)).header("accept", accept);
    let answer: Value = client.request(request.body(Vec::new())?).await?;
    if yaml {
        return Ok(apimachinery::yaml::write(&answer));
    }
    let rows = answer.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
    if rows.is_empty() {
        return Ok(if in_namespace {
            "No resources found in default namespace.\n".to_owned()
        } else {
            "No resources found\n".to_owned()
        });
    }
    let columns = answer.get("columnDefinitions").and_then(Value::as_array).cloned().unwrap_or_default();
    let shown: Vec<usize> =
        (0..columns.len()).filter(|at| columns[*at]["priority"].as_i64().unwrap_or(0) == 0).collect();
    let mut lines: Vec<Vec<String>> =
        vec![shown.iter().map(|at| columns[*at]["name"].as_str().unwrap_or_default().to_uppercase()).collect()];
    for row in &rows {
        lines.push(shown.iter().map(|at| cell(&row["cells"][*at])).collect());
    }
    let widths: Vec<usize> =
        (0..shown.len()).map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0)).collect();
    let text = lines.iter().map(|line| {
        let cells: String = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}   ")).collect();
        format!("{}\n", cells.trim_end())
    });
    Ok(text.collect())
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    }
}
