//! The protobuf form of OpenAPI v2 (gnostic's `openapi.v2.Document`, package `github.com/google/gnostic-models`).
//!
//! Flows in: the document as JSON. Flows out: its bytes. Only the messages that a Kubernetes document needs are here; field
//! numbers are those of `OpenAPIv2.proto`. Values without a type of their own travel as YAML text, for which JSON will do.

use prost::{Message, Oneof};
use serde_json::Value;

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<NamedSchemas>,
    #[prost(message, repeated, tag = "12")]
    security: Vec<SecurityRequirement>,
    #[prost(message, optional, tag = "13")]
    security_definitions: Option<SecurityDefinitions>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Paths {
    #[prost(message, repeated, tag = "2")]
    path: Vec<NamedPathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedPathItem {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct PathItem {
    #[prost(message, optional, tag = "2")]
    get: Option<Operation>,
    #[prost(message, optional, tag = "3")]
    put: Option<Operation>,
    #[prost(message, optional, tag = "4")]
    post: Option<Operation>,
    #[prost(message, optional, tag = "5")]
    delete: Option<Operation>,
    #[prost(message, optional, tag = "8")]
    patch: Option<Operation>,
    #[prost(message, repeated, tag = "9")]
    parameters: Vec<ParametersItem>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(string, repeated, tag = "1")]
    tags: Vec<String>,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "5")]
    operation_id: String,
    #[prost(string, repeated, tag = "6")]
    produces: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    parameters: Vec<ParametersItem>,
    #[prost(message, optional, tag = "9")]
    responses: Option<Responses>,
    #[prost(string, repeated, tag = "10")]
    schemes: Vec<String>,
    #[prost(message, repeated, tag = "13")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(oneof = "ParameterKind", tags = "1, 2")]
    kind: Option<ParameterKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum ParameterKind {
    #[prost(message, tag = "1")]
    Body(BodyParameter),
    #[prost(message, tag = "2")]
    NonBody(NonBodyParameter),
}

#[derive(Clone, PartialEq, Message)]
struct BodyParameter {
    #[prost(string, tag = "1")]
    description: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    place: String,
    #[prost(bool, tag = "4")]
    required: bool,
    #[prost(message, optional, tag = "5")]
    schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NonBodyParameter {
    #[prost(oneof = "NonBodyKind", tags = "3, 4")]
    kind: Option<NonBodyKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum NonBodyKind {
    #[prost(message, tag = "3")]
    Query(QueryParameter),
    #[prost(message, tag = "4")]
    Path(PathParameter),
}

#[derive(Clone, PartialEq, Message)]
struct QueryParameter {
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "6")]
    kind: String,
    #[prost(bool, tag = "20")]
    unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
struct PathParameter {
    #[prost(bool, tag = "1")]
    required: bool,
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    kind: String,
    #[prost(bool, tag = "19")]
    unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Responses {
    #[prost(message, repeated, tag = "1")]
    response_code: Vec<NamedResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedResponse {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<ResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseValue {
    #[prost(message, optional, tag = "1")]
    response: Option<Response>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(string, tag = "1")]
    description: String,
    #[prost(message, optional, tag = "2")]
    schema: Option<SchemaItem>,
}

#[derive(Clone, PartialEq, Message)]
struct SchemaItem {
    #[prost(message, optional, tag = "1")]
    schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchemas {
    #[prost(message, repeated, tag = "1")]
    additional_properties: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "3")]
    title: String,
    #[prost(string, tag = "4")]
    description: String,
    #[prost(message, optional, tag = "5")]
    default: Option<Any>,
    #[prost(double, tag = "6")]
    multiple_of: f64,
    #[prost(double, tag = "7")]
    maximum: f64,
    #[prost(bool, tag = "8")]
    exclusive_maximum: bool,
    #[prost(double, tag = "9")]
    minimum: f64,
    #[prost(bool, tag = "10")]
    exclusive_minimum: bool,
    #[prost(int64, tag = "11")]
    max_length: i64,
    #[prost(int64, tag = "12")]
    min_length: i64,
    #[prost(string, tag = "13")]
    pattern: String,
    #[prost(int64, tag = "14")]
    max_items: i64,
    #[prost(int64, tag = "15")]
    min_items: i64,
    #[prost(bool, tag = "16")]
    unique_items: bool,
    #[prost(int64, tag = "17")]
    max_properties: i64,
    #[prost(int64, tag = "18")]
    min_properties: i64,
    #[prost(string, repeated, tag = "19")]
    required: Vec<String>,
    #[prost(message, repeated, tag = "20")]
    allowed: Vec<Any>,
    #[prost(message, optional, boxed, tag = "21")]
    additional_properties: Option<Box<AdditionalProperties>>,
    #[prost(message, optional, tag = "22")]
    kind: Option<TypeItem>,
    #[prost(message, optional, tag = "23")]
    items: Option<ItemsItem>,
    #[prost(message, repeated, tag = "24")]
    all_of: Vec<Schema>,
    #[prost(message, optional, tag = "25")]
    properties: Option<NamedSchemas>,
    #[prost(message, repeated, tag = "31")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct AdditionalProperties {
    #[prost(oneof = "AdditionalKind", tags = "1, 2")]
    kind: Option<AdditionalKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum AdditionalKind {
    #[prost(message, tag = "1")]
    Schema(Schema),
    #[prost(bool, tag = "2")]
    Boolean(bool),
}

#[derive(Clone, PartialEq, Message)]
struct TypeItem {
    #[prost(string, repeated, tag = "1")]
    value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ItemsItem {
    #[prost(message, repeated, tag = "1")]
    schema: Vec<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}

#[derive(Clone, PartialEq, Message)]
struct NamedAny {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityRequirement {
    #[prost(message, repeated, tag = "1")]
    additional_properties: Vec<NamedStrings>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedStrings {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<TypeItem>,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityDefinitions {
    #[prost(message, repeated, tag = "1")]
    additional_properties: Vec<NamedSecurity>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSecurity {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<SecurityItem>,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityItem {
    #[prost(message, optional, tag = "2")]
    api_key: Option<ApiKey>,
}

#[derive(Clone, PartialEq, Message)]
struct ApiKey {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    place: String,
    #[prost(string, tag = "4")]
    description: String,
}

/// The bytes of a document.
pub fn to_protobuf(document: &Value) -> Vec<u8> {
    convert(document).encode_to_vec()
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let items = value.get(field).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn flag(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or(false)
}

fn whole(value: &Value, field: &str) -> i64 {
    value.get(field).and_then(Value::as_i64).unwrap_or(0)
}

fn decimal(value: &Value, field: &str) -> f64 {
    value.get(field).and_then(Value::as_f64).unwrap_or(0.0)
}

fn fields<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(field).and_then(Value::as_object).into_iter().flatten()
}

fn array<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn any(value: &Value) -> Any {
    Any { yaml: format!("{value}\n") }
}

fn extensions(value: &Value) -> Vec<NamedAny> {
    let all = value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"));
    all.map(|(name, value)| NamedAny { name: name.clone(), value: Some(any(value)) }).collect()
}

fn convert(document: &Value) -> Document {
    let info = document.get("info").unwrap_or(&Value::Null);
    Document {
        swagger: text(document, "swagger"),
        info: Some(Info { title: text(info, "title"), version: text(info, "version") }),
        paths: Some(Paths {
            path: fields(document, "paths")
                .map(|(name, item)| NamedPathItem { name: name.clone(), value: Some(path_item(item)) })
                .collect(),
        }),
        definitions: Some(named(document, "definitions")),
        security: array(document, "security")
            .iter()
            .map(|requirement| SecurityRequirement {
                additional_properties: requirement
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| NamedStrings { name: name.clone(), value: Some(TypeItem::default()) })
                    .collect(),
            })
            .collect(),
        security_definitions: Some(SecurityDefinitions {
            additional_properties: fields(document, "securityDefinitions")
                .map(|(name, definition)| NamedSecurity {
                    name: name.clone(),
                    value: Some(SecurityItem {
                        api_key: Some(ApiKey {
                            kind: text(definition, "type"),
                            name: text(definition, "name"),
                            place: text(definition, "in"),
                            description: text(definition, "description"),
                        }),
                    }),
                })
                .collect(),
        }),
    }
}

fn named(value: &Value, field: &str) -> NamedSchemas {
    NamedSchemas {
        additional_properties: fields(value, field)
            .map(|(name, value)| NamedSchema { name: name.clone(), value: Some(schema(value)) })
            .collect(),
    }
}

fn path_item(item: &Value) -> PathItem {
    let method = |name: &str| item.get(name).map(operation);
    PathItem {
        get: method("get"),
        put: method("put"),
        post: method("post"),
        delete: method("delete"),
        patch: method("patch"),
        parameters: array(item, "parameters").iter().map(parameter).collect(),
    }
}

fn operation(value: &Value) -> Operation {
    let responses = fields(value, "responses").map(|(code, response)| {
        let schema = response.get("schema").map(|s| SchemaItem { schema: Some(schema(s)) });
        let response = Response { description: text(response, "description"), schema };
        NamedResponse { name: code.clone(), value: Some(ResponseValue { response: Some(response) }) }
    });
    Operation {
        tags: texts(value, "tags"),
        description: text(value, "description"),
        operation_id: text(value, "operationId"),
        produces: texts(value, "produces"),
        consumes: texts(value, "consumes"),
        parameters: array(value, "parameters").iter().map(parameter).collect(),
        responses: Some(Responses { response_code: responses.collect() }),
        schemes: texts(value, "schemes"),
        vendor_extension: extensions(value),
    }
}

fn parameter(value: &Value) -> ParametersItem {
    let (name, place, description) = (text(value, "name"), text(value, "in"), text(value, "description"));
    let (required, kind, unique_items) = (flag(value, "required"), text(value, "type"), flag(value, "uniqueItems"));
    let kind = match place.as_str() {
        "body" => ParameterKind::Body(BodyParameter {
            description,
            name,
            place,
            required,
            schema: value.get("schema").map(schema),
        }),
        "path" => ParameterKind::NonBody(NonBodyParameter {
            kind: Some(NonBodyKind::Path(PathParameter { required, place, description, name, kind, unique_items })),
        }),
        _ => ParameterKind::NonBody(NonBodyParameter {
            kind: Some(NonBodyKind::Query(QueryParameter { place, description, name, kind, unique_items })),
        }),
    };
    ParametersItem { parameter: Some(Parameter { kind: Some(kind) }) }
}

fn schema(value: &Value) -> Schema {
    let kind = text(value, "type");
    Schema {
        reference: text(value, "$ref"),
        format: text(value, "format"),
        title: text(value, "title"),
        description: text(value, "description"),
        default: value.get("default").map(any),
        multiple_of: decimal(value, "multipleOf"),
        maximum: decimal(value, "maximum"),
        exclusive_maximum: flag(value, "exclusiveMaximum"),
        minimum: decimal(value, "minimum"),
        exclusive_minimum: flag(value, "exclusiveMinimum"),
        max_length: whole(value, "maxLength"),
        min_length: whole(value, "minLength"),
        pattern: text(value, "pattern"),
        max_items: whole(value, "maxItems"),
        min_items: whole(value, "minItems"),
        unique_items: flag(value, "uniqueItems"),
        max_properties: whole(value, "maxProperties"),
        min_properties: whole(value, "minProperties"),
        required: texts(value, "required"),
        allowed: array(value, "enum").iter().map(any).collect(),
        additional_properties: value.get("additionalProperties").map(|additional| {
            let kind = match additional {
                Value::Bool(allowed) => AdditionalKind::Boolean(*allowed),
                other => AdditionalKind::Schema(schema(other)),
            };
            Box::new(AdditionalProperties { kind: Some(kind) })
        }),
        kind: (!kind.is_empty()).then(|| TypeItem { value: vec![kind] }),
        items: value.get("items").map(|items| ItemsItem { schema: vec![schema(items)] }),
        all_of: array(value, "allOf").iter().map(schema).collect(),
        properties: value.get("properties").map(|_| named(value, "properties")),
        vendor_extension: extensions(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_kubectl_looks_for_survives() {
        let document = json!({
            "swagger": "2.0", "info": {"title": "t", "version": "v"},
            "paths": {"/a/{name}": {"patch": {
                "operationId": "patchA", "parameters": [
                    {"name": "dryRun", "in": "query", "type": "string"},
                    {"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/A"}}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/A"}}},
                "x-kubernetes-group-version-kind": {"group": "g", "version": "v1", "kind": "A"}}}},
            "definitions": {"A": {"type": "object", "properties": {
                "l": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "m": {"type": "object", "additionalProperties": {"type": "string"}}}}},
        });
        let back = Document::decode(to_protobuf(&document).as_slice()).unwrap();
        let paths = back.paths.unwrap().path;
        let patch = paths[0].value.as_ref().unwrap().patch.as_ref().unwrap();
        assert_eq!(patch.vendor_extension[0].name, "x-kubernetes-group-version-kind");
        assert_eq!(
            patch.vendor_extension[0].value.as_ref().unwrap().yaml,
            "{\"group\":\"g\",\"kind\":\"A\",\"version\":\"v1\"}\n"
        );
        let kinds: Vec<_> = patch.parameters.iter().map(|p| p.parameter.clone().unwrap().kind.unwrap()).collect();
        assert!(
            matches!(&kinds[0], ParameterKind::NonBody(NonBodyParameter { kind: Some(NonBodyKind::Query(q)) }) if q.name == "dryRun")
        );
        assert!(matches!(&kinds[1], ParameterKind::Body(body) if body.required));
        let a = back.definitions.unwrap().additional_properties[0].value.clone().unwrap();
        let properties = a.properties.unwrap().additional_properties;
        assert_eq!(properties[0].value.as_ref().unwrap().items.as_ref().unwrap().schema.len(), 1);
        assert!(properties[1].value.as_ref().unwrap().additional_properties.is_some());
    }
}
