//! The Linux kernel's extended netconsole: one message, or a fragment of one, a
//! datagram (Documentation/networking/netconsole.rst), in the format of
//! /dev/kmsg (Documentation/ABI/testing/dev-kmsg):
//!
//! ```text
//! [RELEASE,]PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,KEY=VALUE…][,ncfrag=OFFSET/TOTAL];TEXT
//!  KEY=VALUE
//! ```
//!
//! [`Record::parse`] reads one datagram; what it refuses is for the caller to
//! keep as it came. [`Receiver`] is one sender's state: what is missing, and the
//! fragments of one message.
//!
//! Anybody can forge a datagram. The worst that one does is to spoil the message
//! that it claims to be part of, or a count.

mod receiver;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Duration};

pub use self::receiver::{Order, Receiver, Sequence, Taken};

/// A message, or a fragment of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// How bad it is: 0 (the system is unusable) to 7 (debugging).
    pub level: u8,
    /// Who says so: 0 is the kernel (syslog(3)).
    pub facility: u32,
    /// Grows by one with each message that the kernel logs.
    pub sequence: u64,
    /// Since the kernel started.
    pub timestamp: Duration,
    /// Whether it is a whole line.
    pub continuation: Continuation,
    /// Which part it is, if it came in several.
    pub fragment: Option<Fragment>,
    /// As sent: text, then a line for each key.
    pub body: Cow<'a, [u8]>,
}

/// Whether a message is a whole line. A hint: others may stand between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuation {
    /// It is.
    Whole,
    /// The beginning of one, or a piece of it.
    Piece,
    /// Goes on with the piece before.
    Rest,
}

/// Which part of a message's body a datagram has. Of a message that was torn:
/// its beginning, and how long it was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Bytes before it.
    pub offset: usize,
    /// Bytes of all fragments; more than `offset`.
    pub total: usize,
}

/// Why a datagram is not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no `;`, so it is not of the extended format.
    #[error("there is no header")]
    NoHeader,
    /// A field is not what must stand there.
    #[error("the {0} is missing or malformed")]
    Field(&'static str),
}

impl<'a> Record<'a> {
    /// Reads a datagram.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Error> {
        let end = memchr::memchr(b';', datagram).ok_or(Error::NoHeader)?;
        let body = &datagram[end + 1..];
        let mut fields = datagram[..end].split(|byte| *byte == b',');
        let first = fields.next().and_then(number);
        // A release ("6.12.1-arch1") is no number; what follows it must be one.
        let priority = match first {
            Some(priority) => priority,
            None => fields.next().and_then(number).ok_or(Error::Field("priority"))?,
        };
        let facility = u32::try_from(priority >> 3).map_err(|_| Error::Field("priority"))?;
        let sequence = fields.next().and_then(number).ok_or(Error::Field("sequence number"))?;
        let timestamp = fields.next().and_then(number).ok_or(Error::Field("timestamp"))?;
        let flags = fields.next().ok_or(Error::Field("flags"))?;
        let continuation = match flags {
            b"c" => Continuation::Piece,
            b"+" => Continuation::Rest,
            // Flags that are not known are to be ignored.
            _ => Continuation::Whole,
        };
        let mut fragment = None;
        for field in fields {
            if let Some(part) = field.strip_prefix(b"ncfrag=") {
                let part = part_of(part).filter(|part| body.len() <= part.total - part.offset);
                fragment = Some(part.ok_or(Error::Field("fragment"))?);
            }
        }
        Ok(Self {
            level: (priority & 7) as u8,
            facility,
            sequence,
            timestamp: Duration::from_micros(timestamp),
            continuation,
            fragment,
            body: Cow::Borrowed(body),
        })
    }

    /// The text, as the kernel's log has it: without the keys, and without the
    /// escapes (`\x1b`) that stand for what is not printable.
    pub fn text(&self) -> Cow<'_, [u8]> {
        let text = self.lines().next().unwrap_or_default();
        if memchr::memchr(b'\\', text).is_none() {
            return Cow::Borrowed(text);
        }
        let mut plain = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((&byte, next)) = rest.split_first() {
            rest = next;
            match (byte, next) {
                (b'\\', [b'x', high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                    (Some(high), Some(low)) => {
                        plain.push(high << 4 | low);
                        rest = after;
                    }
                    (_, _) => plain.push(byte),
                },
                (_, _) => plain.push(byte),
            }
        }
        Cow::Owned(plain)
    }

    /// The keys and their values (`SUBSYSTEM`, `acpi`), still escaped.
    pub fn dictionary(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines().skip(1).filter_map(|line| {
            let line = line.strip_prefix(b" ")?;
            let at = memchr::memchr(b'=', line)?;
            Some((&line[..at], &line[at + 1..]))
        })
    }

    /// The same, owning its body.
    fn into_owned(self) -> Record<'static> {
        Record { body: Cow::Owned(self.body.into_owned()), ..self }
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.body.split(|byte| *byte == b'\n')
    }
}

/// A decimal number, digits only: `u64::from_str` would take a sign.
fn number(field: &[u8]) -> Option<u64> {
    if !field.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn part_of(field: &[u8]) -> Option<Fragment> {
    let slash = memchr::memchr(b'/', field)?;
    let offset = usize::try_from(number(&field[..slash])?).ok()?;
    let total = usize::try_from(number(&field[slash + 1..])?).ok()?;
    (offset < total).then_some(Fragment { offset, total })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
