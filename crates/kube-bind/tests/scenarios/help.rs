//! The help texts of all programs and all of their commands, word for word: `tests/golden/help/`, a file for each program.
//!
//! Whoever changes a flag, a command or its words accepts the new text with
//! `KUBE_BIND_GOLDEN=write cargo test -p kube-bind --test scenarios help` and looks at the diff. New commands are found
//! by themselves: the test walks through the lists that the programs print.

use std::process::Command;

use super::golden;

/// `--help` of a command, at a fixed width and with nothing of this machine's environment in it.
fn help(words: &[&str]) -> String {
    let mut command = Command::new(super::PROGRAM);
    command.args(words).arg("--help").env_clear().env("COLUMNS", "100");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of commands.
fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names =
        list.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    names.filter(|name| name != "help").collect()
}

/// The help of a command and of all below it; `typed` is what a person types.
fn walk(words: &[&str], typed: &str, out: &mut String) {
    let text = help(words);
    out.push_str(&format!("$ {typed} --help\n{}\n\n", text.trim_end()));
    for name in commands(&text) {
        walk(&[words, &[name.as_str()]].concat(), &format!("{typed} {name}"), out);
    }
}

#[test]
fn the_help_texts_are_these() {
    for (program, typed) in
        [("kubectl-bind", "kubectl bind"), ("konnector", "konnector"), ("kube-bind-backend", "kube-bind-backend")]
    {
        let mut text = String::new();
        walk(&[program], typed, &mut text);
        golden::check(&format!("help/{program}.txt"), &text);
    }
    // The other programs that it also is have had their turn.
    let whole = help(&[]);
    let mut text = format!("$ kube-bind --help\n{}\n\n", whole.trim_end());
    for name in commands(&whole).iter().filter(|name| ["demo", "dev"].contains(&name.as_str())) {
        walk(&[name.as_str()], &format!("kube-bind {name}"), &mut text);
    }
    golden::check("help/kube-bind.txt", &text);
}

#[test]
fn every_command_of_the_plugin_is_walked_through() {
    let top = commands(&help(&["kubectl-bind"]));
    for name in ["login", "claims", "provider", "unbind"] {
        assert!(top.iter().any(|found| found == name), "{name} is missing in {top:?}");
    }
    assert_eq!(commands(&help(&["kubectl-bind", "claims"])), ["list", "accept", "reject"]);
}
