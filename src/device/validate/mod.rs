//! What a spec must satisfy before anything is stored. All faults are found in
//! one pass, each with the path of its field as an update mask would name it.
//! Whether a host or path is *allowed* is the backend's question, not this one.

mod host_interface;

pub use self::host_interface::{check_line_settings, check_window};
use super::{DeviceSpec, HostInterface, Labels, LibvirtSpec, ReconnectSpec};
use crate::limits;

/// One field at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Path as in a field mask.
    pub field: String,
    /// What would be right.
    pub problem: String,
}

impl Fault {
    /// One field at fault.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Finds every fault of a spec and its labels.
pub fn validate(spec: &DeviceSpec, labels: &Labels) -> Vec<Fault> {
    let mut faults = Vec::new();
    check_labels(labels, &mut faults);
    if spec.description.len() > limits::DESCRIPTION_BYTES_MAX {
        faults.push(Fault::new(
            "spec.description",
            format!(
                "must be at most {} bytes, not {}",
                limits::DESCRIPTION_BYTES_MAX,
                spec.description.len()
            ),
        ));
    }
    host_interface::check(&spec.host_interface, &mut faults);
    if let Some(log) = &spec.log {
        host_interface::check_path("spec.log.file", &log.file, &mut faults);
        if matches!(&spec.host_interface, HostInterface::File(file) if file.path == log.file) {
            let problem = "must not be spec.file.path, where the same bytes are";
            faults.push(Fault::new("spec.log.file", problem));
        }
    }
    if let Some(libvirt) = &spec.libvirt {
        check_libvirt(libvirt, &mut faults);
    }
    if let Some(bytes) = spec.journal.retention_bytes
        && !(limits::RETENTION_BYTES_MIN..=limits::RETENTION_BYTES_MAX).contains(&bytes)
    {
        faults.push(Fault::new(
            "spec.journal.retention_bytes",
            format!(
                "must be {} to {}, or 0 for the default, not {bytes}",
                limits::RETENTION_BYTES_MIN,
                limits::RETENTION_BYTES_MAX
            ),
        ));
    }
    check_reconnect(&spec.reconnect, &mut faults);
    faults
}

/// What is wrong with labels.
pub fn check_labels(labels: &Labels, faults: &mut Vec<Fault>) {
    if labels.len() > limits::LABELS_MAX {
        faults.push(Fault::new(
            "labels",
            format!("must be at most {}, not {}", limits::LABELS_MAX, labels.len()),
        ));
    }
    let key_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    for (key, value) in labels {
        if key.is_empty() || key.len() > limits::LABEL_KEY_BYTES_MAX || !key.chars().all(key_char) {
            faults.push(Fault::new(
                "labels",
                format!(
                    "key {key:?} must be 1 to {} letters, digits, '-', '_', '.' and '/'",
                    limits::LABEL_KEY_BYTES_MAX
                ),
            ));
        }
        if value.len() > limits::LABEL_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
            faults.push(Fault::new(
                format!("labels.{key}"),
                format!(
                    "must be at most {} bytes without control characters",
                    limits::LABEL_VALUE_BYTES_MAX
                ),
            ));
        }
    }
}

/// What can be said of it without reading XML.
fn check_libvirt(libvirt: &LibvirtSpec, faults: &mut Vec<Fault>) {
    let domain = &libvirt.domain;
    if domain.is_empty()
        || domain.len() > limits::DOMAIN_NAME_BYTES_MAX
        || domain.chars().any(char::is_control)
    {
        let most = limits::DOMAIN_NAME_BYTES_MAX;
        faults.push(Fault::new("spec.libvirt.domain", format!("must be 1 to {most} bytes")));
    }
    if libvirt.guest.len() > limits::GUEST_XML_BYTES_MAX {
        let most = limits::GUEST_XML_BYTES_MAX;
        faults.push(Fault::new("spec.libvirt.guest", format!("must be at most {most} bytes")));
    }
    if libvirt.os_type.len() > limits::LABEL_VALUE_BYTES_MAX {
        faults.push(Fault::new("spec.libvirt.os_type", "must be the text of <os><type>"));
    }
}

fn check_reconnect(reconnect: &ReconnectSpec, faults: &mut Vec<Fault>) {
    let delays = limits::RECONNECT_DELAY_MIN..=limits::RECONNECT_DELAY_MAX;
    for (field, delay) in [("min_delay", reconnect.min_delay), ("max_delay", reconnect.max_delay)] {
        if delay.is_some_and(|delay| !delays.contains(&delay)) {
            faults.push(Fault::new(format!("spec.reconnect.{field}"), "must be 10ms to 1h"));
        }
    }
    if reconnect.max_delay.is_some_and(|max| max < reconnect.min_delay()) {
        faults.push(Fault::new(
            "spec.reconnect.max_delay",
            "must not be less than spec.reconnect.min_delay",
        ));
    }
    if reconnect.reset_after.is_some_and(|after| after > limits::RECONNECT_DELAY_MAX) {
        faults.push(Fault::new("spec.reconnect.reset_after", "must be at most 1h"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::device::{
        Endpoint, HostInterface, InputSpec, JournalSpec, Protocol, RunState, TcpSpec, UdpSpec,
        UnixSpec,
    };

    fn spec(host_interface: HostInterface) -> DeviceSpec {
        DeviceSpec {
            description: String::new(),
            run_state: RunState::Running,
            host_interface,
            journal: JournalSpec::default(),
            input: InputSpec::default(),
            reconnect: ReconnectSpec::default(),
            log: None,
            libvirt: None,
        }
    }

    fn fields(spec: &DeviceSpec, labels: &Labels) -> Vec<String> {
        validate(spec, labels).into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn every_fault_is_told_at_once_by_its_field() {
        let mut wrong =
            spec(HostInterface::Tcp(TcpSpec { max_peers: Some(17), ..TcpSpec::default() }));
        wrong.description = "x".repeat(1025);
        wrong.journal.retention_bytes = Some(1);
        wrong.reconnect.min_delay = Some(Duration::from_secs(60));
        wrong.reconnect.max_delay = Some(Duration::from_secs(1));
        let labels = Labels::from([("a b".into(), String::new()), ("k".into(), "\n".into())]);
        assert_eq!(
            fields(&wrong, &labels),
            [
                "labels",
                "labels.k",
                "spec.description",
                "spec.tcp.host",
                "spec.tcp.port",
                "spec.tcp.max_peers",
                "spec.journal.retention_bytes",
                "spec.reconnect.max_delay",
            ]
        );
    }

    #[test]
    fn paths_must_be_absolute_short_and_straight() {
        let long = format!("/{}", "x".repeat(107));
        for bad in ["", "relative", "/tmp/../etc/x", "/tmp/a\0b", "/", "/tmp/", long.as_str()] {
            let unix = UnixSpec { mode: Endpoint::Bind, path: bad.into(), ..UnixSpec::default() };
            let faults = fields(&spec(HostInterface::Unix(unix)), &Labels::new());
            assert_eq!(faults, ["spec.unix.path"], "{bad:?}");
        }
        let unix = UnixSpec {
            mode: Endpoint::Bind,
            path: "/tmp/a.sock".into(),
            socket_mode: Some(0o660),
            group: None,
        };
        assert!(fields(&spec(HostInterface::Unix(unix)), &Labels::new()).is_empty());
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let tcp = |tcp| fields(&spec(HostInterface::Tcp(tcp)), &Labels::new());
        let base = TcpSpec { host: "h".into(), port: 1, ..TcpSpec::default() };
        let tls_server = TcpSpec {
            mode: Endpoint::Bind,
            protocol: Protocol::Tls,
            server_name: Some("x".into()),
            ..base.clone()
        };
        assert_eq!(tcp(tls_server), ["spec.tcp.server_name"]);
        let raw = TcpSpec { credentials: Some("c".into()), ..base.clone() };
        assert_eq!(tcp(raw), ["spec.tcp.credentials"]);
        assert!(tcp(TcpSpec { protocol: Protocol::Telnets, ..base }).is_empty());
        let udp = HostInterface::Udp(UdpSpec::default());
        assert_eq!(fields(&spec(udp), &Labels::new()), ["spec.udp"]);
    }
}
