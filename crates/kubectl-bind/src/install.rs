//! What a bind does about the agent's installation, decided without doing anything. In: what is there, and what this
//! version would install. Out: what to write, and sentences about what is left alone.
//!
//! ```text
//!   missing ─────────────────────────────► created
//!   anything of a newer version ─────────► all of it stays as it is
//!   ours, or an unlabelled CRD ──────────► brought to this version
//!   looked after by something else ──────► stays as it is, and is named if it differs
//! ```
//!
//! Ours is what this plugin applied (its field manager is on the object). Of our Deployment, fields that somebody else has
//! set since stay as they were set, and so does an image that was chosen with `--konnector-image`.

use std::cmp::Ordering;

use contract::install::{LABEL_MANAGED_BY, LABEL_VERSION, MANAGED_BY, default_image};
use kube_bind_api::constants::KONNECTOR;
use serde_json::Value;

use crate::changes::contains;
use crate::cluster::{MANAGER, Permission, kinds, text};
use crate::errors::CliError;

/// An object that should be there, and what is there.
pub(crate) struct Found {
    pub(crate) desired: Value,
    pub(crate) live: Option<Value>,
}

/// What to do about everything but the Deployment.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// To be created or changed, in this order.
    pub(crate) write: Vec<Value>,
    /// The newest version that is there, if it is older than ours.
    pub(crate) older: Option<String>,
    /// A newer version is there: nothing may be touched.
    pub(crate) newer: Option<String>,
    /// What is left alone, and why.
    pub(crate) notes: Vec<String>,
}

/// Decides about the installation; `ours` is the version that would be installed.
pub(crate) fn plan(found: &[Found], deployment: Option<&Value>, ours: &str) -> Result<Plan, CliError> {
    let lives = || found.iter().filter_map(|found| found.live.as_ref()).chain(deployment);
    if let Some(going) = lives().find(|live| live.pointer("/metadata/deletionTimestamp").is_some()) {
        return Err(CliError::InstallationTerminating { object: named(going), look: command(going) });
    }
    let newest = lives().filter_map(version).max_by(|a, b| compare(a, b));
    let mut plan = Plan::default();
    match newest.map(|newest| (compare(newest, ours), newest)) {
        Some((Ordering::Greater, newest)) => {
            let missing: Vec<String> =
                found.iter().filter(|found| found.live.is_none()).map(|found| named(&found.desired)).collect();
            if !missing.is_empty() {
                let (newer, ours) = (newest.to_owned(), ours.to_owned());
                return Err(CliError::NewerIncomplete { newer, ours, missing: missing.join(", ") });
            }
            plan.notes.push(format!(
                "The agent's installation is of version {newest}, newer than this command ({ours}): left as it is."
            ));
            plan.newer = Some(newest.to_owned());
            return Ok(plan);
        }
        Some((Ordering::Less, newest)) => plan.older = Some(newest.to_owned()),
        _ => {}
    }
    let mut others = Vec::new();
    for Found { desired, live } in found {
        match live {
            None => plan.write.push(desired.clone()),
            Some(live) if contains(live, desired) => {}
            Some(live) => {
                if live.get("roleRef") != desired.get("roleRef") {
                    return Err(CliError::ForeignRoleBinding { object: named(live), delete: delete_command(live) });
                }
                match keeper(live) {
                    None => plan.write.push(desired.clone()),
                    Some(_) if contains(live, &without_labels(desired)) => {}
                    Some(keeper) => others.push(format!("{} ({keeper})", named(live))),
                }
            }
        }
    }
    if !others.is_empty() {
        plan.notes.push(format!(
            "Left as they are, because something else looks after them, though version {ours} has them different: {}. \
             Bring them up to date there; kubectl bind konnector prints what they should be.",
            others.join(", ")
        ));
    }
    Ok(plan)
}

/// What to do about the Deployment.
#[derive(Debug, PartialEq)]
pub(crate) enum Deploy {
    /// It is as it should be, or there need be none.
    Nothing,
    /// To be created or changed; with sentences about what stays as others set it.
    Write(Value, Vec<String>),
    /// Somebody else's, left alone.
    Leave(String),
}

/// Decides about the Deployment. `desired` is ours with the default image, `image` what was asked for by flag, `alive`
/// whether an agent answers.
pub(crate) fn deploy(live: Option<&Value>, desired: &Value, image: Option<&str>, alive: bool) -> Deploy {
    const IMAGE: &str = "/spec/template/spec/containers/0/image";
    let mut desired = desired.clone();
    let mut set = |image: &str| {
        if let Some(slot) = desired.pointer_mut(IMAGE) {
            *slot = image.into();
        }
    };
    if let Some(image) = image {
        set(image);
    }
    let Some(live) = live else {
        return if alive && image.is_none() { Deploy::Nothing } else { Deploy::Write(desired, Vec::new()) };
    };
    let name = named(live);
    if let Some(keeper) = other_manager(live) {
        let same = version(live) == version(&desired) || contains_by_name(live, &without_labels(&desired));
        return match image {
            Some(image) => Deploy::Leave(format!(
                "{name} is looked after by {keeper}: left as it is. Set the image {image} there."
            )),
            None if same => Deploy::Nothing,
            None => Deploy::Leave(format!(
                "{name} is looked after by {keeper} and not of this version: left as it is. Upgrade it there."
            )),
        };
    }
    let mut notes = Vec::new();
    let now = container(live).map(|container| text(container, "/image")).unwrap_or_default();
    let usual = version(live).map(default_image);
    let chosen = !now.is_empty() && usual.as_deref() != Some(now);
    let whose = owners(live, "f:image");
    if image.is_none() && chosen && whose.is_empty() {
        set(now);
        if version(live) != version(&desired) {
            notes.push(format!(
                "{name} keeps its image {now}, which was chosen: choose another with --konnector-image."
            ));
        }
    }
    for (manager, fields) in managers(live) {
        let mut kept = Vec::new();
        yield_to(&mut desired, live, fields, "", image.is_some(), &mut kept);
        if !kept.is_empty() {
            notes.push(format!("{name} keeps what {manager} has set: {}.", kept.join(", ")));
        }
    }
    if contains_by_name(live, &desired) { Deploy::Nothing } else { Deploy::Write(desired, notes) }
}

/// Takes out of `desired` what another manager owns and has set differently; `image` is ours in any case if it was asked
/// for by flag.
fn yield_to(desired: &mut Value, live: &Value, fields: &Value, path: &str, image: bool, kept: &mut Vec<String>) {
    let Some(fields) = fields.as_object() else { return };
    for (field, below) in fields {
        if let Some(name) = field.strip_prefix("f:") {
            let here = format!("{path}{}{name}", if path.is_empty() { "" } else { "." });
            let (Some(wanted), Some(there)) = (desired.get_mut(name), live.get(name)) else { continue };
            let leaf = below.as_object().is_none_or(serde_json::Map::is_empty);
            if !leaf {
                yield_to(wanted, there, below, &here, image, kept);
            } else if !(contains_by_name(there, wanted) || image && name == "image") {
                kept.push(format!("{here}={}", there.as_str().map_or_else(|| there.to_string(), str::to_owned)));
                if let Some(map) = desired.as_object_mut() {
                    map.remove(name);
                }
            }
        } else if let Some(key) = field.strip_prefix("k:") {
            let Ok(key) = serde_json::from_str::<Value>(key) else { continue };
            let there = live.as_array().and_then(|list| list.iter().find(|item| contains(item, &key)));
            let name = text(&key, "/name").to_owned();
            let wanted = desired.as_array_mut().and_then(|list| list.iter_mut().find(|item| is_item(item, &key)));
            if let (Some(wanted), Some(there)) = (wanted, there) {
                yield_to(wanted, there, below, &format!("{path}[{name}]"), image, kept);
            }
        }
    }
}

/// Whether a desired list item is the one with this key; what it does not say is as by default.
fn is_item(item: &Value, key: &Value) -> bool {
    key.as_object().is_some_and(|key| {
        key.iter().all(|(field, value)| item.get(field).is_none_or(|have| have == value))
            && key.keys().any(|field| item.get(field).is_some())
    })
}

/// [`contains`], but items of lists are found by their names: others may have added some.
fn contains_by_name(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(name, value)| {
            live.get(name).map_or_else(|| contains(&Value::Null, value), |live| contains_by_name(live, value))
        }),
        (Value::Array(live), Value::Array(desired)) if desired.iter().all(|item| item.get("name").is_some()) => {
            let same = |item: &Value| live.iter().find(|other| other.get("name") == item.get("name"));
            desired.iter().all(|item| same(item).is_some_and(|live| contains_by_name(live, item)))
        }
        _ => contains(live, desired),
    }
}

/// Who else looks after an object, if this plugin may not write it.
fn keeper(live: &Value) -> Option<String> {
    let label =
        live.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL_MANAGED_BY)).and_then(Value::as_str);
    match label {
        Some(other) if other != MANAGED_BY => Some(other.to_owned()),
        // A CRD is everybody's who uses the API.
        _ if text(live, "/kind") == "CustomResourceDefinition" => None,
        _ => other_manager(live),
    }
}

/// Whether this plugin applied the object.
pub(crate) fn is_ours(live: &Value) -> bool {
    other_manager(live).is_none()
}

/// The label, or the field managers, of an object that this plugin never applied.
fn other_manager(live: &Value) -> Option<String> {
    let label =
        live.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL_MANAGED_BY)).and_then(Value::as_str);
    if let Some(other) = label.filter(|label| *label != MANAGED_BY) {
        return Some(other.to_owned());
    }
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let names: Vec<&str> = entries.into_iter().flatten().map(|entry| text(entry, "/manager")).collect();
    if names.contains(&MANAGER.0) {
        return None;
    }
    let mut names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    names.dedup();
    Some(if names.is_empty() { "somebody else".to_owned() } else { names.join(", ") })
}

/// Field managers but ourselves and the controller that writes status, with what they own.
fn managers(live: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|entry| {
        let manager = text(entry, "/manager");
        let counts = manager != MANAGER.0 && text(entry, "/subresource").is_empty();
        counts.then_some((manager, entry.get("fieldsV1")?))
    })
}

/// Other managers that own a field of the agent's container.
fn owners<'a>(live: &'a Value, field: &str) -> Vec<&'a str> {
    let key = format!("k:{{\"name\":\"{KONNECTOR}\"}}");
    let owns = |fields: &Value| {
        let containers = fields.pointer("/f:spec/f:template/f:spec/f:containers");
        containers.and_then(|containers| containers.get(&key)).is_some_and(|fields| fields.get(field).is_some())
    };
    managers(live).filter(|(_, fields)| owns(fields)).map(|(manager, _)| manager).collect()
}

fn container(deployment: &Value) -> Option<&Value> {
    let containers = deployment.pointer("/spec/template/spec/containers")?.as_array()?;
    containers.iter().find(|container| text(container, "/name") == KONNECTOR)
}

fn without_labels(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("labels");
    }
    object
}

fn version(object: &Value) -> Option<&str> {
    object.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL_VERSION)).and_then(Value::as_str)
}

/// By precedence: numbers as numbers, a pre-release before its release. What is no version comes before all that are.
fn compare(a: &str, b: &str) -> Ordering {
    type Parsed<'a> = Option<(Vec<u64>, bool, &'a str)>;
    fn parse(text: &str) -> Parsed<'_> {
        let text = text.strip_prefix('v').unwrap_or(text).split('+').next().unwrap_or_default();
        let (numbers, rest) = text.split_once('-').map_or((text, ""), |(numbers, rest)| (numbers, rest));
        let numbers: Option<Vec<u64>> = numbers.split('.').map(|number| number.parse().ok()).collect();
        Some((numbers?, rest.is_empty(), rest))
    }
    parse(a).cmp(&parse(b))
}

/// `ClusterRole kube-bind-konnector`, `Role kube-bind/konnector`.
pub(crate) fn named(object: &Value) -> String {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{} {namespace}{slash}{name}", text(object, "/kind"))
}

fn command(object: &Value) -> String {
    format!("kubectl {}", arguments("get", object))
}

fn delete_command(object: &Value) -> String {
    format!("kubectl {}", arguments("delete", object))
}

fn arguments(verb: &str, object: &Value) -> String {
    let namespace = match text(object, "/metadata/namespace") {
        "" => String::new(),
        namespace => format!("-n {namespace} "),
    };
    format!("{namespace}{verb} {} {}", text(object, "/kind").to_lowercase(), text(object, "/metadata/name"))
}

/// What a person needs to write these objects, created ones first asked about as such.
pub(crate) fn permissions<'a>(objects: impl IntoIterator<Item = (&'a Value, bool)>) -> Vec<Permission> {
    let mut needed: Vec<Permission> = Vec::new();
    for (object, there) in objects {
        let Some(resource) = kinds::of(object) else { continue };
        // Writing is by apply, which creates what is not there.
        for verb in if there { &["patch"][..] } else { &["create", "patch"] } {
            let permission =
                Permission::new(verb, &resource.group, &resource.plural, text(object, "/metadata/namespace"));
            if !needed.contains(&permission) {
                needed.push(permission);
            }
        }
    }
    needed
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
