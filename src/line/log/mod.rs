//! The copy of a console in a file (`spec.log`): of its output, or, where there
//! is none, of its input.
//!
//! ```text
//!  journal ── Cursor ──┐
//!                      ├─▶ Follower (a task) ──▶ LogFile
//!  input ── InputCopy ─┘
//! ```
//!
//! A copy never holds up a device. Output waits in the journal, whose retention
//! is its bound; input waits in `limits::LOG_INPUT_BYTES_MAX` of memory, and for
//! that the writing of input waits while the disk merely is slow, never while it
//! fails or hangs. What is kept nowhere any more is missing from the file, which
//! has the console's bytes and nothing else: it is counted (`log_lost_bytes`, in
//! status and metric) and logged.
//!
//! A follower lives from the start of a device to its stop, through links that
//! are lost, and is exchanged when the spec's log changes. Where one ends the
//! next begins, so the file has every byte once.

mod follower;
mod input;

use std::sync::Arc;

use tokio::{sync::watch, task::JoinHandle, time::Instant};

use self::follower::{Follower, Source};
pub(super) use self::input::InputCopy;
use super::{LineShared, Surroundings};
use crate::{
    backend::{Begin, LogFile},
    device::{ConditionStatus, Device, DeviceSpec, LinkStatus, LogSpec},
    journal, limits,
};

/// Which bytes of a console are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Output,
    Input,
}

/// A copy that is made now.
#[derive(Debug)]
pub(super) struct Log {
    spec: LogSpec,
    direction: Direction,
    input: Option<Arc<InputCopy>>,
    end: watch::Sender<Option<Last>>,
    task: JoinHandle<()>,
}

/// The end of what a follower copies.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// Of the journal.
    offset: u64,
    /// What is not written by then is missing.
    deadline: Instant,
}

/// What a follower needs of its line.
pub(super) struct Whereabouts<'a> {
    pub(super) device: &'a Arc<Device>,
    pub(super) around: &'a Surroundings,
    pub(super) shared: &'a Arc<LineShared>,
    pub(super) status: &'a watch::Sender<LinkStatus>,
}

impl Log {
    /// The copy that a running device of this spec has, in place of `before`.
    /// Output is copied from the journal's next byte on.
    pub(super) fn follow(
        before: Option<Self>,
        spec: &DeviceSpec,
        writer: &mut journal::Writer,
        line: &Whereabouts<'_>,
    ) -> Option<Self> {
        let wanted = spec.log.as_ref();
        let direction = match spec.host_interface.has_output() {
            true => Direction::Output,
            false => Direction::Input,
        };
        if let Some(log) = &before
            && wanted == Some(&log.spec)
            && direction == log.direction
        {
            return before;
        }
        writer.flush();
        // A file that goes on with other bytes is not emptied for that.
        let begin = match &before {
            Some(log) if wanted == Some(&log.spec) => Begin::Keep,
            _ => Begin::at_start(wanted.map(|log| log.append).unwrap_or_default()),
        };
        let before = before.map(|log| log.finish(writer));
        let shown = match wanted {
            Some(_) => ConditionStatus { holds: None, changed: Some(std::time::SystemTime::now()) },
            None => ConditionStatus::default(),
        };
        line.status.send_modify(|status| status.log_degraded = shown);
        let wanted = wanted?.clone();
        let (end, ended) = watch::channel(None);
        let input = (direction == Direction::Input).then(Arc::<InputCopy>::default);
        let source = match &input {
            Some(input) => Source::Input(input.clone()),
            None => Source::Output(writer.journal().cursor(writer.next_offset())),
        };
        let file = LogFile::new(wanted.file.clone(), begin, &line.around.environment);
        let follower = Follower::new(file, source, ended, line);
        let task = line.around.tasks.spawn(follower.run(before));
        Some(Self { spec: wanted, direction, input, end, task })
    }

    /// Where input is copied to, if it is.
    pub(super) fn input(&self) -> Option<&InputCopy> {
        self.input.as_deref()
    }

    /// Ends the copy with what is here now; the task ends by itself within
    /// `limits::LOG_DRAIN`.
    pub(super) fn finish(self, writer: &mut journal::Writer) -> JoinHandle<()> {
        writer.flush();
        if let Some(input) = &self.input {
            input.close();
        }
        let deadline = Instant::now() + limits::LOG_DRAIN;
        self.end.send_replace(Some(Last { offset: writer.next_offset(), deadline }));
        self.task
    }
}
