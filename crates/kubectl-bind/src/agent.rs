//! The agent in the consumer cluster: whether one lives (its Lease tells), and installing or upgrading it. What is to be
//! done is decided by [`crate::install`]; this does it, waits, and says what was done.

use std::time::Duration;

use contract::install::{self as wanted, VERSION};
use contract::rbac::birth;
use jiff::Timestamp;
use kube_bind_api::constants::{CONSUMER_NAMESPACE, KONNECTOR, KONNECTOR_LEASE};
use kube_bind_api::{GroupResource, Isolation, StatedClaim};
use kube_client::api::ListQuery;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::AgentArgs;
use crate::binder::{condition, served_resource};
use crate::changes::{Changes, resource};
use crate::cluster::{Cluster, Permission, kinds, text};
use crate::errors::CliError;
use crate::install::{self, Deploy, Found, Plan};
use crate::rights;
use crate::served::Served;

/// How long an API server may take to read the schema of a new kind for mutating policies. It looks every five seconds.
const SCHEMA_READ: Duration = Duration::from_secs(12);
/// How long our CRDs may take to be established.
const ESTABLISHED: Duration = Duration::from_secs(60);

/// The state of the agent's Lease.
pub(crate) struct Heartbeat {
    /// Who holds it, as the Lease says.
    pub(crate) holder: String,
    /// When it was renewed last.
    pub(crate) renewed: String,
    /// Whether that is recent enough.
    pub(crate) fresh: bool,
}

/// Reads the Lease; none if there never was an agent.
pub(crate) async fn heartbeat(consumer: &Cluster) -> Result<Option<Heartbeat>, CliError> {
    let lease = consumer.get(&kinds::leases(), CONSUMER_NAMESPACE, KONNECTOR_LEASE).await?;
    Ok(lease.map(|lease| {
        let renewed = text(&lease, "/spec/renewTime").to_owned();
        let holder = text(&lease, "/spec/holderIdentity").to_owned();
        let lasts = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64).unwrap_or(15);
        let age = renewed.parse::<Timestamp>().map(|renewed| Timestamp::now().duration_since(renewed).as_secs().abs());
        Heartbeat { fresh: !holder.is_empty() && age.is_ok_and(|age| age <= lasts), holder, renewed }
    }))
}

/// What is there of the agent.
pub(crate) struct Look {
    pub(crate) served: Served,
    found: Vec<Found>,
    deployment: Option<Value>,
    lease: Option<Heartbeat>,
}

impl Look {
    /// Reads everything that the decisions need.
    pub(crate) async fn at(consumer: &Cluster) -> Result<Self, CliError> {
        let served = Served::ask(consumer).await?;
        served.enough(&consumer.server)?;
        let mut desired = wanted::objects(VERSION);
        if served.policies {
            desired.extend(wanted::policies(VERSION));
        }
        let mut found = Vec::new();
        for desired in desired {
            let place = (text(&desired, "/metadata/namespace"), text(&desired, "/metadata/name"));
            let live = consumer.get(&resource(&desired)?, place.0, place.1).await?;
            found.push(Found { desired, live });
        }
        let deployment = match served.deployments {
            true => consumer.get(&kinds::deployments(), CONSUMER_NAMESPACE, KONNECTOR).await?,
            false => None,
        };
        Ok(Self { served, found, deployment, lease: heartbeat(consumer).await? })
    }

    fn alive(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.fresh)
    }

    fn plan(&self) -> Result<Plan, CliError> {
        install::plan(&self.found, self.deployment.as_ref(), VERSION)
    }

    /// `None` where no Deployment can or shall be.
    fn deploy(&self, args: &AgentArgs) -> Option<Deploy> {
        let possible = self.served.deployments && !args.skip_konnector;
        let desired = || wanted::deployment(VERSION, None);
        possible.then(|| {
            install::deploy(self.deployment.as_ref(), &desired(), args.konnector_image.as_deref(), self.alive())
        })
    }

    /// What a person needs for what is to be written.
    pub(crate) fn permissions(&self, args: &AgentArgs) -> Vec<Permission> {
        let plan = self.plan().unwrap_or_default();
        let mut objects = plan.write;
        if let (None, Some(Deploy::Write(deployment, _))) = (plan.newer, self.deploy(args)) {
            objects.push(deployment);
        }
        let there = |object: &Value| {
            let same = |found: &&Found| install::named(&found.desired) == install::named(object);
            match self.found.iter().find(same) {
                Some(found) => found.live.is_some(),
                None => self.deployment.is_some(),
            }
        };
        install::permissions(objects.iter().map(|object| (object, there(object))))
    }
}

/// Makes sure that the agent is installed as this version needs it and lives, or says what to run.
pub(crate) async fn ensure(changes: &mut Changes, consumer: &Cluster, args: &AgentArgs) -> Result<Served, CliError> {
    let look = Look::at(consumer).await?;
    let plan = look.plan()?;
    let mut written = Vec::new();
    for object in &plan.write {
        if changes.ensure(consumer, object).await?.1 {
            written.push(install::named(object));
        }
    }
    for found in &look.found {
        if text(&found.desired, "/kind") == "CustomResourceDefinition" {
            established(consumer, text(&found.desired, "/metadata/name")).await?;
        }
    }
    let mut notes = plan.notes;
    notes.extend(look.served.notes());
    let mut installed = false;
    let deploy = if plan.newer.is_some() { None } else { look.deploy(args) };
    match deploy {
        Some(Deploy::Write(object, kept)) => {
            let (now, _) = changes.ensure(consumer, &object).await?;
            installed = look.deployment.is_none();
            let revision = |object: &Value| text(object, "/metadata/resourceVersion").to_owned();
            if look.deployment.as_ref().map(revision) != Some(revision(&now)) {
                written.push(install::named(&object));
            }
            notes.extend(kept);
        }
        Some(Deploy::Leave(note)) => notes.push(note),
        _ => {}
    }
    if plan.newer.is_none() {
        written.extend(refresh(changes, consumer).await?);
    }
    if installed {
        eprintln!("Installed the agent, version {VERSION} (Deployment {CONSUMER_NAMESPACE}/{KONNECTOR}).");
    } else if let (Some(older), false) = (&plan.older, written.is_empty()) {
        eprintln!("Upgraded the agent from version {older} to {VERSION}: {}.", written.join(", "));
    }
    for note in notes {
        eprintln!("{note}");
    }
    answer(changes, consumer, args, &look).await?;
    Ok(look.served)
}

/// Waits until an agent answers. A Lease that is renewed while we look counts too, whatever the clocks say.
async fn answer(changes: &mut Changes, consumer: &Cluster, args: &AgentArgs, look: &Look) -> Result<(), CliError> {
    if look.alive() {
        return Ok(());
    }
    let outside = args.skip_konnector || !look.served.deployments;
    if outside {
        eprintln!("No agent answers, and none is installed. Run one within {} s:\n{OUTSIDE}", args.wait);
    }
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let first = look.lease.as_ref().map(|lease| lease.renewed.as_str()).unwrap_or_default();
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = heartbeat(consumer).await?;
        if now.is_some_and(|lease| lease.fresh || (!lease.renewed.is_empty() && lease.renewed != first)) {
            return Ok(());
        }
    }
    // Whoever starts an agent now must find its account, and images take their time.
    changes.keep();
    let mut waited = format!(" after {} s", args.wait);
    if !look.served.deployments {
        waited.push_str(", and the cluster runs no pods");
    }
    let how = if outside {
        format!("What it needs in the cluster is there. Run one anywhere:\n{OUTSIDE}")
    } else {
        format!(
            "Its Deployment {CONSUMER_NAMESPACE}/{KONNECTOR} stays installed; {}. Look at it:\n  \
             kubectl -n {CONSUMER_NAMESPACE} get pods\n  \
             kubectl -n {CONSUMER_NAMESPACE} logs deployment/{KONNECTOR}",
            reason(consumer).await
        )
    };
    Err(CliError::NoAgent { server: consumer.server.clone(), waited, how })
}

/// How to run an agent that this command does not install.
const OUTSIDE: &str =
    "  kubectl bind konnector --print-kubeconfig > konnector.kubeconfig\n  konnector --kubeconfig konnector.kubeconfig";

/// Why the Deployment has no agent that answers, as far as one can see.
async fn reason(consumer: &Cluster) -> String {
    let labels = Some(format!("app.kubernetes.io/name={KONNECTOR}"));
    let query = ListQuery { labels, ..ListQuery::namespace(CONSUMER_NAMESPACE) };
    let pods = consumer.list(&kinds::pods(), &query).await.unwrap_or_default();
    for pod in &pods {
        let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
        for state in statuses.into_iter().flatten() {
            for place in ["/state/waiting", "/lastState/terminated"] {
                let (reason, message) =
                    (text(state, &format!("{place}/reason")), text(state, &format!("{place}/message")));
                if !reason.is_empty() {
                    let colon = if message.is_empty() { "" } else { ": " };
                    return format!("pod {}: {reason}{colon}{message}", text(pod, "/metadata/name"));
                }
            }
        }
    }
    let deployment = consumer.get(&kinds::deployments(), CONSUMER_NAMESPACE, KONNECTOR).await;
    let deployment = deployment.ok().flatten().unwrap_or_default();
    let failed = condition(&deployment, "ReplicaFailure", "message");
    match (failed, pods.is_empty()) {
        ("", true) => "it has no pods yet".to_owned(),
        ("", false) => "its pods do not hold the Lease yet".to_owned(),
        (failed, _) => failed.to_owned(),
    }
}

async fn established(consumer: &Cluster, crd: &str) -> Result<(), CliError> {
    let deadline = Instant::now() + ESTABLISHED;
    while Instant::now() < deadline {
        let there = consumer.get(&kinds::crds(), "", crd).await?;
        if there.as_ref().is_some_and(|crd| condition(crd, "Established", "status") == "True") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(CliError::NotEstablished { crd: crd.to_owned(), seconds: ESTABLISHED.as_secs() })
}

/// Brings the rights of bindings that an older version made to this one; says which objects it wrote.
async fn refresh(changes: &mut Changes, consumer: &Cluster) -> Result<Vec<String>, CliError> {
    let mut written = Vec::new();
    for binding in consumer.list(&kinds::bindings(), &ListQuery::default()).await? {
        let name = text(&binding, "/metadata/name");
        let bound = binding.pointer("/status/boundSchemas").cloned().unwrap_or_default();
        let bound: Vec<GroupResource> = serde_json::from_value(bound).unwrap_or_default();
        let claims = binding.pointer("/spec/permissionClaims").cloned().unwrap_or_default();
        let claims: Vec<StatedClaim> = serde_json::from_value(claims).unwrap_or_default();
        if bound.is_empty() || binding.pointer("/metadata/deletionTimestamp").is_some() {
            continue;
        }
        for object in rights::of_binding(name, &bound, &claims) {
            let live = consumer.get(&resource(&object)?, "", text(&object, "/metadata/name")).await?;
            // What is not there, or was made by hand, is not ours to mend here.
            if live.is_some_and(|live| install::is_ours(&live)) && changes.ensure(consumer, &object).await?.1 {
                written.push(install::named(&object));
            }
        }
    }
    Ok(written)
}

/// Makes the policy that gives objects of a binding their finalizer at birth, if that is asked for, or brings one that is
/// there up to date. `provider` is the contract, whose export says where copies go. It saves writes and no more, so where it
/// cannot be made that is said, and everything else goes on.
pub(crate) async fn finalizer_policy(
    changes: &mut Changes,
    consumer: &Cluster,
    args: &AgentArgs,
    provider: &Cluster,
    binding: &str,
    bound: &[GroupResource],
) -> Result<(), CliError> {
    let served = Served::ask(consumer).await?;
    if !served.births {
        if args.finalizer_at_birth {
            eprintln!(
                "The API server ({}) has no MutatingAdmissionPolicy (Kubernetes 1.36 has): objects get their finalizer from \
                 the agent.",
                served.version
            );
        }
        return Ok(());
    }
    if !args.finalizer_at_birth {
        let [_, (resource, name)] = rights::names_of_finalizer_policy(binding);
        match consumer.get(&resource, "", &name).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(CliError::Forbidden { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let export = provider.get(&kinds::exports(), &provider.namespace, binding).await?.unwrap_or_default();
    let isolation = export.pointer("/spec/isolation").cloned().unwrap_or_default();
    let isolation: Isolation = serde_json::from_value(isolation).unwrap_or_default();
    let objects = rights::finalizer_policy(binding, bound, &provider.namespace, isolation);
    let needed = install::permissions(objects.iter().map(|object| (object, false)));
    let missing = consumer.missing(&needed).await?;
    if !missing.is_empty() {
        eprintln!(
            "Objects get their finalizer from the agent and not at birth, for which you lack: {}. Everything else works.",
            missing.join(", ")
        );
        return Ok(());
    }
    for kind in bound {
        known(consumer, &kind.crd_name()).await?;
    }
    for object in objects {
        changes.ensure(consumer, &object).await?;
    }
    if args.finalizer_at_birth {
        let patch = json!({"metadata": {"annotations": {birth::ANNOTATION: "true"}}});
        consumer.merge_patch(&kinds::bindings(), "", binding, &patch).await?;
    }
    for kind in bound {
        if !taken(consumer, &kind.crd_name()).await? {
            remove_finalizer_policy(consumer, binding).await?;
            eprintln!(
                "The API server takes no {kind} while a policy gives them their finalizer at birth, so the policy was \
                 removed again: objects get it from the agent. Everything else works."
            );
        }
    }
    Ok(())
}

/// Whether objects of a kind are taken, at last.
async fn taken(consumer: &Cluster, crd: &str) -> Result<bool, CliError> {
    let Some(crd) = consumer.get(&kinds::crds(), "", crd).await? else { return Ok(true) };
    let Some(resource) = served_resource(&crd) else { return Ok(true) };
    let deadline = Instant::now() + ESTABLISHED;
    while !consumer.takes(&crd, &resource).await {
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(true)
}

/// Waits until every API server has read the schema of a kind: before, such a policy makes it refuse objects.
async fn known(consumer: &Cluster, crd: &str) -> Result<(), CliError> {
    let live = consumer.get(&kinds::crds(), "", crd).await?.unwrap_or_default();
    let since = condition(&live, "Established", "lastTransitionTime").parse::<Timestamp>();
    // A clock that differs makes it wait for the whole time.
    let age = since.ok().and_then(|since| Duration::try_from(Timestamp::now().duration_since(since)).ok());
    if let Some(wait) = SCHEMA_READ.checked_sub(age.unwrap_or_default()) {
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

/// Removes that policy, if it is there; says whether it was. Left behind it does nothing, so it need not be possible.
pub(crate) async fn remove_finalizer_policy(consumer: &Cluster, binding: &str) -> Result<bool, CliError> {
    let mut there = false;
    for (resource, name) in rights::names_of_finalizer_policy(binding) {
        let removed = match consumer.get(&resource, "", &name).await {
            Ok(Some(live)) => {
                there = true;
                consumer.delete(&resource, &live).await
            }
            other => other.map(drop),
        };
        match removed {
            Err(CliError::Forbidden { .. }) => eprintln!("{resource} {name} is left as it is: you may not remove it."),
            other => other?,
        }
    }
    Ok(there)
}

/// Makes the policy that keeps a binding's claims where its kind is used, from the CRD that is here.
pub(crate) async fn keep_where_used(
    changes: &mut Changes,
    consumer: &Cluster,
    binding: &str,
    bound: &[GroupResource],
    claims: &[StatedClaim],
) -> Result<(), CliError> {
    if claims.is_empty() || !Served::ask(consumer).await?.policies {
        return Ok(());
    }
    let Some(kind) = rights::referring(bound, claims) else { return Ok(()) };
    let crd = consumer.get(&kinds::crds(), "", &kind.crd_name()).await?;
    let Some(kind) = crd.as_ref().and_then(served_resource) else { return Ok(()) };
    for object in rights::where_used(binding, &kind.group, &kind.version, &kind.kind) {
        changes.ensure(consumer, &object).await?;
    }
    Ok(())
}
