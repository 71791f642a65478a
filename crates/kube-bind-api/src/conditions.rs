//! The condition dialect of Cluster API, which every kind but `BindableResourcesRequest` uses (that one has metav1
//! conditions, see [`meta_set`]).
//!
//! Controllers hand in the list of a status and the time; the list changes only if something but the time would change,
//! so a status that says the same is the same bytes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as MetaCondition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::constants::condition::READY;

/// How bad a condition with status `False` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Does not work.
    Error,
    /// Works, but somebody should look.
    Warning,
    /// For information.
    Info,
}

impl Severity {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "Error",
            Severity::Warning => "Warning",
            Severity::Info => "Info",
        }
    }
}

/// One observation about an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Name of what is observed, in CamelCase.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// `Error`, `Warning` or `Info`; only with status `False`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// When any of the other fields last changed, to the second.
    pub last_transition_time: Time,
    /// Why, in one CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Condition {
    /// Whether the status is `True`.
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    fn same(&self, other: &Condition) -> bool {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        self.status == other.status
            && text(&self.severity) == text(&other.severity)
            && text(&self.reason) == text(&other.reason)
            && text(&self.message) == text(&other.message)
    }

    /// Errors before warnings, then information, then what is well, then what is unknown.
    fn priority(&self) -> u8 {
        match (self.status.as_str(), self.severity.as_deref()) {
            ("False", Some("Error")) => 0,
            ("False", Some("Warning")) => 1,
            ("False", _) => 2,
            ("True", _) => 3,
            _ => 4,
        }
    }
}

/// Cuts a time to whole seconds, as times are on the wire.
pub fn to_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The condition of a type.
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition is there and `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(Condition::is_true)
}

/// Puts a condition in, keeps its old time if nothing else changes, keeps the list sorted (`Ready` first, then by type).
/// Says whether anything changed.
pub fn set(conditions: &mut Vec<Condition>, condition: Condition) -> bool {
    let changed = match conditions.iter_mut().find(|old| old.type_ == condition.type_) {
        Some(old) if old.same(&condition) => false,
        Some(old) => {
            *old = condition;
            true
        }
        None => {
            conditions.push(condition);
            true
        }
    };
    if changed {
        conditions.sort_by(|a, b| (a.type_ != READY, &a.type_).cmp(&(b.type_ != READY, &b.type_)));
    }
    changed
}

/// Sets `True` without reason or message.
pub fn mark_true(conditions: &mut Vec<Condition>, type_: &str, now: Timestamp) -> bool {
    set(conditions, build(type_, "True", None, None, None, now))
}

/// Sets `False` with severity, reason and message.
pub fn mark_false(
    conditions: &mut Vec<Condition>,
    type_: &str,
    severity: Severity,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    set(conditions, build(type_, "False", Some(severity), Some(reason), Some(message), now))
}

/// Sets `Unknown` with reason and message.
pub fn mark_unknown(conditions: &mut Vec<Condition>, type_: &str, reason: &str, message: &str, now: Timestamp) -> bool {
    set(conditions, build(type_, "Unknown", None, Some(reason), Some(message), now))
}

/// Takes a condition out; says whether it was there.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != type_);
    conditions.len() != before
}

/// Computes `Ready` from all others: the worst of them decides; reason and message are those of the first among the
/// worst. Without others nothing is set.
pub fn set_summary(conditions: &mut Vec<Condition>, now: Timestamp) -> bool {
    // `min_by_key` keeps the first of equals.
    let Some(worst) = conditions.iter().filter(|c| c.type_ != READY).min_by_key(|c| c.priority()) else {
        return false;
    };
    let well = worst.status == "True";
    let summary = Condition {
        type_: READY.into(),
        status: worst.status.clone(),
        severity: worst.severity.clone(),
        last_transition_time: to_seconds(now),
        reason: if well { None } else { worst.reason.clone() },
        message: if well { None } else { worst.message.clone() },
    };
    set(conditions, summary)
}

fn build(
    type_: &str,
    status: &str,
    severity: Option<Severity>,
    reason: Option<&str>,
    message: Option<&str>,
    now: Timestamp,
) -> Condition {
    let text = |value: Option<&str>| value.filter(|text| !text.is_empty()).map(str::to_owned);
    Condition {
        type_: type_.into(),
        status: status.into(),
        severity: severity.map(|severity| severity.as_str().into()),
        last_transition_time: to_seconds(now),
        reason: text(reason),
        message: text(message),
    }
}

/// Sets a condition of the metav1 dialect: the time moves only when the status does. `reason` must not be empty there.
/// Says whether anything changed.
pub fn meta_set(
    conditions: &mut Vec<MetaCondition>,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let fresh = MetaCondition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: to_seconds(now),
    };
    match conditions.iter_mut().find(|old| old.type_ == type_) {
        Some(old) => {
            let mut fresh = fresh;
            if old.status == fresh.status {
                fresh.last_transition_time = old.last_transition_time.clone();
            }
            let changed = *old != fresh;
            *old = fresh;
            changed
        }
        None => {
            conditions.push(fresh);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_time_moves_only_with_another_field() {
        let mut conditions = Vec::new();
        assert!(mark_true(&mut conditions, "Connected", at(1)));
        assert!(!mark_true(&mut conditions, "Connected", at(2)));
        assert_eq!(conditions[0].last_transition_time, Time(at(1)));
        assert!(mark_false(&mut conditions, "Connected", Severity::Error, "Gone", "away", at(3)));
        assert!(mark_false(&mut conditions, "Connected", Severity::Error, "Gone", "far away", at(4)));
        assert_eq!(conditions[0].last_transition_time, Time(at(4)));
    }

    #[test]
    fn the_worst_decides_and_the_first_of_the_worst_explains() {
        let mut conditions = Vec::new();
        assert!(!set_summary(&mut conditions, at(1)));
        mark_true(&mut conditions, "A", at(1));
        set_summary(&mut conditions, at(1));
        assert!(is_true(&conditions, READY));
        mark_unknown(&mut conditions, "U", "Why", "who knows", at(1));
        set_summary(&mut conditions, at(1));
        assert!(is_true(&conditions, READY), "unknown ranks below true");
        mark_false(&mut conditions, "B", Severity::Info, "Info", "i", at(2));
        mark_false(&mut conditions, "C", Severity::Warning, "Warn", "w", at(2));
        mark_false(&mut conditions, "E", Severity::Error, "Second", "e", at(2));
        mark_false(&mut conditions, "D", Severity::Error, "First", "d", at(2));
        set_summary(&mut conditions, at(2));
        assert_eq!(conditions[0].type_, READY, "Ready comes first");
        assert_eq!(conditions[0].reason.as_deref(), Some("First"));
        assert_eq!(conditions[0].severity.as_deref(), Some("Error"));
        let types: Vec<_> = conditions.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "A", "B", "C", "D", "E", "U"]);
    }

    #[test]
    fn meta_conditions_keep_their_time_while_the_status_stays() {
        let mut conditions = Vec::new();
        assert!(meta_set(&mut conditions, "Ready", "False", "A", "", None, at(1)));
        assert!(meta_set(&mut conditions, "Ready", "False", "B", "", None, at(2)));
        assert_eq!(conditions[0].last_transition_time, Time(at(1)));
        assert!(meta_set(&mut conditions, "Ready", "True", "B", "", None, at(3)));
        assert_eq!(conditions[0].last_transition_time, Time(at(3)));
        assert!(!meta_set(&mut conditions, "Ready", "True", "B", "", None, at(4)));
    }
}
