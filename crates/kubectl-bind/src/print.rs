//! What goes to standard output: documents and tables. Everything else (talk) goes to standard error.

use std::io::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use crate::args::{DocumentFormat, ListFormat};
use crate::cluster::text;
use crate::errors::CliError;

/// Documents, in YAML separated by `---`.
pub(crate) fn documents(documents: &[Value], format: DocumentFormat) -> Result<(), CliError> {
    let mut out = String::new();
    for (at, document) in documents.iter().enumerate() {
        match format {
            DocumentFormat::Yaml => {
                if at > 0 {
                    out.push_str("---\n");
                }
                out.push_str(&apimachinery::yaml::write(document));
            }
            DocumentFormat::Json => out.push_str(&format!("{document:#}\n")),
        }
    }
    line(&out)
}

/// A list of the wire: as a table by `columns`, or as it is. `kind` is the kind of the list's items.
pub(crate) fn list(
    list: &Value,
    kind: &str,
    format: ListFormat,
    headers: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) -> Result<(), CliError> {
    let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    match format {
        ListFormat::Table if items.is_empty() => eprintln!("No resources found."),
        ListFormat::Table => line(&table(headers, &items.iter().map(row).collect::<Vec<_>>()))?,
        ListFormat::Name => {
            let names = items
                .iter()
                .map(|item| format!("{}.kube-bind.io/{}\n", kind.to_lowercase(), text(item, "/metadata/name")));
            line(&names.collect::<String>())?;
        }
        ListFormat::Yaml | ListFormat::Json => {
            let whole = serde_json::json!({
                "apiVersion": kube_bind_api::API_VERSION, "kind": format!("{kind}List"),
                "metadata": list.get("metadata").cloned().unwrap_or_default(), "items": items,
            });
            let format = if format == ListFormat::Yaml { DocumentFormat::Yaml } else { DocumentFormat::Json };
            documents(&[whole], format)?;
        }
    }
    Ok(())
}

/// Writes to standard output.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Columns as kubectl aligns them: three spaces between.
pub(crate) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headers.iter().map(|header| header.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
    for row in std::iter::once(&headers).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:<width$}   ", width = *width));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// How long ago, in kubectl's words: `5s`, `3m20s`, `4h`, `2d`.
pub(crate) fn age(then: &str, now: Timestamp) -> String {
    apimachinery::duration::age(Some(then), now)
}

/// `<none>` for nothing.
pub(crate) fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}
