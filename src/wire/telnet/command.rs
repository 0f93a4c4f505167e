//! The bytes of the telnet protocol (RFC 854, RFC 855) and the options that we
//! know, by name.

/// Interpret as command: begins every command; doubled, it is a byte of data.
pub(super) const IAC: u8 = 255;
/// Begins a subnegotiation.
pub(super) const SB: u8 = 250;
/// Are you there.
pub(super) const AYT: u8 = 246;
/// Interrupt process.
pub(super) const IP: u8 = 244;
/// The break key.
pub(super) const BRK: u8 = 243;
/// No operation.
pub(super) const NOP: u8 = 241;
/// Ends a subnegotiation.
pub(super) const SE: u8 = 240;
/// The lowest command that anybody defined: EOF of RFC 1184.
pub(super) const FIRST: u8 = 236;

pub(super) const CR: u8 = b'\r';
pub(super) const NUL: u8 = 0;

/// Inside of a terminal type subnegotiation: here it is (RFC 1091).
pub(super) const TTYPE_IS: u8 = 0;
/// Inside of a terminal type subnegotiation: tell me.
pub(super) const TTYPE_SEND: u8 = 1;

/// An option that we know how to use. Others are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TelnetOption {
    /// Bytes as they are, without the rules for CR (RFC 856).
    Binary,
    /// The side that has it shows what the other types (RFC 857).
    Echo,
    /// No "your turn" after each message (RFC 858): all there is today.
    SuppressGoAhead,
    /// The terminal's name (RFC 1091).
    TerminalType,
    /// The size of the terminal's window, "NAWS" (RFC 1073).
    WindowSize,
    /// The serial port at the other end (RFC 2217).
    ComPort,
}

impl TelnetOption {
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; 6] = [
        Self::Binary,
        Self::Echo,
        Self::SuppressGoAhead,
        Self::TerminalType,
        Self::WindowSize,
        Self::ComPort,
    ];

    /// Its number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Binary => 0,
            Self::Echo => 1,
            Self::SuppressGoAhead => 3,
            Self::TerminalType => 24,
            Self::WindowSize => 31,
            Self::ComPort => 44,
        }
    }

    /// The option of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|option| option.code() == code)
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// Whose use of an option: each side's is agreed on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// We use it: WILL and WONT from us, DO and DONT from the peer.
    Us,
    /// The peer uses it: DO and DONT from us, WILL and WONT from the peer.
    Them,
}

/// Whether an option is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// The four words of negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Will,
    Wont,
    Do,
    Dont,
}

impl Verb {
    pub(super) fn from_code(code: u8) -> Option<Self> {
        match code {
            251 => Some(Self::Will),
            252 => Some(Self::Wont),
            253 => Some(Self::Do),
            254 => Some(Self::Dont),
            _ => None,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Will => 251,
            Self::Wont => 252,
            Self::Do => 253,
            Self::Dont => 254,
        }
    }

    /// What it means when the peer says it.
    pub(super) fn heard(self) -> (Side, Switch) {
        match self {
            Self::Will => (Side::Them, Switch::On),
            Self::Wont => (Side::Them, Switch::Off),
            Self::Do => (Side::Us, Switch::On),
            Self::Dont => (Side::Us, Switch::Off),
        }
    }

    /// What we say to mean it.
    pub(super) fn said(side: Side, switch: Switch) -> Self {
        match (side, switch) {
            (Side::Us, Switch::On) => Self::Will,
            (Side::Us, Switch::Off) => Self::Wont,
            (Side::Them, Switch::On) => Self::Do,
            (Side::Them, Switch::Off) => Self::Dont,
        }
    }

    /// The three bytes that say it of the option numbered `option`.
    pub(super) fn bytes(self, option: u8) -> [u8; 3] {
        [IAC, self.code(), option]
    }
}
