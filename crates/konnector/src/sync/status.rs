//! Status on its way down. In: the provider's status and both generations. Out: the status for the consumer, where every
//! `observedGeneration` speaks of the *consumer's* generation, so that `kubectl wait`, Argo CD and Flux read it
//! correctly. Everything else travels as it is: a map where others expect a list is fine, and so is no status at all.

use serde_json::{Value, json};

use super::digest::Digest;

/// A status without its generations: the digest of the rest, and the generations in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusKey {
    /// Digest of the status with every `observedGeneration` blanked; `None` when there is no status.
    pub digest: Option<Digest>,
    /// The blanked generations, in the order of the walk.
    pub generations: Box<[i64]>,
}

impl StatusKey {
    /// Key of an object's status.
    pub fn of(object: &Value) -> Self {
        match object.get("status") {
            None | Some(Value::Null) => Self { digest: None, generations: Box::new([]) },
            Some(status) => {
                let mut blank = status.clone();
                let mut generations = Vec::new();
                visit(&mut blank, &mut |generation| {
                    generations.push(generation.as_i64().unwrap_or(0));
                    *generation = Value::Null;
                });
                Self { digest: Some(Digest::of(&blank)), generations: generations.into() }
            }
        }
    }

    /// The key that the translated status will have.
    pub fn translated(&self, rule: &Generations) -> Self {
        Self { digest: self.digest, generations: self.generations.iter().map(|g| rule.translate(*g)).collect() }
    }
}

/// How generations of the provider's copy translate to the consumer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generations {
    /// Generation of the consumer's object.
    pub consumer: i64,
    /// Generation of the provider's copy.
    pub provider: i64,
    /// Generation of the copy right after our last write, and the consumer's that it carried, if we know.
    pub written: Option<(i64, i64)>,
    /// The copy has what the consumer's object wants now.
    pub in_sync: bool,
}

impl Generations {
    /// The consumer's generation that a controller has observed which reports `observed`.
    ///
    /// Never more than what was really carried over: while something is on its way up, the answer stays below the
    /// consumer's generation.
    pub fn translate(&self, observed: i64) -> i64 {
        if observed <= 0 {
            return observed;
        }
        let reached = match self.written {
            Some((provider, _)) => observed >= provider,
            None => observed >= self.provider,
        };
        match (self.in_sync && reached, self.written) {
            (true, _) => self.consumer,
            // What was carried by the last write has been seen, though the consumer wants something newer by now.
            (false, Some((provider, carried))) if observed >= provider => carried.min(self.consumer - 1).max(0),
            _ => (self.consumer - 1).max(0),
        }
    }
}

/// The provider's status as the consumer shall see it; `None` when there is none.
pub fn translate(provider: &Value, rule: &Generations) -> Option<Value> {
    let mut status = provider.get("status").filter(|s| !s.is_null())?.clone();
    visit(&mut status, &mut |generation| *generation = json!(rule.translate(generation.as_i64().unwrap_or(0))));
    Some(status)
}

/// Visits `observedGeneration` of the status and of each of its conditions (list or map).
fn visit(status: &mut Value, f: &mut impl FnMut(&mut Value)) {
    let mut one = |holder: &mut Value| {
        if let Some(generation) = holder.get_mut("observedGeneration").filter(|g| g.is_i64() || g.is_u64()) {
            f(generation);
        }
    };
    if !status.is_object() {
        return;
    }
    one(status);
    match status.get_mut("conditions") {
        Some(Value::Array(conditions)) => conditions.iter_mut().for_each(one),
        Some(Value::Object(conditions)) => conditions.values_mut().for_each(one),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(written: Option<(i64, i64)>, in_sync: bool) -> Generations {
        Generations { consumer: 5, provider: 9, written, in_sync }
    }

    #[test]
    fn observed_is_told_in_the_consumers_generations() {
        assert_eq!(rule(None, true).translate(9), 5, "all seen");
        assert_eq!(rule(None, true).translate(8), 4, "not yet");
        assert_eq!(rule(Some((7, 5)), true).translate(7), 5, "the provider's own writes since do not matter");
        assert_eq!(rule(Some((7, 4)), false).translate(7), 4, "the newer one is still on its way up");
        assert_eq!(rule(None, false).translate(9), 4);
        assert_eq!(rule(None, true).translate(0), 0);
    }

    #[test]
    fn everything_else_travels_as_it_is() {
        let provider = json!({"status": {"observedGeneration": 9, "code": [1, {"a": null}],
            "conditions": {"Ordered": {"status": "True", "observedGeneration": 9}}}});
        let status = translate(&provider, &rule(None, true)).unwrap();
        assert_eq!(
            status,
            json!({"observedGeneration": 5, "code": [1, {"a": null}],
                "conditions": {"Ordered": {"status": "True", "observedGeneration": 5}}})
        );
        let key = StatusKey::of(&provider);
        assert_eq!(key.translated(&rule(None, true)), StatusKey::of(&json!({"status": status})));
        assert!(translate(&json!({"spec": 1}), &rule(None, true)).is_none());
    }

    #[test]
    fn a_scalar_status_is_a_status() {
        let key = StatusKey::of(&json!({"status": "fine"}));
        assert!(key.digest.is_some());
    }
}
