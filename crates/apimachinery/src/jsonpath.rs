//! Kubernetes' JSONPath dialect (kubectl's `-o jsonpath`, printer columns, claim references).
//!
//! In: an expression such as `.spec.conditions[?(@.type=="Ready")].status`, or a template with text, `{range}` and
//! `{end}`. Out: references into a JSON value, or text. A path that is not there yields nothing; it is not an error.
//! Called by tables, `scale` paths, selectable fields and permission claims.
//!
//! Source of the rules: the Kubernetes reference page "JSONPath Support".

use std::cmp::Ordering;

use serde_json::Value;

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSONPath {expression:?}: {reason}")]
pub struct JsonPathError {
    expression: String,
    reason: String,
}

/// A parsed expression: one path into a value.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    Slice { start: Option<i64>, end: Option<i64>, step: Option<i64>, single: bool },
    Union(Vec<Vec<Step>>),
    Filter(Filter),
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    compare: Option<(Comparison, Operand)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Parses one path; braces, the leading `$` or `@` and the leading dot may be left out.
    ///
    /// # Errors
    /// When the text is not a path.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let inner = text.trim();
        let inner = inner.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(inner);
        parse_path(inner)
            .map(|steps| JsonPath { steps })
            .map_err(|reason| JsonPathError { expression: text.to_owned(), reason })
    }

    /// Every value the path leads to, in document order (maps: sorted by key).
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        walk(&self.steps, vec![value])
    }

    /// The first value the path leads to.
    pub fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.find(value).into_iter().next()
    }

    /// The field names, when the path is nothing but plain fields (`.status.replicas`).
    pub fn plain_fields(&self) -> Option<Vec<&str>> {
        self.steps.iter().map(|s| if let Step::Field(name) = s { Some(name.as_str()) } else { None }).collect()
    }
}

/// A kubectl template: text, `{paths}`, `{"quoted text"}`, `{range ...}` and `{end}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Part>),
}

impl Template {
    /// Parses a whole template.
    ///
    /// # Errors
    /// On a bad path, an unclosed brace or quote, or `{end}` without `{range}`.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let fail = |reason: String| JsonPathError { expression: text.to_owned(), reason };
        let mut open: Vec<(Vec<Step>, Vec<Part>)> = Vec::new();
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            let length = closing(&rest[at + 1..], '}').ok_or_else(|| fail("unclosed action".into()))?;
            let action = rest[at + 1..at + 1 + length].trim();
            rest = &rest[at + 2 + length..];
            if action == "end" {
                let (path, outer) = open.pop().ok_or_else(|| fail("not in range, nothing to end".into()))?;
                let body = std::mem::replace(&mut parts, outer);
                parts.push(Part::Range(path, body));
            } else if let Some(path) =
                action.strip_prefix("range ").or_else(|| action.strip_prefix("range.").map(|_| &action[5..]))
            {
                open.push((parse_path(path.trim()).map_err(&fail)?, std::mem::take(&mut parts)));
            } else if action.starts_with(['"', '\'']) {
                parts.push(Part::Text(unquote(action).map_err(&fail)?));
            } else {
                parts.push(Part::Path(parse_path(action).map_err(&fail)?));
            }
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        // kubectl takes a range that is not ended to go on until the end of the template
        while let Some((path, outer)) = open.pop() {
            let body = std::mem::replace(&mut parts, outer);
            parts.push(Part::Range(path, body));
        }
        Ok(Template { parts })
    }

    /// The text of the template for this value.
    pub fn render(&self, value: &Value) -> String {
        let mut out = String::new();
        render(&self.parts, value, &mut out);
        out
    }
}

fn render(parts: &[Part], value: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(steps) => {
                let texts: Vec<String> = walk(steps, vec![value]).into_iter().map(text_of).collect();
                out.push_str(&texts.join(" "));
            }
            Part::Range(steps, body) => {
                for item in walk(steps, vec![value]) {
                    render(body, item, out);
                }
            }
        }
    }
}

/// How a value is printed: scalars bare, the rest as compact JSON.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn walk<'a>(steps: &[Step], mut values: Vec<&'a Value>) -> Vec<&'a Value> {
    for step in steps {
        values = apply(step, values);
    }
    values
}

fn apply<'a>(step: &Step, values: Vec<&'a Value>) -> Vec<&'a Value> {
    let mut out = Vec::new();
    match step {
        Step::Field(name) => out.extend(values.into_iter().filter_map(|v| v.as_object()?.get(name))),
        Step::Wildcard => values.into_iter().for_each(|v| out.extend(children(v))),
        Step::Recursive => values.into_iter().for_each(|v| descend(v, &mut out)),
        Step::Slice { .. } => values.into_iter().filter_map(Value::as_array).for_each(|v| slice(step, v, &mut out)),
        Step::Union(paths) => {
            for path in paths {
                out.extend(walk(path, values.clone()));
            }
        }
        Step::Filter(filter) => {
            for items in values.into_iter().filter_map(Value::as_array) {
                out.extend(items.iter().filter(|item| filter.accepts(item)));
            }
        }
    }
    out
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    let below = children(value);
    if !below.is_empty() {
        out.push(value);
        below.into_iter().for_each(|v| descend(v, out));
    }
}

fn slice<'a>(step: &Step, items: &'a [Value], out: &mut Vec<&'a Value>) {
    let Step::Slice { start, end, step, single } = step else {
        return;
    };
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let from_end = |i: i64| if i < 0 { i.saturating_add(length) } else { i };
    let first = from_end(start.unwrap_or(0));
    let last = if *single { first.saturating_add(1) } else { end.map_or(length, from_end) };
    if first < 0 || first >= length || last > length || first >= last {
        return;
    }
    let stride = usize::try_from(step.unwrap_or(1)).unwrap_or(1).max(1);
    let (first, last) = (usize::try_from(first).unwrap_or(0), usize::try_from(last).unwrap_or(0));
    out.extend(items[first..last].iter().step_by(stride));
}

impl Filter {
    fn accepts(&self, item: &Value) -> bool {
        let Some((comparison, right)) = &self.compare else {
            return match &self.left {
                Operand::Path(steps) => !walk(steps, vec![item]).is_empty(),
                Operand::Literal(_) => true,
            };
        };
        match (self.left.value(item), right.value(item)) {
            (Some(left), Some(right)) => comparison.holds(left, right),
            _ => false,
        }
    }
}

impl Operand {
    /// The one value this stands for; several cannot be compared.
    fn value<'a>(&'a self, item: &'a Value) -> Option<&'a Value> {
        match self {
            Operand::Literal(value) => Some(value),
            Operand::Path(steps) => match walk(steps, vec![item]).as_slice() {
                [one] => Some(one),
                _ => None,
            },
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let order = match (left, right) {
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
            },
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) if a == b => Some(Ordering::Equal),
            _ => None,
        };
        match self {
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::NotEqual => order != Some(Ordering::Equal),
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Comparison::Greater => order == Some(Ordering::Greater),
            Comparison::GreaterOrEqual => {
                matches!(order, Some(Ordering::Greater | Ordering::Equal))
            }
        }
    }
}

/// Length of the text before the closing character, quotes respected.
fn closing(text: &str, close: char) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if Some(c) == quote => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            c if c == close && quote.is_none() => return Some(at),
            _ => {}
        }
    }
    None
}

fn terminator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}

fn parse_path(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text.trim();
    let mut at_start = true;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("[?(") {
            let body = &rest[3..];
            let length = closing(body, ')').ok_or("unterminated filter")?;
            steps.push(Step::Filter(parse_filter(&body[..length])?));
            rest = body[length + 1..].strip_prefix(']').ok_or("unclosed array expect ]")?;
        } else if first == '[' {
            let length = closing(&rest[1..], ']').ok_or("unterminated array")?;
            parse_brackets(&rest[1..=length], &mut steps)?;
            rest = &rest[length + 2..];
        } else if let Some(tail) = rest.strip_prefix("..") {
            if steps.last() == Some(&Step::Recursive) {
                return Err("invalid multiple recursive descent".into());
            }
            steps.push(Step::Recursive);
            rest = tail;
            if rest.starts_with(|c: char| !terminator(c)) {
                rest = take_field(rest, &mut steps);
            }
        } else if first == '.' {
            rest = &rest[1..];
            if !rest.is_empty() && !rest.starts_with('[') {
                rest = take_field(rest, &mut steps);
            }
        } else if matches!(first, '$' | '@' | ' ') {
            rest = &rest[1..];
        } else if at_start && !terminator(first) {
            rest = take_field(rest, &mut steps);
        } else {
            return Err(format!("unrecognized character in action: {first:?}"));
        }
        at_start = false;
    }
    Ok(steps)
}

/// Takes a field name off the front; `\` escapes a terminator (`.metadata.labels.a\.b`).
fn take_field<'t>(text: &'t str, steps: &mut Vec<Step>) -> &'t str {
    let (mut name, mut end, mut escaped) = (String::new(), text.len(), false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            c if terminator(c) => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "*" => steps.push(Step::Wildcard),
        "" => {}
        _ => steps.push(Step::Field(name)),
    }
    &text[end..]
}

/// What stands between `[` and `]`: an index, a slice, `*`, quoted keys, or a union of them.
fn parse_brackets(text: &str, steps: &mut Vec<Step>) -> Result<(), String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = closing(rest, ',') {
        parts.push(&rest[..at]);
        rest = &rest[at + 1..];
    }
    parts.push(rest);
    if let [one] = parts.as_slice() {
        steps.push(parse_index(one.trim())?);
        return Ok(());
    }
    let union = parts.iter().map(|part| {
        let part = part.trim();
        if part.starts_with(['.', '@', '$']) { parse_path(part) } else { parse_index(part).map(|step| vec![step]) }
    });
    steps.push(Step::Union(union.collect::<Result<_, _>>()?));
    Ok(())
}

fn parse_index(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    if text.starts_with(['"', '\'']) {
        return unquote(text).map(Step::Field);
    }
    let number = |part: &str| -> Result<Option<i64>, String> {
        let part = part.trim();
        if part.is_empty() {
            return Ok(None);
        }
        part.parse().map(Some).map_err(|_| format!("array index {part} is not a number"))
    };
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [""] => Err("invalid array index".into()),
        [index] => {
            let start = number(index).map_err(|_| format!("invalid array index {text}"))?;
            Ok(Step::Slice { start, end: None, step: None, single: true })
        }
        [start, end] => Ok(Step::Slice { start: number(start)?, end: number(end)?, step: None, single: false }),
        [start, end, step] => {
            let step = number(step)?;
            if step.is_some_and(|s| s <= 0) {
                return Err("step must be > 0".into());
            }
            Ok(Step::Slice { start: number(start)?, end: number(end)?, step, single: false })
        }
        _ => Err(format!("invalid array index {text}")),
    }
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match c {
            c if Some(c) == quote => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            '=' | '!' | '<' | '>' if quote.is_none() => {
                let length = text[at..].find(|c| !matches!(c, '=' | '!' | '<' | '>')).unwrap_or(text.len() - at);
                let comparison = match &text[at..at + length] {
                    "==" => Comparison::Equal,
                    "!=" => Comparison::NotEqual,
                    "<" => Comparison::Less,
                    "<=" => Comparison::LessOrEqual,
                    ">" => Comparison::Greater,
                    ">=" => Comparison::GreaterOrEqual,
                    other => return Err(format!("unrecognized filter operator {other}")),
                };
                let right = parse_operand(&text[at + length..])?;
                return Ok(Filter { left: parse_operand(&text[..at])?, compare: Some((comparison, right)) });
            }
            _ => {}
        }
    }
    Ok(Filter { left: parse_operand(text)?, compare: None })
}

fn parse_operand(text: &str) -> Result<Operand, String> {
    let text = text.trim();
    if text.starts_with(['"', '\'']) {
        return Ok(Operand::Literal(unquote(text)?.into()));
    }
    match text {
        "true" => return Ok(Operand::Literal(true.into())),
        "false" => return Ok(Operand::Literal(false.into())),
        "" => return Err("a filter needs something to compare".into()),
        _ => {}
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') {
        let digits = text.strip_prefix('+').unwrap_or(text);
        if let Ok(number) = digits.parse::<i64>() {
            return Ok(Operand::Literal(number.into()));
        }
        return digits
            .parse::<f64>()
            .map(|number| Operand::Literal(number.into()))
            .map_err(|_| format!("cannot parse number {text}"));
    }
    parse_path(text).map(Operand::Path)
}

fn unquote(text: &str) -> Result<String, String> {
    let bad = || format!("unquote string {text} error invalid syntax");
    let quote = text.chars().next().ok_or_else(bad)?;
    let inner = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)).ok_or_else(bad)?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(match chars.next().ok_or_else(bad)? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'u' => {
                    let code: String = chars.by_ref().take(4).collect();
                    u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).ok_or_else(bad)?
                }
                other => other,
            }),
            c if c == quote => return Err(bad()),
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

    fn object() -> Value {
        json!({
            "metadata": {"name": "prod", "labels": {"a.b/c": "x"}},
            "spec": {"list": [{"n": "one", "v": 1}, {"n": "two", "v": 2}, {"n": "three", "v": 3, "ok": true}], "nums": [0, 1, 2, 3, 4]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False"}]}
        })
    }

    #[rstest]
    #[case(".metadata.name", json!(["prod"]))]
    #[case("{.metadata.name}", json!(["prod"]))]
    #[case("$.metadata.name", json!(["prod"]))]
    #[case("metadata.name", json!(["prod"]))]
    #[case(r".metadata.labels.a\.b/c", json!(["x"]))]
    #[case(".metadata.labels['a.b/c']", json!(["x"]))]
    #[case(r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"]))]
    #[case(".status.conditions[?(@.type != 'Ready')].status", json!(["False"]))]
    #[case(".spec.list[?(@.v>=2)].n", json!(["two", "three"]))]
    #[case(".spec.list[?(@.ok)].n", json!(["three"]))]
    #[case(".spec.list[?(@.ok==true)].n", json!(["three"]))]
    #[case(".spec.list[*].n", json!(["one", "two", "three"]))]
    #[case(".spec.list[0].n", json!(["one"]))]
    #[case(".spec.list[-1].n", json!(["three"]))]
    #[case(".spec.nums[1:3]", json!([1, 2]))]
    #[case(".spec.nums[-2:]", json!([3, 4]))]
    #[case(".spec.nums[::2]", json!([0, 2, 4]))]
    #[case(".spec.nums[0,3]", json!([0, 3]))]
    #[case(".metadata['name','missing']", json!(["prod"]))]
    #[case("..n", json!(["one", "two", "three"]))]
    #[case(".spec.missing.deeper", json!([]))]
    #[case(".spec.nums[9]", json!([]))]
    fn finds(#[case] path: &str, #[case] expected: Value) {
        let object = object();
        let found = JsonPath::parse(path).unwrap().find(&object).into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(Value::from(found), expected, "{path}");
    }

    #[rstest]
    #[case(".a[")]
    #[case(".a[?(@.b=='x'")]
    #[case(".a[x]")]
    #[case(".a[?(@.b=~'x')]")]
    #[case(".a..")]
    fn refuses_or_survives(#[case] path: &str) {
        if path != ".a.." {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn renders_templates() {
        let template = Template::parse("{range .spec.list[*]}{.n}={.v}{\"\\n\"}{end}name: {.metadata.name}").unwrap();
        assert_eq!(template.render(&object()), "one=1\ntwo=2\nthree=3\nname: prod");
        assert!(Template::parse("{end}").is_err());
        assert!(Template::parse("{.a").is_err());
    }

    #[test]
    fn tells_plain_paths() {
        assert_eq!(JsonPath::parse(".spec.replicas").unwrap().plain_fields(), Some(vec!["spec", "replicas"]));
        assert_eq!(JsonPath::parse(".spec[0]").unwrap().plain_fields(), None);
    }
}
