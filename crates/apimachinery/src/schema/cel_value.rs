//! JSON values as CEL values.
//!
//! In: a value and its node. Out: a CEL value with the types the schema gives: `number` is a double even when written
//! 1, `format: date-time`, `duration` and `byte` become timestamps, durations and bytes, field names are escaped so that
//! they are CEL identifiers, and of metadata only name and generateName are visible (the CRD documentation's rules).

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube_cel::cel::{
    Context,
    objects::{Key, Map, Value as Cel},
};
use serde_json::Value;

use super::{
    formats::Format,
    node::{Node, NodeType},
};

/// Words that CEL reserves; a field of that name is written `__word__`.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A field name as rules write it.
pub(super) fn escape(name: &str) -> Cow<'_, str> {
    if RESERVED.contains(&name) {
        return Cow::Owned(format!("__{name}__"));
    }
    if !name.contains("__") && !name.contains(['.', '-', '/']) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(
        name.replace("__", "__underscores__")
            .replace('.', "__dot__")
            .replace('-', "__dash__")
            .replace('/', "__slash__"),
    )
}

/// The CEL value of `value`. `resource`: the value is a whole object, with apiVersion, kind and metadata.
pub(super) fn convert(node: &Node, value: &Value, resource: bool, root: &Context) -> Cel {
    match value {
        Value::Object(map) => {
            let resource = resource || node.embedded_resource;
            let mut out = HashMap::with_capacity(map.len());
            let mut put = |name: Cow<'_, str>, value: Cel| {
                out.insert(Key::String(Arc::new(name.into_owned())), value);
            };
            for (name, child) in map {
                match (node.properties.get(name), &node.additional) {
                    _ if resource && name == "metadata" => {
                        put(Cow::Borrowed("metadata"), visible_metadata(child));
                    }
                    _ if resource && (name == "apiVersion" || name == "kind") => {
                        put(Cow::Borrowed(name), untyped(child));
                    }
                    (Some(schema), _) => put(escape(name), convert(schema, child, false, root)),
                    (None, Some(schema)) => {
                        put(Cow::Borrowed(name), convert(schema, child, false, root));
                    }
                    (None, None) => put(escape(name), untyped(child)),
                }
            }
            Cel::Map(Map { map: Arc::new(out) })
        }
        Value::Array(items) => {
            let items = items.iter().map(|item| match &node.items {
                Some(schema) => convert(schema, item, false, root),
                None => untyped(item),
            });
            Cel::List(Arc::new(items.collect()))
        }
        Value::Number(number) if node.kind == NodeType::Number => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) if node.kind == NodeType::String => {
            formatted(node.checks.format, text, root).unwrap_or_else(|| untyped(value))
        }
        other => untyped(other),
    }
}

fn visible_metadata(value: &Value) -> Cel {
    let visible = ["name", "generateName"].iter().filter_map(|name| {
        let child = value.get(*name)?;
        Some((Key::String(Arc::new((*name).to_owned())), untyped(child)))
    });
    Cel::Map(Map { map: Arc::new(visible.collect()) })
}

fn formatted(format: Option<Format>, text: &str, root: &Context) -> Option<Cel> {
    let Format::Text(name) = format? else {
        return None;
    };
    // The CEL library parses these itself: a one-call program keeps its time types out of here.
    let parse = |function: &str, text: &str| {
        let mut context = root.new_inner_scope();
        context.add_variable_from_value("text", text.to_owned());
        let program = kube_cel::cel::Program::compile(&format!("{function}(text)")).ok()?;
        program.execute(&context).ok()
    };
    match name {
        "date-time" => parse("timestamp", text),
        "date" => parse("timestamp", &format!("{text}T00:00:00Z")),
        "duration" => parse("duration", text),
        "byte" => STANDARD.decode(text).ok().map(|bytes| Cel::Bytes(Arc::new(bytes))),
        _ => None,
    }
}

/// A value without a schema, by its JSON type.
fn untyped(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Cel::Int(i),
            (None, Some(f)) => Cel::Float(f),
            (None, None) => Cel::Null,
        },
        Value::String(s) => Cel::String(Arc::new(s.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(untyped).collect())),
        Value::Object(map) => Cel::Map(Map {
            map: Arc::new(map.iter().map(|(k, v)| (Key::String(Arc::new(k.clone())), untyped(v))).collect()),
        }),
    }
}
