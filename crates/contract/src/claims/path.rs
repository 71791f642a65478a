//! The path language of claims.
//!
//! A path that starts with `.`, `$` or `{` is Kubernetes JSONPath. A bare one is read as the Go release reads it: dotted
//! keys, `\` before a character that is meant literally, `#` for every element of a list, numbers for one element.
//! Anything else of that language (wildcards, queries, modifiers, pipes) is refused rather than half understood.

use std::fmt;

use apimachinery::jsonpath::JsonPath;
use serde_json::Value;

/// A path is not of the language.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing there.
    #[error("is empty; write for example .metadata.name")]
    Empty,
    /// Not valid JSONPath.
    #[error("{0}")]
    JsonPath(String),
    /// A part of the bare language that is not supported.
    #[error(
        "{0} is not supported in a bare path; dotted keys, \\ escapes, # and list indices are, or begin with a dot for JSONPath"
    )]
    Unsupported(String),
    /// Leads into what the other side writes.
    #[error("leads into {0}, which the provider writes; a name must be the consumer's")]
    NotTheConsumers(&'static str),
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    text: String,
    language: Language,
}

#[derive(Clone, Debug, PartialEq)]
enum Language {
    Json(JsonPath),
    Bare(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Each,
}

impl Path {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let trimmed = text.trim();
        let Some(first) = trimmed.chars().next() else {
            return Err(PathError::Empty);
        };
        let language = if matches!(first, '.' | '$' | '{') {
            if trimmed.trim_matches(['.', '$', '{', '}', ' ']).is_empty() {
                return Err(PathError::Empty);
            }
            Language::Json(JsonPath::parse(trimmed).map_err(|error| PathError::JsonPath(error.to_string()))?)
        } else {
            Language::Bare(parse_bare(trimmed)?)
        };
        let path = Self { text: trimmed.to_owned(), language };
        match path.plain_fields().and_then(|fields| fields.first().map(|field| (*field).to_owned())).as_deref() {
            Some("status") => Err(PathError::NotTheConsumers("status")),
            _ => Ok(path),
        }
    }

    /// The field names if the path is nothing but plain fields.
    pub fn plain_fields(&self) -> Option<Vec<&str>> {
        match &self.language {
            Language::Json(path) => path.plain_fields(),
            Language::Bare(steps) => steps
                .iter()
                .map(|step| match step {
                    Step::Key(key) if key.parse::<usize>().is_err() => Some(key.as_str()),
                    _ => None,
                })
                .collect(),
        }
    }

    /// Whether it is the referring object's own name.
    pub fn is_own_name(&self) -> bool {
        self.plain_fields().is_some_and(|fields| fields == ["metadata", "name"])
    }

    /// The texts it leads to: strings, and the elements of lists of strings; trimmed, without empty ones.
    pub fn strings(&self, object: &Value) -> Vec<String> {
        let mut out = Vec::new();
        match &self.language {
            Language::Json(path) => path.find(object).into_iter().for_each(|value| flatten(value, &mut out)),
            Language::Bare(steps) => walk(steps, object, &mut out),
        }
        out
    }

    /// The same text for paths that mean the same.
    pub fn canonical(&self) -> String {
        match self.plain_fields() {
            Some(fields) => {
                fields.iter().map(|field| field.replace('\\', "\\\\").replace('.', "\\.")).collect::<Vec<_>>().join(".")
            }
            None => self.text.clone(),
        }
    }
}

impl fmt::Display for Path {
    /// As people read it: `spec.tokenSecret`, without the leading dot or the braces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(&self.text);
        let text = text.trim().trim_start_matches('$').trim_start_matches('.');
        for c in text.chars() {
            write!(f, "{}", if c.is_control() { '\u{fffd}' } else { c })?;
        }
        Ok(())
    }
}

fn parse_bare(text: &str) -> Result<Vec<Step>, PathError> {
    let mut steps = Vec::new();
    let mut key = String::new();
    let mut escaped = false;
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('\\') => match chars.next() {
                Some(c) => {
                    escaped = true;
                    key.push(c);
                }
                None => return Err(PathError::Unsupported("a \\ at the end".into())),
            },
            Some('.') => push(&mut steps, &mut key, &mut escaped)?,
            Some(
                c @ ('*' | '?' | '|' | '@' | '!' | '(' | ')' | '[' | ']' | '{' | '}' | '"' | '\'' | ',' | '=' | '<'
                | '>' | '%'),
            ) => {
                return Err(PathError::Unsupported(format!("{c:?}")));
            }
            Some(c) if c.is_control() || c.is_whitespace() => {
                return Err(PathError::Unsupported("white space".into()));
            }
            Some(c) => key.push(c),
            None => {
                push(&mut steps, &mut key, &mut escaped)?;
                break;
            }
        }
    }
    if steps.last() == Some(&Step::Each) {
        return Err(PathError::Unsupported("# at the end (it is the length of the list)".into()));
    }
    Ok(steps)
}

fn push(steps: &mut Vec<Step>, key: &mut String, escaped: &mut bool) -> Result<(), PathError> {
    let key = std::mem::take(key);
    let escaped = std::mem::take(escaped);
    if key.is_empty() {
        return Err(PathError::Unsupported("an empty key".into()));
    }
    if key.contains('#') && !escaped {
        if key != "#" {
            return Err(PathError::Unsupported(format!("{key:?}")));
        }
        steps.push(Step::Each);
    } else {
        steps.push(Step::Key(key));
    }
    Ok(())
}

fn walk(steps: &[Step], value: &Value, out: &mut Vec<String>) {
    match (steps.split_first(), value) {
        (None, value) => flatten(value, out),
        (Some((Step::Each, rest)), Value::Array(items)) => items.iter().for_each(|item| walk(rest, item, out)),
        (Some((Step::Key(key), rest)), Value::Object(map)) => {
            if let Some(child) = map.get(key) {
                walk(rest, child, out);
            }
        }
        (Some((Step::Key(key), rest)), Value::Array(items)) => {
            if let Some(child) = key.parse::<usize>().ok().and_then(|index| items.get(index)) {
                walk(rest, child, out);
            }
        }
        _ => {}
    }
}

fn flatten(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.trim().is_empty() => out.push(text.trim().to_owned()),
        Value::Number(number) => out.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| flatten(item, out)),
        _ => {}
    }
}
