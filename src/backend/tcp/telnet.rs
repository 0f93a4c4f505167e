//! A telnet connection as a link: what the peer says is taken apart on its way
//! into the line's buffer, and input is put in telnet's form on its way out.
//!
//! Input is taken a chunk at a time and is reported as its encoded form goes into
//! the transport, whole bytes only: when the connection breaks in the middle of a
//! doubled 0xFF, that byte was not sent. Commands of ours go before the next
//! chunk. What is held is bounded: a chunk in its encoded form, commands (see
//! `wire::telnet`), and the rest of one read after an event.
//!
//! All state is of one connection: a command that the last peer did not finish
//! takes nothing of what the next one says.

use std::{
    cell::RefCell,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{io::ReadBuf, time::Instant};

use super::{
    super::{Control, ControlError, Error, Link, Read},
    com_port::{ComPort, Effect},
    control::Asked,
    transport::Transport,
};
use crate::{
    device::{Facts, Peer, TcpSpec, WindowSize},
    limits,
    wire::telnet::{self, ComPortUse, Event, Role, Side, Switch, TelnetOption},
};

/// Input that is encoded at once: small enough that a command of ours does not
/// wait for long, large enough for a paste.
const CHUNK_BYTES_MAX: usize = 4 << 10;

thread_local! {
    /// What came, before it is taken apart: an idle link has no buffer of its own.
    static WIRE: RefCell<Vec<u8>> = RefCell::new(vec![0; limits::LINE_READ_BYTES - 1]);
}

/// See the module's doc.
pub(super) struct Telnet {
    transport: Box<dyn Transport>,
    peer: Peer,
    /// The peer's terminal, by name.
    terminal: Option<String>,
    pub(super) telnet: telnet::Telnet,
    pub(super) role: Role,
    pub(super) com_port: ComPort,
    window: Option<WindowSize>,
    /// Received and not taken apart yet, because something came before it.
    rest: Bytes,
    /// That something.
    event: Option<Read>,
    /// In telnet's form, for the transport; `sent` of it are gone.
    outgoing: Vec<u8>,
    sent: usize,
    chunk: Option<Chunk>,
    /// A control that is being done.
    pub(super) asked: Option<Asked>,
    /// Until when a peer may agree to RFC 2217.
    pub(super) agree_by: Instant,
    /// That the peer does not read answers has been told.
    told_deaf: bool,
}

/// Input that was encoded and not reported yet.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// Bytes of input.
    len: usize,
    /// Where in `outgoing` its encoded form begins.
    at: usize,
    form: Form,
    /// All of it is gone.
    gone: bool,
}

/// How input is encoded (RFC 854, RFC 856).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// 0xFF is doubled.
    Binary,
    /// And CR is followed by LF or NUL.
    Terminal,
}

impl Telnet {
    pub(super) fn new(
        transport: Box<dyn Transport>,
        peer: Peer,
        role: Role,
        spec: &TcpSpec,
    ) -> Self {
        let com_port = ComPort::new(role, spec);
        let config = telnet::Config {
            com_port: if com_port.is_used() { ComPortUse::On } else { ComPortUse::Off },
        };
        Self {
            transport,
            peer,
            terminal: None,
            telnet: telnet::Telnet::new(role, config),
            role,
            com_port,
            window: None,
            rest: Bytes::new(),
            event: None,
            outgoing: Vec::new(),
            sent: 0,
            chunk: None,
            asked: None,
            agree_by: Instant::now() + limits::CONTROL_TIMEOUT,
            told_deaf: false,
        }
    }

    /// Hands out what waits: the chunk, then commands.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            while let Some(waiting) = self.outgoing.get(self.sent..).filter(|rest| !rest.is_empty())
            {
                self.sent += ready!(self.transport.poll_write(cx, waiting))?;
            }
            if let Some(chunk) = &mut self.chunk {
                chunk.gone = true;
            }
            // An idle link keeps no buffer.
            self.outgoing = Vec::new();
            self.sent = 0;
            if self.telnet.pending() == 0 {
                return Poll::Ready(Ok(()));
            }
            self.telnet.flush(&mut self.outgoing);
        }
    }

    /// Encodes as much of `data` as goes at once.
    fn encode(&mut self, data: &[u8]) {
        let mut len = data.len().min(CHUNK_BYTES_MAX);
        // A line end stays in one piece, or a NUL would come between.
        if data.get(len - 1) == Some(&b'\r') && data.get(len) == Some(&b'\n') {
            len += 1;
        }
        self.telnet.flush(&mut self.outgoing);
        let binary = self.telnet.is_on(Side::Us, TelnetOption::Binary);
        let form = if binary { Form::Binary } else { Form::Terminal };
        self.chunk = Some(Chunk { len, at: self.outgoing.len(), form, gone: false });
        self.telnet.encode(&data[..len], &mut self.outgoing);
    }

    /// What of the chunk is gone since it was last asked.
    fn take_gone(&mut self, data: &[u8]) -> usize {
        let Some(chunk) = &mut self.chunk else { return 0 };
        if chunk.gone {
            let len = chunk.len;
            self.chunk = None;
            return len;
        }
        let wire = self.sent.saturating_sub(chunk.at);
        let (whole, encoded) = within(&data[..chunk.len.min(data.len())], chunk.form, wire);
        chunk.len -= whole;
        chunk.at += encoded;
        whole
    }

    /// Takes apart what came, up to something that is not data.
    fn decode(&mut self, input: &mut &[u8], buf: &mut ReadBuf<'_>) -> Option<Read> {
        loop {
            let Some(event) = self.telnet.decode(input, buf) else {
                return (!buf.filled().is_empty()).then_some(Read::Bytes);
            };
            let Some(read) = self.on_event(event) else { continue };
            if buf.filled().is_empty() {
                return Some(read);
            }
            self.event = Some(read);
            return Some(Read::Bytes);
        }
    }

    fn on_event(&mut self, event: Event) -> Option<Read> {
        match event {
            Event::Break => Some(Read::Break),
            // Answered already; and a console has no process to interrupt.
            Event::AreYouThere | Event::InterruptProcess => None,
            Event::WindowSize(size) => {
                let known = size.rows > 0 && size.columns > 0;
                let window = known.then_some(WindowSize { rows: size.rows, columns: size.columns });
                let changed = std::mem::replace(&mut self.window, window) != window;
                changed.then_some(Read::Changed)
            }
            Event::TerminalType(name) => {
                let name = Some(printable(&name));
                let changed = self.terminal != name;
                self.terminal = name;
                changed.then_some(Read::Changed)
            }
            Event::ComPort(message) => {
                let effect = self.com_port.hear(&message, &self.peer.address);
                self.obey(effect)
            }
            Event::Switched { option: TelnetOption::ComPort, now, .. } => {
                let effect = match now {
                    Switch::On => self.com_port.agreed(),
                    Switch::Off => self.com_port.ended(),
                };
                self.obey(effect)
            }
            Event::Switched { .. } => None,
            Event::Note(note) => {
                tracing::debug!(peer = self.peer.address, ?note, "telnet is not kept to");
                None
            }
        }
    }

    /// Sends what a message of RFC 2217 leads to.
    fn obey(&mut self, effect: Effect) -> Option<Read> {
        for message in effect.messages {
            // A peer that reads no answers is told of below.
            self.telnet.send_com_port(&message).ok();
        }
        effect.read
    }

    fn tell_deaf(&mut self) {
        if self.telnet.answers_dropped() > 0 && !self.told_deaf {
            self.told_deaf = true;
            tracing::warn!(
                peer = self.peer.address,
                "the far side reads no telnet answers; some were dropped"
            );
        }
    }

    /// Reads and takes apart; nothing if all of it was commands that change
    /// nothing.
    fn poll_wire(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Option<Read>, Error>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let mut input = &rest[..];
            let read = self.decode(&mut input, buf);
            let taken = rest.len() - input.len();
            self.rest = rest;
            self.rest.advance(taken);
            return Poll::Ready(Ok(read));
        }
        WIRE.with_borrow_mut(|wire| {
            // Decoding makes at most one byte more of it.
            let room = wire.len().min(buf.remaining().saturating_sub(1));
            let mut came = ReadBuf::new(&mut wire[..room]);
            ready!(self.transport.poll_read(cx, &mut came))?;
            let mut input = came.filled();
            if input.is_empty() {
                return Poll::Ready(Ok(Some(Read::End)));
            }
            let read = self.decode(&mut input, buf);
            self.rest = Bytes::copy_from_slice(input);
            Poll::Ready(Ok(read))
        })
    }
}

impl Link for Telnet {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        if let Some(event) = self.event.take() {
            return Poll::Ready(Ok(event));
        }
        loop {
            // Answers to what came before. A peer that has gone without them is heard
            // to its last word all the same.
            let drained = self.poll_drain(cx);
            let read = match (self.poll_wire(cx, buf), drained) {
                (Poll::Ready(read), _) => read?,
                (Poll::Pending, Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                (Poll::Pending, _) => return Poll::Pending,
            };
            self.tell_deaf();
            if let Some(read) = read {
                self.peer.output_bytes += buf.filled().len() as u64;
                return Poll::Ready(Ok(read));
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        if self.chunk.is_none() {
            if self.com_port.is_suspended() {
                // The message that ends it wakes the line.
                return Poll::Pending;
            }
            ready!(self.poll_drain(cx))?;
            self.encode(data);
        }
        if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        match self.take_gone(data) {
            0 => Poll::Pending,
            n => Poll::Ready(Ok(n)),
        }
    }

    fn in_flight(&self) -> usize {
        self.chunk.map_or(0, |chunk| chunk.len)
    }

    fn ending(&self) -> Error {
        self.transport.ending()
    }

    fn poll_control(
        &mut self,
        cx: &mut Context<'_>,
        control: &Control,
    ) -> Poll<Result<(), ControlError>> {
        self.poll_asked(cx, control)
    }

    fn facts(&self) -> Facts {
        let mut peer = self.peer.clone();
        if let Some(terminal) = &self.terminal {
            let between = if peer.description.is_empty() { "" } else { ", " };
            peer.description += &format!("{between}terminal {terminal}");
        }
        Facts {
            peers: vec![peer],
            line_settings: self.com_port.line_settings(),
            modem_lines: self.com_port.modem_lines(),
            window: self.window,
            ..Facts::default()
        }
    }
}

/// How many bytes at the front of `data` have all of their encoded form in its
/// first `wire` bytes, and how many of those that takes.
fn within(data: &[u8], form: Form, wire: usize) -> (usize, usize) {
    let mut encoded = 0;
    for (at, byte) in data.iter().enumerate() {
        let len = match byte {
            0xff => 2,
            b'\r' if form == Form::Terminal && data.get(at + 1) != Some(&b'\n') => 2,
            _ => 1,
        };
        if encoded + len > wire {
            return (at, encoded);
        }
        encoded += len;
    }
    (data.len(), encoded)
}

/// What a far side calls itself, fit for a terminal.
pub(super) fn printable(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let shown = name.chars().filter(|character| !character.is_control());
    shown.take(limits::PEER_DESCRIPTION_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
