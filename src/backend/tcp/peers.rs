//! Several far sides as one link: what each says is taken as it comes, a turn
//! each, and input goes to all.
//!
//! Input is given to every peer before any of it is reported, and reported when
//! the first of them has it in its operating system; what the slower ones have
//! not taken waits in a buffer of theirs, `limits::PEER_INPUT_BYTES_MAX` at most.
//! A full buffer holds up the others for `limits::PEER_STALL`; then its peer is
//! sent away, and the device's status says so. With one peer it is as if there
//! was no buffer.
//!
//! The link ends with the last peer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::ReadBuf,
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Sleep, sleep},
};

use super::super::{Control, ControlError, Error, Link, Read, explain};
use crate::{device::Facts, limits};

/// Input that is given to all at once: small, so that progress is told often.
const PIECE_BYTES_MAX: usize = 4 << 10;

/// Somebody who comes in.
pub(super) struct Joining {
    pub(super) link: Box<dyn Link>,
    /// Held while it is here.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// See the module's doc.
pub(super) struct Peers {
    peers: Vec<Peer>,
    /// Who is read first next.
    turn: usize,
    joins: mpsc::Receiver<Joining>,
    /// Tells who was sent away and why.
    drops: mpsc::Sender<String>,
    /// Bytes at the front of the input that were given to all and not reported.
    given: usize,
    /// Somebody has left, which was not told yet.
    changed: bool,
    /// Why the last one left.
    last: Option<Error>,
}

struct Peer {
    link: Box<dyn Link>,
    /// Input that it has not taken.
    backlog: BytesMut,
    /// It was there when `given` was given.
    has_given: bool,
    /// Its backlog is full, and until when that is borne.
    stalled: Option<Pin<Box<Sleep>>>,
    /// It sends no more, and has so long to take its backlog.
    leaving: Option<Pin<Box<Sleep>>>,
    /// What came of the control that is being done.
    answer: Option<Result<(), ControlError>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Peer {
    fn new(joining: Joining) -> Self {
        Self {
            link: joining.link,
            backlog: BytesMut::new(),
            has_given: false,
            stalled: None,
            leaving: None,
            answer: None,
            _place: joining.place,
        }
    }

    fn name(&self) -> String {
        self.link.facts().peers.first().map(|peer| peer.address.clone()).unwrap_or_default()
    }

    /// Hands out what waits; ready when none does.
    fn poll_backlog(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.backlog.is_empty() {
            match self.link.poll_write(cx, &self.backlog) {
                Poll::Ready(Ok(n)) => {
                    self.backlog.advance(n);
                    self.stalled = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        // A peer that is not behind keeps no buffer.
        self.backlog = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn room(&self) -> usize {
        limits::PEER_INPUT_BYTES_MAX.saturating_sub(self.backlog.len())
    }
}

impl Peers {
    pub(super) fn new(
        first: Joining,
        joins: mpsc::Receiver<Joining>,
        drops: mpsc::Sender<String>,
    ) -> Self {
        Self {
            peers: vec![Peer::new(first)],
            turn: 0,
            joins,
            drops,
            given: 0,
            changed: false,
            last: None,
        }
    }

    fn admit(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(joining)) = self.joins.poll_recv(cx) {
            self.peers.push(Peer::new(joining));
            self.changed = true;
        }
    }

    /// Takes somebody out.
    fn part(&mut self, at: usize, error: Error) {
        let peer = self.peers.remove(at);
        tracing::info!(peer = peer.name(), error = explain(&error), "one of several has left");
        self.last = Some(error);
        self.changed = true;
    }

    /// Hands out what waits for each, and takes out who is gone.
    fn poll_backlogs(&mut self, cx: &mut Context<'_>) {
        let mut at = 0;
        while let Some(peer) = self.peers.get_mut(at) {
            let left = match peer.poll_backlog(cx) {
                Poll::Ready(Ok(())) => peer.leaving.as_ref().map(|_| peer.link.ending()),
                Poll::Ready(Err(error)) => Some(error),
                Poll::Pending => {
                    let leaves = |until: &mut Pin<Box<Sleep>>| until.as_mut().poll(cx).is_ready();
                    let left = peer.leaving.as_mut().is_some_and(leaves);
                    left.then(|| peer.link.ending())
                }
            };
            match left {
                Some(error) => self.part(at, error),
                None => at += 1,
            }
        }
    }

    /// Sends away who has been full for too long; ready when all have room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut room = usize::MAX;
        let mut at = 0;
        while let Some(peer) = self.peers.get_mut(at) {
            at += 1;
            if peer.leaving.is_some() {
                continue;
            }
            if peer.room() > 0 {
                room = room.min(peer.room());
                continue;
            }
            let until = peer.stalled.get_or_insert_with(|| Box::pin(sleep(limits::PEER_STALL)));
            if until.as_mut().poll(cx).is_pending() {
                room = 0;
                continue;
            }
            let why = format!(
                "{}: sent away, it has taken no input for {:?} and {} bytes wait for it",
                peer.name(),
                limits::PEER_STALL,
                peer.backlog.len(),
            );
            // With so many untold, one more says nothing new.
            self.drops.try_send(why).ok();
            at -= 1;
            self.part(at, Error::TimedOut(limits::PEER_STALL));
        }
        if room == 0 || room == usize::MAX { Poll::Pending } else { Poll::Ready(room) }
    }

    fn gone(&mut self) -> Error {
        self.last.take().unwrap_or(Error::Closed)
    }

    fn staying(&self) -> usize {
        self.peers.iter().filter(|peer| peer.leaving.is_none()).count()
    }

    /// One peer's turn; `None` if it has nothing.
    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        at: usize,
    ) -> Option<Result<Read, Error>> {
        let staying = self.staying();
        let peer = self.peers.get_mut(at).filter(|peer| peer.leaving.is_none())?;
        match peer.link.poll_read(cx, buf) {
            Poll::Pending => None,
            // It stays, for the input that it still gets.
            Poll::Ready(Ok(Read::End)) if staying == 1 => Some(Ok(Read::End)),
            Poll::Ready(Ok(Read::End)) => {
                peer.leaving = Some(Box::pin(sleep(limits::HALF_CLOSE_DRAIN)));
                self.poll_backlogs(cx);
                self.changed = false;
                Some(Ok(Read::Changed))
            }
            Poll::Ready(Ok(read)) => {
                self.turn = at + 1;
                Some(Ok(read))
            }
            Poll::Ready(Err(error)) => {
                self.part(at, error);
                self.changed = false;
                Some(if self.peers.is_empty() { Err(self.gone()) } else { Ok(Read::Changed) })
            }
        }
    }
}

impl Link for Peers {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        self.admit(cx);
        self.poll_backlogs(cx);
        if self.peers.is_empty() {
            return Poll::Ready(Err(self.gone()));
        }
        if std::mem::take(&mut self.changed) {
            return Poll::Ready(Ok(Read::Changed));
        }
        let count = self.peers.len();
        let first = self.turn % count;
        for at in (first..count).chain(0..first) {
            if let Some(read) = self.poll_turn(cx, buf, at) {
                return Poll::Ready(read);
            }
        }
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        loop {
            self.poll_backlogs(cx);
            if self.peers.is_empty() {
                return Poll::Ready(Err(self.gone()));
            }
            if self.given == 0 {
                let Poll::Ready(room) = self.poll_room(cx) else { return Poll::Pending };
                self.given = data.len().min(room).min(PIECE_BYTES_MAX);
                for peer in self.peers.iter_mut().filter(|peer| peer.leaving.is_none()) {
                    peer.backlog.extend_from_slice(&data[..self.given]);
                    peer.has_given = true;
                }
                continue;
            }
            let mut holders = self.peers.iter().filter(|peer| peer.has_given).peekable();
            if holders.peek().is_none() {
                // All who had it have left.
                self.given = 0;
                continue;
            }
            if !holders.any(|peer| peer.backlog.is_empty()) {
                return Poll::Pending;
            }
            for peer in &mut self.peers {
                peer.has_given = false;
            }
            return Poll::Ready(Ok(std::mem::take(&mut self.given)));
        }
    }

    fn in_flight(&self) -> usize {
        self.given
    }

    fn ending(&self) -> Error {
        let staying = self.peers.iter().find(|peer| peer.leaving.is_none());
        staying.map_or(Error::Closed, |peer| peer.link.ending())
    }

    /// Done when all have done it, or cannot; it counts if one could.
    fn poll_control(
        &mut self,
        cx: &mut Context<'_>,
        control: &Control,
    ) -> Poll<Result<(), ControlError>> {
        let mut pending = false;
        for peer in &mut self.peers {
            if peer.answer.is_none() {
                match peer.link.poll_control(cx, control) {
                    Poll::Ready(answer) => peer.answer = Some(answer),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            return Poll::Pending;
        }
        let answers: Vec<_> = self.peers.iter_mut().filter_map(|peer| peer.answer.take()).collect();
        let done = answers.iter().any(Result::is_ok);
        let first = answers.into_iter().next().unwrap_or(Err(ControlError::NotConnected));
        Poll::Ready(if done { Ok(()) } else { first })
    }

    fn facts(&self) -> Facts {
        let mut all = Facts::default();
        for facts in self.peers.iter().map(|peer| peer.link.facts()) {
            all.peers.extend(facts.peers);
            all.line_settings = all.line_settings.or(facts.line_settings);
            all.modem_lines = all.modem_lines.or(facts.modem_lines);
            all.window = all.window.or(facts.window);
        }
        all
    }
}
