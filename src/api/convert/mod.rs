//! Devices to and from their messages. What cannot be said inside (an unknown
//! number for an enum, a port above 65535) is a fault that names its field.

mod host_interface;
mod serial;

use std::time::{Duration, SystemTime};

pub(super) use self::serial::{
    line_settings_to_pb, modem_lines_to_pb, parse_line_settings, parse_window,
};
use super::domain_xml::check_guest;
use crate::{
    device::{
        self, ConditionStatus, DeviceSpec, DeviceStatus, Fault, HostInterface, InputSpec,
        JournalSpec, LibvirtSpec, LogSpec, Peer, ReconnectPolicy, ReconnectSpec, RunState, Sharing,
        State,
    },
    fleet::{Entry, NewDevice},
    pb::{self, condition, device_spec, device_status, input_spec, reconnect_spec},
};

/// The label that names a device's domain.
pub(super) const DOMAIN_LABEL: &str = "domain";

// === out ===

/// A device as it is now.
pub(super) fn device(entry: &Entry) -> pb::Device {
    pb::Device { status: Some(status(&entry.line.status())), ..stored(&entry.device) }
}

/// What a device would be if it were made.
pub(super) fn preview(new: NewDevice) -> pb::Device {
    let now = SystemTime::now();
    let device = device::Device {
        id: new.id,
        uid: device::Uid(0),
        labels: new.labels,
        spec: new.spec,
        create_time: now,
        update_time: now,
        revision: 0,
        create_request_id: String::new(),
    };
    pb::Device { uid: String::new(), etag: String::new(), ..stored(&device) }
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
    let reconnect = &spec.reconnect;
    let duration = |span: Option<Duration>| span.and_then(|span| span.try_into().ok());
    pb::DeviceSpec {
        description: spec.description.clone(),
        run_state: match spec.run_state {
            RunState::Running => device_spec::RunState::Running,
            RunState::Stopped => device_spec::RunState::Stopped,
        }
        .into(),
        host_interface: Some(host_interface::to_pb(&spec.host_interface)),
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
            policy: match reconnect.policy {
                ReconnectPolicy::Backoff => reconnect_spec::Policy::Unspecified,
                ReconnectPolicy::Interval => reconnect_spec::Policy::Interval,
                ReconnectPolicy::Never => reconnect_spec::Policy::Never,
            }
            .into(),
        }),
        log: spec.log.as_ref().map(|log| pb::LogSpec {
            file: log.file.to_string_lossy().into_owned(),
            append: host_interface::switch_to_pb(log.append).into(),
        }),
        libvirt: spec.libvirt.as_ref().map(|libvirt| pb::LibvirtSpec {
            domain: libvirt.domain.clone(),
            os_type: libvirt.os_type.clone(),
            index: libvirt.index,
            guest: libvirt.guest.clone(),
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
    let facts = &link.facts;
    pb::DeviceStatus {
        state: state(link.state).into(),
        conditions: conditions(status),
        last_error: error.map(|error| error.message.clone()).unwrap_or_default(),
        last_error_time: error.map(|error| error.time.into()),
        retry_time: link.retry_time.map(Into::into),
        peer_address: facts.peers.first().map(|peer| peer.address.clone()).unwrap_or_default(),
        listen_address: link.listen_address.clone().unwrap_or_default(),
        pty_path: link.pty_path.clone().unwrap_or_default(),
        output_bytes: status.output_bytes,
        input_bytes: status.input_bytes,
        input_dropped_bytes: status.input_dropped_bytes,
        link_count: status.link_count,
        refused_peer_count: status.refused_peer_count,
        last_refusal: link.last_refusal.clone().unwrap_or_default(),
        discarded_bytes: status.discarded_bytes,
        lost_count: status.lost_count,
        break_count: status.break_count,
        log_lost_bytes: status.log_lost_bytes,
        journal: Some(pb::JournalStatus {
            oldest_offset: status.journal.oldest_offset,
            next_offset: status.journal.next_offset,
            disk_bytes: status.journal.disk_bytes,
            lost_bytes: status.journal.lost_bytes,
            recovery: status.journal.recovery.clone().unwrap_or_default(),
        }),
        attachment_count: link.attachment_count,
        writer: link.writers.join(", "),
        peers: facts.peers.iter().map(peer).collect(),
        line_settings: facts.line_settings.as_ref().map(line_settings_to_pb),
        modem_lines: facts.modem_lines.map(modem_lines_to_pb),
        window: facts.window.map(serial::window_to_pb),
    }
}

fn peer(peer: &Peer) -> pb::Peer {
    pb::Peer {
        address: peer.address.clone(),
        description: peer.description.clone(),
        connect_time: Some(peer.connect_time.into()),
        output_bytes: peer.output_bytes,
        record_count: peer.record_count,
        lost_count: peer.lost_count,
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
    let degraded = |kind: &str, state: &ConditionStatus, fine: &'static str| {
        let (reason, message) = state.holds.clone().unwrap_or((fine, String::new()));
        condition(kind, state.holds.is_some(), reason, message, state.changed)
    };
    let mut conditions = vec![
        condition("Connected", connected, reason, message, Some(link.connected_changed)),
        degraded("JournalDegraded", &status.journal.degraded, "OnDisk"),
    ];
    // Told by devices that have a log.
    if link.log_degraded.changed.is_some() {
        conditions.push(degraded("LogDegraded", &link.log_degraded, "Written"));
    }
    conditions
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
        policy: match reconnect_spec::Policy::try_from(reconnect.policy) {
            Ok(reconnect_spec::Policy::Unspecified | reconnect_spec::Policy::Backoff) => {
                ReconnectPolicy::Backoff
            }
            Ok(reconnect_spec::Policy::Interval) => ReconnectPolicy::Interval,
            Ok(reconnect_spec::Policy::Never) => ReconnectPolicy::Never,
            Err(_) => {
                faults.push(unknown_value("spec.reconnect.policy", reconnect.policy));
                ReconnectPolicy::Backoff
            }
        },
    };
    let retention = spec.journal.map_or(0, |journal| journal.retention_bytes);
    let Some(mut host_interface) = host_interface::parse(spec, &mut faults) else {
        faults.push(Fault::new(
            "spec",
            "must have a host interface: one of null, stdio, file, pty, dev, pipe, tcp, udp, unix",
        ));
        return Err(faults);
    };
    if let HostInterface::Stdio(stdio) = &mut host_interface
        && stdio.domain.is_empty()
    {
        stdio.domain = labels.get(DOMAIN_LABEL).cloned().unwrap_or_default();
    }
    let log = spec.log.as_ref().map(|log| LogSpec {
        file: log.file.as_str().into(),
        append: host_interface::parse_switch("spec.log.append", log.append, &mut faults),
    });
    let libvirt = spec.libvirt.as_ref().map(|libvirt| LibvirtSpec {
        domain: libvirt.domain.clone(),
        os_type: libvirt.os_type.clone(),
        index: libvirt.index,
        guest: libvirt.guest.clone(),
    });
    let spec = DeviceSpec {
        description: spec.description.clone(),
        run_state,
        host_interface,
        journal: JournalSpec { retention_bytes: (retention != 0).then_some(retention) },
        input: InputSpec { sharing },
        reconnect,
        log,
        libvirt,
    };
    faults.extend(device::validate(&spec, labels));
    if let Some(libvirt) = &spec.libvirt {
        check_guest(libvirt, &mut faults);
    }
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
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
