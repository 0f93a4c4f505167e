//! The line while it is connected: output to the journal, input to the far side,
//! and when gathered output goes out.
//!
//! Output is read before anybody asks for it and never waits for an attacher; it
//! waits for the disk only, and not for long. One timer serves everything that
//! is due later; an idle line has none set.

use std::{
    cell::RefCell,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};

use super::{
    super::{Command, LineShared},
    Connected, Interrupt, Line,
};
use crate::{
    backend::{self, Backend, Link},
    device::{Counters, State},
    limits,
};

thread_local! {
    /// Where a worker reads into: an idle line has no buffer of its own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::LINE_READ_BYTES]);
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
    /// Moves bytes until the link is lost.
    pub(super) async fn connected(
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
}
