//! YAML as kubectl reads it. In: text. Out: JSON values, one a document; and the way back.
//!
//! kubectl's library resolves plain scalars by YAML 1.1: `y`, `no` and `on` are booleans (as keys too, where they become
//! `"true"` and `"false"`), `0755` is octal. A file that means something to kubectl must mean the same to us. What that
//! library accepts and nobody means is refused: duplicate keys, keys that are no scalars, numbers that JSON lacks.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Tag};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 256;
/// Most nodes of a text after its aliases are expanded (a few lines could otherwise mean terabytes).
const MAX_NODES: usize = 1_000_000;

/// Text that is not YAML, or YAML that is not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    /// Line of the text, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// All documents of a text; documents without content are left out.
///
/// # Errors
/// The first place that cannot be read.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let mut documents = Vec::new();
    let mut builder = Builder::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| YamlError { line: error.marker().line(), message: error.info() })?;
        let line = span.start.line();
        let wrong = |message: String| YamlError { line, message };
        match event {
            Event::DocumentStart(..) => builder = Builder::default(),
            Event::DocumentEnd => documents.extend(builder.root.take().filter(|value| !value.is_null())),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref()).map_err(wrong)?;
                let merge = style == ScalarStyle::Plain && text == "<<" && tag.is_none();
                builder.value(value, anchor, merge).map_err(wrong)?;
            }
            Event::SequenceStart(_, anchor, _) => builder.open(Open::List(Vec::new()), anchor).map_err(wrong)?,
            Event::MappingStart(_, anchor, _) => {
                builder.open(Open::Map { map: Map::new(), merged: Vec::new(), key: None }, anchor).map_err(wrong)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close().map_err(wrong)?,
            Event::Alias(anchor) => {
                let value = builder.anchors.get(&anchor).cloned();
                let value = value.ok_or_else(|| wrong("an alias inside of what it stands for".to_owned()))?;
                builder.nodes += size(&value);
                builder.value(value, 0, false).map_err(wrong)?;
            }
            _ => {}
        }
        if builder.nodes > MAX_NODES {
            return Err(YamlError { line, message: format!("more than {MAX_NODES} values") });
        }
    }
    Ok(documents)
}

/// The only document of a text.
///
/// # Errors
/// When there is none or more than one, too.
pub fn document(text: &str) -> Result<Value, YamlError> {
    let mut all = documents(text)?;
    match (all.pop(), all.is_empty()) {
        (Some(value), true) => Ok(value),
        (None, _) => Err(YamlError { line: 1, message: "there is nothing in it".to_owned() }),
        _ => Err(YamlError { line: 1, message: "there is more than one document in it".to_owned() }),
    }
}

enum Key {
    Name(String),
    Merge,
}

enum Open {
    List(Vec<Value>),
    Map { map: Map<String, Value>, merged: Vec<Value>, key: Option<Key> },
}

#[derive(Default)]
struct Builder {
    stack: Vec<(Open, usize)>,
    anchors: HashMap<usize, Value>,
    root: Option<Value>,
    nodes: usize,
}

impl Builder {
    fn open(&mut self, open: Open, anchor: usize) -> Result<(), String> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        if matches!(self.stack.last(), Some((Open::Map { key: None, .. }, _))) {
            return Err("a key must be a scalar".to_owned());
        }
        self.stack.push((open, anchor));
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let (value, anchor) = match self.stack.pop() {
            Some((Open::List(list), anchor)) => (Value::Array(list), anchor),
            Some((Open::Map { mut map, merged, .. }, anchor)) => {
                for (name, value) in merged.into_iter().filter_map(into_map).flatten() {
                    map.entry(name).or_insert(value);
                }
                (Value::Object(map), anchor)
            }
            None => return Ok(()),
        };
        self.value(value, anchor, false)
    }

    fn value(&mut self, value: Value, anchor: usize, merge: bool) -> Result<(), String> {
        self.nodes += 1;
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(value),
            Some((Open::List(list), _)) => list.push(value),
            Some((Open::Map { key: key @ None, .. }, _)) => {
                *key = Some(if merge { Key::Merge } else { Key::Name(name(value)?) });
            }
            Some((Open::Map { map, merged, key }, _)) => match key.take() {
                Some(Key::Name(name)) => {
                    if map.contains_key(&name) {
                        return Err(format!("the key {name:?} is there twice"));
                    }
                    map.insert(name, value);
                }
                _ => match value {
                    Value::Object(_) => merged.push(value),
                    Value::Array(maps) if maps.iter().all(Value::is_object) => merged.extend(maps),
                    _ => return Err("<< takes a mapping or a list of mappings".to_owned()),
                },
            },
        }
        Ok(())
    }
}

fn into_map(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

fn name(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err("a key must be a text, a number or a boolean".to_owned()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match tag.and_then(Tag::core_suffix) {
        Some("str") => Ok(Value::String(text.to_owned())),
        Some("int" | "float" | "bool" | "null") => resolve(text),
        _ if style == ScalarStyle::Plain && tag.is_none() => resolve(text),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// What a plain scalar means by YAML 1.1, as Kubernetes' library resolves it.
fn resolve(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => {
            return Err(format!("{text} is a number that JSON does not have"));
        }
        _ => match text.as_bytes()[0] {
            b'0'..=b'9' | b'+' | b'-' | b'.' => {
                number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
            }
            _ => Value::String(text.to_owned()),
        },
    })
}

fn number(text: &str) -> Option<Number> {
    let plain = text.replace('_', "");
    if let Some(integer) = integer(&plain) {
        return Some(integer);
    }
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let well_formed = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    if !well_formed || exponent.is_some_and(|e| e.is_empty() || !digits(e)) {
        return None;
    }
    let value: f64 = plain.parse().ok().filter(|value: &f64| value.is_finite())?;
    // As Go's JSON encoder: a whole number has no fraction.
    if value.fract() == 0.0 && value.abs() < 1e15 { Some((value as i64).into()) } else { Number::from_f64(value) }
}

fn integer(plain: &str) -> Option<Number> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    if negative { 0i64.checked_sub_unsigned(value).map(Number::from) } else { Some(value.into()) }
}

/// A value as a YAML document, in block style, without a `---` line. Whatever reads YAML 1.1 or 1.2 reads the same value.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(map, 0, &mut out),
        Value::Array(list) if !list.is_empty() => write_list(list, 0, &mut out),
        _ => {
            write_leaf(value, &mut out);
            out.push('\n');
        }
    }
    out
}

fn write_map(map: &Map<String, Value>, indent: usize, out: &mut String) {
    for (at, (name, value)) in map.iter().enumerate() {
        if at > 0 || out.ends_with('\n') || out.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        write_text(name, out);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                write_map(inner, indent + 2, out);
            }
            Value::Array(list) if !list.is_empty() => {
                out.push('\n');
                write_list(list, indent, out);
            }
            _ => {
                out.push(' ');
                write_leaf(value, out);
                out.push('\n');
            }
        }
    }
}

fn write_list(list: &[Value], indent: usize, out: &mut String) {
    for (at, value) in list.iter().enumerate() {
        if at > 0 || out.ends_with('\n') || out.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => write_map(map, indent + 2, out),
            Value::Array(inner) if !inner.is_empty() => write_list(inner, indent + 2, out),
            _ => {
                write_leaf(value, out);
                out.push('\n');
            }
        }
    }
}

fn write_leaf(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => write_text(text, out),
        // Numbers, booleans, null, `[]` and `{}` are the same in JSON.
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    let ordinary = |c: char| {
        c.is_alphanumeric()
            || matches!(c, '-' | '_' | '.' | '/' | '$' | '(' | ')' | '+' | '=' | ';' | '<' | '>' | '^' | '~')
    };
    let inner = |c: char| ordinary(c) || matches!(c, ' ' | ':' | ',' | '\'' | '"' | '@');
    let starts_well = text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '/' | '$' | '_' | '('));
    let plain = starts_well
        && text.chars().all(inner)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && resolve(text) == Ok(Value::String(text.to_owned()));
    if plain {
        out.push_str(text);
    } else {
        // A JSON string is a double-quoted YAML scalar.
        let _ = write!(out, "{}", Value::String(text.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        let text = "a: y\nb: No\nc: on\nd: 'on'\ne: 0755\nf: 0x1F\ng: 1_000\nh: 1e3\ni: 09\nj: ~\nk: 2026-11-21\nl: 1.50\nm: 12:30\nn: -0b11\no: !!str 5\np: 1.2.3\nq: 0o17\nr: +7\ns: .\n";
        let value = document(text).unwrap();
        assert_eq!(
            value,
            json!({"a": true, "b": false, "c": true, "d": "on", "e": 493, "f": 31, "g": 1000, "h": 1000, "i": 9, "j": null,
                "k": "2026-11-21", "l": 1.5, "m": "12:30", "false": -3, "o": "5", "p": "1.2.3", "q": 15, "r": 7, "s": "."}),
            "the key n is a boolean too"
        );
    }

    #[test]
    fn keys_are_resolved_like_values() {
        assert_eq!(document("y: 1\nno: 2\n3: 4\n'on': 5").unwrap(), json!({"true": 1, "false": 2, "3": 4, "on": 5}));
        assert!(document("[a]: 1").is_err());
        assert!(document("~: 1").is_err());
    }

    #[test]
    fn several_documents_with_empty_ones_between() {
        let all = documents("---\n# only talk\n---\na: 1\n---\n---\nb: 2\n...\n").unwrap();
        assert_eq!(all, [json!({"a": 1}), json!({"b": 2})]);
        assert_eq!(documents("").unwrap(), [] as [Value; 0]);
        assert!(document("a: 1\n---\nb: 2").is_err());
        assert_eq!(document("{\"a\": [1, {\"b\": null}]}").unwrap(), json!({"a": [1, {"b": null}]}), "JSON is YAML");
    }

    #[test]
    fn anchors_aliases_and_merges() {
        let text = "base: &b {x: 1, y2: 2}\nuse: *b\nmerged:\n  <<: *b\n  x: 3\n";
        assert_eq!(document(text).unwrap()["merged"], json!({"x": 3, "y2": 2}));
        assert_eq!(document(text).unwrap()["use"], json!({"x": 1, "y2": 2}));
    }

    #[test]
    fn mistakes_name_their_line() {
        assert_eq!(
            document("a: 1\nb: 2\na: 3").unwrap_err(),
            YamlError { line: 3, message: "the key \"a\" is there twice".into() }
        );
        assert_eq!(document("a: 1\nb: [1, 2").unwrap_err().line, 2);
        assert!(document("a: .inf").is_err());
        assert!(document("a: &x [*x]").is_err());
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let before = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", ")));
        }
        assert!(document(&text).unwrap_err().message.contains("more than"));
        assert!(document(&"[".repeat(5000)).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({"y": "no", "n": "0755", "empty": "", "list": [[1, 2], {"a": "b: c", "d": []}, "- x", "multi\nline"],
            "map": {}, "null": null, "t": "true", "space ": " x ", "u": "ü:", "#": "# no comment", "f": 1.5, "*": "&a", "deep": {"er": [{"x": {"y2": 1}}]}});
        assert_eq!(document(&write(&value)).unwrap(), value, "{}", write(&value));
        assert_eq!(write(&json!({"a": {"b": [{"c": "x", "d": 1}, "e"]}})), "a:\n  b:\n  - c: x\n    d: 1\n  - e\n");
    }
}
