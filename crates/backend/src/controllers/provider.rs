//! What there is once per provider: the `Cluster` object and who may bind.
//!
//! In: the allowed groups and subjects. Out: `Cluster/default` and the subjects of ClusterRoleBinding
//! `kube-bind-oidc-user` (its ClusterRole comes with the installation). Rewritten only if it differs.

use std::time::Duration;

use contract::rbac::backend::OIDC_USER;
use kube_bind_api::Cluster;
use kube_bind_api::constants::CLUSTER;
use kube_client::{Class, ObjectKey, Outcome, Subresource};
use serde_json::{Value, json};

use super::{Trouble, World};
use crate::contracts::MANAGER;
use crate::resources;

/// See the module.
///
/// # Errors
/// [`Trouble`]; tried again.
pub async fn reconcile(world: &World) -> Result<Outcome, Trouble> {
    // Who may bind comes first: an API server keeps the first objects of a CRD that was just installed waiting for seconds.
    let people = !(world.settings.allowed_groups.is_empty() && world.settings.allowed_users.is_empty());
    if people {
        binding(world).await?;
    }
    let kind = resources::of::<Cluster>();
    let key = ObjectKey::cluster(CLUSTER);
    if world.api.get_opt(&kind, &key).await?.is_none() {
        let body =
            json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": CLUSTER}, "spec": {}});
        match world.api.create(&kind, None, &body).await {
            Err(err) if err.class != Class::AlreadyExists => return Err(err.into()),
            _ => {}
        }
    }
    Ok(if people { Outcome::After(world.settings.resync.max(Duration::from_secs(10))) } else { Outcome::Done })
}

fn subjects(world: &World) -> Value {
    let subject =
        |kind: &str, name: &String| json!({"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    let groups = world.settings.allowed_groups.iter().map(|name| subject("Group", name));
    let users = world.settings.allowed_users.iter().map(|name| subject("User", name));
    Value::Array(groups.chain(users).collect())
}

async fn binding(world: &World) -> Result<(), Trouble> {
    let kind = resources::cluster_role_bindings();
    let key = ObjectKey::cluster(OIDC_USER);
    let wanted = subjects(world);
    let live = world.api.get_opt(&kind, &key).await?;
    if live.is_some_and(|live| live["subjects"] == wanted) {
        return Ok(());
    }
    let body = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": OIDC_USER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": OIDC_USER},
        "subjects": wanted,
    });
    // Apply, because RBAC can tie it to the name on create too; POST it cannot.
    world.api.apply(&kind, &key, &body, MANAGER, Subresource::Main).await?;
    Ok(())
}
