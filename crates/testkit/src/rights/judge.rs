//! What of the findings about one identity is a fault. In: findings, and tables of reasons. Out: faults; what is excused is
//! printed with its reason.

use super::Findings;

/// Reasons for what is kept without being needed in a story (`<role>: <verb> <resource>.<group>`), or was refused
/// (`<why>: <verb> <resource>.<group>`, where why is one of the excusable [`super::Why::words`]). A `*` at the end stands
/// for any rest; `sometimes ` before it, that a race decides whether it is needed.
pub type Excuses = &'static [(&'static str, &'static str)];

const SOMETIMES: &str = "sometimes ";

/// What is needless or was refused, and not excused; and reasons for what is needed by now.
#[must_use]
pub fn judge(who: &str, findings: &Findings, excuses: Excuses) -> Vec<String> {
    let fits = |pattern: &str, line: &str| {
        let pattern = pattern.strip_prefix(SOMETIMES).unwrap_or(pattern);
        pattern.strip_suffix('*').map_or(pattern == line, |start| line.starts_with(start))
    };
    let excuse = |line: &str| excuses.iter().find(|(pattern, _)| fits(pattern, line)).map(|(_, reason)| *reason);
    let mut faults = Vec::new();
    let needless = findings.needless();
    for line in &needless {
        let how = if findings.used.contains(line) { "something else always allows it too" } else { "never used" };
        match excuse(line) {
            Some(reason) => eprintln!("{who} keeps {line:?} ({how}): {reason}"),
            None => faults.push(format!("{who} does not need {line:?}: {how}")),
        }
    }
    for ((why, what), details) in &findings.refused {
        let line = format!("{}: {what}", why.words());
        let count = details.len();
        let of: Vec<&str> = details.iter().map(String::as_str).take(5).collect();
        match why.natural().or_else(|| excuse(&line)).filter(|_| why.excusable()) {
            Some(reason) => eprintln!("{who} was refused {line:?}, {count} times: {reason}: {of:?}"),
            None => faults.push(format!("{who} was refused {line:?}, {count} times: {of:?}")),
        }
    }
    for (pattern, _) in excuses.iter().filter(|(pattern, _)| !pattern.starts_with(SOMETIMES)) {
        let held = findings.granted.iter().any(|line| fits(pattern, line));
        if held && !needless.iter().any(|line| fits(pattern, line)) {
            faults.push(format!("{who} needs {pattern:?} by now: take the excuse away"));
        }
    }
    for line in &findings.by_default {
        let reviews = [".authorization.k8s.io", ".authentication.k8s.io"].iter().any(|group| line.contains(group));
        let free = line.starts_with("get /") || (reviews && !line.contains(".rbac."));
        if !free {
            faults.push(format!("{who} did what no generated role allows: {line}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::Why;

    #[test]
    fn a_right_that_never_was_cannot_be_excused() {
        let excuses: Excuses = &[("*", "everything goes"), ("and never might: *", "really everything")];
        let mut findings = Findings::default();
        for why in [Why::Crossing, Why::Early, Why::Dying, Why::Withdrawn, Why::TooLate, Why::Held, Why::Never] {
            findings.refused.insert((why, "get secrets".to_owned()), vec!["then".to_owned()]);
        }
        assert_eq!(judge("somebody", &findings, excuses).len(), 3);
        assert_eq!(judge("somebody", &findings, &[]).len(), 6);
    }

    #[test]
    fn an_excuse_ends_with_its_cause() {
        let mut findings = Findings::default();
        findings.granted.insert("role: get secrets".to_owned());
        assert!(judge("somebody", &findings, &[("role: get secrets", "so")]).is_empty());
        findings.needed = findings.granted.clone();
        assert_eq!(judge("somebody", &findings, &[("role: get secrets", "so")]).len(), 1);
    }
}
