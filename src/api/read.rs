//! One ReadOutput call: a cursor without an attachment. It takes no part in the
//! line, so reading history needs nothing of the device.

use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, stream::try_unfold};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};
use tonic::Status;

use super::{
    Api,
    attach::{end_reason, parse_encoding},
    authorize::device_id,
    position,
    status::Error,
    text::TextDecoder,
    wire,
};
use crate::{
    auth::Action,
    journal::{Cursor, Item, Position, micros},
    line::{EndReason, Handle},
    name::DeviceId,
    pb::{self, read_output_request::Until, read_output_response},
};

/// Serves one ReadOutput call.
pub(super) fn serve(
    api: Api,
    extensions: http::Extensions,
    request: pb::ReadOutputRequest,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    let call = Call::New { api, extensions, request };
    try_unfold(call, |call| async move {
        match call {
            Call::New { api, extensions, request } => {
                let (reading, started) = Reading::start(&api, &extensions, &request).await?;
                Ok(Some((started, Call::Reading(Box::new(reading)))))
            }
            Call::Reading(mut reading) => match reading.next().await? {
                Some(bytes) => Ok(Some((bytes, Call::Reading(reading)))),
                None => Ok(None),
            },
        }
    })
}

enum Call {
    New { api: Api, extensions: http::Extensions, request: pb::ReadOutputRequest },
    Reading(Box<Reading>),
}

/// An open read.
struct Reading {
    device: DeviceId,
    line: Handle,
    cursor: Cursor,
    text: Option<TextDecoder>,
    /// What comes after the message before.
    after: Option<Bytes>,
    end: End,
    finished: bool,
    _permit: OwnedSemaphorePermit,
}

/// Where a read ends.
enum End {
    /// Before this offset.
    Offset(u64),
    /// Before what comes at this time, which has not passed yet.
    Time(SystemTime, Instant),
    /// When the caller or the server ends it.
    Never,
}

impl Reading {
    async fn start(
        api: &Api,
        extensions: &http::Extensions,
        request: &pb::ReadOutputRequest,
    ) -> Result<(Self, Bytes), Error> {
        let id = device_id("device", &request.device)?;
        api.authorize(extensions, Action::Observe, Some(&id))?;
        let text = parse_encoding("encoding", request.encoding)?;
        let text = if request.follow { text } else { text.map(TextDecoder::without_padding) };
        let position = position::parse("from", request.from.as_ref(), Position::Beginning)
            .map_err(|fault| Error::Fields(vec![fault]))?;
        let entry = api.inner.fleet.get(&id).map_err(|error| Error::Fleet(error, id.clone()))?;
        let permit = api.attachment_permit()?;
        let journal = entry.line.journal();
        let failed = |error| Error::Journal(error, id.clone());
        let begin = journal.start(position).await.map_err(failed)?;
        let end = match (&request.until, request.follow) {
            (None, false) => End::Offset(begin.next),
            (None, true) => End::Never,
            (Some(Until::UntilOffset(offset)), true) => End::Offset(*offset),
            (Some(Until::UntilOffset(offset)), false) => End::Offset(begin.next.min(*offset)),
            (Some(Until::UntilTime(time)), follow) => {
                let time = position::parse_time("until_time", time)
                    .map_err(|fault| Error::Fields(vec![fault]))?;
                match time.duration_since(SystemTime::now()) {
                    Ok(left) if follow => End::Time(time, Instant::now() + left),
                    _ => {
                        let end = journal.since(micros(time)).await.map_err(failed)?;
                        End::Offset(end.unwrap_or(begin.next))
                    }
                }
            }
        };
        let started = read_output_response::Message::Started(pb::ReadStarted {
            device_uid: entry.device.uid.to_string(),
            offset: begin.offset,
            oldest_offset: begin.oldest,
            next_offset: begin.next,
        });
        let reading = Self {
            device: id,
            cursor: journal.cursor(begin.cursor),
            text,
            after: None,
            end,
            finished: false,
            line: entry.line,
            _permit: permit,
        };
        Ok((reading, encode(started)))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(after) = self.after.take() {
                return Ok(Some(after));
            }
            if self.finished {
                return Ok(None);
            }
            // Also while there is more to read: a slow reader of a chatty device
            // would never come to its end otherwise.
            if let Some(reason) = self.line.ended_for() {
                self.finished = true;
                return Ok(Some(self.ended(reason)));
            }
            self.end_in_time().await?;
            if let End::Offset(end) = self.end
                && self.cursor.offset() >= end
            {
                self.finished = true;
                return Ok(self.rest());
            }
            match self.cursor.try_next().await {
                Ok(Some(item)) => {
                    if let Some(bytes) = self.output(item) {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => self.wait().await,
                // A journal that goes with its device is no failure.
                Err(_) if self.line.ended_for().is_some() => {}
                Err(error) => return Err(Error::Journal(error, self.device.clone()).into()),
            }
        }
    }

    /// Once the time has come, the end is an offset.
    async fn end_in_time(&mut self) -> Result<(), Error> {
        if let End::Time(time, due) = self.end
            && Instant::now() >= due
        {
            let end = self.line.journal().since(micros(time)).await;
            let end = end.map_err(|error| Error::Journal(error, self.device.clone()))?;
            let next = self.line.journal().status().next_offset;
            self.end = End::Offset(end.unwrap_or(next));
        }
        Ok(())
    }

    /// Waits for more output, the end of time or the end of the device.
    async fn wait(&mut self) {
        let due = match self.end {
            End::Time(_, due) => Some(due),
            End::Offset(_) | End::Never => None,
        };
        tokio::select! {
            _ = self.line.ending() => {}
            () = self.cursor.ready() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }

    fn ended(&self, reason: EndReason) -> Bytes {
        let held = self.text.as_ref().and_then(TextDecoder::held_from);
        encode(read_output_response::Message::Ended(pb::Ended {
            reason: end_reason(reason).into(),
            resume_offset: held.unwrap_or(self.cursor.offset()),
            message: String::new(),
        }))
    }

    fn output(&mut self, item: Item) -> Option<Bytes> {
        match item {
            Item::Gap { from, to } => {
                let gap = pb::Gap { from_offset: from, to_offset: to };
                let gap = encode(read_output_response::Message::Gap(gap));
                match self.rest() {
                    None => Some(gap),
                    Some(rest) => {
                        self.after = Some(gap);
                        Some(rest)
                    }
                }
            }
            Item::Frame(frame) => {
                let frame = match self.end {
                    End::Offset(end) => self.cursor.before(frame, end),
                    End::Time(..) | End::Never => frame,
                };
                match &mut self.text {
                    None => Some(frame.wire().clone()),
                    Some(text) => {
                        let output = text.push(frame.offset(), frame.time(), frame.data())?;
                        Some(encode(read_output_response::Message::Output(output)))
                    }
                }
            }
        }
    }

    /// The beginning of a character that nothing follows.
    fn rest(&mut self) -> Option<Bytes> {
        let output = self.text.as_mut()?.finish()?;
        Some(encode(read_output_response::Message::Output(output)))
    }
}

fn encode(message: read_output_response::Message) -> Bytes {
    wire::message(&pb::ReadOutputResponse { message: Some(message) })
}
