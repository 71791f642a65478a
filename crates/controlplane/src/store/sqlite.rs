//! The default log: one SQLite file, write-ahead logging, `synchronous=FULL`.
//!
//! Each batch is one transaction that also moves the revision, so revisions never restart and never come twice. Only the
//! latest state of a key is kept; a deletion removes the row, and the file's free pages are reused.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::log::{Loaded, Log, LogError, Record};
use super::object::{ObjectKey, TableId};

/// A log in an SQLite file.
pub struct SqliteLog {
    connection: Connection,
}

impl SqliteLog {
    /// Opens or makes the file. The caller holds the lock of the folder it lies in.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 1000)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS object (
               grp TEXT NOT NULL, resource TEXT NOT NULL, cluster TEXT NOT NULL, namespace TEXT NOT NULL,
               name TEXT NOT NULL, revision INTEGER NOT NULL, value BLOB NOT NULL,
               PRIMARY KEY (grp, resource, cluster, namespace, name)) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
             INSERT OR IGNORE INTO meta VALUES ('revision', 1);",
        )?;
        Ok(Self { connection })
    }
}

fn to_sql(revision: u64) -> Result<i64, LogError> {
    i64::try_from(revision).map_err(|_| LogError::Damaged(format!("revision {revision} is out of range")))
}

fn from_sql(revision: i64) -> Result<u64, LogError> {
    u64::try_from(revision).map_err(|_| LogError::Damaged(format!("revision {revision} is negative")))
}

impl Log for SqliteLog {
    fn load(&mut self) -> Result<Loaded, LogError> {
        let revision: i64 =
            self.connection.query_row("SELECT value FROM meta WHERE name = 'revision'", [], |row| row.get(0))?;
        let mut statement =
            self.connection.prepare("SELECT grp, resource, cluster, namespace, name, revision, value FROM object")?;
        let mut rows = statement.query([])?;
        let mut records: Vec<Record> = Vec::new();
        while let Some(row) = rows.next()? {
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            let table = match records.last() {
                Some(last) if &*last.table.group == text(0)? && &*last.table.resource == text(1)? => last.table.clone(),
                _ => TableId::new(text(0)?, text(1)?),
            };
            let shared = |earlier: Option<&Arc<str>>, new: &str| match earlier {
                Some(earlier) if &**earlier == new => earlier.clone(),
                _ => Arc::from(new),
            };
            let key = ObjectKey {
                cluster: shared(records.last().map(|r| &r.key.cluster), text(2)?),
                namespace: shared(records.last().map(|r| &r.key.namespace), text(3)?),
                name: text(4)?.into(),
            };
            let value: Vec<u8> = row.get(6)?;
            records.push(Record { table, key, revision: from_sql(row.get(5)?)?, value: Some(value.into()) });
        }
        Ok(Loaded { revision: from_sql(revision)?, records })
    }

    fn append(&mut self, batch: &[Record], revision: u64) -> Result<(), LogError> {
        let transaction = self.connection.transaction()?;
        {
            let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?, ?)")?;
            let mut remove = transaction.prepare_cached(
                "DELETE FROM object WHERE grp = ? AND resource = ? AND cluster = ? AND namespace = ? AND name = ?",
            )?;
            for record in batch {
                let (table, key) = (&record.table, &record.key);
                match &record.value {
                    Some(value) => put.execute(params![
                        &*table.group,
                        &*table.resource,
                        &*key.cluster,
                        &*key.namespace,
                        &*key.name,
                        to_sql(record.revision)?,
                        value.as_ref()
                    ])?,
                    None => remove.execute(params![
                        &*table.group,
                        &*table.resource,
                        &*key.cluster,
                        &*key.namespace,
                        &*key.name
                    ])?,
                };
            }
            let mut mark = transaction.prepare_cached("UPDATE meta SET value = ? WHERE name = 'revision'")?;
            mark.execute([to_sql(revision)?])?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn compact(&mut self) -> Result<(), LogError> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let record = |name: &str, revision, value: Option<&str>| Record {
            table: TableId::new("", "configmaps"),
            key: ObjectKey::new("c", "default", name),
            revision,
            value: value.map(|v| v.to_owned().into()),
        };
        {
            let mut log = SqliteLog::open(&path).unwrap();
            let start = log.load().unwrap();
            assert!(start.records.is_empty());
            log.append(&[record("a", 2, Some("1")), record("b", 3, Some("2"))], 3).unwrap();
            log.append(&[record("a", 4, None)], 4).unwrap();
        }
        let loaded = SqliteLog::open(&path).unwrap().load().unwrap();
        assert_eq!(loaded.revision, 4);
        assert_eq!(loaded.records, [record("b", 3, Some("2"))]);
    }
}
