//! The device as a resource: what its owner wants ([`DeviceSpec`]) and what is
//! seen of it ([`DeviceStatus`]). Pure data: no clock, no sockets, no generated
//! code, so that the store, the line and the API can change apart from each
//! other.

mod serial;
mod spec;
mod status;
mod validate;

use std::{collections::BTreeMap, fmt, time::SystemTime};

use serde::{Deserialize, Serialize};

pub use self::{
    serial::{DataBits, FlowControl, LineSettings, ModemLines, Parity, StopBits, WindowSize},
    spec::{
        DevKind, DevSpec, DeviceSpec, Endpoint, FileSpec, HostInterface, InputSpec, JournalSpec,
        LibvirtSpec, LogSpec, PipeSpec, Protocol, PtySpec, ReconnectPolicy, ReconnectSpec,
        RunState, Sharing, SinglePipe, StdioSpec, Switch, TcpSpec, UdpEndpoint, UdpFormat, UdpSpec,
        UnixSpec,
    },
    status::{
        ConditionStatus, Counters, DeviceStatus, Facts, JournalStatus, LastError, LinkStatus, Peer,
        State,
    },
    validate::{Fault, check_labels, check_line_settings, check_window, validate},
};
use crate::name::DeviceId;

/// Labels of a device.
pub type Labels = BTreeMap<String, String>;

/// Distinguishes a device from an earlier one of the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uid(pub u64);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A device as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name's last part.
    pub id: DeviceId,
    /// Which device of that name.
    pub uid: Uid,
    /// What to select it by.
    pub labels: Labels,
    /// What its owner wants.
    pub spec: DeviceSpec,
    /// When it was made.
    pub create_time: SystemTime,
    /// When `labels` or `spec` last changed.
    pub update_time: SystemTime,
    /// The store's revision of that change; the etag is made of it.
    pub revision: u64,
    /// The request that made it, so that the same request may come again.
    pub create_request_id: String,
}

impl Device {
    /// Changes whenever labels or spec change, and only then. Revisions are
    /// never used twice by a store, so this also tells a device from an earlier
    /// one of the same name.
    pub fn etag(&self) -> String {
        format!("{:x}", self.revision)
    }
}
