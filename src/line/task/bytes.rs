//! The line while it is connected: output to the journal, input to the far side,
//! and when gathered output goes out.
//!
//! Output is read before anybody asks for it and never waits for an attacher; it
//! waits for the disk only, and not for long. One timer serves everything that
//! is due later; an idle line has none set.

use std::{
    cell::RefCell,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use tokio::{
    io::ReadBuf,
    sync::mpsc,
    time::{Instant, Sleep, sleep, timeout},
};

use super::{
    super::{Command, LineShared, log::Log},
    Connected, Interrupt, Line,
};
use crate::{
    backend::{Backend, Error, Link, Read},
    device::{Counters, Facts, State},
    limits,
};

thread_local! {
    /// Where a worker reads into: an idle line has no buffer of its own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::LINE_READ_BYTES]);
}

/// What a link did.
enum LinkEvent {
    /// Output came or was lost, or input went.
    Moved,
    /// What is known of the other end changed.
    Changed,
    /// The far side has ended its sending.
    Ended,
    /// It is over.
    Lost(Error),
}

impl Line {
    /// Moves bytes until the link is lost.
    pub(super) async fn connected(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        backend: &mut dyn Backend,
        mut link: Box<dyn Link>,
    ) -> Result<Error, Interrupt> {
        Counters::add(&self.shared.counters.links, 1);
        self.around.metrics.links_opened.inc();
        let facts = link.facts();
        let peer = facts.peers.first().map(|peer| peer.address.clone());
        tracing::info!(device = %self.device.id, peer, "connected");
        self.publish(|status| {
            status.state = State::Connected;
            status.facts = facts;
            status.connected_changed = SystemTime::now();
        });
        let result = self.move_bytes(commands, backend, link.as_mut()).await;
        if result.is_err() {
            self.settle(link.as_mut()).await;
        }
        self.writer.flush();
        self.input.set_in_flight(0);
        let dropped = self.input.drop_from(None);
        self.count_dropped(dropped);
        self.controls.fail();
        self.publish(|status| {
            status.facts = Facts::default();
            status.connected_changed = SystemTime::now();
        });
        result
    }

    /// Waits for what cannot be taken back, so that its senders are told rightly
    /// what became of it.
    async fn settle(&mut self, link: &mut dyn Link) {
        let settled = std::future::poll_fn(|cx| {
            while link.in_flight() > 0 {
                match self.poll_front(cx, link) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => break,
                    Poll::Pending => return Poll::Pending,
                }
            }
            link.poll_finish(cx)
        });
        timeout(limits::LINK_SETTLE, settled).await.ok();
    }

    async fn move_bytes(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        backend: &mut dyn Backend,
        link: &mut dyn Link,
    ) -> Result<Error, Interrupt> {
        let shared = self.shared.clone();
        let connected = if link.takes_input() { Connected::Yes } else { Connected::OutputOnly };
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
                    LinkEvent::Changed => {
                        // Output may have come with it.
                        self.pace();
                        self.publish(|status| status.facts = link.facts());
                    }
                    LinkEvent::Ended => {
                        self.drain_input(link).await;
                        return Ok(link.ending());
                    }
                    LinkEvent::Lost(error) => return Ok(error),
                },
                Some(command) = commands.recv() => {
                    if let Some(interrupt) = self.on_command(command, connected)
                        && !matches!(interrupt, Interrupt::Now)
                    {
                        return Err(interrupt);
                    }
                }
                gone = shared.departures.take() => self.on_departures(gone),
                () = timer.as_mut(), if armed.is_some() => {
                    armed = None;
                    self.on_timer(link);
                }
            }
        }
    }

    pub(super) fn on_refused(&mut self, why: String) {
        Counters::add(&self.shared.counters.refused_peers, 1);
        self.around.metrics.peers_refused.inc();
        tracing::debug!(device = %self.device.id, why, "turned away a far side");
        self.note_counters(Instant::now());
        self.refusal = Some(why);
    }

    /// A far side that sends no more may still read: it gets what was taken for
    /// it already.
    async fn drain_input(&mut self, link: &mut dyn Link) {
        let drained = std::future::poll_fn(|cx| {
            while self.input.front().is_some() {
                match self.poll_input(cx, link) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        });
        // What is left is told as dropped.
        timeout(limits::HALF_CLOSE_DRAIN, drained).await.ok();
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
        link: &mut dyn Link,
    ) -> Poll<LinkEvent> {
        // First, and one each time: a device that never stops talking must not keep
        // others waiting at the door, nor they hold up its output.
        let refused = backend.poll_refuse(cx).map(|why| self.on_refused(why));
        if self.controls.poll(cx, link).is_ready() {
            // Whoever asked finds in the status what became of it.
            self.publish(|status| status.facts = link.facts());
            self.controls.answer();
        }
        let written = self.poll_input(cx, link);
        if let Poll::Ready(Err(error)) = written {
            // A far side that went while we wrote is heard to its last word: the
            // error comes again until there is no more.
            return Poll::Ready(match self.poll_output(cx, link) {
                Poll::Ready(event @ (LinkEvent::Moved | LinkEvent::Changed)) => event,
                Poll::Ready(LinkEvent::Ended | LinkEvent::Lost(_)) | Poll::Pending => {
                    LinkEvent::Lost(error)
                }
            });
        }
        match self.poll_output(cx, link) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending if written.is_ready() || refused.is_ready() => {
                Poll::Ready(LinkEvent::Moved)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready if something was written.
    fn poll_input(&mut self, cx: &mut Context<'_>, link: &mut dyn Link) -> Poll<Result<(), Error>> {
        let mut written = Poll::Pending;
        loop {
            match self.poll_front(cx, link) {
                Poll::Ready(Some(Ok(_))) => written = Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) | Poll::Pending => return written,
            }
        }
    }

    /// Offers what waits in front; how much of it was written, or `None` if
    /// nothing waits.
    fn poll_front(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut dyn Link,
    ) -> Poll<Option<Result<usize, Error>>> {
        let Some(front) = self.input.front() else { return Poll::Ready(None) };
        let copy = self.log.as_ref().and_then(Log::input);
        if let Some(copy) = copy {
            ready!(copy.poll_room(cx));
        }
        let n = match link.poll_write(cx, front) {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
            Poll::Pending => {
                self.input.set_in_flight(link.in_flight());
                return Poll::Pending;
            }
        };
        let left_out = copy.map_or(0, |copy| copy.push(&front[..n]));
        self.input.wrote(n);
        let (counters, metrics) = (&self.shared.counters, &self.around.metrics);
        Counters::add(&counters.input_bytes, n as u64);
        metrics.input_bytes.inc_by(n as u64);
        if link.discards_input() {
            Counters::add(&counters.discarded_bytes, n as u64);
            metrics.input_discarded_bytes.inc_by(n as u64);
        }
        Counters::add(&counters.log_lost, left_out as u64);
        metrics.log_lost_bytes.inc_by(left_out as u64);
        self.last_input = Some(Instant::now());
        Poll::Ready(Some(Ok(n)))
    }

    /// Reads a turn's worth; what came before an end or an event is told first.
    fn poll_output(&mut self, cx: &mut Context<'_>, link: &mut dyn Link) -> Poll<LinkEvent> {
        let (mut total, mut lost) = (0, false);
        let event = SCRATCH.with_borrow_mut(|scratch| {
            // A pty gives 4 KiB at a time, a socket a datagram.
            while total < limits::LINE_READ_BYTES {
                let mut buffer = ReadBuf::new(scratch);
                match link.poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(Read::Bytes)) => {
                        total += buffer.filled().len();
                        self.writer.append(buffer.filled());
                    }
                    Poll::Ready(Ok(Read::Record)) => {
                        total += buffer.filled().len();
                        self.writer.flush();
                        self.writer.append(buffer.filled());
                        self.writer.flush();
                    }
                    Poll::Ready(Ok(Read::Lost(n))) => {
                        lost = true;
                        self.on_lost_output(n);
                    }
                    Poll::Ready(Ok(Read::Break)) => {
                        Counters::add(&self.shared.counters.breaks, 1);
                        self.around.metrics.breaks_received.inc();
                        // Whoever floods us with breaks fills no log.
                        tracing::debug!(device = %self.device.id, "break received");
                        return Some(LinkEvent::Changed);
                    }
                    Poll::Ready(Ok(Read::Changed)) => return Some(LinkEvent::Changed),
                    Poll::Ready(Ok(Read::End)) => return Some(LinkEvent::Ended),
                    Poll::Ready(Err(error)) => return Some(LinkEvent::Lost(error)),
                    Poll::Pending => return None,
                }
            }
            Some(LinkEvent::Moved)
        });
        if total > 0 {
            Counters::add(&self.shared.counters.output_bytes, total as u64);
            self.around.metrics.output_bytes.inc_by(total as u64);
        }
        match event {
            Some(event) => Poll::Ready(event),
            None if total > 0 || lost => Poll::Ready(LinkEvent::Moved),
            None => Poll::Pending,
        }
    }

    fn on_lost_output(&mut self, n: u64) {
        Counters::add(&self.shared.counters.lost, n);
        self.around.metrics.output_lost.inc_by(n);
        self.writer.lose(n);
        self.note_counters(Instant::now());
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

    fn on_timer(&mut self, link: &dyn Link) {
        let now = Instant::now();
        if self.writer.is_pending() {
            self.flush(now);
        }
        if self.counters_due.is_some_and(|due| due <= now) {
            // Only here: whatever else was told meanwhile had no look at the link.
            self.counters_due = None;
            self.publish(|status| status.facts = link.facts());
            self.tell_changed();
        }
    }
}
