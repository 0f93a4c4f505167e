//! The task of a line: opens the link and opens it again, moves bytes, and keeps
//! the write lock. See the room's doc for the states.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, watch},
    time::{Instant, Sleep, sleep},
};

use super::{
    AttachmentId, Command, EndReason, Error, Joined, LineShared, Mode, Piece, Refusal,
    Surroundings, Urgency, Writers,
    input::{InputQueue, SharedProgress},
    reconnect::Reconnect,
    writer::WriteLock,
};
use crate::{
    backend::{self, Backend, Link, Place, Role},
    device::{Counters, Device, DeviceSpec, LastError, LinkStatus, RunState, Sharing, State},
    journal, limits,
};

thread_local! {
    /// Where a worker reads into: an idle line has no buffer of its own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::LINE_READ_BYTES]);
}

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
    reconnect: Reconnect,
    /// When counters that changed are told.
    counters_due: Option<Instant>,
    counters_told: Instant,
    last_input: Option<Instant>,
    last_flush: Option<Instant>,
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

/// What a link did.
enum LinkEvent {
    /// Output came or input went.
    Moved,
    /// A further far side was turned away.
    Refused,
    /// It is over.
    Lost(backend::Error),
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
            reconnect: Reconnect::default(),
            counters_due: None,
            counters_told: Instant::now(),
            last_input: None,
            last_flush: None,
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
                    self.publish(|status| {
                        status.state = State::Stopped;
                        status.retry_time = None;
                        status.peer_address = None;
                        status.listen_address = None;
                        status.pty_path = None;
                    });
                    self.wait(&mut commands, std::future::pending::<()>()).await.err()
                }
                RunState::Running => {
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
        // The journal's writer first: who waits for the line to be gone waits for
        // `commands` to close.
        drop(self);
        drop(commands);
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
            let delay = self.reconnect.next(&self.spec.reconnect, uptime, fastrand::f64());
            self.publish(|status| {
                status.state = State::Backoff;
                status.retry_time = Some(SystemTime::now() + delay);
            });
            match self.wait(commands, sleep(delay)).await {
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
    ) -> Result<Result<Link, backend::Error>, Interrupt> {
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
        self.wait(commands, backend.open()).await
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

    /// Moves bytes until the link is lost.
    async fn connected(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        backend: &mut dyn Backend,
        mut link: Link,
    ) -> Result<backend::Error, Interrupt> {
        Counters::add(&self.shared.counters.links, 1);
        self.around.metrics.links_opened.inc();
        tracing::info!(device = %self.device.id, peer = link.peer_address, "connected");
        self.publish(|status| {
            status.state = State::Connected;
            status.peer_address = link.peer_address.take();
            status.connected_changed = SystemTime::now();
        });
        let result = self.move_bytes(commands, backend, &mut link).await;
        self.writer.flush();
        let dropped = self.input.drop_from(None);
        self.count_dropped(dropped);
        self.publish(|status| {
            status.peer_address = None;
            status.connected_changed = SystemTime::now();
        });
        result
    }

    async fn move_bytes(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        backend: &mut dyn Backend,
        link: &mut Link,
    ) -> Result<backend::Error, Interrupt> {
        let shared = self.shared.clone();
        // One timer for both dues, registered only while one of them is set.
        let mut timer = pin!(sleep(Duration::ZERO));
        let mut armed = None;
        loop {
            if let Some(lost) = self.wait_for_disk(&shared).await {
                return Err(lost);
            }
            self.arm(timer.as_mut(), &mut armed);
            // Fair: a chatty device must not postpone commands, nor the reverse.
            tokio::select! {
                () = shared.ending.cancelled() => return Err(Interrupt::End),
                event = std::future::poll_fn(|cx| self.poll_link(cx, backend, link)) => match event {
                    LinkEvent::Moved => self.pace(),
                    LinkEvent::Refused => {
                        Counters::add(&shared.counters.refused_peers, 1);
                        self.around.metrics.peers_refused.inc();
                        tracing::debug!(device = %self.device.id, "turned away a second far side");
                        self.note_counters(Instant::now());
                    }
                    LinkEvent::Lost(error) => return Ok(error),
                },
                Some(command) = commands.recv() => {
                    if let Some(interrupt) = self.on_command(command, Connected::Yes)
                        && !matches!(interrupt, Interrupt::Now)
                    {
                        return Err(interrupt);
                    }
                }
                gone = shared.departures.take() => self.on_departures(gone),
                () = timer.as_mut(), if armed.is_some() => {
                    armed = None;
                    self.on_timer();
                }
            }
        }
    }

    /// Holds the device back while the disk is behind; never for long, because
    /// a disk that stalls is given up.
    async fn wait_for_disk(&self, shared: &LineShared) -> Option<Interrupt> {
        tokio::select! {
            () = self.writer.room() => None,
            () = shared.ending.cancelled() => Some(Interrupt::End),
        }
    }

    /// Reads what is there and writes what waits, once each way.
    fn poll_link(
        &mut self,
        cx: &mut Context<'_>,
        backend: &mut dyn Backend,
        link: &mut Link,
    ) -> Poll<LinkEvent> {
        let written = self.poll_input(cx, link);
        if let Poll::Ready(Err(source)) = written {
            return Poll::Ready(LinkEvent::Lost(backend::Error::Broken(source)));
        }
        match self.poll_output(cx, link) {
            Poll::Ready(Ok(0)) => Poll::Ready(LinkEvent::Lost(backend::Error::Closed)),
            Poll::Ready(Ok(_)) => Poll::Ready(LinkEvent::Moved),
            Poll::Ready(Err(source)) => {
                Poll::Ready(LinkEvent::Lost(backend::Error::Broken(source)))
            }
            Poll::Pending if written.is_ready() => Poll::Ready(LinkEvent::Moved),
            Poll::Pending => backend.poll_refuse(cx).map(|()| LinkEvent::Refused),
        }
    }

    /// Ready if something was written.
    fn poll_input(&mut self, cx: &mut Context<'_>, link: &mut Link) -> Poll<io::Result<()>> {
        let mut total = 0;
        while let Some(front) = self.input.front() {
            match Pin::new(&mut link.io).poll_write(cx, front) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    total += n;
                    self.input.wrote(n);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if total == 0 {
            return Poll::Pending;
        }
        Counters::add(&self.shared.counters.input_bytes, total as u64);
        self.around.metrics.input_bytes.inc_by(total as u64);
        self.last_input = Some(Instant::now());
        Poll::Ready(Ok(()))
    }

    /// Ready with how much was read; 0 is the end.
    fn poll_output(&mut self, cx: &mut Context<'_>, link: &mut Link) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut total = 0;
            // A pty gives 4 KiB at a time: gather a turn's worth.
            while total < limits::LINE_READ_BYTES {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut link.io).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        // What came before the end is told first; the end again
                        // at the next look.
                        break;
                    }
                    Poll::Ready(Ok(())) => {
                        total += buffer.filled().len();
                        self.writer.append(buffer.filled());
                    }
                    Poll::Ready(Err(error)) if total == 0 => return Poll::Ready(Err(error)),
                    Poll::Ready(Err(_)) => break,
                    Poll::Pending if total == 0 => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            Counters::add(&self.shared.counters.output_bytes, total as u64);
            self.around.metrics.output_bytes.inc_by(total as u64);
            Poll::Ready(Ok(total))
        })
    }

    /// Decides whether gathered output goes out now or waits to be joined.
    fn pace(&mut self) {
        let now = Instant::now();
        self.note_counters(now);
        if !self.writer.is_pending() {
            return;
        }
        let typing = self.last_input.is_some_and(|at| now - at < limits::TYPING);
        let quiet = self.last_flush.is_none_or(|at| now - at >= limits::JOIN_INTERVAL);
        if typing || quiet {
            self.flush(now);
        }
    }

    /// Has changed counters told, not too often.
    fn note_counters(&mut self, now: Instant) {
        let due = now.max(self.counters_told + limits::COUNTERS_INTERVAL);
        self.counters_due.get_or_insert(due);
    }

    fn flush(&mut self, now: Instant) {
        self.writer.flush();
        self.last_flush = Some(now);
    }

    /// Sets the timer to what is due next.
    fn arm(&self, timer: Pin<&mut Sleep>, armed: &mut Option<Instant>) {
        let flush = self.last_flush.filter(|_| self.writer.is_pending());
        let flush = flush.map(|at| at + limits::JOIN_INTERVAL);
        let due = [flush, self.counters_due].into_iter().flatten().min();
        if due != *armed {
            *armed = due;
            if let Some(due) = due {
                timer.reset(due);
            }
        }
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        if self.writer.is_pending() {
            self.flush(now);
        }
        if self.counters_due.is_some_and(|due| due <= now) {
            self.tell_changed();
        }
    }

    fn on_command(&mut self, command: Command, connected: Connected) -> Option<Interrupt> {
        // Who left before this command was sent has left.
        let gone = self.shared.departures.take_now();
        if !gone.is_empty() {
            self.on_departures(gone);
        }
        match command {
            Command::Attach { name, mode, answer } => {
                // An answer that nobody takes leaves by itself.
                answer.send(self.attach(name, mode)).ok();
            }
            Command::Claim { id, mode, answer } => {
                answer.send(self.claim(id, mode)).ok();
            }
            Command::Input(piece) => self.on_input(piece, connected),
            Command::DropInput { id, answer } => {
                self.input.drop_from(Some(id));
                answer.send(()).ok();
            }
            Command::Reconfigure { spec, revision, urgency } => {
                // Two updates may come in the other order.
                if revision >= self.revision {
                    self.revision = revision;
                    return self.reconfigure(spec, urgency);
                }
            }
        }
        None
    }

    fn attach(&mut self, name: String, mode: Mode) -> Result<Joined, Error> {
        if self.attachments.len() >= limits::DEVICE_ATTACHMENTS_MAX {
            return Err(Error::AttachmentLimit);
        }
        self.check_sharing(mode)?;
        let id = AttachmentId(self.next_attachment);
        self.next_attachment += 1;
        let progress = Arc::<SharedProgress>::default();
        self.attachments.insert(id, Attached { name });
        self.apply_claim(id, mode);
        self.tell_writers();
        Ok(Joined { id, progress, shared: self.shared.clone() })
    }

    fn claim(&mut self, id: AttachmentId, mode: Mode) -> Result<(), Error> {
        self.check_sharing(mode)?;
        // A ghost must not write.
        if self.attachments.contains_key(&id) {
            self.apply_claim(id, mode);
            self.tell_writers();
        }
        Ok(())
    }

    fn check_sharing(&self, mode: Mode) -> Result<(), Error> {
        if mode == Mode::Shared && self.spec.input.sharing == Sharing::Exclusive {
            return Err(Error::SharingDisabled);
        }
        Ok(())
    }

    fn apply_claim(&mut self, id: AttachmentId, mode: Mode) {
        self.bumped.retain(|(bumped, _)| *bumped != id);
        let by =
            self.attachments.get(&id).map(|attached| attached.name.clone()).unwrap_or_default();
        for bumped in self.lock.claim(id, mode) {
            tracing::info!(device = %self.device.id, by, "the right to write was taken by force");
            self.bumped.push((bumped, by.clone()));
        }
    }

    fn on_departures(&mut self, gone: Vec<AttachmentId>) {
        for id in gone {
            if self.attachments.remove(&id).is_none() {
                continue;
            }
            // Nobody hears any more whether it was written; a command must not
            // reach the device hours after who sent it has left.
            let dropped = self.input.drop_from(Some(id));
            self.count_dropped(dropped);
            self.lock.release(id);
            self.bumped.retain(|(bumped, _)| *bumped != id);
        }
        self.tell_writers();
    }

    fn count_dropped(&self, bytes: u64) {
        Counters::add(&self.shared.counters.input_dropped_bytes, bytes);
        self.around.metrics.input_dropped_bytes.inc_by(bytes);
    }

    fn on_input(&mut self, piece: Piece, connected: Connected) {
        let progress = piece.progress.clone();
        let taken = if !self.lock.may_write(piece.from) {
            Err(Refusal::NotWriter)
        } else if connected == Connected::No {
            Err(Refusal::NotConnected)
        } else {
            self.input.push(piece)
        };
        if let Err(refusal) = taken {
            self.shared.refused_input(&progress, refusal);
        }
    }

    fn reconfigure(&mut self, spec: DeviceSpec, urgency: Urgency) -> Option<Interrupt> {
        let changed = spec.host_interface != self.spec.host_interface
            || spec.run_state != self.spec.run_state;
        self.writer.journal().set_retention(spec.journal.retention_bytes());
        self.spec = spec;
        if changed || urgency == Urgency::Now {
            self.reconnect.reset();
        }
        if changed {
            Some(Interrupt::Changed)
        } else {
            (urgency == Urgency::Now).then_some(Interrupt::Now)
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

    fn tell_writers(&mut self) {
        let name =
            |id: &AttachmentId| self.attachments.get(id).map(|attached| attached.name.clone());
        let names: Vec<String> = self.lock.holders().iter().filter_map(name).collect();
        let writers =
            Writers { lock: self.lock.clone(), names: names.clone(), bumped: self.bumped.clone() };
        self.writers.send_if_modified(|seen| {
            let differs = **seen != writers;
            if differs {
                *seen = Arc::new(writers);
            }
            differs
        });
        let count = u32::try_from(self.attachments.len()).unwrap_or(u32::MAX);
        self.publish(|status| {
            status.attachment_count = count;
            status.writers = names;
        });
    }

    fn publish(&mut self, change: impl FnOnce(&mut LinkStatus)) {
        let count = u32::try_from(self.attachments.len()).unwrap_or(u32::MAX);
        let changed = self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            status.attachment_count = count;
            *status != before
        });
        if changed {
            self.tell_changed();
        }
    }

    fn tell_changed(&mut self) {
        self.counters_due = None;
        self.counters_told = Instant::now();
        (self.around.changed)(&self.device);
    }
}

/// Whether there is a link for input to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connected {
    Yes,
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
