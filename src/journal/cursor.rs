//! A cursor: one reader's place in a journal. It reads from the tail while it
//! keeps up and from the segments when it has fallen behind, and tells exactly
//! what is missing. Nobody waits for it.

use std::{fs::File, io, os::unix::fs::FileExt};

use tokio::sync::watch;

use super::{
    Error,
    frame::{Frame, Micros},
    index::{self, Index},
    segment::Segment,
    shared::SharedRef,
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

/// One reader's place in a journal.
#[derive(Debug)]
pub struct Cursor {
    shared: SharedRef,
    next: u64,
    published: watch::Receiver<u64>,
    file: Option<OpenSegment>,
}

/// A segment that the cursor reads from. Its index may grow meanwhile; it is
/// opened again when it does not reach far enough.
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
        loop {
            match self.place() {
                Place::Later => return Ok(None),
                Place::Memory(frame) => {
                    self.file = None;
                    self.next = frame.end();
                    return Ok(Some(Item::Frame(frame)));
                }
                Place::Missing(to) => {
                    let from = std::mem::replace(&mut self.next, to);
                    self.shared.metrics.journal_gaps.inc();
                    return Ok(Some(Item::Gap { from, to }));
                }
                Place::Disk(segment, until) => match self.read(segment, until).await {
                    Ok(frame) => {
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

    fn place(&self) -> Place {
        let mut core = self.shared.core();
        match core.tail.at(self.next) {
            Lookup::Frame(frame) => Place::Memory(frame),
            Lookup::AtEnd => Place::Later,
            Lookup::Before(first) => match core.segment_of(self.next) {
                Some(segment) => Place::Disk(segment, segment.end().min(first.max(self.next + 1))),
                None => Place::Missing(core.next_held(self.next)),
            },
        }
    }

    async fn read(&mut self, segment: Segment, until: u64) -> io::Result<Frame> {
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
            let len = usize::try_from(until - offset).unwrap_or(usize::MAX);
            let mut data = vec![0; len.min(limits::DISK_READ_BYTES)];
            let position = offset - segment.start;
            open.log.read_exact_at(&mut data, position)?;
            let time = open.time_at(&shared, position).unwrap_or(segment.base);
            Ok::<_, io::Error>((open, Frame::build(shared.framer, offset, time, &[&data])))
        });
        let (open, frame) = read.await.map_err(io::Error::other)??;
        self.file = Some(open);
        Ok(frame)
    }
}

impl OpenSegment {
    /// When the byte at `position` was received; without its index a segment
    /// still has its bytes.
    fn time_at(&mut self, shared: &SharedRef, position: u64) -> Option<Micros> {
        if let Some(time) = self.index.as_ref().and_then(|index| index.time_at(position).ok()?) {
            return Some(time);
        }
        let path = index::index_path(shared.dir(), self.start);
        self.index = Index::open(&path, self.start).ok();
        self.index.as_ref()?.time_at(position).ok()?
    }
}
