//! The disk side of a journal: a folder of segments, `<start offset>.log` with
//! exactly the bytes that the device said (so `less` and `tail -F` read them)
//! and `<start offset>.idx` beside it.
//!
//! A gap needs no record: a segment's name tells where it begins, so a hole is
//! where one ends before the next begins. Only the journal's scribe calls this;
//! every call may block. After a failed write the files are cut back to what
//! was whole.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    frame::{Frame, Micros},
    index::{self, Record},
};
use crate::limits;

/// Says that offsets were given out which the disk may not have.
const AHEAD_FILE: &str = "ahead";
/// What a journal's folder is called while it is being removed.
pub(super) const REMOVED_SUFFIX: &str = ".deleted";

/// One segment as readers know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Offset of its first byte.
    pub(super) start: u64,
    /// Bytes in its log.
    pub(super) len: u64,
    /// Bytes in its index.
    pub(super) index_len: u64,
    /// Time of its first record.
    pub(super) base: Micros,
}

impl Segment {
    /// Offset after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.len + self.index_len
    }
}

/// The writing end of a folder of segments.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    /// The segment that is written to; none before the first byte.
    last: Option<Segment>,
    files: Option<Files>,
    last_time: Micros,
    ahead: Ahead,
    removed: bool,
}

/// Whether output may have been given out that is not on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    Noted,
    No,
}

#[derive(Debug)]
struct Files {
    log: File,
    index: File,
}

impl Disk {
    /// Goes on with `last`, which recovery found whole.
    pub(super) fn new(dir: PathBuf, last: Option<Segment>) -> Self {
        Self { dir, last, files: None, last_time: 0, ahead: Ahead::No, removed: false }
    }

    pub(super) fn is_open(&self) -> bool {
        self.files.is_some()
    }

    /// Closes the files; the next write opens them again.
    pub(super) fn release(&mut self) {
        self.files = None;
    }

    /// Writes frames that follow each other. Returns the segment as it is now;
    /// its `start` differs from before when a new one was begun.
    pub(super) fn append(
        &mut self,
        frames: &[Frame],
        retention: u64,
        scratch: &mut Vec<u8>,
    ) -> io::Result<Option<Segment>> {
        let Some(first) = frames.first() else { return Ok(self.last) };
        if self.removed {
            // The device is gone, and with it what it still had to say.
            return Ok(None);
        }
        let share = retention / limits::SEGMENTS_PER_RETENTION;
        let segment_max = share.min(limits::SEGMENT_BYTES_MAX);
        let goes_on = self
            .last
            .filter(|last| last.end() == first.offset() && last.disk_bytes() < segment_max);
        let before = self.last;
        let mut segment = match goes_on {
            Some(segment) => segment,
            None => self.begin(first)?,
        };
        let files = match &mut self.files {
            Some(files) => files,
            closed @ None => closed.insert(Files::open(&self.dir, segment.start)?),
        };
        let result = files.append(&mut segment, frames, &mut self.last_time, scratch);
        match result {
            Ok(()) => {
                self.last = Some(segment);
                Ok(self.last)
            }
            Err(error) => {
                // What was whole before stays; the rest is tried again.
                if segment.len == 0 {
                    // A full disk must not collect empty segments.
                    self.files = None;
                    remove_files(&self.dir, segment.start);
                    self.last = before;
                    return Err(error);
                }
                if let Some(last) = self.last {
                    files.log.set_len(last.len).ok();
                    files.index.set_len(last.index_len).ok();
                }
                self.files = None;
                Err(error)
            }
        }
    }

    /// Begins a segment with the offset and time of `first`.
    fn begin(&mut self, first: &Frame) -> io::Result<Segment> {
        self.files = None;
        let segment = begin(&self.dir, first.offset(), first.time())?;
        self.last = Some(segment);
        Ok(segment)
    }

    /// Deletes segments that retention has passed.
    pub(super) fn delete(&self, segments: &[Segment]) -> io::Result<()> {
        for segment in segments {
            remove_if_there(&index::log_path(&self.dir, segment.start))?;
            remove_if_there(&index::index_path(&self.dir, segment.start))?;
        }
        Ok(())
    }

    /// Notes that output goes to attachers before it is on disk, so that a
    /// server killed now does not give out the same offsets again.
    pub(super) fn note_ahead(&mut self) -> io::Result<()> {
        if self.ahead == Ahead::No && !self.removed {
            create_dir(&self.dir)?;
            create(&self.dir.join(AHEAD_FILE))?;
            self.ahead = Ahead::Noted;
        }
        Ok(())
    }

    /// Everything is on disk again.
    pub(super) fn clear_ahead(&mut self) -> io::Result<()> {
        if self.ahead == Ahead::Noted {
            clear_ahead(&self.dir)?;
            self.ahead = Ahead::No;
        }
        Ok(())
    }

    /// Marks an orderly end.
    pub(super) fn close(&mut self, now: Micros) -> io::Result<()> {
        if self.removed {
            return Ok(());
        }
        self.clear_ahead()?;
        if let Some(last) = &mut self.last {
            let files = match &mut self.files {
                Some(files) => files,
                closed @ None => closed.insert(Files::open(&self.dir, last.start)?),
            };
            let end = u32::try_from(last.len).map_err(io::Error::other)?;
            let record = Record::close(end, last.base, now.max(self.last_time));
            files.index.write_all_at(&record.encode(last.base), last.index_len)?;
            last.index_len += index::RECORD_BYTES;
        }
        self.files = None;
        Ok(())
    }

    /// Ends the journal for good; nothing is written any more. Returns the
    /// folder that is left to be removed.
    pub(super) fn remove(&mut self) -> io::Result<Option<PathBuf>> {
        self.files = None;
        self.last = None;
        self.removed = true;
        remove_dir(&self.dir)
    }
}

impl Files {
    fn open(dir: &Path, start: u64) -> io::Result<Self> {
        let open = |path: PathBuf| OpenOptions::new().write(true).open(path);
        Ok(Self {
            log: open(index::log_path(dir, start))?,
            index: open(index::index_path(dir, start))?,
        })
    }

    fn append(
        &self,
        segment: &mut Segment,
        frames: &[Frame],
        last_time: &mut Micros,
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        scratch.clear();
        let mut records = Vec::with_capacity(frames.len() * 16);
        let mut len = segment.len;
        for frame in frames {
            scratch.extend_from_slice(frame.data());
            len += frame.len() as u64;
            *last_time = frame.time().max(*last_time);
            let end = u32::try_from(len).map_err(io::Error::other)?;
            let record = Record::data(end, segment.base, *last_time, frame.data());
            records.extend_from_slice(&record.encode(segment.base));
        }
        // Data first: a record without its bytes would be a lie, bytes without
        // their record are found by recovery.
        self.log.write_all_at(scratch, segment.len)?;
        self.index.write_all_at(&records, segment.index_len)?;
        segment.len = len;
        segment.index_len += records.len() as u64;
        Ok(())
    }
}

/// Makes the files of a segment.
pub(super) fn begin(dir: &Path, start: u64, base: Micros) -> io::Result<Segment> {
    create_dir(dir)?;
    let make = || {
        create(&index::log_path(dir, start))?;
        let index = create(&index::index_path(dir, start))?;
        index.write_all_at(&index::encode_header(start, base), 0)
    };
    match make() {
        Ok(()) => Ok(Segment { start, len: 0, index_len: index::HEADER_BYTES, base }),
        Err(error) => {
            remove_files(dir, start);
            Err(error)
        }
    }
}

/// Removes what little there is of a segment that could not be begun.
fn remove_files(dir: &Path, start: u64) {
    for path in [index::log_path(dir, start), index::index_path(dir, start)] {
        // If this fails too, recovery takes it for an empty segment.
        fs::remove_file(path).ok();
    }
}

/// Whether [`Disk::note_ahead`] was called and never cleared.
pub(super) fn is_ahead(dir: &Path) -> io::Result<bool> {
    dir.join(AHEAD_FILE).try_exists()
}

/// See [`is_ahead`].
pub(super) fn clear_ahead(dir: &Path) -> io::Result<()> {
    remove_if_there(&dir.join(AHEAD_FILE))
}

/// Consoles show passwords: nobody but the server may look into its folders.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Takes a journal's folder from its name, so that a half-done removal is never
/// taken for a journal. What it is called now is still to be removed.
fn remove_dir(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut gone = dir.as_os_str().to_owned();
    gone.push(REMOVED_SUFFIX);
    match fs::rename(dir, &gone) {
        Ok(()) => Ok(Some(gone.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
