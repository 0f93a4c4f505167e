//! One WatchDevices call: the list, then what changes, resumable by revision.
//! A watch holds its place in the feed and the names it has told, nothing more.

use std::collections::{HashSet, VecDeque};

use futures_util::{Stream, stream::try_unfold};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tonic::Status;

use super::{Api, convert, filter::Filter, status::Error};
use crate::{
    fleet::{Changed, Revision},
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
    ready: VecDeque<Response>,
    moved: watch::Receiver<u64>,
    _permit: OwnedSemaphorePermit,
}

enum Phase {
    List { after: Option<DeviceId> },
    Follow,
}

impl Watching {
    async fn next(&mut self) -> Result<Response, Status> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
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
            self.ready.push_back(Response {
                event: Event::Bookmark.into(),
                device: None,
                revision: self.at.to_string(),
            });
            return;
        };
        self.phase = Phase::List { after: Some(last.device.id.clone()) };
        for entry in entries {
            self.told.insert(entry.device.id.clone());
            let device = Some(convert::device(&entry));
            self.ready.push_back(Response {
                event: Event::Added.into(),
                device,
                revision: String::new(),
            });
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
                        (event, convert::device(&entry))
                    }
                    (false, true) => {
                        self.dismiss(id);
                        (Event::Deleted, convert::device(&entry))
                    }
                    (false, false) => return,
                }
            }
            Changed::Deleted(device) => {
                if !self.is_known(&device.id, None) {
                    return;
                }
                self.dismiss(device.id.clone());
                (Event::Deleted, convert::stored(&device))
            }
        };
        self.ready.push_back(Response {
            event: event.into(),
            device: Some(device),
            revision: before.to_string(),
        });
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
