use std::collections::VecDeque;

use parking_lot::Mutex;
use serde_json::{json, value::RawValue};

use super::super::{Flow, Informer, InformerOptions, Source};
use super::*;
use crate::api::{Listed, Page};

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

fn object(name: &str, revision: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "resourceVersion": revision.to_string()}, "spec": revision})
}

fn page(names: &[(&str, u32)], token: Option<&str>) -> Page {
    Page {
        items: names.iter().map(|(n, r)| raw(&object(n, *r))).collect(),
        continue_token: token.map(Into::into),
        revision: "100".into(),
    }
}

fn bytes(raw: Box<RawValue>) -> Bytes {
    Box::<str>::from(raw).into_boxed_bytes().into()
}

/// Takes in a page, object by object.
fn feed(machine: &mut Machine<u64>, page: Page) -> Vec<Delta<u64>> {
    let mut deltas: Vec<Delta<u64>> = page.items.into_iter().filter_map(|item| machine.item(bytes(item))).collect();
    deltas.extend(machine.listed(page.continue_token, page.revision));
    deltas
}

fn frame(event: &str, value: &Value) -> Frame {
    Frame { event: event.into(), object: raw(value) }
}

fn gone() -> ApiError {
    failure(410, "Expired")
}

fn failure(code: u16, reason: &str) -> ApiError {
    ApiError {
        side: "test".into(),
        verb: "watch",
        target: "things".into(),
        class: crate::error::classify(code, reason),
        code,
        reason: reason.into(),
        message: reason.into(),
        retry_after: None,
    }
}

fn machine() -> Machine<u64> {
    let project: Project<u64> = Arc::new(|o| o["spec"].as_u64().ok_or_else(|| "no number".to_owned()));
    Machine::new(
        Arc::default(),
        project,
        Keep::default(),
        Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
    )
}

fn tell(deltas: &[Delta<u64>]) -> Vec<String> {
    deltas
        .iter()
        .map(|delta| match delta {
            Delta::Applied { key, new, .. } => format!("+{}={}", key.name, new.summary),
            Delta::Removed { key, observed, .. } => format!("-{}{}", key.name, if *observed { "!" } else { "" }),
            Delta::Synced => "synced".into(),
        })
        .collect()
}

#[test]
fn pages_then_watch() {
    let mut m = machine();
    assert_eq!(m.step(), Step::List(None));
    assert_eq!(tell(&feed(&mut m, page(&[("a", 1)], Some("t")))), ["+a=1"]);
    assert_eq!(m.step(), Step::List(Some("t".into())));
    assert_eq!(tell(&feed(&mut m, page(&[("b", 2)], None))), ["+b=2", "synced"]);
    assert_eq!(m.step(), Step::Watch("100".into()));
    let delta = m.frame(frame("MODIFIED", &object("a", 101)), "s", 0.0).continue_value().unwrap();
    assert_eq!(tell(&Vec::from_iter(delta)), ["+a=101"]);
    assert!(
        m.frame(frame("BOOKMARK", &json!({"metadata": {"resourceVersion": "150"}})), "s", 0.0)
            .continue_value()
            .unwrap()
            .is_none()
    );
    m.watch_ended(Duration::from_secs(150), 0.0);
    assert_eq!(m.step(), Step::Watch("150".into()), "an ended watch resumes, without a pause and without a list");
}

#[test]
fn a_410_at_watch_start_and_in_the_stream_list_again() {
    let mut m = machine();
    feed(&mut m, page(&[("a", 1), ("b", 1)], None));
    m.watch_failed(&gone(), 0.0);
    assert_eq!(m.step(), Step::List(None), "at once");
    assert_eq!(tell(&feed(&mut m, page(&[("a", 1)], None))), ["-b"], "gone by absence, unchanged ones are silent");
    let gone_frame = frame("ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}));
    m.frame(frame("ADDED", &object("c", 7)), "s", 0.0).continue_value().unwrap();
    assert!(m.frame(gone_frame, "s", 0.0).is_break());
    assert_eq!(m.step(), Step::List(None));
    assert_eq!(m.relists(), 2);
}

#[test]
fn repeated_410_backs_off() {
    let mut m = machine();
    for _ in 0..3 {
        while let Step::Pause(_) = m.step() {}
        feed(&mut m, page(&[], None));
        m.watch_failed(&gone(), 1.0);
    }
    assert!(matches!(m.step(), Step::Pause(_)));
    assert_eq!(m.step(), Step::List(None));
}

#[test]
fn a_continue_token_that_expired_starts_over_and_forgets_what_was_seen() {
    let mut m = machine();
    feed(&mut m, page(&[("a", 1), ("b", 1)], None));
    m.watch_failed(&gone(), 0.0);
    feed(&mut m, page(&[("a", 1)], Some("t")));
    m.list_failed(&gone(), 0.0);
    while let Step::Pause(_) = m.step() {}
    assert_eq!(m.step(), Step::List(None));
    assert_eq!(tell(&feed(&mut m, page(&[("b", 1)], None))), ["-a"]);
}

#[test]
fn a_page_that_broke_off_is_asked_for_again() {
    let mut m = machine();
    m.item(bytes(raw(&object("a", 1)))).unwrap();
    m.list_failed(&failure(503, "ServiceUnavailable"), 0.0);
    assert!(matches!(m.step(), Step::Pause(_)));
    assert_eq!(m.step(), Step::List(None));
    assert_eq!(tell(&feed(&mut m, page(&[("a", 1), ("b", 2)], None))), ["+b=2", "synced"]);
}

#[test]
fn deleted_events_are_tombstones_with_the_final_state() {
    let mut m = machine();
    feed(&mut m, page(&[("a", 1)], None));
    let delta = m.frame(frame("DELETED", &object("a", 120)), "s", 0.0).continue_value().unwrap().unwrap();
    match &delta {
        Delta::Removed { last, observed: true, .. } => assert_eq!(last.summary, 120),
        other => panic!("{other:?}"),
    }
    assert!(m.store.is_empty());
}

#[test]
fn a_bad_object_is_skipped_and_counted() {
    let mut m = machine();
    let mut p = page(&[("a", 1)], None);
    p.items.push(raw(&json!({"metadata": {"name": "bad", "namespace": "n", "resourceVersion": "5"}})));
    assert_eq!(tell(&feed(&mut m, p)), ["+a=1", "synced"]);
    assert_eq!(m.skipped(), 1);
}

#[test]
fn retry_after_is_honoured() {
    let mut m = machine();
    let mut error = failure(429, "TooManyRequests");
    error.retry_after = Some(Duration::from_secs(7));
    m.list_failed(&error, 0.0);
    assert_eq!(m.step(), Step::Pause(Duration::from_secs(7)));
    assert_eq!(m.step(), Step::List(None));
}

#[test]
fn a_watch_that_ends_at_once_pauses() {
    let mut m = machine();
    feed(&mut m, page(&[], None));
    m.watch_ended(Duration::from_millis(3), 1.0);
    assert!(matches!(m.step(), Step::Pause(_)));
}

/// A source that answers from a script and then hangs.
struct Script {
    lists: Mutex<VecDeque<Result<Page, ApiError>>>,
    watches: Mutex<VecDeque<Result<Vec<Frame>, ApiError>>>,
}

impl Source for Script {
    fn side(&self) -> String {
        "script".into()
    }

    fn list(&self, _: Option<String>) -> futures::future::BoxFuture<'_, Result<Flow<Listed>, ApiError>> {
        use futures::StreamExt;
        let next = self.lists.lock().pop_front();
        Box::pin(async move {
            match next {
                Some(Ok(page)) => {
                    let end = Listed::End { continue_token: page.continue_token, revision: page.revision };
                    let items = page.items.into_iter().map(|item| Listed::Item(bytes(item)));
                    let listed: Vec<_> = items.chain([end]).map(Ok).collect();
                    Ok(futures::stream::iter(listed).boxed())
                }
                Some(Err(error)) => Err(error),
                None => std::future::pending().await,
            }
        })
    }

    fn watch(&self, _: String, _: Duration) -> futures::future::BoxFuture<'_, Result<Flow<Frame>, ApiError>> {
        use futures::StreamExt;
        let next = self.watches.lock().pop_front();
        Box::pin(async move {
            match next {
                Some(Ok(frames)) => Ok(futures::stream::iter(frames.into_iter().map(Ok)).boxed()),
                Some(Err(error)) => Err(error),
                None => std::future::pending().await,
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_driver_survives_failures_and_reports_them() {
    let script = Script {
        lists: Mutex::new(
            [Err(failure(503, "ServiceUnavailable")), Ok(page(&[("a", 1)], None)), Ok(page(&[("b", 9)], None))].into(),
        ),
        watches: Mutex::new(
            [Ok(vec![frame("ADDED", &object("z", 5))]), Err(failure(500, "InternalError")), Err(gone())].into(),
        ),
    };
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = log.clone();
    let project: Project<u64> = Arc::new(|o| o["spec"].as_u64().ok_or_else(|| "no number".to_owned()));
    let informer = Informer::start_with(
        script,
        InformerOptions::default(),
        project,
        Arc::new(move |delta| sink.lock().extend(tell(std::slice::from_ref(delta)))),
    );
    let mut health = informer.health();
    health.wait_for(|h| h.trouble.is_some()).await.unwrap();
    informer.wait_synced().await;
    health.wait_for(|h| h.relists == 1).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*log.lock(), ["+a=1", "synced", "+z=5", "+b=9", "-a", "-z"].map(String::from).to_vec());
}

#[test]
fn what_could_not_be_read_is_listed_again_when_the_watch_ends() {
    let mut m = machine();
    assert!(m.item(Bytes::from_static(b"{\"metadata\": @}")).is_none());
    assert_eq!(tell(&feed(&mut m, page(&[("a", 1)], None))), ["+a=1", "synced"]);
    assert_eq!((m.skipped(), m.step()), (1, Step::Watch("100".into())), "not at once: it may stay so");
    m.watch_ended(Duration::from_secs(150), 0.0);
    assert_eq!(m.step(), Step::List(None));
    assert_eq!(tell(&feed(&mut m, page(&[("a", 1), ("b", 2)], None))), ["+b=2"]);
    m.watch_ended(Duration::from_secs(150), 0.0);
    assert_eq!(m.step(), Step::Watch("100".into()), "and once");
}

/// Its first watch looks alive and delivers nothing.
struct HalfDead(Mutex<u32>);

impl Source for HalfDead {
    fn side(&self) -> String {
        "half-dead".into()
    }

    fn list(&self, _: Option<String>) -> futures::future::BoxFuture<'_, Result<Flow<Listed>, ApiError>> {
        use futures::StreamExt;
        let end = Listed::End { continue_token: None, revision: "100".into() };
        Box::pin(async { Ok(futures::stream::iter([Ok(end)]).boxed()) })
    }

    fn watch(&self, revision: String, _: Duration) -> futures::future::BoxFuture<'_, Result<Flow<Frame>, ApiError>> {
        use futures::StreamExt;
        assert_eq!(revision, "100", "from where it was");
        let first = std::mem::replace(&mut *self.0.lock(), 1) == 0;
        let frames = if first { vec![] } else { vec![Ok(frame("ADDED", &object("a", 101)))] };
        Box::pin(async { Ok(futures::stream::iter(frames).chain(futures::stream::pending()).boxed()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_doubted_starts_anew_from_where_it_was() {
    let project: Project<u64> = Arc::new(|o| o["spec"].as_u64().ok_or_else(|| "no number".to_owned()));
    let informer = Informer::start_with(HalfDead(Mutex::new(0)), InformerOptions::default(), project, Arc::new(|_| {}));
    informer.wait_synced().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(informer.store().len(), 0);
    informer.doubt();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(informer.store().len(), 1);
}
