//! `kubectl bind status`: bindings, their claims and the agent, with the reasons for what is not well.

use jiff::Timestamp;
use kube_bind_api::{ClaimState, StatedClaim};
use kube_client::api::ListQuery;
use serde_json::Value;

use crate::agent;
use crate::args::Common;
use crate::binder::{condition, ready_message, url_of};
use crate::cluster::{Cluster, kinds, text};
use crate::errors::CliError;
use crate::print::{self, age};
use crate::rights;

pub(crate) async fn run(name: Option<&str>, common: &Common) -> Result<(), CliError> {
    let consumer = Cluster::consumer(common).await?;
    let heartbeat = agent::heartbeat(&consumer).await?;
    // After the answer: an agent that reports meanwhile is not ahead of us.
    let now = Timestamp::now();
    match heartbeat {
        Some(lease) if lease.fresh => {
            eprintln!("Agent: {}, last heard of {} ago", lease.holder, age(&lease.renewed, now))
        }
        Some(lease) => eprintln!(
            "Agent: none answers (the last one was heard of {} ago). Nothing is synced until one runs",
            age(&lease.renewed, now)
        ),
        None => eprintln!("Agent: none"),
    }
    let mut bindings = consumer.list(&kinds::bindings(), &ListQuery::default()).await?;
    if let Some(name) = name {
        let others = others(&bindings);
        bindings.retain(|binding| text(binding, "/metadata/name") == name);
        if bindings.is_empty() {
            return Err(CliError::NoBinding { name: name.to_owned(), others });
        }
    }
    if bindings.is_empty() {
        eprintln!("No bindings.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = bindings
        .iter()
        .map(|binding| {
            let claims = claims(binding);
            let count = |state| claims.iter().filter(|stated| stated.state() == state).count();
            vec![
                text(binding, "/metadata/name").to_owned(),
                url_of(binding),
                text(binding, "/status/phase").to_owned(),
                format!("{}/{}", count(ClaimState::Accepted), claims.len()),
                age(text(binding, "/metadata/creationTimestamp"), now),
            ]
        })
        .collect();
    print::line(&print::table(&["NAME", "EXPORT", "PHASE", "CLAIMS", "AGE"], &rows))?;
    for binding in &bindings {
        let name = text(binding, "/metadata/name");
        if condition(binding, "Ready", "status") != "True" {
            eprintln!("{name}: {}", ready_message(binding));
        }
        let waiting = claims(binding).iter().filter(|stated| stated.state() == ClaimState::Pending).count();
        if waiting > 0 {
            eprintln!("{name}: {waiting} permission claims wait for a decision: kubectl bind claims list {name}");
        }
    }
    Ok(())
}

/// The provider's claims with the consumer's decisions.
pub(crate) fn claims(binding: &Value) -> Vec<StatedClaim> {
    let read = |pointer: &str| -> Vec<StatedClaim> {
        binding.pointer(pointer).and_then(|claims| serde_json::from_value(claims.clone()).ok()).unwrap_or_default()
    };
    let asked = read("/status/permissionClaims");
    let decided = read("/spec/permissionClaims");
    if asked.is_empty() { decided } else { rights::with_decisions(asked, &decided) }
}

/// `; there are a and b`, for messages.
pub(crate) fn others(bindings: &[Value]) -> String {
    let names: Vec<&str> = bindings.iter().map(|binding| text(binding, "/metadata/name")).collect();
    if names.is_empty() { String::new() } else { format!("; there are: {}", names.join(", ")) }
}
