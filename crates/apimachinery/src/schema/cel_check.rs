//! What can be told about a rule without running it.
//!
//! In: a parsed rule, the node it belongs to, and (for the cost) the values it will see. Out: names it uses that do not
//! exist, and an upper bound of the steps its evaluation takes. The CEL library has no cost limit of its own, so a rule
//! whose bound exceeds the budget is not run at all.

use std::{collections::HashMap, sync::Arc};

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use serde_json::Value;

use super::{
    cel_value::escape,
    node::{Node, NodeType},
};

/// Identifiers that are types or the first part of a function's name.
const KNOWN: [&str; 27] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "type",
    "uint",
    "optional_type",
    "google",
    "optional",
    "math",
    "sets",
    "base64",
    "format",
    "ip",
    "cidr",
    "strings",
    "lists",
    "regex",
    "jsonpatch",
    "semver",
];

/// Names in scope with what is known of them.
type Scope<T> = HashMap<String, Option<T>>;

/// The first name or field in the rule that does not exist.
pub(super) fn undeclared(expr: &IdedExpr, node: &Arc<Node>, resource: bool) -> Option<String> {
    let mut scope: Scope<(Arc<Node>, bool)> = HashMap::new();
    scope.insert("self".to_owned(), Some((Arc::clone(node), resource)));
    scope.insert("oldSelf".to_owned(), Some((Arc::clone(node), resource)));
    find_undeclared(expr, &scope)
}

fn find_undeclared(expr: &IdedExpr, scope: &Scope<(Arc<Node>, bool)>) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) => {
            let known = scope.contains_key(name) || KNOWN.contains(&name.as_str());
            (!known).then(|| format!("undeclared reference to '{name}' (in container '')"))
        }
        Expr::Select(select) => find_undeclared(&select.operand, scope).or_else(|| {
            let (node, resource) = typed(&select.operand, scope)?;
            let declared = node.additional.is_some()
                || node.kind != NodeType::Object
                || field_node(&node, resource, &select.field).is_some();
            (!declared).then(|| format!("undefined field '{}'", select.field))
        }),
        Expr::Comprehension(comprehension) => {
            let mut inner = scope.clone();
            let element = typed(&comprehension.iter_range, scope)
                .and_then(|(node, _)| node.items.clone())
                .map(|node| (node, false));
            inner.insert(comprehension.iter_var.clone(), element);
            if let Some(second) = &comprehension.iter_var2 {
                inner.insert(second.clone(), None);
            }
            inner.insert(comprehension.accu_var.clone(), None);
            find_undeclared(&comprehension.iter_range, scope)
                .or_else(|| find_undeclared(&comprehension.accu_init, scope))
                .or_else(|| find_undeclared(&comprehension.loop_cond, &inner))
                .or_else(|| find_undeclared(&comprehension.loop_step, &inner))
                .or_else(|| find_undeclared(&comprehension.result, &inner))
        }
        _ => children(expr).into_iter().find_map(|child| find_undeclared(child, scope)),
    }
}

/// The node of an expression that is a plain path from a name in scope.
fn typed(expr: &IdedExpr, scope: &Scope<(Arc<Node>, bool)>) -> Option<(Arc<Node>, bool)> {
    match &expr.expr {
        Expr::Ident(name) => scope.get(name)?.clone(),
        Expr::Select(select) if !select.test => {
            let (node, resource) = typed(&select.operand, scope)?;
            let child = field_node(&node, resource, &select.field).or_else(|| node.additional.clone())?;
            Some((child, false))
        }
        Expr::Call(call) if call.func_name == "_[_]" => {
            let (node, _) = typed(call.args.first()?, scope)?;
            let child = match node.kind {
                NodeType::Array => node.items.clone()?,
                _ => node.additional.clone()?,
            };
            Some((child, false))
        }
        _ => None,
    }
}

/// The node of a field by its escaped name.
fn field_node(node: &Node, resource: bool, field: &str) -> Option<Arc<Node>> {
    if resource || node.embedded_resource {
        match field {
            "metadata" => return Some(Arc::new(Node::open())),
            "apiVersion" | "kind" => return Some(Arc::clone(&super::metadata::TEXT)),
            _ => {}
        }
    }
    node.properties.iter().find(|(name, _)| escape(name) == field).map(|(_, child)| Arc::clone(child))
}

fn children(expr: &IdedExpr) -> Vec<&IdedExpr> {
    match &expr.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Map(map) => entries(&map.entries),
        Expr::Struct(fields) => entries(&fields.entries),
        _ => Vec::new(),
    }
}

fn entries(entries: &[kube_cel::cel::common::ast::IdedEntryExpr]) -> Vec<&IdedExpr> {
    entries
        .iter()
        .flat_map(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
            EntryExpr::StructField(field) => vec![&field.value],
        })
        .collect()
}

/// Whether the rule certainly does not yield true or false.
pub(super) fn is_not_bool(expr: &IdedExpr) -> bool {
    match &expr.expr {
        Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => true,
        Expr::Call(call) => matches!(call.func_name.as_str(), "_+_" | "_-_" | "_*_" | "_/_" | "_%_" | "-_" | "size"),
        _ => false,
    }
}

/// The functions and methods the rule calls by a plain name.
pub(super) fn functions(expr: &IdedExpr) -> Vec<String> {
    let mut names = Vec::new();
    collect_functions(expr, &mut names);
    names
}

fn collect_functions(expr: &IdedExpr, names: &mut Vec<String>) {
    if let Expr::Call(call) = &expr.expr {
        let operator = call.func_name.starts_with(['_', '!', '@', '-']);
        let qualified = match call.target.as_deref().map(|t| &t.expr) {
            Some(Expr::Ident(name)) => KNOWN.contains(&name.as_str()),
            _ => false,
        };
        if !operator && !qualified && !call.func_name.contains('.') {
            names.push(call.func_name.clone());
        }
    }
    let parts = match &expr.expr {
        Expr::Comprehension(c) => vec![&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result],
        _ => children(expr),
    };
    parts.into_iter().for_each(|part| collect_functions(part, names));
}

/// Whether the rule mentions `oldSelf`.
pub(super) fn uses_old_self(expr: &IdedExpr) -> bool {
    match &expr.expr {
        Expr::Ident(name) => name == "oldSelf",
        Expr::Comprehension(c) => {
            [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result].into_iter().any(uses_old_self)
        }
        _ => children(expr).into_iter().any(uses_old_self),
    }
}

/// What a rule will see, and the largest sizes in it.
pub(super) struct Sizes<'a> {
    value: &'a Value,
    old: Option<&'a Value>,
    /// The longest list or map.
    longest: u64,
    /// The longest string, in bytes.
    text: u64,
}

impl<'a> Sizes<'a> {
    pub(super) fn new(value: &'a Value, old: Option<&'a Value>) -> Self {
        let mut sizes = Self { value, old, longest: 0, text: 0 };
        sizes.measure(value);
        if let Some(old) = old {
            sizes.measure(old);
        }
        sizes
    }

    fn measure(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text = self.text.max(text.len() as u64),
            Value::Array(items) => {
                self.longest = self.longest.max(items.len() as u64);
                items.iter().for_each(|item| self.measure(item));
            }
            Value::Object(map) => {
                self.longest = self.longest.max(map.len() as u64);
                map.values().for_each(|child| self.measure(child));
            }
            _ => {}
        }
    }

    /// An upper bound of the steps that evaluating `expr` takes.
    pub(super) fn cost(&self, expr: &IdedExpr) -> u64 {
        let mut scope: Scope<Vec<&Value>> = HashMap::new();
        scope.insert("self".to_owned(), Some(vec![self.value]));
        scope.insert("oldSelf".to_owned(), self.old.map(|old| vec![old]));
        self.steps(expr, &scope)
    }

    fn steps(&self, expr: &IdedExpr, scope: &Scope<Vec<&'a Value>>) -> u64 {
        match &expr.expr {
            Expr::Comprehension(c) => {
                let range = reached(&c.iter_range, scope);
                let times = match (&range, &c.iter_range.expr) {
                    (Some(values), _) => values.iter().map(|v| length(v)).max().unwrap_or(0),
                    (None, Expr::List(list)) => list.elements.len() as u64,
                    (None, _) => self.longest.max(self.text),
                };
                let mut inner = scope.clone();
                inner.insert(c.iter_var.clone(), range.map(elements));
                if let Some(second) = &c.iter_var2 {
                    inner.insert(second.clone(), None);
                }
                inner.insert(c.accu_var.clone(), None);
                let body = self.steps(&c.loop_cond, &inner).saturating_add(self.steps(&c.loop_step, &inner));
                self.steps(&c.iter_range, scope)
                    .saturating_add(self.steps(&c.accu_init, scope))
                    .saturating_add(times.saturating_mul(body))
                    .saturating_add(self.steps(&c.result, &inner))
            }
            _ => {
                let own = match &expr.expr {
                    Expr::Call(call) if !call.func_name.starts_with(['_', '!', '@', '-']) => 1 + self.text / 10,
                    _ => 1,
                };
                children(expr).into_iter().fold(own, |sum, child| sum.saturating_add(self.steps(child, scope)))
            }
        }
    }
}

fn length(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.len() as u64,
        Value::Object(map) => map.len() as u64,
        _ => 0,
    }
}

fn elements(values: Vec<&Value>) -> Vec<&Value> {
    values
        .into_iter()
        .flat_map(|value| match value {
            Value::Array(items) => items.iter().collect(),
            _ => Vec::new(),
        })
        .collect()
}

/// All values an expression that is a plain path can have; None for other expressions.
fn reached<'a>(expr: &IdedExpr, scope: &Scope<Vec<&'a Value>>) -> Option<Vec<&'a Value>> {
    match &expr.expr {
        Expr::Ident(name) => scope.get(name)?.clone(),
        Expr::Select(select) if !select.test => {
            let values = reached(&select.operand, scope)?;
            Some(
                values
                    .into_iter()
                    .filter_map(Value::as_object)
                    .flat_map(|map| {
                        map.iter()
                            .filter(|(name, _)| escape(name) == select.field || **name == select.field)
                            .map(|(_, child)| child)
                    })
                    .collect(),
            )
        }
        _ => None,
    }
}
