//! What every logical cluster has from its first moment.
//!
//! Flows in: a name. Flows out: namespaces, the service `default/kubernetes` and the default roles, written as one batch.
//! The UID of `kube-system` is the cluster's identity; it is kept with everything else. Called at start for the clusters
//! in the options, and when an administrator of all clusters uses a new one.

use std::sync::Arc;

use apimachinery::apply::{UpdateOptions, track_update};
use apimachinery::names;
use apimachinery::status::StatusError;
use serde_json::{Value, json};

use crate::auth::rbac::{self, bootstrap};
use crate::clusters::IDENTITY_NAMESPACE;
use crate::core::Core;
use crate::pipeline::{Target, convert, timestamp};
use crate::store::{Draft, Expect, Scope, StoredObject, TableId, Write, WriteError};

/// The namespaces of a new logical cluster. The one with its identity is last: while it is missing, the cluster is not
/// there, so a crash in between does no harm.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", IDENTITY_NAMESPACE];

impl Core {
    /// Makes a logical cluster, if it is not there.
    ///
    /// # Errors
    /// 422 for a name that is no DNS label; what the store says.
    pub async fn create_cluster(&self, cluster: &str) -> Result<(), StatusError> {
        let faults = names::dns1123_label(cluster);
        if let Some(fault) = faults.first() {
            return Err(StatusError::bad_request(format!("{cluster:?} is no name for a logical cluster: {fault}")));
        }
        if self.clusters.catalog(cluster).is_some() {
            return Ok(());
        }
        let mut objects: Vec<(&str, &str, &str, Value)> = vec![("", "services", "default", kubernetes_service())];
        objects.extend(bootstrap::objects().into_iter().map(|(plural, object)| (rbac::GROUP, plural, "", object)));
        objects.extend(NAMESPACES.iter().map(|name| ("", "namespaces", "", namespace(name))));
        let mut answers = Vec::with_capacity(objects.len());
        for (group, plural, namespace, object) in objects {
            answers.push(self.store.begin(self.first_write(cluster, group, plural, namespace, object)?));
        }
        for answer in answers {
            match answer.await.unwrap_or(Err(WriteError::Stopped)) {
                // Left over from a bootstrap that was interrupted, or made at the same moment by somebody else.
                Ok(_) | Err(WriteError::Exists) => {}
                Err(other) => return Err(crate::pipeline::store_error(other)),
            }
        }
        tracing::info!(cluster, "made a logical cluster");
        Ok(())
    }

    /// Removes a logical cluster with all it holds, finalizers or not. Nothing happens where there is none.
    ///
    /// # Errors
    /// What the store says.
    pub async fn delete_cluster(&self, cluster: &str) -> Result<(), StatusError> {
        let namespaces = TableId::new("", "namespaces");
        let scope = Scope::Cluster(cluster.into());
        // Namespaces go first, so that nothing new can be made; the one with the identity goes last, so that an
        // interrupted removal can be repeated.
        loop {
            let mut doomed: Vec<(TableId, Arc<StoredObject>)> = Vec::new();
            let mut tables = self.store.tables_with(&scope);
            tables.sort_by_key(|table| *table != namespaces);
            for table in tables {
                let listed = self.store.list(&table, &scope).objects;
                doomed.extend(listed.into_iter().map(|object| (table.clone(), object)));
            }
            let is_identity = |table: &TableId, object: &StoredObject| {
                *table == namespaces && *object.key.name == *IDENTITY_NAMESPACE
            };
            if doomed.iter().any(|(table, object)| !is_identity(table, object)) {
                doomed.retain(|(table, object)| !is_identity(table, object));
            }
            if doomed.is_empty() {
                tracing::info!(cluster, "removed a logical cluster");
                return Ok(());
            }
            let mut answers = Vec::with_capacity(doomed.len());
            for (table, object) in doomed {
                let draft = Draft::new(&object.to_value(), object.schema_mark).map_err(StatusError::internal)?;
                let expect = Expect::Revision(object.revision);
                let key = object.key.clone();
                answers.push(self.store.begin(Write { table, key, expect, guard: None, draft, delete: true }));
            }
            for answer in answers {
                match answer.await.unwrap_or(Err(WriteError::Stopped)) {
                    // Changed in between: the next round takes it.
                    Ok(_) | Err(WriteError::Changed) => {}
                    Err(other) => return Err(crate::pipeline::store_error(other)),
                }
            }
        }
    }

    fn first_write(
        &self,
        cluster: &str,
        group: &str,
        plural: &str,
        namespace: &str,
        mut object: Value,
    ) -> Result<Write, StatusError> {
        let base = self.clusters.base();
        let resource = base
            .by_group_resource(group, plural)
            .ok_or_else(|| StatusError::internal(format!("the built-in resource {plural} is not described")))?;
        let now = self.now();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
        object["metadata"]["creationTimestamp"] = timestamp(now).into();
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        let options = UpdateOptions { manager: "kube-apiserver".to_owned(), now, ..UpdateOptions::default() };
        track_update(None, &mut object, &options, &resource.schema);
        let target = Target::new(cluster, resource, namespace, &name);
        let draft = Draft::new(&object, convert::schema_mark(resource)).map_err(StatusError::internal)?;
        Ok(Write {
            table: target.table(),
            key: target.key(),
            expect: Expect::Absent,
            guard: None,
            draft,
            delete: false,
        })
    }
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    })
}

fn kubernetes_service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
        "status": {"loadBalancer": {}},
    })
}
