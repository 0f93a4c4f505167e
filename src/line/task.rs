//! The task of a line: opens the link and opens it again. `bytes` is what it does
//! while it is connected, `commands` what it is asked to do. See the room's doc
//! for the states.

mod bytes;
mod commands;
mod controls;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use self::controls::Controls;
use super::{
    AttachmentId, Command, EndReason, LineShared, Surroundings, Writers,
    input::InputQueue,
    log::{Log, Whereabouts},
    reconnect::Reconnect,
    writer::WriteLock,
};
use crate::{
    backend::{self, Backend, Link, Place, Role},
    device::{Device, DeviceSpec, Facts, LastError, LinkStatus, ReconnectPolicy, RunState, State},
    journal,
};

/// One line.
pub(super) struct Line {
    device: Arc<Device>,
    spec: DeviceSpec,
    /// Of the spec.
    revision: u64,
    writer: journal::Writer,
    around: Surroundings,
    shared: Arc<LineShared>,
    status: watch::Sender<LinkStatus>,
    writers: watch::Sender<Arc<Writers>>,
    attachments: BTreeMap<AttachmentId, Attached>,
    next_attachment: u64,
    lock: WriteLock,
    bumped: Vec<(AttachmentId, String)>,
    input: InputQueue,
    controls: Controls,
    log: Option<Log>,
    reconnect: Reconnect,
    /// When counters that changed are told.
    counters_due: Option<Instant>,
    counters_told: Instant,
    last_input: Option<Instant>,
    last_flush: Option<Instant>,
    /// Why a far side was last turned away, until it is told.
    refusal: Option<String>,
}

struct Attached {
    name: String,
}

/// Why waiting was cut short.
enum Interrupt {
    /// The line ends.
    End,
    /// The host interface or the run state changed.
    Changed,
    /// Try to open the link now.
    Now,
}

impl Line {
    pub(super) fn new(
        device: Arc<Device>,
        writer: journal::Writer,
        around: Surroundings,
        shared: Arc<LineShared>,
        status: watch::Sender<LinkStatus>,
        writers: watch::Sender<Arc<Writers>>,
    ) -> Self {
        Self {
            spec: device.spec.clone(),
            revision: device.revision,
            device,
            writer,
            around,
            shared,
            status,
            writers,
            attachments: BTreeMap::new(),
            next_attachment: 1,
            lock: WriteLock::default(),
            bumped: Vec::new(),
            input: InputQueue::default(),
            controls: Controls::default(),
            log: None,
            reconnect: Reconnect::default(),
            counters_due: None,
            counters_told: Instant::now(),
            last_input: None,
            last_flush: None,
            refusal: None,
        }
    }

    /// Runs until the device is deleted or the server stops.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let _notice = FailureNotice {
            device: self.device.clone(),
            shared: self.shared.clone(),
            status: self.status.clone(),
            metrics: self.around.metrics.clone(),
        };
        loop {
            let interrupt = match self.spec.run_state {
                RunState::Stopped => {
                    self.end_log().await;
                    self.publish(|status| {
                        status.state = State::Stopped;
                        status.retry_time = None;
                        status.facts = Facts::default();
                        status.listen_address = None;
                        status.pty_path = None;
                    });
                    self.wait(&mut commands, std::future::pending::<()>()).await.err()
                }
                RunState::Running => {
                    self.follow_log();
                    self.publish(|status| {
                        // Places of the host interface before this one.
                        status.listen_address = None;
                        status.pty_path = None;
                    });
                    let spec = &self.spec.host_interface;
                    let mut backend = backend::new(spec, self.device.uid, &self.around.environment);
                    Some(self.serve(&mut commands, backend.as_mut()).await)
                }
            };
            if matches!(interrupt, Some(Interrupt::End)) {
                break;
            }
        }
        self.input.drop_from(None);
        self.end_log().await;
        // The journal's writer first: who waits for the line to be gone waits for
        // `commands` to close.
        drop(self);
        drop(commands);
    }

    /// Has the copy of the console made that a running device's spec asks for.
    fn follow_log(&mut self) {
        let line = Whereabouts {
            device: &self.device,
            around: &self.around,
            shared: &self.shared,
            status: &self.status,
        };
        self.log = Log::follow(self.log.take(), &self.spec, &mut self.writer, &line);
    }

    /// Ends it, for at most `limits::LOG_DRAIN`.
    async fn end_log(&mut self) {
        if let Some(log) = self.log.take() {
            // A copy that panicked has been told by the runtime.
            log.finish(&mut self.writer).await.ok();
        }
    }

    /// Opens links of one backend, one after another, until interrupted.
    async fn serve(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        backend: &mut dyn Backend,
    ) -> Interrupt {
        loop {
            let uptime = match self.open(commands, backend).await {
                Err(interrupt) => match interrupt {
                    Interrupt::Now => continue,
                    Interrupt::End | Interrupt::Changed => return interrupt,
                },
                Ok(Err(error)) => {
                    self.lost(&error);
                    Duration::ZERO
                }
                Ok(Ok(link)) => {
                    let since = Instant::now();
                    match self.connected(commands, backend, link).await {
                        Err(interrupt) => return interrupt,
                        Ok(error) => self.lost(&error),
                    }
                    if backend.role() == Role::Waits {
                        continue;
                    }
                    since.elapsed()
                }
            };
            let delay = match self.spec.reconnect.policy {
                ReconnectPolicy::Backoff | ReconnectPolicy::Interval => {
                    Some(self.reconnect.next(&self.spec.reconnect, uptime, fastrand::f64()))
                }
                ReconnectPolicy::Never => None,
            };
            self.publish(|status| {
                status.state = State::Backoff;
                status.retry_time = delay.map(|delay| SystemTime::now() + delay);
            });
            let due = async {
                match delay {
                    Some(delay) => sleep(delay).await,
                    None => std::future::pending().await,
                }
            };
            match self.wait(commands, due).await {
                Ok(()) | Err(Interrupt::Now) => {}
                Err(interrupt) => return interrupt,
            }
        }
    }

    /// Opens one link. The outer error is an interrupt.
    async fn open(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        backend: &mut dyn Backend,
    ) -> Result<Result<Box<dyn Link>, backend::Error>, Interrupt> {
        self.publish(|status| {
            status.state = State::Opening;
            status.retry_time = None;
        });
        let prepared = self.wait(commands, backend.prepare()).await?;
        let Place { listen_address, pty_path } = match prepared {
            Ok(place) => place,
            Err(error) => return Ok(Err(error)),
        };
        self.publish(|status| {
            if listen_address.is_some() {
                status.state = State::Listening;
            }
            status.listen_address = listen_address;
            status.pty_path = pty_path;
        });
        loop {
            match self.wait(commands, backend.open()).await? {
                // The next may be the right one; the state stays as it is.
                Err(backend::Error::Refused(why)) => {
                    self.on_refused(why);
                    self.publish(|_| {});
                }
                opened => return Ok(opened),
            }
        }
    }

    /// Waits for `until` while commands are obeyed.
    async fn wait<T>(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        until: impl Future<Output = T>,
    ) -> Result<T, Interrupt> {
        let mut until = pin!(until);
        let shared = self.shared.clone();
        loop {
            tokio::select! {
                () = shared.ending.cancelled() => return Err(Interrupt::End),
                output = &mut until => return Ok(output),
                gone = shared.departures.take() => self.on_departures(gone),
                Some(command) = commands.recv() => {
                    if let Some(interrupt) = self.on_command(command, Connected::No) {
                        return Err(interrupt);
                    }
                }
            }
        }
    }

    fn lost(&mut self, error: &backend::Error) {
        let message = backend::explain(error);
        self.around.metrics.links_lost.inc();
        let repeated =
            self.status.borrow().last_error.as_ref().is_some_and(|e| e.message == message);
        // A far side that is down for a week fills no log.
        if repeated {
            tracing::debug!(device = %self.device.id, error = message, "link lost");
        } else {
            tracing::warn!(device = %self.device.id, error = message, "link lost");
        }
        self.publish(|status| {
            status.last_error = Some(LastError { message, time: SystemTime::now() });
        });
    }

    fn publish(&mut self, change: impl FnOnce(&mut LinkStatus)) {
        let count = u32::try_from(self.attachments.len()).unwrap_or(u32::MAX);
        // Whatever is told, this is told with it: what is told often would else put
        // off for ever what waits for a quiet moment.
        let refusal = self.refusal.take();
        let changed = self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            if refusal.is_some() {
                status.last_refusal = refusal;
            }
            status.attachment_count = count;
            *status != before
        });
        if changed {
            self.tell_changed();
        }
    }

    fn tell_changed(&mut self) {
        self.counters_told = Instant::now();
        (self.around.changed)(&self.device);
    }
}

/// Whether there is a link for input to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connected {
    Yes,
    /// There is, but it takes none.
    OutputOnly,
    No,
}

/// Marks the device failed if the task panics; a panic never passes unseen.
struct FailureNotice {
    device: Arc<Device>,
    shared: Arc<LineShared>,
    status: watch::Sender<LinkStatus>,
    metrics: Arc<crate::telemetry::Metrics>,
}

impl Drop for FailureNotice {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.metrics.lines_failed.inc();
            tracing::error!(device = %self.device.id, "the line failed inside; it stays down until the server restarts");
            self.status.send_modify(|status| status.state = State::Failed);
            self.shared.reason.set(EndReason::Failed).ok();
            self.shared.ending.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
