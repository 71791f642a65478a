//! Who wins, and what is refused in which words.

use std::collections::HashMap;
use std::time::Duration;

use clap::Parser;
use secrecy::ExposeSecret as _;

use super::*;
use crate::log::{LogFormat, Logs};

const SECRET: Secret = Secret { name: "client-secret", file: "client-secret-file", also: Some("OIDC_CLIENT_SECRET") };
const TEST: Program = Program { prefix: "TEST", also: &[("pod", "POD_NAME")], secrets: &[SECRET] };

#[derive(Debug, Parser)]
#[command(name = "test", version)]
struct Flags {
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    logs: Logs,
    #[arg(long, default_value = "nobody")]
    pod: String,
    #[arg(long, value_delimiter = ',')]
    allowed_users: Vec<String>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
        action = ArgAction::Set)]
    trusted: bool,
    #[arg(long, default_value = "1h", value_parser = crate::value::duration)]
    expiry: Duration,
    #[arg(long)]
    client_secret_file: Option<PathBuf>,
}

struct Stage {
    folder: tempfile::TempDir,
    environment: HashMap<&'static str, &'static str>,
}

impl Stage {
    fn new(environment: &[(&'static str, &'static str)]) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: environment.iter().copied().collect() }
    }

    fn look(&self, name: &str) -> Option<OsString> {
        self.environment.get(name).map(OsString::from)
    }

    fn read(&self, file: &str, args: &[&str]) -> Result<Flags, Refused> {
        let path = self.folder.path().join("c.yaml");
        std::fs::write(&path, file).unwrap();
        let mut all: Vec<OsString> = vec!["test".into(), "--config".into(), path.into()];
        all.extend(args.iter().map(OsString::from));
        TEST.read(all, &|name| self.look(name))
    }

    /// What is said, without the folder.
    fn refused(&self, file: &str, args: &[&str]) -> String {
        let said = self.read(file, args).unwrap_err().to_string();
        said.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "logFormat: json\nallowedUsers: [a, b]\ntrusted: true\nexpiry: 5m\npod: from-file\n";
    let plain = Stage::new(&[]);
    let read = plain.read(file, &[]).unwrap();
    assert_eq!(read.logs.log_format, LogFormat::Json);
    assert_eq!(read.allowed_users, ["a", "b"]);
    assert!(read.trusted);
    assert_eq!(read.expiry, Duration::from_secs(300));
    assert_eq!(read.pod, "from-file");
    let set = Stage::new(&[
        ("TEST_LOG_FORMAT", "text"),
        ("TEST_ALLOWED_USERS", "c,d"),
        ("TEST_TRUSTED", "false"),
        ("TEST_EXPIRY", ""),
    ]);
    let read = set.read(file, &[]).unwrap();
    assert_eq!(read.logs.log_format, LogFormat::Text);
    assert_eq!(read.allowed_users, ["c", "d"]);
    assert!(!read.trusted);
    assert_eq!(read.expiry, Duration::from_secs(300), "an empty variable is not set");
    let read = set.read(file, &["--log-format=json", "--allowed-users", "e", "--trusted"]).unwrap();
    assert_eq!(read.logs.log_format, LogFormat::Json);
    assert_eq!(read.allowed_users, ["e"]);
    assert!(read.trusted);
    let read = plain.read(file, &["--trusted=false"]).unwrap();
    assert!(!read.trusted, "what the file switches on a flag can switch off");
    let read = plain.read("# nothing\n\n", &[]).unwrap();
    assert_eq!((read.pod.as_str(), read.expiry), ("nobody", Duration::from_secs(3600)));
}

#[test]
fn other_variables_count_where_our_own_is_not_set() {
    assert_eq!(Stage::new(&[("POD_NAME", "p")]).read("pod: f\n", &[]).unwrap().pod, "p");
    assert_eq!(Stage::new(&[("POD_NAME", "p"), ("TEST_POD", "t")]).read("", &[]).unwrap().pod, "t");
}

#[test]
fn the_file_can_be_named_in_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    std::fs::write(&path, "pod: found\n").unwrap();
    let look = |name: &str| (name == "TEST_CONFIG").then(|| path.clone().into_os_string());
    assert_eq!(TEST.read::<Flags>(vec!["test".into()], &look).unwrap().pod, "found");
}

#[test]
fn what_is_wrong_in_the_file_is_said_with_file_key_and_mend() {
    let stage = Stage::new(&[]);
    assert_eq!(
        stage.refused("log-format: json\n", &[]),
        "c.yaml: log-format: is not known here; did you mean logFormat?"
    );
    assert_eq!(
        stage.refused("logFromat: json\n", &[]),
        "c.yaml: logFromat: is not known here; did you mean logFormat?"
    );
    let said = stage.refused("replicas: 2\n", &[]);
    assert!(
        said.starts_with("c.yaml: replicas: is not known here; known are ") && said.contains("allowedUsers"),
        "{said}"
    );
    assert!(stage.refused("config: other.yaml\n", &[]).starts_with("c.yaml: config: is not known here"));
    assert_eq!(stage.refused("logFormat: xml\n", &[]), "c.yaml: logFormat: \"xml\" is none of text, json");
    assert_eq!(stage.refused("expiry: 5\n", &[]), "c.yaml: expiry: \"5\": must be a time such as 90s, 5m or 1h");
    assert!(stage.refused("logLevel: =loud\n", &[]).starts_with("c.yaml: logLevel: \"=loud\": "));
    assert!(stage.refused("trusted: maybe\n", &[]).starts_with("c.yaml: trusted: \"maybe\" is none of true, false"));
    assert_eq!(stage.refused("pod:\n", &[]), "c.yaml: pod: has no value: give one, or leave the key out");
    assert_eq!(stage.refused("pod: [a]\n", &[]), "c.yaml: pod: must be one value, not a list or a mapping");
    assert!(stage.refused("allowedUsers: [\"a,b\"]\n", &[]).contains("make it an item for each"));
    assert!(stage.refused("allowedUsers: {a: b}\n", &[]).contains("must be a list of texts"));
    assert!(stage.refused("- a\n", &[]).starts_with("--config c.yaml: must be YAML with a key for each setting"));
    assert!(stage.refused("pod: a\npod: b\n", &[]).starts_with("--config c.yaml: "), "a key twice");
    // A good flag does not hide a bad file.
    assert!(stage.refused("logFormat: xml\n", &["--log-format=text"]).starts_with("c.yaml: logFormat: "));
    let missing =
        TEST.read::<Flags>(vec!["test".into(), "--config=/no/such".into()], &|_| None).unwrap_err().to_string();
    assert!(missing.starts_with("--config /no/such: cannot be read: "), "{missing}");
}

#[test]
fn what_is_wrong_in_the_environment_is_said_with_its_name() {
    let said = Stage::new(&[("TEST_LOG_FORMAT", "xml")]).refused("", &[]);
    assert_eq!(said, "environment variable TEST_LOG_FORMAT: \"xml\" is none of text, json");
    let said = Stage::new(&[("TEST_EXPIRY", "soon")]).refused("", &[]);
    assert_eq!(said, "environment variable TEST_EXPIRY: \"soon\": must be a time such as 90s, 5m or 1h");
}

#[test]
fn secrets_never_come_from_arguments_nor_from_the_settings_file() {
    let stage = Stage::new(&[]);
    for args in [&["--client-secret", "hush"][..], &["--client-secret=hush"][..]] {
        let said = stage.refused("", args);
        assert!(said.contains("--client-secret-file") && said.contains("TEST_CLIENT_SECRET"), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
    let said = stage.refused("clientSecret: hush\n", &[]);
    assert!(said.starts_with("c.yaml: clientSecret: is a secret") && !said.contains("hush"), "{said}");
}

#[test]
fn secrets_come_from_a_file_or_from_the_environment() {
    let stage = Stage::new(&[("OIDC_CLIENT_SECRET", "from-also")]);
    let look = |name: &str| stage.look(name);
    let text = |found: Option<SecretString>| found.map(|secret| secret.expose_secret().to_owned());
    assert_eq!(text(TEST.secret(&SECRET, None, &look).unwrap()).as_deref(), Some("from-also"));
    let file = stage.folder.path().join("secret");
    std::fs::write(&file, "from-file\n").unwrap();
    assert_eq!(text(TEST.secret(&SECRET, Some(&file), &look).unwrap()).as_deref(), Some("from-file"));
    assert_eq!(text(TEST.secret(&SECRET, None, &|_| None).unwrap()), None);
    let missing = TEST.secret(&SECRET, Some(Path::new("/no/such")), &look).unwrap_err().to_string();
    assert!(missing.starts_with("--client-secret-file: cannot read /no/such: "), "{missing}");
}

#[test]
fn help_says_how_to_set_things_elsewhere() {
    let help = TEST.read::<Flags>(vec!["test".into(), "--help".into()], &|_| None).unwrap_err().to_string();
    assert!(help.contains("TEST_LOG_FORMAT") && help.contains("logFormat"), "{help}");
    assert!(help.contains("Logs:"), "{help}");
}
