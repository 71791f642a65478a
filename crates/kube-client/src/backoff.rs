//! Exponential backoff with jitter. In: failures and a random number from the caller. Out: how long to wait.

use std::time::Duration;

/// Doubles from `base` to `cap`; each delay is drawn from its upper half so that many clients spread out.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `base`, never more than `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// The delay after one more failure; `random` is in `0.0..1.0`.
    pub fn fail(&mut self, random: f64) -> Duration {
        let delay = delay_for(self.base, self.cap, self.failures, random);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Delay after `failures` earlier failures; `random` in `0.0..1.0` picks from the upper half.
pub fn delay_for(base: Duration, cap: Duration, failures: u32, random: f64) -> Duration {
    let full = base.saturating_mul(2u32.saturating_pow(failures.min(30))).min(cap);
    full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

/// Uniform in `0.0..1.0` from the thread's generator: the only place of this crate where randomness comes in.
pub fn random() -> f64 {
    rand::random::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_cap_and_resets() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let delays: Vec<u128> = (0..6).map(|_| backoff.fail(1.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.fail(0.0).as_millis(), 50);
    }
}
