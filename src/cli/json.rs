//! The JSON and YAML forms of the API's messages: proto3 JSON, through the
//! descriptors that the generated code was made from.
//!
//! A thing of its own so that no command has a second idea of what a device
//! looks like. Reading is strict: every field that the API does not know is
//! refused with its path, and a value that does not fit as well. Field names
//! are taken in both spellings, `retentionBytes` and `retention_bytes`.

use std::fmt;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::exit::{Exit, Failure};
use crate::pb;

/// One place in a document and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// As in update masks, `spec.tcp.port`; empty for the whole.
    pub(super) path: String,
    pub(super) message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// The messages of `lineman.v1`.
#[derive(Debug, Clone)]
pub(super) struct Schema(DescriptorPool);

impl Schema {
    pub(super) fn new() -> Result<Self, Failure> {
        let pool = DescriptorPool::decode(pb::DESCRIPTORS);
        pool.map(Self).map_err(|error| internal(&error))
    }

    /// A message of `lineman.v1` by its short name.
    pub(super) fn message(&self, name: &str) -> Result<MessageDescriptor, Failure> {
        let found = self.0.get_message_by_name(&format!("lineman.v1.{name}"));
        found.ok_or_else(|| internal(&format!("no message {name}")))
    }

    /// A form that serializes as proto3 JSON, with the fields in the order of
    /// their numbers.
    pub(super) fn encode(
        &self,
        name: &str,
        message: &impl Message,
    ) -> Result<DynamicMessage, Failure> {
        let mut dynamic = DynamicMessage::new(self.message(name)?);
        let encoded = dynamic.transcode_from(message);
        encoded.map_err(|error| internal(&error))?;
        Ok(dynamic)
    }
}

/// Reads a message from its JSON form, or tells everything that is wrong.
pub(super) fn decode<M: Message + Default>(
    descriptor: &MessageDescriptor,
    value: &Value,
) -> Result<M, Vec<Fault>> {
    let mut faults = Vec::new();
    match value {
        Value::Object(object) => check(descriptor, object, "", &mut faults),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            faults.push(fault("", "must be an object"));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let dynamic = DynamicMessage::deserialize(descriptor.clone(), value);
    let dynamic = dynamic.map_err(|error| vec![fault("", &error.to_string())])?;
    let message = dynamic.transcode_to();
    message.map_err(|error| vec![fault("", &error.to_string())])
}

/// The field that a key of a JSON object names.
pub(super) fn field(descriptor: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    let by_json_name = descriptor.get_field_by_json_name(key);
    by_json_name.or_else(|| descriptor.get_field_by_name(key))
}

/// The message inside a field that is one message with fields of its own: not a
/// list, not a map, and not a well-known type, whose JSON form is a plain value.
pub(super) fn submessage(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    if field.is_list() || field.is_map() {
        return None;
    }
    match field.kind() {
        Kind::Message(message) if message.package_name() != "google.protobuf" => Some(message),
        Kind::Message(_)
        | Kind::Double
        | Kind::Float
        | Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Bool
        | Kind::String
        | Kind::Bytes
        | Kind::Enum(_) => None,
    }
}

/// `prefix.name`, or `name` at the top.
pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// Finds every unknown field and every value that does not fit, by path: the
/// deserializer would stop at the first and not say where.
fn check(
    descriptor: &MessageDescriptor,
    object: &Map<String, Value>,
    prefix: &str,
    faults: &mut Vec<Fault>,
) {
    for (key, value) in object {
        let Some(field) = field(descriptor, key) else {
            let known: Vec<String> = descriptor.fields().map(|f| f.name().to_owned()).collect();
            let message = if known.is_empty() {
                "unknown field; it takes none".to_owned()
            } else {
                format!("unknown field; there are {}", known.join(", "))
            };
            faults.push(fault(&join(prefix, key), &message));
            continue;
        };
        let path = join(prefix, field.name());
        match (submessage(&field), value) {
            (Some(inner), Value::Object(object)) => check(&inner, object, &path, faults),
            (Some(_), Value::Null) => {}
            (Some(_), _) => faults.push(fault(&path, "must be an object")),
            (None, value) => {
                let mut alone = Map::new();
                alone.insert(key.clone(), value.clone());
                let read = DynamicMessage::deserialize(descriptor.clone(), Value::Object(alone));
                if let Err(error) = read {
                    faults.push(fault(&path, &error.to_string()));
                }
            }
        }
    }
}

fn fault(path: &str, message: &str) -> Fault {
    Fault { path: path.to_owned(), message: message.to_owned() }
}

fn internal(error: &dyn fmt::Display) -> Failure {
    let message = format!("the descriptors in this program are at fault: {error}");
    Failure::new(Exit::Failed, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pb::Device;

    fn read(value: &Value) -> Result<Device, Vec<String>> {
        let descriptor = Schema::new().unwrap().message("Device").unwrap();
        let faults = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect();
        decode(&descriptor, value).map_err(faults)
    }

    #[test]
    fn both_spellings_are_read_and_one_is_written() {
        let camel = read(&json!({"spec": {"pty": {}, "journal": {"retentionBytes": "65536"}}}));
        let snake = read(&json!({"spec": {"pty": {}, "journal": {"retention_bytes": 65536}}}));
        let device = camel.unwrap();
        assert_eq!(device, snake.unwrap());
        let encoded = Schema::new().unwrap().encode("Device", &device).unwrap();
        assert_eq!(
            serde_json::to_string(&encoded).unwrap(),
            r#"{"spec":{"pty":{},"journal":{"retentionBytes":"65536"}}}"#
        );
    }

    #[test]
    fn every_unknown_field_is_told_by_its_path() {
        let faults = read(&json!({
            "nmae": "x",
            "spec": {"pty": {"speed": 9600}, "journal": {"size": 1}},
        }))
        .unwrap_err();
        assert_eq!(
            faults,
            [
                "nmae: unknown field; there are name, uid, labels, spec, status, etag, \
                 create_time, update_time",
                "spec.journal.size: unknown field; there are retention_bytes",
                "spec.pty.speed: unknown field; there are link, window",
            ]
        );
    }

    #[test]
    fn values_that_do_not_fit_are_told_by_their_path() {
        let faults = read(&json!({
            "labels": {"rack": 3},
            "spec": {"tcp": {"port": "many"}, "journal": 5, "reconnect": {"minDelay": "1s"}},
        }))
        .unwrap_err();
        let paths: Vec<&str> = faults.iter().filter_map(|f| f.split(':').next()).collect();
        assert_eq!(paths, ["labels", "spec.journal", "spec.tcp.port"]);
        assert_eq!(read(&json!([])).unwrap_err(), ["must be an object"]);
    }
}
