//! Label and field selectors.
//!
//! In: the text of a `labelSelector`/`fieldSelector` query parameter, or a `metav1.LabelSelector` as JSON.
//! Out: something that matches labels or fields, prints canonically, and explains what is wrong with its input
//! in Kubernetes' words. Called by list, watch and deletecollection, and by permission claims.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::names;

/// What is wrong with a selector; the text is Kubernetes'.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// Anything labels can be looked up in.
pub trait Labels {
    /// The value of this label, if it is set.
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

/// The value of `metadata.labels`; anything but an object has no labels.
impl Labels for Value {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl Labels for [(String, String)] {
    fn label(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

impl<T: Labels + ?Sized> Labels for Option<&T> {
    fn label(&self, key: &str) -> Option<&str> {
        self.and_then(|labels| labels.label(key))
    }
}

/// How a requirement relates a label to its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `key = value`
    Equals,
    /// `key == value`
    DoubleEquals,
    /// `key != value`, or the key is absent
    NotEquals,
    /// `key in (a, b)`
    In,
    /// `key notin (a, b)`, or the key is absent
    NotIn,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key > 5`, numerically
    GreaterThan,
    /// `key < 5`, numerically
    LessThan,
}

/// One term of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// A checked requirement.
    ///
    /// # Errors
    /// When key or values break the label rules, or the number of values does not suit the operator.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, SelectorError> {
        let mut errors = Vec::new();
        let complaints = names::label_key(key);
        if !complaints.is_empty() {
            errors.push(format!(
                "key: Invalid value: {key:?}: {}",
                complaints.join("; ")
            ));
        }
        let shown = || Value::from(values.clone());
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => errors.push(format!(
                "values: Invalid value: {}: for 'in', 'notin' operators, values set can't be empty",
                shown()
            )),
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => errors.push(format!(
                "values: Invalid value: {}: exact-match compatibility requires one single value",
                shown()
            )),
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => errors.push(format!(
                "values: Invalid value: {}: values set must be empty for exists and does not exist",
                shown()
            )),
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    errors.push(format!(
                        "values: Invalid value: {}: for 'Gt', 'Lt' operators, exactly one value is required",
                        shown()
                    ));
                }
                for (index, value) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                    errors.push(format!(
                        "values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                    ));
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let complaints = names::label_value(value);
            if !complaints.is_empty() {
                errors.push(format!(
                    "values[{index}][{key}]: Invalid value: {value:?}: {}",
                    complaints.join("; ")
                ));
            }
        }
        match errors.as_slice() {
            [] => Ok(Requirement {
                key: key.to_owned(),
                operator,
                values,
            }),
            [one] => Err(SelectorError(one.clone())),
            many => Err(SelectorError(format!("[{}]", many.join(", ")))),
        }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How the values relate to it.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values, sorted.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether the labels satisfy this term.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        let value = labels.label(&self.key);
        let listed = |v: &str| self.values.iter().any(|x| x == v);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let actual = value.and_then(|v| v.parse::<i64>().ok());
                let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
                match (actual, bound) {
                    (Some(a), Some(b)) if self.operator == Operator::GreaterThan => a > b,
                    (Some(a), Some(b)) => a < b,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values = self.values.join(",");
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A conjunction of requirements on labels; the empty one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        LabelSelector::default()
    }

    /// Matches no object (what an absent `metav1.LabelSelector` means).
    pub fn nothing() -> Self {
        LabelSelector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Parses the text of a query parameter: `a=b,c in (d,e),!f`.
    ///
    /// # Errors
    /// With the position's token and what was expected, as kube-apiserver words it.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Parser::new(text).parse()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(LabelSelector {
            requirements,
            nothing: false,
        })
    }

    /// From a `metav1.LabelSelector`; `null` matches nothing, `{}` everything.
    ///
    /// # Errors
    /// On an unknown operator, or keys and values that break the label rules.
    pub fn from_json(value: &Value) -> Result<Self, SelectorError> {
        if value.is_null() {
            return Ok(LabelSelector::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in value
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key, Operator::Equals, vec![value])?);
        }
        for expression in value
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |field: &str| {
                expression
                    .get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values: BTreeSet<String> = expression
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect();
            requirements.push(Requirement::new(
                text("key"),
                operator,
                values.into_iter().collect(),
            )?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(LabelSelector {
            requirements,
            nothing: false,
        })
    }

    /// Whether these labels satisfy every term.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether every object matches.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// The terms, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self
            .requirements
            .iter()
            .map(Requirement::to_string)
            .collect();
        f.write_str(&texts.join(","))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

struct Parser {
    tokens: Vec<(Token, String)>,
    position: usize,
}

impl Parser {
    fn new(text: &str) -> Self {
        Parser {
            tokens: tokens(text),
            position: 0,
        }
    }

    /// `values` tells that `in` and `notin` are plain identifiers here.
    fn peek(&self, values: bool) -> (Token, &str) {
        let (token, text) = self
            .tokens
            .get(self.position)
            .map_or((Token::End, ""), |(t, s)| (*t, s.as_str()));
        match token {
            Token::In | Token::NotIn if values => (Token::Identifier, text),
            token => (token, text),
        }
    }

    fn next(&mut self, values: bool) -> (Token, String) {
        let (token, text) = self.peek(values);
        let text = text.to_owned();
        self.position += 1;
        (token, text)
    }

    fn parse(mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek(true) {
                (Token::End, _) => return Ok(requirements),
                (Token::Identifier | Token::Not, _) => {
                    let requirement = self
                        .requirement()
                        .map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
                    requirements.push(requirement);
                }
                (_, text) => {
                    return expected(text, ", expected: !, identifier, or 'end of string'");
                }
            }
            match self.next(true) {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.peek(true) {
                    (Token::Identifier | Token::Not, _) => {}
                    (_, text) => return expected(text, ", expected: identifier after ','"),
                },
                (_, text) => return expected(&text, ", expected: ',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut negated = false;
        let (mut token, mut key) = self.next(true);
        if token == Token::Not {
            negated = true;
            (token, key) = self.next(true);
        }
        if token != Token::Identifier {
            return expected(&key, ", expected: identifier");
        }
        let complaints = names::label_key(&key);
        if !complaints.is_empty() {
            return Err(SelectorError(format!(
                "<nil>: Invalid value: {key:?}: {}",
                complaints.join("; ")
            )));
        }
        if matches!(self.peek(true).0, Token::End | Token::Comma) && !negated {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        let operator = match self.next(false) {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, text) => return expected(&text, ", expected: in, notin, =, ==, !=, gt, lt"),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_set()?,
            _ => self.exact_value()?,
        };
        Requirement::new(&key, operator, values.into_iter().collect())
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if matches!(self.peek(true).0, Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next(true) {
            (Token::Identifier, text) => Ok(BTreeSet::from([text])),
            (_, text) => expected(&text, ", expected: identifier"),
        }
    }

    fn value_set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.next(true) {
            (Token::Open, _) => {}
            (_, text) => return expected(&text, " expected: '('"),
        }
        match self.peek(true) {
            (Token::Close, _) => {
                self.next(true);
                Ok(BTreeSet::from([String::new()]))
            }
            (Token::Identifier | Token::Comma, first) => {
                let first = first.to_owned();
                let values = self.identifiers()?;
                match self.next(true) {
                    (Token::Close, _) => Ok(values),
                    _ => expected(&first, ", expected: ')'"),
                }
            }
            (_, text) => expected(text, ", expected: ',', ')' or identifier"),
        }
    }

    fn identifiers(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let mut values = BTreeSet::new();
        loop {
            match self.next(true) {
                (Token::Identifier, text) => {
                    values.insert(text);
                    match self.peek(true) {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return expected(text, ", expected: ',' or ')'"),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek(true).0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return expected(&text, ", expected: ',', or identifier"),
            }
        }
    }
}

fn expected<T>(found: &str, rest: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!("found '{found}'{rest}")))
}

fn tokens(text: &str) -> Vec<(Token, String)> {
    let special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(space);
        let Some(first) = rest.chars().next() else {
            break;
        };
        let length = if special(first) {
            if rest.starts_with("==") || rest.starts_with("!=") {
                2
            } else {
                1
            }
        } else {
            rest.find(|c| special(c) || space(c)).unwrap_or(rest.len())
        };
        let (word, tail) = rest.split_at(length);
        let token = match word {
            ")" => Token::Close,
            "," => Token::Comma,
            "!" => Token::Not,
            "==" => Token::DoubleEquals,
            "=" => Token::Equals,
            ">" => Token::Greater,
            "in" => Token::In,
            "<" => Token::Less,
            "!=" => Token::NotEquals,
            "notin" => Token::NotIn,
            "(" => Token::Open,
            word if word.contains('\0') => Token::Error,
            _ => Token::Identifier,
        };
        out.push((token, word.to_owned()));
        rest = tail;
    }
    out.push((Token::End, String::new()));
    out
}

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
                ["!=", "==", "="]
                    .iter()
                    .find(|op| rest.starts_with(**op))
                    .map(|op| (at, *op))
            });
            let Some((at, operator)) = found else {
                return Err(SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
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
        match self
            .requirements
            .iter()
            .find(|r| !supported.contains(&r.field.as_str()))
        {
            None => Ok(()),
            Some(r) if supported.len() <= 2 => Err(SelectorError(format!(
                "{:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                r.field
            ))),
            Some(r) => Err(SelectorError(format!(
                "field label not supported: {}",
                r.field
            ))),
        }
    }

    /// Whether the fields, looked up by path (absent = ""), satisfy every term.
    pub fn matches<'a>(
        &self,
        mut lookup: impl FnMut(&str) -> Option<std::borrow::Cow<'a, str>>,
    ) -> bool {
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
        self.requirements
            .iter()
            .find(|r| r.field == field && !r.negated)
            .map(|r| r.value.as_str())
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
            let value = r
                .value
                .replace('\\', r"\\")
                .replace(',', r"\,")
                .replace('=', r"\=");
            format!("{}{}{value}", r.field, if r.negated { "!=" } else { "=" })
        };
        f.write_str(
            &self
                .requirements
                .iter()
                .map(term)
                .collect::<Vec<_>>()
                .join(","),
        )
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
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("", true)]
    #[case("app=web", true)]
    #[case("app==web,tier!=db", true)]
    #[case("app in (web, api),!legacy", true)]
    #[case("app notin (web)", false)]
    #[case("missing notin (x)", true)]
    #[case("app,size>3", true)]
    #[case("size<3", false)]
    #[case("in in (in)", false)]
    #[case("app in ()", false)]
    #[case("empty=", true)]
    #[case("empty in (,x)", true)]
    fn matches_labels(#[case] text: &str, #[case] expected: bool) {
        let labels = json!({"app": "web", "size": "5", "empty": ""});
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(selector.matches(&labels), expected, "{text}");
        assert_eq!(
            LabelSelector::parse(&selector.to_string()).unwrap(),
            selector,
            "{text}"
        );
    }

    #[rstest]
    #[case(
        "a b",
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
    )]
    #[case("a=b,", "found '', expected: identifier after ','")]
    #[case("a in b", "unable to parse requirement: found 'b' expected: '('")]
    #[case("=a", "found '=', expected: !, identifier, or 'end of string'")]
    #[case("!", "unable to parse requirement: found '', expected: identifier")]
    fn explains_label_errors(#[case] text: &str, #[case] message: &str) {
        assert_eq!(LabelSelector::parse(text).unwrap_err().to_string(), message);
    }

    #[test]
    fn reads_the_json_form() {
        let selector = LabelSelector::from_json(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}]
        }))
        .unwrap();
        assert_eq!(selector.to_string(), "app=web,tier notin (db)");
        assert!(selector.matches(&json!({"app": "web"})));
        assert!(
            !LabelSelector::from_json(&Value::Null)
                .unwrap()
                .matches(&json!({}))
        );
        assert!(
            LabelSelector::from_json(&json!({}))
                .unwrap()
                .matches(&json!({}))
        );
    }

    #[test]
    fn matches_fields() {
        let object = json!({"metadata": {"name": "a,b"}, "spec": {"unschedulable": true}});
        let matches = |text: &str| FieldSelector::parse(text).unwrap().matches_object(&object);
        assert!(matches(r"metadata.name=a\,b"));
        assert!(matches("metadata.namespace=,spec.unschedulable==true"));
        assert!(!matches("spec.unschedulable!=true"));
        assert_eq!(
            FieldSelector::parse("metadata.name=x")
                .unwrap()
                .exact("metadata.name"),
            Some("x")
        );
    }

    #[test]
    fn explains_field_errors() {
        assert_eq!(
            FieldSelector::parse("metadata.name")
                .unwrap_err()
                .to_string(),
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'"
        );
        let selector = FieldSelector::parse("spec.x=1").unwrap();
        assert_eq!(
            selector
                .check_supported(&["metadata.name", "metadata.namespace"])
                .unwrap_err()
                .to_string(),
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }
}
