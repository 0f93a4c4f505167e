//! The tail: the newest output, in memory, as frames that all cursors share.
//!
//! Three offsets move through it, always `written <= published <= next` unless
//! the journal is degraded, when `written` may stay behind:
//!
//! - `next`: appended by the line;
//! - `published`: may be shown to cursors. Nothing is published before it was
//!   written, so that no attacher ever saw a byte that a killed server forgot;
//! - `written`: handed to the operating system, which keeps it when the server
//!   is killed.
//!
//! Frames are in order; where one ends before the next begins, or before `next`,
//! is a gap: output that was lost on its way here, or fell out of a full tail
//! before the disk took it. A gap takes no memory and moves the marks as output
//! does.
//!
//! Small frames are joined once they are written: here, once, not per attacher.
//! Never over a gap.
//! Bounds: `limits::TAIL_BYTES_MAX` (by [`Tail::trim`]), `FRAME_BYTES_MAX`,
//! `SMALL_FRAMES_MAX`.

use std::collections::VecDeque;

use super::frame::{Frame, Framer, Micros};
use crate::limits;

/// The newest output.
#[derive(Debug)]
pub(super) struct Tail {
    framer: Framer,
    frames: VecDeque<Frame>,
    next: u64,
    published: u64,
    written: u64,
    /// The end of the newest output; before `next` if a gap came after it.
    said: u64,
    /// When the last gap was told.
    gap_time: Micros,
    cost: usize,
    /// Memory of what waits for the disk.
    unwritten_cost: usize,
    /// Where the run of small frames at the end begins.
    run: usize,
    /// The last join that was made for a cursor, for the next one at its place.
    joined: Option<Frame>,
}

/// What the tail has for a cursor.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Output.
    Frame(Frame),
    /// Nothing up to this offset, and nothing will be.
    Gap(u64),
    /// Nothing yet.
    AtEnd,
    /// The tail begins later: look on disk up to here.
    Before(u64),
}

/// What the disk is to have next.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// In order, with no gap in between that needs a segment of its own. None:
    /// all there is before `to` is a gap.
    pub(super) frames: Vec<Frame>,
    /// Where it ends.
    pub(super) to: u64,
    /// When the newest of it came.
    pub(super) time: Micros,
}

impl Tail {
    pub(super) fn new(framer: Framer, next: u64) -> Self {
        Self {
            framer,
            frames: VecDeque::new(),
            next,
            published: next,
            written: next,
            said: next,
            gap_time: 0,
            cost: 0,
            unwritten_cost: 0,
            run: 0,
            joined: None,
        }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn published(&self) -> u64 {
        self.published
    }

    /// Offset of the first byte in memory, or where what may be read ends.
    pub(super) fn first(&self) -> u64 {
        self.frames.front().map_or(self.published, Frame::offset).min(self.published)
    }

    /// Memory taken.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Offsets that wait for the disk.
    pub(super) fn unwritten(&self) -> u64 {
        self.next - self.written
    }

    /// Memory of what waits for the disk.
    pub(super) fn unwritten_cost(&self) -> usize {
        self.unwritten_cost
    }

    /// Takes in a frame that begins at `next`.
    pub(super) fn push(&mut self, frame: Frame) {
        debug_assert_eq!(frame.offset(), self.next, "frames begin where the tail ends");
        self.next = frame.end();
        self.said = self.next;
        self.cost += frame.cost();
        self.unwritten_cost += frame.cost();
        self.frames.push_back(frame);
    }

    /// What comes before `to` was lost; nothing of it will ever be appended.
    /// Whether that is a gap of its own, and not more of the one before.
    pub(super) fn skip(&mut self, to: u64, time: Micros) -> bool {
        let new = self.said == self.next;
        self.next = self.next.max(to);
        self.gap_time = time;
        new
    }

    /// What is not written yet, from its beginning up to about `limit` bytes;
    /// gaps count as what is missing. `None`: everything is written.
    pub(super) fn take_unwritten(&self, limit: u64) -> Option<Unwritten> {
        if self.written == self.next {
            return None;
        }
        let from = self.frames.partition_point(|frame| frame.offset() < self.written);
        let mut frames: Vec<Frame> = Vec::new();
        let mut taken = 0;
        for frame in self.frames.range(from..) {
            let gap = frames.last().map_or(0, |last| frame.offset() - last.end());
            if gap > limits::HOLE_BYTES_MAX || taken + gap >= limit {
                break;
            }
            taken += gap + frame.len() as u64;
            frames.push(frame.clone());
        }
        let (to, time) = match frames.last() {
            Some(last) => (last.end(), last.time()),
            None => (self.next, self.gap_time),
        };
        Some(Unwritten { frames, to, time })
    }

    /// The disk has everything before `to`, or never will.
    pub(super) fn mark_written(&mut self, to: u64) {
        let from = self.frames.partition_point(|frame| frame.offset() < self.written);
        let now_written = self.frames.range(from..).take_while(|frame| frame.end() <= to);
        self.unwritten_cost -= now_written.map(Frame::cost).sum::<usize>();
        self.written = self.written.max(to);
        self.publish(self.written);
        self.join_run();
    }

    /// Cursors may have everything before `to`.
    pub(super) fn publish(&mut self, to: u64) {
        self.published = self.published.max(to);
    }

    /// Frees memory down to `limit`, oldest first. What the disk does not have
    /// goes only past `TAIL_BYTES_MAX`; returns how many bytes were lost so.
    pub(super) fn trim(&mut self, limit: usize) -> u64 {
        let mut lost = 0;
        while self.cost > limit {
            let Some(front) = self.frames.front() else {
                break;
            };
            let unwritten = front.end().saturating_sub(self.written.max(front.offset()));
            if unwritten > 0 && self.cost <= limits::TAIL_BYTES_MAX {
                break;
            }
            if unwritten > 0 {
                lost += unwritten;
                self.unwritten_cost -= front.cost();
            }
            self.cost -= front.cost();
            self.written = self.written.max(front.end());
            self.published = self.published.max(front.end());
            self.frames.pop_front();
            self.run = self.run.saturating_sub(1);
        }
        if self.frames.is_empty() {
            self.frames.shrink_to_fit();
            self.joined = None;
        }
        lost
    }

    /// What a cursor at `offset` sees next: one whole frame, or as many small
    /// ones as there are, joined.
    pub(super) fn at(&mut self, offset: u64) -> Lookup {
        if offset >= self.published {
            return Lookup::AtEnd;
        }
        if offset < self.first() {
            return Lookup::Before(self.first());
        }
        let at = self.frames.partition_point(|frame| frame.end() <= offset);
        let Some(frame) = self.frames.get(at) else {
            return Lookup::Gap(self.published);
        };
        if frame.offset() > offset {
            return Lookup::Gap(frame.offset().min(self.published));
        }
        let alone = frame.len() >= limits::FRAME_BYTES_MAX / 2
            || !self.goes_on(frame.end(), self.frames.get(at + 1));
        if frame.offset() == offset && alone {
            return Lookup::Frame(frame.clone());
        }
        if let Some(joined) = &self.joined
            && joined.offset() == offset
            && (alone || !self.goes_on(joined.end(), self.frame_after(joined.end())))
        {
            return Lookup::Frame(joined.clone());
        }
        let joined = if alone {
            frame.part(self.framer, offset, frame.end())
        } else {
            self.join_from(at, offset)
        };
        self.joined = Some(joined.clone());
        Lookup::Frame(joined)
    }

    /// Whether what ends at `end` can be joined with `next`.
    fn goes_on(&self, end: u64, next: Option<&Frame>) -> bool {
        next.is_some_and(|next| next.offset() == end && next.end() <= self.published)
    }

    /// The first frame that ends after `offset`.
    fn frame_after(&self, offset: u64) -> Option<&Frame> {
        self.frames.get(self.frames.partition_point(|frame| frame.end() <= offset))
    }

    /// The first frame that the disk does not have and that came at or after
    /// `time`.
    pub(super) fn unwritten_since(&self, time: Micros) -> Option<u64> {
        let from = self.frames.partition_point(|frame| frame.offset() < self.written);
        let mut unwritten = self.frames.range(from..);
        unwritten.find(|frame| frame.time() >= time).map(Frame::offset)
    }

    /// Joins published frames from the one at `at`, beginning with `offset`.
    fn join_from(&self, at: usize, offset: u64) -> Frame {
        let first = &self.frames[at];
        let skip = usize::try_from(offset - first.offset()).unwrap_or(0);
        let mut parts = vec![&first.data()[skip..]];
        let mut len = parts[0].len();
        let mut end = first.end();
        for frame in self.frames.range(at + 1..) {
            len += frame.len();
            if len > limits::FRAME_BYTES_MAX || !self.goes_on(end, Some(frame)) {
                break;
            }
            end = frame.end();
            parts.push(frame.data());
        }
        Frame::build(self.framer, offset, first.time(), &parts)
    }

    /// Joins the run of small frames at the end once it is long enough. Only
    /// what is written: what waits for the disk keeps its frames, one record
    /// of the index each.
    fn join_run(&mut self) {
        loop {
            let mut len = 0;
            let mut count = 0;
            let mut joins = None;
            for frame in self.frames.range(self.run.min(self.frames.len())..) {
                let apart = joins.is_some_and(|end| frame.offset() != end);
                let long = len + frame.len() > limits::FRAME_BYTES_MAX;
                if apart || long || frame.end() > self.written {
                    break;
                }
                joins = Some(frame.end());
                len += frame.len();
                count += 1;
                if count == limits::SMALL_FRAMES_MAX {
                    break;
                }
            }
            let end = self.run + count;
            let full = count == limits::SMALL_FRAMES_MAX
                || self.frames.get(end).is_some_and(|next| {
                    let apart = joins.is_some_and(|end| next.offset() != end);
                    let long = len + next.len() > limits::FRAME_BYTES_MAX;
                    apart || long && next.end() <= self.written
                });
            if !full {
                return;
            }
            if count > 1 {
                let parts: Vec<&[u8]> = self.frames.range(self.run..end).map(Frame::data).collect();
                let first = &self.frames[self.run];
                let joined = Frame::build(self.framer, first.offset(), first.time(), &parts);
                for frame in self.frames.drain(self.run..end) {
                    self.cost -= frame.cost();
                }
                self.cost += joined.cost();
                self.frames.insert(self.run, joined);
            }
            // A frame too large to join with anything, or between gaps, stands alone.
            self.run += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::journal::frame::FrameHead;

    fn framer(head: FrameHead, out: &mut BytesMut) {
        out.extend_from_slice(format!("[{}]", head.offset).as_bytes());
    }

    fn byte(offset: u64) -> u8 {
        u8::try_from(offset % 251).unwrap()
    }

    fn push(tail: &mut Tail, len: usize) {
        let offset = tail.next();
        let data: Vec<u8> = (offset..offset + len as u64).map(byte).collect();
        tail.push(Frame::build(framer, offset, offset, &[&data]));
    }

    fn read(tail: &mut Tail, cursor: &mut u64) -> Option<usize> {
        match tail.at(*cursor) {
            Lookup::Frame(frame) => {
                assert_eq!(frame.offset(), *cursor);
                assert!(frame.len() <= limits::FRAME_BYTES_MAX.max(limits::LINE_READ_BYTES));
                for (offset, seen) in (*cursor..).zip(frame.data()) {
                    assert_eq!(*seen, byte(offset));
                }
                *cursor = frame.end();
                Some(frame.len())
            }
            Lookup::AtEnd => None,
            Lookup::Before(to) | Lookup::Gap(to) => {
                assert!(to > *cursor);
                *cursor = to;
                Some(0)
            }
        }
    }

    #[test]
    fn nothing_is_shown_before_it_is_written() {
        let mut tail = Tail::new(framer, 7);
        push(&mut tail, 3);
        let mut cursor = 7;
        assert_eq!(read(&mut tail, &mut cursor), None);
        tail.mark_written(10);
        assert_eq!(read(&mut tail, &mut cursor), Some(3));
    }

    #[test]
    fn a_cursor_behind_gets_small_pieces_as_one_and_shares_them_with_the_next() {
        let mut tail = Tail::new(framer, 0);
        for _ in 0..10 {
            push(&mut tail, 5);
        }
        tail.mark_written(50);
        let (Lookup::Frame(a), Lookup::Frame(b)) = (tail.at(0), tail.at(0)) else { panic!() };
        assert_eq!(a.len(), 50);
        assert_eq!(a.wire().as_ptr(), b.wire().as_ptr());
    }

    #[test]
    fn nothing_is_joined_over_a_gap_and_what_is_joined_is_shared() {
        let mut tail = Tail::new(framer, 0);
        for _ in 0..5 {
            push(&mut tail, 5);
            push(&mut tail, 5);
            tail.skip(tail.next() + 7, 0);
        }
        tail.mark_written(tail.next());
        let (Lookup::Frame(a), Lookup::Frame(b)) = (tail.at(17), tail.at(17)) else { panic!() };
        assert_eq!((a.offset(), a.len()), (17, 10));
        assert_eq!(a.wire().as_ptr(), b.wire().as_ptr());
        assert!(matches!(tail.at(12), Lookup::Gap(17)));
        assert!(matches!(tail.at(80), Lookup::Gap(85)));
        assert!(matches!(tail.at(85), Lookup::AtEnd));
    }

    #[test]
    fn a_gap_is_not_shown_before_it_is_written_to_those_behind_either() {
        let mut tail = Tail::new(framer, 0);
        push(&mut tail, 5);
        tail.mark_written(5);
        tail.trim(0);
        tail.skip(12, 0);
        assert!(matches!(tail.at(2), Lookup::Before(5)));
        assert!(matches!(tail.at(5), Lookup::AtEnd));
    }

    #[test]
    fn bookkeeping_of_single_bytes_stays_small() {
        let mut tail = Tail::new(framer, 0);
        for _ in 0..100_000 {
            push(&mut tail, 1);
            tail.mark_written(tail.next());
        }
        assert!(
            tail.frames.len() < 100_000 / limits::SMALL_FRAMES_MAX + 2 * limits::SMALL_FRAMES_MAX
        );
    }

    #[test]
    fn what_the_disk_lacks_is_kept_to_the_bound_and_then_counted() {
        let mut tail = Tail::new(framer, 0);
        while tail.cost() < limits::TAIL_BYTES_MAX {
            push(&mut tail, 8192);
        }
        assert_eq!(tail.trim(limits::TAIL_BYTES_MIN), 8192);
        assert_eq!(tail.written, 8192);
        tail.mark_written(tail.next());
        assert_eq!(tail.trim(0), 0);
        assert_eq!(tail.first(), tail.next());
    }

    proptest! {
        #[test]
        fn every_cursor_sees_every_byte_once(
            steps in prop::collection::vec((1usize..6000, 0u64..3, 0usize..4, any::<bool>(), 0usize..100_000), 1..200)
        ) {
            let mut tail = Tail::new(framer, 0);
            let mut cursors = [0u64; 3];
            for (len, lost, reader, written, limit) in steps {
                push(&mut tail, len);
                tail.skip(tail.next() + lost, 0);
                if written {
                    tail.mark_written(tail.next());
                    tail.trim(limit);
                }
                if let Some(cursor) = cursors.get_mut(reader) {
                    while read(&mut tail, cursor).is_some() {}
                    prop_assert_eq!(*cursor, tail.published());
                }
                prop_assert_eq!(tail.cost, tail.frames.iter().map(Frame::cost).sum::<usize>());
                let unwritten = tail.frames.iter().filter(|frame| frame.offset() >= tail.written);
                prop_assert_eq!(tail.unwritten_cost, unwritten.map(Frame::cost).sum::<usize>());
            }
        }
    }
}
