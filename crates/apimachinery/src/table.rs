//! Tables (`meta.k8s.io/v1 Table`) and metadata-only views: what `kubectl get` asks a server for.
//!
//! In: columns (from a CRD's `additionalPrinterColumns`, or built in), objects and the time. Out: the Table,
//! PartialObjectMetadata or PartialObjectMetadataList as JSON. Called by get, list and watch.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::duration;
use crate::jsonpath::{JsonPath, JsonPathError, text_of};

/// Computes a cell from an object; `now` is for ages.
pub type CellFn = fn(&Value, Timestamp) -> Value;

/// Where a column's cells come from.
#[derive(Debug, Clone)]
pub enum Cell {
    /// A path into the object, shown according to the column's type.
    Path(JsonPath),
    /// A function of the object.
    Computed(CellFn),
}

/// One column of a table.
#[derive(Debug, Clone)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// OpenAPI format; `name` marks the primary column.
    pub format: String,
    /// For people.
    pub description: String,
    /// 0 is always shown, more only in wide output.
    pub priority: i32,
    /// Where the cells come from.
    pub cell: Cell,
}

/// How much of the object goes into each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// `PartialObjectMetadata` (the default).
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// From the query parameter `includeObject`.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "Metadata") => Some(IncludeObject::Metadata),
            Some("None") => Some(IncludeObject::None),
            Some("Object") => Some(IncludeObject::Object),
            Some(_) => None,
        }
    }
}

/// `metadata` of a list answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListMeta {
    /// Revision of the list.
    pub resource_version: String,
    /// Token for the next page, empty on the last.
    pub continue_token: String,
    /// How many items follow, where known.
    pub remaining: Option<u64>,
}

impl ListMeta {
    /// As JSON, empty fields left out.
    pub fn to_value(&self) -> Value {
        let mut meta = Map::new();
        if !self.continue_token.is_empty() {
            meta.insert("continue".into(), self.continue_token.clone().into());
        }
        if let Some(remaining) = self.remaining {
            meta.insert("remainingItemCount".into(), remaining.into());
        }
        if !self.resource_version.is_empty() {
            meta.insert("resourceVersion".into(), self.resource_version.clone().into());
        }
        Value::Object(meta)
    }
}

const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATED_DESCRIPTION: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

impl Column {
    /// A column whose cells a function computes.
    pub fn computed(name: &str, kind: &str, priority: i32, cell: CellFn) -> Self {
        Column {
            name: name.to_owned(),
            kind: kind.to_owned(),
            format: String::new(),
            description: String::new(),
            priority,
            cell: Cell::Computed(cell),
        }
    }

    /// The primary column.
    pub fn name() -> Self {
        let cell: CellFn = |object, _| object.pointer("/metadata/name").cloned().unwrap_or_else(|| "".into());
        Column {
            format: "name".into(),
            description: NAME_DESCRIPTION.into(),
            ..Column::computed("Name", "string", 0, cell)
        }
    }

    /// `Age` as built-in kinds show it (a string).
    pub fn age() -> Self {
        Column { description: CREATED_DESCRIPTION.into(), ..Column::computed("Age", "string", 0, created) }
    }

    /// `Created At`, an RFC 3339 time (a custom resource's default second column is `Age` of type date).
    pub fn created_at() -> Self {
        let cell: CellFn =
            |object, _| object.pointer("/metadata/creationTimestamp").cloned().unwrap_or_else(|| "<unknown>".into());
        Column { description: CREATED_DESCRIPTION.into(), ..Column::computed("Created At", "date", 0, cell) }
    }

    /// One of a CustomResourceDefinition's `additionalPrinterColumns`.
    ///
    /// # Errors
    /// When its `jsonPath` cannot be parsed.
    pub fn from_crd(column: &Value) -> Result<Column, JsonPathError> {
        let text = |field: &str| column.get(field).and_then(Value::as_str).unwrap_or_default();
        let description = match text("description") {
            "" => format!("Custom resource definition column (in JSONPath format): {}", text("jsonPath")),
            given => given.to_owned(),
        };
        let priority = column.get("priority").and_then(Value::as_i64).unwrap_or(0);
        Ok(Column {
            name: text("name").to_owned(),
            kind: text("type").to_owned(),
            format: text("format").to_owned(),
            description,
            priority: i32::try_from(priority).unwrap_or(0),
            cell: Cell::Path(JsonPath::parse(text("jsonPath"))?),
        })
    }

    /// The column's definition in a table.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }

    /// The cell of an object; null where there is nothing to show.
    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let path = match &self.cell {
            Cell::Computed(cell) => return cell(object, now),
            Cell::Path(path) => path,
        };
        let Some(value) = path.first(object) else {
            return Value::Null;
        };
        match self.kind.as_str() {
            "string" if value.is_null() => Value::from("<nil>"),
            "string" => Value::from(text_of(value)),
            _ if value.is_null() => Value::Null,
            "integer" => value.as_i64().or_else(|| value.as_f64().map(truncate)).map_or(Value::Null, Value::from),
            "number" if value.is_number() => value.clone(),
            "boolean" if value.is_boolean() => value.clone(),
            "date" => value.as_str().map_or(Value::Null, |text| duration::age(Some(text), now).into()),
            _ => Value::Null,
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // a column of type integer shows the whole part
fn truncate(number: f64) -> i64 {
    number as i64
}

/// The age of an object, for columns.
pub fn created(object: &Value, now: Timestamp) -> Value {
    duration::age(object.pointer("/metadata/creationTimestamp").and_then(Value::as_str), now).into()
}

/// Which `meta.k8s.io` version the client asked for; both have the same shape.
pub const TABLE_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// The table of some objects.
///
/// `columns` are those beside the name, which always comes first (unless one of them has the format `name`); without any
/// there is the age. `headers` is false for all but the first event of a watch. `version` is one of [`TABLE_VERSIONS`].
pub fn table<'a>(
    columns: &[Column],
    objects: impl IntoIterator<Item = &'a Value>,
    meta: &ListMeta,
    include: IncludeObject,
    headers: bool,
    version: &str,
    now: Timestamp,
) -> Value {
    let mut shown: Vec<&Column> = Vec::with_capacity(columns.len() + 1);
    let (name, age) = (Column::name(), Column { kind: "date".into(), ..Column::age() });
    if !columns.iter().any(|column| column.format == "name") {
        shown.push(&name);
    }
    shown.extend(columns);
    if columns.is_empty() {
        shown.push(&age);
    }
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells: Vec<Value> = shown.iter().map(|column| column.cell(object, now)).collect();
            let embedded = match include {
                IncludeObject::None => Value::Null,
                IncludeObject::Metadata => partial_metadata_versioned(object, version),
                IncludeObject::Object => object.clone(),
            };
            json!({"cells": cells, "object": embedded})
        })
        .collect();
    let definitions = if headers { shown.iter().map(|column| column.definition()).collect() } else { Value::Null };
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": meta.to_value(), "columnDefinitions": definitions, "rows": rows,
    })
}

/// An object reduced to its metadata.
pub fn partial_metadata(object: &Value) -> Value {
    partial_metadata_versioned(object, "v1")
}

/// The same in a given `meta.k8s.io` version.
pub fn partial_metadata_versioned(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// A list reduced to metadata.
pub fn partial_metadata_list<'a>(
    objects: impl IntoIterator<Item = &'a Value>,
    meta: &ListMeta,
    version: &str,
) -> Value {
    let items: Vec<Value> = objects.into_iter().map(|o| partial_metadata_versioned(o, version)).collect();
    json!({
        "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": meta.to_value(), "items": items,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:05:12Z".parse().unwrap()
    }

    #[test]
    fn shows_the_columns_of_a_custom_resource() {
        let columns: Vec<Column> = [
            json!({"name": "Tier", "type": "string", "jsonPath": ".spec.tier"}),
            json!({"name": "Nodes", "type": "integer", "jsonPath": ".spec.nodes", "priority": 1}),
            json!({"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"}),
            json!({"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}),
        ]
        .iter()
        .map(|column| Column::from_crd(column).unwrap())
        .collect();
        let object = json!({"metadata": {"name": "prod", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"tier": "Dedicated", "nodes": 3}});
        let meta = ListMeta { resource_version: "7".into(), ..ListMeta::default() };
        let table = table(&columns, [&object], &meta, IncludeObject::None, true, "v1", now());
        assert_eq!(table["rows"][0]["cells"], json!(["prod", "Dedicated", 3, "5m12s", null]));
        assert_eq!(table["rows"][0]["object"], Value::Null);
        assert_eq!(table["columnDefinitions"][2]["priority"], 1);
        assert_eq!(table["metadata"], json!({"resourceVersion": "7"}));
    }

    #[test]
    fn falls_back_to_name_and_age() {
        let object = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": {}});
        let table = table(&[], [&object], &ListMeta::default(), IncludeObject::Metadata, false, "v1", now());
        assert_eq!(table["rows"][0]["cells"], json!(["x", "<unknown>"]));
        assert_eq!(
            table["rows"][0]["object"],
            json!({"kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "x"}})
        );
        assert_eq!(table["columnDefinitions"], Value::Null);
    }
}
