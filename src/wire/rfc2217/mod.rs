//! RFC 2217: the settings and lines of a serial port at the other end of a
//! telnet connection. Here the messages, as the payload of a COM-PORT-OPTION
//! subnegotiation (telnet doubles IAC); [`Client`] is the side that wants
//! something of a port, [`Server`] the side that has one.
//!
//! Both sides use the same messages; a server's are numbered 100 higher. A
//! setting is asked for with 0, so each is a [`Setting`]: a question, a value, or
//! a number that the RFC does not know, which a server answers with what it has.
//! Parsing keeps every number, so what is parsed is encoded again as it was.

mod client;
mod control;
mod server;
#[cfg(test)]
mod tests;

use std::{num::NonZeroU32, ops::BitAnd};

pub use self::{
    client::{Client, Heard},
    control::Control,
    server::{Reply, Request, Server},
};
use super::Payload;
use crate::{
    device::{DataBits, ModemLines, Parity, StopBits},
    limits::SUBNEGOTIATION_BYTES_MAX,
};

/// What a server's message numbers are higher by.
const SERVER: u8 = 100;

/// Longest signature: what fits behind the message's number.
const SIGNATURE_BYTES_MAX: usize = SUBNEGOTIATION_BYTES_MAX - 1;

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Who uses the port.
    Client,
    /// Who has the port.
    Server,
}

/// A setting in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting<T> {
    /// What is it?
    Ask,
    /// Make it so, or: it is so.
    Is(T),
    /// A number that the RFC does not define.
    Other(u8),
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComPort {
    /// Who the sender is, in its words; empty asks for it.
    Signature(Payload),
    /// Bits a second; `None` asks.
    Baud(Option<NonZeroU32>),
    /// Bits of a character.
    DataSize(Setting<DataBits>),
    /// The check bit.
    Parity(Setting<Parity>),
    /// Stop bits.
    StopSize(Setting<StopBits>),
    /// Flow control, break, DTR and RTS.
    Control(Control),
    /// What happened on the line.
    LineState(LineState),
    /// What the modem lines are and which changed.
    ModemState(ModemState),
    /// Send no more data until told.
    Suspend,
    /// Send data again.
    Resume,
    /// Which of the line's states are told.
    LineStateMask(LineState),
    /// Which of the modem lines' changes are told.
    ModemStateMask(ModemState),
    /// Forget data.
    Purge(Purge),
}

/// Which data to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// What the port received.
    Receive,
    /// What the port is to send.
    Transmit,
    /// Both.
    Both,
    /// A number that the RFC does not define.
    Other(u8),
}

/// What happened on the line: the bits of a 16550's LSR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineState(pub u8);

impl LineState {
    /// A break.
    pub const BREAK: Self = Self(16);

    /// Whether any of `other` is set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitAnd for LineState {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The modem lines in the upper half, which of them changed in the lower: the
/// bits of a 16550's MSR.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModemState(pub u8);

impl ModemState {
    /// All lines and all changes.
    pub const ALL: Self = Self(0xFF);

    const LINES: [(ModemLines, u8); 4] = [
        (ModemLines::CTS, 1 << 4),
        (ModemLines::DSR, 1 << 5),
        (ModemLines::RI, 1 << 6),
        (ModemLines::CD, 1 << 7),
    ];

    /// `lines` (CTS, DSR, RI and CD of them) after they were `before`.
    pub fn new(before: ModemLines, lines: ModemLines) -> Self {
        let mut bits = 0;
        for (line, bit) in Self::LINES {
            if lines.contains(line) {
                bits |= bit;
            }
            if lines.contains(line) != before.contains(line) {
                bits |= bit >> 4;
            }
        }
        Self(bits)
    }

    /// The lines.
    pub fn lines(self) -> ModemLines {
        let asserted = Self::LINES.iter().filter(|(_, bit)| self.0 & bit != 0);
        asserted.fold(ModemLines::NONE, |lines, (line, _)| lines | *line)
    }

    /// Whether one of the lines in `mask` changed.
    fn changed(self, mask: Self) -> bool {
        self.0 & mask.0 & 0x0F != 0
    }
}

/// Why a payload is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Its number is none that its sender may use.
    #[error("no message of RFC 2217 has number {0}")]
    Unknown(u8),
    /// It ends before its value does.
    #[error("message {0} is too short")]
    Short(u8),
    /// There is nothing in it.
    #[error("an empty message")]
    Empty,
}

impl ComPort {
    /// Reads a message that `from` has sent. What stands after a value is
    /// ignored (sredird adds four NULs to a baud rate), and a signature is cut to
    /// what fits into a subnegotiation.
    pub fn parse(payload: &[u8], from: Sender) -> Result<Self, Error> {
        let (&number, rest) = payload.split_first().ok_or(Error::Empty)?;
        let command = match from {
            Sender::Client => Some(number),
            Sender::Server => number.checked_sub(SERVER),
        };
        let value = rest.first().copied().ok_or(Error::Short(number));
        match command.ok_or(Error::Unknown(number))? {
            0 => {
                let fits = rest.len().min(SIGNATURE_BYTES_MAX);
                Ok(Self::Signature(Payload::new(&rest[..fits])))
            }
            1 => match rest.first_chunk() {
                Some(baud) => Ok(Self::Baud(NonZeroU32::new(u32::from_be_bytes(*baud)))),
                None => Err(Error::Short(number)),
            },
            2 => value.map(|value| Self::DataSize(decode(&DATA_SIZES, value))),
            3 => value.map(|value| Self::Parity(decode(&PARITIES, value))),
            4 => value.map(|value| Self::StopSize(decode(&STOP_SIZES, value))),
            5 => value.map(|value| Self::Control(Control::from_code(value))),
            6 => value.map(|value| Self::LineState(LineState(value))),
            7 => Ok(Self::ModemState(ModemState(match (from, value) {
                (_, Ok(value)) => value,
                // pyserial asks for the state with a message of its own, without one.
                (Sender::Client, Err(_)) => 0,
                (Sender::Server, Err(short)) => return Err(short),
            }))),
            8 => Ok(Self::Suspend),
            9 => Ok(Self::Resume),
            10 => value.map(|value| Self::LineStateMask(LineState(value))),
            11 => value.map(|value| Self::ModemStateMask(ModemState(value))),
            12 => value.map(|value| {
                Self::Purge(match value {
                    1 => Purge::Receive,
                    2 => Purge::Transmit,
                    3 => Purge::Both,
                    other => Purge::Other(other),
                })
            }),
            _ => Err(Error::Unknown(number)),
        }
    }

    /// Writes it as `from` sends it. A signature is cut to what fits.
    pub fn encode(self, from: Sender) -> Payload {
        let base = match from {
            Sender::Client => 0,
            Sender::Server => SERVER,
        };
        let one = |command: u8, value: u8| Payload::new(&[base + command, value]);
        match self {
            Self::Signature(text) => {
                let mut payload = Payload::new(&[base]);
                text.iter().for_each(|byte| payload.push(*byte));
                payload
            }
            Self::Baud(baud) => {
                let [a, b, c, d] = baud.map_or(0, NonZeroU32::get).to_be_bytes();
                Payload::new(&[base + 1, a, b, c, d])
            }
            Self::DataSize(size) => one(2, encode(&DATA_SIZES, size)),
            Self::Parity(parity) => one(3, encode(&PARITIES, parity)),
            Self::StopSize(size) => one(4, encode(&STOP_SIZES, size)),
            Self::Control(control) => one(5, control.code()),
            Self::LineState(state) => one(6, state.0),
            Self::ModemState(state) => one(7, state.0),
            Self::Suspend => Payload::new(&[base + 8]),
            Self::Resume => Payload::new(&[base + 9]),
            Self::LineStateMask(mask) => one(10, mask.0),
            Self::ModemStateMask(mask) => one(11, mask.0),
            Self::Purge(purge) => one(
                12,
                match purge {
                    Purge::Receive => 1,
                    Purge::Transmit => 2,
                    Purge::Both => 3,
                    Purge::Other(other) => other,
                },
            ),
        }
    }
}

const DATA_SIZES: [(DataBits, u8); 4] =
    [(DataBits::Five, 5), (DataBits::Six, 6), (DataBits::Seven, 7), (DataBits::Eight, 8)];
const PARITIES: [(Parity, u8); 5] =
    [(Parity::None, 1), (Parity::Odd, 2), (Parity::Even, 3), (Parity::Mark, 4), (Parity::Space, 5)];
const STOP_SIZES: [(StopBits, u8); 3] =
    [(StopBits::One, 1), (StopBits::Two, 2), (StopBits::OnePointFive, 3)];

fn decode<T: Copy>(table: &[(T, u8)], code: u8) -> Setting<T> {
    match table.iter().find(|(_, known)| *known == code) {
        Some((value, _)) => Setting::Is(*value),
        None if code == 0 => Setting::Ask,
        None => Setting::Other(code),
    }
}

fn encode<T: Copy + PartialEq>(table: &[(T, u8)], setting: Setting<T>) -> u8 {
    match setting {
        Setting::Ask => 0,
        Setting::Other(code) => code,
        // Every value stands in its table; see the tests.
        Setting::Is(value) => {
            table.iter().find(|(known, _)| *known == value).map_or(0, |(_, code)| *code)
        }
    }
}
