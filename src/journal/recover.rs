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
//! A gap that was recorded is whole if what was said before it is. It may be the
//! last there is, with nothing behind it in the log: then the log is shorter
//! than the index says, by that hole.
//!
//! Whatever was repaired is told in words, for status and log.

use std::{
    collections::HashSet,
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
    segment::{Gaps, Segment},
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
    let Names { mut starts, with_gaps } = match fs::read_dir(dir) {
        Ok(entries) => names(entries)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Names::default(),
        Err(error) => return Err(error),
    };
    starts.sort_unstable();
    let gaps_of = |start: u64| match with_gaps.contains(&start) {
        true => Gaps::Recorded,
        false => Gaps::None,
    };
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
        recovered.segments.push(Segment { start, len, index_len, base, gaps: gaps_of(start) });
    }
    if let Some(start) = newest {
        recover_newest(dir, start, gaps_of(start), trust, &mut recovered)?;
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

/// What the names in a journal's folder tell.
#[derive(Default)]
struct Names {
    /// Where segments begin.
    starts: Vec<u64>,
    /// Those that are marked to have gaps.
    with_gaps: HashSet<u64>,
}

fn names(entries: fs::ReadDir) -> io::Result<Names> {
    let mut names = Names::default();
    for entry in entries {
        let name = entry?.file_name();
        let with = |suffix| name.to_str()?.strip_suffix(suffix)?.parse::<u64>().ok();
        names.starts.extend(with(".log"));
        names.with_gaps.extend(with(".gaps"));
    }
    Ok(names)
}

/// Repairs the segment that was being written.
fn recover_newest(
    dir: &Path,
    start: u64,
    gaps: Gaps,
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
        gaps,
    };
    if whole.len > whole.output {
        // There already, unless the files were meddled with.
        segment::mark_gaps(&mut segment, dir)?;
    }
    let index_file = OpenOptions::new().write(true).open(&index_path)?;
    let claimed = whole.claimed.max(segment.len);
    recovered.last_time = whole.last_time.max(index.base());
    let mut report = None;

    // The hole at the end, if there is one, may be in the log or not.
    let at_end = (whole.output..=whole.len).contains(&log_len);
    let all_whole = claimed == segment.len && log_len >= whole.output;
    let in_order = whole.closed && all_whole && at_end && whole.records == index.count();
    if in_order && trust != Trust::PowerLost {
        recovered.next = segment.end();
    } else if trust == Trust::Killed && all_whole {
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
        log.set_len(log_len.min(segment.len))?;
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
    /// Up to the last record that is whole, a hole at the end included.
    len: u64,
    /// Bytes of the log up to the last record that matches its bytes.
    output: u64,
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
/// the log as they were written. Records after it that have no bytes, of a hole
/// or an orderly end, count if there is nothing damaged between.
fn last_whole(log: &fs::File, log_len: u64, index: &Index) -> io::Result<Whole> {
    let mut whole =
        Whole { len: 0, output: 0, records: 0, claimed: 0, closed: false, last_time: 0 };
    // The newest of the records without bytes that were just gone past.
    let mut newest: Option<(u64, Record)> = None;
    let mut at = index.count();
    while at > 0 {
        at -= 1;
        let Some(record) = index.record(at)? else {
            newest = None;
            continue;
        };
        let end = u64::from(record.end);
        let start = match at.checked_sub(1) {
            Some(before) => index.record(before)?.map(|record| u64::from(record.end)),
            None => Some(0),
        };
        let plausible = |start: &u64| *start <= end && end - start <= limits::SEGMENT_BYTES_MAX;
        let Some(start) = start.filter(plausible) else {
            newest = None;
            continue;
        };
        whole.claimed = whole.claimed.max(end);
        let is_output = record.kind == Kind::Data;
        let len = if is_output { end - start } else { 0 };
        let mut data = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let read = !is_output || end <= log_len && log.read_exact_at(&mut data, start).is_ok();
        if !read || !record.matches(index.base(), &data) {
            newest = None;
            continue;
        }
        whole.last_time = whole.last_time.max(record.time);
        let (newest_at, newest_record) = *newest.get_or_insert((at, record));
        if is_output || at == 0 {
            whole.len = u64::from(newest_record.end);
            whole.output = if is_output { end } else { 0 };
            whole.records = newest_at + 1;
            whole.closed = newest_record.kind == Kind::Close;
            break;
        }
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
