//! `apply`: creates devices from documents, or changes them to match.
//!
//! A thing of its own because it decides what "match" means: an update changes
//! the fields that the document has and leaves all others, so that two people
//! can own different fields. Documents are YAML, several to a file, or JSON; the
//! output of `get -o yaml` and `-o json` is taken as it is, with what only the
//! server sets left out of the update.
//!
//! Everything is read and checked before the first device is touched. Bounds:
//! [`DOCUMENTS_BYTES_MAX`].

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
};

use clap::Args;
use prost_reflect::MessageDescriptor;
use serde::Deserialize as _;
use serde_json::{Map, Value};
use tonic::Code;

use super::{
    connect::{Devices, Server},
    exit::{Exit, Failure, on_stdout},
    get,
    json::{self, Fault, Schema},
    select,
};
use crate::{
    name::DeviceId,
    pb::{CreateDeviceRequest, Device, GetDeviceRequest, UpdateDeviceRequest},
};

/// A file larger than this holds something else than devices.
const DOCUMENTS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Fields of a device that only the server sets, or that say which version of
/// which device is meant.
const NOT_CHANGED: [&str; 6] = ["name", "uid", "status", "etag", "create_time", "update_time"];

/// What `apply` is told.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The documents, YAML or JSON; - reads standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Let the server check everything and change nothing
    #[arg(long)]
    validate_only: bool,
}

/// One device as a document wants it.
#[derive(Debug, PartialEq)]
struct Wanted {
    id: DeviceId,
    device: Device,
    /// The fields that the document has, as paths of an update mask.
    mask: Vec<String>,
}

pub(super) async fn run(server: &Server, args: ApplyArgs) -> Result<(), Failure> {
    let descriptor = Schema::new()?.message("Device")?;
    let mut wanted = Vec::new();
    for file in &args.files {
        let told = file.display();
        let text = read(file).map_err(|error| {
            let message = format!("cannot read {told}: {error}");
            Failure::new(Exit::Failed, message)
        })?;
        wanted.extend(parse(&descriptor, &text).map_err(|failure| failure.of(told))?);
    }
    refuse_twins(&wanted)?;
    let mut client = server.devices().await?;
    let mut failures = Vec::new();
    for one in wanted {
        let id = one.id.clone();
        match apply(&mut client, one, &args).await {
            Ok(done) => {
                let name = id.resource_name();
                let only = if args.validate_only { " (only validated)" } else { "" };
                writeln!(io::stdout(), "{name} {done}{only}").map_err(on_stdout)?;
            }
            Err(status) => failures.push(Failure::from(status).of(id)),
        }
    }
    get::join(failures).map_or(Ok(()), Err)
}

async fn apply(
    client: &mut Devices,
    wanted: Wanted,
    args: &ApplyArgs,
) -> Result<&'static str, tonic::Status> {
    let name = wanted.id.resource_name();
    let validate_only = args.validate_only;
    let before = match client.get_device(GetDeviceRequest { name }).await {
        Ok(response) => response.into_inner(),
        Err(status) if status.code() == Code::NotFound => {
            let request = CreateDeviceRequest {
                device_id: wanted.id.to_string(),
                device: Some(wanted.device),
                validate_only,
                request_id: format!("{:032x}", fastrand::u128(..)),
            };
            client.create_device(request).await?;
            return Ok("created");
        }
        Err(status) => return Err(status),
    };
    if wanted.mask.is_empty() {
        // An empty mask would mean "what is set", but nothing is.
        return Ok("unchanged");
    }
    let request = UpdateDeviceRequest {
        device: Some(wanted.device),
        update_mask: Some(prost_types::FieldMask { paths: wanted.mask }),
        validate_only,
    };
    let after = client.update_device(request).await?.into_inner();
    // Not the etag: one that is only validated may have none.
    if after.spec == before.spec && after.labels == before.labels {
        Ok("unchanged")
    } else {
        Ok("configured")
    }
}

fn read(file: &PathBuf) -> io::Result<String> {
    let mut text = String::new();
    let bounded = |source: &mut dyn Read, text: &mut String| {
        let read = source.take(DOCUMENTS_BYTES_MAX + 1).read_to_string(text)?;
        if read as u64 > DOCUMENTS_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(())
    };
    if file.as_os_str() == "-" {
        bounded(&mut io::stdin().lock(), &mut text)?;
    } else {
        bounded(&mut File::open(file)?, &mut text)?;
    }
    Ok(text)
}

/// Every device in a text; or all that is wrong with it.
fn parse(descriptor: &MessageDescriptor, text: &str) -> Result<Vec<Wanted>, Failure> {
    let mut wanted = Vec::new();
    let mut faults = Vec::new();
    let documents = documents(text)?;
    let many = documents.len() > 1;
    for (index, document) in documents.iter().enumerate() {
        match parse_one(descriptor, document) {
            Ok(one) => wanted.push(one),
            Err(found) if many => {
                let number = index + 1;
                faults.extend(found.iter().map(|f| format!("document {number}: {f}")));
            }
            Err(found) => faults.extend(found.iter().map(ToString::to_string)),
        }
    }
    if faults.is_empty() {
        return Ok(wanted);
    }
    let message = format!("not valid, nothing was changed\n  {}", faults.join("\n  "));
    Err(Failure::new(Exit::Invalid, message))
}

fn parse_one(descriptor: &MessageDescriptor, document: &Value) -> Result<Wanted, Vec<Fault>> {
    let mut device: Device = json::decode(descriptor, document)?;
    let id = select::device(&device.name)
        .map_err(|error| vec![Fault { path: "name".to_owned(), message: error.to_string() }])?;
    device.name = id.resource_name();
    let mut mask = Vec::new();
    if let Value::Object(object) = document {
        let mut changed = object.clone();
        changed.retain(|key, value| {
            let field = json::field(descriptor, key);
            let kept = field.is_some_and(|f| !NOT_CHANGED.contains(&f.name()));
            kept && !value.is_null()
        });
        collect_mask(descriptor, &changed, "", &mut mask);
    }
    mask.sort();
    Ok(Wanted { id, device, mask })
}

/// The paths of the fields that an object has, as deep as it goes; a member of a
/// oneof is named as a whole, because it replaces the member that was there.
/// What is written as null is named too, and so set back to its default.
fn collect_mask(
    descriptor: &MessageDescriptor,
    object: &Map<String, Value>,
    prefix: &str,
    mask: &mut Vec<String>,
) {
    for (key, value) in object {
        let Some(field) = json::field(descriptor, key) else {
            continue;
        };
        let path = json::join(prefix, field.name());
        let in_oneof = field.containing_oneof().is_some();
        match (json::submessage(&field), value) {
            (Some(inner), Value::Object(object)) if !in_oneof && !object.is_empty() => {
                collect_mask(&inner, object, &path, mask);
            }
            (Some(_), Value::Null) if in_oneof => {}
            (Some(_) | None, _) => mask.push(path),
        }
    }
}

/// The documents of a text: a stream of JSON, or of YAML, which includes nearly
/// all JSON. Empty ones are left out, and `{"devices": […]}` is each of its
/// devices.
fn documents(text: &str) -> Result<Vec<Value>, Failure> {
    let yaml = || -> Result<Vec<Value>, serde_yaml_ng::Error> {
        let documents = serde_yaml_ng::Deserializer::from_str(text);
        documents.map(Value::deserialize).collect()
    };
    let read = if text.trim_start().starts_with(['{', '[']) {
        let json = serde_json::Deserializer::from_str(text).into_iter();
        let json: Result<Vec<Value>, serde_json::Error> = json.collect();
        json.or_else(|error| yaml().map_err(|_| error.to_string()))
    } else {
        yaml().map_err(|error| error.to_string())
    };
    let documents = read.map_err(|error| {
        let message = format!("neither YAML nor JSON: {error}");
        Failure::new(Exit::Invalid, message)
    })?;
    let mut devices = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut object) if object.len() == 1 && object.contains_key("devices") => {
                match object.remove("devices") {
                    Some(Value::Array(list)) => devices.extend(list),
                    Some(_) | None => devices.push(Value::Object(object)),
                }
            }
            Value::Array(list) => devices.extend(list),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                devices.push(document);
            }
        }
    }
    if devices.is_empty() {
        return Err(Failure::new(Exit::Invalid, "no device is in it"));
    }
    Ok(devices)
}

/// The same device twice is a mistake: the second would undo the first.
fn refuse_twins(wanted: &[Wanted]) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    match wanted.iter().find(|one| !seen.insert(&one.id)) {
        Some(twin) => {
            let message = format!("the device {} is described twice, nothing was changed", twin.id);
            Err(Failure::new(Exit::Invalid, message))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Wanted>, Failure> {
        let descriptor = Schema::new().unwrap().message("Device").unwrap();
        parse(&descriptor, text)
    }

    fn masks(text: &str) -> Vec<Vec<String>> {
        let wanted = parsed(text).unwrap();
        wanted.into_iter().map(|one| one.mask).collect()
    }

    #[test]
    fn the_mask_is_what_the_document_has() {
        let text = "
name: node7
uid: was-read
labels: {rack: \"3\"}
spec:
  description: ''
  tcp: {host: 10.0.0.1, port: 23}
  journal: {retentionBytes: 65536}
  input: {}
  reconnect: null
status: {state: STATE_CONNECTED}
etag: abc
---
name: devices/node8
spec: {pty: {}, tcp: null}
---
---
name: node9
";
        assert_eq!(
            masks(text),
            [
                vec![
                    "labels",
                    "spec.description",
                    "spec.input",
                    "spec.journal.retention_bytes",
                    "spec.reconnect",
                    "spec.tcp",
                ],
                vec!["spec.pty"],
                vec![],
            ]
        );
        let wanted = parsed(text).unwrap();
        assert_eq!(wanted[0].device.name, "devices/node7");
        assert_eq!(wanted[0].device.etag, "abc");
    }

    #[test]
    fn takes_what_get_prints_as_json() {
        let list = r#"{"devices": [{"name": "devices/a", "spec": {"pty": {}}}, {"name": "b"}]}"#;
        assert_eq!(masks(list), [vec!["spec.pty"], vec![]]);
        assert_eq!(masks("{\"name\": \"a\"}\n{\"name\": \"b\"}").len(), 2);
        assert_eq!(masks("{name: a}").len(), 1, "flow style is YAML");
    }

    #[test]
    fn every_fault_is_told_with_its_document_and_path() {
        let failure = parsed("name: a\nspec: {ptty: {}}\n---\nname: Ä\n").unwrap_err();
        assert_eq!(failure.exit, Exit::Invalid);
        let text = failure.to_string();
        assert!(text.contains("document 1: spec.ptty: unknown field"), "{text}");
        assert!(text.contains("document 2: name: must be lower-case"), "{text}");
        for bad in ["", "---\n", "a: [", "{\"name\": ", "just words"] {
            assert_eq!(parsed(bad).unwrap_err().exit, Exit::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn twins_are_refused() {
        let wanted = parsed("name: a\n---\nname: devices/a\n").unwrap();
        assert!(refuse_twins(&wanted).is_err());
    }
}
