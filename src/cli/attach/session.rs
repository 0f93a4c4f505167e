//! What an attachment means to the person: messages of the server in, output and
//! notices out, over one connection after another.
//!
//! A thing of its own so that every decision (where to resume, what to tell,
//! when it is over) can be tested without a terminal or a server. It does no
//! I/O; the clock is a parameter.
//!
//! Invariants: output leaves through one [`Cursor`], so no byte is lost or
//! repeated in silence; what stays the same is told once; a right to write is
//! never taken from others because a connection was lost.

use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use super::input::{Origin, Outgoing, Turn, Verdict};
use crate::{
    cli::{
        cursor::{Begun, Cursor, told},
        exit::{Exit, Failure},
        position::Place,
        text::{bytes, plain, state},
    },
    name::DeviceId,
    pb::{
        AttachMode, AttachStart, Ended, LinkState, OutputEncoding, Started, WriterRequest,
        WriterState, attach_response::Message, device_status::State, ended::Reason,
        input_ack::Refusal,
    },
};

/// Something for the person.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Output, and the offset after it.
    Output(Bytes, u64),
    /// One line about the session.
    Notice(String),
}

/// How it goes on after a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// With the next message.
    Continue,
    /// Attach again at once.
    Reattach,
    /// The server leaves: as if the connection were lost.
    Lost,
}

/// What does not change while a person is attached.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) device: DeviceId,
    pub(super) mode: AttachMode,
    pub(super) from: Place,
    pub(super) origin: Origin,
    /// What others see of this client.
    pub(super) client: String,
    /// How to detach, if somebody is at the keys.
    pub(super) hint: Option<String>,
}

/// One person's or program's stay at a device.
#[derive(Debug)]
pub(super) struct Session {
    plan: Plan,
    cursor: Cursor,
    /// Input to the device.
    pub(super) input: Outgoing,
    writer: WriterState,
    link: LinkState,
    /// Somebody at the keys was told that nothing they type arrives.
    told_dropped: bool,
    contact: Contact,
}

/// Whether an attachment is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    Attached,
    None,
}

impl Session {
    pub(super) fn new(plan: Plan, now: SystemTime) -> Self {
        Self {
            cursor: Cursor::new(plan.from.to_position(now)),
            input: Outgoing::new(plan.origin),
            writer: WriterState::default(),
            link: LinkState::default(),
            told_dropped: false,
            contact: Contact::None,
            plan,
        }
    }

    /// Whether the first attachment was made.
    pub(super) fn has_begun(&self) -> bool {
        self.cursor.has_begun()
    }

    /// The next offset not yet given out.
    pub(super) fn next_offset(&self) -> u64 {
        self.cursor.next()
    }

    /// The first message of the next attachment. `wants_input` says whether
    /// there may be more of it.
    pub(super) fn start(&self, wants_input: WantsInput) -> AttachStart {
        let mode = match (wants_input, self.plan.mode) {
            // Nobody is kept from writing by one who will not.
            (WantsInput::No, _) => AttachMode::Observe,
            (WantsInput::Yes, mode) if !self.has_begun() => mode,
            // The server may not have noticed yet that our old attachment is
            // gone: queue behind it. Force would fight with whoever forced us.
            (WantsInput::Yes, AttachMode::WriteForce) => AttachMode::WriteWait,
            (WantsInput::Yes, AttachMode::Write) if self.writer.is_me => AttachMode::WriteWait,
            // One who only watched must not find himself writing because the
            // server was restarted.
            (WantsInput::Yes, AttachMode::Write) => AttachMode::Observe,
            (WantsInput::Yes, mode) => mode,
        };
        AttachStart {
            device: self.plan.device.resource_name(),
            mode: mode.into(),
            from: Some(self.cursor.position()),
            encoding: OutputEncoding::Bytes.into(),
            client: self.plan.client.clone(),
        }
    }

    /// Whether keys may be sent at all.
    pub(super) fn may_send(&self) -> bool {
        self.plan.mode != AttachMode::Observe
    }

    /// All input has arrived and no more will come: gives the right to write to
    /// others, and from now on only observes.
    pub(super) fn on_input_ended(&mut self) -> WriterRequest {
        self.plan.mode = AttachMode::Observe;
        WriterRequest { mode: AttachMode::Observe.into() }
    }

    /// Somebody typed and it cannot arrive. Told once until that changes.
    pub(super) fn on_dropped(&mut self, why: &str, effects: &mut Vec<Effect>) {
        if !self.told_dropped {
            self.told_dropped = true;
            notice(effects, format!("{why}; what is typed is dropped"));
        }
    }

    /// The connection is gone. Told once, however many attempts follow.
    pub(super) fn on_lost(&mut self, effects: &mut Vec<Effect>) {
        if self.contact == Contact::None {
            return;
        }
        self.contact = Contact::None;
        let (uncertain, unsent) = self.input.on_lost();
        self.told_dropped = false;
        notice(effects, "connection lost; trying again".to_owned());
        if uncertain > 0 {
            let uncertain = bytes(uncertain);
            let text =
                format!("the last {uncertain} of input may not have arrived; not sent again");
            notice(effects, text);
        }
        if unsent > 0 {
            notice(effects, format!("{} of input not sent", bytes(unsent)));
        }
    }

    /// The server said something.
    pub(super) fn on_message(
        &mut self,
        message: Message,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<Flow, Failure> {
        match message {
            Message::Started(started) => return Ok(self.on_started(started, effects)),
            Message::Output(output) => {
                let (gap, data) = self.cursor.on_output(output.offset, output.data);
                effects.extend(told(&gap).map(Effect::Notice));
                effects.push(Effect::Output(data, self.cursor.next()));
            }
            Message::Gap(gap) => {
                let gap = self.cursor.on_gap(gap.from_offset, gap.to_offset);
                effects.extend(told(&gap).map(Effect::Notice));
            }
            Message::InputAck(ack) => match self.input.on_ack(&ack, now) {
                Verdict::Fine => {}
                Verdict::Dropping(refusal) => {
                    let why = self.why(refusal);
                    self.told_dropped = false;
                    self.on_dropped(&why, effects);
                }
                Verdict::NotWriter => return Err(self.not_writer()),
            },
            Message::State(link) => self.on_link(link, effects),
            Message::Writer(writer) => self.on_writer(writer, effects),
            Message::Ended(ended) => return self.on_ended(&ended),
        }
        Ok(Flow::Continue)
    }

    fn on_started(&mut self, started: Started, effects: &mut Vec<Effect>) -> Flow {
        let Started {
            attachment: _,
            device_uid,
            offset,
            oldest_offset: _,
            next_offset,
            writer,
            state,
        } = started;
        let device = &self.plan.device;
        match self.cursor.on_started(&device_uid, offset, next_offset) {
            Begun::Anew => {
                let text = format!("{device} was made anew; starting from its beginning");
                notice(effects, text);
                return Flow::Reattach;
            }
            Begun::First => {
                let mine = writer.as_ref().filter(|writer| writer.is_me);
                if let Some(hint) = &self.plan.hint {
                    let role = mine.map_or("", |_| " as writer");
                    notice(effects, format!("attached to {device}{role}; {hint}"));
                }
                // Whoever asked to write and may needs no second line.
                self.writer = mine.cloned().unwrap_or_default();
            }
            Begun::Resumed { offset } => notice(effects, format!("resumed at offset {offset}")),
            Begun::Shortened { expected, offset } => notice(
                effects,
                format!(
                    "the server has lost what it had stored before offset {expected}; going on \
                     at offset {offset}"
                ),
            ),
        }
        self.contact = Contact::Attached;
        self.on_link(state.unwrap_or_default(), effects);
        self.on_writer(writer.unwrap_or_default(), effects);
        Flow::Continue
    }

    fn on_link(&mut self, link: LinkState, effects: &mut Vec<Effect>) {
        self.allow_again();
        let before = std::mem::replace(&mut self.link, link);
        let connected = self.link.state() == State::Connected;
        // It is no news that a device is connected when one attaches to it.
        if before == self.link || (connected && before.state() == State::Unspecified) {
            return;
        }
        let text = match self.link.message.as_str() {
            "" => state(self.link.state).to_owned(),
            message => format!("{}: {}", state(self.link.state), plain(message)),
        };
        notice(effects, format!("{} is {text}", self.plan.device));
    }

    fn on_writer(&mut self, writer: WriterState, effects: &mut Vec<Effect>) {
        let before = std::mem::replace(&mut self.writer, writer);
        self.allow_again();
        let writer = &self.writer;
        if *writer == before || !self.may_send() {
            return;
        }
        let others = writers(writer);
        if writer.is_me {
            if before.is_me {
                notice(effects, format!("now writing: {others}"));
            } else {
                notice(effects, "you may write".to_owned());
            }
        } else if !writer.taken_by.is_empty() && writer.taken_by != before.taken_by {
            let by = plain(&writer.taken_by);
            notice(effects, format!("{by} took the right to write; you observe"));
        } else if writer.queue_position > 0 {
            let place = writer.queue_position;
            let text = format!("{others}; you wait to write, as number {place}");
            notice(effects, text);
        } else if before.is_me {
            notice(effects, format!("{others}; you observe"));
        } else {
            notice(effects, others);
        }
    }

    /// What was refused may be taken now.
    fn allow_again(&mut self) {
        self.told_dropped = false;
        self.input.on_change(if self.writer.is_me {
            Turn::Mine
        } else if self.writer.queue_position > 0 {
            Turn::Waiting
        } else {
            Turn::NotMine
        });
    }

    fn on_ended(&self, ended: &Ended) -> Result<Flow, Failure> {
        let device = &self.plan.device;
        let because = match ended.message.as_str() {
            "" => String::new(),
            message => format!(": {}", plain(message)),
        };
        let (exit, message) = match ended.reason() {
            Reason::Unspecified | Reason::ShuttingDown => return Ok(Flow::Lost),
            Reason::DeviceDeleted => (Exit::NotFound, format!("{device} was deleted{because}")),
            Reason::DeviceFailed => {
                let message = format!("{device} failed inside the server, see its log{because}");
                (Exit::Failed, message)
            }
        };
        Err(Failure::new(exit, message))
    }

    fn why(&self, refusal: Refusal) -> String {
        match refusal {
            Refusal::NotConnected => format!("{} is not connected", self.plan.device),
            Refusal::NoInput => {
                format!("the host interface of {} takes no input", self.plan.device)
            }
            Refusal::NotWriter | Refusal::Unspecified | Refusal::QueueFull | Refusal::OffsetGap => {
                writers(&self.writer)
            }
        }
    }

    fn not_writer(&self) -> Failure {
        let message = format!(
            "input cannot be sent to {}: {}; wait for the right to write with --mode wait, or use \
             --mode force",
            self.plan.device,
            writers(&self.writer)
        );
        Failure::new(Exit::WrongState, message)
    }
}

/// Whether input may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WantsInput {
    Yes,
    No,
}

fn writers(writer: &WriterState) -> String {
    match writer.writers.as_slice() {
        [] => "nobody writes".to_owned(),
        [one] => format!("{} writes", plain(one)),
        several => format!("{} write", plain(&several.join(", "))),
    }
}

fn notice(effects: &mut Vec<Effect>, text: String) {
    effects.push(Effect::Notice(text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::{
        Gap, InputAck, Output,
        journal_position::{At, Edge},
    };

    fn session(mode: AttachMode) -> Session {
        let plan = Plan {
            device: "node7".parse().unwrap(),
            mode,
            from: Place::Now,
            origin: Origin::Keys,
            client: "test".to_owned(),
            hint: None,
        };
        Session::new(plan, SystemTime::UNIX_EPOCH)
    }

    fn started(uid: &str, offset: u64, next_offset: u64) -> Message {
        Message::Started(Started {
            device_uid: uid.to_owned(),
            offset,
            next_offset,
            writer: Some(WriterState { is_me: true, ..WriterState::default() }),
            state: Some(LinkState { state: State::Connected.into(), message: String::new() }),
            ..Started::default()
        })
    }

    fn output(offset: u64, data: &'static [u8]) -> Message {
        Message::Output(Output { offset, data: Bytes::from_static(data), ..Output::default() })
    }

    fn ended(reason: Reason) -> Message {
        Message::Ended(Ended { reason: reason.into(), ..Ended::default() })
    }

    /// Effects as text: output as it is, notices in brackets.
    fn said(session: &mut Session, message: Message) -> (Result<Flow, Exit>, String) {
        let mut effects = Vec::new();
        let flow = session.on_message(message, Instant::now(), &mut effects);
        let flow = flow.map_err(|failure| failure.exit);
        (flow, text(effects))
    }

    fn text(effects: Vec<Effect>) -> String {
        let text = effects.into_iter().map(|effect| match effect {
            Effect::Output(data, _) => String::from_utf8_lossy(&data).into_owned(),
            Effect::Notice(text) => format!("[{text}]"),
        });
        text.collect()
    }

    #[test]
    fn resumes_without_a_hole_and_without_a_repeat() {
        let mut session = session(AttachMode::Write);
        let start = session.start(WantsInput::Yes);
        assert_eq!(start.from.unwrap().at, Some(At::Edge(Edge::Now.into())));
        assert_eq!(start.mode(), AttachMode::Write);
        assert_eq!(said(&mut session, started("u", 10, 10)).1, "");
        assert_eq!(said(&mut session, output(10, b"abc")).1, "abc");
        let mut effects = Vec::new();
        session.on_lost(&mut effects);
        assert_eq!(text(effects), "[connection lost; trying again]");
        let start = session.start(WantsInput::Yes);
        assert_eq!(start.from.unwrap().at, Some(At::Offset(13)));
        assert_eq!(start.mode(), AttachMode::WriteWait);
        let resumed = said(&mut session, started("u", 13, 20)).1;
        assert_eq!(resumed, "[resumed at offset 13]");
        assert_eq!(said(&mut session, output(13, b"def")).1, "def");
        let gap = Message::Gap(Gap { from_offset: 16, to_offset: 20 });
        assert_eq!(said(&mut session, gap).1, "[4 bytes of output lost (offsets 16 to 20)]");
        assert_eq!(session.next_offset(), 20);
    }

    #[test]
    fn a_device_made_anew_is_attached_to_again() {
        let mut session = session(AttachMode::Observe);
        said(&mut session, started("u", 10, 10)).0.unwrap();
        let (flow, text) = said(&mut session, started("v", 0, 0));
        assert_eq!(flow, Ok(Flow::Reattach));
        assert_eq!(text, "[node7 was made anew; starting from its beginning]");
        let beginning = Some(At::Edge(Edge::Beginning.into()));
        assert_eq!(session.start(WantsInput::Yes).from.unwrap().at, beginning);
    }

    #[test]
    fn force_is_not_used_again_after_a_lost_connection() {
        let mut session = session(AttachMode::WriteForce);
        assert_eq!(session.start(WantsInput::Yes).mode(), AttachMode::WriteForce);
        said(&mut session, started("u", 0, 0)).0.unwrap();
        assert_eq!(session.start(WantsInput::Yes).mode(), AttachMode::WriteWait);
        assert_eq!(session.start(WantsInput::No).mode(), AttachMode::Observe);
    }

    #[test]
    fn tells_input_that_may_not_have_arrived() {
        let mut session = session(AttachMode::Write);
        said(&mut session, started("u", 0, 0)).0.unwrap();
        session.input.push(b"reboot\r", Instant::now());
        session.input.next_message();
        session.input.push(b"x", Instant::now());
        let mut effects = Vec::new();
        session.on_lost(&mut effects);
        assert_eq!(
            text(effects),
            "[connection lost; trying again][the last 7 bytes of input may not have arrived; \
             not sent again][1 byte of input not sent]"
        );
    }

    #[test]
    fn who_writes_is_told_once_and_without_control_characters() {
        let mut session = session(AttachMode::Write);
        said(&mut session, started("u", 0, 0)).0.unwrap();
        let taken = || {
            Message::Writer(WriterState {
                writers: vec!["bob\u{1b}[2J".to_owned()],
                taken_by: "bob".to_owned(),
                ..WriterState::default()
            })
        };
        let text = said(&mut session, taken()).1;
        assert_eq!(text, "[bob took the right to write; you observe]");
        assert_eq!(said(&mut session, taken()).1, "");
        session.input.push(b"x", Instant::now());
        let refused = || {
            Message::InputAck(InputAck {
                refusal: Refusal::NotWriter.into(),
                ..InputAck::default()
            })
        };
        let text = said(&mut session, refused()).1;
        assert_eq!(text, "[bob\u{fffd}[2J writes; what is typed is dropped]");
        assert_eq!(said(&mut session, refused()).1, "");
    }

    #[test]
    fn ends_with_the_reason_of_the_server() {
        let mut session = session(AttachMode::Write);
        let mut flow = |reason| said(&mut session, ended(reason)).0;
        assert_eq!(flow(Reason::ShuttingDown), Ok(Flow::Lost));
        assert_eq!(flow(Reason::DeviceDeleted), Err(Exit::NotFound));
        assert_eq!(flow(Reason::DeviceFailed), Err(Exit::Failed));
    }
}
