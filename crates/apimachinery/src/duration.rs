//! Times as people read them: ages such as `5m12s`, `3d4h`, `2y10d`.
//!
//! In: seconds, or an RFC 3339 time and now. Out: the text kubectl shows in AGE columns.

use jiff::Timestamp;

/// What kubectl shows for an age of this many seconds: two or three significant figures.
pub fn human(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match seconds {
        // clocks may differ by a moment
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// The age of a time; `<unknown>` where there is none, `<invalid>` where it is no RFC 3339 time.
pub fn age(since: Option<&str>, now: Timestamp) -> String {
    match since {
        None | Some("") => "<unknown>".into(),
        Some(text) => match text.parse::<Timestamp>() {
            Ok(time) => human(now.as_second() - time.as_second()),
            Err(_) => "<invalid>".into(),
        },
    }
}

/// A time as the API writes `metav1.Time`: UTC, whole seconds.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time as the API writes `metav1.MicroTime`: UTC, microseconds.
pub fn rfc3339_micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(-5, "<invalid>")]
    #[case(-1, "0s")]
    #[case(119, "119s")]
    #[case(120, "2m")]
    #[case(312, "5m12s")]
    #[case(660, "11m")]
    #[case(10_800, "3h")]
    #[case(12_000, "3h20m")]
    #[case(90_000, "25h")]
    #[case(273_600, "3d4h")]
    #[case(86_400 * 30, "30d")]
    #[case(86_400 * 740, "2y10d")]
    #[case(86_400 * 365 * 9, "9y")]
    fn reads_like_kubectl(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(human(seconds), expected);
    }

    #[test]
    fn writes_times_as_the_api_does() {
        let time: Timestamp = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        assert_eq!(rfc3339(time), "2026-01-02T03:04:05Z");
        assert_eq!(rfc3339_micro(time), "2026-01-02T03:04:05.678901Z");
        assert_eq!(age(Some("2026-01-02T03:04:00Z"), time), "5s");
        assert_eq!(age(None, time), "<unknown>");
        assert_eq!(age(Some("yesterday"), time), "<invalid>");
    }
}
