//! An API server that stumbles is asked again: busy (429, 503, 504), broken for a moment (500), or gone in the middle of a
//! command. In: a request that may be repeated. Out: its answer, or the last failure when it lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube_client::backoff::{Backoff, random};
use kube_client::error::{ApiError, Class};
use tokio::time::Instant;

/// How long one request is tried.
const PATIENCE: Duration = Duration::from_secs(20);
/// And after another one was tried that long in vain: a command that takes back what it made must not take minutes.
const SPENT: Duration = Duration::from_secs(2);

/// Remembers whether the API server has ever answered: one that never did is more likely a wrong address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience {
    answered: Arc<AtomicBool>,
    /// The last request was tried in vain.
    spent: Arc<AtomicBool>,
}

/// What a request came to.
pub(crate) struct Tried<T> {
    pub(crate) result: Result<T, ApiError>,
    /// An earlier try may have done it without our knowing.
    pub(crate) unsure: bool,
}

impl Patience {
    /// Asks until there is an answer that will not be another one in a moment.
    pub(crate) async fn ask<T>(&self, attempt: impl AsyncFn() -> Result<T, ApiError>) -> Tried<T> {
        let deadline = Instant::now() + if self.spent.load(Ordering::Relaxed) { SPENT } else { PATIENCE };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
        let mut unsure = false;
        let mut told = false;
        loop {
            let result = attempt().await;
            if !matches!(&result, Err(ApiError { code: 0, .. })) {
                self.answered.store(true, Ordering::Relaxed);
            }
            let passing = result.as_ref().err().filter(|error| self.again(error));
            let Some(error) = passing else {
                self.spent.store(false, Ordering::Relaxed);
                return Tried { result, unsure };
            };
            let wait = backoff.fail(random()).max(error.retry_after.unwrap_or_default());
            if Instant::now() + wait > deadline {
                self.spent.store(true, Ordering::Relaxed);
                return Tried { result, unsure };
            }
            // 429 says that nothing was done; the others do not say.
            unsure |= error.code != 429;
            if !told && backoff.failures() > 3 {
                eprintln!("The {} cluster does not serve at the moment ({}); trying again.", error.side, error.message);
                told = true;
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn again(&self, error: &ApiError) -> bool {
        match error.class {
            Class::Throttled | Class::Server => true,
            Class::Unreachable => self.answered.load(Ordering::Relaxed) && !error.is_untrusted(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use kube_client::error::classify;

    use super::*;

    fn failure(code: u16, retry_after: Option<u64>) -> ApiError {
        ApiError {
            side: "consumer".into(),
            verb: "get",
            target: "x".into(),
            class: if code == 0 { Class::Unreachable } else { classify(code, "") },
            code,
            reason: String::new(),
            message: "no".into(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    async fn play(patience: &Patience, script: &[Option<ApiError>]) -> (Tried<usize>, u32) {
        let asked = AtomicU32::new(0);
        let tried = patience
            .ask(async || {
                let at = asked.fetch_add(1, Ordering::Relaxed) as usize;
                script[at.min(script.len() - 1)].clone().map_or(Ok(at), Err)
            })
            .await;
        (tried, asked.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_waited_for_as_long_as_the_server_asks() {
        let start = Instant::now();
        let (tried, asked) = play(&Patience::default(), &[Some(failure(429, Some(5))), None]).await;
        assert_eq!((tried.result.unwrap(), asked, tried.unsure), (1, 2, false));
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        let (tried, _) = play(&Patience::default(), &[Some(failure(504, None)), None]).await;
        assert!(tried.result.is_ok() && tried.unsure, "it may have been done the first time");
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_an_error_in_time() {
        let start = Instant::now();
        let (tried, asked) = play(&Patience::default(), &[Some(failure(500, None))]).await;
        assert_eq!(tried.result.unwrap_err().code, 500);
        assert!(start.elapsed() <= PATIENCE && asked < 20, "{:?} {asked}", start.elapsed());
        let patience = Patience::default();
        let _ = play(&patience, &[Some(failure(500, None))]).await;
        let start = Instant::now();
        let _ = play(&patience, &[Some(failure(500, None))]).await;
        assert!(start.elapsed() <= SPENT, "{:?}", start.elapsed());
        let (_, asked) = play(&Patience::default(), &[Some(failure(429, Some(3600)))]).await;
        assert_eq!(asked, 1, "an hour is not waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final_and_a_wrong_address_too() {
        for code in [0, 401, 403, 404, 409, 422] {
            let (_, asked) = play(&Patience::default(), &[Some(failure(code, None))]).await;
            assert_eq!(asked, 1, "{code}");
        }
        let patience = Patience::default();
        let _ = play(&patience, &[None]).await;
        let (tried, _) = play(&patience, &[Some(failure(0, None)), None]).await;
        assert!(tried.result.is_ok(), "it was there a moment ago");
    }
}
