//! Output read back from disk, shared by the cursors that come by: a pack of
//! attachers that fell behind together reads each piece from disk once. Gaps
//! between pieces are kept with them: finding one costs as much as reading.
//!
//! Bound: `limits::REREAD_BYTES_MAX` a journal, booked on the tails' budget;
//! dropped when it has not been used for `limits::TAIL_QUIET`.

use std::{collections::BTreeMap, time::Instant};

use super::cursor::Item;
use crate::limits;

/// Frames read back from disk and the gaps between them, by their offset.
#[derive(Debug, Default)]
pub(super) struct Reread {
    items: BTreeMap<u64, Item>,
    cost: usize,
    used: Option<Instant>,
}

impl Reread {
    /// Memory taken.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// The item that holds `offset`.
    pub(super) fn get(&mut self, offset: u64) -> Option<Item> {
        let (_, item) = self.items.range(..=offset).next_back()?;
        if item.end() <= offset {
            return None;
        }
        self.used = Some(Instant::now());
        Some(item.clone())
    }

    /// Keeps an item for those who come after; those furthest behind lose first.
    pub(super) fn put(&mut self, item: Item) {
        self.used = Some(Instant::now());
        self.cost += item.cost();
        if let Some(same) = self.items.insert(item.offset(), item) {
            self.cost -= same.cost();
        }
        while self.cost > limits::REREAD_BYTES_MAX
            && let Some((_, first)) = self.items.pop_first()
        {
            self.cost -= first.cost();
        }
    }

    /// Drops everything if nobody came by lately. Whether it is empty now.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        if self.used.is_none_or(|used| now.duration_since(used) >= limits::TAIL_QUIET) {
            *self = Self::default();
        }
        self.items.is_empty()
    }
}
