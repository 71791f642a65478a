//! Strategic merge patch: lists with a merge key merge item by item, directives say the rest.
//!
//! In: two JSON objects and the schema node of the first. Out: the merged object.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::Node;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;
type Schema<'a> = Option<&'a Arc<Node>>;

/// Merges `patch` into `original`.
pub(super) fn merge_maps(original: Object, mut patch: Object, schema: Schema<'_>) -> Result<Object, PatchError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => return Ok(patch),
        Some(Value::String(directive)) if directive == "delete" => return Ok(Object::new()),
        Some(Value::String(directive)) if directive == "merge" => {}
        Some(other) => return Err(unknown_directive(&other, &patch)),
    }
    let mut result = original;
    retain_keys(&mut result, &mut patch)?;
    set_element_order(&mut result, &mut patch, schema)?;
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(&mut result, field, &value)?;
            continue;
        }
        if value.is_null() {
            result.remove(&key);
            continue;
        }
        let node = schema.and_then(|s| s.field(&key));
        let merged = match (result.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                if strategy(node, "replace") {
                    Some(Value::Object(new))
                } else {
                    Some(Value::Object(merge_maps(old, new, node)?))
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => Some(Value::Array(merge_lists(old, new, &key, node)?)),
            (_, new) => without_directives(without_nulls(new)),
        };
        if let Some(merged) = merged {
            result.insert(key, merged);
        }
    }
    Ok(result)
}

fn unknown_directive(directive: &Value, patch: &Object) -> PatchError {
    let names: Vec<&str> = patch.keys().map(String::as_str).collect();
    PatchError::Malformed(format!("unknown patch type: {directive} in map with fields {}", names.join(", ")))
}

fn malformed(text: &str) -> PatchError {
    PatchError::Malformed(text.to_owned())
}

fn strategy(node: Schema<'_>, name: &str) -> bool {
    node.is_some_and(|n| n.patch_strategy.iter().any(|s| s == name))
}

/// `$retainKeys`: only these fields of the original stay (for unions such as a volume's source).
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys = keys.as_array().ok_or_else(|| malformed("invalid patch format of retainKeys"))?;
    let kept = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let unlisted = patch.iter().any(|(key, value)| {
        !value.is_null() && !key.starts_with(DELETE_FROM_LIST) && !key.starts_with(ELEMENT_ORDER) && !kept(key)
    });
    if unlisted {
        return Err(malformed("invalid patch format of retainKeys"));
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// `$setElementOrder/<list>`: merges that list and gives it the order the patch asks for.
fn set_element_order(original: &mut Object, patch: &mut Object, schema: Schema<'_>) -> Result<(), PatchError> {
    let keys: Vec<String> = patch.keys().filter(|k| k.starts_with(ELEMENT_ORDER)).cloned().collect();
    for key in keys {
        let bad = || malformed("invalid patch format of setElementOrder list");
        let Some(Value::Array(order)) = patch.remove(&key) else {
            return Err(bad());
        };
        let field = key.trim_start_matches(ELEMENT_ORDER).to_owned();
        let node = schema.and_then(|s| s.field(&field));
        let merge_key = merge_key(node);
        let old = match original.get(&field) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(_) => return Err(malformed(&format!("{field} is not a list"))),
        };
        let new = match patch.remove(&field) {
            None => None,
            Some(Value::Array(items)) => Some(items),
            Some(Value::Null) => {
                original.remove(&field);
                continue;
            }
            Some(_) => return Err(malformed(&format!("{field} is not a list"))),
        };
        if let Some(new) = &new {
            check_order(new, &order, merge_key)?;
        }
        let merged = match (old.clone(), new) {
            (Some(old), Some(new)) => merge_lists(old, new, &field, node)?,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(|v| without_directives(without_nulls(v))).collect(),
            (None, None) => continue,
        };
        let ordered = reorder(merged, &order, old.as_deref().unwrap_or_default(), merge_key)?;
        original.insert(field, Value::Array(ordered));
    }
    Ok(())
}

fn merge_key(node: Schema<'_>) -> Option<&str> {
    node.and_then(|n| n.patch_merge_key.as_deref())
}

/// Items of the patch must come in the order of the order list.
fn check_order(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = identity(item, merge_key)?;
        let mut found = false;
        for candidate in rest.by_ref() {
            if identity(candidate, merge_key)? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            return Err(PatchError::Malformed(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                Value::from(patch),
                Value::from(order)
            )));
        }
    }
    Ok(())
}

/// What identifies a list item: the value of its merge key, or the item itself.
fn identity<'a>(item: &'a Value, merge_key: Option<&str>) -> Result<&'a Value, PatchError> {
    let Some(key) = merge_key else {
        return Ok(item);
    };
    item.get(key)
        .ok_or_else(|| PatchError::Malformed(format!("map: {item} does not contain declared merge key: {key}")))
}

fn delete_from_list(original: &mut Object, field: &str, gone: &Value) -> Result<(), PatchError> {
    let gone = gone.as_array().ok_or_else(|| malformed("invalid patch format of primitive list"))?;
    if let Some(Value::Array(items)) = original.get_mut(field) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn merge_lists(old: Vec<Value>, new: Vec<Value>, field: &str, node: Schema<'_>) -> Result<Vec<Value>, PatchError> {
    if !strategy(node, "merge") {
        return Ok(new);
    }
    let of_objects = old.iter().chain(&new).any(Value::is_object);
    let order = new.clone();
    let before = old.clone();
    let merge_key = merge_key(node);
    let merged = if of_objects {
        let key = merge_key.ok_or_else(|| malformed(&format!("cannot merge lists without merge key for {field}")))?;
        merge_items(old, new, key, node.and_then(|n| n.items.as_ref()))?
    } else {
        let mut items = old;
        for item in new {
            if !items.contains(&item) {
                items.push(item);
            }
        }
        items
    };
    let order: Vec<Value> = order.into_iter().filter(|item| item.get(DIRECTIVE).is_none()).collect();
    reorder(merged, &order, &before, merge_key)
}

fn merge_items(old: Vec<Value>, new: Vec<Value>, key: &str, item: Schema<'_>) -> Result<Vec<Value>, PatchError> {
    let mut result = old;
    let mut additions = Vec::new();
    let mut replace = false;
    for entry in new {
        match entry.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default()) {
            None => additions.push(entry),
            Some("delete") => {
                let gone = identity(&entry, Some(key))?.clone();
                result.retain(|current| current.get(key) != Some(&gone));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(malformed("merging lists cannot yet be specified in the patch"));
            }
            Some(other) => {
                return Err(malformed(&format!("unknown patch type: {other} in list item")));
            }
        }
    }
    if replace {
        return Ok(additions);
    }
    for entry in additions {
        let wanted = identity(&entry, Some(key))?.clone();
        let position = result.iter().position(|current| current.get(key) == Some(&wanted));
        match (position.and_then(|at| result.get_mut(at)), entry) {
            (Some(Value::Object(current)), Value::Object(change)) => {
                *current = merge_maps(std::mem::take(current), change, item)?;
            }
            (_, entry) => result.extend(without_directives(without_nulls(entry))),
        }
    }
    Ok(result)
}

/// Items named by `order` come in that order; the server's other items keep their place relative to them.
fn reorder(
    items: Vec<Value>,
    order: &[Value],
    server: &[Value],
    merge_key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let mut ordered: Vec<(usize, Value)> = Vec::new();
    let mut others: Vec<(usize, Value)> = Vec::new();
    let rank = |list: &[Value], item: &Value| -> Result<Option<usize>, PatchError> {
        let wanted = identity(item, merge_key)?;
        for (at, candidate) in list.iter().enumerate() {
            if identity(candidate, merge_key)? == wanted {
                return Ok(Some(at));
            }
        }
        Ok(None)
    };
    for item in items {
        match rank(order, &item)? {
            Some(at) => ordered.push((at, item)),
            None => others.push((rank(server, &item)?.unwrap_or(usize::MAX), item)),
        }
    }
    ordered.sort_by_key(|(at, _)| *at);
    others.sort_by_key(|(at, _)| *at);
    let mut out = Vec::with_capacity(ordered.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, item) in ordered {
        let place = rank(server, &item)?;
        while let Some((at, _)) = others.peek() {
            if place.is_none_or(|place| *at >= place) {
                break;
            }
            out.extend(others.next().map(|(_, other)| other));
        }
        out.push(item);
    }
    out.extend(others.map(|(_, item)| item));
    Ok(out)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// A value that comes in whole: parts that carry a directive are instructions about something absent, so they go.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let plain =
                |key: &str| key != RETAIN_KEYS && !key.starts_with(DELETE_FROM_LIST) && !key.starts_with(ELEMENT_ORDER);
            let kept = fields.into_iter().filter(|(k, _)| plain(k));
            Some(Value::Object(kept.filter_map(|(k, v)| Some((k, without_directives(v)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::NodeType;
    use rstest::rstest;
    use serde_json::json;

    fn leaf() -> Arc<Node> {
        Arc::new(Node { kind: NodeType::String, ..Node::default() })
    }

    fn list(items: Arc<Node>, key: Option<&str>, strategies: &[&str]) -> Arc<Node> {
        Arc::new(Node {
            kind: NodeType::Array,
            items: Some(items),
            patch_merge_key: key.map(str::to_owned),
            patch_strategy: strategies.iter().map(|s| (*s).to_owned()).collect(),
            ..Node::default()
        })
    }

    fn object(fields: Vec<(&str, Arc<Node>)>) -> Arc<Node> {
        let properties = fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        Arc::new(Node { kind: NodeType::Object, properties, ..Node::default() })
    }

    fn pod() -> Arc<Node> {
        let port = object(vec![("containerPort", leaf()), ("name", leaf())]);
        let container =
            object(vec![("name", leaf()), ("image", leaf()), ("ports", list(port, Some("containerPort"), &["merge"]))]);
        let volume = object(vec![("name", leaf()), ("emptyDir", object(vec![])), ("secret", object(vec![]))]);
        object(vec![
            ("containers", list(container, Some("name"), &["merge"])),
            ("volumes", list(volume, Some("name"), &["merge", "retainKeys"])),
            ("finalizers", list(leaf(), None, &["merge"])),
            ("args", list(leaf(), None, &[])),
        ])
    }

    #[rstest]
    #[case::scalars(json!({"a":1,"b":2}), json!({"a":3,"b":null}), json!({"a":3}))]
    #[case::merge_by_key(
        json!({"containers":[{"name":"a","image":"1"},{"name":"b","image":"1"}]}),
        json!({"containers":[{"name":"b","image":"2"},{"name":"c"}]}),
        json!({"containers":[{"name":"a","image":"1"},{"name":"b","image":"2"},{"name":"c"}]}))]
    #[case::nested_lists(
        json!({"containers":[{"name":"a","ports":[{"containerPort":1}]}]}),
        json!({"containers":[{"name":"a","ports":[{"containerPort":2}]}]}),
        json!({"containers":[{"name":"a","ports":[{"containerPort":2},{"containerPort":1}]}]}))]
    #[case::delete_item(
        json!({"containers":[{"name":"a"},{"name":"b"}]}),
        json!({"containers":[{"name":"a","$patch":"delete"}]}),
        json!({"containers":[{"name":"b"}]}))]
    #[case::replace_list(
        json!({"containers":[{"name":"a"},{"name":"b"}]}),
        json!({"containers":[{"$patch":"replace"},{"name":"c"}]}),
        json!({"containers":[{"name":"c"}]}))]
    #[case::replace_map(json!({"m":{"a":1}}), json!({"m":{"$patch":"replace","b":2}}), json!({"m":{"b":2}}))]
    #[case::delete_map(json!({"m":{"a":1}}), json!({"m":{"$patch":"delete"}}), json!({"m":{}}))]
    #[case::primitives(json!({"finalizers":["a","b"]}), json!({"finalizers":["c","a"]}), json!({"finalizers":["c","a","b"]}))]
    #[case::delete_primitives(
        json!({"finalizers":["a","b"]}), json!({"$deleteFromPrimitiveList/finalizers":["a"]}), json!({"finalizers":["b"]}))]
    #[case::atomic(json!({"args":["a"]}), json!({"args":["b"]}), json!({"args":["b"]}))]
    #[case::order(
        json!({"containers":[{"name":"a"},{"name":"s"},{"name":"b"}]}),
        json!({"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"b","image":"2"}]}),
        json!({"containers":[{"name":"s"},{"name":"b","image":"2"},{"name":"a"}]}))]
    #[case::order_of_primitives(
        json!({"finalizers":["a","b"]}),
        json!({"$setElementOrder/finalizers":["b","a"]}),
        json!({"finalizers":["b","a"]}))]
    #[case::retain_keys(
        json!({"volumes":[{"name":"v","emptyDir":{}}]}),
        json!({"volumes":[{"name":"v","$retainKeys":["name","secret"],"secret":{"secretName":"s"}}]}),
        json!({"volumes":[{"name":"v","secret":{"secretName":"s"}}]}))]
    #[case::nulls_in_new_values(json!({}), json!({"m":{"a":null,"b":1}}), json!({"m":{"b":1}}))]
    #[case::directives_about_nothing(
        json!({}), json!({"containers":[{"name":"a","$patch":"delete"},{"name":"b"}]}), json!({"containers":[{"name":"b"}]}))]
    fn merges(#[case] original: Value, #[case] patch: Value, #[case] expected: Value) {
        let (Value::Object(original), Value::Object(patch)) = (original, patch) else { panic!("objects") };
        assert_eq!(Value::Object(merge_maps(original, patch, Some(&pod())).unwrap()), expected);
    }

    #[rstest]
    #[case(json!({"containers":[{"image":"x"}]}), "does not contain declared merge key: name")]
    #[case(json!({"$retainKeys":["a"],"b":1}), "invalid patch format of retainKeys")]
    #[case(json!({"$patch":"explode"}), "unknown patch type")]
    fn explains(#[case] patch: Value, #[case] message: &str) {
        let original = json!({"containers":[{"name":"a"}]});
        let (Value::Object(original), Value::Object(patch)) = (original, patch) else { panic!("objects") };
        let error = merge_maps(original, patch, Some(&pod())).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}
