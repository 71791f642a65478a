//! The controllers at work on a control plane in memory.

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::auth::rbac::{GROUP as RBAC, bootstrap};
use crate::auth::{Auth, Credentials};
use crate::clusters::Clusters;
use crate::pipeline::{Part, Propagation};
use crate::registry::builtin;
use crate::store::Store;
use crate::store::memory::MemoryLog;

const CA: &str = "-----CA-----";

struct World {
    access: Access,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.access.core.store.stop();
    }
}

impl World {
    async fn start() -> Self {
        let world = Self::without_controllers().await;
        start(world.access.core.clone(), CA, world.shutdown.clone());
        world
    }

    async fn without_controllers() -> Self {
        let store = Store::open(Box::new(MemoryLog::starting_at(1))).unwrap();
        let clusters = Arc::new(Clusters::new(builtin::resources()));
        clusters.attach(&store);
        let core = Core { store, clusters, auth: Auth::open(None).unwrap(), clock: Arc::new(jiff::Timestamp::now) };
        let world =
            Self { access: Access { core: Arc::new(core), ca_pem: CA.into() }, shutdown: CancellationToken::new() };
        // The first namespace makes the logical cluster; its kind is served once it is there.
        let first = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "k"},
            "spec": {"finalizers": ["kubernetes"]}});
        let write = crate::store::Write {
            table: TableId::new("", "namespaces"),
            key: ObjectKey::new("c", "", "kube-system"),
            expect: crate::store::Expect::Absent,
            guard: None,
            draft: crate::store::Draft::new(&first, 0).unwrap(),
            delete: false,
        };
        world.access.core.store.write(write).await.unwrap();
        for (resource, object) in bootstrap::objects() {
            world.create(RBAC, resource, object).await;
        }
        world
    }

    fn id(&self, group: &str, resource: &str, namespace: &str, name: &str) -> ObjectId {
        ObjectId { table: TableId::new(group, resource), key: ObjectKey::new("c", namespace, name) }
    }

    /// Creates an object; returns its UID.
    async fn create(&self, group: &str, resource: &str, object: Value) -> String {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
        let id = self.id(group, resource, &text("namespace"), &text("name"));
        self.access.create("test", &id, object).await.unwrap();
        // It may have been collected already.
        self.access.stored(&id).map(|stored| stored.uid.to_string()).unwrap_or_default()
    }

    async fn namespace(&self, name: &str) -> String {
        self.create("", "namespaces", json!({"metadata": {"name": name}})).await
    }

    /// A ConfigMap `name` with these owners (name, UID, whether they wait for it).
    async fn config_map(&self, name: &str, owners: &[(&str, &str, bool)]) -> String {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(name, uid, blocks)| {
                json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": blocks})
            })
            .collect();
        let metadata = json!({"name": name, "namespace": "n", "ownerReferences": owners});
        self.create("", "configmaps", json!({"metadata": metadata})).await
    }

    async fn delete(&self, id: &ObjectId, propagation: Propagation) {
        let uid = self.access.stored(id).unwrap().uid.to_string();
        self.access.delete("test", id, &uid, None, propagation).await.unwrap();
    }

    fn value(&self, id: &ObjectId) -> Option<Value> {
        self.access.stored(id).map(|stored| stored.to_value())
    }

    fn exists(&self, id: &ObjectId) -> bool {
        self.access.stored(id).is_some()
    }

    /// Waits for something to become true.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..2000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never: {what}");
    }

    /// Lets the controllers come to rest: what they had to do on account of what happened so far is done.
    async fn settle(&self) {
        let mut before = self.access.core.store.revision();
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let now = self.access.core.store.revision();
            if now == before {
                return;
            }
            before = now;
        }
        panic!("never at rest");
    }
}

fn run_test<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_namespace_gets_its_account_and_ca_and_gets_them_back() {
    run_test(async {
        let world = World::start().await;
        world.namespace("n").await;
        let (account, ca) =
            (world.id("", "serviceaccounts", "n", "default"), world.id("", "configmaps", "n", "kube-root-ca.crt"));
        world.until("furnished", |w| w.exists(&account) && w.exists(&ca)).await;
        assert_eq!(world.value(&ca).unwrap()["data"]["ca.crt"], CA);
        world.delete(&account, Propagation::Background).await;
        world.delete(&ca, Propagation::Background).await;
        world.until("furnished again", |w| w.exists(&account) && w.exists(&ca)).await;
    });
}

#[test]
fn a_token_in_a_secret_works_until_its_account_goes() {
    run_test(async {
        let world = World::start().await;
        world.namespace("n").await;
        world.create("", "serviceaccounts", json!({"metadata": {"name": "agent", "namespace": "n"}})).await;
        let secret = json!({"type": "kubernetes.io/service-account-token", "metadata": {"name": "token", "namespace": "n",
            "annotations": {"kubernetes.io/service-account.name": "agent"}}});
        world.create("", "secrets", secret).await;
        let id = world.id("", "secrets", "n", "token");
        let token = |w: &World| {
            use base64::Engine as _;
            let data = w.value(&id)?["data"]["token"].as_str()?.to_owned();
            let bytes = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
            String::from_utf8(bytes).ok()
        };
        world.until("filled", |w| token(w).is_some()).await;
        let token = token(&world).unwrap();
        let who = |cluster: &str| {
            let core = &world.access.core;
            let credentials = Credentials { bearer: Some(&token), certificate: None };
            core.auth.authenticate(&**core, cluster, &credentials, core.now())
        };
        assert_eq!(who("c").unwrap().username, "system:serviceaccount:n:agent");
        assert_eq!(who("d").unwrap_err().code, 401);
        world.delete(&world.id("", "serviceaccounts", "n", "agent"), Propagation::Background).await;
        assert_eq!(who("c").unwrap_err().code, 401, "dead before the controller has done anything");
        world.until("the Secret goes", |w| !w.exists(&id)).await;
    });
}

#[test]
fn a_namespace_goes_with_all_it_holds_when_the_finalizers_are_off() {
    run_test(async {
        let world = World::start().await;
        world.namespace("n").await;
        world.config_map("plain", &[]).await;
        let held = json!({"metadata": {"name": "held", "namespace": "n", "finalizers": ["example.com/hold"]}});
        let uid = world.create("", "configmaps", held).await;
        let (namespace, held) = (world.id("", "namespaces", "", "n"), world.id("", "configmaps", "n", "held"));
        world.delete(&namespace, Propagation::Background).await;
        let message = |w: &World| {
            let status = w.value(&namespace).unwrap_or_default()["status"].clone();
            let all = status["conditions"].as_array().cloned().unwrap_or_default();
            all.into_iter().find(|c| c["type"] == "NamespaceFinalizersRemaining").map(|c| c["message"].clone())
        };
        let text = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
        world.until("says what holds it", |w| message(w) == Some(json!(text))).await;
        assert!(!world.exists(&world.id("", "configmaps", "n", "plain")));
        assert_eq!(world.value(&namespace).unwrap()["status"]["phase"], "Terminating");
        world.settle().await;
        world
            .access
            .modify("test", &held, &uid, Part::Main, |object| {
                object["metadata"]["finalizers"] = json!([]);
                true
            })
            .await
            .unwrap();
        world.until("gone", |w| !w.exists(&namespace)).await;
        world.settle().await;
        let left = world.access.core.store.tables_with(&Scope::Namespace("c".into(), "n".into()));
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn a_namespace_that_was_terminating_at_start_is_finished() {
    run_test(async {
        let world = World::without_controllers().await;
        world.namespace("n").await;
        world.config_map("x", &[]).await;
        let namespace = world.id("", "namespaces", "", "n");
        world.delete(&namespace, Propagation::Background).await;
        start(world.access.core.clone(), CA, world.shutdown.clone());
        world.until("gone", |w| !w.exists(&namespace)).await;
    });
}

#[test]
fn dependents_follow_in_the_background() {
    run_test(async {
        let world = World::start().await;
        world.namespace("n").await;
        let top = world.config_map("top", &[]).await;
        let middle = world.config_map("middle", &[("top", &top, false)]).await;
        world.config_map("leaf", &[("middle", &middle, false)]).await;
        world
            .config_map(
                "shared",
                &[("middle", &middle, false), ("other", &world.config_map("other", &[]).await, false)],
            )
            .await;
        world.delete(&world.id("", "configmaps", "n", "top"), Propagation::Background).await;
        let id = |name: &str| world.id("", "configmaps", "n", name);
        world.until("the tree goes", |w| !w.exists(&id("middle")) && !w.exists(&id("leaf"))).await;
        world
            .until("the shared one is released", |w| {
                let shared = w.value(&id("shared")).unwrap();
                shared["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.len() == 1)
            })
            .await;
    });
}

#[test]
fn a_wrong_uid_is_an_absent_owner_and_an_unserved_kind_is_not() {
    run_test(async {
        let world = World::start().await;
        world.namespace("n").await;
        world.config_map("owner", &[]).await;
        world.config_map("stale", &[("owner", "another-uid", false)]).await;
        let unserved = json!({"metadata": {"name": "unserved", "namespace": "n", "ownerReferences": [
            {"apiVersion": "example.com/v1", "kind": "Unknown", "name": "x", "uid": "u"}]}});
        world.create("", "configmaps", unserved).await;
        let cluster_scoped = json!({"metadata": {"name": "cs", "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"}]}});
        world.create(RBAC, "clusterroles", cluster_scoped).await;
        let id = |name: &str| world.id("", "configmaps", "n", name);
        world.until("collected", |w| !w.exists(&id("stale"))).await;
        world.settle().await;
        assert!(world.exists(&id("unserved")), "its owner could not be looked for");
        assert!(world.exists(&world.id(RBAC, "clusterroles", "", "cs")), "no valid reference");
    });
}

#[test]
fn foreground_deletion_takes_the_blocking_ones_first() {
    run_test(async {
        let world = World::start().await;
        world.namespace("n").await;
        let id = |name: &str| world.id("", "configmaps", "n", name);
        let top = world.config_map("top", &[]).await;
        let middle = world.config_map("middle", &[("top", &top, true)]).await;
        let leaf = json!({"metadata": {"name": "leaf", "namespace": "n", "finalizers": ["example.com/hold"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "middle", "uid": middle,
                "blockOwnerDeletion": true}]}});
        let leaf = world.create("", "configmaps", leaf).await;
        world.delete(&id("top"), Propagation::Foreground).await;
        world
            .until("the leaf is being deleted", |w| w.access.stored(&id("leaf")).is_some_and(|leaf| leaf.deleting))
            .await;
        world.settle().await;
        assert!(world.exists(&id("top")) && world.exists(&id("middle")), "they wait for the leaf");
        world
            .access
            .modify("test", &id("leaf"), &leaf, Part::Main, |object| {
                object["metadata"]["finalizers"] = json!([]);
                true
            })
            .await
            .unwrap();
        world.until("all gone", |w| ["top", "middle", "leaf"].iter().all(|name| !w.exists(&id(name)))).await;
    });
}

#[test]
fn orphans_stay_without_their_owner() {
    run_test(async {
        let world = World::start().await;
        world.namespace("n").await;
        let id = |name: &str| world.id("", "configmaps", "n", name);
        let owner = world.config_map("owner", &[]).await;
        world.config_map("child", &[("owner", &owner, true)]).await;
        world.delete(&id("owner"), Propagation::Orphan).await;
        world.until("the owner goes", |w| !w.exists(&id("owner"))).await;
        world.settle().await;
        let child = world.value(&id("child")).unwrap();
        assert!(child["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty), "{child}");
    });
}

#[test]
fn aggregated_roles_grow_and_shrink() {
    run_test(async {
        let world = World::start().await;
        let rule = json!({"apiGroups": ["acmedb.com"], "resources": ["acmedbs"], "verbs": ["get"]});
        let role = json!({"metadata": {"name": "extra", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
            "rules": [rule]});
        world.create(RBAC, "clusterroles", role).await;
        let holds = |w: &World, name: &str| {
            let role = w.value(&w.id(RBAC, "clusterroles", "", name)).unwrap();
            role["rules"].as_array().unwrap().contains(&rule)
        };
        world.until("admin has it through edit and view", |w| holds(w, "admin")).await;
        world.delete(&world.id(RBAC, "clusterroles", "", "extra"), Propagation::Background).await;
        world.until("and loses it", |w| !holds(w, "view") && !holds(w, "admin")).await;
    });
}

#[test]
fn a_definition_waits_for_its_objects() {
    run_test(async {
        let world = World::start().await;
        world.namespace("n").await;
        let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
        world.create("apiextensions.k8s.io", "customresourcedefinitions", definition).await;
        let held = json!({"apiVersion": "example.com/v1", "kind": "Thing",
            "metadata": {"name": "held", "namespace": "n", "finalizers": ["example.com/hold"]}});
        let uid = world.create("example.com", "things", held).await;
        let plain =
            json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "plain", "namespace": "n"}});
        world.create("example.com", "things", plain).await;
        let id = |name: &str| world.id("example.com", "things", "n", name);
        let definition = world.id("apiextensions.k8s.io", "customresourcedefinitions", "", "things.example.com");
        world.delete(&definition, Propagation::Background).await;
        world.until("objects are deleted", |w| !w.exists(&id("plain"))).await;
        world.settle().await;
        assert!(world.exists(&definition), "one object is held");
        world
            .access
            .modify("test", &id("held"), &uid, Part::Main, |object| {
                object["metadata"]["finalizers"] = json!([]);
                true
            })
            .await
            .unwrap();
        world.until("gone", |w| !w.exists(&definition) && !w.exists(&id("held"))).await;
    });
}

#[test]
fn at_rest_nothing_is_written() {
    run_test(async {
        let world = World::start().await;
        world.namespace("n").await;
        let owner = world.config_map("owner", &[]).await;
        world.config_map("child", &[("owner", &owner, true)]).await;
        world.settle().await;
        let before = world.access.core.store.revision();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(world.access.core.store.revision(), before);
    });
}
