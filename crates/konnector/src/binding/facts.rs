//! What a binding's status says. In: what one pass has found out. Out: phase, conditions and lists, written only when
//! they differ from what is there. The computation is pure; [`write_status`] is the one that writes.

use jiff::Timestamp;
use kube_bind_api::{
    APIServiceBinding, APIServiceBindingStatus, BindingPhase, BoundResource, GroupResource, PermissionClaim, Severity,
    conditions,
    constants::{ANNOTATION_RESOURCES, condition, reason},
};
use kube_client::{Api, ApiError, Class, ObjectKey, Subresource};
use serde_json::json;

use crate::{
    reasons,
    resources::{self, MANAGER},
};

/// Why something is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// In one CamelCase word.
    pub reason: String,
    /// For people, with what mends it.
    pub message: String,
}

impl Problem {
    fn new(severity: Severity, reason: &str, message: &str) -> Self {
        Self { severity, reason: reason.to_owned(), message: message.to_owned() }
    }

    /// Does not work.
    pub fn error(reason: &str, message: &str) -> Self {
        Self::new(Severity::Error, reason, message)
    }

    /// Somebody should look.
    pub fn warning(reason: &str, message: &str) -> Self {
        Self::new(Severity::Warning, reason, message)
    }

    /// Will come by itself.
    pub fn info(reason: &str, message: &str) -> Self {
        Self::new(Severity::Info, reason, message)
    }
}

/// All that one pass has found out. A field that is a `Problem` is well when it is `None`.
#[derive(Clone, Debug)]
pub struct Facts {
    /// In one word.
    pub phase: BindingPhase,
    /// The credential.
    pub secret: Option<Problem>,
    /// The contract's caches were filled once.
    pub informers_synced: bool,
    /// Why a watch of the bound kinds fails.
    pub watch_trouble: Option<String>,
    /// Why no heartbeat could be written.
    pub heartbeat: Option<String>,
    /// Connected to the export.
    pub connected: Option<Problem>,
    /// The CRD.
    pub schema: Option<Problem>,
    /// Another cluster holds the contract.
    pub claimed_elsewhere: Option<String>,
    /// Sentences of claims without a decision.
    pub pending_claims: Vec<String>,
    /// Claims that cannot be read.
    pub invalid_claims: Vec<String>,
    /// The provider's name.
    pub pretty_name: Option<String>,
    /// Kinds.
    pub bound_schemas: Vec<GroupResource>,
    /// Kinds with schema revisions.
    pub bound_resources: Vec<BoundResource>,
    /// The export's claims.
    pub permission_claims: Vec<PermissionClaim>,
    /// Nothing was found out: what the binding says stays.
    pub silent: bool,
    previous_phase: Option<BindingPhase>,
}

impl Facts {
    /// Starts from what the binding says now, so that what a pass does not get to stays as it was.
    pub fn from_previous(binding: &APIServiceBinding) -> Self {
        let status = binding.status.clone().unwrap_or_default();
        let was = |type_: &str| conditions::is_true(&status.conditions, type_);
        Self {
            phase: status.phase.unwrap_or(BindingPhase::Pending),
            secret: None,
            informers_synced: was(condition::INFORMERS_SYNCED),
            watch_trouble: None,
            heartbeat: None,
            connected: None,
            schema: None,
            claimed_elsewhere: None,
            pending_claims: Vec::new(),
            invalid_claims: Vec::new(),
            pretty_name: status.provider_pretty_name,
            bound_schemas: status.bound_schemas,
            bound_resources: status.bound_resources,
            permission_claims: status.permission_claims,
            silent: false,
            previous_phase: status.phase,
        }
    }

    /// The pass ends here.
    pub fn stop(&mut self, phase: BindingPhase, problem: Problem) {
        self.phase = phase;
        self.connected = Some(problem);
    }

    /// Too early to say anything, unless nothing was said before.
    pub fn not_yet(&mut self, problem: Problem) {
        self.silent = self.previous_phase.is_some();
        self.stop(self.waiting_phase(), problem);
    }

    /// The phase while something is on its way: what was connected stays so.
    pub fn waiting_phase(&self) -> BindingPhase {
        match self.previous_phase {
            Some(BindingPhase::Connected) => BindingPhase::Connected,
            Some(BindingPhase::Disconnected) => BindingPhase::Disconnected,
            _ => BindingPhase::Pending,
        }
    }

    /// What a provider that does not answer, or refuses us, means.
    pub fn down(&self, class: Class, message: &str, secret: &str) -> (BindingPhase, Problem) {
        let away = match self.previous_phase {
            None | Some(BindingPhase::Pending) => BindingPhase::Pending,
            Some(BindingPhase::ClaimedElsewhere) => BindingPhase::ClaimedElsewhere,
            _ => BindingPhase::Disconnected,
        };
        match class {
            Class::Unauthorized => (
                BindingPhase::Disconnected,
                Problem::error(
                    reason::CREDENTIAL_EXPIRED,
                    &format!(
                        "the provider does not know the credential in Secret kube-bind/{secret} any more (revoked or \
                         expired): run `kubectl bind` with the provider's URL again to get a new one"
                    ),
                ),
            ),
            Class::Forbidden => (
                BindingPhase::Disconnected,
                Problem::error(
                    reasons::ACCESS_REVOKED,
                    &format!("the provider refuses this cluster's credential: {message}; ask the provider"),
                ),
            ),
            Class::NotFound => (
                BindingPhase::Disconnected,
                Problem::error(
                    reasons::CONTRACT_NOT_FOUND,
                    &format!(
                        "the provider has no contract for this credential any more ({message}): run `kubectl bind` \
                         with the provider's URL again"
                    ),
                ),
            ),
            Class::Unreachable if untrusted(message) => (
                away,
                Problem::error(
                    reasons::CERTIFICATE_NOT_TRUSTED,
                    &format!(
                        "{message}: the certificate of the provider's API server is not from the CA in Secret \
                         kube-bind/{secret}. If the provider has changed it, run `kubectl bind` with the provider's URL \
                         again to get the new CA; else somebody is in between: do not"
                    ),
                ),
            ),
            Class::Throttled | Class::Server => (
                away,
                Problem::error(
                    reason::PROVIDER_UNREACHABLE,
                    &format!(
                        "the provider's API server answers, but does not serve: {message}; tried again by itself, \
                         changes are carried over then: ask the provider if this lasts"
                    ),
                ),
            ),
            _ => (
                away,
                Problem::error(
                    reason::PROVIDER_UNREACHABLE,
                    &format!(
                        "{message}; tried again by itself, changes are carried over then: see that this cluster can reach \
                         the provider, or ask the provider"
                    ),
                ),
            ),
        }
    }

    /// The status that these facts make of the one that is there.
    pub fn status(&self, old: &APIServiceBindingStatus, now: Timestamp) -> APIServiceBindingStatus {
        let mut list = old.conditions.clone();
        let mut say = |type_: &str, problem: &Option<Problem>| {
            match problem {
                None => conditions::mark_true(&mut list, type_, now),
                Some(p) => conditions::mark_false(&mut list, type_, p.severity, &p.reason, &p.message, now),
            };
        };
        say(condition::SECRET_VALID, &self.secret);
        say(condition::CONNECTED, &self.connected);
        if self.secret.is_none() {
            if self.informers_synced {
                let trouble =
                    self.watch_trouble.as_ref().map(|message| Problem::warning(reasons::WATCH_FAILED, message));
                say(condition::INFORMERS_SYNCED, &trouble);
            }
            let late = self.heartbeat.as_ref().map(|message| Problem {
                severity: Severity::Warning,
                reason: reason::CLUSTER_BINDING_UPDATE_FAILED.to_owned(),
                message: message.clone(),
            });
            let reachable = self.connected.as_ref().is_none_or(|p| p.severity != Severity::Error);
            if late.is_some() || reachable {
                say(condition::HEARTBEATING, &late);
            }
        }
        if self.schema.is_some() || !self.bound_resources.is_empty() {
            say(condition::SCHEMA_IN_SYNC, &self.schema);
        }
        match &self.claimed_elsewhere {
            Some(message) => {
                let text = message.as_str();
                conditions::set(
                    &mut list,
                    plain(condition::CLAIMED_ELSEWHERE, "True", reason::CLAIMED_ELSEWHERE, text, now),
                );
            }
            None => {
                conditions::remove(&mut list, condition::CLAIMED_ELSEWHERE);
            }
        }
        self.claims(&mut list, now);
        // It is True when something is wrong, so it must not make the summary look well or ill.
        // A claim that waits for a word is no fault.
        let undecided =
            |c: &conditions::Condition| c.type_ == condition::CLAIMS_ACCEPTED && c.severity.as_deref() == Some("Info");
        let mut others: Vec<_> =
            list.iter().filter(|c| c.type_ != condition::CLAIMED_ELSEWHERE && !undecided(c)).cloned().collect();
        conditions::set_summary(&mut others, now);
        if let Some(ready) = conditions::get(&others, condition::READY) {
            conditions::set(&mut list, ready.clone());
        }
        APIServiceBindingStatus {
            provider_pretty_name: self.pretty_name.clone(),
            bound_schemas: self.bound_schemas.clone(),
            permission_claims: self.permission_claims.clone(),
            phase: Some(self.phase),
            bound_resources: self.bound_resources.clone(),
            conditions: list,
        }
    }

    fn claims(&self, list: &mut Vec<conditions::Condition>, now: Timestamp) {
        let type_ = condition::CLAIMS_ACCEPTED;
        if !self.invalid_claims.is_empty() {
            let text = self.invalid_claims.join("; ");
            conditions::mark_false(list, type_, Severity::Warning, reason::INVALID_PERMISSION_CLAIM, &text, now);
        } else if !self.pending_claims.is_empty() {
            let text = format!(
                "not decided: {}; accept or reject with `kubectl bind claims`, or in spec.permissionClaims",
                self.pending_claims.join("; ")
            );
            conditions::mark_false(list, type_, Severity::Info, reason::PENDING, &text, now);
        } else if !self.permission_claims.is_empty() {
            conditions::mark_true(list, type_, now);
        } else {
            conditions::remove(list, type_);
        }
    }
}

/// Whether a failed connection failed for the certificate.
fn untrusted(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("invalid peer certificate") || message.contains("unknownissuer")
}

fn plain(type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> conditions::Condition {
    conditions::Condition {
        type_: type_.into(),
        status: status.into(),
        severity: None,
        last_transition_time: conditions::to_seconds(now),
        reason: Some(reason.into()),
        message: Some(message.into()),
    }
}

/// Writes the status if it differs from the one that the binding has; and which kinds are bound, for tables.
pub async fn write_status(api: &Api, binding: &APIServiceBinding, facts: &Facts) -> Result<(), ApiError> {
    name_resources(api, binding, &facts.bound_schemas).await?;
    let old = binding.status.clone().unwrap_or_default();
    let new = facts.status(&old, Timestamp::now());
    if new == old {
        return Ok(());
    }
    let mut status = serde_json::to_value(&new).unwrap_or_default();
    // A merge patch removes only what it names.
    for field in ["providerPrettyName", "boundSchemas", "permissionClaims", "boundResources", "conditions"] {
        if status.get(field).is_none() {
            status[field] = serde_json::Value::Null;
        }
    }
    let patch = json!({"metadata": {"uid": binding.metadata.uid}, "status": status});
    let key = ObjectKey::cluster(binding.metadata.name.as_deref().unwrap_or_default());
    tracing::info!(binding = %key, phase = ?facts.phase, "status changed");
    api.merge_patch(&resources::bindings(), &key, Subresource::Status, &patch, MANAGER).await.map(|_| ())
}

/// The annotation that a printer column shows.
async fn name_resources(api: &Api, binding: &APIServiceBinding, bound: &[GroupResource]) -> Result<(), ApiError> {
    let names = bound.iter().map(GroupResource::crd_name).collect::<Vec<_>>().join(",");
    let there = binding.metadata.annotations.as_ref().and_then(|map| map.get(ANNOTATION_RESOURCES));
    if names.is_empty() || there == Some(&names) || binding.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let patch = json!({"metadata": {"uid": binding.metadata.uid, "annotations": {ANNOTATION_RESOURCES: names}}});
    let key = ObjectKey::cluster(binding.metadata.name.as_deref().unwrap_or_default());
    api.merge_patch(&resources::bindings(), &key, Subresource::Main, &patch, MANAGER).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn well() -> Facts {
        let mut facts = Facts::from_previous(&APIServiceBinding::default());
        facts.phase = BindingPhase::Connected;
        facts.informers_synced = true;
        facts.bound_resources = vec![BoundResource::default()];
        facts
    }

    #[test]
    fn what_says_the_same_is_the_same_bytes() {
        let first = well().status(&APIServiceBindingStatus::default(), at(1));
        assert_eq!(well().status(&first, at(99)), first);
        assert!(conditions::is_true(&first.conditions, condition::READY));
        assert_eq!(first.phase, Some(BindingPhase::Connected));
    }

    #[test]
    fn a_provider_that_goes_and_comes_back() {
        let first = well().status(&APIServiceBindingStatus::default(), at(1));
        let mut binding = APIServiceBinding { status: Some(first.clone()), ..APIServiceBinding::default() };
        let mut facts = Facts::from_previous(&binding);
        let (phase, problem) = facts.down(Class::Unreachable, "connection refused", "acmedb");
        facts.stop(phase, problem);
        let down = facts.status(&first, at(2));
        assert_eq!(down.phase, Some(BindingPhase::Disconnected));
        assert!(!conditions::is_true(&down.conditions, condition::READY));
        assert_eq!(down.bound_resources, first.bound_resources, "what was known stays");
        binding.status = Some(down.clone());
        let mut back = Facts::from_previous(&binding);
        back.phase = BindingPhase::Connected;
        assert!(conditions::is_true(&back.status(&down, at(3)).conditions, condition::READY));
    }

    #[test]
    fn a_revoked_credential_says_which_command_mends_it() {
        let facts = Facts::from_previous(&APIServiceBinding::default());
        let (phase, problem) = facts.down(Class::Unauthorized, "Unauthorized", "acmedb");
        assert_eq!(phase, BindingPhase::Disconnected);
        assert_eq!(problem.reason, "CredentialExpired");
        assert!(problem.message.contains("kubectl bind"));
    }

    #[test]
    fn pending_claims_are_listed_and_do_not_break_readiness() {
        let mut facts = well();
        facts.permission_claims = vec![PermissionClaim::default()];
        facts.pending_claims = vec!["Create secrets".into()];
        let status = facts.status(&APIServiceBindingStatus::default(), at(1));
        let claims = conditions::get(&status.conditions, condition::CLAIMS_ACCEPTED).unwrap();
        assert_eq!((claims.status.as_str(), claims.severity.as_deref()), ("False", Some("Info")));
        assert!(claims.message.as_deref().unwrap().contains("Create secrets"));
        assert!(conditions::is_true(&status.conditions, condition::READY));
    }
}
