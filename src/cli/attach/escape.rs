//! The keys that are for the client: a state machine over the bytes typed.
//!
//! A thing of its own because it must not care how bytes arrive: an escape may
//! be split over reads, follow others in one read or stand in the middle of a
//! paste. It therefore sees one byte at a time and knows nothing of reads.
//!
//! ```text
//!            CR, LF                  ~
//!   Inside ─────────▶ Beginning ─────────▶ Tilde ── . ──▶ detach
//!      ▲                  │                  │ ├─── ? ──▶ help, Beginning
//!      └────── other ─────┘                  │ └─── ~ ──▶ send ~, Inside
//!      └──────────────── other: send ~ and it ──────────┘
//! ```
//!
//! The detach key ends at once in every state. As in ssh(1), the tilde counts
//! only at the beginning of a line; what follows an escape that was not one is
//! sent with the tilde that was held.

use std::{fmt, str::FromStr};

/// The key that detaches at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum EscapeKey {
    /// This byte, and the tilde escapes.
    Byte(u8),
    /// No escapes at all: everything goes to the device.
    None,
}

impl FromStr for EscapeKey {
    type Err = &'static str;

    /// `^]` for Ctrl and `]`, one ASCII character, or `none`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            b"none" => Ok(Self::None),
            b"^?" => Ok(Self::Byte(0x7f)),
            // The control characters are those of the letters without two bits.
            [b'^', letter @ (b'@'..=b'_' | b'a'..=b'z')] => Ok(Self::Byte(letter & 0x1f)),
            [byte] if byte.is_ascii() => Ok(Self::Byte(*byte)),
            _ => Err("must be like ^], one ASCII character, or none"),
        }
    }
}

impl fmt::Display for EscapeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(0x7f) => f.write_str("^?"),
            Self::Byte(control @ 0..0x20) => write!(f, "^{}", char::from(control | 0x40)),
            Self::Byte(byte) => write!(f, "{}", char::from(*byte)),
            Self::None => f.write_str("none"),
        }
    }
}

/// What the person asked of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Leave.
    Detach,
    /// Tell the keys.
    Help,
}

/// Takes escapes out of what is typed.
#[derive(Debug)]
pub(super) struct Filter {
    key: EscapeKey,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was typed in this line.
    Beginning,
    Inside,
    /// A tilde at the beginning of a line, held until the next byte.
    Tilde,
}

impl Filter {
    pub(super) fn new(key: EscapeKey) -> Self {
        let state = State::Beginning;
        Self { key, state }
    }

    /// The key that detaches at once.
    pub(super) fn key(&self) -> EscapeKey {
        self.key
    }

    /// Takes one byte: appends to `input` what is for the device, and returns
    /// what is for the client. After [`Request::Detach`] nothing more counts.
    pub(super) fn take(&mut self, byte: u8, input: &mut Vec<u8>) -> Option<Request> {
        let EscapeKey::Byte(key) = self.key else {
            input.push(byte);
            return None;
        };
        if byte == key {
            self.state = State::Beginning;
            return Some(Request::Detach);
        }
        match (self.state, byte) {
            (State::Beginning, b'~') => {
                self.state = State::Tilde;
                return None;
            }
            (State::Tilde, b'.') => {
                self.state = State::Beginning;
                return Some(Request::Detach);
            }
            (State::Tilde, b'?') => {
                self.state = State::Beginning;
                return Some(Request::Help);
            }
            // The byte itself is the tilde to send.
            (State::Tilde, b'~') | (State::Beginning | State::Inside, _) => {}
            (State::Tilde, _) => input.push(b'~'),
        }
        input.push(byte);
        self.state = if matches!(byte, b'\r' | b'\n') { State::Beginning } else { State::Inside };
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is sent and what is asked for, when the bytes come in these reads.
    fn filtered<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<Request>) {
        let mut filter = Filter::new(EscapeKey::Byte(0x1d));
        let (mut input, mut requests) = (Vec::new(), Vec::new());
        for read in reads {
            for byte in read {
                requests.extend(filter.take(*byte, &mut input));
            }
        }
        (input, requests)
    }

    #[test]
    fn escapes_count_where_they_should() {
        use Request::{Detach, Help};
        let check = |typed: &[u8], sent: &[u8], asked: &[Request]| {
            let (input, requests) = filtered([typed]);
            assert_eq!((&input[..], &requests[..]), (sent, asked), "{typed:?}");
        };
        check(b"\x1d", b"", &[Detach]);
        check(b"ls -l\x1d", b"ls -l", &[Detach]);
        check(b"~.", b"", &[Detach]);
        check(b"ls\r~.", b"ls\r", &[Detach]);
        check(b"ls\n~.", b"ls\n", &[Detach]);
        check(b"ls ~.", b"ls ~.", &[]);
        check(b"\r~~.", b"\r~.", &[]);
        check(b"\r~~~.", b"\r~~.", &[]);
        check(b"\r~?~.", b"\r", &[Help, Detach]);
        check(b"\r~x~.", b"\r~x~.", &[]);
        check(b"\r~\r~.", b"\r~\r", &[Detach]);
        check(b"\r~\x1d", b"\r", &[Detach]);
        check(b"\x1b[200~\r.", b"\x1b[200~\r.", &[]);
    }

    #[test]
    fn without_a_key_everything_is_sent() {
        let mut filter = Filter::new(EscapeKey::None);
        let mut input = Vec::new();
        for byte in *b"\r~.\x1d" {
            assert_eq!(filter.take(byte, &mut input), None);
        }
        assert_eq!(input, b"\r~.\x1d");
    }

    #[test]
    fn keys_are_named_as_people_name_them() {
        let check = |name: &str, byte| assert_eq!(name.parse(), Ok(EscapeKey::Byte(byte)));
        check("^]", 0x1d);
        check("^A", 1);
        check("^a", 1);
        check("^?", 0x7f);
        check("^", b'^');
        check("%", b'%');
        assert_eq!("none".parse(), Ok(EscapeKey::None));
        for bad in ["", "^]]", "ä", "^1", "ctrl-a"] {
            assert!(bad.parse::<EscapeKey>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_over_reads_is_the_same(
            typed in proptest::collection::vec(
                prop::sample::select(b"~~.?\r\nx\x1d".to_vec()), 0..60),
            cuts in proptest::collection::vec(0_usize..60, 0..10),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(typed.len())).collect();
            cuts.extend([0, typed.len()]);
            cuts.sort_unstable();
            let reads = cuts.windows(2).map(|pair| &typed[pair[0]..pair[1]]);
            prop_assert_eq!(filtered(reads), filtered([&typed[..]]));
        }
    }
}
