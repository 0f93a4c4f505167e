//! What is seen of a device. The line publishes [`LinkStatus`] when something
//! happens and counts in [`Counters`] as bytes pass; [`DeviceStatus`] is both,
//! with the journal's place, read at one moment.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use super::serial::{LineSettings, ModemLines, WindowSize};

/// The host interface, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Stopped by its spec.
    Stopped,
    /// Being opened.
    Opening,
    /// Waiting for a far side.
    Listening,
    /// Open.
    Connected,
    /// Lost or not to be opened; tried again.
    Backoff,
    /// The server failed inside.
    Failed,
}

impl State {
    /// All states, for parsers.
    pub const ALL: [Self; 6] = [
        Self::Stopped,
        Self::Opening,
        Self::Listening,
        Self::Connected,
        Self::Backoff,
        Self::Failed,
    ];

    /// The word, as in filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Opening => "OPENING",
            Self::Listening => "LISTENING",
            Self::Connected => "CONNECTED",
            Self::Backoff => "BACKOFF",
            Self::Failed => "FAILED",
        }
    }
}

/// Why a link was last lost or could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// For people.
    pub message: String,
    /// When.
    pub time: SystemTime,
}

/// Somebody on the other end of a host interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Address and port, or the credentials of a process.
    pub address: String,
    /// What else is known of it.
    pub description: String,
    /// When it connected, or was first heard.
    pub connect_time: SystemTime,
    /// Bytes received from it.
    pub output_bytes: u64,
    /// Datagrams received from it.
    pub record_count: u64,
    /// Records of it that are known to be lost.
    pub lost_count: u64,
}

impl Peer {
    /// Somebody who is here now and has said nothing.
    pub fn new(address: String) -> Self {
        Self {
            address,
            description: String::new(),
            connect_time: SystemTime::now(),
            output_bytes: 0,
            record_count: 0,
            lost_count: 0,
        }
    }
}

/// What an open link knows of its other end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Who is there.
    pub peers: Vec<Peer>,
    /// How the line is set.
    pub line_settings: Option<LineSettings>,
    /// The modem lines.
    pub modem_lines: Option<ModemLines>,
    /// The size of the terminal.
    pub window: Option<WindowSize>,
    /// Characters that came damaged since the link was opened.
    pub receive_errors: u64,
}

/// The part of the status that changes with events; published by the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// In one word.
    pub state: State,
    /// Since when `state` has been connected, or not.
    pub connected_changed: SystemTime,
    /// Why a link was last lost.
    pub last_error: Option<LastError>,
    /// When the next attempt is made.
    pub retry_time: Option<SystemTime>,
    /// What the link knows of its other end.
    pub facts: Facts,
    /// Why a far side was last turned away.
    pub last_refusal: Option<String>,
    /// Whether the copy of `spec.log` is behind.
    pub log_degraded: ConditionStatus,
    /// Where a listening socket listens.
    pub listen_address: Option<String>,
    /// The slave of a pty.
    pub pty_path: Option<String>,
    /// Attachments open now.
    pub attachment_count: u32,
    /// Those who may write.
    pub writers: Vec<String>,
}

impl LinkStatus {
    /// A device of which nothing is known yet.
    pub fn new(state: State) -> Self {
        Self {
            state,
            connected_changed: SystemTime::now(),
            last_error: None,
            retry_time: None,
            facts: Facts::default(),
            last_refusal: None,
            log_degraded: ConditionStatus::default(),
            listen_address: None,
            pty_path: None,
            attachment_count: 0,
            writers: Vec::new(),
        }
    }
}

/// The part of the status that changes with bytes.
#[derive(Debug, Default)]
pub struct Counters {
    /// Read from the host interface.
    pub output_bytes: AtomicU64,
    /// Written to the host interface.
    pub input_bytes: AtomicU64,
    /// Taken and then dropped because the link was lost.
    pub input_dropped_bytes: AtomicU64,
    /// Links opened.
    pub links: AtomicU64,
    /// Far sides turned away.
    pub refused_peers: AtomicU64,
    /// Input that the host interface threw away.
    pub discarded_bytes: AtomicU64,
    /// Records or bytes lost before they came here.
    pub lost: AtomicU64,
    /// Breaks received.
    pub breaks: AtomicU64,
    /// Bytes missing from the copy of `spec.log`.
    pub log_lost: AtomicU64,
}

impl Counters {
    /// Adds to one of the counters.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Reads one of the counters.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Where a journal stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalStatus {
    /// The first byte held.
    pub oldest_offset: u64,
    /// The next byte's offset.
    pub next_offset: u64,
    /// On disk, index included.
    pub disk_bytes: u64,
    /// Never written and no longer in memory.
    pub lost_bytes: u64,
    /// What opening found after an unclean end.
    pub recovery: Option<String>,
    /// Whether output reaches the disk.
    pub degraded: ConditionStatus,
}

/// One fact, with its reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConditionStatus {
    /// Why it holds; absent: it does not.
    pub holds: Option<(&'static str, String)>,
    /// When that last changed.
    pub changed: Option<SystemTime>,
}

/// What is seen of a device at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStatus {
    /// What changes with events.
    pub link: LinkStatus,
    /// See [`Counters`].
    pub output_bytes: u64,
    /// See [`Counters`].
    pub input_bytes: u64,
    /// See [`Counters`].
    pub input_dropped_bytes: u64,
    /// See [`Counters`].
    pub link_count: u64,
    /// See [`Counters`].
    pub refused_peer_count: u64,
    /// See [`Counters`].
    pub discarded_bytes: u64,
    /// See [`Counters`].
    pub lost_count: u64,
    /// See [`Counters`].
    pub break_count: u64,
    /// See [`Counters`].
    pub log_lost_bytes: u64,
    /// The journal.
    pub journal: JournalStatus,
}
