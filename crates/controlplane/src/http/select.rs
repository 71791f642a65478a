//! Which objects of a collection a request means, and the shape they go out in.
//!
//! Flows in: stored objects. Flows out: whether they are selected ([`Selection`]), and their JSON ([`View`]). Used by
//! lists, watches and deletions of collections.

use std::sync::Arc;

use apimachinery::field_path::FieldError;
use apimachinery::selector::{FieldSelector, LabelSelector, Labels, field_text};
use apimachinery::status::StatusError;
use apimachinery::table::{IncludeObject, ListMeta, partial_metadata_versioned, table};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::negotiate::Shape;
use super::query::Query;
use crate::pipeline::{cause, convert};
use crate::registry::Resource;
use crate::store::StoredObject;

/// Whether the objects of a logical cluster are meant.
type InCluster = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A label and a field selector; across clusters, also which of them.
#[derive(Clone, Default)]
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// Whether field selectors reach beyond name and namespace, so that objects must be parsed.
    deep: bool,
    cluster: Option<InCluster>,
}

struct HeaderLabels<'a>(&'a StoredObject);

impl Labels for HeaderLabels<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.0.label(key)
    }
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`.
    pub fn parse(query: &Query, resource: &Resource) -> Result<Self, StatusError> {
        let labels = match query.get("labelSelector") {
            None => LabelSelector::everything(),
            Some(text) => LabelSelector::parse(text).map_err(|e| StatusError::bad_request(e.to_string()))?,
        };
        let fields = match query.get("fieldSelector") {
            None => FieldSelector::everything(),
            Some(text) => FieldSelector::parse(text).map_err(|e| StatusError::bad_request(e.to_string()))?,
        };
        let mut supported = vec!["metadata.name", "metadata.namespace"];
        supported.extend(resource.selectable_fields.iter().map(String::as_str));
        if let Err(error) = fields.check_supported(&supported) {
            let unknown = fields.requirements().iter().find(|r| !supported.contains(&r.field.as_str()));
            return Err(StatusError::bad_request(match unknown {
                Some(requirement) if resource.custom => format!("field label not supported: {}", requirement.field),
                _ => error.to_string(),
            }));
        }
        let deep =
            fields.requirements().iter().any(|r| !matches!(r.field.as_str(), "metadata.name" | "metadata.namespace"));
        Ok(Self { labels, fields, deep, cluster: None })
    }

    /// The one name that objects must have, if the field selector says so.
    pub fn name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// The same, of one name only.
    pub fn only(mut self, name: &str) -> Self {
        let escaped = name.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
        if let Ok(fields) = FieldSelector::parse(&format!("{},metadata.name={escaped}", self.fields)) {
            self.fields = fields;
        }
        self
    }

    /// The same, only of some logical clusters.
    pub fn of_clusters(mut self, cluster: InCluster) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Whether everything is meant.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.cluster.is_none()
    }

    /// Whether an object is meant.
    pub fn matches(&self, resource: &Resource, object: &StoredObject) -> bool {
        if !self.labels.is_empty() && !self.labels.matches(&HeaderLabels(object)) {
            return false;
        }
        if self.cluster.as_ref().is_some_and(|meant| !meant(&object.key.cluster)) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let value = if self.deep { convert::to_request(resource, object) } else { Value::Null };
        self.fields.matches(|path| match path {
            "metadata.name" => Some(object.key.name.as_ref().to_owned().into()),
            "metadata.namespace" => Some(object.key.namespace.as_ref().to_owned().into()),
            other => field_text(&value, other).map(|text| text.into_owned().into()),
        })
    }
}

/// How the objects of a resource go out.
#[derive(Clone)]
pub struct View {
    /// The resource in the requested version.
    pub resource: Arc<Resource>,
    /// The shape.
    pub shape: Shape,
    /// How much of the object goes into table rows.
    pub include: IncludeObject,
    /// Whether objects say which logical cluster they are in.
    pub annotate: bool,
}

/// The annotation with the logical cluster, on objects read across clusters.
pub const CLUSTER_ANNOTATION: &str = "kcp.io/cluster";

impl View {
    /// Objects as they are.
    pub fn plain(resource: &Arc<Resource>) -> Self {
        Self { resource: resource.clone(), shape: Shape::Object, include: IncludeObject::default(), annotate: false }
    }

    /// Reads `includeObject`.
    pub fn include(query: &Query) -> Result<IncludeObject, StatusError> {
        let given = query.get("includeObject");
        IncludeObject::parse(given).ok_or_else(|| {
            let supported = ["", "Metadata", "None", "Object"];
            let error = FieldError::not_supported("includeObject", given.unwrap_or_default(), &supported);
            StatusError::invalid("meta.k8s.io", "TableOptions", "", vec![cause(&error)])
        })
    }

    /// Whether the stored bytes can go out as they are.
    pub fn is_plain(&self, object: &StoredObject) -> bool {
        self.shape == Shape::Object && !self.annotate && convert::is_plain(&self.resource, object)
    }

    /// An object as a JSON value, before it is put into a shape.
    pub fn value(&self, object: &StoredObject) -> Value {
        let mut value = convert::to_request(&self.resource, object);
        if self.annotate {
            annotate(&mut value, &object.key.cluster);
        }
        value
    }

    /// One object in its shape; `headers`: with the columns of the table.
    pub fn object(&self, value: Value, headers: bool, now: Timestamp) -> Value {
        match &self.shape {
            Shape::Object => value,
            Shape::Table(version) => {
                let revision = value.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
                let meta = ListMeta { resource_version: revision.to_owned(), ..ListMeta::default() };
                table(&self.resource.columns, [&value], &meta, self.include, headers, version, now)
            }
            Shape::Metadata(version) => partial_metadata_versioned(&value, version),
        }
    }

    /// The JSON of one object in its shape.
    pub fn bytes(&self, object: &StoredObject, headers: bool, now: Timestamp) -> Bytes {
        if self.is_plain(object) {
            return object.bytes.clone();
        }
        serde_json::to_vec(&self.object(self.value(object), headers, now)).unwrap_or_default().into()
    }
}

fn annotate(object: &mut Value, cluster: &str) {
    let annotations = &mut object["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = Value::Object(Default::default());
    }
    annotations[CLUSTER_ANNOTATION] = cluster.into();
}
