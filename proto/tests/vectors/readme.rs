//! proto/README.md names everything there is, and what it shows is true.

use crate::frames;
use proto::client::{ClientFrame, ServerFrame};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use types::{Code, PositionToken, limits};

const README: &str = include_str!("../../README.md");

/// The code blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    README.split(start.as_str()).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
fn every_code_has_a_row_that_tells_its_two_answers() {
    let rows = || {
        let section = README.lines().skip_while(|line| *line != "## Errors").skip(1);
        section.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"))
    };
    for code in Code::ALL {
        let start = format!("| `{code}` |");
        let row = rows().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("{code} has no row"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let says = |yes: bool| if yes { "yes" } else { "no" };
        assert_eq!(cells[3], says(code.is_retryable()), "{code}: retryable");
        assert_eq!(cells[4], says(code.is_indeterminate()), "{code}: indeterminate");
    }
    assert_eq!(rows().count(), Code::ALL.len(), "a row of a code that is not there");
}

#[test]
fn every_frame_has_a_row() {
    for name in frames::CLIENT_NAMES.iter().chain(frames::SERVER_NAMES) {
        assert!(README.contains(&format!("\n| `{name}` |")), "{name} has no row");
    }
}

#[test]
fn every_field_is_named() {
    let known = |json: Value| {
        let mut names = Vec::new();
        field_names(&json, &mut names);
        names
    };
    let client = frames::client_frames().into_iter().map(|(_, frame)| serde_json::to_value(frame));
    let server = frames::server_frames().into_iter().map(|(_, frame)| serde_json::to_value(frame));
    for name in client.chain(server).flat_map(|json| known(json.expect("JSON"))) {
        assert!(mentions(&name), "field {name} is not told of");
    }
}

fn mentions(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    README.match_indices(name).any(|(at, _)| {
        let before = README[..at].chars().next_back();
        let after = README[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn field_names(json: &Value, names: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                names.push(name.clone());
                field_names(value, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| field_names(item, names)),
        _ => {}
    }
}

#[test]
fn the_examples_are_frames() {
    let (client, server) = (blocks("json client"), blocks("json server"));
    assert!(client.len() >= 5 && server.len() >= 9, "{} and {} examples", client.len(), server.len());
    client.into_iter().for_each(is_frame::<ClientFrame>);
    server.into_iter().for_each(is_frame::<ServerFrame>);
    for problem in blocks("json problem") {
        let problem: Value = serde_json::from_str(problem).expect("JSON");
        let code: Code = problem["code"].as_str().expect("a code").parse().expect("a known code");
        assert_eq!(problem["retryable"], code.is_retryable());
    }
}

/// The text parses, and every field in it is one that the frame has.
fn is_frame<F: Serialize + DeserializeOwned>(text: &str) {
    let example: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let frame: F = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{error}: {text}"));
    let read = serde_json::to_value(&frame).expect("JSON");
    is_part_of(&example, &read, text);
}

fn is_part_of(part: &Value, whole: &Value, text: &str) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (name, value) in part {
                match whole.get(name) {
                    Some(same) => is_part_of(value, same, text),
                    None => assert_eq!(value, "", "{name} is no field: {text}"),
                }
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            assert_eq!(part.len(), whole.len());
            part.iter().zip(whole).for_each(|(part, whole)| is_part_of(part, whole, text));
        }
        _ => assert_eq!(part, whole, "{text}"),
    }
}

#[test]
fn the_examples_speak_of_a_real_chat() {
    let log = frames::log().to_string();
    assert!(README.contains(&log));
    let tokens = README.split('"').filter(|text| text.starts_with("AQAAAA"));
    let mut count = 0;
    for token in tokens {
        PositionToken::open(frames::log(), token).expect("a true token");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn the_limits_are_the_true_ones() {
    for limit in [
        limits::BODY_MAX_BYTES as u64,
        limits::FRAME_MAX_BYTES as u64,
        limits::PAGE_MAX_ENTRIES as u64,
        limits::PAGE_DEFAULT_ENTRIES as u64,
        limits::PAGE_MAX_BYTES as u64,
        limits::SESSION_LOGS_MAX as u64,
        limits::MEMBERS_MAX as u64,
        limits::REGIONS_MAX as u64,
        limits::DEADLINE_MAX_MS,
        limits::DEADLINE_DEFAULT_MS,
    ] {
        let section = README.split("## Limits").nth(1).and_then(|rest| rest.split("\n## ").next());
        let section = section.expect("there is a section on limits").replace(',', "");
        assert!(section.contains(&limit.to_string()), "{limit} is not among the limits");
    }
}
