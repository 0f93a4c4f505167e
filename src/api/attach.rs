//! One Attach call: output, acknowledgements and events to the attacher; input
//! and requests from it.
//!
//! The two directions are separate: what the attacher sends is read by a task of
//! its own, always, so that input never piles up in HTTP/2 and a full input
//! queue never delays a release of the write lock. What it is sent is pulled by
//! HTTP/2 when the attacher has room, straight from its cursor, so an attacher
//! that reads nothing costs nothing more.
//!
//! Bounds: `limits::{ATTACHMENTS_MAX, ATTACHMENT_INPUT_BYTES_MAX,
//! INPUT_MESSAGE_BYTES_MAX, START_TIMEOUT}`.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream::try_unfold};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        oneshot::{self, error::TryRecvError},
        watch,
    },
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use super::{
    Api,
    authorize::{Caller, device_id},
    convert, position,
    status::Error,
    text::TextDecoder,
    wire,
};
use crate::{
    auth::Action,
    device::{Fault, LinkStatus, State},
    journal::{Cursor, Item, Position},
    limits,
    line::{self, Attachment, EndReason, Mode, Progress, Refusal, Writers},
    name::DeviceId,
    pb::{self, attach_request, attach_response, ended, input_ack},
};

/// Serves one Attach call.
pub(super) fn serve(
    api: Api,
    extensions: http::Extensions,
    requests: Streaming<pb::AttachRequest>,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    let call = Call::New { api, extensions, requests };
    try_unfold(call, |call| async move {
        match call {
            Call::New { api, extensions, mut requests } => {
                // Headers have gone out already: clients that wait for them
                // before they send `start` are not kept waiting.
                let start = first(&mut requests).await?;
                let (running, started) = Running::start(api, extensions, requests, start).await?;
                Ok(Some((started, Call::Running(Box::new(running)))))
            }
            Call::Running(mut running) => match running.next().await? {
                Some(bytes) => Ok(Some((bytes, Call::Running(running)))),
                None => Ok(None),
            },
        }
    })
}

/// A call before and after its `start`.
#[expect(clippy::large_enum_variant, reason = "the large one lives for one message")]
enum Call {
    New { api: Api, extensions: http::Extensions, requests: Streaming<pb::AttachRequest> },
    Running(Box<Running>),
}

/// An open attachment.
struct Running {
    device: DeviceId,
    name: String,
    address: String,
    attachment: Attachment,
    cursor: Cursor,
    text: Option<TextDecoder>,
    progress: Progress,
    status: watch::Receiver<LinkStatus>,
    told_state: pb::LinkState,
    writers: watch::Receiver<Arc<Writers>>,
    told_writer: pb::WriterState,
    /// What the reading task found wrong with what the attacher sends.
    problem: oneshot::Receiver<Error>,
    problem_told: bool,
    found: Option<Error>,
    acknowledged: watch::Receiver<u64>,
    /// What comes after the message before.
    after: Option<Bytes>,
    finished: bool,
    api: Api,
    _reading: DropGuard,
    _permit: OwnedSemaphorePermit,
}

async fn first(requests: &mut Streaming<pb::AttachRequest>) -> Result<pb::AttachStart, Status> {
    let message = timeout(limits::START_TIMEOUT, requests.message()).await;
    let message = message.map_err(|_| {
        Error::Protocol(format!("start must come within {:?}", limits::START_TIMEOUT))
    })?;
    match message?.and_then(|request| request.message) {
        Some(attach_request::Message::Start(start)) => Ok(start),
        _ => Err(Error::Protocol("the first message must be start".into()).into()),
    }
}

impl Running {
    async fn start(
        api: Api,
        extensions: http::Extensions,
        requests: Streaming<pb::AttachRequest>,
        start: pb::AttachStart,
    ) -> Result<(Self, Bytes), Error> {
        let id = device_id("start.device", &start.device)?;
        let caller = api.authorize(&extensions, Action::Observe, Some(&id))?;
        let mode = parse_mode("start.mode", start.mode)?;
        api.may_claim(&caller, mode, &id)?;
        let text = parse_encoding("start.encoding", start.encoding)?;
        let position = position::parse("start.from", start.from.as_ref(), Position::Now)
            .map_err(|fault| Error::Fields(vec![fault]))?;
        if start.client.len() > limits::CLIENT_BYTES_MAX
            || start.client.chars().any(char::is_control)
        {
            let problem = format!(
                "must be at most {} bytes without control characters",
                limits::CLIENT_BYTES_MAX
            );
            return Err(Error::Fields(vec![Fault::new("start.client", problem)]));
        }
        let entry = api.inner.fleet.get(&id).map_err(|error| Error::Fleet(error, id.clone()))?;
        let permit = api.attachment_permit()?;
        let name = caller.name(&start.client);
        let attachment = entry.line.attach(name.clone(), mode).await;
        let attachment = attachment.map_err(|error| Error::Line(error, id.clone()))?;
        let begin = attachment.journal().start(position).await;
        let begin = begin.map_err(|error| Error::Journal(error, id.clone()))?;

        let mut status = attachment.status();
        let mut writers = attachment.writers();
        let told_state = link_state(&status.borrow_and_update());
        let told_writer = writer_state(&attachment, &writers.borrow_and_update());
        let started = attach_response::Message::Started(pb::Started {
            attachment: format!("{}/attachments/{}", id.resource_name(), attachment.id().0),
            device_uid: entry.device.uid.to_string(),
            offset: begin.offset,
            oldest_offset: begin.oldest,
            next_offset: begin.next,
            writer: Some(told_writer.clone()),
            state: Some(told_state.clone()),
        });

        let (found, problem) = oneshot::channel();
        let (acknowledge, acknowledged) = watch::channel(begin.offset);
        let stop = CancellationToken::new();
        let reader = Reader {
            api: api.clone(),
            caller: caller.clone(),
            device: id.clone(),
            input: attachment.input(),
            held: VecDeque::new(),
            held_bytes: 0,
            acknowledge,
        };
        let reading = stop.clone();
        api.inner.tasks.spawn(async move {
            tokio::select! {
                () = reading.cancelled() => {}
                result = reader.run(requests) => {
                    if let Err(error) = result {
                        found.send(error).ok();
                    }
                }
            }
        });
        api.inner.metrics.attachments.inc();
        let address = caller.address();
        tracing::info!(device = %id, attacher = name, peer = address, ?mode, offset = begin.offset, "attached");
        let running = Self {
            device: id,
            name,
            address,
            cursor: attachment.cursor(begin.cursor),
            text,
            progress: Progress::default(),
            status,
            told_state,
            writers,
            told_writer,
            problem,
            problem_told: false,
            found: None,
            acknowledged,
            after: None,
            finished: false,
            attachment,
            api,
            _reading: stop.drop_guard(),
            _permit: permit,
        };
        Ok((running, encode(started)))
    }

    /// The next bytes for the attacher; `None` after `ended`.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(after) = self.after.take() {
            return Ok(Some(after));
        }
        if self.finished {
            return Ok(None);
        }
        loop {
            if let Some(event) = self.event()? {
                return Ok(Some(encode(event)));
            }
            let item = self.cursor.try_next().await;
            match item {
                Ok(Some(item)) => {
                    if let Some(bytes) = self.output(item) {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => self.wait().await,
                Err(error) => return Err(Error::Journal(error, self.device.clone()).into()),
            }
        }
    }

    /// What happened besides output, if anything. Each kind tells its latest
    /// state only, so a flood of events does not hold output back.
    fn event(&mut self) -> Result<Option<attach_response::Message>, Status> {
        if let Some(reason) = self.attachment.ended() {
            self.finished = true;
            return Ok(Some(self.ended(reason)));
        }
        if !self.problem_told {
            match self.problem.try_recv() {
                Ok(error) => return Err(error.into()),
                // The reading task has ended well.
                Err(TryRecvError::Closed) => self.problem_told = true,
                Err(TryRecvError::Empty) => {}
            }
        }
        if let Some(error) = self.found.take() {
            return Err(error.into());
        }
        if let Some(progress) = self.attachment.input_progress().take_if_changed(self.progress) {
            self.progress = Progress { refusal: None, ..progress };
            return Ok(Some(attach_response::Message::InputAck(input_ack(progress))));
        }
        if self.status.has_changed().unwrap_or(false) {
            let state = link_state(&self.status.borrow_and_update());
            if state != self.told_state {
                self.told_state = state.clone();
                return Ok(Some(attach_response::Message::State(state)));
            }
        }
        if self.writers.has_changed().unwrap_or(false) {
            let writer = writer_state(&self.attachment, &self.writers.borrow_and_update());
            if writer != self.told_writer {
                self.told_writer = writer.clone();
                return Ok(Some(attach_response::Message::Writer(writer)));
            }
        }
        Ok(None)
    }

    /// Waits until there is something to tell. Consumes nothing.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.attachment.ending() => {}
            () = self.attachment.input_progress().until_changed(self.progress) => {}
            _ = self.status.changed() => self.status.mark_changed(),
            _ = self.writers.changed() => self.writers.mark_changed(),
            () = self.cursor.ready() => {}
            error = &mut self.problem, if !self.problem_told => {
                // The reading task may also end well: then no problem will come.
                self.problem_told = true;
                self.found = error.ok();
            }
        }
    }

    fn output(&mut self, item: Item) -> Option<Bytes> {
        match (item, &mut self.text) {
            (Item::Frame(frame), None) => Some(frame.wire().clone()),
            (Item::Frame(frame), Some(text)) => {
                let output = text.push(frame.offset(), frame.time(), frame.data())?;
                Some(encode(attach_response::Message::Output(output)))
            }
            (Item::Gap { from, to }, text) => {
                let gap = pb::Gap { from_offset: from, to_offset: to };
                let gap = encode(attach_response::Message::Gap(gap));
                // The beginning of a character that nothing follows comes first.
                match text.as_mut().and_then(TextDecoder::finish) {
                    None => Some(gap),
                    Some(rest) => {
                        self.after = Some(gap);
                        Some(encode(attach_response::Message::Output(rest)))
                    }
                }
            }
        }
    }

    fn ended(&self, reason: EndReason) -> attach_response::Message {
        attach_response::Message::Ended(pb::Ended {
            reason: end_reason(reason).into(),
            resume_offset: self
                .text
                .as_ref()
                .and_then(TextDecoder::held_from)
                .unwrap_or(self.cursor.offset()),
            message: String::new(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.api.inner.metrics.attachments.dec();
        tracing::info!(
            device = %self.device,
            attacher = self.name,
            peer = self.address,
            sent = self.cursor.offset(),
            acknowledged = *self.acknowledged.borrow(),
            input_bytes = self.attachment.input_progress().get().written,
            "detached"
        );
    }
}

/// The side that reads what the attacher sends.
struct Reader {
    api: Api,
    caller: Caller,
    device: DeviceId,
    input: line::Input,
    /// Input that waits for room in the line.
    held: VecDeque<(Option<u64>, Bytes)>,
    held_bytes: usize,
    acknowledge: watch::Sender<u64>,
}

impl Reader {
    /// Reads until the attacher sends no more, or breaks the protocol.
    async fn run(mut self, mut requests: Streaming<pb::AttachRequest>) -> Result<(), Error> {
        loop {
            let front = self.held.front().cloned();
            tokio::select! {
                message = requests.message() => match message {
                    Ok(Some(request)) => self.on_request(request).await?,
                    Ok(None) => break,
                    // A client that went away needs no answer; one that sent too
                    // much gets tonic's.
                    Err(status) => return Err(Error::Stream(status)),
                },
                sent = self.send_held(front) => {
                    sent?;
                    self.pop_held();
                }
            }
        }
        // No more input: what is held still goes.
        while let Some(front) = self.held.front().cloned() {
            self.send_held(Some(front)).await?;
            self.pop_held();
        }
        // Who sends no more must not keep others from writing.
        self.line(self.input.claim(Mode::Observe).await)
    }

    async fn send_held(&self, front: Option<(Option<u64>, Bytes)>) -> Result<(), Error> {
        match front {
            Some((offset, data)) => self.line(self.input.send(offset, data).await),
            None => std::future::pending().await,
        }
    }

    fn pop_held(&mut self) {
        if let Some((_, data)) = self.held.pop_front() {
            self.held_bytes -= data.len();
        }
    }

    async fn on_request(&mut self, request: pb::AttachRequest) -> Result<(), Error> {
        match request.message {
            Some(attach_request::Message::Input(input)) => self.on_input(input).await,
            Some(attach_request::Message::Writer(writer)) => {
                let mode = parse_mode("writer.mode", writer.mode)?;
                self.api.may_claim(&self.caller, mode, &self.device)?;
                self.line(self.input.claim(mode).await)
            }
            Some(attach_request::Message::Ack(ack)) => {
                self.acknowledge.send_replace(ack.offset);
                Ok(())
            }
            Some(attach_request::Message::Start(_)) => {
                Err(Error::Protocol("start must be the first message only".into()))
            }
            // A kind that a newer client knows.
            None => Ok(()),
        }
    }

    async fn on_input(&mut self, input: pb::Input) -> Result<(), Error> {
        let data = match input.payload {
            Some(pb::input::Payload::Data(data)) => data,
            Some(pb::input::Payload::Text(text)) => text.into(),
            None => return Ok(()),
        };
        check_input("input", data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        let refused = if self.held.is_empty() {
            self.line(self.input.try_send(input.offset, data).await)?
        } else {
            Some(data)
        };
        let Some(data) = refused else { return Ok(()) };
        if self.held_bytes + data.len() > limits::ATTACHMENT_INPUT_BYTES_MAX {
            self.api.inner.metrics.input_refused.inc();
            self.input.refuse(Refusal::QueueFull);
        } else {
            self.held_bytes += data.len();
            self.held.push_back((input.offset, data));
        }
        Ok(())
    }

    fn line<T>(&self, result: Result<T, line::Error>) -> Result<T, Error> {
        result.map_err(|error| Error::Line(error, self.device.clone()))
    }
}

impl Api {
    /// Room for one more attachment or read.
    pub(super) fn attachment_permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.inner.attachments.clone().try_acquire_owned().map_err(|_| {
            self.inner.metrics.attachments_refused.inc();
            Error::ServerLimit { what: "attachments", max: limits::ATTACHMENTS_MAX }
        })
    }

    /// Whether a caller may ask for a mode.
    pub(super) fn may_claim(
        &self,
        caller: &Caller,
        mode: Mode,
        id: &DeviceId,
    ) -> Result<(), Error> {
        match mode {
            Mode::Observe => Ok(()),
            Mode::Write | Mode::Wait | Mode::Shared => self.may(caller, Action::Write, Some(id)),
            Mode::Force => {
                self.may(caller, Action::Write, Some(id))?;
                self.may(caller, Action::Force, Some(id))
            }
        }
    }
}

/// Why an attachment or read ended.
pub(super) fn end_reason(reason: EndReason) -> ended::Reason {
    match reason {
        EndReason::ShuttingDown => ended::Reason::ShuttingDown,
        EndReason::DeviceDeleted => ended::Reason::DeviceDeleted,
        EndReason::Failed => ended::Reason::DeviceFailed,
    }
}

/// Whether text was asked for.
pub(super) fn parse_encoding(field: &str, encoding: i32) -> Result<Option<TextDecoder>, Error> {
    match pb::OutputEncoding::try_from(encoding) {
        Ok(pb::OutputEncoding::Unspecified | pb::OutputEncoding::Bytes) => Ok(None),
        Ok(pb::OutputEncoding::Text) => Ok(Some(TextDecoder::default())),
        Err(_) => Err(unknown(field, encoding)),
    }
}

/// What an attacher wants to do.
pub(super) fn parse_mode(field: &str, mode: i32) -> Result<Mode, Error> {
    match pb::AttachMode::try_from(mode) {
        Ok(pb::AttachMode::Unspecified | pb::AttachMode::Observe) => Ok(Mode::Observe),
        Ok(pb::AttachMode::Write) => Ok(Mode::Write),
        Ok(pb::AttachMode::WriteWait) => Ok(Mode::Wait),
        Ok(pb::AttachMode::WriteForce) => Ok(Mode::Force),
        Ok(pb::AttachMode::WriteShared) => Ok(Mode::Shared),
        Err(_) => Err(unknown(field, mode)),
    }
}

/// Whether input is small enough for one message.
pub(super) fn check_input(field: &str, len: usize) -> Result<(), Error> {
    if len <= limits::INPUT_MESSAGE_BYTES_MAX {
        return Ok(());
    }
    let problem = format!("must be at most {} bytes, not {len}", limits::INPUT_MESSAGE_BYTES_MAX);
    Err(Error::Fields(vec![Fault::new(field, problem)]))
}

fn unknown(field: &str, value: i32) -> Error {
    let problem = format!("{value} is not a value that this server knows");
    Error::Fields(vec![Fault::new(field, problem)])
}

fn encode(message: attach_response::Message) -> Bytes {
    wire::message(&pb::AttachResponse { message: Some(message) })
}

fn link_state(status: &LinkStatus) -> pb::LinkState {
    let error = status.last_error.as_ref().filter(|_| status.state == State::Backoff);
    let message = error.map(|error| error.message.clone());
    pb::LinkState {
        state: convert::state(status.state).into(),
        message: message.unwrap_or_default(),
    }
}

fn writer_state(attachment: &Attachment, writers: &Writers) -> pb::WriterState {
    let id = attachment.id();
    let taken_by = writers.bumped.iter().find(|(bumped, _)| *bumped == id);
    pb::WriterState {
        is_me: writers.lock.may_write(id),
        writers: writers.names.clone(),
        queue_position: writers
            .lock
            .queue_position(id)
            .map_or(0, |place| u32::try_from(place).unwrap_or(u32::MAX)),
        taken_by: taken_by.map(|(_, by)| by.clone()).unwrap_or_default(),
    }
}

fn input_ack(progress: Progress) -> pb::InputAck {
    let refusal = match progress.refusal {
        None => input_ack::Refusal::Unspecified,
        Some(Refusal::NotWriter) => input_ack::Refusal::NotWriter,
        Some(Refusal::NotConnected) => input_ack::Refusal::NotConnected,
        Some(Refusal::QueueFull) => input_ack::Refusal::QueueFull,
        Some(Refusal::OffsetGap) => input_ack::Refusal::OffsetGap,
        Some(Refusal::NoInput) => input_ack::Refusal::NoInput,
    };
    pb::InputAck {
        offset: progress.written,
        queued_offset: progress.queued,
        refusal: refusal.into(),
    }
}
