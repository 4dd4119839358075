//! The document of the API: committed, whole, and as it is served.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use pretty_assertions::assert_eq;
use runledger_gateway::openapi_document;
use serde_json::Value;

use crate::support::Server;

/// With this in the environment the committed document is written anew.
const WRITE: &str = "RUNLEDGER_WRITE_OPENAPI";

fn document() -> Value {
    serde_json::from_str(&openapi_document()).unwrap()
}

/// The operations with their paths and methods.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let operations = item.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters");
            operations.map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let served = openapi_document() + "\n";
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, &served).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == served, "gateway/openapi.json is not what is served: run this test with {WRITE}=1");
}

#[tokio::test]
async fn it_is_served_to_everybody() {
    let answer = Server::new().send(Request::get("/api/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.expect(200), document());
}

#[test]
fn every_operation_says_what_it_is_and_how_it_fails() {
    let document = document();
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no operation id"));
        assert!(ids.insert(id), "{name}: the operation id {id} is taken");
        let said = ["summary"].map(|part| operation[part].as_str().unwrap_or_default().len());
        assert!(said.iter().all(|length| *length > 3), "{name} has no summary");
        let tag = operation["tags"][0].as_str().unwrap_or_default();
        assert!(tags.contains(tag), "{name}: nobody says what its tag {tag:?} is");
        let responses = operation["responses"].as_object().unwrap();
        let good = responses.keys().any(|status| status.starts_with(['2', '3']));
        assert!(good, "{name} has no good answer");
        for (status, response) in responses.iter().filter(|(status, _)| status.starts_with(['4', '5'])) {
            let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{name} {status}");
        }
        for status in ["500", "504"] {
            assert!(responses.contains_key(status), "{name} does not say {status}");
        }
        if name.contains(" /api/") {
            assert!(responses.contains_key("401"), "{name} does not say 401");
            assert!(operation["security"][0]["bearer"].is_array(), "{name} needs no token");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let said = parameter["description"].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "{name}: {} has no description", parameter["name"]);
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(target) if name == "$ref" => drop(found.insert(target)),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let target = document.pointer(reference.trim_start_matches('#'));
        assert!(target.is_some(), "{reference} leads nowhere");
    }
}
