//! Output read back from disk, shared by the cursors that come by: a pack of
//! attachers that fell behind together reads each piece from disk once.
//!
//! Bound: `limits::REREAD_BYTES_MAX` a journal, booked on the tails' budget;
//! dropped when it has not been used for `limits::TAIL_QUIET`.

use std::{collections::BTreeMap, time::Instant};

use super::frame::Frame;
use crate::limits;

/// Frames read back from disk, by their offset.
#[derive(Debug, Default)]
pub(super) struct Reread {
    frames: BTreeMap<u64, Frame>,
    cost: usize,
    used: Option<Instant>,
}

impl Reread {
    /// Memory taken.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// The frame that holds `offset`.
    pub(super) fn get(&mut self, offset: u64) -> Option<Frame> {
        let (_, frame) = self.frames.range(..=offset).next_back()?;
        if frame.end() <= offset {
            return None;
        }
        self.used = Some(Instant::now());
        Some(frame.clone())
    }

    /// Keeps a frame for those who come after; those furthest behind lose first.
    pub(super) fn put(&mut self, frame: Frame) {
        self.used = Some(Instant::now());
        self.cost += frame.cost();
        if let Some(same) = self.frames.insert(frame.offset(), frame) {
            self.cost -= same.cost();
        }
        while self.cost > limits::REREAD_BYTES_MAX
            && let Some((_, first)) = self.frames.pop_first()
        {
            self.cost -= first.cost();
        }
    }

    /// Drops everything if nobody came by lately. Whether it is empty now.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        if self.used.is_none_or(|used| now.duration_since(used) >= limits::TAIL_QUIET) {
            *self = Self::default();
        }
        self.frames.is_empty()
    }
}
