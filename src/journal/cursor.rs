//! A cursor: one reader's place in a journal. It reads from the tail while it
//! keeps up and from the segments when it has fallen behind, and tells exactly
//! what is missing. Nobody waits for it.

use std::{fs::File, io, os::unix::fs::FileExt};

use tokio::sync::watch;

use super::{
    Error,
    extent::{Extent, What, extents},
    frame::Frame,
    index::{self, Index},
    segment::{Gaps, Segment},
    shared::{Shared, SharedRef},
    tail::Lookup,
};
use crate::limits;

/// What a cursor finds.
#[derive(Debug, Clone)]
pub enum Item {
    /// Output.
    Frame(Frame),
    /// Output that is not held.
    Gap {
        /// The first offset missing.
        from: u64,
        /// The next one that is not.
        to: u64,
    },
}

impl Item {
    /// The first offset that it is about.
    pub(super) fn offset(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.offset(),
            Self::Gap { from, .. } => *from,
        }
    }

    /// The next one that it is not about.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.end(),
            Self::Gap { to, .. } => *to,
        }
    }

    /// Memory that it takes in a list.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.cost(),
            Self::Gap { .. } => size_of::<Self>() + 64,
        }
    }
}

/// One reader's place in a journal.
#[derive(Debug)]
pub struct Cursor {
    shared: SharedRef,
    next: u64,
    published: watch::Receiver<u64>,
    file: Option<OpenSegment>,
}

/// A segment that the cursor reads from.
#[derive(Debug)]
struct OpenSegment {
    start: u64,
    log: File,
    index: Option<Index>,
}

/// Where the next output is.
enum Place {
    Memory(Frame),
    Disk(Segment, u64),
    Missing(u64),
    Later,
}

impl Cursor {
    pub(super) fn new(shared: SharedRef, next: u64) -> Self {
        let published = shared.subscribe();
        Self { shared, next, published, file: None }
    }

    /// The offset of the next byte that [`Cursor::next`] returns or leaves out.
    pub fn offset(&self) -> u64 {
        self.next
    }

    /// What is held next, waiting for it if the cursor is at the end. Cancel
    /// safe: a call that is given up loses nothing.
    pub async fn next(&mut self) -> Result<Item, Error> {
        loop {
            if let Some(item) = self.try_next().await? {
                return Ok(item);
            }
            self.ready().await;
        }
    }

    /// Waits until there may be something for [`Cursor::try_next`].
    pub async fn ready(&mut self) {
        while *self.published.borrow_and_update() <= self.next {
            // The sender lives as long as this cursor's journal.
            if self.published.changed().await.is_err() {
                return;
            }
        }
    }

    /// What is held next; `None` at the end.
    pub async fn try_next(&mut self) -> Result<Option<Item>, Error> {
        // Behind `self.next` while a gap is looked to the end of: it may be
        // partly in a segment, partly between two, and partly in the tail.
        let mut at = self.next;
        loop {
            match self.place(at) {
                Place::Missing(to) => at = to,
                // After a gap comes output: a segment begins with it, and what
                // was read of one ended with it.
                Place::Later | Place::Memory(_) | Place::Disk(..) if at > self.next => {
                    let from = std::mem::replace(&mut self.next, at);
                    self.shared.metrics.journal_gaps.inc();
                    return Ok(Some(Item::Gap { from, to: at }));
                }
                Place::Later => return Ok(None),
                Place::Memory(frame) => {
                    self.file = None;
                    self.next = frame.end();
                    return Ok(Some(Item::Frame(frame)));
                }
                Place::Disk(segment, until) => match self.read(segment, until).await {
                    Ok(Item::Gap { to, .. }) => at = to,
                    Ok(Item::Frame(frame)) => {
                        self.next = frame.end();
                        return Ok(Some(Item::Frame(frame)));
                    }
                    // Retention was faster: look again.
                    Err(error)
                        if error.kind() == io::ErrorKind::NotFound
                            && self.shared.core().segment_of(self.next).is_none() => {}
                    Err(error) => {
                        let path = index::log_path(self.shared.dir(), segment.start);
                        return Err(Error::io(path)(error));
                    }
                },
            }
        }
    }

    /// The part of `frame` before `until`, for reads that end there.
    pub fn before(&self, frame: Frame, until: u64) -> Frame {
        if frame.end() <= until {
            frame
        } else {
            frame.part(self.shared.framer, frame.offset(), until)
        }
    }

    fn place(&self, at: u64) -> Place {
        let mut core = self.shared.core();
        match core.tail.at(at) {
            Lookup::Frame(frame) => Place::Memory(frame),
            Lookup::Gap(to) => Place::Missing(to),
            Lookup::AtEnd => Place::Later,
            Lookup::Before(first) => match core.segment_of(at) {
                Some(segment) => Place::Disk(segment, segment.end().min(first.max(at + 1))),
                None => Place::Missing(core.next_held(at)),
            },
        }
    }

    /// Reads from disk at the cursor's place. What comes with it is kept for
    /// the next read, of this cursor or another.
    async fn read(&mut self, segment: Segment, until: u64) -> io::Result<Item> {
        if let Some(item) = self.shared.reread(self.next) {
            return Ok(item);
        }
        let open = self.file.take().filter(|open| open.start == segment.start);
        let (offset, shared) = (self.next, self.shared.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut open = match open {
                Some(open) => open,
                None => OpenSegment {
                    start: segment.start,
                    log: File::open(index::log_path(shared.dir(), segment.start))?,
                    index: None,
                },
            };
            // To the same boundaries for everyone, so that what one reads is
            // what the next needs.
            let to_boundary =
                limits::DISK_READ_BYTES as u64 - offset % limits::DISK_READ_BYTES as u64;
            let items = open.read(&shared, segment, offset, until.min(offset + to_boundary))?;
            Ok::<_, io::Error>((open, items))
        });
        let (open, items) = read.await.map_err(io::Error::other)??;
        self.file = Some(open);
        let first = items.first().cloned().ok_or(io::ErrorKind::UnexpectedEof)?;
        // A gap at the end of what was read may go on, or grow.
        let last_is_gap = matches!(items.last(), Some(Item::Gap { .. }));
        let keep = items.len() - usize::from(last_is_gap);
        self.shared.keep_reread(items.into_iter().take(keep));
        Ok(first)
    }
}

impl OpenSegment {
    /// What there is from `offset` to `until`; a gap goes on to its end.
    fn read(
        &mut self,
        shared: &Shared,
        segment: Segment,
        offset: u64,
        until: u64,
    ) -> io::Result<Vec<Item>> {
        let (from, to) = (offset - segment.start, until - segment.start);
        let extents = self.extents(shared, segment, from, to)?;
        let output = |extent: &&Extent| extent.what != What::Hole;
        let output_end = extents.iter().rfind(output).map_or(from, |extent| extent.to);
        let mut data = vec![0; usize::try_from(output_end - from).map_err(io::Error::other)?];
        self.log.read_exact_at(&mut data, from)?;
        // A hole at the end goes further than what was read.
        let place = |position: u64| usize::try_from(position - from).map_or(data.len(), |at| at);
        let items = extents.into_iter().map(|extent| {
            let (from, to) = (segment.start + extent.from, segment.start + extent.to);
            match extent.what {
                What::Hole => Item::Gap { from, to },
                What::Output(time) => {
                    let part = &data[place(extent.from)..place(extent.to)];
                    Item::Frame(Frame::build(shared.framer, from, time, &[part]))
                }
            }
        });
        Ok(items.collect())
    }

    /// What the log has at these positions.
    fn extents(
        &mut self,
        shared: &Shared,
        segment: Segment,
        from: u64,
        to: u64,
    ) -> io::Result<Vec<Extent>> {
        let index = self.index(shared, segment);
        match (segment.gaps, index) {
            (Gaps::None, index) => {
                // Without its index a segment still has its bytes.
                let time = index.ok().flatten().and_then(|index| index.time_at(from).ok()?);
                let what = What::Output(time.unwrap_or(segment.base));
                Ok(vec![Extent { from, to, what }])
            }
            (Gaps::Recorded, Ok(Some(index))) => extents(index, from, to, segment.len),
            // Nothing tells its bytes from its holes.
            (Gaps::Recorded, Ok(None)) => {
                Ok(vec![Extent { from, to: segment.len, what: What::Hole }])
            }
            (Gaps::Recorded, Err(error)) => Err(error),
        }
    }

    /// The index as far as `segment` is known; `None` if it was found damaged.
    fn index(&mut self, shared: &Shared, segment: Segment) -> io::Result<Option<&Index>> {
        if segment.index_len == 0 {
            return Ok(None);
        }
        let index = match self.index.take() {
            Some(index) => index,
            None => Index::open(&index::index_path(shared.dir(), self.start), self.start)?,
        };
        let index = self.index.insert(index);
        index.up_to(segment.index_len);
        Ok(Some(index))
    }
}
