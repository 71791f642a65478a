//! Rules for names: label keys and values, DNS labels and subdomains.
//!
//! In: a string. Out: the complaints, worded as Kubernetes words them; none when the string is fine. Called by
//! selectors here and by the control plane for object names, labels and annotations.

/// A lower case RFC 1123 label, at most 63 characters (names of namespaces, services' ports, ...).
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = too_long(value, 63, "characters");
    if !value.is_empty() && value.contains('.') && value.split('.').all(is_dns1123_label) {
        errors.push("must not contain dots".to_owned());
    } else if !is_dns1123_label(value) {
        errors.push(regex_error(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "123-abc"],
        ));
    }
    errors
}

/// A lower case RFC 1123 subdomain, at most 253 characters (names of most objects).
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    subdomain(value, "characters")
}

fn subdomain(value: &str, unit: &str) -> Vec<String> {
    let mut errors = too_long(value, 253, unit);
    if value.is_empty() || !value.split('.').all(is_dns1123_label) {
        errors.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    errors
}

/// An RFC 1035 label, at most 63 characters (names of Services).
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = too_long(value, 63, "bytes");
    if !is_dns1123_label(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        errors.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// A name that only has to fit into a URL path segment (RBAC objects).
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"].iter().filter(|c| value.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// A label key, or any other qualified name: `[prefix/]name`.
pub fn label_key(value: &str) -> Vec<String> {
    const MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(subdomain(prefix, "bytes").into_iter().map(|e| format!("prefix part {e}")));
            }
            *name
        }
        _ => {
            errors.push(format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(MESSAGE, FORMAT, EXAMPLES)
            ));
            return errors;
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    }
    errors.extend(too_long(name, 63, "bytes").into_iter().map(|e| format!("name part {e}")));
    if !is_label_text(name) {
        errors.push(format!("name part {}", regex_error(MESSAGE, FORMAT, EXAMPLES)));
    }
    errors
}

/// A label value: empty, or up to 63 characters.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = too_long(value, 63, "bytes");
    if !value.is_empty() && !is_label_text(value) {
        errors.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// Names are counted in characters, parts of labels in bytes; where only ASCII is allowed, that is the same.
fn too_long(value: &str, max: usize, unit: &str) -> Vec<String> {
    if value.len() > max { vec![format!("must be no more than {max} {unit}")] } else { Vec::new() }
}

fn is_dns1123_label(value: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|c| edge(*c) || *c == b'-'),
        _ => false,
    }
}

fn is_label_text(value: &str) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

/// Kubernetes joins the examples as `'a',  or 'b', ` (two spaces); clients compare texts, so do we.
fn regex_error(message: &str, format: &str, examples: &[&str]) -> String {
    let examples = examples.iter().map(|e| format!("'{e}', ")).collect::<Vec<_>>().join(" or ");
    format!("{message} (e.g. {examples}regex used for validation is '{format}')")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_kubernetes_accepts() {
        assert!(label_key("example.com/my_name.X").is_empty());
        assert!(label_value("").is_empty());
        assert!(dns1123_subdomain("acmedbs.acmedb.com").is_empty());
        assert!(dns1035_label("svc-1").is_empty());
        assert!(path_segment("system:node").is_empty());
    }

    #[test]
    fn complains_about_the_rest() {
        assert_eq!(label_key("/x"), vec!["prefix part must be non-empty"]);
        assert!(!label_key("a/b/c").is_empty());
        assert!(!label_value("-a").is_empty());
        assert!(!dns1123_subdomain("a..b").is_empty());
        assert!(!dns1035_label("1a").is_empty());
        assert_eq!(path_segment("a/b"), vec!["may not contain '/'"]);
        assert_eq!(dns1123_label(&"a".repeat(64)), vec!["must be no more than 63 characters"]);
    }
}
