//! Decodes only what somebody will read. In: the JSON text of an object and a [`Keep`]. Out: the object without the rest,
//! which was skipped while it was read. Used by the informer: field ownership and schemas are most of many objects, and
//! as a tree they take ten times the bytes they have as text.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};

/// Which entries of `metadata.managedFields` are decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ManagedFields {
    /// All.
    #[default]
    All,
    /// None.
    None,
    /// Those of one manager.
    Of(&'static str),
}

/// What of an object is decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Whose field ownership.
    pub managed_fields: ManagedFields,
    /// Members that nobody reads, by their path from the root. Lists cannot be passed through.
    pub leave_out: &'static [&'static [&'static str]],
}

impl Keep {
    /// Everything but field ownership.
    pub const UNMANAGED: Self = Self { managed_fields: ManagedFields::None, leave_out: &[] };

    /// The object, without what is not kept.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn decode(&self, json: &[u8]) -> serde_json::Result<Value> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let value = Node { keep: self, paths: self.leave_out.to_vec(), place: Place::Root }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Metadata,
    Elsewhere,
}

/// One object on the way to something that is left out.
struct Node<'a> {
    keep: &'a Keep,
    /// What is left out below here.
    paths: Vec<&'static [&'static str]>,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let nothing_to_skip =
            self.paths.is_empty() && (self.place == Place::Elsewhere || self.keep.managed_fields == ManagedFields::All);
        if nothing_to_skip { Value::deserialize(deserializer) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if self.paths.iter().any(|path| path.len() == 1 && path[0] == key) {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            if self.place == Place::Metadata && key == "managedFields" {
                match self.keep.managed_fields {
                    ManagedFields::None => drop(members.next_value::<IgnoredAny>()?),
                    ManagedFields::All => drop(object.insert(key, members.next_value()?)),
                    ManagedFields::Of(manager) => drop(object.insert(key, members.next_value_seed(Entries(manager))?)),
                }
                continue;
            }
            let below = self.paths.iter().filter(|path| path.first() == Some(&key.as_str())).map(|path| &path[1..]);
            let place = if self.place == Place::Root && key == "metadata" { Place::Metadata } else { Place::Elsewhere };
            let node = Node { keep: self.keep, paths: below.collect(), place };
            let value = members.next_value_seed(node)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

/// Entries of one manager.
struct Entries(&'static str);

impl<'de> DeserializeSeed<'de> for Entries {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        #[derive(serde::Deserialize)]
        struct Entry {
            #[serde(default)]
            manager: String,
        }
        let all = Option::<Vec<&'de RawValue>>::deserialize(deserializer)?.unwrap_or_default();
        let mine = all
            .into_iter()
            .filter(|raw| serde_json::from_str::<Entry>(raw.get()).is_ok_and(|entry| entry.manager == self.0));
        let decoded: Result<Vec<Value>, _> = mine.map(|raw| serde_json::from_str(raw.get())).collect();
        decoded.map(Value::Array).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "kind": "T", "metadata": {"name": "a", "managedFields": [
                {"fieldsV1": {"f:spec": {}}, "manager": "me", "operation": "Apply"},
                {"fieldsV1": {"f:x": {}}, "manager": "you"},
            ], "generation": -1},
            "spec": {"managedFields": [1], "versions": [{"schema": {}}], "names": {"kind": "K", "plural": 1.5}},
            "status": null, "ok": true,
        })
    }

    #[test]
    fn everything_is_kept_unless_told_otherwise() {
        let text = object().to_string();
        assert_eq!(Keep::default().decode(text.as_bytes()).unwrap(), object());
        for scalar in ["1", "\"x\"", "null", "[1,{\"metadata\":1}]"] {
            let value: Value = serde_json::from_str(scalar).unwrap();
            assert_eq!(Keep::UNMANAGED.decode(scalar.as_bytes()).unwrap(), value);
        }
        assert!(Keep::UNMANAGED.decode(b"{} x").is_err());
    }

    #[test]
    fn ownership_of_others_is_skipped() {
        let text = object().to_string();
        let mut expected = object();
        let keep = Keep { managed_fields: ManagedFields::Of("me"), leave_out: &[] };
        expected["metadata"]["managedFields"].as_array_mut().unwrap().pop();
        assert_eq!(keep.decode(text.as_bytes()).unwrap(), expected);
        expected["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(Keep::UNMANAGED.decode(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn members_are_left_out_by_path() {
        let keep = Keep {
            managed_fields: ManagedFields::All,
            leave_out: &[&["spec", "versions"], &["spec", "names", "kind"]],
        };
        let mut expected = object();
        expected["spec"].as_object_mut().unwrap().remove("versions");
        expected["spec"]["names"].as_object_mut().unwrap().remove("kind");
        assert_eq!(keep.decode(object().to_string().as_bytes()).unwrap(), expected);
    }
}
