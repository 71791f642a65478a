//! Objects of built-in kinds in their protobuf form (`application/vnd.kubernetes.protobuf`).
//!
//! In: the bytes of a body as typed Go clients send them (`kubectl create` among them): a magic number and an envelope
//! with type and object. Out: the object as JSON. The fields come from a table of facts (`fields.txt`); answers are
//! always JSON, which those clients accept too. Called by [`crate::pipeline::Body::decode`].

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

/// What every such body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may lie in each other.
const DEPTH: usize = 64;

static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| table(include_str!("fields.txt")));

/// Fields of a message by their number.
type Message = HashMap<u64, Field>;

struct Field {
    json: &'static str,
    shown: Shown,
    shape: Shape,
    of: Scalar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// If it is not zero.
    NotZero,
    /// Whenever it was sent.
    Always,
    /// Its fields belong to the message around it.
    Inline,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    List,
    Map,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Text,
    Bool,
    Integer,
    Double,
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Json,
    Strings,
    Message(&'static str),
}

fn table(text: &'static str) -> HashMap<&'static str, Message> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, fields) = line.split_once(' ')?;
            Some((name, fields.split(' ').filter_map(field).collect()))
        })
        .collect()
}

fn field(text: &'static str) -> Option<(u64, Field)> {
    let mut parts = text.splitn(3, ':');
    let (json, number, mut kind) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let mut take = |mark: char| kind.strip_prefix(mark).map(|rest| kind = rest).is_some();
    let shown = match () {
        () if take('!') => Shown::Always,
        () if take('^') => Shown::Inline,
        () => {
            take('~');
            Shown::NotZero
        }
    };
    let shape = match () {
        () if take('*') => Shape::List,
        () if take('%') => Shape::Map,
        () => Shape::One,
    };
    let of = match kind {
        "s" => Scalar::Text,
        "b" => Scalar::Bool,
        "i" => Scalar::Integer,
        "d" => Scalar::Double,
        "y" => Scalar::Bytes,
        "q" => Scalar::Quantity,
        "n" => Scalar::IntOrString,
        "t" => Scalar::Time,
        "u" => Scalar::MicroTime,
        "r" => Scalar::Json,
        "l" => Scalar::Strings,
        name => Scalar::Message(name.strip_prefix('@')?),
    };
    Some((number, Field { json, shown, shape, of }))
}

/// Reads a body.
///
/// # Errors
/// What is wrong with it: no envelope, a kind without a protobuf form, or broken off.
pub fn decode(bytes: &[u8]) -> Result<Value, String> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or("the protobuf body does not begin with k8s\\0")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for part in Reader(envelope) {
        match part? {
            (1, Wire::Bytes(meta)) => {
                for part in Reader(meta) {
                    match part? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(object)) => raw = object,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind);
    let message = MESSAGES
        .get(name.as_str())
        .ok_or_else(|| format!("no kind {kind:?} is registered for version {api_version:?} in protobuf"))?;
    let mut object = Map::new();
    read(message, raw, &mut object, 0)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

/// `rbac.authorization.k8s.io/v1`, `Role` is `rbac/v1.Role`.
fn message_name(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        return "meta/v1.DeleteOptions".to_owned();
    }
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("core", api_version));
    let package = match group.split_once('.') {
        Some((first, _)) if group.ends_with(".k8s.io") => first,
        _ => group,
    };
    format!("{package}/{version}.{kind}")
}

fn read(message: &Message, bytes: &[u8], into: &mut Map<String, Value>, depth: usize) -> Result<(), String> {
    if depth > DEPTH {
        return Err("messages lie too deep in each other".to_owned());
    }
    for part in Reader(bytes) {
        let (number, wire) = part?;
        // What we do not know is ignored, as protobuf wants it.
        let Some(field) = message.get(&number) else { continue };
        match (field.shape, field.shown, field.of, wire) {
            (Shape::One, Shown::Inline, Scalar::Message(name), Wire::Bytes(bytes)) => {
                read(known(name)?, bytes, into, depth + 1)?;
            }
            (Shape::One, shown, of, wire) => {
                let value = scalar(of, &wire, depth)?;
                if shown == Shown::Always && !value.is_null() || !is_zero(&value) {
                    into.insert(field.json.into(), value);
                }
            }
            (Shape::List, _, Scalar::Integer, Wire::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let value = varint(&mut packed)?;
                    push(into, field.json, scalar(Scalar::Integer, &Wire::Varint(value), depth)?);
                }
            }
            (Shape::List, _, of, wire) => push(into, field.json, scalar(of, &wire, depth)?),
            (Shape::Map, _, of, Wire::Bytes(entry)) => {
                let (mut key, mut value) = (String::new(), None);
                for part in Reader(entry) {
                    match part? {
                        (1, Wire::Bytes(text)) => key = utf8(text)?,
                        (2, wire) => value = Some(scalar(of, &wire, depth)?),
                        _ => {}
                    }
                }
                let value = match value {
                    Some(value) => value,
                    None => scalar(of, &Wire::Bytes(&[]), depth)?,
                };
                let map = into.entry(field.json).or_insert_with(|| Value::Object(Map::new()));
                if let Some(map) = map.as_object_mut() {
                    map.insert(key, value);
                }
            }
            (Shape::Map, ..) => return Err(format!("{} is not a map", field.json)),
        }
    }
    Ok(())
}

fn known(name: &str) -> Result<&'static Message, String> {
    MESSAGES.get(name).ok_or_else(|| format!("the message {name} is not described"))
}

fn push(into: &mut Map<String, Value>, name: &str, value: Value) {
    if let Some(list) = into.entry(name).or_insert_with(|| Value::Array(Vec::new())).as_array_mut() {
        list.push(value);
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn scalar(of: Scalar, wire: &Wire<'_>, depth: usize) -> Result<Value, String> {
    Ok(match (of, wire) {
        (Scalar::Text, Wire::Bytes(text)) => utf8(text)?.into(),
        (Scalar::Bool, Wire::Varint(value)) => (*value != 0).into(),
        // Integers are signed: negative ones fill all 64 bits.
        (Scalar::Integer, Wire::Varint(value)) => value.cast_signed().into(),
        (Scalar::Double, Wire::Fixed64(bits)) => Number::from_f64(f64::from_bits(*bits)).into(),
        (Scalar::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Scalar::Quantity, Wire::Bytes(bytes)) => match inner(bytes, 1)? {
            Some(Wire::Bytes(text)) => utf8(text)?.into(),
            _ => Value::Null,
        },
        (Scalar::IntOrString, Wire::Bytes(bytes)) => match inner(bytes, 1)? {
            Some(Wire::Varint(1)) => match inner(bytes, 3)? {
                Some(Wire::Bytes(text)) => utf8(text)?.into(),
                _ => "".into(),
            },
            _ => match inner(bytes, 2)? {
                Some(Wire::Varint(value)) => value.cast_signed().into(),
                _ => 0.into(),
            },
        },
        (Scalar::Time, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%SZ")?,
        (Scalar::MicroTime, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%S.%6fZ")?,
        (Scalar::Json, Wire::Bytes(bytes)) => match inner(bytes, 1)? {
            Some(Wire::Bytes(raw)) if !raw.is_empty() => serde_json::from_slice(raw).map_err(|e| e.to_string())?,
            _ => Value::Null,
        },
        (Scalar::Strings, Wire::Bytes(bytes)) => {
            let mut items = Vec::new();
            for part in Reader(bytes) {
                if let (1, Wire::Bytes(text)) = part? {
                    items.push(Value::String(utf8(text)?));
                }
            }
            items.into()
        }
        (Scalar::Message(name), Wire::Bytes(bytes)) => {
            let mut map = Map::new();
            read(known(name)?, bytes, &mut map, depth + 1)?;
            map.into()
        }
        _ => return Err("a field is of another type than its number says".to_owned()),
    })
}

/// The last field of this number in a small message.
fn inner(bytes: &[u8], wanted: u64) -> Result<Option<Wire<'_>>, String> {
    let mut found = None;
    for part in Reader(bytes) {
        let (number, wire) = part?;
        if number == wanted {
            found = Some(wire);
        }
    }
    Ok(found)
}

fn time(bytes: &[u8], format: &str) -> Result<Value, String> {
    let number = |wanted| -> Result<i64, String> {
        Ok(match inner(bytes, wanted)? {
            Some(Wire::Varint(value)) => value.cast_signed(),
            _ => 0,
        })
    };
    let (seconds, nanos) = (number(1)?, number(2)?);
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|e| e.to_string())?;
    let time = Timestamp::new(seconds, nanos).map_err(|e| e.to_string())?;
    Ok(time.strftime(format).to_string().into())
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|e| e.to_string())
}

enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message in the order they were sent. Ends after the first fault.
struct Reader<'a>(&'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u64, Wire<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_err() {
            self.0 = &[];
        }
        Some(part)
    }
}

impl<'a> Reader<'a> {
    fn part(&mut self) -> Result<(u64, Wire<'a>), String> {
        let tag = varint(&mut self.0)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut self.0)?),
            1 => {
                let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| "broken off".to_owned())?;
                Wire::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|e| e.to_string())?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Other
            }
            other => return Err(format!("unknown wire type {other}")),
        };
        Ok((tag >> 3, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("the message is broken off")?;
        self.0 = rest;
        Ok(taken)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or("the message is broken off")?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn number(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
        out
    }

    fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
        [number(field << 3 | 2), number(content.len() as u64), content.to_vec()].concat()
    }

    fn int(field: u64, value: i64) -> Vec<u8> {
        [number(field << 3), number(value.cast_unsigned())].concat()
    }

    fn body(api_version: &str, kind: &str, object: &[Vec<u8>]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, &object.concat())].concat()
    }

    #[test]
    fn a_secret() {
        let metadata = [
            bytes(1, b"s"),
            bytes(2, b""),
            int(7, 0),
            bytes(8, b""),
            bytes(11, &[bytes(1, b"a"), bytes(2, b"")].concat()),
        ];
        let data = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let sent =
            body("v1", "Secret", &[bytes(1, &metadata.concat()), bytes(2, &data), bytes(3, b"Opaque"), int(5, 0)]);
        assert_eq!(
            decode(&sent).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"a": ""}},
                "data": {"k": "dg=="}, "type": "Opaque", "immutable": false})
        );
    }

    #[test]
    fn a_role_and_its_group() {
        let rule = [bytes(1, b"get"), bytes(1, b"list"), bytes(2, b""), bytes(3, b"pods")].concat();
        let sent = body("rbac.authorization.k8s.io/v1", "Role", &[bytes(1, &bytes(1, b"r")), bytes(2, &rule)]);
        assert_eq!(
            decode(&sent).unwrap()["rules"],
            json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}])
        );
    }

    #[test]
    fn ports_times_and_negative_numbers() {
        let port = [int(3, 80), bytes(4, &[int(1, 1), bytes(3, b"http")].concat()), int(5, 0)].concat();
        let sent = body("v1", "Service", &[bytes(2, &bytes(1, &port))]);
        assert_eq!(decode(&sent).unwrap()["spec"]["ports"], json!([{"port": 80, "targetPort": "http"}]));
        let spec = bytes(4, &[int(1, 1_800_000_000), int(2, 123_456_000)].concat());
        let sent = body("coordination.k8s.io/v1", "Lease", &[bytes(2, &spec)]);
        assert_eq!(decode(&sent).unwrap()["spec"], json!({"renewTime": "2027-01-15T08:00:00.123456Z"}));
        let sent = body("scheduling.k8s.io/v1", "PriorityClass", &[int(2, -5)]);
        assert_eq!(decode(&sent).unwrap()["value"], -5);
    }

    #[test]
    fn what_stands_inline_is_lifted() {
        let volume = [bytes(1, b"v"), bytes(2, &bytes(2, &[]))].concat();
        let sent = body("v1", "Pod", &[bytes(2, &bytes(1, &volume))]);
        assert_eq!(decode(&sent).unwrap()["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        assert!(decode(b"{}").is_err());
        assert!(decode(b"k8s\0\xff\xff\xff").is_err());
        let unknown = decode(&body("example.com/v1", "Thing", &[])).unwrap_err();
        assert!(unknown.contains("Thing"), "{unknown}");
        let good = body("v1", "Secret", &[bytes(1, &bytes(1, b"s"))]);
        for end in 4..good.len() {
            let _ = decode(&good[..end]);
        }
        let mut deep = Vec::new();
        for _ in 0..200 {
            deep = bytes(2, &deep);
        }
        let _ = decode(&body("v1", "Pod", &[deep]));
    }

    #[test]
    fn every_message_of_the_table_is_described() {
        for (name, message) in MESSAGES.iter() {
            for field in message.values() {
                if let Scalar::Message(other) = field.of {
                    assert!(MESSAGES.contains_key(other), "{name}.{} is of the unknown message {other}", field.json);
                }
            }
        }
        assert!(MESSAGES.len() > 300);
    }
}
