//! Errors about one field of an object, in the words of kube-apiserver.
//!
//! In: a path into an object (`spec.tiers[0].name`), what is wrong there. Out: [`FieldError`], which prints exactly as
//! Kubernetes prints it and which a `Status` of reason `Invalid` lists as causes. Schema compilation, validation and
//! the registries call it.

use std::fmt;

use serde_json::Value;

/// What is wrong with a field. Names and texts are those of `k8s.io/apimachinery/pkg/util/validation/field`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    /// The value refers to something that does not exist.
    NotFound,
    /// A value must be given.
    Required,
    /// The value must be unique, and is not.
    Duplicate,
    /// The value has the right type, but is not allowed.
    Invalid,
    /// The value is not one of an enumeration.
    NotSupported,
    /// The field may not be set (or changed) here.
    Forbidden,
    /// The value is longer than allowed.
    TooLong,
    /// The list or map has more entries than allowed.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
    /// The server could not find out (for example a rule that fails to evaluate).
    Internal,
}

impl FieldErrorKind {
    /// The `reason` of a `StatusCause`, for example `FieldValueInvalid`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field. `Display` gives `spec.tier: Unsupported value: "x": supported values: "a"`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Path of the field: `spec.tiers[0].name`, `metadata.labels[app]`; empty for the whole object.
    pub field: String,
    /// The offending value, shown for the kinds that show one.
    pub value: Option<Value>,
    /// What would be right; may be empty.
    pub detail: String,
}

impl FieldError {
    /// An error of any kind.
    pub fn new(
        kind: FieldErrorKind,
        field: impl Into<String>,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, field: field.into(), value, detail: detail.into() }
    }

    /// A value is missing.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, field, None, detail)
    }

    /// A value that is not allowed.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, field, Some(value.into()), detail)
    }

    /// A value of the wrong type.
    pub fn type_invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::TypeInvalid, field, Some(value.into()), detail)
    }

    /// A value outside an enumeration; `supported` is printed as `supported values: "a", "b"`.
    pub fn not_supported<S: AsRef<str>>(field: impl Into<String>, value: impl Into<Value>, supported: &[S]) -> Self {
        let detail = if supported.is_empty() {
            String::new()
        } else {
            let list: Vec<String> = supported.iter().map(|s| Value::from(s.as_ref()).to_string()).collect();
            format!("supported values: {}", list.join(", "))
        };
        Self::new(FieldErrorKind::NotSupported, field, Some(value.into()), detail)
    }

    /// A field that may not be set or changed.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, field, None, detail)
    }

    /// A value that occurs twice.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::Duplicate, field, Some(value.into()), "")
    }

    /// A string of more than `max` bytes.
    pub fn too_long(field: impl Into<String>, max: u64) -> Self {
        Self::new(
            FieldErrorKind::TooLong,
            field,
            None,
            format!("may not be more than {max} byte{}", if max == 1 { "" } else { "s" }),
        )
    }

    /// A list or map of `actual` entries where at most `max` are allowed.
    pub fn too_many(field: impl Into<String>, actual: u64, max: u64) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        Self::new(FieldErrorKind::TooMany, field, Some(Value::from(actual)), format!("must have at most {max} {items}"))
    }

    /// Something the server could not evaluate.
    pub fn internal(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Internal, field, None, detail)
    }

    /// The text without the field: what a `StatusCause` carries as `message`.
    pub fn body(&self) -> String {
        let title = self.kind.title();
        let shows_value = !matches!(
            self.kind,
            FieldErrorKind::Required | FieldErrorKind::Forbidden | FieldErrorKind::TooLong | FieldErrorKind::Internal
        );
        let mut text = match &self.value {
            Some(Value::Number(number)) if shows_value && number.is_f64() => {
                format!("{title}: {}", go_float(number.as_f64().unwrap_or(0.0)))
            }
            Some(value) if shows_value => format!("{title}: {value}"),
            _ => title.to_owned(),
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "<nil>: {}", self.body())
        } else {
            write!(f, "{}: {}", self.field, self.body())
        }
    }
}

impl std::error::Error for FieldError {}

/// Go's `%v` of a float64: the shortest form, with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn go_float(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// A path under construction while walking an object; one buffer, no allocation per step.
#[derive(Debug, Default, Clone)]
pub struct PathBuf {
    text: String,
}

impl PathBuf {
    /// A path that starts at `text` (empty: the object itself).
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Runs `f` with `.name` appended, and takes it off again.
    pub fn field<T>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        let mark = self.text.len();
        if mark > 0 {
            self.text.push('.');
        }
        self.text.push_str(name);
        let out = f(self);
        self.text.truncate(mark);
        out
    }

    /// Runs `f` with `[index]` appended, and takes it off again.
    pub fn index<T>(&mut self, index: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        self.key(&index.to_string(), f)
    }

    /// Runs `f` with `[key]` appended, and takes it off again.
    pub fn key<T>(&mut self, key: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        let mark = self.text.len();
        self.text.push('[');
        self.text.push_str(key);
        self.text.push(']');
        let out = f(self);
        self.text.truncate(mark);
        out
    }

    /// The path with `.name` appended, as a new string.
    pub fn child(&self, name: &str) -> String {
        if self.text.is_empty() { name.to_owned() } else { format!("{}.{name}", self.text) }
    }
}

impl fmt::Display for PathBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_like_kubernetes() {
        let cases = [
            (
                FieldError::not_supported("spec.tier", "x", &["a", "b"]),
                r#"spec.tier: Unsupported value: "x": supported values: "a", "b""#,
            ),
            (FieldError::required("spec.size", ""), "spec.size: Required value"),
            (FieldError::duplicate("spec.list[1]", "a"), r#"spec.list[1]: Duplicate value: "a""#),
            (FieldError::too_long("spec.name", 3), "spec.name: Too long: may not be more than 3 bytes"),
            (FieldError::too_many("spec.list", 3, 2), "spec.list: Too many: 3: must have at most 2 items"),
            (FieldError::forbidden("spec", "no"), "spec: Forbidden: no"),
            (FieldError::too_long("spec.a", 1), "spec.a: Too long: may not be more than 1 byte"),
            (
                FieldError::invalid("spec.ratio", 1_000_000.5, "too much"),
                "spec.ratio: Invalid value: 1.0000005e+06: too much",
            ),
            (
                FieldError::new(FieldErrorKind::Invalid, "spec", None, "failed rule: x"),
                "spec: Invalid value: failed rule: x",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
