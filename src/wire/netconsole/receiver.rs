//! One sender's messages in order: which are missing, and those that came in
//! several datagrams in one piece.
//!
//! Holds one unfinished message of at most
//! [`NETCONSOLE_RECORD_BYTES_MAX`](limits::NETCONSOLE_RECORD_BYTES_MAX). The
//! kernel sends fragments one after the other, so any that does not go on where
//! the one before ended tears the message; what was there of it is given out,
//! because the last message of a crash is the one that counts.

use super::{Fragment, Record};
use crate::limits;

/// Where a sequence number stands to those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The first we hear of, after a start of the kernel or of ours.
    First,
    /// The one after the last.
    Next,
    /// This many are missing before it: lost by the network, or never sent,
    /// because the sender's console_loglevel held them back.
    Missing(u64),
    /// The same as the last.
    Same,
}

/// Watches one sender's sequence numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sequence {
    last: Option<u64>,
}

impl Sequence {
    /// The next record has this number. A lower one than before, or one that is
    /// more than [`NETCONSOLE_MISSING_MAX`](limits::NETCONSOLE_MISSING_MAX)
    /// higher, is a kernel that has started anew.
    pub fn see(&mut self, sequence: u64) -> Order {
        let last = self.last.replace(sequence);
        match last.and_then(|last| sequence.checked_sub(last)) {
            None => Order::First,
            Some(0) => Order::Same,
            Some(1) => Order::Next,
            Some(step) if step - 1 > limits::NETCONSOLE_MISSING_MAX => Order::First,
            Some(step) => Order::Missing(step - 1),
        }
    }
}

/// One sender.
#[derive(Debug, Default)]
pub struct Receiver {
    sequence: Sequence,
    partial: Partial,
}

/// What of the last sequence number is still to come.
#[derive(Debug, Default)]
enum Partial {
    /// Nothing: it was whole, or is spoilt.
    #[default]
    None,
    /// The bytes after these.
    Some { record: Record<'static>, total: usize },
}

/// What a record led to; in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken<'a> {
    /// The beginning of a message whose end did not come. Its `fragment` says
    /// how long it was to be.
    pub torn: Option<Record<'static>>,
    /// Messages that are missing: those that [`Order::Missing`] counts, and one
    /// if this is a fragment of which nothing can be given out.
    pub missing: u64,
    /// A whole message.
    pub record: Option<Record<'a>>,
    /// Whether it was left out: it was here before, or is of a message that is
    /// torn or counted as missing already.
    pub left_out: bool,
}

impl Receiver {
    /// Takes the next record.
    pub fn take<'a>(&mut self, record: Record<'a>) -> Taken<'a> {
        let order = self.sequence.see(record.sequence);
        let torn = match order {
            Order::Same => None,
            Order::First | Order::Next | Order::Missing(_) => self.abandon(),
        };
        let missing = match order {
            Order::Missing(missing) => missing,
            Order::First | Order::Next | Order::Same => 0,
        };
        let taken = Taken { torn, missing, ..Taken::default() };
        match record.fragment {
            None if order == Order::Same => Taken { left_out: true, ..taken },
            None => Taken { record: Some(record), ..taken },
            Some(part) if order == Order::Same => self.go_on(record, part, taken),
            Some(part) => self.begin(record, part, taken),
        }
    }

    /// Gives out what there is of an unfinished message: for when the sender
    /// has been quiet, as one that has crashed is.
    pub fn abandon(&mut self) -> Option<Record<'static>> {
        match std::mem::take(&mut self.partial) {
            Partial::None => None,
            Partial::Some { record, total } => {
                Some(Record { fragment: Some(Fragment { offset: 0, total }), ..record })
            }
        }
    }

    /// The first fragment that we see of a message.
    fn begin<'a>(&mut self, record: Record<'a>, part: Fragment, taken: Taken<'a>) -> Taken<'a> {
        if part.offset != 0 || part.total > limits::NETCONSOLE_RECORD_BYTES_MAX {
            return Taken { missing: taken.missing + 1, ..taken };
        }
        if record.body.len() == part.total {
            return Taken { record: Some(Record { fragment: None, ..record }), ..taken };
        }
        self.partial = Partial::Some { record: record.into_owned(), total: part.total };
        taken
    }

    /// A fragment of the same message as the one before.
    fn go_on<'a>(&mut self, record: Record<'a>, part: Fragment, taken: Taken<'a>) -> Taken<'a> {
        let Partial::Some { record: begun, total } = &mut self.partial else {
            // The message was whole already, or has been counted.
            return Taken { left_out: true, ..taken };
        };
        let have = begun.body.len();
        if part.total == *total && part.offset + record.body.len() <= have {
            return Taken { left_out: true, ..taken };
        }
        if part.total != *total || part.offset != have {
            return Taken { torn: self.abandon(), ..taken };
        }
        begun.body.to_mut().extend_from_slice(&record.body);
        if begun.body.len() < *total {
            return taken;
        }
        match std::mem::take(&mut self.partial) {
            Partial::None => taken,
            Partial::Some { record, .. } => {
                Taken { record: Some(Record { fragment: None, ..record }), ..taken }
            }
        }
    }
}
