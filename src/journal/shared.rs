//! What the line, the scribe and the cursors of one journal share: the tail, the
//! list of segments and whether the disk keeps up. Behind one mutex that is
//! never held over I/O or an await; critical sections are a few pointer moves.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

use tokio::sync::watch;

use super::{
    cursor::Item,
    frame::{Frame, Framer, Micros},
    recover::Recovered,
    reread::Reread,
    scribe::{Queue, Work},
    segment::{Disk, Segment},
    tail::Tail,
};
use crate::{
    device::{ConditionStatus, JournalStatus},
    limits,
    telemetry::Metrics,
};

/// Memory that all tails share.
#[derive(Debug, Default)]
pub(super) struct TailBudget(AtomicUsize);

/// One journal; see the module doc.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) framer: Framer,
    pub(super) metrics: Arc<Metrics>,
    dir: PathBuf,
    core: Mutex<Core>,
    /// The writing end of the disk: locked by the scribe only, over its I/O.
    pub(super) disk: Mutex<Disk>,
    published: watch::Sender<u64>,
    retention: AtomicU64,
    /// Waits in the scribe's queue, so that it is there once.
    pub(super) queued: AtomicBool,
    queue: Arc<Queue>,
    budget: Arc<TailBudget>,
}

/// A shared journal.
pub(super) type SharedRef = Arc<Shared>;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) tail: Tail,
    pub(super) segments: VecDeque<Segment>,
    degraded: Option<(&'static str, String)>,
    degraded_changed: Option<SystemTime>,
    lost_bytes: u64,
    recovery: Option<String>,
    /// Where the times of an earlier run ended.
    pub(super) recovered_time: Micros,
    last_append: Instant,
    reread: Reread,
    /// What this journal has booked of the budget.
    booked: usize,
}

impl Shared {
    pub(super) fn new(
        dir: PathBuf,
        framer: Framer,
        metrics: Arc<Metrics>,
        recovered: Recovered,
        retention: u64,
        queue: Arc<Queue>,
        budget: Arc<TailBudget>,
    ) -> SharedRef {
        let disk = Disk::new(dir.clone(), recovered.segments.last().copied());
        Arc::new(Self {
            framer,
            metrics,
            dir,
            core: Mutex::new(Core {
                tail: Tail::new(framer, recovered.next),
                segments: recovered.segments.into(),
                degraded: None,
                degraded_changed: Some(SystemTime::now()),
                lost_bytes: 0,
                recovery: recovered.report,
                recovered_time: recovered.last_time,
                last_append: Instant::now(),
                reread: Reread::default(),
                booked: 0,
            }),
            disk: Mutex::new(disk),
            published: watch::Sender::new(recovered.next),
            retention: AtomicU64::new(retention),
            queued: AtomicBool::new(false),
            queue,
            budget,
        })
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        // Nothing in a critical section leaves the core half changed.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn retention(&self) -> u64 {
        self.retention.load(Ordering::Relaxed)
    }

    pub(super) fn set_retention(&self, bytes: u64) {
        self.retention.store(bytes, Ordering::Relaxed);
    }

    /// Tells how far cursors may read.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Gives the scribe something to do.
    pub(super) fn schedule(self: Arc<Self>, work: Work) {
        let queue = self.queue.clone();
        queue.push(work);
    }

    /// Takes in frames and has them written.
    pub(super) fn append(self: &Arc<Self>, frames: impl IntoIterator<Item = Frame>) {
        let mut core = self.core();
        for frame in frames {
            core.tail.push(frame);
        }
        self.trim(&mut core, limits::TAIL_BYTES_MAX);
        self.appended(core);
    }

    /// What comes before `to`, `lost` offsets, will never be appended. Not
    /// counted in `lost_bytes`: that is what this journal failed to write.
    pub(super) fn lose(self: &Arc<Self>, to: u64, lost: u64, time: Micros) {
        let mut core = self.core();
        if core.tail.skip(to, time) {
            self.metrics.journal_recorded_gaps.inc();
        }
        self.metrics.journal_recorded_gap_bytes.inc_by(lost);
        self.appended(core);
    }

    /// Has what is new in the tail written.
    fn appended(self: &Arc<Self>, mut core: MutexGuard<'_, Core>) {
        core.last_append = Instant::now();
        if core.degraded.is_some() {
            let next = core.tail.next();
            core.tail.publish(next);
            self.announce(core);
        } else {
            drop(core);
        }
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.clone().schedule(Work::Write(self.clone()));
        }
    }

    /// Whether the line may read on without waiting for the disk.
    pub(super) fn has_room(&self) -> bool {
        let core = self.core();
        core.degraded.is_some() || core.tail.unwritten_cost() < limits::UNWRITTEN_BYTES_MAX
    }

    /// Everything up to `to` is on disk, the newest of it in `segment`.
    /// Returns the segments that retention has passed.
    pub(super) fn written(&self, to: u64, segment: Option<Segment>) -> Vec<Segment> {
        let mut core = self.core();
        if let Some(segment) = segment {
            match core.segments.back_mut() {
                // Output goes on elsewhere than an empty segment's name says:
                // its files are gone.
                Some(last) if last.start == segment.start || last.len == 0 => *last = segment,
                _ => core.segments.push_back(segment),
            }
        }
        let mut total: u64 = core.segments.iter().map(Segment::retained_bytes).sum();
        let retention = self.retention();
        let mut passed = Vec::new();
        while total > retention && core.segments.len() > 1 {
            if let Some(oldest) = core.segments.pop_front() {
                total -= oldest.retained_bytes();
                self.metrics.journal_retired_bytes.inc_by(oldest.len);
                passed.push(oldest);
            }
        }
        core.tail.mark_written(to);
        if core.tail.unwritten() == 0 && core.degraded.take().is_some() {
            core.degraded_changed = Some(SystemTime::now());
            tracing::info!(journal = %self.dir.display(), "journal is written to disk again");
        }
        self.trim(&mut core, limits::TAIL_BYTES_MAX);
        self.announce(core);
        passed
    }

    /// Lets output go on from memory because the disk does not keep up.
    pub(super) fn degrade(&self, reason: &'static str, message: String) {
        let mut core = self.core();
        if core.tail.unwritten() == 0 {
            return;
        }
        if core.degraded.is_none() {
            core.degraded_changed = Some(SystemTime::now());
            tracing::warn!(
                journal = %self.dir.display(),
                reason,
                error = message,
                "output does not reach the disk and is served from memory"
            );
        }
        core.degraded = Some((reason, message));
        let next = core.tail.next();
        core.tail.publish(next);
        self.announce(core);
    }

    /// Frees the memory of a device that has been quiet. False: ask again.
    pub(super) fn settle(&self, now: Instant) -> bool {
        let mut core = self.core();
        let reread_settled = core.reread.settle(now);
        let quiet = now.duration_since(core.last_append) >= limits::TAIL_QUIET;
        let settled = quiet && core.tail.unwritten() == 0;
        if settled {
            core.tail.trim(0);
        }
        self.book(&mut core);
        settled && reread_settled
    }

    /// What another cursor has read back from disk.
    pub(super) fn reread(&self, offset: u64) -> Option<Item> {
        let item = self.core().reread.get(offset)?;
        Some(match item {
            Item::Frame(frame) if frame.offset() != offset => {
                Item::Frame(frame.part(self.framer, offset, frame.end()))
            }
            Item::Gap { to, .. } => Item::Gap { from: offset, to },
            whole @ Item::Frame(_) => whole,
        })
    }

    /// Keeps what was read back from disk for other cursors, if there is memory.
    pub(super) fn keep_reread(self: &Arc<Self>, items: impl IntoIterator<Item = Item>) {
        let mut core = self.core();
        if self.budget.0.load(Ordering::Relaxed) >= limits::TAILS_BYTES_MAX {
            return;
        }
        let first = core.reread.cost() == 0;
        for item in items {
            core.reread.put(item);
        }
        self.book(&mut core);
        drop(core);
        if first {
            self.clone().schedule(Work::Settle(self.clone()));
        }
    }

    pub(super) fn status(&self) -> JournalStatus {
        let core = self.core();
        JournalStatus {
            oldest_offset: core.oldest(),
            next_offset: core.tail.published(),
            disk_bytes: core.segments.iter().map(Segment::disk_bytes).sum(),
            lost_bytes: core.lost_bytes,
            recovery: core.recovery.clone(),
            degraded: ConditionStatus {
                holds: core.degraded.clone(),
                changed: core.degraded_changed,
            },
        }
    }

    fn trim(&self, core: &mut Core, limit: usize) {
        let others = self.budget.0.load(Ordering::Relaxed).saturating_sub(core.booked);
        let limit = if others + core.tail.cost() > limits::TAILS_BYTES_MAX {
            limits::TAIL_BYTES_MIN
        } else {
            limit
        };
        let lost = core.tail.trim(limit);
        if lost > 0 {
            core.lost_bytes += lost;
            self.metrics.journal_lost_bytes.inc_by(lost);
        }
        self.book(core);
    }

    fn book(&self, core: &mut Core) {
        let cost = core.tail.cost() + core.reread.cost();
        if cost >= core.booked {
            self.budget.0.fetch_add(cost - core.booked, Ordering::Relaxed);
        } else {
            self.budget.0.fetch_sub(core.booked - cost, Ordering::Relaxed);
        }
        let (cost_gauge, booked_gauge) =
            (i64::try_from(cost).unwrap_or(0), i64::try_from(core.booked).unwrap_or(0));
        self.metrics.tail_bytes.inc_by(cost_gauge - booked_gauge);
        core.booked = cost;
    }

    /// Wakes the cursors, outside the lock.
    fn announce(&self, core: MutexGuard<'_, Core>) {
        let published = core.tail.published();
        drop(core);
        self.published.send_if_modified(|seen| {
            let grown = published > *seen;
            *seen = published.max(*seen);
            grown
        });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let core = self.core.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.0.fetch_sub(core.booked, Ordering::Relaxed);
        self.metrics.tail_bytes.dec_by(i64::try_from(core.booked).unwrap_or(0));
    }
}

impl Core {
    /// The first byte that can be read.
    pub(super) fn oldest(&self) -> u64 {
        let first = self.tail.first();
        self.segments.iter().find(|segment| segment.len > 0).map_or(first, |s| s.start.min(first))
    }

    /// The segment that holds `offset`.
    pub(super) fn segment_of(&self, offset: u64) -> Option<Segment> {
        let after = self.segments.partition_point(|segment| segment.start <= offset);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (offset < segment.end()).then_some(*segment)
    }

    /// The first offset after `offset` that is held.
    pub(super) fn next_held(&self, offset: u64) -> u64 {
        let later = self.segments.iter().find(|s| s.start > offset && s.len > 0);
        let first = self.tail.first();
        later.map_or(first, |segment| segment.start.min(first))
    }
}
