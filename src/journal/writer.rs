//! The writing end of a journal, owned by the line: gathers pieces into frames
//! and hands them over. Never blocks.

use std::time::SystemTime;

use super::{
    Journal,
    frame::{Frame, Micros},
    micros,
    scribe::Work,
    shared::SharedRef,
};
use crate::limits;

/// The one writing end. Dropping it closes the journal in order.
#[derive(Debug)]
pub struct Writer {
    shared: SharedRef,
    pending: Vec<u8>,
    pending_time: Micros,
    next: u64,
    /// Times never go back.
    last_time: Micros,
}

impl Writer {
    pub(super) fn new(shared: SharedRef) -> Self {
        let (next, last_time) = {
            let core = shared.core();
            (core.tail.next(), core.recovered_time)
        };
        Self { shared, pending: Vec::new(), pending_time: 0, next, last_time }
    }

    /// The reading end.
    pub fn journal(&self) -> Journal {
        Journal { shared: self.shared.clone() }
    }

    /// The offset of the next byte, gathered ones included.
    pub fn next_offset(&self) -> u64 {
        self.next + self.pending.len() as u64
    }

    /// Takes in what the device said. It is gathered until [`Writer::flush`],
    /// or until a frame is full.
    pub fn append(&mut self, mut data: &[u8]) {
        if self.pending.is_empty() {
            self.last_time = micros(SystemTime::now()).max(self.last_time);
            self.pending_time = self.last_time;
            // A piece that fills a frame by itself is not copied twice.
            let whole = data.len() - data.len() % limits::FRAME_BYTES_MAX;
            if whole > 0 {
                let (full, rest) = data.split_at(whole);
                self.append_frames(full.chunks(limits::FRAME_BYTES_MAX));
                data = rest;
            }
        }
        while !data.is_empty() {
            let room = limits::FRAME_BYTES_MAX - self.pending.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.pending.extend_from_slice(now);
            data = later;
            if self.pending.len() == limits::FRAME_BYTES_MAX {
                self.flush();
            }
        }
    }

    /// Whether something is gathered.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Hands over what is gathered.
    pub fn flush(&mut self) {
        if !self.pending.is_empty() {
            // An idle line keeps no buffer.
            let pending = std::mem::take(&mut self.pending);
            self.append_frames(std::iter::once(pending.as_slice()));
        }
    }

    /// Output was lost before it came here: the next `n` offsets are a gap, for
    /// every reader and for good. What is gathered goes before it; losses with
    /// nothing between them are one gap.
    ///
    /// Told to readers as soon as it is on disk, as output is. A loss of more
    /// than `limits::OFFSET_JUMP` counts as that much: whoever counts so far is
    /// guessing, and offsets must not run out.
    pub fn lose(&mut self, n: u64) {
        if n == 0 {
            return;
        }
        self.flush();
        self.last_time = micros(SystemTime::now()).max(self.last_time);
        let n = n.min(limits::OFFSET_JUMP);
        self.next = self.next.saturating_add(n);
        self.shared.lose(self.next, n, self.last_time);
    }

    /// Waits while the disk is further behind than it may be.
    pub async fn room(&self) {
        if self.shared.has_room() {
            return;
        }
        let mut published = self.shared.subscribe();
        while !self.shared.has_room() {
            if published.changed().await.is_err() {
                return;
            }
        }
    }

    fn append_frames<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) {
        let (framer, time, mut next) = (self.shared.framer, self.pending_time, self.next);
        let frames: Vec<Frame> = pieces
            .map(|piece| {
                let frame = Frame::build(framer, next, time, &[piece]);
                next = frame.end();
                frame
            })
            .collect();
        self.next = next;
        self.shared.append(frames);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
        self.shared.clone().schedule(Work::Close(self.shared.clone()));
    }
}
