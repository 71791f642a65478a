//! Content negotiation: what a client can read, and what it sent.

use apimachinery::status::StatusError;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::pipeline::body::Format;

/// In which shape objects go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As they are.
    Object,
    /// As a `meta.k8s.io` Table; the string is the version.
    Table(String),
    /// Only metadata; the string is the version.
    Metadata(String),
}

/// How an answer is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The shape of objects.
    pub shape: Shape,
    /// JSON or YAML.
    pub format: Format,
}

/// One entry of an `Accept` header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaRange {
    /// Type and subtype, lower case.
    pub media_type: String,
    /// Parameters but `q`.
    pub params: Vec<(String, String)>,
    /// Weight.
    pub q: f32,
}

impl MediaRange {
    /// A parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// The entries of the `Accept` headers in the client's order of preference; none means anything.
pub fn accepted(headers: &HeaderMap) -> Vec<MediaRange> {
    let text: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let mut ranges: Vec<MediaRange> = text
        .join(",")
        .split(',')
        .filter(|entry| !entry.trim().is_empty())
        .map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let mut range = MediaRange {
                media_type: parts.next().unwrap_or_default().to_lowercase(),
                q: 1.0,
                ..Default::default()
            };
            for (name, value) in parts.filter_map(|p| p.split_once('=')) {
                match name.trim() {
                    "q" => range.q = value.trim().parse().unwrap_or(0.0),
                    name => range.params.push((name.to_owned(), value.trim().trim_matches('"').to_owned())),
                }
            }
            range
        })
        .collect();
    if ranges.is_empty() {
        ranges.push(MediaRange { media_type: "*/*".to_owned(), q: 1.0, ..Default::default() });
    }
    ranges.sort_by(|a, b| b.q.total_cmp(&a.q));
    ranges.retain(|range| range.q > 0.0);
    ranges
}

/// Chooses the output for API objects.
pub fn output(headers: &HeaderMap, watch: bool) -> Result<Output, StatusError> {
    for range in accepted(headers) {
        let format = match range.media_type.as_str() {
            "application/json" | "*/*" | "application/*" => Format::Json,
            "application/yaml" if !watch => Format::Yaml,
            _ => continue,
        };
        let version = range.param("v").unwrap_or("v1").to_owned();
        let known = range.param("g").is_none_or(|g| g == "meta.k8s.io") && matches!(version.as_str(), "v1" | "v1beta1");
        let shape = match range.param("as") {
            None => Shape::Object,
            Some("Table") if known => Shape::Table(version),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if known => Shape::Metadata(version),
            Some(_) => continue,
        };
        return Ok(Output { shape, format });
    }
    Err(StatusError::not_acceptable(&["application/json", "application/yaml"]))
}

/// The media type of a body, without parameters, lower case.
pub fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_lowercase()
}

/// The format of an object in a body.
pub fn body_format(headers: &HeaderMap) -> Result<Format, StatusError> {
    match content_type(headers).as_str() {
        "" | "application/json" | "*/*" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
        _ => Err(StatusError::unsupported_media_type(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())])
    }

    #[test]
    fn the_first_that_we_speak_is_taken() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(output(&headers(table), false).unwrap().shape, Shape::Table("v1".into()));
        let go = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(output(&headers(go), false).unwrap(), Output { shape: Shape::Object, format: Format::Json });
        assert_eq!(output(&headers("application/vnd.kubernetes.protobuf"), false).unwrap_err().code, 406);
        let weighted = "application/json;q=0.5, application/yaml";
        assert_eq!(output(&headers(weighted), false).unwrap().format, Format::Yaml);
        assert_eq!(output(&HeaderMap::new(), true).unwrap().format, Format::Json);
    }
}
