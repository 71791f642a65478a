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

    /// A whole number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, StatusError> {
        let read = |text: &str| {
            text.parse()
                .map_err(|_| StatusError::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax")))
        };
        self.get(name).map(read).transpose()
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
        let orphan = self.get("orphanDependents").map(|text| text == "true");
        let propagation = Propagation::choose(self.get("propagationPolicy"), orphan)?;
        Ok(DeleteOptions { propagation, ..DeleteOptions::default() })
    }
}

/// Reads `dryRun`, whose only value is `All`.
pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, StatusError> {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        let error = FieldError::not_supported("dryRun", values, &["All"]);
        return Err(StatusError::invalid("meta.k8s.io", "CreateOptions", "", vec![cause(&error)]));
    }
    Ok(!values.is_empty())
}
