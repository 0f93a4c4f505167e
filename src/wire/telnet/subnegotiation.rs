//! The bytes between `IAC SB` and `IAC SE`, gathered across reads. Kept up to
//! [`SUBNEGOTIATION_BYTES_MAX`]; longer ones are read to their end and told as a
//! note; one that does not end is given up after [`SUBNEGOTIATION_SKIP_MAX`].

use crate::{
    limits::{SUBNEGOTIATION_BYTES_MAX, SUBNEGOTIATION_SKIP_MAX},
    wire::Payload,
};

/// A subnegotiation so far.
#[derive(Debug, Default)]
pub(super) struct Subnegotiation {
    option: Option<u8>,
    payload: Payload,
    /// Bytes of the payload, kept or not.
    len: usize,
}

/// Whether there may be more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Left,
    None,
}

/// A subnegotiation at its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// `IAC SB IAC SE`: says nothing.
    Empty,
    Whole {
        option: u8,
        payload: Payload,
    },
    TooLong {
        option: u8,
    },
}

impl Subnegotiation {
    pub(super) fn push(&mut self, byte: u8) -> Room {
        if self.option.is_none() {
            self.option = Some(byte);
            return Room::Left;
        }
        self.payload.push(byte);
        self.len += 1;
        if self.len < SUBNEGOTIATION_SKIP_MAX { Room::Left } else { Room::None }
    }

    /// Ends it and makes room for the next.
    pub(super) fn end(&mut self) -> Ended {
        let Self { option, payload, len } = std::mem::take(self);
        match option {
            None => Ended::Empty,
            Some(option) if len > SUBNEGOTIATION_BYTES_MAX => Ended::TooLong { option },
            Some(option) => Ended::Whole { option, payload },
        }
    }
}
