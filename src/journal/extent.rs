//! What a stretch of a segment's log is: output, or a hole where output was lost.
//!
//! Only segments that are marked to have gaps are looked at so closely; in any
//! other the log is all output. In a marked one the index is the truth: what no
//! whole record tells of is taken for a hole, for a hole must never be served as
//! the zero bytes that a sparse file reads as.
//!
//! Bounds: `EXTENTS_MAX` a look; the index is read a page at a time, up to the
//! record that ends the stretch.

use std::io;

use super::{
    frame::Micros,
    index::{Index, Kind},
};

/// Most extents that one look returns: each becomes a frame of its own.
const EXTENTS_MAX: usize = 64;

/// A stretch of a log, by position, that is one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Its first byte.
    pub(super) from: u64,
    /// After its last byte.
    pub(super) to: u64,
    /// What it is.
    pub(super) what: What,
}

/// What a stretch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Output, and when its first byte was received.
    Output(Micros),
    /// Nothing.
    Hole,
}

/// What a log of `len` bytes has from `position` to `until`, in order and
/// without a space between. Output ends at `until`, a hole where it ends. Never
/// empty if `position < until <= len`.
pub(super) fn extents(
    index: &Index,
    position: u64,
    until: u64,
    len: u64,
) -> io::Result<Vec<Extent>> {
    let mut found: Vec<Extent> = Vec::new();
    let mut at = position;
    let mut next = index.record_at(position)?;
    // The search goes past what is damaged, and past what is whole before it.
    while let Some(before) = next.checked_sub(1)
        && index.record(before)?.is_none_or(|record| u64::from(record.end) > position)
    {
        next = before;
    }
    // Where a piece begins is known from the record before.
    let mut known = true;
    while next < index.count() {
        for record in index.records(next)? {
            next += 1;
            let Some(record) = record else {
                known = false;
                continue;
            };
            let what = match record.kind {
                Kind::Data if known => What::Output(record.time),
                Kind::Data | Kind::Gap | Kind::Close => What::Hole,
            };
            known = true;
            let end = u64::from(record.end).min(len);
            if end <= at {
                continue;
            }
            let output = what != What::Hole;
            let in_hole = found.last().is_some_and(|last| last.what == What::Hole);
            if at >= until && (output || !in_hole) {
                return Ok(found);
            }
            let to = if output { end.min(until) } else { end };
            let full = found.len() == EXTENTS_MAX;
            match found.last_mut() {
                Some(last) if in_hole != output => last.to = to,
                _ if full => return Ok(found),
                _ => found.push(Extent { from: at, to, what }),
            }
            at = end;
        }
    }
    if at < until {
        match found.last_mut() {
            Some(last) if last.what == What::Hole => last.to = len,
            _ => found.push(Extent { from: at, to: len, what: What::Hole }),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::journal::index::{Record, encode_header};

    fn index(dir: &Path, records: &[Option<Record>]) -> Index {
        let mut bytes = encode_header(0, 0).to_vec();
        for record in records {
            bytes.extend_from_slice(&record.map_or([0xff; 16], |record| record.encode(0)));
        }
        let path = dir.join("idx");
        fs::write(&path, bytes).unwrap();
        Index::open(&path, 0).unwrap()
    }

    fn looked(index: &Index, position: u64, until: u64, len: u64) -> Vec<(u64, u64, Option<u64>)> {
        let found = extents(index, position, until, len).unwrap();
        let time = |what| match what {
            What::Output(time) => Some(time),
            What::Hole => None,
        };
        found.into_iter().map(|extent| (extent.from, extent.to, time(extent.what))).collect()
    }

    #[test]
    fn pieces_are_joined_and_holes_are_told_to_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let data = |end, time| Some(Record::data(end, 0, time, b""));
        let gap = |end| Some(Record::gap(end, 0, 0));
        let close = |end| Some(Record::close(end, 0, 9));
        let index = index(
            dir.path(),
            &[
                data(4, 1),
                data(8, 2),
                gap(20),
                gap(30),
                data(33, 3),
                close(33),
                data(40, 4),
                gap(50),
            ],
        );
        for (position, until, expected) in [
            (0, 50, vec![(0, 8, Some(1)), (8, 30, None), (30, 40, Some(3)), (40, 50, None)]),
            (0, 3, vec![(0, 3, Some(1))]),
            (5, 8, vec![(5, 8, Some(2))]),
            (5, 9, vec![(5, 8, Some(2)), (8, 30, None)]),
            (10, 11, vec![(10, 30, None)]),
            (29, 35, vec![(29, 30, None), (30, 35, Some(3))]),
            (36, 45, vec![(36, 40, Some(4)), (40, 50, None)]),
        ] {
            assert_eq!(looked(&index, position, until, 50), expected, "{position} {until}");
        }
    }

    #[test]
    fn what_no_whole_record_tells_of_is_a_hole() {
        let dir = tempfile::tempdir().unwrap();
        let data = |end| Some(Record::data(end, 0, 1, b""));
        let index = index(dir.path(), &[data(4), None, data(12), data(16)]);
        assert_eq!(
            looked(&index, 0, 20, 99),
            [(0, 4, Some(1)), (4, 12, None), (12, 16, Some(1)), (16, 99, None)]
        );
        assert_eq!(looked(&index, 13, 16, 99), [(13, 16, Some(1))]);
        assert_eq!(looked(&index, 5, 6, 99), [(5, 12, None)]);
        assert_eq!(looked(&index, 17, 20, 99), [(17, 99, None)]);
    }
}
