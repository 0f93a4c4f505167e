//! What each host interface must satisfy. Fields are told as `spec.TYPE.FIELD`.

use std::path::Path;

use super::Fault;
use crate::{
    device::{
        DevKind, DevSpec, Endpoint, HostInterface, LineSettings, PipeSpec, PtySpec, StdioSpec,
        StopBits, Switch, TcpSpec, UdpSpec, UnixSpec, WindowSize,
    },
    limits,
};

pub(super) fn check(host_interface: &HostInterface, faults: &mut Vec<Fault>) {
    match host_interface {
        HostInterface::Null {} => {}
        HostInterface::Stdio(stdio) => check_stdio(stdio, faults),
        HostInterface::File(file) => check_path("spec.file.path", &file.path, faults),
        HostInterface::Pty(pty) => check_pty(pty, faults),
        HostInterface::Dev(dev) => check_dev(dev, faults),
        HostInterface::Pipe(pipe) => check_pipe(pipe, faults),
        HostInterface::Tcp(tcp) => check_tcp(tcp, faults),
        HostInterface::Udp(udp) => check_udp(udp, faults),
        HostInterface::Unix(unix) => check_unix(unix, faults),
    }
}

/// A path that says where it leads, whatever folder the server runs in.
pub(super) fn check_path(field: &str, path: &Path, faults: &mut Vec<Fault>) {
    let bytes = path.as_os_str().as_encoded_bytes();
    let problem = if bytes.is_empty() {
        "must not be empty".into()
    } else if !path.is_absolute() {
        "must be absolute".into()
    } else if bytes.len() > limits::PATH_BYTES_MAX {
        format!("must be at most {} bytes, not {}", limits::PATH_BYTES_MAX, bytes.len())
    } else if bytes.iter().any(u8::is_ascii_control) {
        "must not contain NUL or other control characters".into()
    } else if path.components().any(|c| c == std::path::Component::ParentDir) {
        "must not contain '..'".into()
    } else if path.file_name().is_none() || bytes.ends_with(b"/") {
        "must name a file".into()
    } else {
        return;
    };
    faults.push(Fault::new(field, problem));
}

fn check_stdio(stdio: &StdioSpec, faults: &mut Vec<Fault>) {
    let domain = &stdio.domain;
    let field = "spec.stdio.domain";
    if domain.is_empty() {
        faults.push(Fault::new(field, "must be given, or else the label `domain`"));
    } else if domain.len() > limits::DOMAIN_NAME_BYTES_MAX {
        let most = limits::DOMAIN_NAME_BYTES_MAX;
        faults.push(Fault::new(field, format!("must be at most {most} bytes")));
    } else if domain.starts_with('.') || domain.chars().any(|c| c == '/' || c.is_control()) {
        faults.push(Fault::new(
            field,
            "must be usable as a file's name: no '/', no control characters, no '.' in front",
        ));
    }
}

fn check_pty(pty: &PtySpec, faults: &mut Vec<Fault>) {
    if let Some(link) = &pty.link {
        check_path("spec.pty.link", link, faults);
    }
    if let Some(window) = pty.window {
        check_window("spec.pty.window", window, faults);
    }
}

/// The size of a terminal that has one.
pub fn check_window(field: &str, window: WindowSize, faults: &mut Vec<Fault>) {
    for (name, count) in [("rows", window.rows), ("columns", window.columns)] {
        if count == 0 {
            faults.push(Fault::new(format!("{field}.{name}"), "must be 1 to 65535"));
        }
    }
}

fn check_dev(dev: &DevSpec, faults: &mut Vec<Fault>) {
    check_path("spec.dev.path", &dev.path, faults);
    if let Some(settings) = &dev.line_settings {
        check_line_settings("spec.dev.line_settings", settings, faults);
        if settings.stop_bits == StopBits::OnePointFive {
            let problem = "must be one or two: ports of this host have no 1.5";
            faults.push(Fault::new("spec.dev.line_settings.stop_bits", problem));
        }
    }
    if dev.kind == DevKind::Parallel {
        if dev.line_settings.is_some() {
            let problem = "must be absent for a parallel port: it has none";
            faults.push(Fault::new("spec.dev.line_settings", problem));
        }
        if dev.hangup_on_close != Switch::Unsaid {
            let problem = "must be absent for a parallel port: it has no DTR";
            faults.push(Fault::new("spec.dev.hangup_on_close", problem));
        }
    }
}

/// How a line can be set.
pub fn check_line_settings(field: &str, settings: &LineSettings, faults: &mut Vec<Fault>) {
    if !(limits::BAUD_MIN..=limits::BAUD_MAX).contains(&settings.baud) {
        faults.push(Fault::new(
            format!("{field}.baud"),
            format!("must be {} to {}, not {}", limits::BAUD_MIN, limits::BAUD_MAX, settings.baud),
        ));
    }
}

fn check_pipe(pipe: &PipeSpec, faults: &mut Vec<Fault>) {
    check_path("spec.pipe.path", &pipe.path, faults);
}

fn check_tcp(tcp: &TcpSpec, faults: &mut Vec<Fault>) {
    let binds = tcp.mode == Endpoint::Bind;
    if !(tcp.host.is_empty() && binds) {
        check_host("spec.tcp.host", &tcp.host, faults);
    }
    if tcp.port == 0 && !binds {
        faults.push(Fault::new("spec.tcp.port", "must be 1 to 65535 to connect to"));
    }
    let mut only = |said: bool, field: &str, when: bool, problem: &str| {
        if said && !when {
            faults.push(Fault::new(format!("spec.tcp.{field}"), problem));
        }
    };
    let tls = tcp.is_tls();
    only(tcp.credentials.is_some(), "credentials", tls, "must be empty without TLS");
    only(
        tcp.server_name.is_some(),
        "server_name",
        tls && !binds,
        "must be empty unless TLS is spoken and the mode is CONNECT",
    );
    only(tcp.max_peers.is_some(), "max_peers", binds, "must be 0 to connect");
    only(tcp.com_port.is_on(), "com_port", tcp.is_telnet(), "must be off without telnet");
    only(
        tcp.line_settings.is_some(),
        "line_settings",
        tcp.com_port.is_on() && !binds,
        "must be absent unless com_port is on and the mode is CONNECT",
    );
    if let Some(name) = &tcp.credentials
        && (name.is_empty() || name.len() > limits::CREDENTIALS_NAME_BYTES_MAX)
    {
        let most = limits::CREDENTIALS_NAME_BYTES_MAX;
        faults.push(Fault::new("spec.tcp.credentials", format!("must be 1 to {most} bytes")));
    }
    if let Some(name) = &tcp.server_name {
        check_host("spec.tcp.server_name", name, faults);
    }
    if binds
        && let Some(peers) = tcp.max_peers
        && !(1..=limits::LINK_PEERS_MAX).contains(&peers)
    {
        let most = limits::LINK_PEERS_MAX;
        faults.push(Fault::new("spec.tcp.max_peers", format!("must be 1 to {most}")));
    }
    if let Some(settings) = &tcp.line_settings {
        check_line_settings("spec.tcp.line_settings", settings, faults);
    }
}

fn check_host(field: &str, host: &str, faults: &mut Vec<Fault>) {
    if host.is_empty() {
        faults.push(Fault::new(field, "must not be empty"));
    } else if host.len() > limits::HOST_BYTES_MAX {
        let problem =
            format!("must be at most {} bytes, not {}", limits::HOST_BYTES_MAX, host.len());
        faults.push(Fault::new(field, problem));
    } else if host.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/') {
        faults.push(Fault::new(field, "must be a host name or an address"));
    }
}

fn check_udp(udp: &UdpSpec, faults: &mut Vec<Fault>) {
    if udp.connect.is_none() && udp.bind.is_none() {
        faults.push(Fault::new("spec.udp", "must have `connect`, `bind` or both"));
    }
    if let Some(connect) = &udp.connect {
        if !connect.host.is_empty() {
            check_host("spec.udp.connect.host", &connect.host, faults);
        }
        if connect.port == 0 {
            faults.push(Fault::new("spec.udp.connect.port", "must be 1 to 65535 to send to"));
        }
    }
    if let Some(bind) = &udp.bind
        && !bind.host.is_empty()
    {
        check_host("spec.udp.bind.host", &bind.host, faults);
    }
}

fn check_unix(unix: &UnixSpec, faults: &mut Vec<Fault>) {
    let bytes = unix.path.as_os_str().as_encoded_bytes();
    if bytes.len() > limits::UNIX_PATH_BYTES_MAX {
        let problem =
            format!("must be at most {} bytes, not {}", limits::UNIX_PATH_BYTES_MAX, bytes.len());
        faults.push(Fault::new("spec.unix.path", problem));
    } else {
        check_path("spec.unix.path", &unix.path, faults);
    }
    if unix.socket_mode.is_some_and(|mode| mode & !0o777 != 0) {
        faults.push(Fault::new("spec.unix.socket_mode", "must be permissions up to 0777"));
    }
    if let Some(group) = &unix.group
        && (group.len() > limits::GROUP_BYTES_MAX
            || group.chars().any(|c| c.is_control() || c == ':'))
    {
        faults.push(Fault::new("spec.unix.group", "must be a group's name or number"));
    }
    if unix.mode == Endpoint::Connect {
        for (said, field) in
            [(unix.socket_mode.is_some(), "socket_mode"), (unix.group.is_some(), "group")]
        {
            if said {
                let field = format!("spec.unix.{field}");
                faults.push(Fault::new(field, "must be absent to connect: the socket is not ours"));
            }
        }
    }
}
