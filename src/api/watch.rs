//! One WatchDevices call: the list, then what changes, resumable by revision.
//! A watch holds its place in the feed and the names it has told, nothing more.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use futures_util::{Stream, stream::try_unfold};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tonic::Status;

use super::{Api, convert, filter::Filter, status::Error};
use crate::{
    device::Device,
    fleet::{Changed, Entry, Revision},
    limits,
    name::DeviceId,
    pb::{self, watch_devices_response::Event},
};

type Response = pb::WatchDevicesResponse;

/// Serves one WatchDevices call.
pub(super) fn serve(
    api: Api,
    request: &pb::WatchDevicesRequest,
    filter: Filter,
) -> Result<impl Stream<Item = Result<Response, Status>> + Send + use<>, Error> {
    let permit = api.inner.watches.clone().try_acquire_owned().map_err(|_| {
        api.inner.metrics.watches_refused.inc();
        Error::ServerLimit { what: "watches", max: limits::WATCHES_MAX }
    })?;
    let feed = api.inner.fleet.feed();
    let moved = feed.subscribe();
    let (at, phase, resumed_at) = if request.revision.is_empty() {
        (feed.now(), Phase::List { after: None }, None)
    } else {
        let at = request.revision.parse().map_err(|_| Error::RevisionGone)?;
        feed.since(at).map_err(|_| Error::RevisionGone)?;
        (at, Phase::Follow, Some(at))
    };
    api.inner.metrics.watches.inc();
    let watching = Watching {
        api,
        filter,
        at,
        phase,
        resumed_at,
        told: HashSet::new(),
        dismissed: HashSet::new(),
        ready: VecDeque::new(),
        moved,
        _permit: permit,
    };
    Ok(try_unfold(watching, |mut watching| async move {
        let event = watching.next().await?;
        Ok(Some((event, watching)))
    }))
}

struct Watching {
    api: Api,
    filter: Filter,
    /// Everything before is told.
    at: Revision,
    phase: Phase,
    /// Where a resumed watch began: the caller may know devices that were there
    /// then, though this watch has not told them.
    resumed_at: Option<Revision>,
    /// Devices that the caller knows of.
    told: HashSet<DeviceId>,
    /// Devices that the caller was told are gone.
    dismissed: HashSet<DeviceId>,
    /// What is to be told; made into messages one by one, so that a watch that is
    /// not read holds no copies of devices.
    ready: VecDeque<Ready>,
    moved: watch::Receiver<u64>,
    _permit: OwnedSemaphorePermit,
}

/// An event that is still to be told.
struct Ready {
    event: Event,
    device: Told,
    revision: String,
}

/// What an event is about.
enum Told {
    /// A device as it is when it is told.
    Entry(Box<Entry>),
    /// A device as it was.
    Gone(Arc<Device>),
    /// No device.
    Nothing,
}

impl From<Ready> for Response {
    fn from(ready: Ready) -> Self {
        let device = match ready.device {
            Told::Entry(entry) => Some(convert::device(&entry)),
            Told::Gone(device) => Some(convert::stored(&device)),
            Told::Nothing => None,
        };
        Self { event: ready.event.into(), device, revision: ready.revision }
    }
}

enum Phase {
    List { after: Option<DeviceId> },
    Follow,
}

impl Watching {
    async fn next(&mut self) -> Result<Response, Status> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(ready.into());
            }
            self.moved.mark_unchanged();
            match &self.phase {
                Phase::List { after } => {
                    let after = after.clone();
                    self.list(after.as_ref());
                }
                Phase::Follow => {
                    self.follow()?;
                    if self.ready.is_empty() {
                        tokio::select! {
                            () = self.api.inner.stop.cancelled() => {
                                return Err(Error::Stopping.into());
                            }
                            _ = self.moved.changed() => {}
                        }
                    }
                }
            }
        }
    }

    /// Tells the next part of the list.
    fn list(&mut self, after: Option<&DeviceId>) {
        let filter = &self.filter;
        let entries = self.api.inner.fleet.list(after, limits::WATCH_BATCH, |e| filter.selects(e));
        let Some(last) = entries.last() else {
            // Devices changed while the list was told are told again from here.
            self.phase = Phase::Follow;
            let revision = self.at.to_string();
            self.ready.push_back(Ready { event: Event::Bookmark, device: Told::Nothing, revision });
            return;
        };
        self.phase = Phase::List { after: Some(last.device.id.clone()) };
        for entry in entries {
            self.told.insert(entry.device.id.clone());
            let device = Told::Entry(Box::new(entry));
            self.ready.push_back(Ready { event: Event::Added, device, revision: String::new() });
        }
    }

    /// Takes what changed since the last time.
    fn follow(&mut self) -> Result<(), Error> {
        let feed = self.api.inner.fleet.feed().clone();
        loop {
            let before = self.at;
            let (changes, at) = feed.since(before).map_err(|_| Error::RevisionGone)?;
            let complete = changes.len() < limits::WATCH_BATCH;
            for change in changes {
                self.tell(change, before);
            }
            self.at = at;
            // A caller that saw the last event of a batch has seen all of it.
            if let Some(last) = self.ready.back_mut() {
                last.revision = at.to_string();
                return Ok(());
            }
            if complete {
                return Ok(());
            }
        }
    }

    /// Whether the caller knows a device: from this watch, or from the one that
    /// this resumes, as far as that can be told.
    fn is_known(&self, id: &DeviceId, created: Option<Revision>) -> bool {
        let from_before = self.resumed_at.is_some_and(|at| {
            !created.is_some_and(|created| created.is_after(at)) && !self.dismissed.contains(id)
        });
        self.told.contains(id) || from_before
    }

    fn tell(&mut self, change: Changed, before: Revision) {
        let (event, device) = match change {
            Changed::Device { id, created } => {
                // Deleted in the meantime: its tombstone tells.
                let Ok(entry) = self.api.inner.fleet.get(&id) else { return };
                let known = self.is_known(&id, Some(created));
                match (self.filter.selects(&entry), known) {
                    (true, known) => {
                        self.told.insert(id);
                        let event = if known { Event::Modified } else { Event::Added };
                        (event, Told::Entry(Box::new(entry)))
                    }
                    (false, true) => {
                        self.dismiss(id);
                        (Event::Deleted, Told::Entry(Box::new(entry)))
                    }
                    (false, false) => return,
                }
            }
            Changed::Deleted(device) => {
                if !self.is_known(&device.id, None) {
                    return;
                }
                self.dismiss(device.id.clone());
                (Event::Deleted, Told::Gone(device))
            }
        };
        self.ready.push_back(Ready { event, device, revision: before.to_string() });
    }
}

impl Watching {
    fn dismiss(&mut self, id: DeviceId) {
        self.told.remove(&id);
        if self.resumed_at.is_some() {
            self.dismissed.insert(id);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.api.inner.metrics.watches.dec();
    }
}
