//! Server-side apply and field ownership.
//!
//! ```text
//!   apply:  live + config ──► merge ──► remove what the manager gave up ──► conflicts? ──► new object + managedFields
//!   others: old → new     ──► compare ─► changed fields move to the updater ─────────────► managedFields of new
//! ```
//!
//! The algorithm is the published one (structured-merge-diff, KEP-555) on JSON values and compiled schemas. The
//! registries call [`apply`] for `application/apply-patch+yaml` and [`track_update`] for every other write.

mod field_set;
mod last_applied;
mod managed;
mod object;
#[cfg(test)]
mod tests;
mod typed;

use jiff::Timestamp;
use serde_json::{Map, Value};

use self::{
    field_set::display,
    managed::{Managed, Operation, Owner, stamp},
    typed::Comparison,
};
use crate::schema::{Node, Structural};

pub use field_set::{FieldSet, PathElement};

/// Who applies, and how.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// The field manager (`?fieldManager=`); must not be empty.
    pub manager: String,
    /// Take over fields that others own (`?force=true`).
    pub force: bool,
    /// `status`, `scale`, ... or empty for the main resource.
    pub subresource: String,
    /// The time recorded for what changes.
    pub now: Timestamp,
    /// Fields this endpoint ignores, so nobody gets to own them through it.
    pub reset: ResetFields,
}

/// Who updates (POST, PUT, PATCH other than apply).
#[derive(Debug, Clone, Default)]
pub struct UpdateOptions {
    /// The field manager: `?fieldManager=`, or the user agent up to the first `/`.
    pub manager: String,
    /// `status`, `scale`, ... or empty for the main resource.
    pub subresource: String,
    /// The time recorded for what changes.
    pub now: Timestamp,
    /// Fields this endpoint ignores, so nobody gets to own them through it.
    pub reset: ResetFields,
}

/// Top-level fields an endpoint does not write: the main resource of a kind with a status subresource ignores
/// `status`; the status subresource ignores everything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResetFields {
    /// Nothing is ignored.
    #[default]
    None,
    /// `status` is ignored (the main resource).
    Status,
    /// All but `status` is ignored (the status subresource).
    AllButStatus,
}

/// One field that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The owner as shown to users: `"kubectl" using v1`, `"kubectl" with subresource "status" using v1 at <time>`.
    pub manager: String,
    /// The field: `.spec.containers[name="a"].image`.
    pub path: String,
}

/// Why an apply was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Fields with a different value are owned by others, and `force` was not given. HTTP 409, reason `Conflict`.
    #[error("{}", conflicts_text(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration does not fit the schema (unknown field, wrong type, duplicate key). HTTP 500 in Kubernetes'
    /// words: `failed to create typed patch object (...): .spec.x: field not declared in schema`.
    #[error("failed to create typed patch object ({object}): {}", typed_text(.errors))]
    Typed {
        /// `namespace/name; apiVersion, Kind=Kind`.
        object: String,
        /// One text per problem.
        errors: Vec<String>,
    },
    /// The request is malformed (no manager, managedFields in the configuration). HTTP 400.
    #[error("{0}")]
    BadRequest(String),
}

/// The text of a conflict error, as kubectl shows it.
fn conflicts_text(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.path);
    }
    let mut text = format!("Apply failed with {} conflicts: ", conflicts.len());
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            if last.is_some() {
                text.push('\n');
            }
            text.push_str(&format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        text.push_str(&format!("\n- {}", conflict.path));
    }
    text
}

/// Typing errors as one text: alone as it is, several as a list.
fn typed_text(errors: &[String]) -> String {
    match errors {
        [only] => only.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    }
}

impl ResetFields {
    /// Whether the endpoint ignores a top-level field.
    pub fn ignores(self, field: &str) -> bool {
        match self {
            Self::None => false,
            Self::Status => field == "status",
            Self::AllButStatus => field != "status",
        }
    }

    /// Undoes, in `new`, what a request says about ignored fields: they are as in `old` (absent if there is none).
    /// `apiVersion`, `kind` and `metadata` are left to the caller.
    pub fn restore(self, old: Option<&Value>, new: &mut Value) {
        let Some(new) = new.as_object_mut() else {
            return;
        };
        let old = old.and_then(Value::as_object);
        let mut names: Vec<String> = new.keys().cloned().collect();
        names.extend(old.into_iter().flat_map(Map::keys).cloned());
        for name in names {
            if matches!(name.as_str(), "apiVersion" | "kind" | "metadata") || !self.ignores(&name) {
                continue;
            }
            match old.and_then(|old| old.get(&name)) {
                Some(value) => new.insert(name, value.clone()),
                None => new.remove(&name),
            };
        }
    }

    fn filter(self, set: &FieldSet) -> FieldSet {
        match self {
            Self::None => set.clone(),
            _ => set.without_top_level(|field| self.ignores(field)),
        }
    }

    fn filter_comparison(self, comparison: Comparison) -> Comparison {
        Comparison {
            added: self.filter(&comparison.added),
            modified: self.filter(&comparison.modified),
            removed: self.filter(&comparison.removed),
        }
    }
}

/// Merges `config` into `live` (None: creates the object) and returns the new object with `metadata.managedFields`
/// up to date. Without a change, the answer equals `live`.
///
/// `config` must carry `apiVersion` and `kind`. Pruning, defaulting and validation of the result are the caller's;
/// defaults that appear after the merge belong to nobody. The result may hold nulls: those of `config`, and maps and
/// lists that it emptied while somebody owns them. Kubernetes validates them as they are, so a caller defaults with
/// [`Structural::fill_defaults`] and drops them after validation.
pub fn apply(
    live: Option<&Value>,
    config: &Value,
    options: &ApplyOptions,
    schema: &Structural,
) -> Result<Value, ApplyError> {
    if options.manager.is_empty() {
        return Err(ApplyError::BadRequest("fieldManager: Required value: is required for apply patch".to_owned()));
    }
    if let Some(Value::Array(entries)) = config.pointer("/metadata/managedFields")
        && !entries.is_empty()
    {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    let root = object::root(schema.root());
    let config = object::without_managed_fields(config);
    let mut errors = Vec::new();
    typed::check(&root, &config, "", &mut errors);
    if !errors.is_empty() {
        return Err(ApplyError::Typed { object: object::described(&config), errors });
    }
    let said = &config;
    let config = object::owned_part(&config, options.reset);
    match try_apply(live, &config, options, &root) {
        // `kubectl apply --server-side` after client-side apply: what that applied may be taken over.
        Err(ApplyError::Conflicts(conflicts)) if options.manager == last_applied::MANAGER => {
            let refused = live.map_or_else(Vec::new, |live| last_applied::refused(live, &conflicts, &root));
            if refused.is_empty() {
                let forced = ApplyOptions { force: true, ..options.clone() };
                try_apply(live, &config, &forced, &root)
            } else {
                Err(ApplyError::Conflicts(refused))
            }
        }
        other => other,
    }
    .map(|mut new| {
        if options.manager == last_applied::MANAGER && options.subresource.is_empty() {
            last_applied::refresh(&mut new, said);
        }
        new
    })
}

/// Whether two states of an object differ at most in the times of their managedFields: then there is nothing to write.
pub fn equal_but_times(a: &Value, b: &Value) -> bool {
    fn managed(object: &Value) -> Option<Managed> {
        let mut managed = Managed::decode(object)?;
        for owner in &mut managed.owners {
            owner.time = None;
        }
        managed.owners.sort_by(|a, b| {
            let key = |o: &Owner| (o.operation, o.manager.clone(), o.api_version.clone(), o.subresource.clone());
            key(a).cmp(&key(b))
        });
        Some(managed)
    }
    managed(a) == managed(b) && object::without_managed_fields(a) == object::without_managed_fields(b)
}

fn try_apply(live: Option<&Value>, config: &Value, options: &ApplyOptions, root: &Node) -> Result<Value, ApplyError> {
    let now = stamp(options.now);
    let nothing = Value::Object(Map::new());
    let old = live.map(object::without_managed_fields).unwrap_or(nothing);
    let mut managed = live.and_then(Managed::decode).unwrap_or_default();
    if live.is_some() && managed.owners.is_empty() {
        managed.put(before_first_apply(&old, &now, root));
    }
    reconcile(&mut managed, root);

    let version = config.get("apiVersion").and_then(Value::as_str);
    let mut me = Owner {
        manager: options.manager.clone(),
        operation: Operation::Apply,
        api_version: version.unwrap_or_default().to_owned(),
        subresource: options.subresource.clone(),
        time: None,
        fields: options.reset.filter(&typed::field_set(root, config)),
    };
    let last = managed.find(&me).cloned();
    me.time = last.as_ref().and_then(|last| last.time.clone());

    let merged = typed::merge(root, Some(&old), Some(config)).unwrap_or_else(|| old.clone());
    managed.put(me.clone());
    let new = match &last {
        Some(last) => give_up(&merged, last, &managed, root),
        None => merged,
    };
    let comparison = options.reset.filter_comparison(typed::compare(root, &old, &new));
    take_over(&mut managed, &me, &comparison, options.force)?;
    // A new order alone changes the object, though nobody's fields.
    let unchanged = live.is_some() && typed::equal(&old, &new);
    // Who only joins the owners of what is there already gets no time, as in Kubernetes.
    if !unchanged {
        me.time = Some(now);
    }
    managed.put(me);
    finish(&mut managed);

    let mut new = if unchanged { old } else { new };
    managed.encode_into(&mut new);
    Ok(new)
}

/// An object that was never tracked: what it holds was there before the first apply.
fn before_first_apply(old: &Value, now: &str, root: &Node) -> Owner {
    let nothing = Value::Object(Map::new());
    Owner {
        manager: "before-first-apply".to_owned(),
        operation: Operation::Update,
        api_version: old.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned(),
        subresource: String::new(),
        time: Some(now.to_owned()),
        fields: typed::compare(root, &nothing, old).set(),
    }
}

fn reconcile(managed: &mut Managed, root: &Node) {
    for owner in &mut managed.owners {
        owner.fields = typed::reconciled(root, &owner.fields);
    }
}

/// Removes from `merged` what the applier applied the last time but not now, unless others own it.
fn give_up(merged: &Value, last: &Owner, managed: &Managed, root: &Node) -> Value {
    if last.fields.is_empty() {
        return merged.clone();
    }
    let whole = |set: &FieldSet| typed::with_named_parents(root, set);
    let without = |set: &FieldSet| typed::remove(root, merged, set);
    let before = whole(&last.fields);
    let all = whole(&typed::field_set(root, merged));
    // All that was applied the last time goes ...
    let bare = without(&before);
    // ... but what anybody owns (this configuration, too) stays ...
    let owned = managed.owners.iter().fold(FieldSet::default(), |all, owner| all.union(&owner.fields));
    let kept = whole(&typed::field_set(root, &bare)).union(&whole(&owned));
    let pruned = without(&all.difference(&kept));
    // ... and so does what nobody owns.
    let left = whole(&typed::field_set(root, &pruned));
    without(&all.difference(&left).intersection(&before).difference(&whole(&owned)))
}

/// Takes changed fields from their owners, or reports the conflicts.
fn take_over(managed: &mut Managed, me: &Owner, comparison: &Comparison, force: bool) -> Result<(), ApplyError> {
    let changed = comparison.set();
    if !force {
        let mut conflicts = Vec::new();
        for owner in managed.owners.iter().filter(|owner| !owner.is(me)) {
            for path in owner.fields.intersection(&changed).paths() {
                conflicts.push(Conflict { manager: owner.shown(), path: display(&path) });
            }
        }
        if !conflicts.is_empty() {
            conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
            return Err(ApplyError::Conflicts(conflicts));
        }
    }
    let lost = changed.union(&comparison.removed);
    for owner in managed.owners.iter_mut().filter(|owner| !owner.is(me)) {
        owner.fields = owner.fields.difference(&lost);
    }
    Ok(())
}

/// Fields that the server sets belong to nobody; neither does nothing.
fn finish(managed: &mut Managed) {
    for owner in &mut managed.owners {
        owner.fields = owner.fields.difference(&object::NEVER_OWNED);
    }
    managed.drop_empty();
    managed.cap();
}

/// Records ownership after a POST (`old` is None), PUT or PATCH in `new`'s `metadata.managedFields`: what changed
/// belongs to the updater now. `managedFields: [{}]` in `new` resets all ownership; absent, `[]` or malformed
/// managedFields in `new` mean the ones of `old`. Objects without any managedFields are not tracked until the first
/// apply. Call it on the object as it will be stored (defaulted, ignored fields restored).
pub fn track_update(old: Option<&Value>, new: &mut Value, options: &UpdateOptions, schema: &Structural) {
    let stored = old.and_then(Managed::decode).unwrap_or_default();
    let mut managed = if !options.subresource.is_empty() {
        stored
    } else if Managed::is_reset(new) {
        Managed::default()
    } else {
        match Managed::decode(new) {
            Some(given) if !given.owners.is_empty() => given,
            _ => stored,
        }
    };
    let root = object::root(schema.root());
    let after = object::without_managed_fields(new);
    if old.is_some() && managed.owners.is_empty() {
        *new = after;
        return;
    }
    reconcile(&mut managed, &root);
    let nothing = Value::Object(Map::new());
    let before = old.map(object::without_managed_fields).unwrap_or(nothing);
    let comparison = options.reset.filter_comparison(typed::compare(&root, &before, &after));
    if !comparison.is_same() {
        let lost = comparison.set().union(&comparison.removed);
        let mut me = Owner {
            manager: match options.manager.as_str() {
                "" => "unknown".to_owned(),
                name => name.to_owned(),
            },
            operation: Operation::Update,
            api_version: new.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned(),
            subresource: options.subresource.clone(),
            time: None,
            fields: comparison.set(),
        };
        for owner in &mut managed.owners {
            owner.fields = owner.fields.difference(&lost);
        }
        me.fields = me.fields.difference(&object::NEVER_OWNED);
        if !me.fields.is_empty() {
            if let Some(mine) = managed.find(&me) {
                me.fields = me.fields.union(&mine.fields);
            }
            me.time = Some(stamp(options.now));
            managed.put(me);
        }
    }
    finish(&mut managed);
    *new = after;
    managed.encode_into(new);
}
