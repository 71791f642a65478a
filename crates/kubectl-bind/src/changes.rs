//! Writes that can be taken back. In: desired objects. Out: what is there now; on failure everything that this run
//! created goes again, in reverse order, and what was there before stays as it was.

use std::time::Duration;

use kube_client::resource::Resource;
use kube_client::store::ObjectKey;
use serde_json::Value;

use crate::cluster::{Cluster, kinds, text};
use crate::errors::CliError;

/// How long an undone object may take to go (the agent may have put its finalizer on a binding).
const UNDO_WAIT: Duration = Duration::from_secs(10);

/// What this run has created so far.
#[derive(Default)]
pub(crate) struct Changes {
    made: Vec<(Cluster, Resource, Value)>,
}

impl Changes {
    /// Makes `object` be there as desired: creates it, or changes what differs. Fields that the object does not mention
    /// are left alone. Says what is there now and whether anything was written.
    pub(crate) async fn ensure(&mut self, cluster: &Cluster, object: &Value) -> Result<(Value, bool), CliError> {
        let resource = resource(object)?;
        let key = ObjectKey::new(text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        loop {
            match cluster.get(&resource, text(object, "/metadata/namespace"), &key.name).await? {
                Some(live) if contains(&live, object) => return Ok((live, false)),
                Some(live) => {
                    let now = cluster.update(&resource, &key, object, text(&live, "/metadata/uid")).await?;
                    return Ok((now, true));
                }
                None => match cluster.create(&resource, &key, object).await {
                    Ok(now) => {
                        self.made.push((cluster.clone(), resource, now.clone()));
                        return Ok((now, true));
                    }
                    Err(error) if error.is_conflict() => tokio::time::sleep(Duration::from_millis(100)).await,
                    Err(error) => return Err(cluster.say(error)),
                },
            }
        }
    }

    /// What was made so far stays, whatever becomes of the rest.
    pub(crate) fn keep(&mut self) {
        self.made.clear();
    }

    /// Takes back what was created; says what could not be.
    pub(crate) async fn undo(self) -> Vec<String> {
        let mut left = Vec::new();
        for (cluster, resource, object) in self.made.into_iter().rev() {
            let (namespace, name) = (text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
            let deleted = cluster.delete(&resource, &object).await;
            // At the provider the contract may have ended already, and everything in it and our credential with it.
            if matches!(&deleted, Err(CliError::Unauthorized { side, .. } | CliError::Forbidden { side, .. }) if side == "provider")
            {
                continue;
            }
            if deleted.is_err() {
                left.push(format!("{resource} {name}"));
                continue;
            }
            // A namespace takes its time, and nothing of ours depends on when it is gone.
            if resource == kinds::namespaces() {
                continue;
            }
            let deadline = tokio::time::Instant::now() + UNDO_WAIT;
            while let Ok(Some(live)) = cluster.get(&resource, namespace, name).await {
                if text(&live, "/metadata/uid") != text(&object, "/metadata/uid") {
                    break;
                }
                if tokio::time::Instant::now() > deadline {
                    left.push(format!("{resource} {name} (it is being deleted)"));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        left
    }
}

/// The kind of an object, which is always one that we made.
pub(crate) fn resource(object: &Value) -> Result<Resource, CliError> {
    kinds::of(object).ok_or_else(|| CliError::Manifest {
        origin: text(object, "/metadata/name").to_owned(),
        reason: format!(
            "{} {} is not a kind that kubectl bind writes",
            text(object, "/apiVersion"),
            text(object, "/kind")
        ),
    })
}

/// Whether everything that `desired` says is so in `live`. Lists are compared item by item; what is absent counts as
/// empty.
pub(crate) fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .all(|(name, value)| live.get(name).map_or_else(|| is_empty(value), |live| contains(live, value))),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len() && live.iter().zip(desired).all(|(live, desired)| contains(live, desired))
        }
        _ => live == desired,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_does_not_count_and_what_we_want_does() {
        let live = json!({"metadata": {"name": "a", "uid": "u"}, "rules": [{"verbs": ["get", "list"]}]});
        assert!(contains(
            &live,
            &json!({"metadata": {"name": "a", "labels": {}}, "rules": [{"verbs": ["get", "list"]}]})
        ));
        assert!(!contains(&live, &json!({"rules": [{"verbs": ["get"]}]})));
        assert!(!contains(&live, &json!({"rules": []})));
        assert!(!contains(&live, &json!({"metadata": {"labels": {"a": "b"}}})));
    }
}
