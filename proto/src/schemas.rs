//! What the client protocol's messages are as JSON.

/// The schemas (JSON Schema 2020-12) of the messages, made of the .proto files when this is built: an object with
/// `client.{message}` for each. References in them are those of an OpenAPI document, `#/components/schemas/…`.
pub const CLIENT_SCHEMAS: &str = include_str!(concat!(env!("OUT_DIR"), "/client-schemas.json"));

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const REFERENCE: &str = "#/components/schemas/";

    fn schemas() -> Value {
        serde_json::from_str(CLIENT_SCHEMAS).expect("they are JSON")
    }

    /// Whether a value is what its schema says; a property that the schema does not know is wrong here.
    fn check(schemas: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.strip_prefix(REFERENCE).ok_or_else(|| format!("{at}: a reference to {name}"))?;
            let known = schemas.get(name).ok_or_else(|| format!("{at}: there is no schema {name}"))?;
            return check(schemas, known, value, at);
        }
        let wrong = || Err(format!("{at}: {value} is not {schema}"));
        match schema["type"].as_str() {
            Some("object") => {
                let Some(fields) = value.as_object() else { return wrong() };
                for (name, value) in fields {
                    let known = schema["properties"].get(name);
                    let known = known.ok_or_else(|| format!("{at}: there is no property {name}"))?;
                    check(schemas, known, value, &format!("{at}.{name}"))?;
                }
                Ok(())
            }
            Some("array") => {
                let Some(items) = value.as_array() else { return wrong() };
                items.iter().try_for_each(|item| check(schemas, &schema["items"], item, &format!("{at}[]")))
            }
            Some("string") => {
                let Some(text) = value.as_str() else { return wrong() };
                let is_named = schema["enum"].as_array().is_none_or(|names| names.contains(value));
                let is_number = || text.parse::<u64>().is_ok();
                if is_named && (schema.get("pattern").is_none() || is_number()) { Ok(()) } else { wrong() }
            }
            Some("integer") if value.is_u64() => Ok(()),
            Some("boolean") if value.is_boolean() => Ok(()),
            _ => wrong(),
        }
    }

    fn check_vectors(file: &str, message: &str) {
        let schemas = schemas();
        let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("the vectors are there");
        let vectors: Vec<Value> = serde_json::from_str(&text).expect("they are a list");
        assert!(vectors.len() > 5, "there are {} vectors in {file}", vectors.len());
        for vector in vectors {
            let outcome = check(&schemas, &schemas[message], &vector["json"], message);
            assert_eq!(outcome, Ok(()), "{}", vector["name"]);
        }
    }

    #[test]
    fn what_clients_send_is_what_its_schemas_say() {
        check_vectors("client-frames.json", "client.ClientFrame");
    }

    #[test]
    fn what_clients_are_sent_is_what_its_schemas_say() {
        check_vectors("server-frames.json", "client.ServerFrame");
    }

    #[test]
    fn schemas_tell_what_the_comments_tell() {
        let schemas = schemas();
        let said = |schema: &Value| schema["description"].as_str().map(str::to_owned).unwrap_or_default();
        assert!(said(&schemas["client.Entry"]).contains("`ciphertext`"), "{}", schemas["client.Entry"]);
        let message_id = &schemas["client.Send"]["properties"]["messageId"];
        assert!(said(message_id).starts_with("A UUID drawn by the device"), "{message_id}");
    }
}
