//! Sets of fields, and `FieldsV1`, the JSON they are stored as.
//!
//! In: paths of an object's fields. Out: a set with the usual operations. A path is a list of [`PathElement`]s; in
//! `FieldsV1` these are keys: `f:name`, `k:{"port":80}`, `v:"x"`, `i:0`, and `.` for the item that holds them.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Number, Value};

/// One step of a path into an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathElement {
    /// A field of an object.
    Field(String),
    /// An item of a list of type map, by its keys: canonical JSON of an object.
    Key(String),
    /// An item of a list of type set: canonical JSON of the item.
    Value(String),
    /// An item of an atomic list. Nothing of ours makes these; they are kept when found.
    Index(u64),
}

impl PathElement {
    /// An item of a list of type map.
    pub fn key(keys: &Map<String, Value>) -> Self {
        let keys = keys.iter().map(|(k, v)| (k.clone(), canonical(v))).collect();
        Self::Key(Value::Object(keys).to_string())
    }

    /// An item of a list of type set.
    pub fn value(value: &Value) -> Self {
        Self::Value(canonical(value).to_string())
    }

    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(json) => format!("k:{json}"),
            Self::Value(json) => format!("v:{json}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.to_owned())),
            "k" => match serde_json::from_str(rest).ok()? {
                Value::Object(keys) => Some(Self::key(&keys)),
                _ => None,
            },
            "v" => Some(Self::value(&serde_json::from_str(rest).ok()?)),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }
}

/// 1.0 and 1 identify the same item.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(f) if f.fract() == 0.0 && f.abs() < 9e15 => Value::Number(Number::from(f as i64)),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(json) => {
                let keys: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
                let shown: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", shown.join(","))
            }
            Self::Value(json) => write!(f, "[={json}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A set of field paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    entries: BTreeMap<PathElement, Entry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    /// The path that ends here is in the set.
    member: bool,
    below: FieldSet,
}

impl FieldSet {
    /// Whether no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a path. The empty path (the object itself) is not tracked.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut set = self;
        for element in parents {
            set = &mut set.entries.entry(element.clone()).or_default().below;
        }
        set.entries.entry(last.clone()).or_default().member = true;
    }

    /// Whether exactly this path is in the set.
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.has_element(last),
            [first, rest @ ..] => self.below(first).is_some_and(|set| set.has(rest)),
        }
    }

    /// Whether the path of one element is in the set.
    pub(super) fn has_element(&self, element: &PathElement) -> bool {
        self.entries.get(element).is_some_and(|e| e.member)
    }

    /// The paths that start with `element`, without it; None if there are none.
    pub(super) fn below(&self, element: &PathElement) -> Option<&FieldSet> {
        let below = &self.entries.get(element)?.below;
        (!below.is_empty()).then_some(below)
    }

    /// All paths; at each level first those that end there, then what is below, as Kubernetes lists conflicts.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, paths: &mut Vec<Vec<PathElement>>) {
        for (element, _) in self.entries.iter().filter(|(_, entry)| entry.member) {
            prefix.push(element.clone());
            paths.push(prefix.clone());
            prefix.pop();
        }
        for (element, entry) in &self.entries {
            prefix.push(element.clone());
            entry.below.collect(prefix, paths);
            prefix.pop();
        }
    }

    /// Paths in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut entries = self.entries.clone();
        for (element, theirs) in &other.entries {
            let ours = entries.entry(element.clone()).or_default();
            ours.member |= theirs.member;
            ours.below = ours.below.union(&theirs.below);
        }
        Self { entries }
    }

    /// Paths in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, &|ours, theirs| ours && theirs, false)
    }

    /// Paths of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, &|ours, theirs| ours && !theirs, true)
    }

    fn combine(&self, other: &Self, keep: &dyn Fn(bool, bool) -> bool, alone: bool) -> Self {
        let mut entries = BTreeMap::new();
        for (element, ours) in &self.entries {
            let entry = match other.entries.get(element) {
                Some(theirs) => Entry {
                    member: keep(ours.member, theirs.member),
                    below: ours.below.combine(&theirs.below, keep, alone),
                },
                None if alone => ours.clone(),
                None => continue,
            };
            if entry.member || !entry.below.is_empty() {
                entries.insert(element.clone(), entry);
            }
        }
        Self { entries }
    }

    /// This set without the paths that start with a top-level field `f` for which `drop(f)`.
    #[must_use]
    pub(super) fn without_top_level(&self, drop: impl Fn(&str) -> bool) -> Self {
        let entries = self
            .entries
            .iter()
            .filter(|(element, _)| !matches!(element, PathElement::Field(name) if drop(name)))
            .map(|(element, entry)| (element.clone(), entry.clone()))
            .collect();
        Self { entries }
    }

    /// Visits every element with its subset, to build a set of the same shape: `f` says whether the element becomes a
    /// member (given whether it is one) and what is below it.
    pub(super) fn map_elements(&self, mut f: impl FnMut(&PathElement, bool, &FieldSet) -> (bool, FieldSet)) -> Self {
        let mut entries = BTreeMap::new();
        for (element, entry) in &self.entries {
            let (member, below) = f(element, entry.member, &entry.below);
            if member || !below.is_empty() {
                entries.insert(element.clone(), Entry { member, below });
            }
        }
        Self { entries }
    }

    /// The set as `FieldsV1` JSON.
    pub fn to_fields_v1(&self) -> Value {
        let mut map = Map::new();
        for (element, entry) in &self.entries {
            let mut below = match entry.below.to_fields_v1() {
                Value::Object(below) => below,
                _ => Map::new(),
            };
            if entry.member && !below.is_empty() {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(element.encode(), Value::Object(below));
        }
        Value::Object(map)
    }

    /// Reads `FieldsV1` JSON. None if it is malformed.
    pub fn from_fields_v1(json: &Value) -> Option<Self> {
        let mut entries = BTreeMap::new();
        for (key, below) in json.as_object()? {
            if key == "." {
                continue;
            }
            let element = PathElement::decode(key)?;
            let inner = below.as_object()?;
            let entry =
                Entry { member: inner.is_empty() || inner.contains_key("."), below: Self::from_fields_v1(below)? };
            entries.insert(element, entry);
        }
        Some(Self { entries })
    }
}

impl FromIterator<Vec<PathElement>> for FieldSet {
    fn from_iter<I: IntoIterator<Item = Vec<PathElement>>>(paths: I) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path);
        }
        set
    }
}

/// A path as users see it: `.spec.containers[name="a"].image`.
pub(super) fn display(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}
