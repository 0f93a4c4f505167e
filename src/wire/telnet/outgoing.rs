//! Commands of ours that wait until the connection takes them. Bounded, because
//! the peer decides how many answers we owe it and need not read any.

use bytes::BufMut;

use super::command::IAC;
use crate::limits::TELNET_OUTGOING_BYTES_MAX;

/// There is no room for a command: the peer does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer has not read {TELNET_OUTGOING_BYTES_MAX} bytes of telnet commands")]
pub struct Full;

/// At most [`TELNET_OUTGOING_BYTES_MAX`] bytes, always whole commands.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    dropped: u64,
}

impl Outgoing {
    /// A whole command, or none of it.
    pub(super) fn push(&mut self, command: &[u8]) -> Result<(), Full> {
        if self.room() < command.len() {
            return Err(Full);
        }
        self.bytes.extend_from_slice(command);
        Ok(())
    }

    /// A subnegotiation, its payload's IACs doubled.
    pub(super) fn push_subnegotiation(&mut self, option: u8, payload: &[u8]) -> Result<(), Full> {
        let doubled = memchr::memchr_iter(IAC, payload).count();
        if self.room() < payload.len() + doubled + 5 {
            return Err(Full);
        }
        self.bytes.extend_from_slice(&[IAC, super::command::SB, option]);
        for byte in payload {
            self.bytes.push(*byte);
            if *byte == IAC {
                self.bytes.push(IAC);
            }
        }
        self.bytes.extend_from_slice(&[IAC, super::command::SE]);
        Ok(())
    }

    /// An answer that the peer caused: without room it is dropped and counted.
    pub(super) fn answer(&mut self, pushed: Result<(), Full>) -> Result<(), Full> {
        self.dropped += u64::from(pushed.is_err());
        pushed
    }

    pub(super) fn flush(&mut self, wire: &mut impl BufMut) {
        wire.put_slice(&self.bytes);
        self.bytes.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn room(&self) -> usize {
        TELNET_OUTGOING_BYTES_MAX - self.bytes.len()
    }
}
