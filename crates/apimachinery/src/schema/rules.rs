//! `x-kubernetes-validations`: rules in CEL.
//!
//! In: at compile time the rules of a node; at run time a value, for an update the old one. Out: errors in the words of
//! kube-apiserver. Rules that mention `oldSelf` run on updates only; other rules are not reported for parts that did
//! not change. Each rule and each object has a budget of evaluation steps, bounded before anything runs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use kube_cel::{
    KubeCelExt as _,
    cel::{
        Context, ExecutionError,
        common::ast::{CallExpr, Expr},
        objects::{OptionalValue, Value as Cel},
        parser::{Expression, Parser},
    },
};
use serde_json::Value;

use super::{
    cel_check::{self, Sizes},
    cel_value,
    node::{MapType, Node},
    validate::OldItems,
};
use crate::field_path::{FieldError, FieldErrorKind, PathBuf};

/// Steps one rule may take on one value.
const RULE_BUDGET: u64 = 1_000_000;
/// Steps all rules may take on one object.
const OBJECT_BUDGET: u64 = 10_000_000;
/// The longest message a messageExpression may produce, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// One compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    source: String,
    program: Expression,
    message: String,
    message_program: Option<Expression>,
    reason: String,
    /// Appended to the path of the value: `.a.b`.
    field_path: String,
    uses_old_self: bool,
    optional_old_self: bool,
}

/// Compiles the rules of a node. `path` is that of the list of rules in the schema.
pub(super) fn compile(
    list: &[Value],
    node: &Node,
    root: bool,
    path: &str,
    errors: &mut Vec<FieldError>,
) -> Vec<Arc<Rule>> {
    let shared = Arc::new(node.clone());
    let mut rules = Vec::new();
    for (index, raw) in list.iter().enumerate() {
        let at = format!("{path}[{index}]");
        if let Some(rule) = compile_one(raw, &shared, root, &at, errors) {
            rules.push(Arc::new(rule));
        }
    }
    rules
}

fn compile_one(raw: &Value, node: &Arc<Node>, root: bool, at: &str, errors: &mut Vec<FieldError>) -> Option<Rule> {
    let text = |key: &str| raw.get(key).and_then(Value::as_str).unwrap_or_default();
    let before = errors.len();
    let source = text("rule").trim();
    let message = text("message").trim();
    if source.is_empty() {
        errors.push(FieldError::required(format!("{at}.rule"), "rule is not specified"));
        return None;
    }
    if message.contains('\n') {
        errors.push(FieldError::invalid(format!("{at}.message"), text("message"), "must not contain line breaks"));
    } else if !text("message").is_empty() && message.is_empty() {
        errors.push(FieldError::invalid(format!("{at}.message"), text("message"), "must be non-empty if specified"));
    } else if source.contains('\n') && message.is_empty() {
        errors.push(FieldError::required(format!("{at}.message"), "must be specified if rule contains line breaks"));
    }
    let reason = text("reason");
    if !reason.is_empty() && !REASONS.contains(&reason) {
        errors.push(FieldError::not_supported(format!("{at}.reason"), reason, &REASONS));
    }
    let field_path = text("fieldPath").trim();
    if !field_path.is_empty() && !field_path_exists(node, field_path) {
        errors.push(FieldError::invalid(format!("{at}.fieldPath"), field_path, "must be a valid path"));
    }
    let parse = |source: &str, errors: &mut Vec<FieldError>, key: &str| match parse(source) {
        Ok(program) => match cel_check::undeclared(&program, node, root).or_else(|| unknown_function(&program)) {
            None => Some(program),
            Some(what) => {
                errors.push(FieldError::invalid(
                    format!("{at}.{key}"),
                    source,
                    format!("compilation failed: ERROR: {what}"),
                ));
                None
            }
        },
        Err(reason) => {
            errors.push(FieldError::invalid(format!("{at}.{key}"), source, format!("compilation failed: {reason}")));
            None
        }
    };
    let program = parse(source, errors, "rule");
    if program.as_ref().is_some_and(cel_check::is_not_bool) {
        errors.push(FieldError::invalid(format!("{at}.rule"), source, "cel expression must evaluate to a bool"));
    }
    let message_expression = text("messageExpression").trim();
    let message_program = match message_expression {
        "" => None,
        expression => parse(expression, errors, "messageExpression"),
    };
    if errors.len() > before {
        return None;
    }
    let program = program?;
    Some(Rule {
        uses_old_self: cel_check::uses_old_self(&program),
        program,
        source: source.to_owned(),
        message: message.to_owned(),
        message_program,
        reason: reason.to_owned(),
        field_path: field_path.to_owned(),
        optional_old_self: raw.get("optionalOldSelf") == Some(&Value::Bool(true)),
    })
}

fn parse(source: &str) -> Result<Expression, String> {
    // The parser is not ours: a panic in it is a rule that does not compile, not the end of a server task.
    catch_unwind(AssertUnwindSafe(|| {
        Parser::default().enable_optional_syntax(true).parse(source).map_err(|errors| errors.to_string())
    }))
    .unwrap_or_else(|_| Err("ERROR: Syntax error".to_owned()))
}

/// The first function in the rule that does not exist.
fn unknown_function(program: &Expression) -> Option<String> {
    ENVIRONMENT.with(|environment| {
        let names = cel_check::functions(program);
        names.into_iter().find_map(|name| {
            // A call without arguments tells a function that does not exist from one that is called wrongly.
            let call = Expression {
                id: 0,
                expr: Expr::Call(CallExpr { func_name: name.clone(), target: None, args: Vec::new() }),
            };
            let unknown = matches!(
                catch_unwind(AssertUnwindSafe(|| Cel::resolve(&call, environment))),
                Ok(Err(ExecutionError::UndeclaredReference(_)))
            );
            unknown.then(|| format!("undeclared reference to '{name}' (in container '')"))
        })
    })
}

/// Whether `.a.b` or `['a']` names a declared field.
fn field_path_exists(node: &Arc<Node>, path: &str) -> bool {
    let mut here = Arc::clone(node);
    for name in split_field_path(path) {
        match here.field(&name) {
            Some(child) => here = Arc::clone(child),
            None => return false,
        }
    }
    path.starts_with(['.', '['])
}

/// The names in a field path: `.a['b.c'].d`.
fn split_field_path(path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("['") {
            let end = quoted.find("']").unwrap_or(quoted.len());
            names.push(quoted[..end].to_owned());
            rest = quoted.get(end + 2..).unwrap_or_default();
        } else {
            let plain = rest.strip_prefix('.').unwrap_or(rest);
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            names.push(plain[..end].to_owned());
            rest = &plain[end..];
            if end == 0 {
                break;
            }
        }
    }
    names
}

thread_local! {
    /// The functions of Kubernetes' CEL environment; registering them takes a while, so once a thread.
    static ENVIRONMENT: Context<'static> = environment();
}

/// Kubernetes' functions, and what the library lacks of the language itself: `type`, `bool` and `dyn`.
fn environment() -> Context<'static> {
    let mut environment = Context::default().with_all();
    environment.add_function("type", |value: Cel| Arc::new(type_of(&value).to_owned()));
    environment.add_function("dyn", |value: Cel| Ok::<_, ExecutionError>(value));
    environment.add_function("bool", |value: Cel| match &value {
        Cel::Bool(b) => Ok(*b),
        Cel::String(text) if ["true", "TRUE", "True", "t", "1"].contains(&text.as_str()) => Ok(true),
        Cel::String(text) if ["false", "FALSE", "False", "f", "0"].contains(&text.as_str()) => Ok(false),
        _ => Err(ExecutionError::function_error("bool", "type conversion error")),
    });
    for name in TYPE_NAMES {
        environment.add_variable_from_value(name, name.to_owned());
    }
    environment
}

/// Types are values: `type(self) == string`.
const TYPE_NAMES: [&str; 9] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint"];

fn type_of(value: &Cel) -> &'static str {
    match value {
        Cel::List(_) => "list",
        Cel::Map(_) => "map",
        Cel::Int(_) => "int",
        Cel::UInt(_) => "uint",
        Cel::Float(_) => "double",
        Cel::String(_) => "string",
        Cel::Bytes(_) => "bytes",
        Cel::Bool(_) => "bool",
        Cel::Null => "null_type",
        Cel::Duration(_) => "google.protobuf.Duration",
        Cel::Timestamp(_) => "google.protobuf.Timestamp",
        _ => "dyn",
    }
}

/// Runs all rules of a whole object.
pub(super) fn run(node: &Node, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if !node.has_rules {
        return Vec::new();
    }
    ENVIRONMENT.with(|environment| {
        let mut run = Run { environment, budget: OBJECT_BUDGET, errors: Vec::new() };
        run.walk(node, object, old, true, &mut PathBuf::default());
        run.errors
    })
}

struct Run<'a> {
    environment: &'a Context<'static>,
    budget: u64,
    errors: Vec<FieldError>,
}

impl Run<'_> {
    fn walk(&mut self, node: &Node, value: &Value, old: Option<&Value>, root: bool, path: &mut PathBuf) {
        if !node.has_rules || (value.is_null() && node.nullable) {
            return;
        }
        self.rules(node, value, old, root, path);
        for schema in &node.checks.all_of {
            // The value has its type from the structural node.
            if schema.has_rules && !schema.rules.is_empty() {
                let mut typed = node.clone();
                typed.rules.clone_from(&schema.rules);
                self.rules(&typed, value, old, root, path);
            }
        }
        match value {
            Value::Object(map) => {
                let old = old.filter(|_| node.map_type == MapType::Granular);
                for (name, child) in map {
                    let old = old.and_then(|o| o.get(name));
                    if let Some(schema) = node.properties.get(name) {
                        path.field(name, |path| self.walk(schema, child, old, false, path));
                    } else if let Some(schema) = &node.additional {
                        path.key(name, |path| self.walk(schema, child, old, false, path));
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = node.items.as_ref().filter(|s| s.has_rules) {
                    let old_items = OldItems::new(node, old);
                    for (index, item) in items.iter().enumerate() {
                        let old = old_items.of(item);
                        path.index(index, |path| self.walk(schema, item, old, false, path));
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, node: &Node, value: &Value, old: Option<&Value>, root: bool, path: &PathBuf) {
        let unchanged = old == Some(value);
        let due: Vec<&Arc<Rule>> = node
            .rules
            .iter()
            .filter(|rule| match (rule.uses_old_self, rule.optional_old_self) {
                (_, true) => true,
                (true, false) => old.is_some(),
                (false, false) => !unchanged,
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let sizes = Sizes::new(value, old);
        let mut context = self.environment.new_inner_scope();
        let this = cel_value::convert(node, value, root, self.environment);
        context.add_variable_from_value("self", this);
        let before = old.map(|old| cel_value::convert(node, old, root, self.environment));
        for rule in due {
            let cost = sizes.cost(&rule.program);
            if cost > RULE_BUDGET || cost > self.budget {
                self.errors.push(FieldError::invalid(
                    path.as_str(),
                    node.kind.name(),
                    format!(
                        "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                        rule.name()
                    ),
                ));
                continue;
            }
            self.budget -= cost;
            let mut scope = context.new_inner_scope();
            match (&before, rule.optional_old_self) {
                (Some(before), false) => scope.add_variable_from_value("oldSelf", before.clone()),
                (before, true) => {
                    let optional = match before {
                        Some(before) => OptionalValue::of(before.clone()),
                        None => OptionalValue::none(),
                    };
                    scope.add_variable_from_value("oldSelf", Cel::Opaque(Arc::new(optional)));
                }
                (None, false) => {}
            }
            let verdict = evaluate(&rule.program, &scope);
            if let Some(objection) = rule.objection(verdict, &scope) {
                self.errors.push(rule.error(node, value, path, objection));
            }
        }
    }
}

fn evaluate(program: &Expression, scope: &Context) -> Result<Cel, String> {
    // As in `parse`: a panic in the interpreter is a rule that fails.
    catch_unwind(AssertUnwindSafe(|| Cel::resolve(program, scope).map_err(|error| error.to_string())))
        .unwrap_or_else(|_| Err("internal error".to_owned()))
}

/// What an error shows as the value: objects and lists are left out.
fn shown(value: &Value) -> Option<Value> {
    match value {
        Value::Object(_) | Value::Array(_) => None,
        scalar => Some(scalar.clone()),
    }
}

/// Why a rule does not hold.
enum Objection {
    /// It evaluated to false.
    False(String),
    /// It did not evaluate.
    Failed(String),
}

impl Rule {
    /// Whether the rule compares with the old value, so that it needs one.
    pub(super) fn is_transition(&self) -> bool {
        self.uses_old_self
    }

    /// The rule's expression.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// The rule as error texts name it.
    fn name(&self) -> &str {
        if self.message.is_empty() { &self.source } else { &self.message }
    }

    /// None if the rule holds, else what to say.
    fn objection(&self, verdict: Result<Cel, String>, scope: &Context) -> Option<Objection> {
        match verdict {
            Ok(Cel::Bool(true)) => None,
            Ok(Cel::Bool(false)) => {
                let own = self.message_program.as_ref().and_then(|program| match evaluate(program, scope) {
                    Ok(Cel::String(text)) => Some(text.trim().to_owned()),
                    _ => None,
                });
                let usable = |text: &String| !text.is_empty() && !text.contains('\n') && text.len() <= MAX_MESSAGE;
                Some(Objection::False(own.filter(usable).unwrap_or_else(|| {
                    if self.message.is_empty() { format!("failed rule: {}", self.source) } else { self.message.clone() }
                })))
            }
            Ok(_) => Some(Objection::Failed(format!("cel expression must evaluate to a bool: {}", self.name()))),
            Err(error) if error.to_lowercase().starts_with("no such overload") => Some(Objection::Failed(format!(
                "'no such overload': call arguments did not match a supported operator, function or macro signature for rule: {}",
                self.name()
            ))),
            Err(error) => {
                let error = match error.strip_prefix("No such key") {
                    Some(rest) => format!("no such key{rest}"),
                    None => error,
                };
                Some(Objection::Failed(format!("{error} evaluating rule: {}", self.name())))
            }
        }
    }

    fn error(&self, node: &Node, value: &Value, path: &PathBuf, objection: Objection) -> FieldError {
        let detail = match objection {
            Objection::False(detail) => detail,
            Objection::Failed(detail) => {
                return FieldError::invalid(path.as_str(), node.kind.name(), detail);
            }
        };
        let mut field = path.as_str().to_owned();
        for name in split_field_path(&self.field_path) {
            if !field.is_empty() {
                field.push('.');
            }
            field.push_str(&name);
        }
        let kind = match self.reason.as_str() {
            "FieldValueRequired" => FieldErrorKind::Required,
            "FieldValueForbidden" => FieldErrorKind::Forbidden,
            "FieldValueDuplicate" => {
                return FieldError::new(FieldErrorKind::Duplicate, field, shown(value), "");
            }
            _ => FieldErrorKind::Invalid,
        };
        FieldError::new(kind, field, shown(value), detail)
    }
}
