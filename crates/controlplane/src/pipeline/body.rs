//! Request bodies: JSON or YAML into a value, with the fields that came twice.
//!
//! Flows in: bytes and a media type. Flows out: a [`Body`]. Duplicates are found while reading, because a finished JSON
//! value no longer shows them; the last one wins, as in Kubernetes.

use std::cell::RefCell;
use std::fmt;

use apimachinery::status::StatusError;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A decoded body.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// What it says.
    pub value: Value,
    /// Paths of fields that occur more than once.
    pub duplicates: Vec<String>,
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self { value, duplicates: Vec::new() }
    }
}

/// The formats of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json` and its relatives.
    Json,
    /// `application/yaml`; JSON is a part of it.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`, for built-in kinds.
    Protobuf,
}

impl Body {
    /// Reads a body.
    pub fn decode(bytes: &[u8], format: Format) -> Result<Self, StatusError> {
        let duplicates = RefCell::new(Vec::new());
        let seed = Seed { path: String::new(), duplicates: &duplicates };
        let value = match format {
            Format::Json => decode_json(bytes, seed),
            // Apply patches are declared as YAML and mostly are JSON: the faster reader first.
            Format::Yaml => match decode_json(bytes, Seed { path: String::new(), duplicates: &RefCell::default() }) {
                Ok(_) => decode_json(bytes, seed),
                Err(_) => decode_yaml(bytes),
            },
            Format::Protobuf => crate::registry::protobuf::decode(bytes),
        };
        let value = value.map_err(|why| StatusError::bad_request(format!("error decoding the request body: {why}")))?;
        Ok(Self { value, duplicates: duplicates.into_inner() })
    }
}

fn decode_json(bytes: &[u8], seed: Seed<'_>) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = seed.deserialize(&mut reader).map_err(|e| e.to_string())?;
    reader.end().map_err(|e| e.to_string())?;
    Ok(value)
}

fn decode_yaml(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    apimachinery::yaml::document(text).map_err(|e| format!("yaml: {e}"))
}

/// Reads a value below a path.
struct Seed<'a> {
    path: String,
    duplicates: &'a RefCell<Vec<String>>,
}

impl Seed<'_> {
    fn below(&self, step: &str, index: bool) -> Self {
        let path = match (self.path.is_empty(), index) {
            (_, true) => format!("{}[{step}]", self.path),
            (true, false) => step.to_owned(),
            (false, false) => format!("{}.{step}", self.path),
        };
        Seed { path, duplicates: self.duplicates }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self.below(&list.len().to_string(), true))? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let seed = self.below(&key, false);
            let path = seed.path.clone();
            let value = access.next_value_seed(seed)?;
            if map.insert(key, value).is_some() && !self.duplicates.borrow().contains(&path) {
                self.duplicates.borrow_mut().push(path);
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_shows_its_duplicates() {
        let body = Body::decode(br#"{"a":1,"b":[{"c":1,"c":2.5}],"a":{"x":null}}"#, Format::Json).unwrap();
        assert_eq!(body.value, json!({"a": {"x": null}, "b": [{"c": 2.5}]}));
        assert_eq!(body.duplicates, ["b[0].c", "a"]);
        assert!(Body::decode(b"{} x", Format::Json).is_err());
    }

    #[test]
    fn yaml_is_read() {
        let body = Body::decode(b"a: 1\nb:\n- c: yes\n  d: '1'\n  e:\n", Format::Yaml).unwrap();
        assert_eq!(body.value["a"], json!(1));
        assert_eq!(body.value["b"][0]["c"], json!(true));
        assert_eq!(body.value["b"][0]["d"], json!("1"));
        assert_eq!(body.value["b"][0]["e"], json!(null));
        let same = Body::decode(br#"{"a":1,"a":2}"#, Format::Yaml).unwrap();
        assert_eq!((same.value, same.duplicates), (json!({"a": 2}), vec!["a".to_owned()]));
    }
}
