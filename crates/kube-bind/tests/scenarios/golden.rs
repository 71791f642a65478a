//! Golden files: what the programs print is compared with files under `tests/golden/`, so that no word of it changes
//! unseen. In: a name and a text. Out: nothing, or a panic with the difference and how to accept it.
//!
//! `KUBE_BIND_GOLDEN=write cargo test -p kube-bind --test scenarios <test>` writes the files instead of comparing; look at
//! `git diff crates/kube-bind/tests/golden` afterwards.
//!
//! What legitimately differs from run to run and from one kind of API server to another is masked by a [`Mask`], and
//! nothing else is: names of this run (URLs, folders) by name, the rest by its form. A mask that hides too much is a
//! defect; its tests are below.

use std::path::PathBuf;

use regex::Regex;
use testkit::world::World;

/// Set to `write`, the files are written instead of compared.
const SWITCH: &str = "KUBE_BIND_GOLDEN";
/// Lines around a difference.
const CONTEXT: usize = 3;

/// Where the golden files are.
pub(super) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Whether this run writes the files.
pub(super) fn writes() -> bool {
    std::env::var(SWITCH).is_ok_and(|value| value == "write")
}

/// Compares `text` with the golden file `name` (a path below [`folder`]).
///
/// # Panics
/// When they differ, with the difference and how to accept it.
pub(super) fn check(name: &str, text: &str) {
    let path = folder().join(name);
    if writes() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "{} is not what is printed now (- golden, + now):\n\n{}\nIf this is as it should be, accept it with\n  \
         {SWITCH}=write cargo test -p kube-bind --test scenarios {}\nand look at git diff.",
        path.display(),
        difference(&golden, text),
        std::thread::current().name().unwrap_or_default(),
    );
}

/// The lines that differ, with some around them.
fn difference(golden: &str, now: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (golden.lines().collect(), now.lines().collect());
    // Longest common subsequence, from the end.
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut lines: Vec<(char, &str)> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', a[i]));
            i += 1;
        } else {
            lines.push(('+', b[j]));
            j += 1;
        }
    }
    let near = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        lines.iter().skip(from).take(at - from + CONTEXT + 1).any(|(sign, _)| *sign != ' ')
    };
    let mut out = String::new();
    let mut cut = false;
    for (at, (sign, line)) in lines.iter().enumerate() {
        if near(at) {
            out.push_str(&format!("{sign} {line}\n"));
        } else if !cut {
            out.push_str("  ...\n");
        }
        cut = !near(at);
    }
    if lines.iter().all(|(sign, _)| *sign == ' ') {
        out.push_str("(only the end of the last line differs)\n");
    }
    out
}

/// Hides what differs from run to run.
pub(super) struct Mask {
    /// Names of this run and what stands for them, longest first.
    names: Vec<(String, String)>,
    forms: Vec<(Regex, &'static str)>,
}

/// Columns of tables that hold ages.
const AGES: [&str; 2] = ["AGE", "LAST HEARTBEAT"];

impl Mask {
    /// Hides only what has a form of its own.
    pub(super) fn new() -> Self {
        let form = |pattern: &str, stands: &'static str| (Regex::new(pattern).unwrap(), stands);
        Self {
            names: Vec::new(),
            forms: vec![
                form(r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z", "<time>"),
                form(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uid>"),
                form(r#"\bresourceVersion: "\d+""#, r#"resourceVersion: "<revision>""#),
                // The name of a contract's namespace.
                form(r"\bcluster-[a-z0-9]{11,13}\b", "cluster-<suffix>"),
                // Ports that the system chose, plain and as part of a query.
                form(r"127\.0\.0\.1(:|%3A)\d{4,5}", "127.0.0.1$1<port>"),
                form(r"\b\d{5}/TCP\b", "<port>/TCP"),
                // A query's secrets of one try.
                form(r"\b(session_id|code_challenge)=[A-Za-z0-9_-]{43}", "$1=<random>"),
                form(r"\blast (one was )?heard of (\d+[dhms])+ ago", "last ${1}heard of <age> ago"),
            ],
        }
    }

    /// [`Mask::new`], and the names of a world: URLs of its servers, and its folder.
    pub(super) fn of(world: &World) -> Self {
        let mut mask = Self::new().name(&world.folder().to_string_lossy(), "<folder>");
        mask = mask.name(concat!("v", env!("CARGO_PKG_VERSION")), "v<version>");
        for (at, provider) in world.providers.iter().enumerate() {
            mask = mask.name(&provider.server, &format!("http://provider{}.example", at + 1));
            mask = mask.name(&api_server(&provider.site), &format!("https://api.provider{}.example", at + 1));
        }
        for (at, consumer) in world.consumers.iter().enumerate() {
            mask = mask.name(&api_server(&consumer.site), &format!("https://api.consumer{}.example", at + 1));
        }
        mask
    }

    /// Also hides a name of this run.
    pub(super) fn name(mut self, name: &str, stands: &str) -> Self {
        self.names.push((name.to_owned(), stands.to_owned()));
        self.names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        self
    }

    /// Also hides what has this form.
    pub(super) fn form(mut self, pattern: &str, stands: &'static str) -> Self {
        self.forms.push((Regex::new(pattern).unwrap(), stands));
        self
    }

    /// What one command printed. Tables are aligned anew, for masked cells have another width.
    pub(super) fn apply(&self, text: &str) -> String {
        let lines: Vec<&str> = text.lines().collect();
        let mut out = String::new();
        let mut at = 0;
        while at < lines.len() {
            let rows = table(&lines[at..]);
            if rows.len() > 1 {
                out.push_str(&self.table(&rows));
            } else {
                out.push_str(&self.words(lines[at]));
                out.push('\n');
            }
            at += rows.len().max(1);
        }
        if !text.ends_with('\n') {
            out.pop();
        }
        out
    }

    fn words(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (name, stands) in &self.names {
            line = line.replace(name, stands);
        }
        for (form, stands) in &self.forms {
            line = form.replace_all(&line, *stands).into_owned();
        }
        line
    }

    fn table(&self, rows: &[Vec<&str>]) -> String {
        let age = Regex::new(r"^(\d+[ydhms])+$").unwrap();
        let mut masked: Vec<Vec<String>> = Vec::new();
        for row in rows {
            let cell = |(at, cell): (usize, &&str)| {
                let is_age = rows[0].get(at).is_some_and(|header| AGES.contains(header)) && age.is_match(cell);
                if is_age { "<age>".to_owned() } else { self.words(cell) }
            };
            masked.push(row.iter().enumerate().map(cell).collect());
        }
        let width = |column: usize| masked.iter().filter_map(|row| row.get(column)).map(|cell| cell.len()).max();
        let widths: Vec<usize> = (0..rows[0].len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut out = String::new();
        for row in &masked {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            out.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
            out.push('\n');
        }
        out
    }
}

/// The URL in a site's kubeconfig.
fn api_server(site: &testkit::site::Site) -> String {
    let text = std::fs::read_to_string(&site.kubeconfig).unwrap();
    let config = apimachinery::yaml::document(&text).unwrap();
    config["clusters"][0]["cluster"]["server"].as_str().unwrap().trim_end_matches('/').to_owned()
}

/// The table that begins at the first line, as cells: a header of two or more words in capitals, three spaces apart, and
/// the lines under it that keep to its columns. Empty when there is none: what is not aligned is left as it is.
fn table<'a>(lines: &[&'a str]) -> Vec<Vec<&'a str>> {
    let header = Regex::new(r"^[A-Z]+( [A-Z]+)*( {3,}[A-Z][A-Z()-]*( [A-Z()-]+)*)+$").unwrap();
    let Some(first) = lines.first().filter(|line| header.is_match(line)) else { return Vec::new() };
    let gap = Regex::new(r" {3,}").unwrap();
    let mut starts = vec![0];
    starts.extend(gap.find_iter(first).map(|gap| gap.end()));
    let cells = |line: &'a str| -> Option<Vec<&'a str>> {
        let mut row = Vec::new();
        for (at, start) in starts.iter().enumerate() {
            if *start >= line.len() {
                break;
            }
            let before = line.get(start.saturating_sub(3)..*start)?;
            if before.chars().any(|c| c != ' ') {
                return None;
            }
            let end = starts.get(at + 1).copied().unwrap_or(line.len()).min(line.len());
            row.push(line.get(*start..end)?.trim_end());
        }
        Some(row)
    };
    let is_row = |line: &&&str| !line.is_empty() && !line.starts_with(' ');
    lines.iter().take_while(is_row).map_while(|line| cells(line)).collect()
}

#[test]
fn what_differs_from_run_to_run_is_hidden_and_nothing_else_of_the_line() {
    let mask = Mask::new().name("http://127.0.0.1:4711", "http://provider1.example").name("/tmp/x1", "<folder>");
    for (printed, expected) in [
        ("at 2026-11-21T05:02:50Z.", "at <time>."),
        ("renewTime: \"2026-11-21T05:02:50.123456Z\"", "renewTime: \"<time>\""),
        ("uid: 11461229-5ef6-4297-bca5-f59d5e213928", "uid: <uid>"),
        ("resourceVersion: \"1795237368150\"", "resourceVersion: \"<revision>\""),
        ("in cluster-wwf5nndwwejj-default", "in cluster-<suffix>-default"),
        ("namespace: cluster-198ff4bv0eaoa", "namespace: cluster-<suffix>"),
        ("see http://127.0.0.1:4711/exports", "see http://provider1.example/exports"),
        ("see http://127.0.0.1:38527/callback", "see http://127.0.0.1:<port>/callback"),
        ("u=http%3A%2F%2F127.0.0.1%3A38527%2Fcallback", "u=http%3A%2F%2F127.0.0.1%3A<port>%2Fcallback"),
        ("prod 27017/TCP", "prod <port>/TCP"),
        ("session_id=K4SS_K6UklHWVa4hBMY_AO6TMEwSldztIcNowc9Q6_w&client_type=ui", "session_id=<random>&client_type=ui"),
        ("Agent: scenario, last heard of 3m20s ago", "Agent: scenario, last heard of <age> ago"),
        ("(the last one was heard of 5s ago)", "(the last one was heard of <age> ago)"),
        ("the file /tmp/x1/requests.yaml", "the file <folder>/requests.yaml"),
    ] {
        assert_eq!(mask.apply(printed), expected);
    }
}

#[test]
fn what_a_reader_would_notice_stays() {
    let mask = Mask::new().name("http://127.0.0.1:4711", "http://provider1.example");
    for printed in [
        "Accept? [y,N] y",
        "no answer from the browser after 1 s",
        "kubernetes   ClusterIP   443/TCP",
        "http://127.0.0.1:1/exports",
        "https://mangodb.example:8443/exports",
        "generation: 12",
        "size: 0.1MB",
        "cluster-admin and cluster-wide",
        "node-3f2a-c0ffee",
        "deleted 5m ago, 2 mangodbs.mangodb.com left",
        "session_id=short",
        "on 2026-11-21",
        "   indented, and a tab\there",
        "password: hunter2",
    ] {
        assert_eq!(mask.apply(printed), printed);
        assert_eq!(mask.apply(&format!("{printed}\n")), format!("{printed}\n"), "the end of the line is kept");
    }
}

#[test]
fn ages_in_tables_are_hidden_and_the_columns_aligned_anew() {
    let mask = Mask::new().name("http://127.0.0.1:54711", "http://provider1.example");
    let printed = "NAME   EXPORT                            LAST HEARTBEAT   PHASE       AGE\n\
                   a      http://127.0.0.1:54711/kubernetes   3m20s            Connected   12s\n";
    let crooked = mask.apply(printed);
    assert!(crooked.contains("3m20s            Connected   12s"), "what is not aligned is not a table: {crooked}");
    let printed = printed.replace("EXPORT                            LAST", "EXPORT                              LAST");
    assert_eq!(
        mask.apply(&printed),
        "NAME   EXPORT                                LAST HEARTBEAT   PHASE       AGE\n\
         a      http://provider1.example/kubernetes   <age>            Connected   <age>\n"
    );
    // Only ages, only in their columns, only in this table.
    let printed = "NAME   PHASE   AGE\n5m     10s     <unknown>\nb      Ready   2d\n\nfor 5m   10s     2d\n";
    assert_eq!(mask.apply(printed), printed.replace("Ready   2d", "Ready   <age>"));
    let printed = "NAME   AGE\n\nNothing   5s\n";
    assert_eq!(mask.apply(printed), printed);
}

#[test]
fn a_difference_is_shown_with_what_is_around_it() {
    let golden = "a\nb\nc\nd\ne\nf\ng\nh\ni\n";
    let now = golden.replace("e\n", "E\n").replace("i\n", "i\nj\n");
    assert_eq!(difference(golden, &now), "  ...\n  b\n  c\n  d\n- e\n+ E\n  f\n  g\n  h\n  i\n+ j\n");
    assert!(difference("a", "a\n").contains("the end of the last line"));
}
