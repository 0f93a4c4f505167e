//! A reader's place in a journal, kept over connections.
//!
//! A thing of its own because `attach` and `logs --follow` promise the same: no
//! byte lost or repeated, whatever happens to the connection. Pure: messages in,
//! what to show out.
//!
//! Invariant: bytes leave in the order of their offsets, each once; whatever is
//! missing between two of them was told.

use std::ops::Range;

use bytes::Bytes;

use super::text::bytes;
use crate::pb::{
    JournalPosition,
    journal_position::{At, Edge},
};

/// Where a reader is.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Where it begins, for the first connection.
    from: JournalPosition,
    /// Offsets of another uid mean nothing.
    uid: Option<String>,
    /// The next offset not yet shown, once the first connection has told it.
    next: Option<u64>,
}

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It is the first.
    First,
    /// Output goes on.
    Resumed {
        /// From here.
        offset: u64,
    },
    /// The server's journal ends before what was shown: its machine has lost
    /// power, or it was put back. Output goes on with what comes.
    Shortened {
        /// What was to come next.
        expected: u64,
        /// What comes next.
        offset: u64,
    },
    /// The device is another one of the same name: connect again, from its
    /// beginning.
    Anew,
}

impl Cursor {
    pub(super) fn new(from: JournalPosition) -> Self {
        Self { from, uid: None, next: None }
    }

    /// Whether a connection has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.uid.is_some()
    }

    /// Where the next connection is to begin.
    pub(super) fn position(&self) -> JournalPosition {
        match self.next {
            Some(next) => JournalPosition { at: Some(At::Offset(next)) },
            None => self.from,
        }
    }

    /// The next offset not yet shown.
    pub(super) fn next(&self) -> u64 {
        self.next.unwrap_or(0)
    }

    /// The first message of a connection: the device's uid, where output begins
    /// and where the journal ends.
    pub(super) fn on_started(&mut self, uid: &str, offset: u64, end: u64) -> Begun {
        match &self.uid {
            Some(known) if known != uid => {
                self.uid = Some(uid.to_owned());
                self.from = JournalPosition { at: Some(At::Edge(Edge::Beginning.into())) };
                self.next = None;
                Begun::Anew
            }
            Some(_) => match self.next {
                Some(expected) if end < expected => {
                    self.next = Some(offset);
                    Begun::Shortened { expected, offset }
                }
                Some(offset) => Begun::Resumed { offset },
                None => {
                    self.next = Some(offset);
                    Begun::Resumed { offset }
                }
            },
            None => {
                self.uid = Some(uid.to_owned());
                self.next = Some(offset);
                Begun::First
            }
        }
    }

    /// Output arrived: what is missing before it, and what of it is new.
    pub(super) fn on_output(&mut self, offset: u64, mut data: Bytes) -> (Range<u64>, Bytes) {
        let next = self.next.unwrap_or(offset);
        let known = usize::try_from(next.saturating_sub(offset)).unwrap_or(usize::MAX);
        let new = data.split_off(known.min(data.len()));
        let begin = next.max(offset);
        self.next = Some(begin.saturating_add(new.len() as u64));
        (next..begin, new)
    }

    /// The server told that output is missing.
    pub(super) fn on_gap(&mut self, from: u64, to: u64) -> Range<u64> {
        self.next = Some(self.next.unwrap_or(to).max(to));
        from..to
    }
}

/// How a hole is told; `None` if there is none.
pub(super) fn told(gap: &Range<u64>) -> Option<String> {
    let lost = gap.end.checked_sub(gap.start).filter(|lost| *lost > 0)?;
    Some(format!("{} of output lost (offsets {} to {})", bytes(lost), gap.start, gap.end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor() -> Cursor {
        Cursor::new(JournalPosition::default())
    }

    fn at(offset: u64) -> JournalPosition {
        JournalPosition { at: Some(At::Offset(offset)) }
    }

    #[test]
    fn resumes_where_it_was() {
        let mut cursor = cursor();
        assert_eq!(cursor.on_started("u", 10, 10), Begun::First);
        let (gap, data) = cursor.on_output(10, Bytes::from_static(b"abc"));
        assert_eq!((told(&gap), &data[..]), (None, &b"abc"[..]));
        assert_eq!(cursor.position(), at(13));
        let resumed = Begun::Resumed { offset: 13 };
        assert_eq!(cursor.on_started("u", 13, 20), resumed);
    }

    #[test]
    fn tells_gaps_and_never_repeats() {
        let mut cursor = cursor();
        cursor.on_started("u", 0, 100);
        let (gap, data) = cursor.on_output(5, Bytes::from_static(b"fg"));
        assert_eq!((gap, &data[..]), (0..5, &b"fg"[..]));
        let (gap, data) = cursor.on_output(4, Bytes::from_static(b"efgh"));
        assert_eq!((told(&gap), &data[..]), (None, &b"h"[..]));
        let gap = cursor.on_gap(8, 50);
        assert_eq!(told(&gap).unwrap(), "42 bytes of output lost (offsets 8 to 50)");
        assert_eq!(cursor.next(), 50);
    }

    #[test]
    fn a_device_made_anew_is_read_from_its_beginning() {
        let mut cursor = cursor();
        cursor.on_started("u", 100, 100);
        assert_eq!(cursor.on_started("v", 5, 5), Begun::Anew);
        let beginning = Some(At::Edge(Edge::Beginning.into()));
        assert_eq!(cursor.position().at, beginning);
        assert_eq!(cursor.on_started("v", 0, 5), Begun::Resumed { offset: 0 });
    }

    #[test]
    fn a_journal_that_was_shortened_is_followed() {
        let mut cursor = cursor();
        cursor.on_started("u", 100, 100);
        let shortened = Begun::Shortened { expected: 100, offset: 60 };
        assert_eq!(cursor.on_started("u", 60, 60), shortened);
        assert_eq!(&cursor.on_output(60, Bytes::from_static(b"x")).1[..], b"x");
    }

    proptest! {
        /// However the journal is cut into messages, and wherever connections
        /// end and begin again, each byte is shown once.
        #[test]
        fn any_cuts_show_the_same(
            journal in proptest::collection::vec(any::<u8>(), 0..200),
            sizes in proptest::collection::vec(1_usize..20, 1..50),
            overlaps in proptest::collection::vec(0_usize..10, 1..50),
        ) {
            let mut cursor = cursor();
            cursor.on_started("u", 0, 200);
            let mut shown = Vec::new();
            let cuts = sizes.iter().zip(overlaps.iter().cycle());
            for (size, overlap) in cuts {
                let from = shown.len().saturating_sub(*overlap);
                let to = (from + size).min(journal.len());
                let data = Bytes::copy_from_slice(&journal[from..to]);
                let (gap, new) = cursor.on_output(from as u64, data);
                prop_assert!(gap.is_empty());
                shown.extend_from_slice(&new);
            }
            prop_assert_eq!(&shown[..], &journal[..shown.len()]);
            prop_assert_eq!(cursor.next(), shown.len() as u64);
        }
    }
}
