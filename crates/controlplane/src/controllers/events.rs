//! Events go an hour after their last change.
//!
//! In: an Event and the revision it had when its hour began. Out: its deletion, if it has not changed since.

use std::time::Duration;

use apimachinery::status::StatusError;
use jiff::Timestamp;
use serde_json::Value;

use super::ObjectId;
use super::access::Access;
use super::queue::Finished;
use crate::pipeline::Propagation;

const NAME: &str = "event-ttl-controller";
/// How long an Event stays.
pub const TTL: Duration = Duration::from_secs(3600);

/// How much of its hour an Event has left that was last changed at the latest of the times it names.
#[must_use]
pub fn left(event: &Value, now: Timestamp) -> Duration {
    let times = ["/metadata/creationTimestamp", "/lastTimestamp", "/eventTime", "/series/lastObservedTime"];
    let last = times
        .iter()
        .filter_map(|pointer| event.pointer(pointer)?.as_str()?.parse::<Timestamp>().ok())
        .max()
        .unwrap_or(now);
    let age = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    TTL.saturating_sub(age)
}

/// Deletes an Event that still has this revision.
///
/// # Errors
/// What the delete was refused with.
pub async fn expire(access: &Access, id: &ObjectId, revision: u64) -> Result<Finished, StatusError> {
    if let Some(stored) = access.stored(id).filter(|stored| stored.revision == revision) {
        access.delete(NAME, id, &stored.uid, Some(revision), Propagation::Background).await?;
    }
    Ok(Finished::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_hour_begins_with_the_last_change() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let event =
            json!({"metadata":{"creationTimestamp":"2026-01-01T10:00:00Z"},"lastTimestamp":"2026-01-01T11:30:00Z"});
        assert_eq!(left(&event, now), Duration::from_secs(1800));
        assert_eq!(left(&json!({"metadata":{"creationTimestamp":"2025-01-01T10:00:00Z"}}), now), Duration::ZERO);
        assert_eq!(left(&json!({}), now), TTL);
    }
}
