//! The index beside each segment: `<start>.idx`, one record for each piece as it
//! was written, so that a time leads to an offset and a torn write is seen.
//!
//! ```text
//! header  32 bytes  "LMNIDX01" | start u64 | base time u64 | crc32 u32 | 0 u32
//! record  16 bytes  end u32 | crc32 u32 | time u48 | kind u8 | 0 u8
//! ```
//!
//! Little-endian. `end` is the size of the segment's log after the piece, `time`
//! microseconds after the base time, the checksum is over the record's other
//! fields and the piece's bytes. Times never go back, whatever the clock does.
//! A record of kind CLOSE is the last of a journal that was closed in order. One
//! of kind GAP tells of output that was lost before it came here: the log has a
//! hole from the record before to `end`, and nothing in it was ever said.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::frame::Micros;

/// Size of the header.
pub(super) const HEADER_BYTES: u64 = 32;
/// Size of a record.
pub(super) const RECORD_BYTES: u64 = 16;
/// Records that are read at once: one page.
const SCAN_RECORDS: u64 = 256;

const MAGIC: &[u8; 8] = b"LMNIDX01";
const KIND_DATA: u8 = 1;
const KIND_CLOSE: u8 = 2;
const KIND_GAP: u8 = 3;

/// What one record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Size of the log after the piece.
    pub(super) end: u32,
    /// When the piece was received.
    pub(super) time: Micros,
    /// Data, a gap, or the end of the journal.
    pub(super) kind: Kind,
    crc: u32,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of output.
    Data,
    /// The journal was closed in order.
    Close,
    /// Output that was lost; `end` is where the hole ends.
    Gap,
}

impl Record {
    /// A record of a piece that ends at `end`.
    pub(super) fn data(end: u32, base: Micros, time: Micros, data: &[u8]) -> Self {
        Self::sum(end, base, time, Kind::Data, data)
    }

    /// The record of an orderly end.
    pub(super) fn close(end: u32, base: Micros, time: Micros) -> Self {
        Self::sum(end, base, time, Kind::Close, &[])
    }

    /// The record of a hole that ends at `end`.
    pub(super) fn gap(end: u32, base: Micros, time: Micros) -> Self {
        Self::sum(end, base, time, Kind::Gap, &[])
    }

    fn sum(end: u32, base: Micros, time: Micros, kind: Kind, data: &[u8]) -> Self {
        let mut record = Self { end, time: time.max(base), kind, crc: 0 };
        record.crc = record.checksum(base, data);
        record
    }

    /// Whether `data` is the piece that this record was made for.
    pub(super) fn matches(&self, base: Micros, data: &[u8]) -> bool {
        self.crc == self.checksum(base, data)
    }

    fn checksum(&self, base: Micros, data: &[u8]) -> u32 {
        let mut hash = crc32fast::Hasher::new();
        let bytes = self.encode(base);
        hash.update(&bytes[..4]);
        hash.update(&bytes[8..]);
        hash.update(data);
        hash.finalize()
    }

    /// As on disk.
    pub(super) fn encode(&self, base: Micros) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.end.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.crc.to_le_bytes());
        bytes[8..14].copy_from_slice(&(self.time - base).to_le_bytes()[..6]);
        bytes[14] = match self.kind {
            Kind::Data => KIND_DATA,
            Kind::Close => KIND_CLOSE,
            Kind::Gap => KIND_GAP,
        };
        bytes
    }

    fn decode(bytes: [u8; 16], base: Micros) -> Option<Self> {
        let [e0, e1, e2, e3, c0, c1, c2, c3, t0, t1, t2, t3, t4, t5, kind, _] = bytes;
        Some(Self {
            end: u32::from_le_bytes([e0, e1, e2, e3]),
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
            time: base + u64::from_le_bytes([t0, t1, t2, t3, t4, t5, 0, 0]),
            kind: match kind {
                KIND_DATA => Kind::Data,
                KIND_CLOSE => Kind::Close,
                KIND_GAP => Kind::Gap,
                _ => return None,
            },
        })
    }
}

/// The header of the index of a segment that begins at `start`.
pub(super) fn encode_header(start: u64, base: Micros) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&start.to_le_bytes());
    bytes[16..24].copy_from_slice(&base.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// An index open for reading.
#[derive(Debug)]
pub(super) struct Index {
    file: File,
    base: Micros,
    count: u64,
}

impl Index {
    /// Opens the index of the segment that begins at `start`. `InvalidData` if
    /// the header is not that of such an index.
    pub(super) fn open(path: &Path, start: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut header = [0; 32];
        file.read_exact_at(&mut header, 0)?;
        let mut base = [0; 8];
        base.copy_from_slice(&header[16..24]);
        let base = Micros::from_le_bytes(base);
        if header != encode_header(start, base) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not the index of this segment",
            ));
        }
        Ok(Self { file, base, count: (len - HEADER_BYTES) / RECORD_BYTES })
    }

    /// Where times are counted from.
    pub(super) fn base(&self) -> Micros {
        self.base
    }

    /// Whole records.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Looks no further than the first `index_len` bytes: the file may have
    /// records that are not to be believed yet.
    pub(super) fn up_to(&mut self, index_len: u64) {
        self.count = index_len.saturating_sub(HEADER_BYTES) / RECORD_BYTES;
    }

    /// One record; `None` if it is damaged.
    pub(super) fn record(&self, at: u64) -> io::Result<Option<Record>> {
        let mut bytes = [0; 16];
        self.file.read_exact_at(&mut bytes, HEADER_BYTES + at * RECORD_BYTES)?;
        Ok(Record::decode(bytes, self.base))
    }

    /// Records from the one at `at` on, at most `SCAN_RECORDS`.
    pub(super) fn records(&self, at: u64) -> io::Result<Vec<Option<Record>>> {
        let count = self.count.saturating_sub(at).min(SCAN_RECORDS);
        let len = usize::try_from(count * RECORD_BYTES).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, HEADER_BYTES + at * RECORD_BYTES)?;
        let (records, _) = bytes.as_chunks();
        Ok(records.iter().map(|record| Record::decode(*record, self.base)).collect())
    }

    /// The first record whose piece ends after `position`.
    pub(super) fn record_at(&self, position: u64) -> io::Result<u64> {
        self.search(|record| u64::from(record.end) <= position)
    }

    /// When the byte at `position` of the log was received; `None` if the index
    /// does not reach so far.
    pub(super) fn time_at(&self, position: u64) -> io::Result<Option<Micros>> {
        let at = self.record_at(position)?;
        if at == self.count {
            return Ok(None);
        }
        Ok(self.record(at)?.map(|record| record.time))
    }

    /// Where in the log the first piece received at or after `time` begins;
    /// `None` if all came before.
    pub(super) fn position_since(&self, time: Micros) -> io::Result<Option<u64>> {
        let mut at = self.search(|record| record.time < time)?;
        // A gap and an orderly end have a time but no bytes.
        while at < self.count {
            if self.record(at)?.is_some_and(|record| record.kind == Kind::Data) {
                let before = at.checked_sub(1).map(|at| self.record(at)).transpose()?.flatten();
                return Ok(Some(before.map_or(0, |record| u64::from(record.end))));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The first record for which `before` is false; damaged ones count as
    /// before.
    fn search(&self, before: impl Fn(&Record) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record(middle)?.is_none_or(|record| before(&record)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// Path of the log of the segment that begins at `start`.
pub(super) fn log_path(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{start:020}.log"))
}

/// Path of the index of the segment that begins at `start`.
pub(super) fn index_path(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{start:020}.idx"))
}

/// Path of the mark that the segment that begins at `start` has gaps.
pub(super) fn gaps_path(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{start:020}.gaps"))
}
