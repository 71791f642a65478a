//! Bodies that came with recent events and answers, so that a write that is due at once needs no read. In: events (as
//! text, which takes a tenth of what a tree takes) and answers to our own writes. Out: the body of exactly the revision
//! that was decided on, once, without its field ownership. Bounded; whatever is not here is read from the API server.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use kube_client::{Keep, ObjectKey};
use parking_lot::Mutex;
use serde_json::Value;

/// Bodies kept at most, both sides together.
const KEPT: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Half {
    Consumer,
    Provider,
}

type Slot = (Half, ObjectKey);

#[derive(Default)]
struct Inner {
    bodies: HashMap<Slot, (String, Body)>,
    order: VecDeque<Slot>,
}

enum Body {
    Text(Bytes),
    Tree(Arc<Value>),
}

/// See the module. Both halves are keyed by the consumer's key.
#[derive(Default)]
pub struct Bodies {
    inner: Mutex<Inner>,
}

impl Bodies {
    /// The consumer's object, as it came with an event.
    pub fn put_consumer(&self, key: &ObjectKey, revision: String, body: &Bytes) {
        self.put((Half::Consumer, key.clone()), revision, Body::Text(body.clone()));
    }

    /// The consumer's object, as the API server answered it.
    pub fn put_answer(&self, key: &ObjectKey, revision: String, body: Arc<Value>) {
        self.put((Half::Consumer, key.clone()), revision, Body::Tree(body));
    }

    /// The provider's copy.
    pub fn put_provider(&self, key: &ObjectKey, revision: String, body: &Bytes) {
        self.put((Half::Provider, key.clone()), revision, Body::Text(body.clone()));
    }

    /// The consumer's object of that revision, if it is still here.
    pub fn take_consumer(&self, key: &ObjectKey, revision: &str) -> Option<Arc<Value>> {
        self.take(&(Half::Consumer, key.clone()), revision)
    }

    /// The provider's copy of that revision, if it is still here.
    pub fn take_provider(&self, key: &ObjectKey, revision: &str) -> Option<Arc<Value>> {
        self.take(&(Half::Provider, key.clone()), revision)
    }

    /// Forgets both halves.
    pub fn forget(&self, key: &ObjectKey) {
        let mut inner = self.inner.lock();
        inner.bodies.remove(&(Half::Consumer, key.clone()));
        inner.bodies.remove(&(Half::Provider, key.clone()));
    }

    fn put(&self, slot: Slot, revision: String, body: Body) {
        let mut inner = self.inner.lock();
        if inner.bodies.insert(slot.clone(), (revision, body)).is_none() {
            inner.order.push_back(slot);
        }
        while inner.bodies.len() > KEPT || inner.order.len() > 4 * KEPT {
            match inner.order.pop_front() {
                Some(oldest) => {
                    inner.bodies.remove(&oldest);
                }
                None => break,
            }
        }
    }

    fn take(&self, slot: &Slot, revision: &str) -> Option<Arc<Value>> {
        let body = {
            let mut inner = self.inner.lock();
            match inner.bodies.get(slot) {
                Some((known, _)) if known == revision => inner.bodies.remove(slot).map(|(_, body)| body),
                _ => None,
            }
        };
        match body? {
            Body::Text(text) => Keep::UNMANAGED.decode(&text).ok().map(Arc::new),
            Body::Tree(tree) => Some(tree),
        }
    }
}
