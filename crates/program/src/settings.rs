//! Flags, environment and file of the same names. A flag `--log-format` is `<PREFIX>_LOG_FORMAT` in the environment and
//! `logFormat` in the YAML file that `--config` names; flags win over the environment, the environment over the file.
//!
//! In: a program's flags (clap), its arguments, a way to look into the environment. Out: the flags with the winning
//! values, or one sentence that names where the wrong value stands, its name there, and what would be right. Secrets come
//! from files or from the environment only: arguments can be read by everybody on the machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use secrecy::SecretString;
use serde_json::Value;

/// A program that is configured this way.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Start of its environment variables, without underscore.
    pub prefix: &'static str,
    /// Further environment variables for a flag, such as `POD_NAME`; used where the program's own one is not set.
    pub also: &'static [(&'static str, &'static str)],
    /// Its secrets.
    pub secrets: &'static [Secret],
}

/// A secret. There is no flag for its value, only one for a file that has it.
#[derive(Clone, Copy, Debug)]
pub struct Secret {
    /// What the flag would be called.
    pub name: &'static str,
    /// The flag for the file.
    pub file: &'static str,
    /// A further environment variable.
    pub also: Option<&'static str>,
}

/// How the environment is looked into.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Why a program does not start.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// What clap says about arguments; `--help` and `--version` too.
    #[error("{0}")]
    Arguments(#[from] clap::Error),
    /// A value in the environment.
    #[error("environment variable {name}: {reason}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The file cannot be read.
    #[error("--config {}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and what would be right.
        reason: String,
    },
    /// A key of the file.
    #[error("{}: {key}: {reason}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A secret as argument.
    #[error(
        "--{name} would show the secret to everybody on this machine: put it in a file and name it with --{file}, or set \
         {variable} in the environment"
    )]
    Open {
        /// The argument.
        name: &'static str,
        /// The flag for the file.
        file: &'static str,
        /// The environment variable.
        variable: String,
    },
    /// Values that do not go together, or one that is missing.
    #[error("--{flag}: {reason}")]
    Flag {
        /// Without dashes.
        flag: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
}

impl Refused {
    /// For what only shows when several values are seen together.
    pub fn flag(flag: &'static str, reason: impl Into<String>) -> Self {
        Self::Flag { flag, reason: reason.into() }
    }

    /// Says it on stderr (help and version on stdout) and gives the exit code.
    #[must_use]
    pub fn exit(&self, program: &str) -> ExitCode {
        match self {
            Self::Arguments(error) => {
                let _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
            other => {
                eprintln!("{program}: {other}");
                ExitCode::from(2)
            }
        }
    }
}

/// `--log-format` in the file.
#[must_use]
pub fn key_of(flag: &str) -> String {
    let mut words = flag.split('-');
    let mut key = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        key.push_str(&first.to_ascii_uppercase());
        key.push_str(rest);
    }
    key
}

impl Program {
    /// `--log-format` in the environment.
    #[must_use]
    pub fn variable_of(&self, flag: &str) -> String {
        format!("{}_{}", self.prefix, flag.replace('-', "_").to_ascii_uppercase())
    }

    /// Reads everything; `args` starts with the program's name.
    ///
    /// # Errors
    /// [`Refused`], also for `--help` and `--version`.
    pub fn read<T: CommandFactory + FromArgMatches>(
        &self,
        args: Vec<OsString>,
        environment: Environment<'_>,
    ) -> Result<T, Refused> {
        self.refuse_open_secrets(&args)?;
        let command = T::command().after_help(self.explain());
        let typed = command.clone().try_get_matches_from(&args)?;
        let file = typed
            .get_one::<PathBuf>("config")
            .cloned()
            .or_else(|| self.looked_up("config", environment).map(|(_, path)| PathBuf::from(path)));
        let mut defaults = match file {
            Some(path) => self.set_in_file(&command, &path)?,
            None => BTreeMap::new(),
        };
        defaults.extend(self.set_in_environment(&command, environment)?);
        let command = command.mut_args(|arg| match arg.get_long().and_then(|flag| defaults.remove(flag)) {
            Some(values) if values.is_empty() => arg,
            Some(values) => arg.default_values(values),
            None => arg,
        });
        Ok(T::from_arg_matches(&command.try_get_matches_from(args)?)?)
    }

    /// A secret from its file, or from the environment; the file wins.
    ///
    /// # Errors
    /// [`Refused::Flag`] when the file cannot be read.
    pub fn secret(
        &self,
        secret: &Secret,
        file: Option<&Path>,
        environment: Environment<'_>,
    ) -> Result<Option<SecretString>, Refused> {
        if let Some(path) = file {
            let text = read_file(secret.file, path)?;
            return Ok(Some(SecretString::from(text.trim().to_owned())));
        }
        let names = std::iter::once(self.variable_of(secret.name)).chain(secret.also.map(str::to_owned));
        let found = names.filter_map(|name| environment(&name)).find(|value| !value.is_empty());
        Ok(found.map(|value| SecretString::from(value.to_string_lossy().trim().to_owned())))
    }

    fn explain(&self) -> String {
        let secrets = match self.secrets {
            [] => "",
            _ => "\nSecrets are read from files or from the environment, never from arguments.",
        };
        format!(
            "Each flag can also be set in the environment and in the file of --config: --log-format is \
             {}_LOG_FORMAT there and logFormat here. Flags win over the environment, the environment over the file.{secrets}",
            self.prefix
        )
    }

    fn refuse_open_secrets(&self, args: &[OsString]) -> Result<(), Refused> {
        for arg in args.iter().skip(1) {
            let arg = arg.to_string_lossy();
            let name = arg.split('=').next().unwrap_or_default();
            if let Some(secret) = self.secrets.iter().find(|secret| name.strip_prefix("--") == Some(secret.name)) {
                return Err(Refused::Open {
                    name: secret.name,
                    file: secret.file,
                    variable: self.variable_of(secret.name),
                });
            }
        }
        Ok(())
    }

    /// The variable that is set for a flag, and its value. An empty one counts as not set.
    fn looked_up(&self, flag: &str, environment: Environment<'_>) -> Option<(String, OsString)> {
        let also = self.also.iter().filter(|(known, _)| *known == flag).map(|(_, name)| (*name).to_owned());
        std::iter::once(self.variable_of(flag))
            .chain(also)
            .find_map(|name| environment(&name).filter(|value| !value.is_empty()).map(|value| (name, value)))
    }

    fn set_in_environment(
        &self,
        command: &Command,
        environment: Environment<'_>,
    ) -> Result<BTreeMap<String, Vec<OsString>>, Refused> {
        let mut found = BTreeMap::new();
        for flag in flags(command) {
            let Some((name, value)) = self.looked_up(flag, environment) else { continue };
            try_out(command, flag, std::slice::from_ref(&value))
                .map_err(|reason| Refused::Environment { name, reason })?;
            found.insert(flag.to_owned(), vec![value]);
        }
        Ok(found)
    }

    fn set_in_file(&self, command: &Command, path: &Path) -> Result<BTreeMap<String, Vec<OsString>>, Refused> {
        let unusable = |reason: String| Refused::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
        let mut found = BTreeMap::new();
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(found);
        }
        let map: BTreeMap<String, Value> = serde_saphyr::from_str(&text)
            .map_err(|error| unusable(format!("must be YAML with a key for each setting: {error}")))?;
        for (key, value) in map {
            let refused = |reason: String| Refused::Key { path: path.to_owned(), key: key.clone(), reason };
            if let Some(secret) = self.secrets.iter().find(|secret| key_of(secret.name) == key) {
                let (file, variable) = (key_of(secret.file), self.variable_of(secret.name));
                return Err(refused(format!(
                    "is a secret and does not belong here: put it in a file of its own and name that with {file}, or \
                     set {variable} in the environment"
                )));
            }
            let Some(flag) = flags(command).find(|flag| key_of(flag) == key) else {
                return Err(refused(unknown(command, &key)));
            };
            let values = texts(&value, is_list(command, flag)).map_err(refused)?;
            try_out(command, flag, &values).map_err(refused)?;
            found.insert(flag.to_owned(), values);
        }
        Ok(found)
    }
}

/// Reads a file that a flag names.
///
/// # Errors
/// [`Refused::Flag`] with the file and why.
pub fn read_file(flag: &'static str, path: &Path) -> Result<String, Refused> {
    std::fs::read_to_string(path)
        .map_err(|error| Refused::flag(flag, format!("cannot read {}: {error}", path.display())))
}

/// Flags that can be set elsewhere.
fn flags(command: &Command) -> impl Iterator<Item = &str> {
    command
        .get_arguments()
        .filter(|arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append))
        .filter_map(Arg::get_long)
        .filter(|flag| *flag != "config")
}

fn is_list(command: &Command, flag: &str) -> bool {
    let mut arguments = command.get_arguments();
    arguments.any(|arg| arg.get_long() == Some(flag) && matches!(arg.get_action(), ArgAction::Append))
}

/// A value of the file as the texts that would be typed.
fn texts(value: &Value, list: bool) -> Result<Vec<OsString>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(OsString::from(text)),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string().into()),
        Value::Null => Err("has no value: give one, or leave the key out".to_owned()),
        Value::Array(_) | Value::Object(_) if list => Err("must be a list of texts".to_owned()),
        Value::Array(_) | Value::Object(_) => Err("must be one value, not a list or a mapping".to_owned()),
    };
    match value {
        Value::Array(items) if list => items
            .iter()
            .map(|item| match item {
                Value::String(text) if text.contains(',') => {
                    Err(format!("{text:?} has a comma, which separates values: make it an item for each"))
                }
                item => one(item),
            })
            .collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// Whether a flag takes values; the reason if not.
fn try_out(command: &Command, flag: &str, values: &[OsString]) -> Result<(), String> {
    let mut args = vec![OsString::from(command.get_name())];
    for value in values {
        let mut arg = OsString::from(format!("--{flag}="));
        arg.push(value);
        args.push(arg);
    }
    match command.clone().try_get_matches_from(args) {
        Ok(_) => Ok(()),
        Err(error) => Err(reason(&error, values)),
    }
}

fn reason(error: &clap::Error, values: &[OsString]) -> String {
    let given = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => values.iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","),
    };
    if let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue)
        && !valid.is_empty()
    {
        return format!("{given:?} is none of {}", valid.join(", "));
    }
    if error.kind() == ErrorKind::InvalidUtf8 {
        return "is not text (UTF-8)".to_owned();
    }
    match std::error::Error::source(error) {
        Some(why) => format!("{given:?}: {why}"),
        None => format!("{given:?} is not acceptable"),
    }
}

/// What to say about a key that is not known: the likely one, or all.
fn unknown(command: &Command, key: &str) -> String {
    let plain = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    let wanted = plain(key);
    let keys: Vec<String> = flags(command).map(key_of).collect();
    let near = keys.iter().min_by_key(|known| distance(&plain(known), &wanted));
    match near {
        Some(near) if distance(&plain(near), &wanted) <= 2 => format!("is not known here; did you mean {near}?"),
        _ => format!("is not known here; known are {}", keys.join(", ")),
    }
}

/// How many letters differ (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let next = (corner + usize::from(a != *b)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = next;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
