//! `format`: the string formats that Kubernetes validates for custom resources.
//!
//! In: a format's name and a string. Out: whether it fits. Names Kubernetes does not know are accepted and mean
//! nothing, as there.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// A format that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Names that have a check, for strings.
    Text(&'static str),
    /// `int32`.
    Int32,
    /// `int64`.
    Int64,
    /// `float`.
    Float,
    /// `double`.
    Double,
}

const TEXT: [&str; 25] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "date",
    "duration",
    "date-time",
    "k8s-short-name",
    "k8s-long-name",
];

impl Format {
    /// The format of that name; None for names that mean nothing.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "int32" => Some(Self::Int32),
            "int64" => Some(Self::Int64),
            "float" => Some(Self::Float),
            "double" => Some(Self::Double),
            "datetime" => Some(Self::Text("date-time")),
            _ => TEXT.iter().find(|n| **n == name).map(|n| Self::Text(n)),
        }
    }

    /// The name, for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text(name) => name,
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float => "float",
            Self::Double => "double",
        }
    }

    /// Whether a string fits. Number formats accept every string.
    pub(crate) fn accepts(self, text: &str) -> bool {
        let Self::Text(name) = self else { return true };
        match name {
            "bsonobjectid" => text.len() == 24 && is_hex(text),
            "uri" => is_uri(text),
            "email" => is_email(text),
            "hostname" => is_hostname(text),
            "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
            "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
            "cidr" => is_cidr(text),
            "mac" => is_mac(text),
            "uuid" => is_uuid(text, None),
            "uuid3" => is_uuid(text, Some('3')),
            "uuid4" => is_uuid(text, Some('4')),
            "uuid5" => is_uuid(text, Some('5')),
            "isbn" => is_isbn10(text) || is_isbn13(text),
            "isbn10" => is_isbn10(text),
            "isbn13" => is_isbn13(text),
            "creditcard" => is_credit_card(text),
            "ssn" => is_ssn(text),
            "hexcolor" => {
                let digits = text.strip_prefix('#').unwrap_or(text);
                matches!(digits.len(), 3 | 6) && is_hex(digits)
            }
            "rgbcolor" => is_rgb(text),
            "byte" => STANDARD.decode(text).is_ok(),
            "date" => is_date(text),
            "duration" => is_duration(text),
            "date-time" => is_date_time(text),
            "k8s-short-name" => is_label(text),
            "k8s-long-name" => text.len() <= 253 && text.split('.').all(is_label_part),
            _ => true,
        }
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_label_part(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => alnum(*first) && alnum(*last) && bytes.iter().all(|b| alnum(*b) || *b == b'-'),
        _ => false,
    }
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_part(text)
}

/// A URI as Go's `url.ParseRequestURI` takes it: absolute, or a path that starts with a slash.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b.is_ascii_control() || b == b' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut bytes = scheme.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic());
    let goes_on = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    starts && goes_on && !rest.is_empty()
}

fn is_email(text: &str) -> bool {
    let address = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(open), Some(_)) => &text[open + 1..text.len() - 1],
        _ => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.chars().all(atom)
        && !domain.is_empty()
        && domain.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '-'))
}

fn is_hostname(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.trim_end_matches('.').split('.').all(|part| {
            let ok = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
            !part.is_empty()
                && part.len() <= 63
                && part.chars().all(ok)
                && !part.starts_with('-')
                && !part.ends_with('-')
        })
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let max = if address.parse::<Ipv4Addr>().is_ok() {
        32
    } else if address.parse::<Ipv6Addr>().is_ok() {
        128
    } else {
        return false;
    };
    bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u16>().is_ok_and(|b| b <= max)
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|p| p.len() == width && is_hex(p))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    let widths: Vec<usize> = text.split('-').map(str::len).collect();
    let dashes = widths == [8, 4, 4, 4, 12] || (version.is_none() && widths == [32]);
    let variant = match version {
        Some('4' | '5') => matches!(plain.chars().nth(16), Some('8' | '9' | 'a' | 'b' | 'A' | 'B')),
        _ => true,
    };
    plain.len() == 32 && is_hex(&plain) && dashes && version.is_none_or(|v| plain.chars().nth(12) == Some(v)) && variant
}

fn is_isbn10(text: &str) -> bool {
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    if digits.len() != 10 {
        return false;
    }
    let mut sum = 0;
    for (index, c) in digits.chars().enumerate() {
        let value = match c.to_digit(10) {
            Some(digit) => digit,
            None if index == 9 && matches!(c, 'X' | 'x') => 10,
            None => return false,
        };
        sum += value * (10 - index as u32);
    }
    sum.is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let digits: Option<Vec<u32>> = text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_digit(10)).collect();
    digits.is_some_and(|digits| {
        digits.len() == 13
            && digits.iter().enumerate().map(|(i, d)| if i % 2 == 0 { *d } else { d * 3 }).sum::<u32>() % 10 == 0
    })
}

fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    if !(12..=19).contains(&digits.len()) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| match i % 2 {
            0 => *d,
            _ if *d > 4 => d * 2 - 9,
            _ => d * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 11
        && bytes.iter().enumerate().all(|(i, b)| match i {
            3 | 6 => matches!(b, b'-' | b' '),
            _ => b.is_ascii_digit(),
        })
}

fn is_rgb(text: &str) -> bool {
    text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')')).is_some_and(|inner| {
        let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|p| p.parse::<u8>().is_ok())
    })
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// A duration in Go's notation (`1h30m`) or the words Kubernetes also takes (`3 days`).
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 34] = [
        "ns",
        "us",
        "µs",
        "μs",
        "ms",
        "s",
        "m",
        "h",
        "d",
        "w",
        "nanos",
        "nano",
        "nanosecond",
        "nanoseconds",
        "microsecond",
        "microseconds",
        "micros",
        "micro",
        "millis",
        "milli",
        "millisecond",
        "milliseconds",
        "second",
        "seconds",
        "sec",
        "secs",
        "minute",
        "minutes",
        "min",
        "mins",
        "hour",
        "hours",
        "day",
        "days",
    ];
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if rest[..number].parse::<f64>().is_err() {
            return false;
        }
        rest = rest[number..].trim_start();
        let unit = rest.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(rest.len());
        if !UNITS.contains(&&rest[..unit]) && !matches!(&rest[..unit], "week" | "weeks" | "hr" | "hrs") {
            return false;
        }
        rest = rest[unit..].trim_start();
    }
    true
}

fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20 && matches!(bytes[10], b'T' | b't') && text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_and_refuse() {
        let cases = [
            ("date-time", "2024-02-03T04:05:06Z", true),
            ("date-time", "2024-02-03T04:05:06.123+01:00", true),
            ("date-time", "2024-02-03", false),
            ("date-time", "yesterday", false),
            ("date", "2024-02-30", false),
            ("date", "2024-02-29", true),
            ("duration", "1h30m", true),
            ("duration", "3 days", true),
            ("duration", "x", false),
            ("email", "a@b.c", true),
            ("email", "a b", false),
            ("ipv4", "10.0.0.1", true),
            ("ipv4", "10.0.0", false),
            ("ipv6", "::1", true),
            ("cidr", "10.0.0.0/8", true),
            ("cidr", "10.0.0.0/33", false),
            ("uuid", "3fa85f64-5717-4562-b3fc-2c963f66afa6", true),
            ("uuid4", "3fa85f64-5717-1562-b3fc-2c963f66afa6", false),
            ("uri", "https://a.b/c", true),
            ("uri", "a b", false),
            ("byte", "aGVsbG8=", true),
            ("byte", "%", false),
            ("hostname", "a.b.example", true),
            ("hostname", "-a", false),
            ("mac", "01:02:03:04:05:ab", true),
            ("isbn", "978-3-16-148410-0", true),
            ("hexcolor", "#fff", true),
            ("k8s-short-name", "A", false),
            ("k8s-long-name", "a.b-c", true),
        ];
        for (format, text, ok) in cases {
            assert_eq!(Format::parse(format).unwrap().accepts(text), ok, "{format} {text}");
        }
        assert!(Format::parse("my-own").is_none());
    }
}
