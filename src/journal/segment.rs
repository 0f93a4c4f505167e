//! The disk side of a journal: a folder of segments, `<start offset>.log` with
//! exactly the bytes that the device said (so `less` and `tail -F` read them)
//! and `<start offset>.idx` beside it.
//!
//! A long gap needs no record: a segment's name tells where it begins, so what is
//! missing is where one ends before the next begins. A short one
//! (`limits::HOLE_BYTES_MAX`) is a hole in the log, which reads as zero bytes, and
//! a record in the index; an empty file `<start offset>.gaps` marks a segment
//! that has any. The order of writes is: mark, record of the hole, output behind
//! it, its records. So a hole that has something behind it always has its record.
//!
//! A segment begins with output; one that is empty tells where output goes on.
//!
//! Only the journal's scribe calls this; every call may block. After a failed
//! write the files are cut back to what was whole.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    frame::{Frame, Micros},
    index::{self, Record},
    tail::Unwritten,
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
    /// Bytes in its log, holes included, also one at the end that the file does
    /// not have yet.
    pub(super) len: u64,
    /// Bytes in its index.
    pub(super) index_len: u64,
    /// Time of its first record.
    pub(super) base: Micros,
    /// Whether its log is all output.
    pub(super) gaps: Gaps,
}

/// Whether a segment may have holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gaps {
    /// Its log is all output.
    None,
    /// It is marked; the index tells where they are.
    Recorded,
}

impl Segment {
    /// Offset after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// What it counts against the retention.
    pub(super) fn retained_bytes(&self) -> u64 {
        self.disk_bytes().max(limits::SEGMENT_BYTES_MIN)
    }

    /// Bytes on disk; a hole counts as its length.
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

    /// Writes output and gaps, the one before it included. Returns the segment as
    /// it is now; its `start` differs from before when a new one was begun.
    pub(super) fn append(
        &mut self,
        unwritten: &Unwritten,
        retention: u64,
        scratch: &mut Vec<u8>,
    ) -> io::Result<Option<Segment>> {
        if self.removed {
            // The device is gone, and with it what it still had to say.
            return Ok(None);
        }
        let share = retention / limits::SEGMENTS_PER_RETENTION;
        let segment_max = share.min(limits::SEGMENT_BYTES_MAX);
        let start = unwritten.frames.first().map_or(unwritten.to, Frame::offset);
        let goes_on = self.last.filter(|last| match start.checked_sub(last.end()) {
            None => false,
            Some(hole) if last.len == 0 => hole == 0,
            Some(hole) => hole <= limits::HOLE_BYTES_MAX && last.disk_bytes() + hole < segment_max,
        });
        let before = self.last;
        let mut segment = match goes_on {
            Some(segment) => segment,
            None => {
                let time = unwritten.frames.first().map_or(unwritten.time, Frame::time);
                self.begin(start, time.max(self.last_time))?
            }
        };
        let files = match &mut self.files {
            Some(files) => files,
            closed @ None => closed.insert(Files::open(&self.dir, segment.start)?),
        };
        let result = files.append(&self.dir, &mut segment, unwritten, &mut self.last_time, scratch);
        match result {
            Ok(()) => {
                if let Some(empty) = before.filter(|before| goes_on.is_none() && before.len == 0) {
                    // The new one tells where output goes on.
                    remove_files(&self.dir, empty.start);
                }
                self.last = Some(segment);
                Ok(self.last)
            }
            Err(error) => {
                // What was whole before stays; the rest is tried again.
                if goes_on.is_none() {
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

    /// Begins a segment.
    fn begin(&mut self, start: u64, base: Micros) -> io::Result<Segment> {
        self.files = None;
        let segment = begin(&self.dir, start, base)?;
        self.last = Some(segment);
        Ok(segment)
    }

    /// Deletes segments that retention has passed.
    pub(super) fn delete(&self, segments: &[Segment]) -> io::Result<()> {
        for segment in segments {
            remove_if_there(&index::log_path(&self.dir, segment.start))?;
            remove_if_there(&index::index_path(&self.dir, segment.start))?;
            if segment.gaps == Gaps::Recorded {
                // Last: without its mark holes would be taken for output.
                remove_if_there(&index::gaps_path(&self.dir, segment.start))?;
            }
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
        dir: &Path,
        segment: &mut Segment,
        unwritten: &Unwritten,
        last_time: &mut Micros,
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        scratch.clear();
        let mut records = Vec::with_capacity((unwritten.frames.len() + 1) * 16);
        // What `scratch` and `records` are to be added to.
        let mut written = *segment;
        let mut end = segment.end();
        for frame in &unwritten.frames {
            if frame.offset() > end {
                hole(dir, &mut written, frame.offset(), last_time, frame.time(), &mut records)?;
                self.write(&mut written, scratch, &mut records, frame.offset())?;
            }
            scratch.extend_from_slice(frame.data());
            end = frame.end();
            *last_time = frame.time().max(*last_time);
            let to = u32::try_from(end - segment.start).map_err(io::Error::other)?;
            let record = Record::data(to, segment.base, *last_time, frame.data());
            records.extend_from_slice(&record.encode(segment.base));
        }
        if unwritten.to > end {
            end = unwritten.to;
            hole(dir, &mut written, end, last_time, unwritten.time, &mut records)?;
        }
        self.write(&mut written, scratch, &mut records, end)?;
        *segment = written;
        Ok(())
    }

    /// Writes output without a hole and its records, and that of a hole after
    /// it; all of it ends at `end`.
    fn write(
        &self,
        written: &mut Segment,
        output: &mut Vec<u8>,
        records: &mut Vec<u8>,
        end: u64,
    ) -> io::Result<()> {
        // Output first: a record without its bytes would be a lie, bytes without
        // their record are found by recovery.
        if !output.is_empty() {
            self.log.write_all_at(output, written.len)?;
        }
        self.index.write_all_at(records, written.index_len)?;
        written.len = end - written.start;
        written.index_len += records.len() as u64;
        output.clear();
        records.clear();
        Ok(())
    }
}

/// Marks the segment, and adds the record of a hole before `to`.
fn hole(
    dir: &Path,
    segment: &mut Segment,
    to: u64,
    last_time: &mut Micros,
    time: Micros,
    records: &mut Vec<u8>,
) -> io::Result<()> {
    mark_gaps(segment, dir)?;
    *last_time = time.max(*last_time);
    let end = u32::try_from(to - segment.start).map_err(io::Error::other)?;
    let record = Record::gap(end, segment.base, *last_time);
    records.extend_from_slice(&record.encode(segment.base));
    Ok(())
}

/// Marks that a segment has holes.
pub(super) fn mark_gaps(segment: &mut Segment, dir: &Path) -> io::Result<()> {
    if segment.gaps == Gaps::None {
        create(&index::gaps_path(dir, segment.start))?;
        segment.gaps = Gaps::Recorded;
    }
    Ok(())
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
        Ok(()) => {
            Ok(Segment { start, len: 0, index_len: index::HEADER_BYTES, base, gaps: Gaps::None })
        }
        Err(error) => {
            remove_files(dir, start);
            Err(error)
        }
    }
}

/// Removes what little there is of a segment that could not be begun.
fn remove_files(dir: &Path, start: u64) {
    for path in [index::log_path, index::index_path, index::gaps_path].map(|path| path(dir, start))
    {
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::journal::frame::FrameHead;

    fn framer(_: FrameHead, _: &mut BytesMut) {}

    /// Killed between two writes is what a write that fails leaves.
    #[test]
    fn nothing_is_written_behind_a_hole_that_is_not_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let mut segment = begin(dir.path(), 0, 0).unwrap();
        let said = Frame::build(framer, 0, 0, &[b"said"]);
        let after = Frame::build(framer, 9, 0, &[b"after"]);
        let unwritten = Unwritten { frames: vec![said, after], to: 14, time: 0 };
        let writable = Files::open(dir.path(), 0).unwrap();
        let log_len = || fs::metadata(index::log_path(dir.path(), 0)).unwrap().len();

        let nowhere = dir.path().join("nowhere");
        let (mut time, mut scratch) = (0, Vec::new());
        writable.append(&nowhere, &mut segment, &unwritten, &mut time, &mut scratch).unwrap_err();
        assert_eq!(log_len(), 0, "not marked");

        let index = File::open(index::index_path(dir.path(), 0)).unwrap();
        let unrecorded = Files { log: writable.log.try_clone().unwrap(), index };
        let result =
            unrecorded.append(dir.path(), &mut segment, &unwritten, &mut time, &mut scratch);
        result.unwrap_err();
        assert_eq!(log_len(), 4, "not recorded");
        assert_eq!((segment.len, segment.index_len), (0, index::HEADER_BYTES));

        writable.append(dir.path(), &mut segment, &unwritten, &mut time, &mut scratch).unwrap();
        assert_eq!((log_len(), segment.len, segment.gaps), (14, 14, Gaps::Recorded));
        assert_eq!(segment.index_len, index::HEADER_BYTES + 3 * index::RECORD_BYTES);
    }
}
