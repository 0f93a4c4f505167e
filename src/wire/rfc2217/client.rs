//! The side that uses a port: what to say so that it is set as we want, and what
//! the server made of it. Messages are given to the caller to send, so that the
//! one bound on what waits is telnet's.

use std::num::NonZeroU32;

use super::{ComPort, Control, LineState, ModemState, Setting};
use crate::device::{LineSettings, ModemLines};

/// Our wishes for a port, and its answers.
#[derive(Debug)]
pub struct Client {
    wanted: LineSettings,
    granted: LineSettings,
    /// Which of [`Self::granted`] the server has told.
    told: Told,
    modem: ModemLines,
    flow: Flow,
}

/// What a message of the server tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The far side sent a break.
    Break,
    /// Its modem lines are these.
    ModemLines(ModemLines),
    /// Send it no more data.
    Suspended,
    /// Send it data again.
    Resumed,
    /// The port is set as wanted now; see [`Client::granted`].
    Granted(LineSettings),
    /// A setting is not as wanted. What it is instead is in the message, and in
    /// [`Client::granted`] once all five have been told.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Going,
    Suspended,
}

/// One bit for each setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told(u8);

impl Told {
    const NOTHING: Self = Self(0);
    const BAUD: Self = Self(1);
    const DATA_SIZE: Self = Self(1 << 1);
    const PARITY: Self = Self(1 << 2);
    const STOP_SIZE: Self = Self(1 << 3);
    const FLOW: Self = Self(1 << 4);
    const ALL: Self = Self(0x1F);
}

impl Client {
    /// Of a port that is to be set like this.
    pub fn new(wanted: LineSettings) -> Self {
        Self {
            wanted,
            granted: wanted,
            told: Told::NOTHING,
            modem: ModemLines::NONE,
            flow: Flow::Going,
        }
    }

    /// What to send once the server has agreed to the option: tell breaks and
    /// modem lines, be set like this, and say how the lines stand. DTR and RTS
    /// are left alone: connecting must not reset a target.
    pub fn opening(&self) -> Vec<ComPort> {
        let mut messages = vec![
            ComPort::LineStateMask(LineState::BREAK),
            ComPort::ModemStateMask(ModemState::ALL),
        ];
        messages.extend(settings(self.wanted));
        messages
    }

    /// What to send instead to leave the port as it is: the same, but the settings
    /// are asked for.
    pub fn questions(&self) -> Vec<ComPort> {
        vec![
            ComPort::LineStateMask(LineState::BREAK),
            ComPort::ModemStateMask(ModemState::ALL),
            ComPort::Baud(None),
            ComPort::DataSize(Setting::Ask),
            ComPort::Parity(Setting::Ask),
            ComPort::StopSize(Setting::Ask),
            ComPort::Control(Control::AskFlow),
        ]
    }

    /// Wants other settings: what to send.
    pub fn want(&mut self, wanted: LineSettings) -> Vec<ComPort> {
        self.wanted = wanted;
        self.told = Told::NOTHING;
        settings(wanted).collect()
    }

    /// Asserts DTR and RTS where `lines` has them and drops them where not: what
    /// to send.
    pub fn set_lines(lines: ModemLines) -> [ComPort; 2] {
        let dtr = if lines.contains(ModemLines::DTR) { Control::DtrOn } else { Control::DtrOff };
        let rts = if lines.contains(ModemLines::RTS) { Control::RtsOn } else { Control::RtsOff };
        [ComPort::Control(dtr), ComPort::Control(rts)]
    }

    /// How the port is set, once the server has told all of it.
    pub fn granted(&self) -> Option<LineSettings> {
        (self.told == Told::ALL).then_some(self.granted)
    }

    /// The far side's modem lines, as last told.
    pub fn modem_lines(&self) -> ModemLines {
        self.modem
    }

    /// Whether the server has told us to send no data.
    pub fn is_suspended(&self) -> bool {
        self.flow == Flow::Suspended
    }

    /// Takes a message of the server.
    pub fn hear(&mut self, message: ComPort) -> Option<Heard> {
        match message {
            ComPort::LineState(state) => state.has(LineState::BREAK).then_some(Heard::Break),
            ComPort::ModemState(state) => {
                self.modem = state.lines();
                Some(Heard::ModemLines(self.modem))
            }
            ComPort::Suspend => {
                self.flow = Flow::Suspended;
                Some(Heard::Suspended)
            }
            ComPort::Resume => {
                self.flow = Flow::Going;
                Some(Heard::Resumed)
            }
            ComPort::Baud(baud) => {
                let baud = baud.map_or(Setting::Ask, |baud| Setting::Is(baud.get()));
                self.told(Told::BAUD, baud, |granted| &mut granted.baud)
            }
            ComPort::DataSize(size) => {
                self.told(Told::DATA_SIZE, size, |granted| &mut granted.data_bits)
            }
            ComPort::Parity(parity) => {
                self.told(Told::PARITY, parity, |granted| &mut granted.parity)
            }
            ComPort::StopSize(size) => {
                self.told(Told::STOP_SIZE, size, |granted| &mut granted.stop_bits)
            }
            ComPort::Control(Control::Flow(flow)) => {
                self.told(Told::FLOW, Setting::Is(flow), |granted| &mut granted.flow_control)
            }
            // Flow control by lines that we never ask for.
            ComPort::Control(Control::Other(_)) => Some(Heard::Refused),
            ComPort::Control(
                Control::AskFlow
                | Control::AskBreak
                | Control::BreakOn
                | Control::BreakOff
                | Control::AskDtr
                | Control::DtrOn
                | Control::DtrOff
                | Control::AskRts
                | Control::RtsOn
                | Control::RtsOff
                | Control::AskInboundFlow
                | Control::InboundFlow(_),
            )
            | ComPort::Signature(_)
            | ComPort::LineStateMask(_)
            | ComPort::ModemStateMask(_)
            | ComPort::Purge(_) => None,
        }
    }

    /// The server has told a setting.
    fn told<T: PartialEq + Copy>(
        &mut self,
        which: Told,
        setting: Setting<T>,
        field: impl Fn(&mut LineSettings) -> &mut T,
    ) -> Option<Heard> {
        let Setting::Is(value) = setting else {
            self.told = Told(self.told.0 & !which.0);
            return Some(Heard::Refused);
        };
        let before = self.granted();
        *field(&mut self.granted) = value;
        self.told = Told(self.told.0 | which.0);
        if value != *field(&mut self.wanted.clone()) {
            return Some(Heard::Refused);
        }
        let now = self.granted().filter(|granted| *granted == self.wanted);
        (now != before).then_some(now).flatten().map(Heard::Granted)
    }
}

/// The five messages that set a port.
fn settings(settings: LineSettings) -> impl Iterator<Item = ComPort> {
    [
        ComPort::Baud(NonZeroU32::new(settings.baud)),
        ComPort::DataSize(Setting::Is(settings.data_bits)),
        ComPort::Parity(Setting::Is(settings.parity)),
        ComPort::StopSize(Setting::Is(settings.stop_bits)),
        ComPort::Control(Control::Flow(settings.flow_control)),
    ]
    .into_iter()
}
