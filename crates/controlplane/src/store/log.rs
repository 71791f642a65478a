//! The durable side of the store: a log that keeps the latest state of every key and the revision.
//!
//! Flows in: batches of [`Record`]s with their revisions, in order, from the committer thread only. Flows out: nothing
//! while running; everything at start. Implemented by [`super::memory::MemoryLog`] and [`super::sqlite::SqliteLog`].

use bytes::Bytes;

use super::object::{ObjectKey, TableId};

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which table.
    pub table: TableId,
    /// Which object.
    pub key: ObjectKey,
    /// The revision of the change.
    pub revision: u64,
    /// The object, or `None` where it was deleted.
    pub value: Option<Bytes>,
}

/// What a log held when it was opened.
#[derive(Default)]
pub struct Loaded {
    /// The highest revision ever given out.
    pub revision: u64,
    /// The live objects (no deletions).
    pub records: Vec<Record>,
}

/// Why a log did not take a batch, or could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database refused.
    #[error("the store's database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file system refused.
    #[error("the store's file failed: {0}")]
    Io(#[from] std::io::Error),
    /// What was read is not what was written.
    #[error("the store's data is damaged: {0}")]
    Damaged(String),
}

/// A durable log. After `append` returns, the batch survives a crash; if it fails, nothing of the batch remains.
pub trait Log: Send {
    /// Everything that is live, and the revision. Called once, first.
    fn load(&mut self) -> Result<Loaded, LogError>;
    /// Makes a batch durable, together with `revision` (which may be higher than any record's).
    fn append(&mut self, batch: &[Record], revision: u64) -> Result<(), LogError>;
    /// Gives back space that is no longer needed.
    fn compact(&mut self) -> Result<(), LogError> {
        Ok(())
    }
}
