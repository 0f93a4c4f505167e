//! Devices to and from their messages. What cannot be said inside (an unknown
//! number for an enum, a port above 65535) is a fault that names its field.

use std::time::{Duration, SystemTime};

use crate::{
    device::{
        self, DeviceSpec, DeviceStatus, Endpoint, Fault, HostInterface, InputSpec, JournalSpec,
        ReconnectSpec, RunState, Sharing, State, TcpSpec, UnixSpec,
    },
    fleet::Entry,
    pb::{
        self, condition, device_spec, device_status, input_spec, tcp_host_interface,
        unix_host_interface,
    },
};

// === out ===

/// A device as it is now.
pub(super) fn device(entry: &Entry) -> pb::Device {
    pb::Device { status: Some(status(&entry.line.status())), ..stored(&entry.device) }
}

/// A device without what is seen of it.
pub(super) fn stored(device: &device::Device) -> pb::Device {
    pb::Device {
        name: device.id.resource_name(),
        uid: device.uid.to_string(),
        labels: device.labels.clone(),
        spec: Some(spec(&device.spec)),
        status: None,
        etag: device.etag(),
        create_time: Some(device.create_time.into()),
        update_time: Some(device.update_time.into()),
    }
}

fn spec(spec: &DeviceSpec) -> pb::DeviceSpec {
    let host_interface = match &spec.host_interface {
        HostInterface::Pty {} => device_spec::HostInterface::Pty(pb::PtyHostInterface {}),
        HostInterface::Tcp(tcp) => device_spec::HostInterface::Tcp(pb::TcpHostInterface {
            mode: match tcp.mode {
                Endpoint::Connect => tcp_host_interface::Mode::Connect,
                Endpoint::Bind => tcp_host_interface::Mode::Bind,
            }
            .into(),
            host: tcp.host.clone(),
            port: tcp.port.into(),
        }),
        HostInterface::Unix(unix) => device_spec::HostInterface::Unix(pb::UnixHostInterface {
            mode: match unix.mode {
                Endpoint::Connect => unix_host_interface::Mode::Connect,
                Endpoint::Bind => unix_host_interface::Mode::Bind,
            }
            .into(),
            path: unix.path.to_string_lossy().into_owned(),
        }),
    };
    let reconnect = &spec.reconnect;
    let duration = |span: Option<Duration>| span.and_then(|span| span.try_into().ok());
    pb::DeviceSpec {
        description: spec.description.clone(),
        run_state: match spec.run_state {
            RunState::Running => device_spec::RunState::Running,
            RunState::Stopped => device_spec::RunState::Stopped,
        }
        .into(),
        host_interface: Some(host_interface),
        journal: (spec.journal != JournalSpec::default()).then(|| pb::JournalSpec {
            retention_bytes: spec.journal.retention_bytes.unwrap_or(0),
        }),
        input: (spec.input != InputSpec::default()).then(|| pb::InputSpec {
            sharing: match spec.input.sharing {
                Sharing::Exclusive => input_spec::Sharing::Exclusive,
                Sharing::Shared => input_spec::Sharing::Shared,
            }
            .into(),
        }),
        reconnect: (*reconnect != ReconnectSpec::default()).then(|| pb::ReconnectSpec {
            min_delay: duration(reconnect.min_delay),
            max_delay: duration(reconnect.max_delay),
            reset_after: duration(reconnect.reset_after),
        }),
    }
}

/// A state's number.
pub(super) fn state(state: State) -> device_status::State {
    match state {
        State::Stopped => device_status::State::Stopped,
        State::Opening => device_status::State::Opening,
        State::Listening => device_status::State::Listening,
        State::Connected => device_status::State::Connected,
        State::Backoff => device_status::State::Backoff,
        State::Failed => device_status::State::Failed,
    }
}

fn status(status: &DeviceStatus) -> pb::DeviceStatus {
    let link = &status.link;
    let error = link.last_error.as_ref();
    pb::DeviceStatus {
        state: state(link.state).into(),
        conditions: conditions(status),
        last_error: error.map(|error| error.message.clone()).unwrap_or_default(),
        last_error_time: error.map(|error| error.time.into()),
        retry_time: link.retry_time.map(Into::into),
        peer_address: link.peer_address.clone().unwrap_or_default(),
        listen_address: link.listen_address.clone().unwrap_or_default(),
        pty_path: link.pty_path.clone().unwrap_or_default(),
        output_bytes: status.output_bytes,
        input_bytes: status.input_bytes,
        input_dropped_bytes: status.input_dropped_bytes,
        link_count: status.link_count,
        refused_peer_count: status.refused_peer_count,
        journal: Some(pb::JournalStatus {
            oldest_offset: status.journal.oldest_offset,
            next_offset: status.journal.next_offset,
            disk_bytes: status.journal.disk_bytes,
            lost_bytes: status.journal.lost_bytes,
            recovery: status.journal.recovery.clone().unwrap_or_default(),
        }),
        attachment_count: link.attachment_count,
        writer: link.writers.join(", "),
    }
}

fn conditions(status: &DeviceStatus) -> Vec<pb::Condition> {
    let link = &status.link;
    let connected = link.state == State::Connected;
    let (reason, message) = match link.state {
        State::Connected => ("LinkOpen", String::new()),
        State::Stopped => ("Stopped", String::new()),
        State::Opening => ("Opening", String::new()),
        State::Listening => ("NoFarSide", String::new()),
        State::Backoff => {
            ("LinkLost", link.last_error.as_ref().map(|e| e.message.clone()).unwrap_or_default())
        }
        State::Failed => ("InternalError", String::new()),
    };
    let condition =
        |kind: &str, holds, reason: &str, message, changed: Option<SystemTime>| pb::Condition {
            r#type: kind.to_owned(),
            status: match holds {
                true => condition::Status::True,
                false => condition::Status::False,
            }
            .into(),
            reason: reason.to_owned(),
            message,
            last_transition_time: changed.map(Into::into),
        };
    let degraded = &status.journal.degraded;
    let (degraded_reason, degraded_message) =
        degraded.holds.clone().unwrap_or(("OnDisk", String::new()));
    vec![
        condition("Connected", connected, reason, message, Some(link.connected_changed)),
        condition(
            "JournalDegraded",
            degraded.holds.is_some(),
            degraded_reason,
            degraded_message,
            degraded.changed,
        ),
    ]
}

// === in ===

/// A spec as its owner wants it, with everything that is wrong about it.
pub(super) fn parse_spec(
    spec: Option<&pb::DeviceSpec>,
    labels: &device::Labels,
) -> Result<DeviceSpec, Vec<Fault>> {
    let Some(spec) = spec else {
        return Err(vec![Fault::new("spec", "must be given")]);
    };
    let mut faults = Vec::new();
    let run_state = match device_spec::RunState::try_from(spec.run_state) {
        Ok(device_spec::RunState::Unspecified | device_spec::RunState::Running) => {
            RunState::Running
        }
        Ok(device_spec::RunState::Stopped) => RunState::Stopped,
        Err(_) => {
            faults.push(unknown_value("spec.run_state", spec.run_state));
            RunState::Running
        }
    };
    let sharing = spec.input.map_or(0, |input| input.sharing);
    let sharing = match input_spec::Sharing::try_from(sharing) {
        Ok(input_spec::Sharing::Unspecified | input_spec::Sharing::Exclusive) => Sharing::Exclusive,
        Ok(input_spec::Sharing::Shared) => Sharing::Shared,
        Err(_) => {
            faults.push(unknown_value("spec.input.sharing", sharing));
            Sharing::Exclusive
        }
    };
    let reconnect = spec.reconnect.unwrap_or_default();
    let reconnect = ReconnectSpec {
        min_delay: duration("min_delay", reconnect.min_delay, &mut faults),
        max_delay: duration("max_delay", reconnect.max_delay, &mut faults),
        reset_after: duration("reset_after", reconnect.reset_after, &mut faults),
    };
    let retention = spec.journal.map_or(0, |journal| journal.retention_bytes);
    let Some(host_interface) = parse_host_interface(spec, &mut faults) else {
        faults.push(Fault::new("spec", "must have a host interface: one of pty, tcp, unix"));
        return Err(faults);
    };
    let spec = DeviceSpec {
        description: spec.description.clone(),
        run_state,
        host_interface,
        journal: JournalSpec { retention_bytes: (retention != 0).then_some(retention) },
        input: InputSpec { sharing },
        reconnect,
    };
    faults.extend(device::validate(&spec, labels));
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
}

fn parse_host_interface(spec: &pb::DeviceSpec, faults: &mut Vec<Fault>) -> Option<HostInterface> {
    Some(match spec.host_interface.as_ref()? {
        device_spec::HostInterface::Pty(pb::PtyHostInterface {}) => HostInterface::Pty {},
        device_spec::HostInterface::Tcp(tcp) => HostInterface::Tcp(TcpSpec {
            mode: match tcp_host_interface::Mode::try_from(tcp.mode) {
                Ok(tcp_host_interface::Mode::Bind) => Endpoint::Bind,
                Ok(tcp_host_interface::Mode::Unspecified | tcp_host_interface::Mode::Connect) => {
                    Endpoint::Connect
                }
                Err(_) => {
                    faults.push(unknown_value("spec.tcp.mode", tcp.mode));
                    Endpoint::Bind
                }
            },
            host: tcp.host.clone(),
            port: u16::try_from(tcp.port).unwrap_or_else(|_| {
                let problem = format!("must be at most 65535, not {}", tcp.port);
                faults.push(Fault::new("spec.tcp.port", problem));
                u16::MAX
            }),
        }),
        device_spec::HostInterface::Unix(unix) => HostInterface::Unix(UnixSpec {
            mode: match unix_host_interface::Mode::try_from(unix.mode) {
                Ok(unix_host_interface::Mode::Bind) => Endpoint::Bind,
                Ok(unix_host_interface::Mode::Unspecified | unix_host_interface::Mode::Connect) => {
                    Endpoint::Connect
                }
                Err(_) => {
                    faults.push(unknown_value("spec.unix.mode", unix.mode));
                    Endpoint::Bind
                }
            },
            path: unix.path.as_str().into(),
        }),
    })
}

fn duration(
    field: &str,
    span: Option<prost_types::Duration>,
    faults: &mut Vec<Fault>,
) -> Option<Duration> {
    let span = span?;
    match Duration::try_from(span) {
        Ok(span) => Some(span),
        Err(_) => {
            let field = format!("spec.reconnect.{field}");
            faults.push(Fault::new(field, "must not be negative"));
            None
        }
    }
}

fn unknown_value(field: &str, value: i32) -> Fault {
    Fault::new(field, format!("{value} is not a value that this server knows"))
}
