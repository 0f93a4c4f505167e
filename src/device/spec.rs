//! What the owner of a device wants. `None` and `default()` mean "not said": the
//! defaults are applied where a value is used, so that a better default reaches
//! devices that exist already.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

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
    /// A new pseudo terminal.
    Pty {},
    /// A raw TCP connection.
    Tcp(TcpSpec),
    /// A unix stream socket.
    Unix(UnixSpec),
}

impl HostInterface {
    /// The name of the type, in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pty {} => "pty",
            Self::Tcp(_) => "tcp",
            Self::Unix(_) => "unix",
        }
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

/// A raw TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpSpec {
    /// Connect or bind.
    pub mode: Endpoint,
    /// Name or address.
    pub host: String,
    /// Port; 0 with bind is any free one.
    pub port: u16,
}

/// A unix stream socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnixSpec {
    /// Connect or bind.
    pub mode: Endpoint,
    /// Absolute path.
    pub path: PathBuf,
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
