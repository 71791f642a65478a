//! Query parameters of API requests.

use std::collections::HashMap;

use apimachinery::field_path::FieldError;
use apimachinery::status::StatusError;

use crate::pipeline::{DeleteOptions, FieldValidation, Propagation, cause};

/// The parameters of a request; of a repeated one the first counts, except for `dryRun`.
#[derive(Clone, Debug, Default)]
pub struct Query {
    values: HashMap<String, String>,
    dry_run: Vec<String>,
}

impl Query {
    /// Parses the part behind the question mark.
    pub fn parse(raw: Option<&str>) -> Self {
        let mut query = Self::default();
        for (name, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            if name == "dryRun" {
                query.dry_run.push(value.into_owned());
            } else {
                query.values.entry(name.into_owned()).or_insert_with(|| value.into_owned());
            }
        }
        query
    }

    /// A parameter; empty counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A boolean parameter, read as Kubernetes does: present and neither `false` nor `0` is true.
    pub fn flag(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| !matches!(value.as_str(), "false" | "0"))
    }

    /// Whether nothing shall be stored.
    pub fn dry_run(&self) -> Result<bool, StatusError> {
        dry_run(self.dry_run.iter().map(String::as_str))
    }

    /// What to do with unknown fields.
    pub fn field_validation(&self) -> Result<FieldValidation, StatusError> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => {
                let error = FieldError::not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]);
                Err(StatusError::invalid("meta.k8s.io", "CreateOptions", "", vec![cause(&error)]))
            }
        }
    }

    /// Deletion options in the query; they are used where the body has none.
    pub fn delete_options(&self) -> Result<DeleteOptions, StatusError> {
        let propagation = match (self.get("propagationPolicy"), self.get("orphanDependents")) {
            (Some(policy), _) => Some(Propagation::parse(policy)?),
            (None, Some("true")) => Some(Propagation::Orphan),
            (None, Some(_)) => Some(Propagation::Background),
            (None, None) => None,
        };
        Ok(DeleteOptions { propagation, ..DeleteOptions::default() })
    }
}

/// Reads `dryRun`, whose only value is `All`.
pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, StatusError> {
    let mut dry = false;
    for value in values {
        match value {
            "" => {}
            "All" => dry = true,
            other => {
                let error = FieldError::not_supported("dryRun", other, &["All"]);
                return Err(StatusError::invalid("meta.k8s.io", "CreateOptions", "", vec![cause(&error)]));
            }
        }
    }
    Ok(dry)
}
