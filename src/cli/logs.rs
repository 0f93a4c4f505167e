//! `logs`: output of a device, from the past or as it comes.
//!
//! A thing of its own beside `attach` because scripts want bytes and nothing
//! else: it takes no keys and leaves the terminal as it is. With `--follow` it
//! keeps its place over lost connections with the same [`Cursor`].

use std::time::SystemTime;

use bytes::{BufMut as _, Bytes, BytesMut};
use clap::Args;
use prost_types::Timestamp;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::{
    connect::Server,
    cursor::{Begun, Cursor, told},
    display::{Display, Drain},
    exit::{Exit, Failure},
    position::{Moment, Place},
    retry::{Backoff, Verdict},
    select,
    text::time,
};
use crate::{
    name::DeviceId,
    pb::{
        Ended, Output, OutputEncoding, ReadOutputRequest, ReadOutputResponse, ended::Reason,
        read_output_request::Until, read_output_response::Message,
    },
};

/// What `logs` is told.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The device
    #[arg(value_name = "NAME", value_parser = select::device)]
    device: DeviceId,
    /// Go on with what comes, over lost connections too
    #[arg(short, long)]
    follow: bool,
    /// Begin with what was received then: a time span like 10m, or a time like
    /// 2025-03-01T08:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// End before what was received then
    #[arg(long, value_name = "WHEN", conflicts_with = "follow")]
    until: Option<Moment>,
    /// Only the last N lines
    #[arg(long, value_name = "N", conflicts_with = "since")]
    tail: Option<u32>,
    /// Put the time at which it was received before each line
    #[arg(long)]
    timestamps: bool,
}

/// How far to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Go on for ever.
    Follow,
    /// To this time, or to what is the newest byte now.
    Until(Option<Timestamp>),
}

/// Why a stream is over.
#[derive(Debug)]
enum Over {
    /// Everything that was asked for was read.
    Complete,
    /// Ask again, from where it is.
    Again(Failure),
    /// Ask again at once: the device is another.
    Anew,
}

/// One reading, over one connection after another.
#[derive(Debug)]
struct Reading {
    device: DeviceId,
    cursor: Cursor,
    display: Display,
    /// Present if lines are to have their times.
    stamper: Option<Stamper>,
}

pub(super) async fn run(server: &Server, args: LogsArgs) -> Result<(), Failure> {
    let now = SystemTime::now();
    let from = match (args.tail, args.since) {
        (Some(lines), _) => Place::LastLines(lines),
        (None, Some(moment)) => Place::Since(moment),
        (None, None) => Place::Beginning,
    };
    let until = args.until.map(|moment| moment.to_timestamp(now));
    let extent = if args.follow { Extent::Follow } else { Extent::Until(until) };
    let mut reading = Reading {
        device: args.device,
        cursor: Cursor::new(from.to_position(now)),
        display: Display::spawn()?,
        stamper: args.timestamps.then(Stamper::default),
    };
    let read = reading.run(server, extent).await;
    let written = reading.display.finish(Drain::Fully).await;
    read.and(written)
}

impl Reading {
    async fn run(&mut self, server: &Server, extent: Extent) -> Result<(), Failure> {
        let mut backoff = Backoff::default();
        loop {
            let attempt = self.attempt(server, extent, &mut backoff).await;
            let failure = match attempt {
                Ok(Over::Complete) => return Ok(()),
                Ok(Over::Anew) => continue,
                Ok(Over::Again(failure)) | Err(Verdict::Again(failure)) => failure,
                Err(Verdict::Hopeless(failure)) => return Err(failure),
            };
            let may_retry = extent == Extent::Follow && self.cursor.has_begun();
            if !may_retry {
                return Err(failure);
            }
            if backoff.was_connected() {
                self.display.notice("connection lost; trying again");
            }
            let delay = backoff.next(Instant::now());
            let mut slept = std::pin::pin!(sleep(delay));
            loop {
                tokio::select! {
                    () = &mut slept => break,
                    progress = self.display.progress() => progress?,
                }
            }
        }
    }

    /// One call, to its end.
    async fn attempt(
        &mut self,
        server: &Server,
        extent: Extent,
        backoff: &mut Backoff,
    ) -> Result<Over, Verdict> {
        let (follow, until) = match extent {
            Extent::Follow => (true, None),
            Extent::Until(time) => (false, time.map(Until::UntilTime)),
        };
        let request = ReadOutputRequest {
            device: self.device.resource_name(),
            from: Some(self.cursor.position()),
            follow,
            encoding: OutputEncoding::Bytes.into(),
            until,
        };
        let mut client = server.consoles().await?;
        let mut responses = client.read_output(request).await?.into_inner();
        backoff.connected(Instant::now());
        loop {
            tokio::select! {
                response = responses.message(), if self.display.has_room() => {
                    if let Some(over) = self.on_response(response, extent)? {
                        return Ok(over);
                    }
                }
                progress = self.display.progress() => progress.map_err(Verdict::Hopeless)?,
            }
        }
    }

    fn on_response(
        &mut self,
        response: Result<Option<ReadOutputResponse>, Status>,
        extent: Extent,
    ) -> Result<Option<Over>, Verdict> {
        let message = match response? {
            Some(response) => response.message,
            None if extent == Extent::Follow => {
                let message = "the server has closed the stream";
                return Ok(Some(Over::Again(Failure::new(Exit::Unreachable, message))));
            }
            None => return Ok(Some(Over::Complete)),
        };
        match message {
            Some(Message::Started(started)) => {
                let end = started.next_offset;
                let begun = self.cursor.on_started(&started.device_uid, started.offset, end);
                return Ok(self.on_begun(&begun));
            }
            Some(Message::Output(output)) => self.on_output(output).map_err(Verdict::Hopeless)?,
            Some(Message::Gap(gap)) => {
                let gap = self.cursor.on_gap(gap.from_offset, gap.to_offset);
                self.notice(told(&gap));
            }
            Some(Message::Ended(ended)) => return self.on_ended(&ended).map(Some),
            // A message of a newer server is none to us.
            None => {}
        }
        Ok(None)
    }

    fn on_begun(&mut self, begun: &Begun) -> Option<Over> {
        let device = &self.device;
        match begun {
            Begun::First => None,
            Begun::Resumed { offset } => {
                self.notice(Some(format!("resumed at offset {offset}")));
                None
            }
            Begun::Shortened { expected, offset } => {
                self.notice(Some(format!(
                    "the server has lost what it had stored before offset {expected}; going on \
                     at offset {offset}"
                )));
                None
            }
            Begun::Anew => {
                let text = format!("{device} was made anew; starting from its beginning");
                self.notice(Some(text));
                Some(Over::Anew)
            }
        }
    }

    fn on_output(&mut self, output: Output) -> Result<(), Failure> {
        let (gap, data) = self.cursor.on_output(output.offset, output.data);
        self.notice(told(&gap));
        let data = match &mut self.stamper {
            Some(stamper) => stamper.stamp(data, output.receive_time),
            None => data,
        };
        self.display.output(data, self.cursor.next())
    }

    fn on_ended(&self, ended: &Ended) -> Result<Over, Verdict> {
        let device = &self.device;
        let (exit, message) = match ended.reason() {
            Reason::Unspecified | Reason::ShuttingDown => {
                let message = "the server is shutting down";
                return Ok(Over::Again(Failure::new(Exit::Unreachable, message)));
            }
            Reason::DeviceDeleted => (Exit::NotFound, format!("{device} was deleted")),
            Reason::DeviceFailed => {
                (Exit::Failed, format!("{device} failed inside the server, see its log"))
            }
        };
        Err(Verdict::Hopeless(Failure::new(exit, message)))
    }

    fn notice(&self, text: Option<String>) {
        if let Some(text) = text {
            self.display.notice(text);
        }
    }
}

/// Puts times before lines. A line that comes in several pieces has the time of
/// its first.
#[derive(Debug, Default)]
struct Stamper {
    place: InLine,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum InLine {
    #[default]
    Beginning,
    Inside,
}

impl Stamper {
    fn stamp(&mut self, data: Bytes, received: Option<Timestamp>) -> Bytes {
        let received = time(received);
        let mut stamped = BytesMut::with_capacity(data.len() + received.len() + 1);
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            if self.place == InLine::Beginning {
                stamped.put_slice(received.as_bytes());
                stamped.put_u8(b' ');
            }
            stamped.put_slice(line);
            self.place = match line.last() {
                Some(b'\n') => InLine::Beginning,
                Some(_) | None => InLine::Inside,
            };
        }
        stamped.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_time_of_its_first_byte() {
        let mut stamper = Stamper::default();
        let mut stamped = |data: &'static [u8], seconds| {
            let received = Timestamp { seconds, nanos: 0 };
            let stamped = stamper.stamp(Bytes::from_static(data), Some(received));
            String::from_utf8(stamped.to_vec()).unwrap()
        };
        let (first, second) = ("1970-01-01T00:00:01Z ", "1970-01-01T00:00:02Z ");
        assert_eq!(stamped(b"a\r\nb", 1), format!("{first}a\r\n{first}b"));
        assert_eq!(stamped(b"c\nd", 2), format!("c\n{second}d"));
        assert_eq!(stamped(b"", 3), "");
    }
}
