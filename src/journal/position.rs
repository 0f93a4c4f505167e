//! Where a reader begins: a name, an offset, a number of bytes or lines, or a
//! time, turned into an offset.

use std::time::SystemTime;

use super::{
    Error, Journal,
    cursor::{Cursor, Item},
    frame::Micros,
    index::{self, Index},
    micros,
};
use crate::limits;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// After the newest byte.
    Now,
    /// The oldest byte held.
    Beginning,
    /// This offset.
    Offset(u64),
    /// So many offsets before the newest; those of a gap count.
    LastBytes(u64),
    /// The beginning of the last so many lines.
    LastLines(u32),
    /// The first byte received at or after this time.
    Time(SystemTime),
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Where the cursor is to begin; what is missing there it tells as a gap.
    pub cursor: u64,
    /// The first byte that will be served.
    pub offset: u64,
    /// The oldest byte held.
    pub oldest: u64,
    /// The next byte that the device will say.
    pub next: u64,
}

impl Journal {
    /// Finds where a reader begins.
    pub async fn start(&self, position: Position) -> Result<Start, Error> {
        let (oldest, next) = {
            let core = self.shared.core();
            (core.oldest(), core.tail.published())
        };
        let cursor = match position {
            Position::Now => next,
            Position::Beginning => oldest,
            Position::Offset(offset) => offset.min(next),
            Position::LastBytes(bytes) => next.saturating_sub(bytes).max(oldest),
            Position::LastLines(lines) => self.last_lines(lines, oldest, next).await?,
            Position::Time(time) => self.since(micros(time)).await?.unwrap_or(next).max(oldest),
        };
        Ok(Start { cursor, offset: cursor.max(oldest), oldest, next })
    }

    /// The first offset received at or after `time`; `None`: all came before.
    pub async fn since(&self, time: Micros) -> Result<Option<u64>, Error> {
        let (mut candidates, unwritten) = {
            let core = self.shared.core();
            // The last segment that began before, and those after it.
            let first = core.segments.partition_point(|s| s.base < time).saturating_sub(1);
            let candidates: Vec<_> = core.segments.range(first..).copied().collect();
            (candidates, core.tail.unwritten_since(time))
        };
        candidates.retain(|segment| segment.len > 0);
        let shared = self.shared.clone();
        let search = tokio::task::spawn_blocking(move || {
            for segment in candidates {
                let path = index::index_path(shared.dir(), segment.start);
                // Deleted or damaged: the next one is as near as we can say.
                let Ok(index) = Index::open(&path, segment.start) else {
                    continue;
                };
                if let Some(position) = index.position_since(time).map_err(Error::io(path))? {
                    return Ok(Some(segment.start + position));
                }
            }
            Ok(None)
        });
        let written = search.await.map_err(|_| Error::Stopping)??;
        Ok(written.or(unwritten))
    }

    /// The offset of the first of the last `lines` lines. A line that is not
    /// finished counts.
    async fn last_lines(&self, lines: u32, oldest: u64, next: u64) -> Result<u64, Error> {
        let floor = oldest.max(next.saturating_sub(limits::LAST_LINES_BYTES_MAX));
        let mut left = lines;
        if left == 0 {
            return Ok(next);
        }
        let mut end = next;
        let mut newest = true;
        while end > floor {
            let start = end.saturating_sub(limits::DISK_READ_BYTES as u64).max(floor);
            let block = read_block(self.cursor(start), end).await?;
            for (offset, byte) in block.iter().rev() {
                // The newline that ends the last line begins no new one.
                let ends_all = std::mem::take(&mut newest);
                if *byte == b'\n' && !ends_all {
                    left -= 1;
                    if left == 0 {
                        return Ok(offset + 1);
                    }
                }
            }
            end = start;
        }
        Ok(floor)
    }
}

/// What is held from the cursor's place to `end`, each byte with its offset.
async fn read_block(mut cursor: Cursor, end: u64) -> Result<Vec<(u64, u8)>, Error> {
    let mut block = Vec::new();
    while cursor.offset() < end {
        match cursor.try_next().await? {
            Some(Item::Frame(frame)) => {
                let bytes = (frame.offset()..).zip(frame.data().iter().copied());
                block.extend(bytes.take_while(|(offset, _)| *offset < end));
            }
            Some(Item::Gap { .. }) => {}
            None => break,
        }
    }
    Ok(block)
}
