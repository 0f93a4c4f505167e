//! Telnet (RFC 854, RFC 855) for consoles: takes the commands out of what a peer
//! sends and gives the data as the far side meant it, byte for byte; and the
//! reverse. One [`Telnet`] is one connection.
//!
//! # What it decides
//!
//! - **Transparent.** A console is not a network virtual terminal: nothing is
//!   turned into "newline". Where a side is BINARY (RFC 856), only IAC is
//!   doubled. Where it is not, RFC 854 has CR followed by LF or NUL: the NUL is
//!   ours to add and to take away, a CR LF stays as it is, and so does a lone
//!   LF, because what wrote it knew its own line discipline. A CR at the end of
//!   what is to be sent gets its NUL at once: whoever pressed Enter must not
//!   wait until the next key says what follows.
//! - **No text of our own.** What we write besides commands is typed into
//!   somebody's boot loader. RFC 854 asks for visible evidence after ARE YOU
//!   THERE; we answer with NOP, which is evidence that is not input, and tell
//!   the caller.
//! - **A client is quiet.** It answers what the server offers and begins nothing
//!   unless it wants the serial port (RFC 2217). QEMU's telnet server offers
//!   BINARY both ways by itself, never answers, and types subnegotiations into
//!   the guest; it skips three-byte commands whole, so answers do no harm.
//! - **IAC before a byte that is no command** (below 236; nobody defined any) is
//!   two bytes of data from a peer that does not double IAC, as QEMU did for years.
//!   Kept as they are, with a note. What such a peer writes as IAC and a real
//!   command cannot be told apart and is taken for the command.
//! - **A mode changes** at the command that changes it. A peer that was asked
//!   may have sent a little in its old mode meanwhile, so a NUL after a CR can
//!   come through at the moment of the change; telnet has no mark to tell.
//!
//! # Bounds
//!
//! Decoding keeps no data. Commands of ours wait in at most
//! [`TELNET_OUTGOING_BYTES_MAX`](crate::limits::TELNET_OUTGOING_BYTES_MAX);
//! answers past it are dropped and counted. Subnegotiations: see there.

mod command;
mod negotiate;
mod outgoing;
mod subnegotiation;
#[cfg(test)]
mod tests;

use bytes::BufMut;
use memchr::{memchr, memchr2};

use self::{
    command::{AYT, BRK, CR, FIRST, IAC, IP, NOP, NUL, SB, SE, TTYPE_IS, TTYPE_SEND, Verb},
    negotiate::Negotiation,
    outgoing::Outgoing,
    subnegotiation::{Ended, Room, Subnegotiation},
};
pub use self::{
    command::{Side, Switch, TelnetOption},
    outgoing::Full,
};
use super::Payload;

/// Which side of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We connected.
    Client,
    /// We listen: what connects is a terminal to us.
    Server,
}

/// Whether the serial port option is used (RFC 2217).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ComPortUse {
    /// Refused.
    #[default]
    Off,
    /// Offered at the opening, and accepted.
    On,
}

/// What a connection is to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Config {
    /// The serial port at the other end, or ours to the other.
    pub com_port: ComPortUse,
}

/// The size of a terminal, 0 where it is not known (RFC 1073).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Characters of a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// What came besides data. It stands in the stream where it came: all data
/// decoded before it was sent before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The break key.
    Break,
    /// The peer wants what runs interrupted.
    InterruptProcess,
    /// The peer wants a sign of life, and has been given NOP.
    AreYouThere,
    /// The peer's window has this size.
    WindowSize(WindowSize),
    /// The peer's terminal has this name.
    TerminalType(Payload),
    /// A message about the serial port; for [`rfc2217`](super::rfc2217).
    ComPort(Payload),
    /// An option came into use or went out of it.
    Switched {
        /// Whose use.
        side: Side,
        /// Of what.
        option: TelnetOption,
        /// Which.
        now: Switch,
    },
    /// The peer does not keep to the protocol.
    Note(Note),
}

/// What a peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// IAC before a byte that is no command, taken as data.
    LoneIac,
    /// A subnegotiation of this option was longer than is kept, and skipped.
    SubnegotiationTooLong {
        /// Its number.
        option: u8,
    },
    /// A subnegotiation did not end; what follows is data again.
    SubnegotiationUnterminated,
    /// Another command stood in a subnegotiation and ended it.
    SubnegotiationBroken,
}

/// Why a command was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer does not read.
    #[error(transparent)]
    Full(#[from] Full),
    /// The option is not in use.
    #[error("the peer has not agreed to use {0:?}")]
    Off(TelnetOption),
}

/// Where in a command the last read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Data,
    /// After IAC.
    Command,
    /// After IAC WILL, WONT, DO or DONT.
    Option(Verb),
    /// After IAC SB.
    Subnegotiation,
    /// After an IAC in there.
    SubnegotiationCommand,
}

/// One telnet connection.
#[derive(Debug)]
pub struct Telnet {
    state: State,
    /// The last byte of data was a CR whose NUL is still to come.
    after_cr: bool,
    subnegotiation: Subnegotiation,
    negotiation: Negotiation,
    outgoing: Outgoing,
    window: Option<WindowSize>,
}

impl Telnet {
    /// A new connection; what it opens with waits to be sent.
    pub fn new(role: Role, config: Config) -> Self {
        let mut telnet = Self {
            state: State::Data,
            after_cr: false,
            subnegotiation: Subnegotiation::default(),
            negotiation: Negotiation::new(role, config),
            outgoing: Outgoing::default(),
            window: None,
        };
        for (side, option) in opening(role, config) {
            // The opening is far below the bound.
            telnet.want(*side, *option, Switch::On).ok();
        }
        telnet
    }

    /// Takes `input` until something other than data has come, or to its end:
    /// then there is no event. Appends at most one byte more to `data` than it
    /// takes, and never grows it otherwise.
    pub fn decode(&mut self, input: &mut &[u8], data: &mut impl BufMut) -> Option<Event> {
        while let Some((&byte, rest)) = input.split_first() {
            let event = match self.state {
                State::Data => {
                    self.decode_data(input, data);
                    continue;
                }
                // The byte is looked at again, as data.
                State::Command if byte < FIRST => {
                    data.put_u8(IAC);
                    self.after_cr = false;
                    self.state = State::Data;
                    return Some(Event::Note(Note::LoneIac));
                }
                State::Command => self.hear_command(byte, data),
                State::Option(verb) => {
                    self.state = State::Data;
                    self.hear_option(verb, byte)
                }
                State::Subnegotiation if byte == IAC => {
                    self.state = State::SubnegotiationCommand;
                    None
                }
                State::Subnegotiation => self.gather(&[byte]),
                State::SubnegotiationCommand => match byte {
                    SE => {
                        self.state = State::Data;
                        self.hear_subnegotiation()
                    }
                    IAC => self.gather(&[IAC]),
                    // Not doubled, as above.
                    ..FIRST => self.gather(&[IAC, byte]),
                    // A lost end: the byte is looked at again, as a command.
                    FIRST.. => {
                        self.subnegotiation.end();
                        self.state = State::Command;
                        return Some(Event::Note(Note::SubnegotiationBroken));
                    }
                },
            };
            *input = rest;
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Writes `data` as the peer is to read it, after all commands that wait:
    /// at most twice its length and [`pending`](Self::pending) more. What is
    /// written must reach the peer whole and in order.
    pub fn encode(&mut self, data: &[u8], wire: &mut impl BufMut) {
        self.flush(wire);
        let binary = self.is_on(Side::Us, TelnetOption::Binary);
        let mut rest = data;
        loop {
            let special = if binary { memchr(IAC, rest) } else { memchr2(IAC, CR, rest) };
            let Some(at) = special else {
                wire.put_slice(rest);
                return;
            };
            let (run, next) = rest.split_at(at + 1);
            wire.put_slice(run);
            match (rest[at], next.first()) {
                (IAC, _) => wire.put_u8(IAC),
                (_, Some(b'\n')) => {}
                (_, _) => wire.put_u8(NUL),
            }
            rest = next;
        }
    }

    /// Writes the commands that wait.
    pub fn flush(&mut self, wire: &mut impl BufMut) {
        self.outgoing.flush(wire);
    }

    /// Bytes of commands that wait to be sent.
    pub fn pending(&self) -> usize {
        self.outgoing.len()
    }

    /// Answers that were dropped because the peer does not read: not zero means
    /// that it is broken or hostile.
    pub fn answers_dropped(&self) -> u64 {
        self.outgoing.dropped()
    }

    /// Whether a side uses an option now.
    pub fn is_on(&self, side: Side, option: TelnetOption) -> bool {
        self.negotiation.is_on(side, option)
    }

    /// Asks for an option, or for its end. Nothing is said if it is so already,
    /// or was asked already.
    pub fn want(&mut self, side: Side, option: TelnetOption, wish: Switch) -> Result<(), Full> {
        self.negotiation.want(side, option, wish, &mut self.outgoing)
    }

    /// Sends the break key.
    pub fn send_break(&mut self) -> Result<(), Full> {
        self.outgoing.push(&[IAC, BRK])
    }

    /// Sends a message about the serial port, if the peer has agreed.
    pub fn send_com_port(&mut self, message: &[u8]) -> Result<(), SendError> {
        if !self.com_port_is_on() {
            return Err(SendError::Off(TelnetOption::ComPort));
        }
        self.outgoing.push_subnegotiation(TelnetOption::ComPort.code(), message)?;
        Ok(())
    }

    /// The size of our window: told now, or when the peer wants to know.
    pub fn set_window(&mut self, window: WindowSize) -> Result<(), Full> {
        self.window = Some(window);
        if self.is_on(Side::Us, TelnetOption::WindowSize) { self.send_window() } else { Ok(()) }
    }

    /// Whether messages about the serial port may be sent. Clients say WILL and
    /// servers DO (RFC 2217); some ask for both.
    pub fn com_port_is_on(&self) -> bool {
        self.is_on(Side::Us, TelnetOption::ComPort) || self.is_on(Side::Them, TelnetOption::ComPort)
    }

    /// Whether the peer has refused to speak about the serial port, and nothing
    /// that was asked is open.
    pub fn com_port_is_refused(&self) -> bool {
        self.negotiation.is_at_rest(TelnetOption::ComPort)
    }

    /// A run of data, at least one byte of input.
    fn decode_data(&mut self, input: &mut &[u8], data: &mut impl BufMut) {
        let all = *input;
        let binary = self.is_on(Side::Them, TelnetOption::Binary);
        // A command between a CR and its NUL does not part them.
        if self.after_cr && all.first() != Some(&IAC) {
            self.after_cr = false;
            if !binary && all.first() == Some(&NUL) {
                *input = &all[1..];
                return;
            }
        }
        let special = if binary { memchr(IAC, all) } else { memchr2(IAC, CR, all) };
        let Some(at) = special else {
            data.put_slice(all);
            *input = &[];
            return;
        };
        if all[at] == IAC {
            data.put_slice(&all[..at]);
            self.state = State::Command;
        } else {
            data.put_slice(&all[..=at]);
            self.after_cr = true;
        }
        *input = &all[at + 1..];
    }

    /// The byte after IAC, one that is defined.
    fn hear_command(&mut self, command: u8, data: &mut impl BufMut) -> Option<Event> {
        self.state = State::Data;
        match command {
            IAC => {
                data.put_u8(IAC);
                self.after_cr = false;
                None
            }
            SB => {
                self.state = State::Subnegotiation;
                None
            }
            BRK => Some(Event::Break),
            IP => Some(Event::InterruptProcess),
            AYT => {
                let answered = self.outgoing.push(&[IAC, NOP]);
                self.outgoing.answer(answered).ok();
                Some(Event::AreYouThere)
            }
            // NOP, DM, AO, EC, EL, GA, EOR …: nothing to a console.
            other => {
                if let Some(verb) = Verb::from_code(other) {
                    self.state = State::Option(verb);
                }
                None
            }
        }
    }

    fn hear_option(&mut self, verb: Verb, code: u8) -> Option<Event> {
        let (side, option, now) = self.negotiation.hear(verb, code, &mut self.outgoing)?;
        match (side, option, now) {
            (Side::Them, TelnetOption::TerminalType, Switch::On) => {
                let asked = self.outgoing.push_subnegotiation(option.code(), &[TTYPE_SEND]);
                self.outgoing.answer(asked).ok();
            }
            (Side::Us, TelnetOption::WindowSize, Switch::On) => {
                let told = self.send_window();
                self.outgoing.answer(told).ok();
            }
            (_, _, _) => {}
        }
        Some(Event::Switched { side, option, now })
    }

    fn gather(&mut self, bytes: &[u8]) -> Option<Event> {
        self.state = State::Subnegotiation;
        for byte in bytes {
            if self.subnegotiation.push(*byte) == Room::None {
                self.subnegotiation.end();
                self.state = State::Data;
                return Some(Event::Note(Note::SubnegotiationUnterminated));
            }
        }
        None
    }

    fn hear_subnegotiation(&mut self) -> Option<Event> {
        let (option, payload) = match self.subnegotiation.end() {
            Ended::Empty => return None,
            Ended::TooLong { option } => {
                return Some(Event::Note(Note::SubnegotiationTooLong { option }));
            }
            Ended::Whole { option, payload } => (TelnetOption::from_code(option)?, payload),
        };
        // RFC 855: only about what was agreed on.
        match (option, &payload[..]) {
            (TelnetOption::ComPort, _) if self.com_port_is_on() => Some(Event::ComPort(payload)),
            (TelnetOption::WindowSize, &[c1, c0, r1, r0]) if self.is_on(Side::Them, option) => {
                let columns = u16::from_be_bytes([c1, c0]);
                let rows = u16::from_be_bytes([r1, r0]);
                Some(Event::WindowSize(WindowSize { columns, rows }))
            }
            (TelnetOption::TerminalType, &[TTYPE_IS, ref name @ ..])
                if self.is_on(Side::Them, option) =>
            {
                Some(Event::TerminalType(Payload::new(name)))
            }
            (_, _) => None,
        }
    }

    fn send_window(&mut self) -> Result<(), Full> {
        let Some(window) = self.window else { return Ok(()) };
        let [c1, c0] = window.columns.to_be_bytes();
        let [r1, r0] = window.rows.to_be_bytes();
        self.outgoing.push_subnegotiation(TelnetOption::WindowSize.code(), &[c1, c0, r1, r0])
    }
}

/// What a side asks for before it has heard anything. A server's first four are
/// QEMU's, in its order. RFC 2217 has the client say WILL COM-PORT-OPTION and
/// the server DO.
fn opening(role: Role, config: Config) -> &'static [(Side, TelnetOption)] {
    use Side::{Them, Us};
    use TelnetOption::{Binary, ComPort, Echo, SuppressGoAhead, WindowSize};
    match (role, config.com_port) {
        (Role::Server, ComPortUse::Off) => {
            &[(Us, Echo), (Us, SuppressGoAhead), (Us, Binary), (Them, Binary), (Them, WindowSize)]
        }
        (Role::Server, ComPortUse::On) => &[
            (Us, Echo),
            (Us, SuppressGoAhead),
            (Us, Binary),
            (Them, Binary),
            (Them, WindowSize),
            (Them, ComPort),
        ],
        (Role::Client, ComPortUse::Off) => &[],
        (Role::Client, ComPortUse::On) => &[
            (Us, Binary),
            (Them, Binary),
            (Us, SuppressGoAhead),
            (Them, SuppressGoAhead),
            (Us, ComPort),
        ],
    }
}
