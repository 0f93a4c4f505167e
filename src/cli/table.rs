//! Tables for people: columns as wide as their widest cell, two spaces between.
//!
//! A thing of its own so that commands say what to show and not how wide it is.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use super::text::{age, or_dash, state};
use crate::pb::{Device, device_spec::HostInterface, tcp_host_interface, unix_host_interface};

/// Rows under a header; every row has a cell for each column.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        let header = header.iter().map(|title| (*title).to_owned()).collect();
        Self { rows: vec![header] }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths);
            let line: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(out, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// How much of each device a table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// What fits a terminal.
    Normal,
    /// Writer, labels and the last error as well.
    Wide,
}

/// Devices, one in a row.
pub(super) fn of_devices(devices: &[Device], width: Width, now: SystemTime) -> Table {
    let mut header =
        vec!["NAME", "STATE", "INTERFACE", "ENDPOINT", "NEXT-OFFSET", "ATTACHED", "AGE"];
    if width == Width::Wide {
        header.extend(["WRITER", "LABELS", "LAST-ERROR"]);
    }
    let mut table = Table::new(&header);
    for device in devices {
        let status = device.status.clone().unwrap_or_default();
        let next_offset = status.journal.as_ref().map_or(0, |j| j.next_offset);
        let mut row = vec![
            id(device),
            state(status.state).to_owned(),
            interface(device).to_owned(),
            endpoint(device),
            next_offset.to_string(),
            status.attachment_count.to_string(),
            age(device.create_time, now),
        ];
        if width == Width::Wide {
            row.extend([
                or_dash(&status.writer),
                or_dash(&labels(device)),
                or_dash(&status.last_error),
            ]);
        }
        table.row(row);
    }
    table
}

/// The last part of the device's name.
pub(super) fn id(device: &Device) -> String {
    let name = &device.name;
    or_dash(name.strip_prefix("devices/").unwrap_or(name))
}

/// The kind of host interface, in the API's word.
pub(super) fn interface(device: &Device) -> &'static str {
    match device.spec.as_ref().and_then(|s| s.host_interface.as_ref()) {
        Some(HostInterface::Null(_)) => "null",
        Some(HostInterface::Stdio(_)) => "stdio",
        Some(HostInterface::File(_)) => "file",
        Some(HostInterface::Pty(_)) => "pty",
        Some(HostInterface::Dev(_)) => "dev",
        Some(HostInterface::Pipe(_)) => "pipe",
        Some(HostInterface::Tcp(_)) => "tcp",
        Some(HostInterface::Udp(_)) => "udp",
        Some(HostInterface::Unix(_)) => "unix",
        None => "-",
    }
}

/// Where the far side is or may come: the pty to open, the peer, the address
/// that listens, or what the spec wants to reach.
pub(super) fn endpoint(device: &Device) -> String {
    let status = device.status.clone().unwrap_or_default();
    let seen = [status.pty_path, status.peer_address, status.listen_address];
    if let Some(seen) = seen.iter().find(|place| !place.is_empty()) {
        return or_dash(seen);
    }
    match device.spec.as_ref().and_then(|s| s.host_interface.as_ref()) {
        Some(HostInterface::Stdio(stdio)) => or_dash(&stdio.domain),
        Some(HostInterface::File(file)) => or_dash(&file.path),
        Some(HostInterface::Dev(dev)) => or_dash(&dev.path),
        Some(HostInterface::Pipe(pipe)) => or_dash(&pipe.path),
        Some(HostInterface::Tcp(tcp)) => match tcp.mode() {
            tcp_host_interface::Mode::Bind => {
                format!("listen {}", socket(&tcp.host, tcp.port, "*"))
            }
            tcp_host_interface::Mode::Connect | tcp_host_interface::Mode::Unspecified => {
                socket(&tcp.host, tcp.port, "-")
            }
        },
        Some(HostInterface::Udp(udp)) => match (&udp.connect, &udp.bind) {
            (Some(peer), _) => socket(&peer.host, peer.port, "localhost"),
            (None, Some(own)) => format!("listen {}", socket(&own.host, own.port, "*")),
            (None, None) => "-".to_owned(),
        },
        Some(HostInterface::Unix(unix)) => match unix.mode() {
            unix_host_interface::Mode::Bind => format!("listen {}", or_dash(&unix.path)),
            unix_host_interface::Mode::Connect | unix_host_interface::Mode::Unspecified => {
                or_dash(&unix.path)
            }
        },
        Some(HostInterface::Null(_) | HostInterface::Pty(_)) | None => "-".to_owned(),
    }
}

/// Host and port as people write them; `unsaid` stands for no host.
fn socket(host: &str, port: u32, unsaid: &str) -> String {
    let host = if host.is_empty() { unsaid.to_owned() } else { or_dash(host) };
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Labels as a selector would name them.
pub(super) fn labels(device: &Device) -> String {
    let pairs = device.labels.iter();
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::{DeviceSpec, DeviceStatus, PtyHostInterface, TcpHostInterface};

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(vec!["a-long-name".to_owned(), "X".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "NAME         STATE\na-long-name  X\n");
    }

    #[test]
    fn the_endpoint_is_what_is_seen_else_what_is_wanted() {
        let mut device = Device {
            spec: Some(DeviceSpec {
                host_interface: Some(HostInterface::Tcp(TcpHostInterface {
                    host: "::1".to_owned(),
                    port: 23,
                    ..TcpHostInterface::default()
                })),
                ..DeviceSpec::default()
            }),
            ..Device::default()
        };
        assert_eq!(endpoint(&device), "[::1]:23");
        device.status = Some(DeviceStatus {
            peer_address: "10.0.0.1:23".to_owned(),
            ..DeviceStatus::default()
        });
        assert_eq!(endpoint(&device), "10.0.0.1:23");
        device.spec = Some(DeviceSpec {
            host_interface: Some(HostInterface::Pty(PtyHostInterface::default())),
            ..DeviceSpec::default()
        });
        device.status = None;
        assert_eq!(endpoint(&device), "-");
    }
}
