//! One database: a key-value server on loopback, opened by a token, kept in one append-only file.
//!
//! `PUT /v1/<key>` stores the body, `GET` reads it back, `DELETE` removes it; each wants `Authorization: Bearer
//! <token>`. The file grows in extents of 64 KiB, as databases do, so its size on disk is what customers see as SIZE.
//! Called by the controller, one [`Database`] for each `MongoDB` object.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The file grows by this many bytes at a time.
pub const EXTENT: u64 = 64 * 1024;
/// The largest value, in bytes.
const MAX_VALUE: usize = 4 * 1024 * 1024;

/// A running database. It serves until it is dropped.
pub struct Database {
    address: SocketAddr,
    file: PathBuf,
    stop: CancellationToken,
}

impl Database {
    /// Opens (or makes) the database in `folder` and serves it to whoever has `token`. It listens on the port of last
    /// time if that is free.
    pub async fn open(folder: &Path, token: &str) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("data.log");
        let store = Arc::new(Mutex::new(Store::open(&file)?));
        let port_file = folder.join("port");
        let last: u16 = std::fs::read_to_string(&port_file).ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0);
        let listener = match tokio::net::TcpListener::bind(("127.0.0.1", last)).await {
            Ok(listener) => listener,
            Err(_) => tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?,
        };
        let address = listener.local_addr()?;
        std::fs::write(port_file, address.port().to_string())?;

        let expected: Arc<str> = format!("Bearer {token}").into();
        let app = Router::new()
            .route("/v1/{key}", get(read).put(write).delete(remove))
            .layer(DefaultBodyLimit::max(MAX_VALUE))
            .layer(middleware::from_fn_with_state(expected, authenticate))
            .with_state(store);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            // Dropping the server closes its connections too: a torn-down database answers nobody.
            tokio::select! {
                () = stopped.cancelled() => {}
                result = axum::serve(listener, app) => if let Err(error) = result {
                    tracing::warn!(%error, "a database stopped serving");
                },
            }
        });
        Ok(Self { address, file, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes on disk.
    pub fn size(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.file)?.len())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type SharedStore = Arc<Mutex<Store>>;

async fn authenticate(State(expected): State<Arc<str>>, request: Request, next: Next) -> Result<Response, StatusCode> {
    let given = request.headers().get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let differing = given.iter().zip(expected.as_bytes()).fold(0, |seen, (a, b)| seen | (a ^ b));
    if given.len() == expected.len() && differing == 0 {
        Ok(next.run(request).await)
    } else {
        Err(StatusCode::UNAUTHORIZED)
    }
}

async fn read(State(store): State<SharedStore>, UrlPath(key): UrlPath<String>) -> Result<Bytes, StatusCode> {
    store.lock().values.get(&key).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn write(State(store): State<SharedStore>, UrlPath(key): UrlPath<String>, value: Bytes) -> StatusCode {
    answer(store.lock().append(&key, Some(value)))
}

async fn remove(State(store): State<SharedStore>, UrlPath(key): UrlPath<String>) -> StatusCode {
    answer(store.lock().append(&key, None))
}

fn answer(result: io::Result<()>) -> StatusCode {
    match result {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(error) => {
            tracing::warn!(%error, "a database cannot write");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The values in memory and the log they are rebuilt from. A record is key length (u32, never 0), value length (u32,
/// `u32::MAX` for a removal), key, value, all numbers little endian; a key length of 0 is the end.
struct Store {
    values: BTreeMap<String, Bytes>,
    file: File,
    end: u64,
}

impl Store {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            file.set_len(EXTENT)?;
        }
        let mut values = BTreeMap::new();
        let mut rest = bytes.as_slice();
        while let Some((key, value, after)) = record(rest) {
            match value {
                Some(value) => values.insert(key, Bytes::copy_from_slice(value)),
                None => values.remove(&key),
            };
            rest = after;
        }
        let end = (bytes.len() - rest.len()) as u64;
        Ok(Self { values, file, end })
    }

    fn append(&mut self, key: &str, value: Option<Bytes>) -> io::Result<()> {
        let length = value.as_ref().map_or(u32::MAX, |value| value.len() as u32);
        let mut record = Vec::with_capacity(8 + key.len() + value.as_ref().map_or(0, Bytes::len));
        record.extend_from_slice(&(key.len() as u32).to_le_bytes());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(key.as_bytes());
        record.extend_from_slice(value.as_deref().unwrap_or_default());
        let end = self.end + record.len() as u64;
        // Room for the end marker too.
        self.file.set_len((end + 4).div_ceil(EXTENT) * EXTENT)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&record)?;
        self.file.sync_data()?;
        self.end = end;
        match value {
            Some(value) => self.values.insert(key.to_owned(), value),
            None => self.values.remove(key),
        };
        Ok(())
    }
}

/// Key, value (`None`: removed) and what follows.
type Record<'a> = (String, Option<&'a [u8]>, &'a [u8]);

/// The first record of `bytes` and what follows it; `None` at the end or at a record that was cut off by a crash.
fn record(bytes: &[u8]) -> Option<Record<'_>> {
    let (key_length, rest) = bytes.split_first_chunk::<4>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let key_length = u32::from_le_bytes(*key_length) as usize;
    if key_length == 0 {
        return None;
    }
    let (key, rest) = rest.split_at_checked(key_length)?;
    let key = String::from_utf8(key.to_vec()).ok()?;
    match u32::from_le_bytes(*value_length) {
        u32::MAX => Some((key, None, rest)),
        length => rest.split_at_checked(length as usize).map(|(value, rest)| (key, Some(value), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn serves_whoever_has_the_token_and_keeps_what_was_written() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path(), "secret").await.unwrap();
        assert_eq!(database.size().unwrap(), EXTENT);
        let port = database.address().port();
        let url = format!("http://127.0.0.1:{port}/v1/greeting");
        let client = reqwest::Client::new();
        let refused = client.put(&url).bearer_auth("guess!").body("x").send().await.unwrap();
        assert_eq!(refused.status(), 401);
        assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
        let value = "hello ".repeat(20_000);
        let stored = client.put(&url).bearer_auth("secret").body(value.clone()).send().await.unwrap();
        assert_eq!(stored.status(), 204);
        assert_eq!(database.size().unwrap(), 2 * EXTENT);
        drop(database);

        let again = Database::open(folder.path(), "secret").await.unwrap();
        let url = format!("http://{}/v1/greeting", again.address());
        let client = reqwest::Client::new();
        assert_eq!(client.get(&url).bearer_auth("secret").send().await.unwrap().text().await.unwrap(), value);
        assert_eq!(client.delete(&url).bearer_auth("secret").send().await.unwrap().status(), 204);
        assert_eq!(client.get(&url).bearer_auth("secret").send().await.unwrap().status(), 404);
    }

    #[test]
    fn a_record_that_a_crash_cut_off_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.log");
        let mut store = Store::open(&path).unwrap();
        store.append("a", Some(Bytes::from_static(b"1"))).unwrap();
        store.append("b", Some(Bytes::from_static(b"22"))).unwrap();
        store.file.set_len(store.end - 1).unwrap();
        let again = Store::open(&path).unwrap();
        assert_eq!(again.values.keys().collect::<Vec<_>>(), ["a"]);
    }
}
