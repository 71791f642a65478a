//! Field selectors: `metadata.name=x,status.phase!=Running`.
//!
//! In: the text of a query parameter. Out: something that matches fields of an object. Which fields a resource supports
//! is the caller's business.

use std::fmt;

use serde_json::Value;

use super::SelectorError;

/// One term of a field selector: `field=value` or `field!=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// Path of the field, `metadata.name`.
    pub field: String,
    /// Whether the field must differ from the value.
    pub negated: bool,
    /// The value, unescaped.
    pub value: String,
}

/// A conjunction of requirements on fields; which fields a resource supports is the caller's business.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        FieldSelector::default()
    }

    /// Parses the text of a query parameter: `metadata.name=x,status.phase!=Running`, with `\` escaping `,`, `=`, `\`.
    ///
    /// # Errors
    /// When a term has no operator or a value is wrongly escaped.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|t| !t.is_empty()) {
            let found = term.char_indices().find_map(|(at, _)| {
                let rest = &term[at..];
                ["!=", "==", "="].iter().find(|op| rest.starts_with(**op)).map(|op| (at, *op))
            });
            let Some((at, operator)) = found else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            requirements.push(FieldRequirement {
                field: term[..at].to_owned(),
                negated: operator == "!=",
                value: unescape(&term[at + operator.len()..])?,
            });
        }
        Ok(FieldSelector { requirements })
    }

    /// Checks that only these fields are used.
    ///
    /// # Errors
    /// Naming the first unsupported field, in the words Kubernetes uses for resources without extra fields.
    pub fn check_supported(&self, supported: &[&str]) -> Result<(), SelectorError> {
        match self.requirements.iter().find(|r| !supported.contains(&r.field.as_str())) {
            None => Ok(()),
            Some(r) if supported.len() <= 2 => Err(SelectorError(format!(
                "{:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                r.field
            ))),
            Some(r) => Err(SelectorError(format!("field label not supported: {}", r.field))),
        }
    }

    /// Whether the fields, looked up by path (absent = ""), satisfy every term.
    pub fn matches<'a>(&self, mut lookup: impl FnMut(&str) -> Option<std::borrow::Cow<'a, str>>) -> bool {
        self.requirements.iter().all(|r| {
            let actual = lookup(&r.field);
            (actual.as_deref().unwrap_or_default() == r.value) != r.negated
        })
    }

    /// Whether an object satisfies every term; each field is a plain path into it.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(|path| field_text(object, path))
    }

    /// The value that this field must have, if the selector pins it.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.field == field && !r.negated).map(|r| r.value.as_str())
    }

    /// Whether every object matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The terms.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = |r: &FieldRequirement| {
            let value = r.value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
            format!("{}{}{value}", r.field, if r.negated { "!=" } else { "=" })
        };
        f.write_str(&self.requirements.iter().map(term).collect::<Vec<_>>().join(","))
    }
}

/// The text of a scalar at a dotted path, as field selectors compare it.
pub fn field_text<'a>(object: &'a Value, path: &str) -> Option<std::borrow::Cow<'a, str>> {
    let mut value = object;
    for step in path.trim_start_matches('.').split('.') {
        value = value.get(step)?;
    }
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string().into()),
        _ => None,
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(SelectorError(format!("invalid field selector: invalid escape sequence: {sequence}")));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}
