//! RFC 2217 on a telnet connection: as client we have a port at the other end set
//! as the spec wants it, and know how it stands; as server we play the port, take
//! what a far side wants of it and show it. See `wire::rfc2217` for the rules.
//!
//! Nothing here waits: what is to be sent is given to the caller, and whether an
//! answer has come is asked for.

use super::super::Read;
use crate::{
    device::{Endpoint, LineSettings, ModemLines, TcpSpec},
    wire::{
        Payload,
        rfc2217::{self, Control, Heard, LineState, Reply, Request, Sender},
        telnet::Role,
    },
};

/// Who we are, to a client that asks.
const SIGNATURE: &str = concat!("lineman ", env!("CARGO_PKG_VERSION"));
const DTR_AND_RTS: [ModemLines; 2] = [ModemLines::DTR, ModemLines::RTS];

/// What a connection has to do with RFC 2217.
pub(super) enum ComPort {
    /// Nothing.
    Off,
    /// The port is at the other end.
    Client(Box<Client>),
    /// The other end takes us for a port.
    Server(Box<Server>),
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(super) struct Effect {
    /// To be sent, in this order.
    pub(super) messages: Vec<Payload>,
    /// To be told to the line.
    pub(super) read: Option<Read>,
}

/// How an answer that was asked for stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has not come.
    Awaited,
    /// As asked for.
    Granted,
    /// Something else.
    Refused,
}

/// A port at the other end.
pub(super) struct Client {
    port: rfc2217::Client,
    /// What the spec wants; absent: the port is left as it is.
    wanted: Option<LineSettings>,
    agreed: bool,
    /// DTR and RTS as the server has told them, and which of them it has told.
    ours: ModemLines,
    told: ModemLines,
    /// The server has told the far side's lines.
    modem_told: bool,
}

/// A port that the other end uses.
pub(super) struct Server {
    port: rfc2217::Server,
    lines: ModemLines,
    agreed: bool,
    suspended: bool,
}

impl ComPort {
    pub(super) fn new(role: Role, spec: &TcpSpec) -> Self {
        debug_assert_eq!(role == Role::Server, spec.mode == Endpoint::Bind);
        match role {
            _ if !spec.com_port.is_on() => Self::Off,
            Role::Client => Self::Client(Box::new(Client {
                port: rfc2217::Client::new(spec.line_settings.unwrap_or_default()),
                wanted: spec.line_settings,
                agreed: false,
                ours: ModemLines::NONE,
                told: ModemLines::NONE,
                modem_told: false,
            })),
            Role::Server => Self::Server(Box::new(Server {
                port: rfc2217::Server::new(LineSettings::default(), SIGNATURE),
                lines: ModemLines::DTR | ModemLines::RTS,
                agreed: false,
                suspended: false,
            })),
        }
    }

    /// Whether the spec wants it.
    pub(super) fn is_used(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// The peer speaks it.
    pub(super) fn agreed(&mut self) -> Effect {
        match self {
            Self::Off => Effect::default(),
            Self::Client(client) if client.agreed => Effect::default(),
            Self::Client(client) => {
                client.agreed = true;
                let messages = match client.wanted {
                    Some(_) => client.port.opening(),
                    None => client.port.questions(),
                };
                Effect { messages: encode(messages, Sender::Client), read: Some(Read::Changed) }
            }
            Self::Server(server) if server.agreed => Effect::default(),
            Self::Server(server) => {
                server.agreed = true;
                // There is somebody behind us, always: programs that wait for a
                // carrier need not.
                let here = ModemLines::CTS | ModemLines::DSR | ModemLines::CD;
                server.lines = server.lines | here;
                let message = server.port.set_lines(here);
                Effect { messages: encode(message, Sender::Server), read: Some(Read::Changed) }
            }
        }
    }

    /// The peer does not speak it any more.
    pub(super) fn ended(&mut self) -> Effect {
        match self {
            Self::Off => return Effect::default(),
            Self::Client(client) => client.agreed = false,
            Self::Server(server) => {
                server.agreed = false;
                server.suspended = false;
            }
        }
        Effect { messages: Vec::new(), read: Some(Read::Changed) }
    }

    /// Takes a message of the peer at `address`.
    pub(super) fn hear(&mut self, message: &[u8], address: &str) -> Effect {
        let from = match self {
            Self::Off => return Effect::default(),
            Self::Client(_) => Sender::Server,
            Self::Server(_) => Sender::Client,
        };
        let message = match rfc2217::ComPort::parse(message, from) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(peer = address, %error, "RFC 2217 is not kept to");
                return Effect::default();
            }
        };
        match self {
            Self::Off => Effect::default(),
            Self::Client(client) => {
                Effect { messages: Vec::new(), read: client.hear(message, address) }
            }
            Self::Server(server) => server.hear(message),
        }
    }

    /// Whether no data may be sent now.
    pub(super) fn is_suspended(&self) -> bool {
        match self {
            Self::Off => false,
            Self::Client(client) => client.agreed && client.port.is_suspended(),
            Self::Server(server) => server.suspended,
        }
    }

    /// How the port is set, as far as that is known.
    pub(super) fn line_settings(&self) -> Option<LineSettings> {
        match self {
            Self::Client(client) if client.agreed => client.port.granted(),
            Self::Server(server) if server.agreed => Some(server.port.settings()),
            Self::Off | Self::Client(_) | Self::Server(_) => None,
        }
    }

    /// How the modem lines are, as far as that is known.
    pub(super) fn modem_lines(&self) -> Option<ModemLines> {
        match self {
            Self::Client(client) if client.agreed => {
                let known = client.modem_told || client.told != ModemLines::NONE;
                known.then(|| client.port.modem_lines() | client.ours)
            }
            Self::Server(server) if server.agreed => Some(server.lines),
            Self::Off | Self::Client(_) | Self::Server(_) => None,
        }
    }
}

impl Client {
    fn hear(&mut self, message: rfc2217::ComPort, address: &str) -> Option<Read> {
        if let rfc2217::ComPort::Control(control) = message {
            self.hear_lines(control);
        }
        let before = self.port.granted();
        let heard = self.port.hear(message);
        let now = self.port.granted();
        // Told once all of it is known, not setting by setting.
        if let Some(wanted) = self.wanted
            && let Some(now) = now
            && before.is_none()
            && now != wanted
        {
            tracing::warn!(peer = address, %wanted, is = %now, "the far side sets its line otherwise");
        }
        match heard {
            Some(Heard::Break) => Some(Read::Break),
            Some(Heard::ModemLines(_)) => {
                self.modem_told = true;
                Some(Read::Changed)
            }
            // Input that waited goes on.
            Some(Heard::Suspended | Heard::Resumed | Heard::Granted(_) | Heard::Refused) => {
                Some(Read::Changed)
            }
            None if before != now || matches!(message, rfc2217::ComPort::Control(_)) => {
                Some(Read::Changed)
            }
            None => None,
        }
    }

    fn hear_lines(&mut self, control: Control) {
        let (line, is_on) = match control {
            Control::DtrOn => (ModemLines::DTR, true),
            Control::DtrOff => (ModemLines::DTR, false),
            Control::RtsOn => (ModemLines::RTS, true),
            Control::RtsOff => (ModemLines::RTS, false),
            Control::AskFlow
            | Control::Flow(_)
            | Control::AskBreak
            | Control::BreakOn
            | Control::BreakOff
            | Control::AskDtr
            | Control::AskRts
            | Control::AskInboundFlow
            | Control::InboundFlow(_)
            | Control::Other(_) => return,
        };
        self.told = self.told | line;
        self.ours = if is_on { self.ours | line } else { self.ours.without(line) };
    }

    /// Wants the port set so: what to send.
    pub(super) fn set(&mut self, settings: LineSettings) -> Vec<Payload> {
        encode(self.port.want(settings), Sender::Client)
    }

    /// What has come of that.
    pub(super) fn settings_are(&self, wanted: LineSettings) -> Answer {
        match self.port.granted() {
            None => Answer::Awaited,
            Some(granted) if granted == wanted => Answer::Granted,
            Some(_) => Answer::Refused,
        }
    }

    /// Wants DTR and RTS so: what to send.
    pub(super) fn set_lines(&mut self, dtr: Option<bool>, rts: Option<bool>) -> Vec<Payload> {
        let mut messages = Vec::new();
        for (line, wish) in DTR_AND_RTS.into_iter().zip([dtr, rts]) {
            let control = match (line == ModemLines::DTR, wish) {
                (_, None) => continue,
                (true, Some(true)) => Control::DtrOn,
                (true, Some(false)) => Control::DtrOff,
                (false, Some(true)) => Control::RtsOn,
                (false, Some(false)) => Control::RtsOff,
            };
            self.told = self.told.without(line);
            messages.push(rfc2217::ComPort::Control(control));
        }
        encode(messages, Sender::Client)
    }

    /// What has come of that.
    pub(super) fn lines_are(&self, dtr: Option<bool>, rts: Option<bool>) -> Answer {
        let mut answer = Answer::Granted;
        for (line, wish) in DTR_AND_RTS.into_iter().zip([dtr, rts]) {
            let Some(wish) = wish else { continue };
            if !self.told.contains(line) {
                return Answer::Awaited;
            }
            if self.ours.contains(line) != wish {
                answer = Answer::Refused;
            }
        }
        answer
    }

    /// The message that begins or ends a break.
    pub(super) fn break_message(control: Control) -> Payload {
        rfc2217::ComPort::Control(control).encode(Sender::Client)
    }
}

impl Server {
    fn hear(&mut self, message: rfc2217::ComPort) -> Effect {
        let Reply { answer, request } = self.port.hear(message);
        let read = request.and_then(|request| match request {
            Request::Settings(_) => Some(Read::Changed),
            Request::BreakOn => Some(Read::Break),
            // Nothing of ours waits that could be forgotten: output is in the
            // journal, and input is gone when it is acknowledged.
            Request::BreakOff | Request::Purge(_) => None,
            Request::Lines(lines) => {
                let both = ModemLines::DTR | ModemLines::RTS;
                self.lines = self.lines.without(both) | lines;
                Some(Read::Changed)
            }
            Request::Suspend => {
                self.suspended = true;
                None
            }
            Request::Resume => {
                self.suspended = false;
                // Input that waited goes on.
                Some(Read::Changed)
            }
        });
        Effect { messages: encode(answer, Sender::Server), read }
    }

    /// The message that tells of a break, if the client wants to know.
    pub(super) fn break_message(&self) -> Option<Payload> {
        let told = self.port.tell_line(LineState::BREAK)?;
        Some(told.encode(Sender::Server))
    }
}

fn encode(messages: impl IntoIterator<Item = rfc2217::ComPort>, sender: Sender) -> Vec<Payload> {
    messages.into_iter().map(|message| message.encode(sender)).collect()
}
