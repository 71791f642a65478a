//! Lists: at which revision, how many, in which shape.
//!
//! Flows in: a scope, a selection and the paging parameters. Flows out: the JSON of a list. Pages of one list show the
//! revision of the first page; its events are undone from memory for as long as they are remembered, then the token has
//! expired (410).

use apimachinery::field_path::FieldError;
use apimachinery::status::StatusError;
use apimachinery::table::{ListMeta, partial_metadata_list, table};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::negotiate::Shape;
use super::query::Query;
use super::select::{Selection, View};
use crate::store::{ObjectKey, Scope, Store, TableId, TooOld};

/// A collection.
pub struct Collection {
    /// The table.
    pub table: TableId,
    /// Which part of it.
    pub scope: Scope,
}

/// Which revision a list shall be of.
enum At {
    /// The newest.
    Newest,
    /// Any that is not older.
    NotOlderThan(u64),
    /// Exactly this one.
    Exact(u64),
}

/// Reads `resourceVersion`; a number, as everything else is opaque to clients.
pub fn revision(text: &str) -> Result<u64, StatusError> {
    text.parse().map_err(|_| {
        StatusError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": \
             invalid syntax"
        ))
    })
}

fn at(query: &Query) -> Result<At, StatusError> {
    let forbidden = |text: &str| {
        let error = FieldError::forbidden("resourceVersionMatch", text);
        StatusError::invalid("meta.k8s.io", "ListOptions", "", vec![crate::pipeline::cause(&error)])
    };
    let version = query.get("resourceVersion");
    match (query.get("resourceVersionMatch"), version) {
        (Some(_), None) => Err(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided")),
        (Some(_), _) if query.get("continue").is_some() => {
            Err(forbidden("resourceVersionMatch is forbidden when continue is provided"))
        }
        (Some("Exact"), Some("0")) => {
            Err(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""))
        }
        (Some("Exact"), Some(version)) => Ok(At::Exact(revision(version)?)),
        (Some("NotOlderThan"), Some(version)) => Ok(At::NotOlderThan(revision(version)?)),
        (Some(other), Some(_)) => {
            let supported = ["Exact", "NotOlderThan", ""];
            let error = FieldError::not_supported("resourceVersionMatch", other, &supported);
            Err(StatusError::invalid("meta.k8s.io", "ListOptions", "", vec![crate::pipeline::cause(&error)]))
        }
        (None, None | Some("0")) => Ok(At::Newest),
        // Without a match rule, a limit means exactly this revision, for reasons of history.
        (None, Some(version)) if query.get("limit").is_some_and(|l| l != "0") => Ok(At::Exact(revision(version)?)),
        (None, Some(version)) => Ok(At::NotOlderThan(revision(version)?)),
    }
}

/// Refuses a revision from the future.
pub fn check_not_future(store: &Store, revision: u64) -> Result<(), StatusError> {
    let current = store.revision();
    match revision > current {
        true => Err(StatusError::too_large_resource_version(revision, current)),
        false => Ok(()),
    }
}

fn token(revision: u64, last: &ObjectKey) -> String {
    let text = json!({"v": "meta.k8s.io/v1", "rv": revision, "after": [&*last.cluster, &*last.namespace, &*last.name]});
    URL_SAFE_NO_PAD.encode(text.to_string())
}

fn read_token(text: &str, scope: &Scope) -> Result<(u64, ObjectKey), StatusError> {
    let invalid = || {
        let text = "invalid continue token: continue key is not valid: this server has not made it for this list";
        StatusError::bad_request(text)
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let revision = value["rv"].as_u64().ok_or_else(invalid)?;
    let part = |at: usize| value["after"][at].as_str().ok_or_else(invalid);
    let key = ObjectKey::new(part(0)?, part(1)?, part(2)?);
    // A token must not lead out of the collection it is used on.
    if !scope.contains(&key) { Err(invalid()) } else { Ok((revision, key)) }
}

/// Lists a collection.
pub fn list(
    store: &Store,
    collection: &Collection,
    selection: &Selection,
    view: &View,
    query: &Query,
    now: Timestamp,
) -> Result<Bytes, StatusError> {
    // Less than nothing means everything, as nothing does.
    let limit = usize::try_from(query.integer("limit")?.unwrap_or(0)).unwrap_or(0);
    query.integer("timeoutSeconds")?;
    if query.get("sendInitialEvents").is_some() {
        let error = FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
        return Err(StatusError::invalid("meta.k8s.io", "ListOptions", "", vec![crate::pipeline::cause(&error)]));
    }
    let continued = query.get("continue").map(|text| read_token(text, &collection.scope)).transpose()?;
    let exact = match at(query)? {
        At::Newest => None,
        At::NotOlderThan(revision) => {
            check_not_future(store, revision)?;
            None
        }
        At::Exact(revision) => {
            check_not_future(store, revision)?;
            Some(revision)
        }
    };
    if continued.is_some() && query.get("resourceVersion").is_some_and(|v| v != "0") {
        return Err(StatusError::bad_request("specifying resource version is not allowed when using continue"));
    }
    let (wanted, after) = match continued {
        Some((revision, key)) => (Some(revision), Some(key)),
        None => (exact, None),
    };
    let listed = store.list_at(&collection.table, &collection.scope, after.as_ref(), wanted).map_err(
        |TooOld { asked, oldest }| match after {
            Some(_) => StatusError::expired_continue(),
            None => StatusError::too_old_resource_version(asked, oldest),
        },
    )?;
    let total = listed.objects.len();
    let mut objects = Vec::with_capacity(if limit > 0 { limit.min(total) } else { total });
    let mut meta = ListMeta { resource_version: listed.revision.to_string(), ..ListMeta::default() };
    for (seen, object) in listed.objects.into_iter().enumerate() {
        if !selection.is_everything() && !selection.matches(&view.resource, &object) {
            continue;
        }
        if limit > 0 && objects.len() == limit {
            if let Some(last) = objects.last() {
                let last: &std::sync::Arc<crate::store::StoredObject> = last;
                meta.continue_token = token(listed.revision, &last.key);
            }
            if selection.is_everything() {
                meta.remaining = u64::try_from(total - seen).ok();
            }
            break;
        }
        objects.push(object);
    }
    if view.shape != Shape::Object {
        let values: Vec<Value> = objects.iter().map(|o| view.value(o)).collect();
        let out = match &view.shape {
            Shape::Metadata(version) => partial_metadata_list(&values, &meta, version),
            Shape::Table(version) => table(&view.resource.columns, &values, &meta, view.include, true, version, now),
            Shape::Object => Value::Null,
        };
        return Ok(serde_json::to_vec(&out).unwrap_or_default().into());
    }
    let mut out = Vec::with_capacity(256 + objects.iter().map(|o| o.bytes.len() + 1).sum::<usize>());
    out.extend_from_slice(b"{\"kind\":");
    let _ = serde_json::to_writer(&mut out, &view.resource.list_kind);
    out.extend_from_slice(b",\"apiVersion\":");
    let _ = serde_json::to_writer(&mut out, &view.resource.api_version());
    out.extend_from_slice(b",\"metadata\":");
    let _ = serde_json::to_writer(&mut out, &meta.to_value());
    out.extend_from_slice(b",\"items\":[");
    // Lists of built-in kinds say the kind once, as in Kubernetes.
    let prefix = format!("{{\"apiVersion\":\"{}\",\"kind\":\"{}\",", view.resource.api_version(), view.resource.kind);
    for (at, object) in objects.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let bytes = view.bytes(object, false, now);
        match bytes.strip_prefix(prefix.as_bytes()) {
            Some(rest) if !view.resource.custom => {
                out.push(b'{');
                out.extend_from_slice(rest);
            }
            _ => out.extend_from_slice(&bytes),
        }
    }
    out.extend_from_slice(b"]}");
    Ok(out.into())
}
