//! The operator: `MongoDB` objects in, running databases, their Secret and Service and the object's status out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rand::distr::{Alphanumeric, SampleString};
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::{MongoDB, MongoDBStatus};
use crate::server::Database;

const NAME: &str = "mangodb";
const LABEL: &str = "app.kubernetes.io/managed-by";
const FINALIZER: &str = "mangodb.com/teardown";

/// What the operator needs.
pub struct Config {
    /// The API server with the `MongoDB` objects.
    pub client: Client,
    /// Folder for the databases' files; made when missing.
    pub data_dir: PathBuf,
}

struct Operator {
    client: Client,
    data_dir: PathBuf,
    /// The running databases by UID of their object.
    databases: Mutex<HashMap<String, Database>>,
}

/// Runs databases until `shutdown`; their files stay.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.data_dir)?;
    let ours = watcher::Config::default().labels(&format!("{LABEL}={NAME}"));
    let client = config.client.clone();
    let operator = Arc::new(Operator { client: config.client, data_dir: config.data_dir, databases: Mutex::default() });
    Controller::new(Api::<MongoDB>::all(client.clone()), watcher::Config::default())
        .owns(Api::<Secret>::all(client.clone()), ours.clone())
        .owns(Api::<Service>::all(client), ours)
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(2)), operator)
        .for_each(|result| async {
            if let Err(error) = result {
                tracing::warn!(error = %error, "a database is not as ordered");
            }
        })
        .await;
    Ok(())
}

async fn reconcile(order: Arc<MongoDB>, operator: Arc<Operator>) -> Result<Action, Error> {
    let orders: Api<MongoDB> = Api::namespaced(operator.client.clone(), &order.namespace().unwrap_or_default());
    finalizer(&orders, FINALIZER, order, |event| async {
        match event {
            Event::Apply(order) => operator.provide(&orders, &order).await,
            Event::Cleanup(order) => operator.tear_down(&order).await,
        }
    })
    .await
    .map_err(|error| Error::Finalizer(Box::new(error)))
}

impl Operator {
    /// One step forward: Pending, then Provisioning (the server starts), then Running (Secret and Service are there).
    async fn provide(&self, orders: &Api<MongoDB>, order: &MongoDB) -> Result<Action, Error> {
        let phase = order.status.as_ref().map_or("", |status| status.phase.as_str());
        if phase.is_empty() {
            return self.report(orders, order, "Pending", "Ordered", "The order is in.", 0).await;
        }
        let (token, foreign) = self.token(order).await?;
        if foreign {
            let message = format!("Secret {:?} exists and is not ours; name another one.", order.spec.token_secret);
            return self.report(orders, order, "Failed", "SecretExists", &message, 0).await;
        }
        let (port, size) = self.database(order, &token).await?;
        if phase == "Pending" {
            return self.report(orders, order, "Provisioning", "Starting", "The database starts.", size).await;
        }
        self.apply_service(order, port).await?;
        self.apply_secret(order, &token).await?;
        self.report(orders, order, "Running", "Running", "The database answers.", size).await
    }

    /// Port and size on disk of the object's database, which is started when it is not running.
    async fn database(&self, order: &MongoDB, token: &str) -> Result<(u16, u64), Error> {
        let uid = order.uid().unwrap_or_default();
        let mut databases = self.databases.lock().await;
        if !databases.contains_key(&uid) {
            databases.insert(uid.clone(), Database::open(&self.data_dir.join(&uid), token).await?);
        }
        let database = databases.get(&uid).ok_or(Error::Gone)?;
        Ok((database.address().port(), database.size()?))
    }

    /// The token of this database (made once, kept beside the files) and whether its Secret is somebody else's.
    async fn token(&self, order: &MongoDB) -> Result<(String, bool), Error> {
        let folder = self.data_dir.join(order.uid().unwrap_or_default());
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("token");
        let token = match std::fs::read_to_string(&file) {
            Ok(token) => token,
            Err(_) => {
                let token = Alphanumeric.sample_string(&mut rand::rng(), 32);
                std::fs::write(&file, &token)?;
                token
            }
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &order.namespace().unwrap_or_default());
        let there = secrets.get_opt(&order.spec.token_secret).await?;
        let foreign = there
            .is_some_and(|secret| !secret.owner_references().iter().any(|o| Some(&o.uid) == order.meta().uid.as_ref()));
        Ok((token, foreign))
    }

    async fn apply_secret(&self, order: &MongoDB, token: &str) -> Result<(), Error> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &order.namespace().unwrap_or_default());
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {
                "name": order.spec.token_secret, "labels": {LABEL: NAME, "mangodb.com/database": order.name_any()},
                "ownerReferences": [order.controller_owner_ref(&())],
            },
            "data": {"token": ByteString(token.as_bytes().to_vec())},
        });
        secrets.patch(&order.spec.token_secret, &PatchParams::apply(NAME).force(), &Patch::Apply(secret)).await?;
        // The order may have named another Secret before.
        let labels = format!("{LABEL}={NAME},mangodb.com/database={}", order.name_any());
        for old in secrets.list(&kube::api::ListParams::default().labels(&labels)).await? {
            if old.name_any() != order.spec.token_secret {
                secrets.delete(&old.name_any(), &Default::default()).await?;
            }
        }
        Ok(())
    }

    async fn apply_service(&self, order: &MongoDB, port: u16) -> Result<(), Error> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &order.namespace().unwrap_or_default());
        let id: String = order.uid().unwrap_or_default().chars().filter(char::is_ascii_hexdigit).take(5).collect();
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": order.name_any(), "labels": {LABEL: NAME},
                "ownerReferences": [order.controller_owner_ref(&())],
            },
            "spec": {
                "type": "ExternalName",
                "externalName": format!("as{id}.{}.mangodb.localhost", order.spec.region),
                "ports": [{"name": "mangodb", "port": port, "protocol": "TCP"}],
            },
        });
        services.patch(&order.name_any(), &PatchParams::apply(NAME).force(), &Patch::Apply(service)).await?;
        Ok(())
    }

    async fn tear_down(&self, order: &MongoDB) -> Result<Action, Error> {
        let uid = order.uid().unwrap_or_default();
        self.databases.lock().await.remove(&uid);
        match std::fs::remove_dir_all(self.data_dir.join(&uid)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(Action::await_change()),
        }
    }

    /// Writes the status if it changed, and comes back in a second, for the size grows without an event.
    async fn report(
        &self,
        orders: &Api<MongoDB>,
        order: &MongoDB,
        phase: &str,
        reason: &str,
        message: &str,
        size: u64,
    ) -> Result<Action, Error> {
        let ready = if phase == "Running" { "True" } else { "False" };
        let before = order.status.clone().unwrap_or_default();
        let unchanged_since = before
            .conditions
            .iter()
            .find(|c| c.type_ == "Ready" && c.status == ready)
            .map(|c| c.last_transition_time.clone());
        let status = MongoDBStatus {
            phase: phase.to_owned(),
            size: format!("{:.1}MB", size as f64 / 1e6),
            observed_generation: order.meta().generation,
            conditions: vec![Condition {
                type_: "Ready".to_owned(),
                status: ready.to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
                observed_generation: order.meta().generation,
                last_transition_time: unchanged_since.unwrap_or_else(|| Time(jiff::Timestamp::now())),
            }],
        };
        if status != before {
            orders
                .patch_status(&order.name_any(), &PatchParams::default(), &Patch::Merge(json!({ "status": status })))
                .await?;
        }
        Ok(Action::requeue(Duration::from_secs(1)))
    }
}

/// Why an order could not be met this time.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error("the database's files: {0}")]
    Files(#[from] std::io::Error),
    #[error("{0}")]
    Finalizer(#[source] Box<kube::runtime::finalizer::Error<Error>>),
    #[error("the database stopped while it was looked at")]
    Gone,
}
