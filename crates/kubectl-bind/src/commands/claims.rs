//! `kubectl bind claims list|accept|reject`: the consumer's decisions after the bind (scenario S6).

use kube_bind_api::{ClaimState, GroupResource, StatedClaim};
use kube_client::api::ListQuery;
use serde_json::{Value, json};

use crate::agent;
use crate::args::{ClaimsAction, ClaimsArgs, Common};
use crate::changes::Changes;
use crate::cluster::{Cluster, kinds, text};
use crate::commands::status;
use crate::consent::sentences;
use crate::errors::CliError;
use crate::print;
use crate::rights;

pub(crate) async fn run(action: ClaimsAction, common: &Common) -> Result<(), CliError> {
    let consumer = Cluster::consumer(common).await?;
    match action {
        ClaimsAction::List { binding } => {
            let binding = read(&consumer, &binding).await?;
            let claims = status::claims(&binding);
            if claims.is_empty() {
                eprintln!("The provider claims nothing.");
            }
            print::line(&sentences(&claims, true))
        }
        ClaimsAction::Accept(args) => decide(&consumer, &args, ClaimState::Accepted).await,
        ClaimsAction::Reject(args) => decide(&consumer, &args, ClaimState::Rejected).await,
    }
}

async fn decide(consumer: &Cluster, args: &ClaimsArgs, state: ClaimState) -> Result<(), CliError> {
    let binding = read(consumer, &args.binding).await?;
    let mut claims = status::claims(&binding);
    let count = claims.len();
    for number in &args.numbers {
        if *number == 0 || *number > count {
            return Err(CliError::NoClaim { binding: args.binding.clone(), number: *number, count });
        }
    }
    for (at, stated) in claims.iter_mut().enumerate() {
        if args.numbers.is_empty() || args.numbers.contains(&(at + 1)) {
            stated.state = Some(state);
        }
    }
    // Another writer's decision must not get lost: only this state of the binding is changed.
    let patch = json!({
        "metadata": {"resourceVersion": binding.pointer("/metadata/resourceVersion")},
        "spec": {"permissionClaims": claims},
    });
    let rights_first = state == ClaimState::Accepted;
    let mut decided = binding.clone();
    decided["spec"]["permissionClaims"] = json!(claims);
    let mut changes = Changes::default();
    if rights_first {
        grant(&mut changes, consumer, &decided).await?;
    }
    consumer.merge_patch(&kinds::bindings(), "", &args.binding, &patch).await?;
    // The agent keeps the rights of a rejected claim: it still has to take the copies away.
    eprint!("{}", sentences(&claims, true));
    Ok(())
}

async fn grant(changes: &mut Changes, consumer: &Cluster, binding: &Value) -> Result<(), CliError> {
    let bound = binding.pointer("/status/boundSchemas").cloned().unwrap_or_default();
    let bound: Vec<GroupResource> = serde_json::from_value(bound).unwrap_or_default();
    if bound.is_empty() {
        // Nothing is bound yet, so nothing can cross; the agent's rights were made with the binding.
        return Ok(());
    }
    let claims = binding.pointer("/spec/permissionClaims").cloned().unwrap_or_default();
    let claims: Vec<StatedClaim> = serde_json::from_value(claims).unwrap_or_default();
    let name = text(binding, "/metadata/name");
    agent::keep_where_used(changes, consumer, name, &bound, &claims).await?;
    for object in rights::of_binding(name, &bound, &claims) {
        changes.ensure(consumer, &object).await?;
    }
    Ok(())
}

async fn read(consumer: &Cluster, name: &str) -> Result<Value, CliError> {
    if let Some(binding) = consumer.get(&kinds::bindings(), "", name).await? {
        return Ok(binding);
    }
    let others = status::others(&consumer.list(&kinds::bindings(), &ListQuery::default()).await?);
    Err(CliError::NoBinding { name: name.to_owned(), others })
}
