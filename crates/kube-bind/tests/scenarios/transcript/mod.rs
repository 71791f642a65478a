//! Transcripts: what a person types and everything that is printed, word for word, as golden files
//! (`tests/golden/transcripts/`; how to accept a change: [`super::golden`]). They are told with a kind that is always the
//! same, and read like the scenarios of the design. That the same holds for any other kind is shown by the other
//! scenarios, which take theirs from seeds.
//!
//! In a file, `$` is typed, `<` is given on standard input, `!` was printed on standard error; everything else was
//! printed on standard output. At a terminal both are one.

mod files;
mod mistakes;
mod provider;
mod refusals;
mod story;
mod unbinding;

use std::time::Duration;

use kube_bind::browser::{self, Browser};
use kube_bind::stage::Login;
use kube_bind::terminal::Terminal;
use serde_json::json;
use testkit::program::{Ended, Person};
use testkit::service::Service;
use testkit::typed::Typed;
use testkit::world::World;

use super::golden::{self, Mask};

const LIMIT: Duration = Duration::from_secs(60);

/// The kind of the transcripts: the database of the design.
fn databases() -> Service {
    Service {
        group: "mangodb.com".to_owned(),
        version: "v1alpha1".to_owned(),
        kind: "MongoDB".to_owned(),
        plural: "mangodbs".to_owned(),
        choice: "tier".to_owned(),
        choices: vec!["shared".to_owned(), "dedicated".to_owned()],
        secret_path: vec!["tokenSecret".to_owned()],
        ..Service::new(1)
    }
    .with_field("region", json!({"type": "string"}))
}

/// Another kind, without claims.
fn shirts() -> Service {
    Service {
        group: "tshirt.example".to_owned(),
        version: "v1alpha1".to_owned(),
        kind: "TShirtClaim".to_owned(),
        plural: "tshirtclaims".to_owned(),
        choice: "fit".to_owned(),
        choices: vec!["loose".to_owned(), "slim".to_owned()],
        secret_path: vec!["unused".to_owned()],
        ..Service::new(1)
    }
    .without_claims()
}

/// How the question is answered.
#[derive(Clone, Copy)]
enum Answer<'a> {
    /// It is not asked.
    Unasked,
    /// This line.
    Line(&'a str),
    /// The end of input.
    End,
}

/// What was typed and printed so far.
struct Transcript {
    name: &'static str,
    mask: Mask,
    text: String,
    /// Rows of tables are shown in the order of what stands for random names.
    sorted: bool,
}

impl Transcript {
    fn new(name: &'static str, world: &World) -> Self {
        Self { name, mask: Mask::of(world), text: String::new(), sorted: false }
    }

    /// Words between the commands.
    fn say(&mut self, words: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.text.push_str(&format!("{gap}# {words}\n"));
    }

    /// Types `kubectl bind …` without a terminal.
    async fn bind(&mut self, person: &Person, words: &[&str]) -> Ended {
        self.bind_with(person, words, "").await
    }

    /// The same with standard input.
    async fn bind_with(&mut self, person: &Person, words: &[&str], input: &str) -> Ended {
        let ended = person.bind(words, input).await;
        self.typed("kubectl bind", words, input, &ended);
        ended
    }

    /// Types `kubectl …`.
    async fn kubectl(&mut self, person: &Person, words: &[&str], input: &str) -> Ended {
        let ended = person.kubectl(words, input).await.expect("the test has looked for kubectl");
        self.typed("kubectl", words, input, &ended);
        ended
    }

    /// The end of a command that waited for a browser.
    async fn end(&mut self, words: &[&str], typed: Typed) -> Ended {
        let ended = typed.end().await;
        self.typed("kubectl bind", words, "", &ended);
        ended
    }

    /// Types `kubectl bind …` at a terminal, goes through the pages in a browser and answers.
    async fn terminal(&mut self, person: &Person, words: &[&str], login: &Login, answer: Answer<'_>) -> Ended {
        let mut terminal = Terminal::start(person.command(words), |_| {}).unwrap();
        let mut seen = terminal.expect("redirect_url=", LIMIT).await.unwrap();
        while !seen.ends_with("\n\n") {
            seen = terminal.expect("\n\n", LIMIT).await.unwrap();
        }
        let url = seen.split_whitespace().find(|word| word.contains("redirect_url=")).unwrap();
        let mut pages = String::new();
        let tell = |words: &str| pages.push_str(&format!("  browser: {words}\n"));
        browser::log_in_and_bind(&mut Browser::new().unwrap(), url, login, tell).await.unwrap();
        match answer {
            Answer::Unasked => {}
            Answer::Line(line) => {
                terminal.expect("Accept? [y,N] ", LIMIT).await.unwrap();
                terminal.type_line(line).unwrap();
            }
            Answer::End => {
                terminal.expect("Accept? [y,N] ", LIMIT).await.unwrap();
                // Ctrl-D.
                terminal.type_line("\x04").unwrap();
            }
        }
        let (status, whole) = terminal.end(LIMIT).await.unwrap();
        let rest = whole.strip_prefix(&seen).unwrap();
        let ended = Ended { success: status.success(), stdout: format!("{seen}{pages}{rest}"), stderr: String::new() };
        self.typed("kubectl bind", words, "", &ended);
        ended
    }

    fn typed(&mut self, program: &str, words: &[&str], input: &str, ended: &Ended) {
        let quoted = |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
        let words = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
        // Standard input as it was given: long documents come from a command before.
        let input: String = input.lines().map(|line| format!("< {line}\n")).collect();
        let mut block = self.mask.apply(&format!("\n$ {}\n{input}", format!("{program} {words}").trim_end()));
        let mut printed = self.mask.apply(&ended.stdout);
        if self.sorted {
            let mut rows: Vec<&str> = printed.lines().collect();
            rows[1..].sort_unstable();
            printed = rows.join("\n") + "\n";
        }
        block.push_str(&printed);
        for line in self.mask.apply(&ended.stderr).lines() {
            block.push_str(&format!("! {line}"));
            block.push('\n');
        }
        if !ended.success {
            block.push_str("[failed]\n");
        }
        self.text.push_str(&block);
    }

    /// Compares with the golden file.
    fn check(self) {
        golden::check(&format!("transcripts/{}.txt", self.name), &self.text);
    }
}
