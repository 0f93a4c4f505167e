//! One line: the running side of a device.
//!
//! A single task owns the backend, the journal's writing end, the input queue
//! and the write lock, so that every attacher sees one order of events and
//! nothing here needs a lock across an await.
//!
//! ```text
//!            ┌────────────────────────────────────────────────┐
//!            ▼                                                │
//!   STOPPED ─start─▶ OPENING ──▶ LISTENING ──▶ CONNECTED ──lost, waits
//!      ▲               │  ▲                        │
//!      │             error └───── BACKOFF ◀───lost, opens
//!    stop (from anywhere)
//! ```
//!
//! Invariants: offsets only grow; writers as [`WriteLock`] says; a slow attacher
//! never delays the device or another attacher, because attachers read the
//! journal and the task never waits for them. Journal and attachments stay
//! through every state.
//!
//! Bounds: `limits::{LINE_COMMANDS, LINE_INPUT_BYTES_MAX, DEVICE_ATTACHMENTS_MAX}`.

mod attachment;
mod input;
mod log;
mod reconnect;
mod task;
mod writer;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::input::Piece;
pub use self::{
    attachment::{Attachment, Input},
    input::{Progress, Refusal, SharedProgress},
    writer::{AttachmentId, Mode, WriteLock},
};
use crate::{
    backend::{Control, ControlError, Environment},
    device::{Counters, Device, DeviceSpec, DeviceStatus, LinkStatus, RunState, State},
    journal::{self, Journal},
    limits,
    telemetry::Metrics,
};

/// Why a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The server stops.
    ShuttingDown,
    /// The device was deleted.
    DeviceDeleted,
    /// The line failed inside.
    Failed,
}

/// Why a line did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has ended.
    #[error("the device is going away")]
    Ended(EndReason),
    /// It has as many attachments as it may have.
    #[error("the device has {} attachments already", limits::DEVICE_ATTACHMENTS_MAX)]
    AttachmentLimit,
    /// The spec does not allow shared writing.
    #[error("the device does not allow shared writing")]
    SharingDisabled,
    /// The attachment may not write.
    #[error("this attachment may not write")]
    NotWriter,
    /// The other end did not do what it was asked.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Who writes and who waits, for attachers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writers {
    /// The lock.
    pub lock: WriteLock,
    /// The holders' names.
    pub names: Vec<String>,
    /// Those who lost the lock by force and have not asked again: who, by whom.
    pub bumped: Vec<(AttachmentId, String)>,
}

/// What a line needs from its surroundings.
pub struct Surroundings {
    /// What backends are given.
    pub environment: Arc<Environment>,
    /// Called when something other than counters changed, and now and then when
    /// counters did.
    pub changed: Arc<dyn Fn(&Device) + Send + Sync>,
    /// Counters of the server.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
    /// Whoever stops the server waits for the tasks here.
    pub tasks: TaskTracker,
}

/// A command for the task. All are answered soon: the task waits for nobody.
enum Command {
    Attach {
        name: String,
        mode: Mode,
        answer: oneshot::Sender<Result<Joined, Error>>,
    },
    Claim {
        id: AttachmentId,
        mode: Mode,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    Input(Piece),
    /// Drops what the attachment has waiting.
    DropInput {
        id: AttachmentId,
        answer: oneshot::Sender<()>,
    },
    /// Something beside the bytes.
    Control {
        id: AttachmentId,
        control: Control,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Looks again at what the link knows of its other end.
    Look {
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// The spec is now this one; `open_now` skips the back-off.
    Reconfigure {
        spec: Box<DeviceSpec>,
        revision: u64,
        urgency: Urgency,
    },
}

/// Whether a new spec also asks for an attempt at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// The back-off goes on.
    Usual,
    /// Try now.
    Now,
}

/// A place on the line. Dropping it leaves, wherever it is dropped: in the
/// attachment, or in an answer that nobody took.
struct Joined {
    id: AttachmentId,
    progress: Arc<SharedProgress>,
    shared: Arc<LineShared>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.shared.departures.add(self.id);
    }
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Joined").field(&self.id).finish()
    }
}

/// The way to a line; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<LinkStatus>,
    writers: watch::Receiver<Arc<Writers>>,
    journal: Journal,
    shared: Arc<LineShared>,
}

/// What the handle and the task share.
struct LineShared {
    metrics: Arc<Metrics>,
    counters: Counters,
    /// Attachments that are gone; looked at by the task when woken.
    departures: Departures,
    input_room: Arc<Semaphore>,
    /// Cancelled when attachments are to end.
    ending: CancellationToken,
    reason: OnceLock<EndReason>,
}

impl LineShared {
    /// Tells an attacher that input of its was not taken.
    fn refused_input(&self, progress: &SharedProgress, refusal: Refusal) {
        self.metrics.input_refused.inc();
        progress.refuse(refusal);
    }
}

/// Attachments whose guard was dropped. Bounded by the number of attachments.
#[derive(Debug, Default)]
struct Departures {
    ids: std::sync::Mutex<Vec<AttachmentId>>,
    woken: Notify,
}

impl Departures {
    fn add(&self, id: AttachmentId) {
        self.ids.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(id);
        self.woken.notify_one();
    }

    async fn take(&self) -> Vec<AttachmentId> {
        self.woken.notified().await;
        self.take_now()
    }

    fn take_now(&self) -> Vec<AttachmentId> {
        std::mem::take(&mut self.ids.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// Starts the line of a device.
pub fn spawn(device: Arc<Device>, writer: journal::Writer, around: Surroundings) -> Handle {
    let (commands, receiver) = mpsc::channel(limits::LINE_COMMANDS);
    let state = match device.spec.run_state {
        RunState::Running => State::Opening,
        RunState::Stopped => State::Stopped,
    };
    let (status_sender, status) = watch::channel(LinkStatus::new(state));
    let (writers_sender, writers) = watch::channel(Arc::default());
    let shared = Arc::new(LineShared {
        metrics: around.metrics.clone(),
        counters: Counters::default(),
        departures: Departures::default(),
        input_room: Arc::new(Semaphore::new(limits::LINE_INPUT_BYTES_MAX)),
        ending: around.stop.child_token(),
        reason: OnceLock::new(),
    });
    let journal = writer.journal();
    let tasks = around.tasks.clone();
    let line =
        task::Line::new(device, writer, around, shared.clone(), status_sender, writers_sender);
    tasks.spawn(line.run(receiver));
    Handle { commands, status, writers, journal, shared }
}

impl Handle {
    /// The device's output.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What is seen of the device now.
    pub fn status(&self) -> DeviceStatus {
        let counters = &self.shared.counters;
        DeviceStatus {
            link: self.status.borrow().clone(),
            output_bytes: Counters::get(&counters.output_bytes),
            input_bytes: Counters::get(&counters.input_bytes),
            input_dropped_bytes: Counters::get(&counters.input_dropped_bytes),
            link_count: Counters::get(&counters.links),
            refused_peer_count: Counters::get(&counters.refused_peers),
            discarded_bytes: Counters::get(&counters.discarded_bytes),
            lost_count: Counters::get(&counters.lost),
            break_count: Counters::get(&counters.breaks),
            log_lost_bytes: Counters::get(&counters.log_lost),
            journal: self.journal.status(),
        }
    }

    /// The link's state now.
    pub fn state(&self) -> State {
        self.status.borrow().state
    }

    /// Has the link look again at what it knows of its other end, for
    /// [`Handle::status`] to tell.
    pub async fn look(&self) -> Result<(), Error> {
        let (answer, looked) = oneshot::channel();
        self.commands.send(Command::Look { answer }).await.map_err(|_| self.ended())?;
        looked.await.map_err(|_| self.ended())?
    }

    /// Joins the line as `name`.
    pub async fn attach(&self, name: String, mode: Mode) -> Result<Attachment, Error> {
        let (answer, joined) = oneshot::channel();
        let command = Command::Attach { name, mode, answer };
        self.commands.send(command).await.map_err(|_| self.ended())?;
        let joined = joined.await.map_err(|_| self.ended())??;
        Ok(Attachment::new(self.clone(), joined))
    }

    /// Makes the line follow a new spec, unless it follows a newer one already.
    pub async fn reconfigure(
        &self,
        spec: DeviceSpec,
        revision: u64,
        urgency: Urgency,
    ) -> Result<(), Error> {
        let command = Command::Reconfigure { spec: Box::new(spec), revision, urgency };
        self.commands.send(command).await.map_err(|_| self.ended())
    }

    /// Ends the line and its attachments because the device is deleted; waits
    /// until the backend is closed and the journal's writer is gone.
    pub async fn delete(&self) {
        self.shared.reason.set(EndReason::DeviceDeleted).ok();
        self.shared.ending.cancel();
        self.commands.closed().await;
    }

    /// Why the line has ended, if it has.
    pub fn ended_for(&self) -> Option<EndReason> {
        self.shared.ending.is_cancelled().then(|| self.end_reason())
    }

    /// Waits until the line ends, and tells why.
    pub async fn ending(&self) -> EndReason {
        self.shared.ending.cancelled().await;
        self.end_reason()
    }

    fn end_reason(&self) -> EndReason {
        self.shared.reason.get().copied().unwrap_or(EndReason::ShuttingDown)
    }

    fn ended(&self) -> Error {
        Error::Ended(self.end_reason())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// Room in the line for `data`, or nothing if there is none now.
fn try_room(shared: &LineShared, data: &Bytes) -> Option<tokio::sync::OwnedSemaphorePermit> {
    let n = u32::try_from(data.len()).ok()?;
    shared.input_room.clone().try_acquire_many_owned(n).ok()
}
