//! The scale subresource: an `autoscaling/v1` Scale made from two or three fields of an object.

use apimachinery::status::StatusError;
use serde_json::{Map, Value, json};

use super::update::{Change, Ownership};
use super::{Body, Context, Outcome, Target, metadata};
use crate::core::Core;
use crate::registry::ScalePaths;

/// The Scale of an object.
pub fn of(object: &Value, paths: &ScalePaths) -> Value {
    let number = |path: &str| get(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut meta = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{field}")) {
            meta.insert(field.to_owned(), value.clone());
        }
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    if let Some(selector) = paths.label_selector.as_deref().and_then(|path| get(object, path)) {
        status["selector"] = match selector {
            Value::String(text) => text.clone().into(),
            other => selector_text(other).into(),
        };
    }
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": meta,
        "spec": {"replicas": number(&paths.spec_replicas)}, "status": status,
    })
}

/// A `metav1.LabelSelector` in its text form, as far as it is made of equalities.
fn selector_text(selector: &Value) -> String {
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let labels = if structured { selector.get("matchLabels") } else { Some(selector) };
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    let terms: Vec<String> = labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    terms.join(",")
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|step| !step.is_empty())
}

/// The value at a simple path such as `.spec.replicas`.
pub fn get<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path).try_fold(object, |value, step| value.get(step))
}

/// Sets the value at a simple path, making objects on the way.
pub fn set(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for step in steps(path) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[step];
    }
    *at = value;
}

impl Core {
    /// The Scale of an object.
    pub fn scale(&self, target: &Target) -> Result<Value, StatusError> {
        let paths = target.resource.scale.as_ref().ok_or_else(StatusError::no_such_resource)?;
        Ok(of(&self.get(target)?, paths))
    }

    /// Replaces the Scale of an object (PUT).
    pub async fn update_scale(&self, ctx: &Context, target: &Target, body: Body) -> Result<Outcome, StatusError> {
        let paths = target.resource.scale.as_ref().ok_or_else(StatusError::no_such_resource)?;
        let Some(replicas) = body.value.pointer("/spec/replicas").and_then(Value::as_i64) else {
            return Err(StatusError::bad_request("spec.replicas of a Scale must be a number"));
        };
        let version = metadata::text(&body.value, "resourceVersion").to_owned();
        self.change(ctx, target, |current| {
            let mut object = current.clone();
            set(&mut object, &paths.spec_replicas, replicas.into());
            metadata::of(&mut object).insert("resourceVersion".into(), version.clone().into());
            Ok(Change { object, warnings: Vec::new(), ownership: Ownership::Track })
        })
        .await
    }
}
