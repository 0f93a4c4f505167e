//! Host interfaces to and from their messages. Empty text and zero are "not
//! said", as everywhere in the API.

use std::path::{Path, PathBuf};

use super::{
    Fault,
    serial::{line_settings_to_pb, parse_line_settings, parse_window, window_to_pb},
    unknown_value,
};
use crate::{
    device::{
        DevKind, DevSpec, Endpoint, FileSpec, HostInterface, PipeSpec, Protocol, PtySpec,
        SinglePipe, StdioSpec, Switch, TcpSpec, UdpEndpoint, UdpFormat, UdpSpec, UnixSpec,
    },
    pb::{
        self, dev_host_interface, device_spec, pipe_host_interface, tcp_host_interface,
        udp_host_interface, unix_host_interface,
    },
};

// === out ===

pub(super) fn to_pb(host_interface: &HostInterface) -> device_spec::HostInterface {
    match host_interface {
        HostInterface::Null {} => device_spec::HostInterface::Null(pb::NullHostInterface {}),
        HostInterface::Stdio(stdio) => device_spec::HostInterface::Stdio(pb::StdioHostInterface {
            domain: stdio.domain.clone(),
        }),
        HostInterface::File(file) => device_spec::HostInterface::File(pb::FileHostInterface {
            path: text(&file.path),
            append: switch_to_pb(file.append).into(),
        }),
        HostInterface::Pty(pty) => device_spec::HostInterface::Pty(pb::PtyHostInterface {
            link: pty.link.as_deref().map(text).unwrap_or_default(),
            window: pty.window.map(window_to_pb),
        }),
        HostInterface::Dev(dev) => device_spec::HostInterface::Dev(dev_to_pb(dev)),
        HostInterface::Pipe(pipe) => device_spec::HostInterface::Pipe(pb::PipeHostInterface {
            path: text(&pipe.path),
            create: switch_to_pb(pipe.create).into(),
            single: match pipe.single {
                SinglePipe::Output => pipe_host_interface::Single::Unspecified,
                SinglePipe::Input => pipe_host_interface::Single::Input,
            }
            .into(),
        }),
        HostInterface::Tcp(tcp) => device_spec::HostInterface::Tcp(tcp_to_pb(tcp)),
        HostInterface::Udp(udp) => device_spec::HostInterface::Udp(pb::UdpHostInterface {
            connect: udp.connect.as_ref().map(udp_endpoint_to_pb),
            bind: udp.bind.as_ref().map(udp_endpoint_to_pb),
            format: match udp.format {
                UdpFormat::Raw => udp_host_interface::Format::Unspecified,
                UdpFormat::Netconsole => udp_host_interface::Format::Netconsole,
            }
            .into(),
        }),
        HostInterface::Unix(unix) => device_spec::HostInterface::Unix(pb::UnixHostInterface {
            mode: match unix.mode {
                Endpoint::Connect => unix_host_interface::Mode::Connect,
                Endpoint::Bind => unix_host_interface::Mode::Bind,
            }
            .into(),
            path: text(&unix.path),
            socket_mode: unix.socket_mode.unwrap_or(0),
            group: unix.group.clone().unwrap_or_default(),
        }),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub(super) fn switch_to_pb(switch: Switch) -> pb::Switch {
    match switch {
        Switch::Unsaid => pb::Switch::Unspecified,
        Switch::On => pb::Switch::On,
        Switch::Off => pb::Switch::Off,
    }
}

fn dev_to_pb(dev: &DevSpec) -> pb::DevHostInterface {
    pb::DevHostInterface {
        path: text(&dev.path),
        line_settings: dev.line_settings.as_ref().map(line_settings_to_pb),
        hangup_on_close: switch_to_pb(dev.hangup_on_close).into(),
        kind: match dev.kind {
            DevKind::Serial => dev_host_interface::Kind::Unspecified,
            DevKind::Parallel => dev_host_interface::Kind::Parallel,
        }
        .into(),
    }
}

fn tcp_to_pb(tcp: &TcpSpec) -> pb::TcpHostInterface {
    pb::TcpHostInterface {
        mode: match tcp.mode {
            Endpoint::Connect => tcp_host_interface::Mode::Connect,
            Endpoint::Bind => tcp_host_interface::Mode::Bind,
        }
        .into(),
        host: tcp.host.clone(),
        port: tcp.port.into(),
        protocol: match tcp.protocol {
            Protocol::Raw => tcp_host_interface::Protocol::Unspecified,
            Protocol::Telnet => tcp_host_interface::Protocol::Telnet,
            Protocol::Telnets => tcp_host_interface::Protocol::Telnets,
            Protocol::Tls => tcp_host_interface::Protocol::Tls,
        }
        .into(),
        tls: switch_to_pb(tcp.tls).into(),
        credentials: tcp.credentials.clone().unwrap_or_default(),
        server_name: tcp.server_name.clone().unwrap_or_default(),
        max_peers: tcp.max_peers.unwrap_or(0),
        com_port: switch_to_pb(tcp.com_port).into(),
        line_settings: tcp.line_settings.as_ref().map(line_settings_to_pb),
    }
}

fn udp_endpoint_to_pb(endpoint: &UdpEndpoint) -> pb::UdpEndpoint {
    pb::UdpEndpoint { host: endpoint.host.clone(), port: endpoint.port.into() }
}

// === in ===

/// The host interface of a spec; `None` if there is none.
pub(super) fn parse(spec: &pb::DeviceSpec, faults: &mut Vec<Fault>) -> Option<HostInterface> {
    Some(match spec.host_interface.as_ref()? {
        device_spec::HostInterface::Null(pb::NullHostInterface {}) => HostInterface::Null {},
        device_spec::HostInterface::Stdio(stdio) => {
            HostInterface::Stdio(StdioSpec { domain: stdio.domain.clone() })
        }
        device_spec::HostInterface::File(file) => HostInterface::File(FileSpec {
            path: file.path.as_str().into(),
            append: parse_switch("spec.file.append", file.append, faults),
        }),
        device_spec::HostInterface::Pty(pty) => HostInterface::Pty(PtySpec {
            link: said(&pty.link).map(PathBuf::from),
            window: pty.window.map(|window| parse_window("spec.pty.window", window, faults)),
        }),
        device_spec::HostInterface::Dev(dev) => HostInterface::Dev(parse_dev(dev, faults)),
        device_spec::HostInterface::Pipe(pipe) => HostInterface::Pipe(PipeSpec {
            path: pipe.path.as_str().into(),
            create: parse_switch("spec.pipe.create", pipe.create, faults),
            single: match pipe_host_interface::Single::try_from(pipe.single) {
                Ok(
                    pipe_host_interface::Single::Unspecified | pipe_host_interface::Single::Output,
                ) => SinglePipe::Output,
                Ok(pipe_host_interface::Single::Input) => SinglePipe::Input,
                Err(_) => {
                    faults.push(unknown_value("spec.pipe.single", pipe.single));
                    SinglePipe::Output
                }
            },
        }),
        device_spec::HostInterface::Tcp(tcp) => HostInterface::Tcp(parse_tcp(tcp, faults)),
        device_spec::HostInterface::Udp(udp) => HostInterface::Udp(parse_udp(udp, faults)),
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
            socket_mode: (unix.socket_mode != 0).then_some(unix.socket_mode),
            group: said(&unix.group),
        }),
    })
}

fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn parse_switch(field: &str, switch: i32, faults: &mut Vec<Fault>) -> Switch {
    match pb::Switch::try_from(switch) {
        Ok(pb::Switch::Unspecified) => Switch::Unsaid,
        Ok(pb::Switch::On) => Switch::On,
        Ok(pb::Switch::Off) => Switch::Off,
        Err(_) => {
            faults.push(unknown_value(field, switch));
            Switch::Unsaid
        }
    }
}

fn parse_dev(dev: &pb::DevHostInterface, faults: &mut Vec<Fault>) -> DevSpec {
    let settings = dev.line_settings.as_ref();
    DevSpec {
        path: dev.path.as_str().into(),
        kind: match dev_host_interface::Kind::try_from(dev.kind) {
            Ok(dev_host_interface::Kind::Unspecified | dev_host_interface::Kind::Serial) => {
                DevKind::Serial
            }
            Ok(dev_host_interface::Kind::Parallel) => DevKind::Parallel,
            Err(_) => {
                faults.push(unknown_value("spec.dev.kind", dev.kind));
                DevKind::Serial
            }
        },
        line_settings: settings
            .map(|settings| parse_line_settings("spec.dev.line_settings", settings, faults)),
        hangup_on_close: parse_switch("spec.dev.hangup_on_close", dev.hangup_on_close, faults),
    }
}

fn parse_tcp(tcp: &pb::TcpHostInterface, faults: &mut Vec<Fault>) -> TcpSpec {
    let settings = tcp.line_settings.as_ref();
    TcpSpec {
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
        port: port("spec.tcp.port", tcp.port, faults),
        protocol: match tcp_host_interface::Protocol::try_from(tcp.protocol) {
            Ok(tcp_host_interface::Protocol::Unspecified | tcp_host_interface::Protocol::Raw) => {
                Protocol::Raw
            }
            Ok(tcp_host_interface::Protocol::Telnet) => Protocol::Telnet,
            Ok(tcp_host_interface::Protocol::Telnets) => Protocol::Telnets,
            Ok(tcp_host_interface::Protocol::Tls) => Protocol::Tls,
            Err(_) => {
                faults.push(unknown_value("spec.tcp.protocol", tcp.protocol));
                Protocol::Raw
            }
        },
        tls: parse_switch("spec.tcp.tls", tcp.tls, faults),
        credentials: said(&tcp.credentials),
        server_name: said(&tcp.server_name),
        max_peers: (tcp.max_peers != 0).then_some(tcp.max_peers),
        com_port: parse_switch("spec.tcp.com_port", tcp.com_port, faults),
        line_settings: settings
            .map(|settings| parse_line_settings("spec.tcp.line_settings", settings, faults)),
    }
}

fn parse_udp(udp: &pb::UdpHostInterface, faults: &mut Vec<Fault>) -> UdpSpec {
    let mut endpoint = |field: &str, endpoint: Option<&pb::UdpEndpoint>| {
        endpoint.map(|endpoint| UdpEndpoint {
            host: endpoint.host.clone(),
            port: port(field, endpoint.port, faults),
        })
    };
    let connect = endpoint("spec.udp.connect.port", udp.connect.as_ref());
    let bind = endpoint("spec.udp.bind.port", udp.bind.as_ref());
    UdpSpec {
        connect,
        bind,
        format: match udp_host_interface::Format::try_from(udp.format) {
            Ok(udp_host_interface::Format::Unspecified | udp_host_interface::Format::Raw) => {
                UdpFormat::Raw
            }
            Ok(udp_host_interface::Format::Netconsole) => UdpFormat::Netconsole,
            Err(_) => {
                faults.push(unknown_value("spec.udp.format", udp.format));
                UdpFormat::Raw
            }
        },
    }
}

fn port(field: &str, port: u32, faults: &mut Vec<Fault>) -> u16 {
    u16::try_from(port).unwrap_or_else(|_| {
        faults.push(Fault::new(field, format!("must be at most 65535, not {port}")));
        u16::MAX
    })
}
