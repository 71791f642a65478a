//! Rendered OpenAPI documents, kept while they are in use.
//!
//! Flows in: a catalogue. Flows out: the bytes of a document and its entity tag. Documents depend on nothing but the
//! descriptors they describe, so they are kept by those: ten thousand tenants of one API share one document. Only some
//! megabytes are kept; a tenant that nobody asks about costs nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::http::{openapi_v2, openapi_v3};
use crate::registry::{Catalog, Resource};

/// How many bytes of documents are kept: those of all built-in groups in every form, and as much again.
const KEPT_BYTES: usize = 12 * 1024 * 1024;

/// A rendered document.
#[derive(Clone)]
pub(super) struct Document {
    pub(super) body: Bytes,
    pub(super) tag: String,
}

/// Encodings of OpenAPI v2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Protobuf,
}

#[derive(PartialEq, Eq)]
enum Kind {
    V2(Format),
    V3,
}

struct Entry {
    kind: Kind,
    /// The descriptors it was made from; held, so that no other descriptor can take their place in memory.
    of: Vec<Arc<Resource>>,
    document: Document,
}

/// Latest used last.
static DOCUMENTS: Mutex<VecDeque<Entry>> = Mutex::new(VecDeque::new());

fn kept(kind: Kind, of: Vec<Arc<Resource>>, render: impl FnOnce(&[Arc<Resource>]) -> Document) -> Document {
    let same = |entry: &Entry| {
        entry.kind == kind && entry.of.len() == of.len() && entry.of.iter().zip(&of).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    let found = {
        let mut documents = DOCUMENTS.lock();
        let at = documents.iter().position(same);
        at.and_then(|at| documents.remove(at)).map(|entry| {
            let document = entry.document.clone();
            documents.push_back(entry);
            document
        })
    };
    if let Some(document) = found {
        return document;
    }
    // rendered outside the lock: two clients may do it twice, but nobody waits for somebody else's document
    let document = render(&of);
    let mut documents = DOCUMENTS.lock();
    let mut bytes: usize = documents.iter().map(|entry| entry.document.body.len()).sum();
    while bytes + document.body.len() > KEPT_BYTES
        && let Some(oldest) = documents.pop_front()
    {
        bytes -= oldest.document.body.len();
    }
    documents.push_back(Entry { kind, of, document: document.clone() });
    document
}

/// The OpenAPI v2 document of everything.
pub(super) fn openapi_v2(catalog: &Catalog, format: Format) -> Document {
    let all: Vec<Arc<Resource>> = catalog.iter().cloned().collect();
    kept(Kind::V2(format), all, |resources| {
        let document = openapi_v2::document(resources);
        let body: Bytes = match format {
            Format::Json => serde_json::to_vec(&document).unwrap_or_default().into(),
            Format::Protobuf => openapi_v2::to_protobuf(&document).into(),
        };
        Document { tag: tag(&body), body }
    })
}

/// The OpenAPI v3 document of a group and version; none where it is not served.
pub(super) fn openapi_v3(catalog: &Catalog, group: &str, version: &str) -> Option<Document> {
    let resources: Vec<Arc<Resource>> = catalog.group_version(group, version).into_iter().cloned().collect();
    if resources.is_empty() {
        return None;
    }
    Some(kept(Kind::V3, resources, |resources| {
        let body = serde_json::to_vec(&openapi_v3::document(resources)).unwrap_or_default();
        Document { body: body.into(), tag: openapi_v3::hash(resources) }
    }))
}

/// Entity tag of some bytes.
pub(super) fn tag(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02X}")).collect()
}
