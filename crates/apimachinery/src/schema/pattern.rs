//! `pattern`: regular expressions as Kubernetes understands them (RE2), on the `regex` crate.
//!
//! In: the text of a pattern. Out: a compiled expression with RE2's meaning where the crate's differs: `\d`, `\w`, `\s`
//! and `\b` are ASCII, and inside a bracket expression `[`, `&&`, `--` and `~~` are ordinary characters.

use regex::Regex;

/// A compiled pattern and its source.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles `source`; the error is the reason in one line.
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        let regex = regex::RegexBuilder::new(&translate(source)).size_limit(4 << 20).build().map_err(|error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim().to_owned()
        })?;
        Ok(Self { source: source.to_owned(), regex })
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// Rewrites an RE2 expression into one of the same meaning for the `regex` crate.
fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let mut chars = source.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) => push_escape(&mut out, escaped, in_class),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    out.push('^');
                    chars.next();
                }
                // A bracket right after the opening one is a member.
                if chars.peek() == Some(&']') {
                    out.push_str("\\]");
                    chars.next();
                }
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for inner in chars.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            '[' => out.push_str("\\["),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' | '-' if in_class && chars.peek() == Some(&c) => {
                out.push(c);
                out.push('\\');
            }
            other => out.push(other),
        }
    }
    out
}

fn push_escape(out: &mut String, escaped: char, in_class: bool) {
    let set = match escaped {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => "\\t\\n\\f\\r ",
        'D' | 'W' | 'S' => {
            let negated = match escaped {
                'D' => "[^0-9]",
                'W' => "[^0-9A-Za-z_]",
                _ => "[^\\t\\n\\f\\r ]",
            };
            out.push_str(negated);
            return;
        }
        'b' | 'B' if !in_class => {
            out.push_str("(?-u:\\");
            out.push(escaped);
            out.push(')');
            return;
        }
        other => {
            out.push('\\');
            out.push(other);
            return;
        }
    };
    if in_class {
        out.push_str(set);
    } else {
        out.push('[');
        out.push_str(set);
        out.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_what_re2_means() {
        let cases = [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^[\w.-]+$", "a_b.c-d", true),
            (r"^[[]$", "[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "&", true),
            (r"^\S+$", "a b", false),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^https?:\/\/x$", "https://x", true),
            (r"\bfoo\b", "a foo b", true),
            ("^[^\\s]+$", "a\u{a0}b", true),
            ("^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "a-b.c", true),
        ];
        for (pattern, text, matches) in cases {
            assert_eq!(Pattern::compile(pattern).unwrap().is_match(text), matches, "{pattern} {text}");
        }
        assert!(Pattern::compile("(").is_err());
    }
}
