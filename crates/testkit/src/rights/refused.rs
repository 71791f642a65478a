//! Why a request was refused. In: the refusal, with its time, and what the witness saw. Out: a reason. The first is good: the
//! right came or went just then. The next three may be, if a table says so: it came a little later, or had gone a little
//! before. A right that never was, or was there, or had gone long ago, is no race.

use jiff::{SignedDuration, Timestamp};

use super::witness::Rights;
use super::{Refusal, Use};

/// The witness hears of a change a little later than the API server decides by it; a real one a little later than it
/// tells of it; and whoever asks, no sooner than the witness.
const LAG: SignedDuration = SignedDuration::from_millis(1_500);
/// How long before a right comes it may be tried.
const EARLY: SignedDuration = SignedDuration::from_secs(10);
/// How long after a right went it may be tried.
const LATE: SignedDuration = SignedDuration::from_secs(10);

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The right came or went so closely that whoever asked could not know.
    Crossing,
    /// The right came a little later.
    Early,
    /// The right had gone because its namespace was going.
    Dying,
    /// The right had been taken back a little before.
    Withdrawn,
    /// The right had gone long before.
    TooLate,
    /// The right was there.
    Held,
    /// There never was such a right.
    Never,
}

impl Why {
    /// Words before what was asked for.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Crossing => "just then",
            Self::Early => "before it might",
            Self::Dying => "in a dying namespace",
            Self::Withdrawn => "when it might no longer",
            Self::TooLate => "long after it might",
            Self::Held => "though it might",
            Self::Never => "and never might",
        }
    }

    /// The reason that needs no table.
    #[must_use]
    pub fn natural(self) -> Option<&'static str> {
        (self == Self::Crossing).then_some("nobody can hear of it sooner")
    }

    /// Whether there may be a reason for it.
    #[must_use]
    pub fn excusable(self) -> bool {
        matches!(self, Self::Crossing | Self::Early | Self::Dying | Self::Withdrawn)
    }
}

impl Rights {
    /// Why it was refused, and how long before or after the right was there.
    #[must_use]
    pub fn why(&self, refusal: &Refusal) -> (Why, String) {
        let at = refusal.at;
        let gone = |ago: SignedDuration| {
            let why = match () {
                () if self.dies(&refusal.what, at) => Why::Dying,
                () if ago <= LAG => Why::Crossing,
                () if ago <= LATE => Why::Withdrawn,
                () => Why::TooLate,
            };
            (why, format!("{ago:#} after"))
        };
        let (mut before, mut next) = (None, None);
        for (from, until) in self.times(&refusal.what) {
            match until {
                _ if from > at => {
                    next = Some(from.duration_since(at));
                    break;
                }
                Some(until) if until <= at => before = Some(at.duration_since(until)),
                _ if at.duration_since(from) <= LAG => {
                    return (Why::Crossing, format!("{:#} within", at.duration_since(from)));
                }
                Some(until) if until.duration_since(at) <= LAG => return gone(at.duration_since(until)),
                _ => return (Why::Held, "while it was there".to_owned()),
            }
        }
        match (before, next) {
            (before, Some(wait)) if wait <= EARLY && before.is_none_or(|ago| wait < ago) => {
                (if wait <= LAG { Why::Crossing } else { Why::Early }, format!("{wait:#} before"))
            }
            (Some(ago), _) => gone(ago),
            (None, Some(wait)) => (Why::Never, format!("{wait:#} before")),
            (None, None) => (Why::Never, "never".to_owned()),
        }
    }

    /// From when until when somebody held what allows this, in order. A Role that changes goes on giving what it gave.
    fn times(&self, what: &Use) -> Vec<(Timestamp, Option<Timestamp>)> {
        let held = self.held.iter().filter(|held| held.grant.allows(&held.names, what));
        let mut times: Vec<_> = held.map(|held| (held.from, held.until)).collect();
        times.sort();
        let mut merged = Vec::<(Timestamp, Option<Timestamp>)>::new();
        for (from, until) in times {
            match merged.last_mut().filter(|last| last.1.is_none_or(|end| from <= end)) {
                Some(last) => last.1 = last.1.zip(until).map(|(one, other)| one.max(other)),
                None => merged.push((from, until)),
            }
        }
        merged
    }

    /// Whether the namespace was going, or had gone a moment before.
    fn dies(&self, what: &Use, at: Timestamp) -> bool {
        let going = self.going.get(&what.namespace).into_iter().flatten();
        going.into_iter().any(|(from, until)| *from <= at + LAG && until.is_none_or(|until| at <= until + LATE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const USER: &str = "system:serviceaccount:a:agent";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn why(rights: &Rights, verb: &str, namespace: &str, second: i64) -> Why {
        let what = Use {
            user: USER.to_owned(),
            verb: verb.to_owned(),
            resource: "secrets".to_owned(),
            namespace: namespace.to_owned(),
            name: "one".to_owned(),
            ..Use::default()
        };
        rights.why(&Refusal { what, at: at(second) }).0
    }

    #[test]
    fn only_what_had_just_gone_or_comes_at_once_is_a_race() {
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["one"]}]);
        let mut rights = Rights::default();
        for namespace in ["dying", "stays"] {
            rights.add(USER, "r", namespace, &rules, (at(100), Some(at(200))));
        }
        rights.add(USER, "r", "holds", &rules, (at(100), Some(at(149))));
        rights.add(USER, "r", "holds", &rules, (at(149), None));
        rights.going.insert("dying".to_owned(), vec![(at(199), Some(at(240)))]);
        let cases = [
            ("get", "stays", 80, Why::Never),
            ("get", "stays", 95, Why::Early),
            ("get", "stays", 99, Why::Crossing),
            ("get", "stays", 101, Why::Crossing),
            ("get", "stays", 150, Why::Held),
            ("get", "stays", 199, Why::Crossing),
            ("get", "stays", 201, Why::Crossing),
            ("get", "stays", 202, Why::Withdrawn),
            ("get", "stays", 205, Why::Withdrawn),
            ("get", "stays", 239, Why::TooLate),
            ("get", "dying", 199, Why::Dying),
            ("get", "dying", 239, Why::Dying),
            ("get", "dying", 260, Why::TooLate),
            ("get", "holds", 150, Why::Held),
            ("get", "elsewhere", 150, Why::Never),
            ("list", "dying", 205, Why::Never),
        ];
        for (verb, namespace, second, expected) in cases {
            assert_eq!(why(&rights, verb, namespace, second), expected, "{verb} in {namespace} at {second}");
        }
    }
}
