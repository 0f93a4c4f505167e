//! The task of an attachment: moves bytes between standard input, the stream and
//! standard output, and connects again.
//!
//! A thing of its own because it is all the I/O and none of the decisions, which
//! are `session`'s. One task, one fair `select!` at a time: the keys are read and
//! signals are seen whatever state the connection and standard output are in.
//!
//! Bounds: [`REQUESTS_MAX`] messages on their way into the stream; input by
//! `input`, output by `display`.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use bytes::Bytes;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    escape::{EscapeKey, Filter, Request},
    session::{Effect, Flow, Session, WantsInput},
    terminal::RawTerminal,
};
use crate::{
    cli::{
        connect::Server,
        display::{Display, Drain},
        exit::{Exit, Failure},
        retry::{Backoff, Verdict},
        source::{Kind, Source},
        text::bytes,
    },
    pb::{
        Ack, AttachRequest, AttachResponse, AttachStart, attach_request::Message, attach_response,
    },
};

const REQUESTS_MAX: usize = 8;
/// One read of standard input.
const READ_BYTES_MAX: usize = 8 * 1024;
/// The server is told how far was read at most this often…
const ACK_INTERVAL: Duration = Duration::from_millis(200);
/// …or after this much.
const ACK_BYTES: u64 = 64 * 1024;
/// How long input that was typed before detaching may take to arrive.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

/// What to do if the first connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtFirst {
    Fail,
    Retry,
}

/// What to do when input has ended and arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    Leave,
    Stay,
}

/// An attachment with all that it moves bytes between.
#[derive(Debug)]
pub(super) struct Drive {
    session: Session,
    kind: Kind,
    at_end: AtEnd,
    source: Source,
    source_state: SourceState,
    filter: Filter,
    display: Display,
    signals: Signals,
    terminal: Option<RawTerminal>,
    /// Since when, if somebody asked to leave.
    leaving: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceState {
    Open,
    Ended,
}

/// Why it is over.
#[derive(Debug)]
enum End {
    /// Somebody asked for it.
    Detached,
    /// Standard input has ended and arrived.
    InputEnded,
    Signal(u8),
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An open attachment.
#[derive(Debug)]
struct Link {
    responses: Streaming<AttachResponse>,
    /// `None` after the request side was closed, because nothing more will be
    /// sent.
    requests: Option<mpsc::Sender<AttachRequest>>,
    acked_offset: u64,
    acked_at: Instant,
}

/// Why a link is no more, if that does not end it all.
#[derive(Debug)]
enum Gone {
    Lost(Failure),
    Reattach,
}

impl Drive {
    pub(super) fn new(
        session: Session,
        kind: Kind,
        escape: EscapeKey,
        at_end: AtEnd,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Failed, format!("cannot start: {error}"));
        Ok(Self {
            session,
            kind,
            at_end,
            source: Source::stdin().map_err(failed)?,
            source_state: SourceState::Open,
            filter: Filter::new(match kind {
                Kind::Terminal => escape,
                // Whatever is piped may hold any byte.
                Kind::Stream => EscapeKey::None,
            }),
            display: Display::spawn()?,
            signals: Signals::new().map_err(failed)?,
            terminal: None,
            leaving: None,
        })
    }

    pub(super) async fn run(mut self, server: &Server, at_first: AtFirst) -> Result<Exit, Failure> {
        let end = match self.attach_again_and_again(server, at_first).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let uncertain = self.session.input.uncertain_bytes();
        let (result, drain) = match end {
            End::Detached => {
                let held = self.session.input.held_bytes();
                if held > 0 {
                    let text =
                        format!("the last {} of input may not have arrived", bytes(held as u64));
                    self.display.notice(text);
                }
                self.display.notice("detached");
                (Ok(Exit::Done), Drain::Briefly)
            }
            End::InputEnded if uncertain > 0 => {
                let message = format!("{} of input may not have arrived", bytes(uncertain));
                (Err(Failure::new(Exit::WrongState, message)), Drain::Fully)
            }
            End::InputEnded => {
                self.display.notice("end of input");
                (Ok(Exit::Done), Drain::Fully)
            }
            End::Signal(number) => {
                self.display.notice(format!("ended by signal {number}"));
                (Ok(Exit::Signal(number)), Drain::Briefly)
            }
            End::Failed(failure) => {
                // An empty notice only begins a new line for what is told next.
                self.display.notice("");
                (Err(failure), Drain::Fully)
            }
        };
        let finished = tokio::select! {
            finished = self.display.finish(drain) => finished,
            number = self.signals.next() => return Ok(Exit::Signal(number)),
        };
        drop(self.terminal);
        result.and_then(|exit| finished.map(|()| exit))
    }

    async fn attach_again_and_again(
        &mut self,
        server: &Server,
        at_first: AtFirst,
    ) -> Result<Infallible, End> {
        let mut backoff = Backoff::default();
        loop {
            let start = self.session.start(if self.has_all_arrived() {
                WantsInput::No
            } else {
                WantsInput::Yes
            });
            let gone = match self.meanwhile(Link::open(server, start)).await? {
                Ok(link) => {
                    backoff.connected(Instant::now());
                    self.converse(link).await?
                }
                Err(Verdict::Again(failure)) => Gone::Lost(failure),
                Err(Verdict::Hopeless(failure)) => return Err(failure.into()),
            };
            let Gone::Lost(failure) = gone else {
                continue;
            };
            if !self.session.has_begun() {
                if at_first == AtFirst::Fail {
                    return Err(failure.into());
                }
                self.display.notice(format!("{failure}; trying again"));
            }
            let delay = backoff.next(Instant::now());
            self.meanwhile(sleep(delay)).await?;
        }
    }

    /// Waits for something while there is no connection: the client's keys and
    /// signals work, a stream is not read, and what is typed is dropped.
    async fn meanwhile<F: Future>(&mut self, event: F) -> Result<F::Output, End> {
        let mut event = pin!(event);
        loop {
            let reads = self.terminal.is_some() && self.source_state == SourceState::Open;
            tokio::select! {
                output = &mut event => return Ok(output),
                number = self.signals.next() => return Err(End::Signal(number)),
                progress = self.display.progress() => progress?,
                read = self.source.read(READ_BYTES_MAX), if reads => {
                    let typed = self.typed(read)?;
                    if self.leaving.is_some() {
                        return Err(End::Detached);
                    }
                    if !typed.is_empty() {
                        self.dropped("there is no connection")?;
                    }
                }
            }
        }
    }

    /// Moves bytes until the link is gone.
    async fn converse(&mut self, mut link: Link) -> Result<Gone, End> {
        loop {
            let now = Instant::now();
            if let Some(end) = self.is_over(now) {
                return Err(end);
            }
            link.ack_if_far(self.displayed_offset());
            let room = self.session.input.room().min(READ_BYTES_MAX);
            let reads = room > 0 && self.reads();
            let requests = link.requests.clone();
            let is_last = self.has_all_arrived();
            let sends = requests.is_some() && (is_last || self.session.input.is_ready(now));
            let wake_at = self.wake_at(&link, now);
            tokio::select! {
                response = link.responses.message(), if self.display.has_room() => {
                    if let Some(gone) = self.on_response(response)? {
                        return Ok(gone);
                    }
                }
                permit = reserve(requests), if sends => match permit {
                    Some(permit) if is_last => {
                        permit.send(request(Message::Writer(self.session.on_input_ended())));
                        link.requests = None;
                    }
                    Some(permit) => {
                        let input = self.session.input.next_message();
                        permit.send(request(Message::Input(input)));
                    }
                    // The stream is broken; the responses will tell why.
                    None => link.requests = None,
                },
                read = self.source.read(room), if reads => {
                    let typed = self.typed(read)?;
                    self.push(&typed, now)?;
                }
                progress = self.display.progress() => progress?,
                () = sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {
                    link.ack_if_due(self.displayed_offset(), Instant::now());
                }
                number = self.signals.next() => return Err(End::Signal(number)),
            }
        }
    }

    fn on_response(
        &mut self,
        response: Result<Option<AttachResponse>, Status>,
    ) -> Result<Option<Gone>, End> {
        let lost = match response {
            Ok(Some(AttachResponse { message })) => match self.on_message(message)? {
                Flow::Continue => return Ok(None),
                Flow::Reattach => return Ok(Some(Gone::Reattach)),
                Flow::Lost => Failure::new(Exit::Unreachable, "the server is shutting down"),
            },
            Ok(None) => Failure::new(Exit::Unreachable, "the server has closed the stream"),
            Err(status) => match Verdict::from(status) {
                Verdict::Again(failure) => failure,
                Verdict::Hopeless(failure) => return Err(failure.into()),
            },
        };
        let mut effects = Vec::new();
        self.session.on_lost(&mut effects);
        self.show(effects)?;
        Ok(Some(Gone::Lost(lost)))
    }

    fn on_message(&mut self, message: Option<attach_response::Message>) -> Result<Flow, Failure> {
        // A message of a newer server is none to us.
        let Some(message) = message else {
            return Ok(Flow::Continue);
        };
        let mut effects = Vec::new();
        let flow = self.session.on_message(message, Instant::now(), &mut effects);
        // Not before the first attachment is open, so that ^C works until then;
        // but before it is told, so that every key typed after that is raw.
        let is_raw_wanted = self.kind == Kind::Terminal && self.session.has_begun();
        if is_raw_wanted && self.terminal.is_none() {
            let terminal = RawTerminal::enter().map_err(|error| {
                let message = format!("cannot set the terminal to raw mode: {error}");
                Failure::new(Exit::Failed, message)
            })?;
            self.terminal = Some(terminal);
        }
        self.show(effects)?;
        flow
    }

    /// Whether it is time to leave.
    fn is_over(&self, now: Instant) -> Option<End> {
        if let Some(since) = self.leaving
            && (self.session.input.is_done() || now >= since + LEAVE_WITHIN)
        {
            return Some(End::Detached);
        }
        let has_ended = self.session.has_begun() && self.has_all_arrived();
        (has_ended && self.at_end == AtEnd::Leave).then_some(End::InputEnded)
    }

    fn has_all_arrived(&self) -> bool {
        self.source_state == SourceState::Ended && self.session.input.is_done()
    }

    /// Whether standard input is to be read now.
    fn reads(&self) -> bool {
        let wanted = match self.kind {
            // Its keys are for the client too.
            Kind::Terminal => self.terminal.is_some(),
            // An observer reads only to see the end.
            Kind::Stream => {
                let sees_end = self.session.may_send() || self.at_end == AtEnd::Leave;
                sees_end && self.session.has_begun()
            }
        };
        wanted && self.source_state == SourceState::Open
    }

    /// Takes the client's keys out of what was read.
    fn typed(&mut self, read: io::Result<Bytes>) -> Result<Vec<u8>, End> {
        let read = read.map_err(|error| {
            let message = format!("cannot read standard input: {error}");
            Failure::new(Exit::Failed, message)
        })?;
        if read.is_empty() {
            self.source_state = SourceState::Ended;
            return match self.kind {
                // It was hung up.
                Kind::Terminal => Err(End::Detached),
                Kind::Stream => Ok(Vec::new()),
            };
        }
        let mut input = Vec::with_capacity(read.len());
        for byte in read {
            match self.filter.take(byte, &mut input) {
                None => {}
                Some(Request::Help) => self.tell_keys(),
                // Who asks twice does not wait.
                Some(Request::Detach) if self.leaving.is_some() => return Err(End::Detached),
                Some(Request::Detach) => {
                    self.leaving = Some(Instant::now());
                    break;
                }
            }
        }
        Ok(input)
    }

    fn push(&mut self, typed: &[u8], now: Instant) -> Result<(), Failure> {
        if typed.is_empty() {
            return Ok(());
        }
        if self.session.may_send() {
            self.session.input.push(typed, now);
            return Ok(());
        }
        match self.kind {
            Kind::Terminal => self.dropped("you only observe"),
            Kind::Stream => Ok(()),
        }
    }

    fn dropped(&mut self, why: &str) -> Result<(), Failure> {
        let mut effects = Vec::new();
        self.session.on_dropped(why, &mut effects);
        self.show(effects)
    }

    fn tell_keys(&self) {
        let key = self.filter.key();
        self.display.notice(format!("{key} detaches at once"));
        self.display.notice("Enter ~. detaches");
        self.display.notice("Enter ~? tells the keys");
        self.display.notice("Enter ~~ sends one ~");
    }

    fn show(&mut self, effects: Vec<Effect>) -> Result<(), Failure> {
        for effect in effects {
            match effect {
                Effect::Output(data, next_offset) => self.display.output(data, next_offset)?,
                Effect::Notice(text) => self.display.notice(text),
            }
        }
        Ok(())
    }

    /// What the person has seen of this journal.
    fn displayed_offset(&self) -> u64 {
        let written = self.display.written_offset();
        // What is still there from a device that was made anew is not counted.
        let written = written.filter(|offset| *offset <= self.session.next_offset());
        written.unwrap_or(0)
    }

    fn wake_at(&self, link: &Link, now: Instant) -> Option<Instant> {
        let ack_at = link.ack_at(self.displayed_offset());
        // A time that has passed was acted upon already.
        let input_at = self.session.input.wake_at().filter(|at| *at > now);
        let leave_at = self.leaving.map(|since| since + LEAVE_WITHIN);
        [ack_at, input_at, leave_at].into_iter().flatten().min()
    }
}

impl Link {
    async fn open(server: &Server, start: AttachStart) -> Result<Self, Verdict> {
        let mut client = server.consoles().await?;
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let begin = request(Message::Start(start));
        // The channel is new and has room.
        requests.try_send(begin).ok();
        let response = client.attach(ReceiverStream::new(queue)).await?;
        Ok(Self {
            responses: response.into_inner(),
            requests: Some(requests),
            acked_offset: 0,
            acked_at: Instant::now(),
        })
    }

    /// When the next ack is due, if there is something to tell.
    fn ack_at(&self, offset: u64) -> Option<Instant> {
        let tells = self.requests.is_some() && offset > self.acked_offset;
        tells.then(|| self.acked_at + ACK_INTERVAL)
    }

    fn ack_if_due(&mut self, offset: u64, now: Instant) {
        if self.ack_at(offset).is_some_and(|at| at <= now) {
            self.ack(offset);
            // Also if there was no room for it: the next one tells more.
            self.acked_at = now;
        }
    }

    fn ack_if_far(&mut self, offset: u64) {
        if offset.saturating_sub(self.acked_offset) >= ACK_BYTES {
            self.ack(offset);
        }
    }

    fn ack(&mut self, offset: u64) {
        let ack = request(Message::Ack(Ack { offset }));
        let sent = self.requests.as_ref().map(|to| to.try_send(ack));
        if let Some(Ok(())) = sent {
            self.acked_offset = offset;
            self.acked_at = Instant::now();
        }
    }
}

/// The signals that end an attachment; the terminal must be put back first.
#[derive(Debug)]
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.hangup.recv() => 1,
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

/// Room for a message to the stream, or `None` if it is broken.
async fn reserve(
    requests: Option<mpsc::Sender<AttachRequest>>,
) -> Option<mpsc::OwnedPermit<AttachRequest>> {
    requests?.reserve_owned().await.ok()
}

fn request(message: Message) -> AttachRequest {
    AttachRequest { message: Some(message) }
}
