//! The side that has a port: answers each request with how things stand after
//! it, and tells what the client wants of the port. It has no port itself; what
//! cannot be done is put right with [`Server::set_settings`] and told again.
//!
//! Every request makes at most one answer, so that telnet's bound on what waits
//! is the only one needed.

use std::num::NonZeroU32;

use super::{ComPort, Control, LineState, ModemState, Purge, Setting};
use crate::{
    device::{LineSettings, ModemLines},
    wire::Payload,
};

/// What a client has set, and how the port stands.
#[derive(Debug)]
pub struct Server {
    signature: Payload,
    settings: LineSettings,
    /// DTR and RTS as the client wants them, the others as last told.
    lines: ModemLines,
    break_state: Control,
    line_mask: LineState,
    modem_mask: ModemState,
}

/// What a client wants of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To be set like this.
    Settings(LineSettings),
    /// To begin a break.
    BreakOn,
    /// To end it.
    BreakOff,
    /// DTR and RTS like this.
    Lines(ModemLines),
    /// To forget data.
    Purge(Purge),
    /// To be sent no data until it says so.
    Suspend,
    /// To be sent data again.
    Resume,
}

/// What a message leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reply {
    /// What to send.
    pub answer: Option<ComPort>,
    /// What to do; `None` if nothing has changed.
    pub request: Option<Request>,
}

impl Server {
    /// Of a port that is set like this. `signature` is what a client is told of
    /// us. DTR and RTS are asserted: there is a client.
    pub fn new(settings: LineSettings, signature: &str) -> Self {
        Self {
            signature: Payload::new(signature.as_bytes()),
            settings,
            lines: ModemLines::DTR | ModemLines::RTS,
            break_state: Control::BreakOff,
            // RFC 2217 section 3: nothing of the line's, all of the modem's.
            line_mask: LineState::default(),
            modem_mask: ModemState::ALL,
        }
    }

    /// How the port is set.
    pub fn settings(&self) -> LineSettings {
        self.settings
    }

    /// The port is set differently from what the client asked for: what to send.
    pub fn set_settings(&mut self, settings: LineSettings) -> Vec<ComPort> {
        let before = std::mem::replace(&mut self.settings, settings);
        let mut messages = Vec::new();
        let mut tell =
            |changed: bool, message: ComPort| messages.extend(changed.then_some(message));
        tell(before.baud != settings.baud, self.baud());
        tell(before.data_bits != settings.data_bits, self.data_size());
        tell(before.parity != settings.parity, self.parity());
        tell(before.stop_bits != settings.stop_bits, self.stop_size());
        tell(before.flow_control != settings.flow_control, self.flow());
        messages
    }

    /// CTS, DSR, RI and CD of the port are like this now: what to send, if the
    /// client wants to know.
    pub fn set_lines(&mut self, lines: ModemLines) -> Option<ComPort> {
        let ours = ModemLines::DTR | ModemLines::RTS;
        let state = ModemState::new(self.lines, lines);
        self.lines = (self.lines & ours) | lines.without(ours);
        state.changed(self.modem_mask).then_some(ComPort::ModemState(state))
    }

    /// Something happened on the line: what to send, if the client wants to
    /// know.
    pub fn tell_line(&self, state: LineState) -> Option<ComPort> {
        state.has(self.line_mask).then_some(ComPort::LineState(state & self.line_mask))
    }

    /// Takes a message of the client.
    pub fn hear(&mut self, message: ComPort) -> Reply {
        match message {
            ComPort::Signature(text) if text.is_empty() => {
                Reply { answer: Some(ComPort::Signature(self.signature)), request: None }
            }
            ComPort::Signature(_) => Reply::default(),
            ComPort::Baud(baud) => {
                let wanted = baud.map_or(Setting::Ask, |baud| Setting::Is(baud.get()));
                self.set(wanted, |settings| &mut settings.baud, Self::baud)
            }
            ComPort::DataSize(size) => {
                self.set(size, |settings| &mut settings.data_bits, Self::data_size)
            }
            ComPort::Parity(parity) => {
                self.set(parity, |settings| &mut settings.parity, Self::parity)
            }
            ComPort::StopSize(size) => {
                self.set(size, |settings| &mut settings.stop_bits, Self::stop_size)
            }
            ComPort::Control(control) => self.hear_control(control),
            ComPort::LineState(_) => {
                Reply { answer: Some(ComPort::LineState(LineState::default())), request: None }
            }
            ComPort::ModemState(_) => {
                let state = ModemState::new(self.lines, self.lines);
                Reply { answer: Some(ComPort::ModemState(state)), request: None }
            }
            ComPort::Suspend => Reply { answer: None, request: Some(Request::Suspend) },
            ComPort::Resume => Reply { answer: None, request: Some(Request::Resume) },
            ComPort::LineStateMask(mask) => {
                self.line_mask = mask;
                Reply { answer: Some(message), request: None }
            }
            ComPort::ModemStateMask(mask) => {
                self.modem_mask = mask;
                Reply { answer: Some(message), request: None }
            }
            ComPort::Purge(Purge::Other(_)) => Reply::default(),
            ComPort::Purge(purge) => {
                Reply { answer: Some(message), request: Some(Request::Purge(purge)) }
            }
        }
    }

    fn hear_control(&mut self, control: Control) -> Reply {
        match control {
            Control::Flow(flow) => {
                self.set(Setting::Is(flow), |settings| &mut settings.flow_control, Self::flow)
            }
            Control::AskFlow => Reply { answer: Some(self.flow()), request: None },
            // Ours holds up both ways or none; the answer says which.
            Control::AskInboundFlow | Control::InboundFlow(_) => {
                let flow = Control::InboundFlow(self.settings.flow_control);
                Reply { answer: Some(ComPort::Control(flow)), request: None }
            }
            Control::BreakOn | Control::BreakOff => {
                self.break_state = control;
                let request =
                    if control == Control::BreakOn { Request::BreakOn } else { Request::BreakOff };
                Reply { answer: Some(ComPort::Control(control)), request: Some(request) }
            }
            Control::AskBreak => {
                Reply { answer: Some(ComPort::Control(self.break_state)), request: None }
            }
            Control::DtrOn => self.hear_lines(self.lines | ModemLines::DTR, control),
            Control::DtrOff => self.hear_lines(self.lines.without(ModemLines::DTR), control),
            Control::RtsOn => self.hear_lines(self.lines | ModemLines::RTS, control),
            Control::RtsOff => self.hear_lines(self.lines.without(ModemLines::RTS), control),
            Control::AskDtr => {
                let dtr = self.lines.contains(ModemLines::DTR);
                let answer = if dtr { Control::DtrOn } else { Control::DtrOff };
                Reply { answer: Some(ComPort::Control(answer)), request: None }
            }
            Control::AskRts => {
                let rts = self.lines.contains(ModemLines::RTS);
                let answer = if rts { Control::RtsOn } else { Control::RtsOff };
                Reply { answer: Some(ComPort::Control(answer)), request: None }
            }
            Control::Other(_) => Reply { answer: Some(self.flow()), request: None },
        }
    }

    fn hear_lines(&mut self, lines: ModemLines, answer: Control) -> Reply {
        let changed = lines != self.lines;
        self.lines = lines;
        let ours = lines & (ModemLines::DTR | ModemLines::RTS);
        Reply {
            answer: Some(ComPort::Control(answer)),
            request: changed.then_some(Request::Lines(ours)),
        }
    }

    /// Sets what is a value, and answers with what it is then.
    fn set<T: PartialEq>(
        &mut self,
        wanted: Setting<T>,
        field: impl Fn(&mut LineSettings) -> &mut T,
        answer: impl Fn(&Self) -> ComPort,
    ) -> Reply {
        let before = self.settings;
        if let Setting::Is(value) = wanted {
            *field(&mut self.settings) = value;
        }
        Reply {
            answer: Some(answer(self)),
            request: (self.settings != before).then_some(Request::Settings(self.settings)),
        }
    }

    fn baud(&self) -> ComPort {
        ComPort::Baud(NonZeroU32::new(self.settings.baud))
    }

    fn data_size(&self) -> ComPort {
        ComPort::DataSize(Setting::Is(self.settings.data_bits))
    }

    fn parity(&self) -> ComPort {
        ComPort::Parity(Setting::Is(self.settings.parity))
    }

    fn stop_size(&self) -> ComPort {
        ComPort::StopSize(Setting::Is(self.settings.stop_bits))
    }

    fn flow(&self) -> ComPort {
        ComPort::Control(Control::Flow(self.settings.flow_control))
    }
}
