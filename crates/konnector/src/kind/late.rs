//! Who may say that it is late. In: that an object, or what it refers to, fails again and again. Out: whether it says so; a
//! server that fails for all is the binding's to tell.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// After so many failures in a row the object says that it is late.
pub const TELL_AFTER: u32 = 4;
/// At most so many objects of a kind say it within [`TELL_WITHIN`].
const TELL_MOST: u32 = 20;
const TELL_WITHIN: Duration = Duration::from_secs(600);

/// Since when, and how many objects have said that they are late.
#[derive(Default)]
pub struct Late(Mutex<(Option<Instant>, u32)>);

impl Late {
    /// Whether another object may say that it is late.
    pub fn may_tell(&self) -> bool {
        let mut late = self.0.lock();
        let now = Instant::now();
        if late.0.is_none_or(|since| now.duration_since(since) > TELL_WITHIN) {
            *late = (Some(now), 0);
        }
        late.1 += 1;
        late.1 <= TELL_MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_ones_say_it() {
        let late = Late::default();
        assert_eq!((0..100).filter(|_| late.may_tell()).count(), 20);
    }
}
