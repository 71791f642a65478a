//! The schema of `metadata` (ObjectMeta), which every object has without declaring it.
//!
//! Labels and annotations have an owner per entry, finalizers are a set, owner references a list keyed by `uid`.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use serde_json::Value;

use super::node::{ListType, MapType, Node, NodeType};

/// The node of `metadata`.
pub(crate) static NODE: LazyLock<Arc<Node>> = LazyLock::new(|| Arc::new(object_meta()));

/// The node of `apiVersion` and `kind`.
pub(crate) static TEXT: LazyLock<Arc<Node>> = LazyLock::new(|| scalar(NodeType::String));

/// Leaves out what ObjectMeta does not write: nulls and empty values. A null is empty metadata.
pub(super) fn tidy(metadata: &mut Value) {
    if metadata.is_null() {
        *metadata = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(map) = metadata {
        map.retain(|_, value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Bool(_) => true,
            Value::Number(number) => number.as_i64() != Some(0),
        });
    }
}

fn scalar(kind: NodeType) -> Arc<Node> {
    Arc::new(Node { kind, nullable: true, ..Node::default() })
}

fn object(fields: &[(&str, Arc<Node>)]) -> Node {
    let properties: BTreeMap<String, Arc<Node>> =
        fields.iter().map(|(name, node)| ((*name).to_owned(), Arc::clone(node))).collect();
    Node { kind: NodeType::Object, nullable: true, properties, ..Node::default() }
}

fn list(items: Node, list_type: ListType, map_keys: &[&str]) -> Node {
    Node {
        kind: NodeType::Array,
        nullable: true,
        items: Some(Arc::new(items)),
        list_type,
        map_keys: map_keys.iter().map(|k| (*k).to_owned()).collect(),
        ..Node::default()
    }
}

fn object_meta() -> Node {
    let text = scalar(NodeType::String);
    let boolean = scalar(NodeType::Boolean);
    let integer = scalar(NodeType::Integer);
    let strings = Arc::new(Node {
        kind: NodeType::Object,
        nullable: true,
        additional: Some(Arc::clone(&text)),
        ..Node::default()
    });
    let owner = Node {
        map_type: MapType::Atomic,
        nullable: false,
        ..object(&[
            ("apiVersion", Arc::clone(&text)),
            ("blockOwnerDeletion", Arc::clone(&boolean)),
            ("controller", boolean),
            ("kind", Arc::clone(&text)),
            ("name", Arc::clone(&text)),
            ("uid", Arc::clone(&text)),
        ])
    };
    let owners = Node {
        patch_merge_key: Some("uid".to_owned()),
        patch_strategy: vec!["merge".to_owned()],
        ..list(owner, ListType::Map, &["uid"])
    };
    let finalizer = Node { kind: NodeType::String, ..Node::default() };
    let finalizers = Node { patch_strategy: vec!["merge".to_owned()], ..list(finalizer, ListType::Set, &[]) };
    let managed = object(&[
        ("apiVersion", Arc::clone(&text)),
        ("fieldsType", Arc::clone(&text)),
        ("fieldsV1", Arc::new(Node::open())),
        ("manager", Arc::clone(&text)),
        ("operation", Arc::clone(&text)),
        ("subresource", Arc::clone(&text)),
        ("time", Arc::clone(&text)),
    ]);
    object(&[
        ("annotations", Arc::clone(&strings)),
        ("creationTimestamp", Arc::clone(&text)),
        ("deletionGracePeriodSeconds", Arc::clone(&integer)),
        ("deletionTimestamp", Arc::clone(&text)),
        ("finalizers", Arc::new(finalizers)),
        ("generateName", Arc::clone(&text)),
        ("generation", integer),
        ("labels", strings),
        ("managedFields", Arc::new(list(managed, ListType::Atomic, &[]))),
        ("name", Arc::clone(&text)),
        ("namespace", Arc::clone(&text)),
        ("ownerReferences", Arc::new(owners)),
        ("resourceVersion", Arc::clone(&text)),
        ("selfLink", Arc::clone(&text)),
        ("uid", text),
    ])
}
