//! The feed: which devices changed since when, for watches.
//!
//! Each device stands in it once, at its latest change, so the feed's size is
//! that of the fleet however much happens, and a watch costs its position. A
//! watch that is slow skips states in between and never the last.
//!
//! Revisions are of this run of the server: after a restart a watch lists again.
//! Bound: `limits::TOMBSTONES_MAX` deletions are remembered.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{device::Device, limits, name::DeviceId};

/// A place in the feed of one run of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    run: u64,
    at: u64,
}

impl Revision {
    /// Whether this place comes after another of the same run.
    pub fn is_after(self, other: Self) -> bool {
        self.at > other.at
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The device, or what is seen of it.
    Device {
        /// Which.
        id: DeviceId,
        /// Where in the feed it was made.
        created: Revision,
    },
    /// The device is gone.
    Deleted(Arc<Device>),
}

/// The revision is of another run, or too much was deleted since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the revision is no longer known")]
pub struct Gone;

/// The feed.
#[derive(Debug)]
pub struct Feed {
    run: u64,
    inner: Mutex<Inner>,
    moved: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    at: u64,
    by_change: BTreeMap<u64, DeviceId>,
    /// Latest change and creation.
    devices: HashMap<DeviceId, (u64, u64)>,
    tombstones: VecDeque<(u64, Arc<Device>)>,
    /// Deletions up to here are forgotten.
    forgotten: u64,
}

impl Feed {
    pub(super) fn new(run: u64) -> Self {
        Self { run, inner: Mutex::default(), moved: watch::Sender::new(0) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device was made.
    pub(super) fn add(&self, id: &DeviceId) {
        let mut inner = self.inner();
        inner.at += 1;
        let at = inner.at;
        inner.devices.insert(id.clone(), (at, at));
        inner.by_change.insert(at, id.clone());
        self.announce(inner);
    }

    /// A device, or what is seen of it, changed.
    pub(super) fn touch(&self, id: &DeviceId) {
        let mut inner = self.inner();
        let at = inner.at + 1;
        let Some((latest, _)) = inner.devices.get_mut(id) else {
            return;
        };
        let before = std::mem::replace(latest, at);
        inner.at = at;
        inner.by_change.remove(&before);
        inner.by_change.insert(at, id.clone());
        self.announce(inner);
    }

    /// A device was deleted.
    pub(super) fn remove(&self, device: Arc<Device>) {
        let mut inner = self.inner();
        inner.at += 1;
        let at = inner.at;
        if let Some((latest, _)) = inner.devices.remove(&device.id) {
            inner.by_change.remove(&latest);
        }
        inner.tombstones.push_back((at, device));
        if inner.tombstones.len() > limits::TOMBSTONES_MAX
            && let Some((at, _)) = inner.tombstones.pop_front()
        {
            inner.forgotten = at;
        }
        self.announce(inner);
    }

    fn announce(&self, inner: MutexGuard<'_, Inner>) {
        let at = inner.at;
        drop(inner);
        self.moved.send_if_modified(|seen| {
            let grown = at > *seen;
            *seen = at.max(*seen);
            grown
        });
    }

    /// Where the feed is now.
    pub fn now(&self) -> Revision {
        Revision { run: self.run, at: self.inner().at }
    }

    /// Tells when there is something new.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// The next changes after `from`, oldest first, and where that leads.
    pub fn since(&self, from: Revision) -> Result<(Vec<Changed>, Revision), Gone> {
        let inner = self.inner();
        if from.run != self.run || from.at < inner.forgotten || from.at > inner.at {
            return Err(Gone);
        }
        let devices = inner.by_change.range(from.at + 1..).map(|(at, id)| {
            let created = inner.devices.get(id).map_or(0, |(_, created)| *created);
            let created = Revision { run: self.run, at: created };
            (*at, Changed::Device { id: id.clone(), created })
        });
        let first = inner.tombstones.partition_point(|(at, _)| *at <= from.at);
        let deleted = inner.tombstones.range(first..);
        let deleted = deleted.map(|(at, device)| (*at, Changed::Deleted(device.clone())));
        let mut changes: Vec<(u64, Changed)> =
            devices.take(limits::WATCH_BATCH).chain(deleted.take(limits::WATCH_BATCH)).collect();
        changes.sort_unstable_by_key(|(at, _)| *at);
        changes.truncate(limits::WATCH_BATCH);
        let complete = changes.len() < limits::WATCH_BATCH;
        let at = if complete { inner.at } else { changes.last().map_or(inner.at, |(at, _)| *at) };
        let changes = changes.into_iter().map(|(_, change)| change).collect();
        Ok((changes, Revision { run: self.run, at }))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.run, self.at)
    }
}

impl FromStr for Revision {
    type Err = Gone;

    fn from_str(text: &str) -> Result<Self, Gone> {
        let (run, at) = text.split_once('.').ok_or(Gone)?;
        let number = |text| u64::from_str_radix(text, 16).map_err(|_| Gone);
        Ok(Self { run: number(run)?, at: number(at)? })
    }
}
