//! Bodies of answers: Status objects, streams that can be cut, garbled lists. In: what the API server sends, and orders.
//! Out: what the client gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Why a body breaks off.
#[derive(Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for Broken {}

/// The body of any answer.
pub type Body = UnsyncBoxBody<Bytes, Broken>;

/// What is done to all watches that are open.
#[derive(Clone, Debug)]
pub enum Order {
    /// They end.
    Cut,
    /// Nothing arrives any more, and they do not end.
    Dead,
    /// They get the error 410 and end.
    Gone,
}

/// What a client gets.
pub type Answer = http::Response<Body>;

/// A whole body.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A Status object as API servers answer it.
pub fn status(code: u16, reason: &str, message: &str, retry_after: Option<u64>) -> Answer {
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    let mut answer = http::Response::builder().status(code).header("content-type", "application/json");
    if let Some(seconds) = retry_after {
        body["details"] = json!({"retryAfterSeconds": seconds});
        answer = answer.header("retry-after", seconds.to_string());
    }
    answer.body(whole(body.to_string())).unwrap()
}

/// The event that ends a watch whose revision is too old.
pub fn gone_event() -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410,
    });
    format!("{}\n", json!({"type": "ERROR", "object": status})).into()
}

type Chunks = BoxStream<'static, Option<Bytes>>;

/// What the API server sends, chunk by chunk; `None` when it breaks off.
pub fn chunks(answer: reqwest::Response) -> Chunks {
    let next = |answer: Option<reqwest::Response>| async move {
        let mut answer = answer?;
        match answer.chunk().await {
            Ok(Some(chunk)) => Some((Some(chunk), Some(answer))),
            Ok(None) => None,
            Err(_) => Some((None, None)),
        }
    };
    stream::unfold(Some(answer), next).boxed()
}

/// A body as it comes.
pub fn streamed(chunks: Chunks) -> Body {
    http_body_util::BodyExt::boxed_unsync(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data).ok_or(Broken))))
}

/// A watch: lines that come whole, until an order. `garbled`: the object of this name is not JSON. `forgotten` counts what
/// the API server itself says about revisions that are too old.
pub fn watched(
    chunks: Chunks,
    orders: broadcast::Receiver<Order>,
    garbled: Option<String>,
    forgotten: Arc<AtomicU32>,
) -> Body {
    let state = (chunks, orders, Vec::<u8>::new(), false);
    let lines = stream::unfold(state, move |(mut chunks, mut orders, mut buffer, ended)| {
        let (garbled, forgotten) = (garbled.clone(), forgotten.clone());
        async move {
            if ended {
                return None;
            }
            loop {
                if let Some(at) = buffer.iter().position(|byte| *byte == b'\n') {
                    let rest = buffer.split_off(at + 1);
                    let line = std::mem::replace(&mut buffer, rest);
                    if says_forgotten(&line) {
                        forgotten.fetch_add(1, Ordering::Relaxed);
                    }
                    let line = garbled.as_deref().map_or_else(|| line.clone(), |name| garble_line(&line, name));
                    return Some((Ok(Bytes::from(line)), (chunks, orders, buffer, false)));
                }
                tokio::select! {
                    order = orders.recv() => match order {
                        Ok(Order::Cut) => return None,
                        Ok(Order::Gone) => return Some((Ok(gone_event()), (chunks, orders, buffer, true))),
                        // As long as the client holds on to it.
                        Ok(Order::Dead) => futures::future::pending::<()>().await,
                        Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return None,
                    },
                    chunk = chunks.next() => match chunk {
                        Some(Some(chunk)) => buffer.extend_from_slice(&chunk),
                        Some(None) => return Some((Err(Broken), (chunks, orders, buffer, true))),
                        None => return None,
                    },
                }
            }
        }
    });
    http_body_util::BodyExt::boxed_unsync(StreamBody::new(lines.map(|line| line.map(Frame::data))))
}

/// Whether an event is the error 410.
fn says_forgotten(line: &[u8]) -> bool {
    // Only objects of errors are small enough to be read twice.
    let start = line.get(..40).unwrap_or(line);
    start.windows(7).any(|word| word == b"\"ERROR\"")
        && serde_json::from_slice::<Value>(line).is_ok_and(|event| event["object"]["code"] == 410)
}

/// A body that ends in the middle of what there is.
pub fn truncated(bytes: &Bytes) -> Body {
    let half = bytes.slice(..bytes.len() / 2);
    let parts = stream::iter([Ok(Frame::data(half)), Err(Broken)]);
    http_body_util::BodyExt::boxed_unsync(StreamBody::new(parts))
}

/// A list in which the object of this name is not JSON.
pub fn garble_list(bytes: &[u8], name: &str) -> Vec<u8> {
    let Ok(mut list) = serde_json::from_slice::<Value>(bytes) else { return bytes.to_vec() };
    let mark = "the-garbled-object";
    for item in list["items"].as_array_mut().into_iter().flatten() {
        if item["metadata"]["name"] == name {
            *item = json!({mark: 0});
        }
    }
    list.to_string().replace(&json!({mark: 0}).to_string(), "{\"metadata\": @}").into_bytes()
}

fn garble_line(line: &[u8], name: &str) -> Vec<u8> {
    match serde_json::from_slice::<Value>(line) {
        Ok(event) if event["object"]["metadata"]["name"] == name => {
            format!("{{\"type\": {}, \"object\": {{\"metadata\": @}}}}\n", event["type"]).into_bytes()
        }
        _ => line.to_vec(),
    }
}
