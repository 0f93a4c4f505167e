//! What the owner of a device wants. `None` and `default()` mean "not said": the
//! defaults are applied where a value is used, so that a better default reaches
//! devices that exist already.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::serial::{LineSettings, WindowSize};
use crate::limits;

/// What the owner of a device wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// A note for people.
    #[serde(default)]
    pub description: String,
    /// Whether the device is served.
    #[serde(default)]
    pub run_state: RunState,
    /// What it connects to.
    pub host_interface: HostInterface,
    /// How much output is kept.
    #[serde(default)]
    pub journal: JournalSpec,
    /// Who may send input.
    #[serde(default)]
    pub input: InputSpec,
    /// How a lost link is opened again.
    #[serde(default)]
    pub reconnect: ReconnectSpec,
    /// A copy in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSpec>,
    /// The guest's side, of a device that came from domain XML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libvirt: Option<LibvirtSpec>,
}

impl DeviceSpec {
    /// Whether a line must close its link and open another to follow `other`.
    pub fn reopens(&self, other: &Self) -> bool {
        self.host_interface != other.host_interface || self.run_state != other.run_state
    }
}

/// Whether a device is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Opened, and opened again when lost.
    #[default]
    Running,
    /// Closed; the journal stays readable.
    Stopped,
}

/// What a device connects to, by libvirt's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HostInterface {
    /// Nothing: input is discarded, there is no output.
    Null {},
    /// The log of a domain.
    Stdio(StdioSpec),
    /// A file that keeps the input.
    File(FileSpec),
    /// A new pseudo terminal.
    Pty(PtySpec),
    /// A port of this host.
    Dev(DevSpec),
    /// Named pipes.
    Pipe(PipeSpec),
    /// A TCP connection.
    Tcp(TcpSpec),
    /// Datagrams.
    Udp(UdpSpec),
    /// A unix stream socket.
    Unix(UnixSpec),
}

impl HostInterface {
    /// The name of the type, in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null {} => "null",
            Self::Stdio(_) => "stdio",
            Self::File(_) => "file",
            Self::Pty(_) => "pty",
            Self::Dev(_) => "dev",
            Self::Pipe(_) => "pipe",
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
            Self::Unix(_) => "unix",
        }
    }

    /// Whether it can deliver output at all.
    pub fn has_output(&self) -> bool {
        !matches!(self, Self::Null {} | Self::Stdio(_) | Self::File(_))
    }
}

/// Which end opens a connection; libvirt's `mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// We connect.
    #[default]
    Connect,
    /// We listen.
    Bind,
}

/// A choice that an owner may leave open; libvirt tells "not said" from "off".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// Not said.
    #[default]
    Unsaid,
    /// Yes.
    On,
    /// No.
    Off,
}

impl Switch {
    /// Whether it was said and is yes.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// The log of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdioSpec {
    /// The domain's name.
    pub domain: String,
}

/// A file that keeps the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Absolute path.
    pub path: PathBuf,
    /// Keep what it holds, or empty it at each start.
    #[serde(default)]
    pub append: Switch,
}

/// A pseudo terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PtySpec {
    /// A symbolic link to the slave.
    #[serde(default)]
    pub link: Option<PathBuf>,
    /// What programs on the slave are told.
    #[serde(default)]
    pub window: Option<WindowSize>,
}

/// A port of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevSpec {
    /// Absolute path of the node, or of a link to it.
    pub path: PathBuf,
    /// What kind of port it must be.
    #[serde(default)]
    pub kind: DevKind,
    /// Set at each open.
    #[serde(default)]
    pub line_settings: Option<LineSettings>,
    /// Whether DTR drops on close.
    #[serde(default)]
    pub hangup_on_close: Switch,
}

/// What kind of port a device node must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DevKind {
    /// A terminal.
    #[default]
    Serial,
    /// A parallel printer port.
    Parallel,
}

/// Named pipes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipeSpec {
    /// Absolute path without the suffixes `.in` and `.out`.
    pub path: PathBuf,
    /// Whether a missing pair is made.
    #[serde(default)]
    pub create: Switch,
    /// What one FIFO is for.
    #[serde(default)]
    pub single: SinglePipe,
}

/// What one FIFO is for; it carries one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinglePipe {
    /// Others write to it.
    #[default]
    Output,
    /// Others read from it.
    Input,
}

/// A TCP connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpSpec {
    /// Connect or bind.
    pub mode: Endpoint,
    /// Name or address; empty with bind is all addresses.
    pub host: String,
    /// Port; 0 with bind is any free one.
    pub port: u16,
    /// What is spoken.
    #[serde(default)]
    pub protocol: Protocol,
    /// libvirt's `tls` attribute.
    #[serde(default)]
    pub tls: Switch,
    /// A set of credentials of the server's configuration.
    #[serde(default)]
    pub credentials: Option<String>,
    /// The name that the far side's certificate must be for.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Far sides at a time; with bind.
    #[serde(default)]
    pub max_peers: Option<u32>,
    /// Whether RFC 2217 is spoken; with telnet.
    #[serde(default)]
    pub com_port: Switch,
    /// Set when the connection is opened; with RFC 2217 as client.
    #[serde(default)]
    pub line_settings: Option<LineSettings>,
}

impl TcpSpec {
    /// Whether the connection is inside TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.protocol, Protocol::Tls | Protocol::Telnets) || self.tls.is_on()
    }

    /// Whether telnet is spoken on it.
    pub fn is_telnet(&self) -> bool {
        matches!(self.protocol, Protocol::Telnet | Protocol::Telnets)
    }

    /// Far sides at a time.
    pub fn max_peers(&self) -> u32 {
        self.max_peers.unwrap_or(1)
    }
}

/// What is spoken on a TCP connection, by libvirt's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Bytes.
    #[default]
    Raw,
    /// Telnet.
    Telnet,
    /// Telnet inside TLS.
    Telnets,
    /// Bytes inside TLS.
    Tls,
}

/// Datagrams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UdpSpec {
    /// Whom to send input to.
    #[serde(default)]
    pub connect: Option<UdpEndpoint>,
    /// Where to receive.
    #[serde(default)]
    pub bind: Option<UdpEndpoint>,
    /// How datagrams are read.
    #[serde(default)]
    pub format: UdpFormat,
}

/// One end of a flow of datagrams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UdpEndpoint {
    /// Name or address; empty is loopback, or any address to bind.
    pub host: String,
    /// Port; 0 to bind is any free one.
    pub port: u16,
}

/// How datagrams are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UdpFormat {
    /// As they are.
    #[default]
    Raw,
    /// Linux netconsole's extended format.
    Netconsole,
}

/// A unix stream socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnixSpec {
    /// Connect or bind.
    pub mode: Endpoint,
    /// Absolute path.
    pub path: PathBuf,
    /// Permissions of the socket; with bind.
    #[serde(default)]
    pub socket_mode: Option<u32>,
    /// Who the socket is given to, by name or number; with bind.
    #[serde(default)]
    pub group: Option<String>,
}

/// A copy of a console's bytes in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// Absolute path.
    pub file: PathBuf,
    /// Keep what it holds, or empty it at each start.
    #[serde(default)]
    pub append: Switch,
}

/// What libvirt's XML says of a device beside its host interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibvirtSpec {
    /// The domain.
    pub domain: String,
    /// `<os><type>`; empty is hvm.
    #[serde(default)]
    pub os_type: String,
    /// Place among the character devices of the domain.
    #[serde(default)]
    pub index: u32,
    /// The element with its guest's side only, in normal form.
    pub guest: String,
}

/// How much output is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalSpec {
    /// Bytes on disk, index included.
    #[serde(default)]
    pub retention_bytes: Option<u64>,
}

impl JournalSpec {
    /// Bytes on disk, index included.
    pub fn retention_bytes(&self) -> u64 {
        self.retention_bytes.unwrap_or(limits::RETENTION_BYTES_DEFAULT)
    }
}

/// Who may send input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Exclusive or shared.
    #[serde(default)]
    pub sharing: Sharing,
}

/// How writers share a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// One at a time.
    #[default]
    Exclusive,
    /// Those that ask for it together.
    Shared,
}

/// How a lost link is opened again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconnectSpec {
    /// First delay.
    #[serde(default)]
    pub min_delay: Option<Duration>,
    /// Longest delay.
    #[serde(default)]
    pub max_delay: Option<Duration>,
    /// Uptime after which the first delay is used again.
    #[serde(default)]
    pub reset_after: Option<Duration>,
    /// When to try again.
    #[serde(default)]
    pub policy: ReconnectPolicy,
}

/// When a lost link is opened again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconnectPolicy {
    /// With delays that grow, and jitter.
    #[default]
    Backoff,
    /// Each time after the first delay.
    Interval,
    /// Only when somebody starts the device.
    Never,
}

impl ReconnectSpec {
    /// First delay.
    pub fn min_delay(&self) -> Duration {
        self.min_delay.unwrap_or(limits::RECONNECT_MIN_DEFAULT)
    }

    /// Longest delay: never below the first.
    pub fn max_delay(&self) -> Duration {
        self.max_delay.unwrap_or(limits::RECONNECT_MAX_DEFAULT).max(self.min_delay())
    }

    /// Uptime after which the first delay is used again.
    pub fn reset_after(&self) -> Duration {
        self.reset_after.unwrap_or(limits::RECONNECT_RESET_DEFAULT)
    }
}
