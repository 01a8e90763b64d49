//! The OpenAPI document as the measure of every answer that a test of the service gets.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use http::{HeaderMap, Method};
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// What to do when an answer is not in the document.
const HOW: &str =
    "describe it in bins/portcullis-server/openapi.json (see docs/api.md, \"The document for programs\")";

/// Headers that an answer has only where the document says so.
const TOLD: [&str; 10] = [
    "location",
    "etag",
    "preference-applied",
    "retry-after",
    "link",
    "deprecation",
    "accept-ranges",
    "content-range",
    "allow",
    "www-authenticate",
];

/// The document, as it is served.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../bins/portcullis-server/openapi.json")).unwrap()
});

/// The same with every object closed: a caller must pass over members it does not know, but none is to be sent that the
/// document does not know.
static CLOSED: LazyLock<Value> = LazyLock::new(|| {
    let mut document = DOCUMENT.clone();
    close(&mut document["components"]["schemas"]);
    document
});

fn close(value: &mut Value) {
    if let Value::Object(object) = value {
        if object.get("properties").is_some_and(Value::is_object) && object.contains_key("required") {
            object.entry("additionalProperties").or_insert(false.into());
        }
        object.values_mut().for_each(close);
    } else if let Value::Array(array) = value {
        array.iter_mut().for_each(close);
    }
}

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Holds a value against a schema of the document.
#[track_caller]
pub(crate) fn check_value(schema: &Value, value: &Value, what: &str) {
    let validator = {
        let mut validators = VALIDATORS.lock().unwrap();
        let made = validators.entry(schema.to_string()).or_insert_with(|| {
            let mut schema = schema.clone();
            schema["components"] = CLOSED["components"].clone();
            let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
            Arc::new(options.should_validate_formats(true).build(&schema).unwrap())
        });
        Arc::clone(made)
    };
    let wrong: Vec<_> =
        validator.iter_errors(value).map(|error| format!("`{}`: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{what} is not what the document says: {wrong:#?}\n{value:#}\n{HOW}");
}

/// Follows a reference within the document.
pub(crate) fn resolved(value: &Value) -> &Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => DOCUMENT.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

/// Finds a path of the document, the one with the fewest parameters, as the service does.
fn path(path: &str) -> Option<&'static Map<String, Value>> {
    let fits = |template: &str| {
        let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        let same = |(named, found): (&&str, &&str)| {
            if named.starts_with('{') { !found.is_empty() } else { named == found }
        };
        template.len() == path.len() && template.iter().zip(&path).all(same)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let fitting = paths.iter().filter(|(template, _)| fits(template));
    fitting
        .min_by_key(|(template, _)| template.matches('{').count())
        .map(|(_, item)| item.as_object().unwrap())
}

/// Holds an answer against the document. What is asked of no route, and `OPTIONS`, is not in it.
#[track_caller]
pub(crate) fn check(method: &Method, target: &str, status: u16, headers: &HeaderMap, body: Option<&[u8]>) {
    let asked = target.split('?').next().unwrap();
    let named = if method == Method::HEAD { "get".to_owned() } else { method.as_str().to_ascii_lowercase() };
    let Some(operation) = path(asked).and_then(|item| item.get(&named)) else { return };
    let what = format!("the answer {status} to {method} {target}");
    // The address of the metrics has one route, and says so of every other.
    let no_route = body.is_some_and(|body| body.windows(15).any(|part| part == b"\"route/unknown\""));
    if status == 404 && no_route {
        return;
    }
    let response = operation["responses"].get(status.to_string());
    let response = resolved(response.unwrap_or_else(|| panic!("{what} is not in the document: {HOW}")));

    let declared = response["headers"].as_object().cloned().unwrap_or_default();
    let declared: HashMap<String, Value> =
        declared.into_iter().map(|(name, header)| (name.to_ascii_lowercase(), header)).collect();
    for name in TOLD {
        let Some(value) = headers.get(name) else { continue };
        let of_every_answer = operation["deprecated"] == true && ["deprecation", "link"].contains(&name);
        match declared.get(name) {
            Some(header) => check_value(&resolved(header)["schema"], &json!(value.to_str().unwrap()), &what),
            None => assert!(of_every_answer, "{what} has `{name}`, which the document does not know: {HOW}"),
        }
    }
    let media_type = headers.get("content-type").map(|value| value.to_str().unwrap());
    let Some(content) = response.get("content").and_then(Value::as_object) else {
        assert!(body.is_none_or(<[u8]>::is_empty), "{what} has a body, and should have none");
        return;
    };
    let media_type = media_type.unwrap_or_else(|| panic!("{what} has no media type"));
    let described = content.get(media_type);
    let described = described.unwrap_or_else(|| panic!("{what} is `{media_type}`: {HOW}"));
    if media_type.ends_with("json")
        && let Some(body) = body
    {
        check_value(&described["schema"], &serde_json::from_slice(body).unwrap(), &what);
    }
}

/// Holds an event against the document: its fields, and what is in its data.
#[track_caller]
pub(crate) fn check_event(id: &str, kind: &str, data: &Value) {
    let event = json!({"id": id, "event": kind, "data": data.to_string()});
    check_value(&json!({"$ref": "#/components/schemas/Event"}), &event, "an event");
    let kinds = DOCUMENT.pointer("/components/schemas/Event/oneOf").unwrap().as_array().unwrap();
    let described = kinds.iter().find(|one| one["properties"]["event"]["const"] == kind).unwrap();
    check_value(&described["properties"]["data"]["contentSchema"], data, kind);
}

#[test]
fn the_document_describes_every_route_and_no_other() {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(|method| (path.clone(), method.to_ascii_uppercase()))
        })
        .collect();
    let written = |path: &str| {
        let segments = path.split('/').map(|segment| match segment.strip_prefix(':') {
            Some(name) => format!("{{{name}}}"),
            None => segment.to_owned(),
        });
        segments.collect::<Vec<_>>().join("/")
    };
    let there: BTreeSet<(String, String)> = portcullis_server::http::table()
        .iter()
        .map(|(method, path)| (written(path), method.to_string()))
        .collect();
    let lacks: Vec<_> = there.difference(&described).collect();
    let more: Vec<_> = described.difference(&there).collect();
    assert!(lacks.is_empty() && more.is_empty(), "the document lacks {lacks:?} and has {more:?}: {HOW}");
}

#[test]
fn every_problem_code_is_in_the_document() {
    let known: Vec<Value> =
        portcullis_api::ProblemCode::ALL.iter().map(|code| code.as_str().into()).collect();
    assert_eq!(DOCUMENT["components"]["schemas"]["ProblemCode"]["enum"], Value::Array(known), "{HOW}");
}

/// Finds every example with its schema, wherever it stands.
fn examples<'a>(value: &'a Value, place: &str, found: &mut Vec<(String, &'a Value, Value)>) {
    if let Value::Object(object) = value {
        if let Some(schema) = object.get("schema") {
            let one = object.get("example").cloned().into_iter();
            let named = object.get("examples").and_then(Value::as_object);
            let named =
                named.into_iter().flat_map(|named| named.values().map(|named| named["value"].clone()));
            found.extend(one.chain(named).map(|example| (place.to_owned(), schema, example)));
        }
        // What a schema itself gives as examples.
        if let (Some(Value::Array(listed)), None) = (object.get("examples"), object.get("schema")) {
            found.extend(listed.iter().map(|example| (place.to_owned(), value, example.clone())));
        }
        let inner = object.iter().filter(|(name, _)| !["example", "examples"].contains(&name.as_str()));
        inner.for_each(|(name, value)| examples(value, &format!("{place}/{name}"), found));
    } else if let Value::Array(array) = value {
        array.iter().for_each(|value| examples(value, place, found));
    }
}

#[test]
fn every_example_is_what_its_schema_says() {
    let mut found = Vec::new();
    examples(&DOCUMENT, "", &mut found);
    assert!(found.len() > 70, "only {} examples were found", found.len());
    for (place, schema, example) in &found {
        check_value(schema, example, &format!("the example at {place}"));
    }
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let bodies = operation["responses"].as_object().unwrap().values().map(resolved);
            let bodies = bodies.chain(operation.get("requestBody")).filter_map(|body| body.get("content"));
            for (media_type, content) in bodies.flat_map(|content| content.as_object().unwrap()) {
                let json = media_type.ends_with("json") && path != "/openapi.json";
                let has_one = content.get("example").or(content.get("examples")).is_some();
                assert!(has_one || !json, "{method} {path} has no example of `{media_type}`");
            }
        }
    }
}

#[tokio::test]
async fn the_document_is_served_to_anybody() {
    let served = crate::served::Served::start().await;
    let answer = served.request("GET", "/openapi.json").token(None).send().await.expect_status(200);
    assert_eq!(answer.json(), *DOCUMENT);
    assert_eq!(answer.header("content-type"), "application/json");
    let tag = answer.header("etag").to_owned();
    let asked = served.request("GET", "/openapi.json").token(None).header("if-none-match", &tag);
    asked.send().await.expect_status(304);
}

#[test]
#[should_panic(expected = "is not what the document says")]
fn an_answer_with_a_member_more_is_noticed() {
    let known = json!({"executionId": "a", "status": "scheduled", "more": 1});
    check_value(&json!({"$ref": "#/components/schemas/SubmitResponse"}), &known, "this");
}
