//! The inside of a telnet subnegotiation: a few bytes, kept in place, so that an
//! event owns what it tells and costs no allocation.

use std::{fmt, ops::Deref};

use crate::limits::SUBNEGOTIATION_BYTES_MAX;

/// At most [`SUBNEGOTIATION_BYTES_MAX`] bytes.
#[derive(Clone, Copy)]
pub struct Payload {
    bytes: [u8; SUBNEGOTIATION_BYTES_MAX],
    len: usize,
}

impl Payload {
    /// No bytes.
    pub const EMPTY: Self = Self { bytes: [0; SUBNEGOTIATION_BYTES_MAX], len: 0 };

    /// As much of `bytes` as there is room for.
    pub fn new(bytes: &[u8]) -> Self {
        let mut payload = Self::EMPTY;
        for byte in bytes.iter().take(SUBNEGOTIATION_BYTES_MAX) {
            payload.push(*byte);
        }
        payload
    }

    /// One byte more, if there is room.
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(room) = self.bytes.get_mut(self.len) {
            *room = byte;
            self.len += 1;
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload(\"{}\")", self.escape_ascii())
    }
}
