//! The API's document: OpenAPI 3.1, written from the same types that read requests and write answers.
//!
//! Never a route that is not in it: routes are mounted from the document's own list.

use crate::{app::App, failed::json_response, native, openai, relay};
use axum::{Router, extract::State, http::StatusCode, response::Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, sync::Arc};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
#[openapi(
    info(title = "Everkept", description = "A durable session server for AI agents.", license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT")),
    components(schemas(everkept_api::Error)),
    tags(
        (name = "sessions", description = "Durable conversations"),
        (name = "threads", description = "Sessions by an application's own names"),
        (name = "turns", description = "A request and its response"),
        (name = "messages", description = "What was said"),
        (name = "events", description = "The log, and what comes"),
        (name = "questions", description = "What only a human can settle, and standing answers"),
        (name = "tokens", description = "Who may come in"),
        (name = "server", description = "The server itself"),
        (name = "openai", description = "The OpenAI door")
    )
)]
struct Base;

/// Every route but the web page's, and their document.
pub(crate) fn routes() -> (Router<Arc<App>>, Value) {
    let base = OpenApiRouter::with_openapi(Base::openapi());
    let (routes, document) =
        base.merge(native::routes()).merge(openai::routes()).merge(relay::routes()).routes(routes!(read)).split_for_parts();
    let mut document = serde_json::to_value(document).expect("a document has string keys only");
    mend(&mut document);
    (routes, document)
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", operation_id = "get_document", tag = "server",
    responses((status = 200, body = Object, description = "OpenAPI 3.1")))]
async fn read(State(app): State<Arc<App>>) -> Response {
    json_response(StatusCode::OK, app.document.get().cloned().unwrap_or_else(|| Bytes::from_static(b"{}")))
}

/// Puts right what the generator leaves out, and says once what is true of every route.
fn mend(document: &mut Value) {
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document["security"] = json!([{ "token": [] }]);
    document["components"]["securitySchemes"] =
        json!({ "token": { "type": "http", "scheme": "bearer", "description": "An access token; browsers have a cookie" } });
    let mut bodies = BTreeSet::new();
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                mend_operation(path, method, operation);
                if !openai::is_door(path) {
                    references(operation.get("requestBody").unwrap_or(&Value::Null), &mut bodies);
                }
            }
        }
    }
    close(document, bodies);
}

fn mend_operation(path: &str, method: &str, operation: &mut Map<String, Value>) {
    if !operation.contains_key("description")
        && let Some(summary) = operation.get("summary").cloned()
    {
        operation.insert("description".into(), summary);
    }
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    if let Some(parameters) = parameters.as_array_mut() {
        let given: BTreeSet<String> = parameters.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
        for name in path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')) {
            if !given.contains(name) {
                parameters.push(json!({
                    "name": name, "in": "path", "required": true, "description": path_parameter(name), "schema": { "type": "string" }
                }));
            }
        }
        if method != "get" {
            parameters.push(json!({
                "name": "Idempotency-Key", "in": "header", "required": false,
                "description": "The same request with the same key has one effect and gets one answer",
                "schema": { "type": "string", "minLength": 1, "maxLength": 255 }
            }));
        }
    }
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    if responses.get("default").is_none() {
        let error = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } });
        responses["default"] = json!({ "description": "An error", "content": error });
    }
}

fn path_parameter(name: &str) -> &'static str {
    match name {
        "ses" => "A session's id",
        "trn" => "A turn's id",
        "qst" => "A question's id; a rule has the id of the question it comes from",
        "tok" => "A token's id",
        "seq" => "An event's number",
        "resource" => "An owner",
        "thread" => "The owner's own name for a conversation",
        _ => "An id",
    }
}

/// The names of the schemas a value refers to.
fn references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/components/schemas/")) {
                names.insert(name.to_owned());
            }
            map.values().for_each(|value| references(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Says of every object in a request's body that it takes no other keys.
fn close(document: &mut Value, mut open: BTreeSet<String>) {
    let mut closed = BTreeSet::new();
    while let Some(name) = open.pop_first() {
        let schema = &mut document["components"]["schemas"][&name];
        close_schema(schema);
        let mut inner = BTreeSet::new();
        references(schema, &mut inner);
        closed.insert(name);
        open.extend(inner.into_iter().filter(|name| !closed.contains(name)));
    }
}

fn close_schema(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            map.values_mut().for_each(close_schema);
        }
        Value::Array(list) => list.iter_mut().for_each(close_schema),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation: path, method, what stands there.
    fn operations(document: &Value) -> Vec<(String, String, Value)> {
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                operations.push((path.clone(), method.clone(), operation.clone()));
            }
        }
        operations
    }

    #[test]
    fn the_document_is_whole() {
        let (_, document) = routes();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let here = format!("{method} {path}");
            assert!(operation["description"].as_str().is_some_and(|text| !text.is_empty()), "{here} is not described");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{here}: its operation id is taken");
            let named = path.matches('{').count();
            let parameters = operation["parameters"].as_array().unwrap();
            assert_eq!(parameters.iter().filter(|one| one["in"] == "path").count(), named, "{here}: path parameters");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{here}: {status} is not described");
            }
        }
        let mut named = BTreeSet::new();
        references(&document, &mut named);
        for name in named {
            assert!(document["components"]["schemas"].get(&name).is_some(), "{name} is referred to and not there");
        }
    }

    #[test]
    fn bodies_take_no_other_keys() {
        let (_, document) = routes();
        let schemas = &document["components"]["schemas"];
        for name in
            ["CreateSession", "UpdateSession", "SubmitTurn", "MessageIn", "RecordMessages", "AnswerQuestion", "Empty", "CreateToken"]
        {
            assert_eq!(schemas[name]["additionalProperties"], false, "{name}");
        }
        for variant in schemas["PartIn"]["oneOf"].as_array().unwrap() {
            assert_eq!(variant["additionalProperties"], false, "{variant}");
        }
    }

    #[test]
    fn words_are_written_as_they_go_over_the_wire() {
        let (_, document) = routes();
        let codes: Vec<_> = everkept_api::ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(document["components"]["schemas"]["ErrorCode"]["enum"], json!(codes));
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            for word in schema["enum"].as_array().into_iter().flatten() {
                let word = word.as_str().unwrap();
                assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name} has {word}");
            }
        }
    }
}
