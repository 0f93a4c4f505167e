//! What `describe` prints: everything about one device, for people.
//!
//! A thing of its own because prose has another order than the API: what it is,
//! how it is, what went wrong, how to reach it, and then the counters. Programs
//! read `get -o json` instead.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use super::{
    line::{modem_lines_text, settings_text},
    table::{endpoint, id, interface},
    text::{age, or_dash, plain, state, time},
};
use crate::pb::{
    Condition, Device, DeviceSpec, DeviceStatus, JournalStatus, Peer,
    condition::Status,
    device_spec::{HostInterface, RunState},
    input_spec::Sharing,
};

/// Width of the names before the values.
const NAME_WIDTH: usize = 16;

pub(super) fn write(out: &mut impl Write, device: &Device, now: SystemTime) -> io::Result<()> {
    let spec = device.spec.clone().unwrap_or_default();
    let status = device.status.clone().unwrap_or_default();
    line(out, "Name", &id(device))?;
    line(out, "UID", &or_dash(&device.uid))?;
    if !spec.description.is_empty() {
        line(out, "Description", &plain(&spec.description))?;
    }
    let labels = device.labels.iter();
    let labels: Vec<String> = labels.map(|(k, v)| plain(&format!("{k}={v}"))).collect();
    line(out, "Labels", &or_dash(&labels.join(", ")))?;
    let created = format!("{} ({} ago)", time(device.create_time), age(device.create_time, now));
    line(out, "Created", &created)?;
    line(out, "Updated", &time(device.update_time))?;
    line(out, "Etag", &or_dash(&device.etag))?;
    write_link(out, device, &spec, &status)?;
    write_conditions(out, &status.conditions)?;
    write_traffic(out, &spec, &status)
}

fn write_link(
    out: &mut impl Write,
    device: &Device,
    spec: &DeviceSpec,
    status: &DeviceStatus,
) -> io::Result<()> {
    line(out, "State", state(status.state))?;
    if status.retry_time.is_some() {
        line(out, "Next attempt", &time(status.retry_time))?;
    }
    if !status.last_error.is_empty() {
        let at = time(status.last_error_time);
        let error = format!("{} ({at})", plain(&status.last_error));
        line(out, "Last error", &error)?;
    }
    let wanted = match spec.run_state() {
        RunState::Unspecified | RunState::Running => "running",
        RunState::Stopped => "stopped",
    };
    line(out, "Wanted", wanted)?;
    line(out, "Host interface", interface(device))?;
    if status.pty_path.is_empty() {
        line(out, "Endpoint", &endpoint(device))?;
    } else {
        let path = plain(&status.pty_path);
        let hint = format!("{path} (open it on the server's host, as with `screen {path}`)");
        line(out, "Pty", &hint)?;
    }
    if let Some(HostInterface::Pty(pty)) = &spec.host_interface
        && !pty.link.is_empty()
    {
        line(out, "Link to the pty", &plain(&pty.link))?;
    }
    if !status.listen_address.is_empty() {
        line(out, "Listening on", &plain(&status.listen_address))?;
    }
    for peer in &status.peers {
        line(out, "Peer", &peer_text(peer))?;
    }
    write_serial(out, status)?;
    line(out, "Links opened", &status.link_count.to_string())?;
    if status.refused_peer_count > 0 {
        line(out, "Refused", &format!("{} far sides", status.refused_peer_count))?;
    }
    if !status.last_refusal.is_empty() {
        line(out, "Last refusal", &plain(&status.last_refusal))?;
    }
    if let Some(log) = &spec.log {
        line(out, "Copy in", &plain(&log.file))?;
    }
    Ok(())
}

/// What a serial line and a terminal have beside their bytes.
fn write_serial(out: &mut impl Write, status: &DeviceStatus) -> io::Result<()> {
    if let Some(settings) = &status.line_settings {
        line(out, "Line settings", &settings_text(settings))?;
    }
    if let Some(lines) = &status.modem_lines {
        line(out, "Modem lines", &modem_lines_text(lines))?;
    }
    if status.receive_error_count > 0 {
        let errors = format!("{} characters (wrong speed?)", status.receive_error_count);
        line(out, "Damaged", &errors)?;
    }
    if status.break_count > 0 {
        line(out, "Breaks received", &status.break_count.to_string())?;
    }
    if let Some(window) = &status.window {
        let size = format!("{} columns by {} rows", window.columns, window.rows);
        line(out, "Window", &size)?;
    }
    Ok(())
}

/// Who it is, since when, and what came from there.
fn peer_text(peer: &Peer) -> String {
    let mut text = or_dash(&peer.address);
    if !peer.description.is_empty() {
        text += &format!(" ({})", plain(&peer.description));
    }
    text += &format!(", since {}, {} bytes", time(peer.connect_time), peer.output_bytes);
    if peer.record_count > 0 {
        text += &format!(" in {} records", peer.record_count);
    }
    if peer.lost_count > 0 {
        text += &format!(", {} lost", peer.lost_count);
    }
    text
}

fn write_conditions(out: &mut impl Write, conditions: &[Condition]) -> io::Result<()> {
    for condition in conditions {
        let holds = match condition.status() {
            Status::True => "yes",
            Status::False => "no",
            Status::Unspecified => "unknown",
        };
        let since = time(condition.last_transition_time);
        let mut text = format!("{holds} since {since}, {}", or_dash(&condition.reason));
        if !condition.message.is_empty() {
            text += &format!(": {}", plain(&condition.message));
        }
        line(out, &plain(&condition.r#type), &text)?;
    }
    Ok(())
}

fn write_traffic(out: &mut impl Write, spec: &DeviceSpec, status: &DeviceStatus) -> io::Result<()> {
    let JournalStatus { oldest_offset, next_offset, disk_bytes, lost_bytes, recovery } =
        status.journal.clone().unwrap_or_default();
    let held = next_offset.saturating_sub(oldest_offset);
    let journal = format!("offsets {oldest_offset} to {next_offset} ({held} bytes held)");
    line(out, "Journal", &journal)?;
    let retention = spec.journal.map_or(0, |journal| journal.retention_bytes);
    let retention = match retention {
        0 => "default retention".to_owned(),
        bytes => format!("retention {bytes}"),
    };
    line(out, "On disk", &format!("{disk_bytes} bytes, {retention}"))?;
    if lost_bytes > 0 {
        line(out, "Never stored", &format!("{lost_bytes} bytes"))?;
    }
    if !recovery.is_empty() {
        line(out, "Recovery", &plain(&recovery))?;
    }
    let mut output = format!("{} bytes", status.output_bytes);
    if status.lost_count > 0 {
        output += &format!(", {} lost before they came here", status.lost_count);
    }
    line(out, "Output", &output)?;
    let mut input = format!("{} bytes", status.input_bytes);
    if status.input_dropped_bytes > 0 {
        input += &format!(", {} dropped", status.input_dropped_bytes);
    }
    if status.discarded_bytes > 0 {
        input += &format!(", {} discarded", status.discarded_bytes);
    }
    line(out, "Input", &input)?;
    if let Some(log) = &spec.log {
        let mut copy = plain(&log.file);
        if status.log_lost_bytes > 0 {
            copy += &format!(", {} bytes are missing", status.log_lost_bytes);
        }
        line(out, "Copy in a file", &copy)?;
    }
    line(out, "Attachments", &status.attachment_count.to_string())?;
    let sharing = match spec.input.unwrap_or_default().sharing() {
        Sharing::Unspecified | Sharing::Exclusive => "one at a time",
        Sharing::Shared => "sharing allowed",
    };
    let writer = format!("{} ({sharing})", or_dash(&status.writer));
    line(out, "Writer", &writer)
}

fn line(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{:NAME_WIDTH$} {value}", format!("{name}:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::{LineSettings, ModemLines, WindowSize};

    #[test]
    fn a_device_that_nothing_is_known_of_is_described_too() {
        let mut out = Vec::new();
        write(&mut out, &Device::default(), SystemTime::now()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("Name:            -\n"), "{text}");
    }

    #[test]
    fn tells_what_is_on_the_other_end_and_nothing_drives_the_terminal() {
        let peer = Peer {
            address: "10.0.0.7:5000".to_owned(),
            description: "\u{1b}[2J".to_owned(),
            output_bytes: 12,
            record_count: 3,
            lost_count: 1,
            ..Peer::default()
        };
        let device = Device {
            status: Some(DeviceStatus {
                peers: vec![peer],
                line_settings: Some(LineSettings {
                    baud: 9600,
                    data_bits: 8,
                    ..LineSettings::default()
                }),
                modem_lines: Some(ModemLines { dtr: true, ..ModemLines::default() }),
                window: Some(WindowSize { rows: 24, columns: 80 }),
                receive_error_count: 5,
                break_count: 2,
                refused_peer_count: 4,
                last_refusal: "10.0.0.8:1: full\u{7}".to_owned(),
                lost_count: 6,
                discarded_bytes: 7,
                ..DeviceStatus::default()
            }),
            ..Device::default()
        };
        let mut out = Vec::new();
        write(&mut out, &device, SystemTime::now()).unwrap();
        let text = String::from_utf8(out).unwrap();
        for (name, value) in [
            ("Peer", "10.0.0.7:5000 (\u{fffd}[2J), since -, 12 bytes in 3 records, 1 lost"),
            ("Line settings", "9600 8N1"),
            ("Modem lines", "DTR on, RTS off, CTS off, DSR off, RI off, CD off"),
            ("Damaged", "5 characters (wrong speed?)"),
            ("Breaks received", "2"),
            ("Window", "80 columns by 24 rows"),
            ("Refused", "4 far sides"),
            ("Last refusal", "10.0.0.8:1: full\u{fffd}"),
            ("Output", "0 bytes, 6 lost before they came here"),
            ("Input", "0 bytes, 7 discarded"),
        ] {
            let line = format!("{:NAME_WIDTH$} {value}\n", format!("{name}:"));
            assert!(text.contains(&line), "{line}{text}");
        }
    }

    #[test]
    fn tells_where_to_open_the_pty() {
        let device = Device {
            status: Some(DeviceStatus {
                pty_path: "/dev/pts/7".to_owned(),
                ..DeviceStatus::default()
            }),
            ..Device::default()
        };
        let mut out = Vec::new();
        write(&mut out, &device, SystemTime::now()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Pty:             /dev/pts/7 (open it"), "{text}");
    }
}
