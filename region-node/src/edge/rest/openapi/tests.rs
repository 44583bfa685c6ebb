//! What must hold for the document, whatever areas there are.

use super::*;
use crate::edge::rest::areas;
use std::collections::BTreeSet;

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

fn document(development: bool) -> Value {
    let mut api = areas(development).into_openapi();
    api.merge(OpenApiRouter::<()>::new().routes(routes!(read)).into_openapi());
    complete(&api).expect("JSON")
}

/// Each operation, by its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &'_ Value)| {
        let item = item.as_object().expect("a path").iter();
        let item = item.filter(|(method, _)| METHODS.contains(&method.as_str()));
        item.map(|(method, _)| (method.clone(), path.clone())).collect::<Vec<_>>()
    };
    let named = paths.iter().flat_map(of_path);
    named.map(|(method, path)| (format!("{method} {path}"), &document["paths"][&path][&method])).collect()
}

fn statuses(operation: &Value) -> BTreeSet<&str> {
    operation["responses"].as_object().expect("responses").keys().map(String::as_str).collect()
}

#[test]
fn every_operation_says_what_it_is_and_how_it_answers() {
    let document = document(false);
    let operations = operations(&document);
    assert!(operations.len() > 25, "there are {}", operations.len());
    let mut ids = BTreeSet::new();
    for (name, operation) in &operations {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no id"));
        assert!(ids.insert(id), "{name}: {id} is the id of another one");
        assert!(id.chars().all(|it| it.is_ascii_alphanumeric()), "{name}: {id}");
        assert!(operation["summary"].as_str().is_some_and(|it| it.ends_with('.')), "{name} has no summary");
        let tag = &operation["tags"][0];
        let tags = document["tags"].as_array().expect("tags");
        assert!(tags.iter().any(|known| known["name"] == *tag), "{name}: there is no tag {tag}");
        let statuses = statuses(operation);
        assert!(statuses.iter().any(|status| status.starts_with('2')), "{name} never succeeds");
        if name == "get /v1/openapi.json" {
            continue;
        }
        for status in ["400", "429", "500", "503", "504"] {
            assert!(statuses.contains(status), "{name} is never refused with {status}");
        }
        let has_body = operation.get("requestBody").is_some();
        assert!(!has_body || statuses.contains("413"), "{name} takes a body of any size");
    }
}

#[test]
fn whoever_has_not_logged_in_is_told_so() {
    let document = document(false);
    for (name, operation) in operations(&document) {
        let is_open = operation.get("security").is_some();
        assert!(is_open || statuses(operation).contains("401"), "{name} asks for no token");
        let is_sign_in = ["register", "login", "refresh"].iter().any(|it| name == format!("post /v1/{it}"));
        assert_eq!(is_open, is_sign_in || name == "get /v1/openapi.json", "{name}");
    }
}

#[test]
fn every_refusal_is_the_one_problem() {
    let document = document(false);
    for (name, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            if status.starts_with('2') {
                continue;
            }
            let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{name}: {status}");
        }
    }
    let codes = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    assert_eq!(codes.as_array().map(Vec::len), Some(Code::ALL.len()));
}

#[test]
fn every_part_of_a_path_is_a_parameter() {
    let document = document(false);
    for (name, operation) in operations(&document) {
        let in_path = name.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let told = parameters.iter().filter(|it| it["in"] == "path");
        let told: BTreeSet<&str> = told.filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(in_path.collect::<BTreeSet<_>>(), told, "{name}");
        assert!(parameters.iter().all(|it| it["description"].is_string()), "{name}: {parameters:?}");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = document(false);
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let mut references = Vec::new();
    messages::references(&document, &mut references);
    let references: BTreeSet<&str> = references.iter().map(String::as_str).collect();
    for (name, schema) in schemas {
        let keywords = schema.as_object().unwrap_or_else(|| panic!("{name} is {schema}"));
        assert!(keywords.values().all(|keyword| !keyword.is_null()), "{name} is {schema}");
    }
    let schemas: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
    assert_eq!(references.difference(&schemas).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert_eq!(schemas.difference(&references).collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn names_stand_for_users_in_development_mode_only() {
    let schemes = |development| document(development)["components"]["securitySchemes"].clone();
    assert!(schemes(true).get(NAMED).is_some() && schemes(true).get(BEARER).is_some());
    assert!(schemes(false).get(NAMED).is_none() && schemes(false).get(BEARER).is_some());
    assert_eq!(document(false)["security"].as_array().map(Vec::len), Some(1));
}

#[test]
fn it_is_openapi_3_1_with_bounds_of_the_protocol() {
    let document = document(false);
    assert_eq!(document["openapi"], "3.1.0");
    let send = &document["components"]["schemas"]["client.Send"];
    assert!(send["properties"].get("log").is_none(), "{send}");
    assert_eq!(send["properties"]["ciphertext"]["maxLength"], 87_384);
    assert_eq!(send["properties"]["deadlineMs"]["maximum"], types::limits::DEADLINE_MAX_MS);
}
