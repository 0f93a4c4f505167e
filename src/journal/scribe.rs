//! The scribes: a few threads that write journals to disk, so that neither the
//! runtime's workers nor a line ever wait in `write(2)`. Each journal belongs to
//! one scribe.
//!
//! While a scribe writes one piece, the next ones gather: a busy disk gets
//! larger writes by itself. Beside each scribe a watch wakes up only while there
//! is work; when one write takes longer than `limits::DISK_STALL` it lets the
//! waiting journals go on from memory.
//!
//! Bounds: a journal stands in the queue at most once for writing and once for
//! closing or removing; `limits::OPEN_SEGMENTS_MAX` journals stay open.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Instant, SystemTime},
};

use tokio::sync::oneshot;

use super::{micros, shared::SharedRef};
use crate::limits;

/// Something for a scribe to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Write what is not written.
    Write(SharedRef),
    /// Free the journal's memory when it has been quiet.
    Settle(SharedRef),
    /// Write the rest and mark an orderly end.
    Close(SharedRef),
    /// Remove everything.
    Remove(SharedRef, oneshot::Sender<io::Result<Option<PathBuf>>>),
    /// End, after everything before.
    Stop,
}

impl Work {
    /// The journal that it is about.
    fn journal(&self) -> Option<&SharedRef> {
        match self {
            Self::Write(shared) | Self::Settle(shared) | Self::Close(shared) => Some(shared),
            Self::Remove(shared, _) => Some(shared),
            Self::Stop => None,
        }
    }
}

/// What a scribe has to do.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    watch: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Each with when it came.
    items: VecDeque<(Instant, Work)>,
    /// What the scribe is at, and since when.
    busy: Option<(SharedRef, Instant)>,
    watching: bool,
    stopped: bool,
}

impl Queue {
    pub(super) fn push(&self, work: Work) {
        let mut state = self.state();
        state.items.push_back((Instant::now(), work));
        let wakes_watch = !state.watching;
        state.watching = true;
        drop(state);
        self.work.notify_one();
        if wakes_watch {
            self.watch.notify_one();
        }
    }

    /// The scribe turns to a journal by itself.
    fn turn_to(&self, shared: &SharedRef) {
        let mut state = self.state();
        state.busy = Some((shared.clone(), Instant::now()));
        if !state.watching {
            state.watching = true;
            self.watch.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work, but only until `until`.
    fn next(&self, until: Option<Instant>) -> Option<Work> {
        let mut state = self.state();
        state.busy = None;
        loop {
            if let Some((_, work)) = state.items.pop_front() {
                state.busy = work.journal().map(|shared| (shared.clone(), Instant::now()));
                return Some(work);
            }
            state = match until {
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Starts a scribe and its watch.
pub(super) fn spawn(queue: Arc<Queue>, at: usize) -> io::Result<[JoinHandle<()>; 2]> {
    let scribe = Scribe {
        queue: queue.clone(),
        open: BTreeMap::new(),
        opened: 0,
        unsettled: Vec::new(),
        failed: Vec::new(),
        scratch: Vec::new(),
    };
    let scribe = thread::Builder::new().name(format!("scribe-{at}")).spawn(move || scribe.run())?;
    let watch = thread::Builder::new().name(format!("watch-{at}")).spawn(move || watch(&queue))?;
    Ok([scribe, watch])
}

struct Scribe {
    queue: Arc<Queue>,
    /// Journals with open files, by when they were opened.
    open: BTreeMap<u64, SharedRef>,
    opened: u64,
    /// Journals whose tails hold memory.
    unsettled: Vec<SharedRef>,
    /// Journals whose last write failed.
    failed: Vec<SharedRef>,
    scratch: Vec<u8>,
}

impl Scribe {
    fn run(mut self) {
        let mut look = None;
        loop {
            let work = self.queue.next(look);
            match work {
                Some(Work::Write(shared)) => self.write(shared),
                Some(Work::Settle(shared)) => self.remember_unsettled(shared),
                Some(Work::Close(shared)) => self.close(&shared),
                Some(Work::Remove(shared, done)) => {
                    self.forget(&shared);
                    // Nobody waits any more if the server is stopping.
                    done.send(lock(&shared.disk).remove()).ok();
                }
                Some(Work::Stop) => break,
                None => {}
            }
            let now = Instant::now();
            if look.is_some_and(|at| now >= at) {
                self.look_after(now);
                look = None;
            }
            if look.is_none() && !(self.unsettled.is_empty() && self.failed.is_empty()) {
                look = Some(now + limits::DISK_RETRY);
            }
        }
        let mut state = self.queue.state();
        state.stopped = true;
        state.busy = None;
        self.queue.watch.notify_one();
    }

    /// One turn for one journal; the rest of it queues again.
    fn write(&mut self, shared: SharedRef) {
        // From here on a new append must queue it again.
        shared.queued.store(false, Ordering::Release);
        match self.write_turn(&shared) {
            Ok(true) => {
                if !shared.queued.swap(true, Ordering::AcqRel) {
                    self.queue.push(Work::Write(shared.clone()));
                }
            }
            Ok(false) => {}
            Err(error) => {
                shared.metrics.journal_errors.inc();
                self.fail(&shared, &error);
            }
        }
        self.remember_unsettled(shared);
    }

    fn remember_unsettled(&mut self, shared: SharedRef) {
        if !self.unsettled.iter().any(|other| Arc::ptr_eq(other, &shared)) {
            self.unsettled.push(shared);
        }
    }

    /// Writes up to `limits::SCRIBE_TURN_BYTES`; true: there is more.
    fn write_turn(&mut self, shared: &SharedRef) -> io::Result<bool> {
        let retention = shared.retention();
        // Never more than a segment at once, so that retention holds for small ones too.
        let share =
            (retention / limits::SEGMENTS_PER_RETENTION).min(limits::SCRIBE_TURN_BYTES as u64);
        let unwritten = shared.core().tail.take_unwritten(share);
        let Some(unwritten) = unwritten else {
            return Ok(false);
        };
        let mut disk = lock(&shared.disk);
        let was_open = disk.is_open();
        let segment = disk.append(&unwritten, retention, &mut self.scratch)?;
        let bytes: u64 = unwritten.frames.iter().map(|frame| frame.len() as u64).sum();
        shared.metrics.journal_written_bytes.inc_by(bytes);
        let passed = shared.written(unwritten.to, segment);
        if let Err(error) = disk.delete(&passed) {
            // They are segments again when the server next starts.
            shared.metrics.journal_errors.inc();
            tracing::warn!(journal = %shared.dir().display(), %error, "old output could not be deleted");
        }
        let more = shared.core().tail.unwritten() > 0;
        if !more && let Err(error) = disk.clear_ahead() {
            tracing::warn!(journal = %shared.dir().display(), %error, "cannot clear a note");
        }
        drop(disk);
        if !was_open {
            self.remember(shared);
        }
        Ok(more)
    }

    fn fail(&mut self, shared: &SharedRef, error: &io::Error) {
        if let Err(error) = lock(&shared.disk).note_ahead() {
            tracing::warn!(journal = %shared.dir().display(), %error, "cannot note that output runs ahead of the disk");
        }
        let kind = error.kind();
        let reason = if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            "DiskFull"
        } else if kind == io::ErrorKind::ReadOnlyFilesystem {
            "DiskReadOnly"
        } else {
            "DiskFailed"
        };
        shared.degrade(reason, error.to_string());
        if !self.failed.iter().any(|other| Arc::ptr_eq(other, shared)) {
            self.failed.push(shared.clone());
        }
        // Until the next look, appends do not try the disk again.
        shared.queued.store(true, Ordering::Release);
    }

    fn close(&mut self, shared: &SharedRef) {
        let result = loop {
            match self.write_turn(shared) {
                Ok(true) => {}
                Ok(false) => break lock(&shared.disk).close(micros(SystemTime::now())),
                Err(error) => break Err(error),
            }
        };
        if let Err(error) = result {
            shared.metrics.journal_errors.inc();
            tracing::error!(journal = %shared.dir().display(), %error, "journal could not be closed in order");
        }
        self.forget(shared);
    }

    /// Tries failed journals again and frees the memory of quiet ones.
    fn look_after(&mut self, now: Instant) {
        for shared in std::mem::take(&mut self.failed) {
            // Outside of the queue, but not out of the watch's sight.
            self.queue.turn_to(&shared);
            self.write(shared);
        }
        self.unsettled.retain(|shared| !shared.settle(now));
    }

    /// Keeps at most `limits::OPEN_SEGMENTS_MAX` journals open.
    fn remember(&mut self, shared: &SharedRef) {
        self.open.retain(|_, other| !Arc::ptr_eq(other, shared));
        self.opened += 1;
        self.open.insert(self.opened, shared.clone());
        if self.open.len() > limits::OPEN_SEGMENTS_MAX
            && let Some((_, oldest)) = self.open.pop_first()
        {
            lock(&oldest.disk).release();
        }
    }

    fn forget(&mut self, shared: &SharedRef) {
        let other = |other: &SharedRef| !Arc::ptr_eq(other, shared);
        self.open.retain(|_, open| other(open));
        self.unsettled.retain(other);
        self.failed.retain(other);
    }
}

/// Lets journals go on from memory when the disk takes too long, be it for them
/// or for those before them in the queue.
fn watch(queue: &Queue) {
    let mut state = queue.state();
    loop {
        if state.stopped {
            return;
        }
        if state.busy.is_none() && state.items.is_empty() {
            state.watching = false;
        }
        if !state.watching {
            state = queue.watch.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let now = Instant::now();
        let stalled = |since: Instant| now.duration_since(since) >= limits::DISK_STALL;
        let at_work =
            state.busy.iter().filter(|(_, since)| stalled(*since)).map(|(shared, _)| shared);
        let waiting = state.items.iter().filter(|(since, _)| stalled(*since));
        let waiting = waiting.filter_map(|(_, work)| work.journal());
        let late: Vec<SharedRef> = at_work.chain(waiting).cloned().collect();
        if !late.is_empty() {
            drop(state);
            for shared in late {
                shared.metrics.journal_stalls.inc();
                let message = format!("the disk takes longer than {:?}", limits::DISK_STALL);
                shared.degrade("DiskStalled", message);
            }
            state = queue.state();
        }
        let waited = queue.watch.wait_timeout(state, limits::DISK_STALL);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
