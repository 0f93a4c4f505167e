//! Input on its way to the far side: a bounded queue in the line, and for each
//! attachment a record of how far its own input has come.
//!
//! Positions count the bytes of one attachment's input from 0. `queued` is the
//! next position that is taken, `written` is what the operating system took for
//! the far side. When a link is lost, what was queued is dropped and `queued`
//! goes back to `written`: that is where the attacher sends again from.
//!
//! Bound: `limits::LINE_INPUT_BYTES_MAX` for a line, kept by permits that travel
//! with the bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf, Bytes};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::AttachmentId;

/// Why input was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The attachment may not write.
    NotWriter,
    /// There is no link, or it was lost.
    NotConnected,
    /// More than may wait.
    QueueFull,
    /// Bytes before it are missing.
    OffsetGap,
    /// The host interface takes no input.
    NoInput,
}

/// How far an attachment's input has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that the far side's end took.
    pub written: u64,
    /// Those and the ones that wait.
    pub queued: u64,
    /// Why something after `queued` was dropped, if it was since this was last
    /// looked at.
    pub refusal: Option<Refusal>,
}

/// [`Progress`], shared between the line and the attachment.
#[derive(Debug, Default)]
pub struct SharedProgress {
    progress: Mutex<Progress>,
    changed: Notify,
}

impl SharedProgress {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is, if it is not `seen`; takes the refusal out.
    pub fn take_if_changed(&self, seen: Progress) -> Option<Progress> {
        let mut progress = self.lock();
        let now = *progress;
        progress.refusal = None;
        (now != seen).then_some(now)
    }

    /// Waits until it is not `seen`. Takes nothing out.
    pub async fn until_changed(&self, seen: Progress) {
        loop {
            let mut notified = std::pin::pin!(self.changed.notified());
            notified.as_mut().enable();
            if self.get() != seen {
                return;
            }
            notified.await;
        }
    }

    /// How far it is now.
    pub fn get(&self) -> Progress {
        *self.lock()
    }

    /// Tells that bytes were dropped before they were queued.
    pub fn refuse(&self, refusal: Refusal) {
        self.lock().refusal = Some(refusal);
        self.changed.notify_waiters();
    }

    fn queue(&self, n: u64) {
        self.lock().queued += n;
    }

    fn wrote(&self, n: u64) {
        self.lock().written += n;
        self.changed.notify_waiters();
    }

    /// All but `kept` of what waits was dropped.
    fn dropped(&self, kept: u64) {
        let mut progress = self.lock();
        progress.queued = progress.written + kept;
        progress.refusal = Some(Refusal::NotConnected);
        drop(progress);
        self.changed.notify_waiters();
    }
}

/// One piece of input that was given room.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) from: AttachmentId,
    /// Where the sender says it begins.
    pub(super) offset: Option<u64>,
    pub(super) data: Bytes,
    pub(super) room: OwnedSemaphorePermit,
    pub(super) progress: Arc<SharedProgress>,
}

/// Input that waits for the far side, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct InputQueue {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that cannot be taken back.
    in_flight: usize,
}

impl InputQueue {
    /// Takes a piece in, less what was taken before; refuses one that leaves
    /// bytes out.
    pub(super) fn push(&mut self, mut piece: Piece) -> Result<(), Refusal> {
        let queued = piece.progress.get().queued;
        if let Some(offset) = piece.offset {
            if offset > queued {
                return Err(Refusal::OffsetGap);
            }
            let again = usize::try_from(queued - offset).unwrap_or(usize::MAX);
            piece.data.advance(again.min(piece.data.len()));
        }
        if !piece.data.is_empty() {
            piece.progress.queue(piece.data.len() as u64);
            self.pieces.push_back(piece);
        }
        Ok(())
    }

    /// What to write next.
    pub(super) fn front(&self) -> Option<&[u8]> {
        self.pieces.front().map(|piece| piece.data.as_ref())
    }

    /// So many bytes of [`InputQueue::front`] are on their way already: dropping
    /// leaves them.
    pub(super) fn set_in_flight(&mut self, n: usize) {
        self.in_flight = n;
    }

    /// `n` bytes of [`InputQueue::front`] were written.
    pub(super) fn wrote(&mut self, n: usize) {
        self.in_flight = 0;
        let Some(piece) = self.pieces.front_mut() else {
            return;
        };
        piece.data.advance(n);
        // The room of what is written is free for others at once.
        drop(piece.room.split(n));
        piece.progress.wrote(n as u64);
        if piece.data.is_empty() {
            self.pieces.pop_front();
        }
    }

    /// Drops what `from` has waiting, or everything. Returns how many bytes.
    pub(super) fn drop_from(&mut self, from: Option<AttachmentId>) -> u64 {
        let mut dropped = 0;
        let mut kept = self.in_flight;
        let on_its_way = self.pieces.front().map(|piece| piece.from).filter(|_| kept > 0);
        self.pieces.retain_mut(|piece| {
            if from.is_some_and(|from| from != piece.from) {
                kept = 0;
                return true;
            }
            // Only the first piece has anything on its way.
            let keep = std::mem::take(&mut kept).min(piece.data.len());
            dropped += (piece.data.len() - keep) as u64;
            drop(piece.room.split(piece.data.len() - keep));
            piece.data.truncate(keep);
            let still = if on_its_way == Some(piece.from) { self.in_flight } else { 0 };
            piece.progress.dropped(still as u64);
            keep > 0
        });
        if self.pieces.is_empty() {
            self.pieces.shrink_to_fit();
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn piece(progress: &Arc<SharedProgress>, offset: Option<u64>, data: &'static [u8]) -> Piece {
        let room = Arc::new(Semaphore::new(100))
            .try_acquire_many_owned(u32::try_from(data.len()).unwrap());
        Piece {
            from: AttachmentId(1),
            offset,
            data: Bytes::from_static(data),
            room: room.unwrap(),
            progress: progress.clone(),
        }
    }

    #[test]
    fn what_is_sent_again_is_taken_once() {
        let (mut queue, progress) = (InputQueue::default(), Arc::default());
        queue.push(piece(&progress, Some(0), b"abc")).unwrap();
        queue.push(piece(&progress, Some(1), b"bcde")).unwrap();
        queue.push(piece(&progress, Some(0), b"ab")).unwrap();
        assert_eq!(queue.push(piece(&progress, Some(6), b"x")), Err(Refusal::OffsetGap));
        assert_eq!(queue.front(), Some(&b"abc"[..]));
        queue.wrote(3);
        assert_eq!(queue.front(), Some(&b"de"[..]));
        assert_eq!(progress.get(), Progress { written: 3, queued: 5, refusal: None });
    }

    #[test]
    fn after_a_lost_link_the_sender_goes_on_from_what_was_written() {
        let (mut queue, progress) = (InputQueue::default(), Arc::default());
        queue.push(piece(&progress, None, b"abcdef")).unwrap();
        queue.wrote(2);
        assert_eq!(queue.drop_from(None), 4);
        let refusal = Some(Refusal::NotConnected);
        assert_eq!(progress.get(), Progress { written: 2, queued: 2, refusal });
        queue.push(piece(&progress, Some(2), b"cd")).unwrap();
        assert_eq!(queue.front(), Some(&b"cd"[..]));
    }

    #[test]
    fn what_is_on_its_way_is_not_taken_back() {
        let (mut queue, progress) = (InputQueue::default(), Arc::default());
        queue.push(piece(&progress, None, b"abcdef")).unwrap();
        queue.push(piece(&progress, None, b"gh")).unwrap();
        queue.set_in_flight(4);
        assert_eq!(queue.drop_from(Some(AttachmentId(1))), 4);
        assert_eq!(progress.get().queued, 4);
        assert_eq!(queue.front(), Some(&b"abcd"[..]));
        queue.wrote(4);
        assert_eq!(progress.get().written, 4);
        assert_eq!(queue.front(), None);
    }
}
