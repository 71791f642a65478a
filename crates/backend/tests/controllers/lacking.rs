//! Rights that the backend does not have (any more) for what lies in a mapped namespace: the consumer's namespace says so and
//! what mends it, and recovers.

use kube_bind_api::Isolation;
use serde_json::{Value, json};

use crate::provider::{Consumer, Provider, apply, eventually};

/// Waits for the word about a mapped namespace.
async fn says(consumer: &Consumer, name: &str, status: &str) -> Value {
    eventually(&format!("NamespaceReady of {name} is {status}"), || async {
        let list = consumer.mapping(name).await["status"]["conditions"].as_array()?.clone();
        list.into_iter().find(|c| c["type"] == "NamespaceReady" && c["status"] == status)
    })
    .await
}

fn tells(condition: &Value, provider: &Provider) {
    assert_eq!(condition["reason"], "RightsMissing", "{condition}");
    let message = condition["message"].as_str().unwrap();
    let command = format!("kubectl bind provider offer {}", provider.kind());
    assert!(message.contains(&command) && message.contains("the provider's backend may not"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whose_rights_cannot_be_given_says_so_until_they_can() {
    let provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let before = alice.bound(&provider).await;
    provider.granted(false).await;
    alice.map("late").await;
    tells(&says(&alice, "late", "False").await, &provider);
    assert!(alice.mapping("late").await["status"]["namespace"].is_null(), "not published without rights");
    assert_eq!(alice.mapping("default").await["status"]["namespace"], before.as_str());
    provider.granted(true).await;
    says(&alice, "late", "True").await;
    let late = alice.mapping("late").await["status"]["namespace"].as_str().unwrap().to_owned();
    assert_eq!(alice.list_code(&provider.widgets(), Some(&late)).await, 200);
}

/// The backend is started again after the grant has gone: what it watched it cannot list.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_cannot_be_looked_at_says_so_until_it_can() {
    let mut provider = Provider::start(Isolation::Prefixed).await;
    let alice = provider.contract("alice", "uid-a").await;
    let mapped = alice.bound(&provider).await;
    let widget = json!({"metadata": {"name": "prod"}, "spec": {"tokenSecret": "token"}});
    apply(&alice.api, &provider.widgets(), &mapped, &widget).await;
    alice.entry("token", |_| true).await;
    provider.stop_backend().await;
    provider.granted(false).await;
    provider.start_backend();
    tells(&says(&alice, "default", "False").await, &provider);
    let mapping = alice.mapping("default").await;
    assert_eq!(mapping["status"]["namespace"], mapped.as_str());
    assert!(mapping["status"]["claimedObjects"].to_string().contains("token"), "what is granted stays: {mapping}");
    provider.granted(true).await;
    says(&alice, "default", "True").await;
}
