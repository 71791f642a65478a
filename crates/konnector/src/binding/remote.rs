//! What the provider is told about a binding. In: consent, what one pass has found, the consumer's CRDs. Out: the status of
//! the export (claims with the consumer's decision, conditions) and of each BoundSchema (what became of the CRD here).
//! Written only when it differs.

use contract::Consent;
use jiff::Timestamp;
use kube_bind_api::{
    APIServiceExportStatus, BoundSchemaStatus, Severity,
    conditions::{self, Condition},
    constants::{condition, reason},
};
use kube_client::{ApiError, ObjectKey, Subresource};
use serde_json::{Value, json};

use super::{Facts, Problem, Provider};
use crate::resources::{self, MANAGER};

/// Why the export is not there: the request may say so.
pub async fn missing_export(provider: &Provider, name: &str) -> Problem {
    let key = ObjectKey::new(&provider.contract_namespace, name);
    let request = provider.api.get_opt(&resources::requests(), &key).await.ok().flatten();
    match request {
        Some(request) if request["status"]["phase"] == "Failed" => Problem::error(
            reason::EXPORT_FAILED,
            &format!(
                "the provider has refused the request {name}: {}",
                request["status"]["terminalMessage"].as_str().unwrap_or("no reason given")
            ),
        ),
        Some(_) => Problem::info(
            reason::EXPORT_NOT_FOUND,
            &format!("the provider has not answered the APIServiceExportRequest {name} yet"),
        ),
        None => Problem::error(
            reason::EXPORT_NOT_FOUND,
            &format!(
                "the provider has no APIServiceExport {name} (withdrawn, or never made): bind it again with \
                 `kubectl bind`, or unbind"
            ),
        ),
    }
}

/// Tells the provider. `crds` are the consumer's CRDs by name.
pub async fn report(
    provider: &Provider,
    name: &str,
    export: &Value,
    consent: &Consent,
    facts: &Facts,
    crds: &[(String, Value)],
) -> Result<(), ApiError> {
    report_export(provider, name, export, consent, facts).await?;
    for (schema, crd) in crds {
        report_schema(provider, schema, crd).await?;
    }
    Ok(())
}

async fn report_export(
    provider: &Provider,
    name: &str,
    export: &Value,
    consent: &Consent,
    facts: &Facts,
) -> Result<(), ApiError> {
    let now = Timestamp::now();
    let old: APIServiceExportStatus = serde_json::from_value(export["status"].clone()).unwrap_or_default();
    let conditions = conditions_of(&old.conditions, facts, now);
    let new = APIServiceExportStatus { permission_claims: consent.report(), conditions };
    if new == old {
        return Ok(());
    }
    let patch = json!({
        // The backend writes conditions into the same list.
        "metadata": {"uid": export["metadata"]["uid"], "resourceVersion": export["metadata"]["resourceVersion"]},
        "status": {"permissionClaims": new.permission_claims, "conditions": new.conditions},
    });
    let key = ObjectKey::new(&provider.contract_namespace, name);
    provider.api.merge_patch(&resources::exports(), &key, Subresource::Status, &patch, MANAGER).await.map(|_| ())
}

/// An export's conditions with what one pass has found out. Before that is anything, after a restart, what was said stays.
fn conditions_of(old: &[Condition], facts: &Facts, now: Timestamp) -> Vec<Condition> {
    let mut list = old.to_vec();
    if !facts.silent {
        mark(&mut list, condition::CONNECTED, facts.connected.as_ref(), now);
    }
    mark(&mut list, condition::CONSUMER_IN_SYNC, facts.schema.as_ref(), now);
    list
}

async fn report_schema(provider: &Provider, name: &str, crd: &Value) -> Result<(), ApiError> {
    let Some(schema) = provider.cached(&provider.schemas, name) else { return Ok(()) };
    let now = Timestamp::now();
    let old: BoundSchemaStatus = serde_json::from_value(schema["status"].clone()).unwrap_or_default();
    let mut list = old.conditions.clone();
    for condition in crd["status"]["conditions"].as_array().into_iter().flatten() {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        match text("status") {
            "True" => conditions::mark_true(&mut list, text("type"), now),
            "False" => {
                conditions::mark_false(&mut list, text("type"), Severity::Error, text("reason"), text("message"), now)
            }
            _ => conditions::mark_unknown(&mut list, text("type"), text("reason"), text("message"), now),
        };
    }
    conditions::set_summary(&mut list, now);
    let new = BoundSchemaStatus {
        accepted_names: serde_json::from_value(crd["status"]["acceptedNames"].clone()).ok(),
        stored_versions: serde_json::from_value(crd["status"]["storedVersions"].clone()).unwrap_or_default(),
        instantiations: old.instantiations,
        conditions: list,
    };
    if new == old {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": schema["metadata"]["uid"]}, "status": new});
    let key = ObjectKey::new(&provider.contract_namespace, name);
    provider.api.merge_patch(&resources::bound_schemas(), &key, Subresource::Status, &patch, MANAGER).await.map(|_| ())
}

fn mark(list: &mut Vec<Condition>, type_: &str, problem: Option<&Problem>, now: Timestamp) {
    match problem {
        None => conditions::mark_true(list, type_, now),
        Some(p) => conditions::mark_false(list, type_, p.severity, &p.reason, &p.message, now),
    };
}

#[cfg(test)]
mod tests {
    use kube_bind_api::{APIServiceBinding, APIServiceBindingStatus, BindingPhase};

    use super::*;

    #[test]
    fn an_agent_that_starts_again_says_nothing_until_it_knows() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let connecting = || Problem::info("Connecting", "reading the objects of the bound kind");
        // The first time the provider is told that it has begun.
        let mut first = Facts::from_previous(&APIServiceBinding::default());
        first.not_yet(connecting());
        let begun = conditions_of(&[], &first, at(1));
        assert!(conditions::get(&begun, condition::CONNECTED).is_some_and(|c| c.status == "False"));
        first.silent = false;
        first.connected = None;
        let well = conditions_of(&begun, &first, at(2));
        assert!(conditions::is_true(&well, condition::CONNECTED));
        // A restart.
        let status = APIServiceBindingStatus { phase: Some(BindingPhase::Connected), ..Default::default() };
        let binding = APIServiceBinding { status: Some(status), ..APIServiceBinding::default() };
        let mut again = Facts::from_previous(&binding);
        again.not_yet(connecting());
        assert_eq!(conditions_of(&well, &again, at(3)), well);
        let mut ill = Facts::from_previous(&binding);
        ill.stop(BindingPhase::Failed, Problem::error("X", "ill"));
        let told = conditions_of(&well, &ill, at(4));
        assert!(conditions::get(&told, condition::CONNECTED).is_some_and(|c| c.reason.as_deref() == Some("X")));
    }
}
