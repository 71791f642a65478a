//! `metadata.managedFields`: who owns which field.
//!
//! In: the JSON of an object's managedFields. Out: [`Managed`], an ordered list of owners with their field sets, and
//! back. An owner is identified by manager, operation and subresource, for updates also by apiVersion.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::field_set::FieldSet;

/// How an owner came to own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// Owners beyond this many updaters are merged into one.
const MAX_UPDATERS: usize = 10;

/// One entry of managedFields.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owner {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// As stored; seconds, UTC.
    pub(super) time: Option<String>,
    pub(super) fields: FieldSet,
}

impl Owner {
    /// Whether both entries belong to the same owner.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// The owner as conflicts name it.
    pub(super) fn shown(&self) -> String {
        let mut text = Value::from(self.manager.as_str()).to_string();
        if !self.subresource.is_empty() {
            text.push_str(" with subresource ");
            text.push_str(&Value::from(self.subresource.as_str()).to_string());
        }
        if self.operation == Operation::Update {
            text.push_str(" using ");
            text.push_str(&self.api_version);
        }
        text
    }

    fn decode(json: &Value) -> Option<Self> {
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if !matches!(text("fieldsType"), "FieldsV1") {
            return None;
        }
        let fields = match json.get("fieldsV1") {
            None | Some(Value::Null) => FieldSet::default(),
            Some(fields) => FieldSet::from_fields_v1(fields)?,
        };
        Some(Self {
            manager: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: json.get("time").and_then(Value::as_str).map(str::to_owned),
            fields,
        })
    }

    fn encode(&self) -> Value {
        let mut entry = Map::new();
        let mut put = |key: &str, value: &str| {
            if !value.is_empty() {
                entry.insert(key.to_owned(), Value::from(value));
            }
        };
        put("apiVersion", &self.api_version);
        put("fieldsType", "FieldsV1");
        put("manager", &self.manager);
        put(
            "operation",
            match self.operation {
                Operation::Apply => "Apply",
                Operation::Update => "Update",
            },
        );
        put("subresource", &self.subresource);
        put("time", self.time.as_deref().unwrap_or_default());
        entry.insert("fieldsV1".to_owned(), self.fields.to_fields_v1());
        Value::Object(entry)
    }
}

/// All owners of an object's fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Managed {
    pub(super) owners: Vec<Owner>,
}

impl Managed {
    /// Reads an object's managedFields. None if any entry is malformed.
    pub(super) fn decode(object: &Value) -> Option<Self> {
        let entries = object.pointer("/metadata/managedFields");
        let owners = match entries {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(entries)) => entries.iter().map(Owner::decode).collect::<Option<_>>()?,
            Some(_) => return None,
        };
        Some(Self { owners })
    }

    /// Whether an object asks for its ownership to be forgotten: `managedFields: [{}]`.
    pub(super) fn is_reset(object: &Value) -> bool {
        object.pointer("/metadata/managedFields") == Some(&json!([{}]))
    }

    /// Writes managedFields into an object.
    pub(super) fn encode_into(&self, object: &mut Value) {
        let Some(object) = object.as_object_mut() else {
            return;
        };
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if metadata.is_null() {
            *metadata = Value::Object(Map::new());
        }
        let Some(metadata) = metadata.as_object_mut() else {
            return;
        };
        let mut owners: Vec<&Owner> = self.owners.iter().filter(|owner| !owner.fields.is_empty()).collect();
        owners.sort_by(|a, b| {
            let key = |o: &Owner| {
                (o.operation, o.time.clone(), o.manager.clone(), o.api_version.clone(), o.subresource.clone())
            };
            key(a).cmp(&key(b))
        });
        if owners.is_empty() {
            metadata.remove("managedFields");
        } else {
            let entries = owners.into_iter().map(Owner::encode).collect();
            metadata.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }

    /// The entry of the same owner.
    pub(super) fn find(&self, owner: &Owner) -> Option<&Owner> {
        self.owners.iter().find(|o| o.is(owner))
    }

    /// Puts an entry in the place of the same owner's.
    pub(super) fn put(&mut self, owner: Owner) {
        match self.owners.iter_mut().find(|o| o.is(&owner)) {
            Some(entry) => *entry = owner,
            None => self.owners.push(owner),
        }
    }

    /// Drops owners of nothing.
    pub(super) fn drop_empty(&mut self) {
        self.owners.retain(|owner| !owner.fields.is_empty());
    }

    /// Merges the oldest updaters into `ancient-changes` (one per apiVersion) when there are too many.
    pub(super) fn cap(&mut self) {
        let updates = |o: &Owner| o.operation == Operation::Update;
        let mut count = self.owners.iter().filter(|o| updates(o)).count();
        if count <= MAX_UPDATERS {
            return;
        }
        let (mut updaters, appliers): (Vec<Owner>, Vec<Owner>) =
            std::mem::take(&mut self.owners).into_iter().partition(updates);
        self.owners = appliers;
        updaters.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
        let mut buckets: Vec<Owner> = Vec::new();
        let mut rest = Vec::new();
        for owner in updaters {
            if count <= MAX_UPDATERS {
                rest.push(owner);
                continue;
            }
            match buckets.iter_mut().find(|b| b.api_version == owner.api_version) {
                Some(bucket) => {
                    bucket.manager = "ancient-changes".to_owned();
                    bucket.subresource = String::new();
                    bucket.fields = bucket.fields.union(&owner.fields);
                    bucket.time = owner.time;
                    count -= 1;
                }
                None => buckets.push(owner),
            }
        }
        for owner in buckets.into_iter().chain(rest) {
            match self.owners.iter_mut().find(|o| o.is(&owner)) {
                Some(entry) => {
                    entry.fields = entry.fields.union(&owner.fields);
                    entry.time = entry.time.clone().max(owner.time);
                }
                None => self.owners.push(owner),
            }
        }
    }
}

/// A time as managedFields store it: RFC 3339, seconds, UTC.
pub(super) fn stamp(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
