//! The client protocol's messages in the document: those that it refers to, and what they refer to.
//!
//! What they are, the .proto files say (`proto::CLIENT_SCHEMAS`); the bounds of what stands in them is said here.

use serde_json::{Map, Value, json};
use types::{chat::MessageKind, limits};

const REFERENCE: &str = "#/components/schemas/";
/// How many characters of base64 a message's body has at most.
const BODY_MAX_CHARS: usize = limits::BODY_MAX_BYTES.div_ceil(3) * 4;

/// Adds each message that the document refers to.
pub(super) fn add(document: &mut Value) -> Result<(), serde_json::Error> {
    let mut known: Map<String, Value> = serde_json::from_str(proto::CLIENT_SCHEMAS)?;
    let mut wanted = Vec::new();
    references(document, &mut wanted);
    while let Some(name) = wanted.pop() {
        let Some(mut schema) = known.remove(&name) else { continue };
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.iter_mut().for_each(|(field, schema)| bound(field, schema));
        }
        ask(&name, &mut schema);
        references(&schema, &mut wanted);
        document["components"]["schemas"][name] = schema;
    }
    Ok(())
}

/// The names of the schemas that are referred to.
pub(super) fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix(REFERENCE));
            out.extend(name.map(str::to_owned));
            fields.values().for_each(|value| references(value, out));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        _ => {}
    }
}

/// What a field of this name is beyond its type, whichever message it stands in.
fn bound(field: &str, schema: &mut Value) {
    let form = match field {
        "log" => "LogId",
        "position" | "common" | "head" | "replicated" => "Position",
        "user" | "users" | "sender" | "directWith" => "UserId",
        "messageId" | "key" => {
            schema["format"] = json!("uuid");
            return;
        }
        "ciphertext" => {
            schema["maxLength"] = json!(BODY_MAX_CHARS);
            return;
        }
        "allowedRegions" => {
            schema["maxItems"] = json!(limits::REGIONS_MAX);
            return;
        }
        _ => return,
    };
    let of_text = if schema["type"] == "array" { &mut schema["items"] } else { schema };
    if of_text["type"] == "string"
        && let Some(keywords) = of_text.as_object_mut()
    {
        keywords.remove("type");
        keywords.insert("$ref".to_owned(), json!(format!("{REFERENCE}{form}")));
    }
}

/// What a request of this kind must have.
fn ask(name: &str, schema: &mut Value) {
    let reference = |form: &str| json!({ "$ref": format!("{REFERENCE}{form}") });
    match name {
        "client.OpenChat" => {
            schema["oneOf"] = json!([{ "required": ["directWith"] }, { "required": ["group"] }]);
            schema["examples"] = json!([{ "directWith": "uag7htplbqtmjpocxgtfdfxlyve" }]);
        }
        "client.NewGroup" => {
            schema["required"] = json!(["key"]);
            let members = &mut schema["properties"]["members"];
            members["items"] = reference("UserId");
            members["maxItems"] = json!(limits::MEMBERS_MAX - 1);
        }
        "client.Send" => {
            // The path names it.
            if let Some(properties) = schema["properties"].as_object_mut() {
                properties.remove("log");
            }
            schema["required"] = json!(["messageId"]);
            let kinds = MessageKind::ALL.map(proto::kind_name);
            schema["properties"]["kind"]["enum"] = json!(kinds);
            schema["properties"]["deadlineMs"]["maximum"] = json!(limits::DEADLINE_MAX_MS);
            schema["examples"] = json!([{
                "messageId": "0192c1de-1111-7000-8000-000000000001", "ciphertext": "aGVsbG8=",
                "ack": "ACK_POLICY_HOME",
            }]);
        }
        _ => {}
    }
}
