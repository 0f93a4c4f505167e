//! Opening a journal that may not have been closed in order.
//!
//! Three ends are told apart:
//!
//! - *closed*: the last record says so;
//! - *killed*: the machine has not restarted since, so everything that was
//!   written is there. Bytes without a record were written and not yet shown to
//!   anybody; they are kept;
//! - *lost power* (or not known): what is on disk may be torn. The journal is
//!   cut to the last whole record. Offsets after it may have been given out, so
//!   they are never used again: the journal goes on `limits::OFFSET_JUMP`
//!   further, which readers see as a gap.
//!
//! Whatever was repaired is told in words, for status and log.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::SystemTime,
};

use super::{
    frame::Micros,
    index::{self, Index, Kind, Record},
    micros, segment,
    segment::Segment,
};
use crate::limits;

/// What the operating system still has of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// All of it: the machine has not restarted since.
    Killed,
    /// All that was closed in order: the last run ended so, and was synced.
    Synced,
    /// Perhaps not all.
    PowerLost,
}

/// A journal, found whole or made whole.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// In order of offset; the last may be written to if it ends at `next`.
    pub(super) segments: Vec<Segment>,
    /// The offset of the next byte.
    pub(super) next: u64,
    /// What was repaired.
    pub(super) report: Option<String>,
    /// The time of the newest record: times never go back.
    pub(super) last_time: Micros,
}

/// Reads a journal's folder and repairs its end.
pub(super) fn recover(dir: &Path, trust: Trust) -> io::Result<Recovered> {
    let mut starts = match fs::read_dir(dir) {
        Ok(entries) => segment_starts(entries)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    starts.sort_unstable();
    let ahead = segment::is_ahead(dir)?;
    let mut recovered = Recovered::default();
    let newest = starts.pop();
    for start in starts {
        let len = fs::metadata(index::log_path(dir, start))?.len();
        // A sealed segment whose index is damaged is still readable from its log.
        let (index_len, base) = match Index::open(&index::index_path(dir, start), start) {
            Ok(index) => (index::HEADER_BYTES + index.count() * index::RECORD_BYTES, index.base()),
            Err(_) => (0, recovered.segments.last().map_or(0, |before: &Segment| before.base)),
        };
        recovered.segments.push(Segment { start, len, index_len, base });
    }
    if let Some(start) = newest {
        recover_newest(dir, start, trust, &mut recovered)?;
    } else if trust == Trust::PowerLost {
        // Its files may never have reached the disk.
        recovered.next = limits::OFFSET_JUMP;
        recovered.report = Some("no output is on disk after a power loss".to_owned());
    }
    if ahead {
        recovered.next += limits::OFFSET_JUMP;
        let note = "output had been given out that was not on disk";
        recovered.report = Some(match recovered.report {
            Some(report) => format!("{report}; {note}"),
            None => note.to_owned(),
        });
    }
    if recovered.segments.last().map_or(0, Segment::end) != recovered.next {
        // The name of the next segment keeps the jump, should this run be
        // killed before the device says anything.
        let now = micros(SystemTime::now());
        match segment::begin(dir, recovered.next, now.max(recovered.last_time)) {
            Ok(segment) => recovered.segments.push(segment),
            // A full disk: the note stays for the next time.
            Err(error) => {
                tracing::warn!(journal = %dir.display(), %error, "cannot keep where output goes on");
                return Ok(recovered);
            }
        }
    }
    if ahead && let Err(error) = segment::clear_ahead(dir) {
        tracing::warn!(journal = %dir.display(), %error, "cannot clear a note");
    }
    Ok(recovered)
}

fn segment_starts(entries: fs::ReadDir) -> io::Result<Vec<u64>> {
    let mut starts = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let start = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
        starts.extend(start);
    }
    Ok(starts)
}

/// Repairs the segment that was being written.
fn recover_newest(
    dir: &Path,
    start: u64,
    trust: Trust,
    recovered: &mut Recovered,
) -> io::Result<()> {
    let log_path = index::log_path(dir, start);
    let index_path = index::index_path(dir, start);
    let log = OpenOptions::new().read(true).write(true).open(&log_path)?;
    let log_len = log.metadata()?.len();
    let modified = log.metadata()?.modified().unwrap_or_else(|_| SystemTime::now());

    let index = match Index::open(&index_path, start) {
        Ok(index) => index,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
            ) =>
        {
            // Killed between making the two files, or torn: begin it again.
            fs::write(&index_path, index::encode_header(start, micros(modified)))?;
            Index::open(&index_path, start)?
        }
        Err(error) => return Err(error),
    };

    let whole = last_whole(&log, log_len, &index)?;
    let mut segment = Segment {
        start,
        len: whole.len,
        index_len: index::HEADER_BYTES + whole.records * index::RECORD_BYTES,
        base: index.base(),
    };
    let index_file = OpenOptions::new().write(true).open(&index_path)?;
    let claimed = whole.claimed.max(segment.len);
    recovered.last_time = whole.last_time.max(index.base());
    let mut report = None;

    let in_order = whole.closed && claimed == log_len && whole.records == index.count();
    if in_order && trust != Trust::PowerLost {
        recovered.next = segment.end();
    } else if trust == Trust::Killed && claimed == segment.len && log_len >= segment.len {
        // Drop a torn record, then take in what was written without one.
        index_file.set_len(segment.index_len)?;
        if log_len > segment.len {
            adopt(&log, log_len, &index_file, &mut segment, micros(modified))?;
            report = Some(format!(
                "{} bytes written just before the end were kept",
                log_len - whole.len
            ));
        }
        recovered.next = segment.end();
    } else {
        index_file.set_len(segment.index_len)?;
        log.set_len(segment.len)?;
        let end = start + claimed.max(log_len);
        recovered.next = match trust {
            Trust::Killed => end,
            Trust::Synced | Trust::PowerLost => end + limits::OFFSET_JUMP,
        };
        report = Some(format!(
            "cut to the last whole record at offset {}; output goes on at offset {}",
            segment.end(),
            recovered.next
        ));
    }
    recovered.segments.push(segment);
    recovered.report = report;
    Ok(())
}

/// How far a segment's log and index agree.
struct Whole {
    /// Bytes of the log up to the last record that matches its bytes.
    len: u64,
    /// Records up to that one.
    records: u64,
    /// Bytes that the index speaks of, whether they are there or not.
    claimed: u64,
    /// The last record says that the journal was closed.
    closed: bool,
    /// The time of the last record that is whole.
    last_time: Micros,
}

/// Goes back from the end of the index to the last record whose bytes are in
/// the log as they were written.
fn last_whole(log: &fs::File, log_len: u64, index: &Index) -> io::Result<Whole> {
    let mut whole = Whole { len: 0, records: 0, claimed: 0, closed: false, last_time: 0 };
    // Records up to and with an orderly end, if the bytes before it are whole.
    let mut with_close = None;
    let mut at = index.count();
    while at > 0 {
        at -= 1;
        let Some(record) = index.record(at)? else {
            continue;
        };
        let end = u64::from(record.end);
        let start = match at.checked_sub(1) {
            Some(before) => index.record(before)?.map(|record| u64::from(record.end)),
            None => Some(0),
        };
        let plausible = |start: &u64| *start <= end && end - start <= limits::SEGMENT_BYTES_MAX;
        let Some(start) = start.filter(plausible) else {
            continue;
        };
        whole.claimed = whole.claimed.max(end);
        let len = if record.kind == Kind::Data { end - start } else { 0 };
        let mut data = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let read = end <= log_len && log.read_exact_at(&mut data, start).is_ok();
        if !read || !record.matches(index.base(), &data) {
            with_close = None;
            continue;
        }
        whole.last_time = whole.last_time.max(record.time);
        if record.kind == Kind::Close && at > 0 {
            with_close = with_close.or(Some(at + 1));
            continue;
        }
        whole.len = end;
        whole.records = with_close.unwrap_or(at + 1);
        whole.closed = record.kind == Kind::Close || with_close == Some(index.count());
        break;
    }
    Ok(whole)
}

/// Gives bytes that were written without a record one of their own.
fn adopt(
    log: &fs::File,
    log_len: u64,
    index_file: &fs::File,
    segment: &mut Segment,
    time: Micros,
) -> io::Result<()> {
    let len = log_len - segment.len;
    let mut data = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    log.read_exact_at(&mut data, segment.len)?;
    let end = u32::try_from(log_len).map_err(io::Error::other)?;
    let record = Record::data(end, segment.base, time, &data);
    index_file.write_all_at(&record.encode(segment.base), segment.index_len)?;
    segment.len = log_len;
    segment.index_len += index::RECORD_BYTES;
    Ok(())
}
