//! Update masks (AIP-134, AIP-161): which fields of a device an update sets.
//!
//! Omitted: the fields that are present. `*`: everything that can be set. A path
//! names a field of the resource, or one label as `labels.KEY`; one that is not
//! a field, or that only the server sets, is a fault that names it.

use prost_reflect::{DynamicMessage, MapKey, ReflectMessage, Value};

use super::schema::Schema;
use crate::{device::Fault, pb};

/// The parts of a device that callers set.
const SETTABLE: [&str; 2] = ["labels", "spec"];

/// `current` with what `mask` selects taken from `incoming`.
pub(super) fn apply(
    schema: &Schema,
    current: &pb::Device,
    incoming: &pb::Device,
    mask: Option<&prost_types::FieldMask>,
) -> Result<pb::Device, Vec<Fault>> {
    let mut target = schema.dynamic(current);
    let source = schema.dynamic(incoming);
    let paths = match mask.map(|mask| mask.paths.as_slice()) {
        None | Some([]) => {
            let mut present = Vec::new();
            for name in SETTABLE {
                present_paths(&source, name, name, &mut present);
            }
            present
        }
        Some([all]) if all == "*" => SETTABLE.map(String::from).to_vec(),
        Some(paths) => paths.to_vec(),
    };
    let mut faults = Vec::new();
    for path in &paths {
        let names: Vec<&str> = path.split('.').collect();
        let result = match names.first() {
            Some(first) if SETTABLE.contains(first) => copy(&mut target, &source, &names),
            Some(first) if target.descriptor().get_field_by_name(first).is_some() => {
                Err("is not set by callers".to_owned())
            }
            _ => Err(no_such_field(path)),
        };
        if let Err(problem) = result {
            faults.push(Fault::new("update_mask", format!("{path:?} {problem}")));
        }
    }
    if faults.is_empty() { Ok(schema.generated(&target)) } else { Err(faults) }
}

fn no_such_field(path: &str) -> String {
    let parent = path.rsplit_once('.').map_or("Device", |(parent, _)| parent);
    format!("is not a field of {parent}")
}

/// Paths of what is present below a field: message fields are entered, so that
/// what is not mentioned stays.
fn present_paths(message: &DynamicMessage, name: &str, path: &str, paths: &mut Vec<String>) {
    if !message.has_field_by_name(name) {
        return;
    }
    let value = message.get_field_by_name(name);
    if let Some(Value::Message(inner)) = value.as_deref() {
        let before = paths.len();
        // Durations and the like are values, not structures.
        if inner.descriptor().package_name() == message.descriptor().package_name() {
            let fields: Vec<_> = inner.descriptor().fields().collect();
            for field in fields {
                present_paths(inner, field.name(), &format!("{path}.{}", field.name()), paths);
            }
        }
        // An empty message is present all the same, such as `pty: {}`.
        if paths.len() == before {
            paths.push(path.to_owned());
        }
    } else {
        paths.push(path.to_owned());
    }
}

/// Sets the field named by `names` in `target` as it is in `source`.
fn copy(
    target: &mut DynamicMessage,
    source: &DynamicMessage,
    names: &[&str],
) -> Result<(), String> {
    let [name, rest @ ..] = names else {
        return Ok(());
    };
    let field = target
        .descriptor()
        .get_field_by_name(name)
        .ok_or_else(|| format!("is not a field: there is no {name:?}"))?;
    if rest.is_empty() {
        if source.has_field(&field) {
            target.set_field(&field, source.get_field(&field).into_owned());
        } else {
            target.clear_field(&field);
        }
        return Ok(());
    }
    if field.is_map() {
        // A label's key may itself contain dots.
        let key = MapKey::String(rest.join("."));
        let value = source.get_field(&field).as_map().and_then(|map| map.get(&key).cloned());
        if let Some(map) = target.get_field_mut(&field).as_map_mut() {
            match value {
                Some(value) => drop(map.insert(key, value)),
                None => drop(map.remove(&key)),
            }
        }
        return Ok(());
    }
    let inner = source.get_field(&field).into_owned();
    let Value::Message(inner) = inner else {
        return Err(format!("is not a field: {name:?} has no fields"));
    };
    if !target.has_field(&field) {
        let kind = field.kind();
        let Some(descriptor) = kind.as_message() else {
            return Err(format!("is not a field: {name:?} has no fields"));
        };
        target.set_field(&field, Value::Message(DynamicMessage::new(descriptor.clone())));
    }
    match target.get_field_mut(&field).as_message_mut() {
        Some(message) => copy(message, &inner, rest),
        None => Err(format!("is not a field: {name:?} has no fields")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::device_spec::HostInterface;

    fn device() -> pb::Device {
        pb::Device {
            name: "devices/a".into(),
            labels: [("rack".into(), "1".into()), ("a.b".into(), "c".into())].into(),
            spec: Some(pb::DeviceSpec {
                description: "old".into(),
                host_interface: Some(HostInterface::Tcp(pb::TcpHostInterface {
                    mode: 1,
                    host: "h".into(),
                    port: 7,
                    ..Default::default()
                })),
                journal: Some(pb::JournalSpec { retention_bytes: 1 << 20 }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn apply_paths(incoming: &pb::Device, paths: &[&str]) -> Result<pb::Device, Vec<Fault>> {
        let mask = prost_types::FieldMask { paths: paths.iter().map(|p| (*p).into()).collect() };
        apply(&Schema::new().unwrap(), &device(), incoming, Some(&mask))
    }

    #[test]
    fn sets_what_is_named_and_nothing_else() {
        let mut incoming = pb::Device::default();
        incoming.spec.get_or_insert_default().description = "new".into();
        let updated = apply_paths(&incoming, &["spec.description"]).unwrap();
        let mut expected = device();
        expected.spec.as_mut().unwrap().description = "new".into();
        assert_eq!(updated, expected);
        // Named and absent: cleared.
        let updated =
            apply_paths(&pb::Device::default(), &["spec.journal.retention_bytes"]).unwrap();
        assert_eq!(updated.spec.unwrap().journal, Some(pb::JournalSpec { retention_bytes: 0 }));
    }

    #[test]
    fn one_host_interface_takes_the_place_of_another() {
        let pty = HostInterface::Pty(pb::PtyHostInterface::default());
        let spec = pb::DeviceSpec { host_interface: Some(pty.clone()), ..Default::default() };
        let incoming = pb::Device { spec: Some(spec), ..Default::default() };
        for mask in [&["spec.pty"][..], &[]] {
            let updated = apply_paths(&incoming, mask).unwrap().spec.unwrap();
            assert_eq!(updated.host_interface, Some(pty.clone()));
            assert_eq!(updated.description, "old");
        }
    }

    #[test]
    fn labels_are_set_one_by_one_or_all() {
        let incoming =
            pb::Device { labels: [("x".into(), "y".into())].into(), ..Default::default() };
        let updated = apply_paths(&incoming, &["labels.x", "labels.a.b", "labels.none"]).unwrap();
        assert_eq!(updated.labels, [("rack".into(), "1".into()), ("x".into(), "y".into())].into());
        let updated = apply_paths(&incoming, &["labels"]).unwrap();
        assert_eq!(updated.labels, incoming.labels);
    }

    #[test]
    fn a_star_replaces_what_callers_set() {
        let updated = apply_paths(&pb::Device::default(), &["*"]).unwrap();
        assert_eq!(updated, pb::Device { name: "devices/a".into(), ..Default::default() });
    }

    #[test]
    fn every_wrong_path_is_told() {
        let wrong = [
            "status.state",
            "nothing",
            "spec.serial.baud",
            "spec.description.x",
            "",
            "spec.",
            "name",
        ];
        let faults = apply_paths(&pb::Device::default(), &wrong).unwrap_err();
        assert_eq!(faults.len(), wrong.len(), "{faults:?}");
        assert!(
            faults
                .iter()
                .zip(wrong)
                .all(|(fault, path)| fault.problem.contains(&format!("{path:?}")))
        );
    }
}
