//! A value that is made when it is first needed and then shared: the compiled schemas of built-in kinds.
//!
//! Flows in: a function (built-ins, so that starting costs nothing), or the value itself (custom resources, whose
//! schemas are compiled when they are validated). Flows out: a reference, by dereferencing.

use std::ops::Deref;
use std::sync::{Arc, LazyLock};

type Make<T> = Box<dyn FnOnce() -> Arc<T> + Send + Sync>;

/// A shared value that may not have been made yet. Clones share it.
#[derive(Clone)]
pub struct Lazy<T>(Arc<LazyLock<Arc<T>, Make<T>>>);

impl<T: Send + Sync + 'static> Lazy<T> {
    /// Will call `make` at most once, when the value is first used.
    pub fn new(make: impl FnOnce() -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(move || Arc::new(make())))))
    }

    /// The value, shared.
    pub fn shared(&self) -> Arc<T> {
        Arc::clone(LazyLock::force(&self.0))
    }
}

impl<T: Send + Sync + 'static> From<Arc<T>> for Lazy<T> {
    fn from(value: Arc<T>) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(move || value))))
    }
}

impl<T> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let made: &Arc<T> = &self.0;
        made
    }
}
