//! JSON Schema (2020-12) of messages, made of their descriptors: what the canonical JSON mapping writes.
//!
//! Texts, numbers and comments come from the .proto files; what bounds a value beyond its type does not stand there.
//! Fields that have their default may be left out, so none is required.

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Where comments are found: numbers of fields in the descriptors' own descriptors.
const FILE_MESSAGES: i32 = 4;
const FILE_ENUMS: i32 = 5;
const MESSAGE_FIELDS: i32 = 2;
const MESSAGE_MESSAGES: i32 = 3;
const MESSAGE_ENUMS: i32 = 4;

/// The schemas of a package's messages and enums, each as `{prefix}.{name}`.
///
/// # Errors
/// A field is of a type that has no schema here.
pub(crate) fn of_package(set: &FileDescriptorSet, package: &str, prefix: &str) -> Result<Value, String> {
    let mut out = Map::new();
    for file in set.file.iter().filter(|file| file.package() == package) {
        let comments = comments(file);
        let mut writer = Writer { package, prefix, comments: &comments, out: &mut out };
        for (index, message) in file.message_type.iter().enumerate() {
            writer.message("", message, &[FILE_MESSAGES, index as i32])?;
        }
        for (index, names) in file.enum_type.iter().enumerate() {
            writer.names("", names, &[FILE_ENUMS, index as i32]);
        }
    }
    Ok(Value::Object(out))
}

/// The comments before things, by where those stand.
fn comments(file: &FileDescriptorProto) -> HashMap<Vec<i32>, String> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let spoken = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    locations
        .filter_map(|location| Some((location.path.clone(), spoken(location.leading_comments.as_deref()?))))
        .collect()
}

struct Writer<'a> {
    package: &'a str,
    prefix: &'a str,
    comments: &'a HashMap<Vec<i32>, String>,
    out: &'a mut Map<String, Value>,
}

impl Writer<'_> {
    fn message(&mut self, within: &str, message: &DescriptorProto, path: &[i32]) -> Result<(), String> {
        let name = format!("{within}{}", message.name());
        let mut properties = Map::new();
        for (index, field) in message.field.iter().enumerate() {
            let mut schema = self.field(field).map_err(|why| format!("{name}.{}: {why}", field.name()))?;
            if let Some(comment) = self.comments.get(&below(path, MESSAGE_FIELDS, index)) {
                schema["description"] = json!(comment);
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        let said = self.comments.get(path).cloned().into_iter().chain(choices(message));
        let said: Vec<String> = said.collect();
        if !said.is_empty() {
            schema["description"] = json!(said.join(" "));
        }
        self.out.insert(format!("{}.{name}", self.prefix), schema);
        let within = format!("{name}.");
        for (index, message) in message.nested_type.iter().enumerate() {
            self.message(&within, message, &below(path, MESSAGE_MESSAGES, index))?;
        }
        for (index, names) in message.enum_type.iter().enumerate() {
            self.names(&within, names, &below(path, MESSAGE_ENUMS, index));
        }
        Ok(())
    }

    fn names(&mut self, within: &str, names: &EnumDescriptorProto, path: &[i32]) {
        let values: Vec<&str> = names.value.iter().map(|value| value.name()).collect();
        let mut schema = json!({ "type": "string", "enum": values });
        if let Some(comment) = self.comments.get(path) {
            schema["description"] = json!(comment);
        }
        self.out.insert(format!("{}.{within}{}", self.prefix, names.name()), schema);
    }

    fn field(&self, field: &FieldDescriptorProto) -> Result<Value, String> {
        let schema = match field.r#type() {
            Type::Bool => json!({ "type": "boolean" }),
            Type::String => json!({ "type": "string" }),
            Type::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Type::Uint32 | Type::Fixed32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Type::Uint64 | Type::Fixed64 => json!({ "type": "string", "pattern": "^[0-9]{1,20}$" }),
            Type::Message | Type::Enum => {
                let name = field.type_name();
                let own = name.strip_prefix('.').and_then(|name| name.strip_prefix(self.package));
                let own = own.and_then(|name| name.strip_prefix('.'));
                let own = own.ok_or_else(|| format!("{name} is of another package"))?;
                json!({ "$ref": format!("#/components/schemas/{}.{own}", self.prefix) })
            }
            other => return Err(format!("{} has no schema", other.as_str_name())),
        };
        Ok(match field.label() {
            Label::Repeated => json!({ "type": "array", "items": schema }),
            Label::Optional | Label::Required => schema,
        })
    }
}

/// What is to be said of fields of which at most one is there.
fn choices(message: &DescriptorProto) -> impl Iterator<Item = String> {
    let one_of = |index: usize| {
        let fields = message.field.iter();
        let fields =
            fields.filter(|field| field.oneof_index == Some(index as i32) && !field.proto3_optional());
        fields.map(|field| format!("`{}`", field.json_name())).collect::<Vec<_>>()
    };
    let choices = (0..message.oneof_decl.len()).map(one_of).filter(|names| !names.is_empty());
    choices.map(|names| format!("At most one of these is there: {}.", names.join(", ")))
}

fn below(path: &[i32], kind: i32, index: usize) -> Vec<i32> {
    [path, &[kind, index as i32]].concat()
}
