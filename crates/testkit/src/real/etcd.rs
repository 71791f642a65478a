//! Everything that is stored, through etcd's HTTP/JSON gateway. In: a snapshot taken once. Out: etcd as it was then, but for
//! the identity of `kube-system`, so that the cluster is another one.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const KUBE_SYSTEM: &str = "/registry/namespaces/kube-system";
/// What the servers keep about themselves: time goes on. Of the Leases only theirs, in `kube-system`.
const THEIR_OWN: [&str; 4] =
    ["/registry/leases/kube-system/", "/registry/masterleases/", "/registry/peerserverleases/", "/registry/ranges/"];

/// All keys and values (in base64, as the gateway speaks).
#[derive(Clone, Default)]
pub struct Snapshot(BTreeMap<String, String>);

/// A client.
pub(super) struct Etcd {
    url: String,
    http: reqwest::Client,
}

impl Etcd {
    pub(super) fn new(port: u16) -> Self {
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(Duration::from_secs(20)).build();
        Self { url: format!("http://127.0.0.1:{port}/v3/kv"), http: http.unwrap() }
    }

    pub(super) async fn snapshot(&self) -> Snapshot {
        let range = json!({"key": STANDARD.encode("/registry/"), "range_end": STANDARD.encode("/registry0")});
        let answer = self.call("range", &range).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pairs = answer["kvs"].as_array().into_iter().flatten();
        Snapshot(pairs.map(|pair| (decoded(&text(&pair["key"])), text(&pair["value"]))).collect())
    }

    /// Forgets all history: whoever asks for an older revision gets 410.
    pub(super) async fn compact(&self) {
        let answer = self.call("range", &json!({"key": STANDARD.encode("/registry/"), "count_only": true})).await;
        let revision = answer["header"]["revision"].clone();
        self.call("compaction", &json!({"revision": revision, "physical": true})).await;
    }

    /// Puts everything back in one transaction.
    pub(super) async fn restore(&self, wanted: &Snapshot) {
        let there = self.snapshot().await.0;
        let own = |key: &str| THEIR_OWN.iter().any(|start| key.starts_with(start));
        let mut steps = Vec::new();
        for key in there.keys().filter(|key| !wanted.0.contains_key(*key) && !own(key)) {
            steps.push(json!({"request_delete_range": {"key": STANDARD.encode(key)}}));
        }
        for (key, value) in wanted.0.iter().filter(|(key, _)| !own(key)) {
            let value = if key == KUBE_SYSTEM { another_identity(value) } else { value.clone() };
            if there.get(key) != Some(&value) {
                steps.push(json!({"request_put": {"key": STANDARD.encode(key), "value": value}}));
            }
        }
        let answer = self.call("txn", &json!({"success": steps})).await;
        assert!(answer["succeeded"] == true, "etcd refused: {answer}");
    }

    async fn call(&self, what: &str, body: &Value) -> Value {
        let answer = self.http.post(format!("{}/{what}", self.url)).json(body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "etcd: {what}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&STANDARD.decode(text).unwrap_or_default()).into_owned()
}

/// The same object with a new UID; a UID is 36 characters that look like nothing else.
fn another_identity(value: &str) -> String {
    let mut bytes = STANDARD.decode(value).unwrap();
    let is_uid = |window: &[u8]| {
        window.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        })
    };
    let at = bytes.windows(36).position(is_uid).unwrap();
    let digits: [u8; 6] = rand::random();
    for (place, digit) in bytes[at + 24..at + 36].chunks_mut(2).zip(digits) {
        place.copy_from_slice(format!("{digit:02x}").as_bytes());
    }
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_identity_changes_the_uid_and_nothing_else() {
        let before = STANDARD.encode("\u{8}kube-system\u{1}$0b9f5d5c-1a2b-4c3d-8e4f-0123456789ab\u{2}rest");
        let after = STANDARD.decode(another_identity(&before)).unwrap();
        let before = STANDARD.decode(before).unwrap();
        assert_ne!(before, after);
        assert_eq!(before.len(), after.len());
        assert_eq!(before[..37], after[..37]);
        assert!(after.ends_with(b"\x02rest"));
    }
}
