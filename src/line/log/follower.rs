//! The task that writes a copy: takes bytes from the journal or from the input,
//! appends them to the file, and says in status, log and metrics when it cannot.
//!
//! A write that fails is tried again after `limits::LOG_RETRY_MIN`, then less
//! often up to `limits::LOG_RETRY_MAX`, from exactly where it ended. A write that
//! hangs is told like one that fails.

use std::{
    mem,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{InputCopy, Last, Whereabouts};
use crate::{
    backend::{self, LogFile},
    device::{Counters, Device, LinkStatus},
    journal::{Cursor, Item},
    limits,
    line::LineShared,
    telemetry::Metrics,
};

/// Between two attempts of a copy that is to end.
const RETRY_ENDING: Duration = Duration::from_millis(100);

/// The copy has ended, complete or not.
#[derive(Debug)]
struct TimeUp;

/// Where the bytes come from.
pub(super) enum Source {
    Output(Cursor),
    Input(Arc<InputCopy>),
}

/// What comes next.
enum Next {
    Bytes(Bytes),
    /// The copy is complete, or its time is up.
    End,
    /// The journal could not be read.
    Failed(String),
}

/// One copy on its way.
pub(super) struct Follower {
    file: LogFile,
    source: Source,
    end: watch::Receiver<Option<Last>>,
    device: Arc<Device>,
    shared: Arc<LineShared>,
    status: watch::Sender<LinkStatus>,
    changed: Arc<dyn Fn(&Device) + Send + Sync>,
    metrics: Arc<Metrics>,
    retry: Duration,
    /// Bytes that are missing and counted, and not logged yet.
    untold: u64,
    /// When bytes that are missing may be logged again.
    tell_from: Instant,
}

impl Follower {
    pub(super) fn new(
        file: LogFile,
        source: Source,
        end: watch::Receiver<Option<Last>>,
        line: &Whereabouts<'_>,
    ) -> Self {
        Self {
            file,
            source,
            end,
            device: line.device.clone(),
            shared: line.shared.clone(),
            status: line.status.clone(),
            changed: line.around.changed.clone(),
            metrics: line.around.metrics.clone(),
            retry: limits::LOG_RETRY_MIN,
            untold: 0,
            tell_from: Instant::now(),
        }
    }

    /// Copies until the end; after the copy before this one, if there is one.
    pub(super) async fn run(mut self, before: Option<JoinHandle<()>>) {
        if let Some(before) = before {
            let mut up = pin!(up(self.end.clone()));
            tokio::select! {
                // A copy that panicked has been told by the runtime.
                _ = before => {}
                () = &mut up => {}
            }
        }
        let mut going = self.open().await;
        while going.is_ok() {
            going = match self.next().await {
                Next::Bytes(bytes) => self.write(bytes).await,
                Next::End => Err(TimeUp),
                Next::Failed(message) => self.failed("JournalFailed", message).await,
            };
        }
        self.lost(self.waiting());
        self.tell_lost();
    }

    /// Opens the file, however often it takes: what is wrong with it, and that it
    /// is so no more, shows before there is anything to write.
    async fn open(&mut self) -> Result<(), TimeUp> {
        loop {
            let opened = self.file.open();
            match in_time(&self.end, opened).await {
                Some(Ok(())) => break,
                Some(Err(error)) => {
                    self.failed(error_reason(&error), backend::explain(&error)).await?;
                }
                None => return Err(TimeUp),
            }
        }
        self.healthy();
        Ok(())
    }

    /// What comes next. Output that the journal has not is counted.
    async fn next(&mut self) -> Next {
        loop {
            let end = *self.end.borrow_and_update();
            let cursor = match &mut self.source {
                Source::Output(cursor) => cursor,
                Source::Input(input) => {
                    let input = input.clone();
                    let taken = input.take(limits::FILE_WRITE_BYTES_MAX);
                    return match in_time(&self.end, taken).await.flatten() {
                        Some(bytes) => Next::Bytes(bytes),
                        None => Next::End,
                    };
                }
            };
            if end.is_some_and(|end| cursor.offset() >= end.offset) {
                return Next::End;
            }
            let mut up = pin!(up(self.end.clone()));
            let mut ending = self.end.clone();
            let item = tokio::select! {
                item = cursor.next() => item,
                // Where the end is decides whether there is more to wait for.
                Ok(()) = ending.changed(), if end.is_none() => continue,
                () = sleep_until(self.tell_from), if self.untold > 0 => {
                    self.tell_lost();
                    continue;
                }
                () = &mut up => return Next::End,
            };
            match item {
                Ok(Item::Frame(frame)) => {
                    let mut bytes = BytesMut::from(frame.data());
                    let from = frame.offset();
                    // A disk that hangs must not outlast the copy.
                    let gap = in_time(&self.end, gather(cursor, &mut bytes)).await.flatten();
                    // It may have been told meanwhile: what was said since is the
                    // next copy's.
                    let end = *self.end.borrow();
                    let whole = end.map_or(u64::MAX, |end| end.offset.saturating_sub(from));
                    bytes.truncate(usize::try_from(whole).unwrap_or(usize::MAX));
                    if let Some((from, to)) = gap {
                        self.lost(bytes_before(end, from, to));
                    }
                    if !bytes.is_empty() {
                        return Next::Bytes(bytes.freeze());
                    }
                }
                Ok(Item::Gap { from, to }) => {
                    let end = *self.end.borrow();
                    self.lost(bytes_before(end, from, to));
                }
                Err(error) => return Next::Failed(error.to_string()),
            }
        }
    }

    /// Writes all of it, however often it takes; counts what is left when the
    /// time is up.
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), TimeUp> {
        while !bytes.is_empty() {
            let going = match self.write_some(&bytes).await {
                None => Err(TimeUp),
                Some(Ok(n)) => {
                    bytes.advance(n);
                    self.metrics.log_written_bytes.inc_by(n as u64);
                    self.healthy();
                    Ok(())
                }
                Some(Err(error)) => {
                    self.failed(error_reason(&error), backend::explain(&error)).await
                }
            };
            if going.is_err() {
                self.lost(bytes.len() as u64);
                return going;
            }
        }
        Ok(())
    }

    /// One write; `None` if it did not end in time.
    async fn write_some(&mut self, bytes: &Bytes) -> Option<Result<usize, backend::Error>> {
        let mut writing = self.file.write(bytes.clone());
        let mut stalled = pin!(sleep(limits::LOG_STALL));
        let mut up = pin!(up(self.end.clone()));
        let mut patient = true;
        loop {
            tokio::select! {
                biased;
                written = &mut writing => return Some(written),
                () = &mut stalled, if patient => {
                    patient = false;
                    let message = format!("a write takes longer than {:?}", limits::LOG_STALL);
                    self.degrade("DiskStalled", message);
                }
                () = &mut up => return None,
            }
        }
    }

    /// Says that it does not work, and waits before the next attempt; when the
    /// copy is to end, not for long.
    async fn failed(&mut self, reason: &'static str, message: String) -> Result<(), TimeUp> {
        self.metrics.log_errors.inc();
        self.degrade(reason, message);
        let ending = self.end.borrow_and_update().is_some();
        let pause = if ending { RETRY_ENDING } else { self.retry };
        self.retry = (self.retry * 2).min(limits::LOG_RETRY_MAX);
        let mut end = self.end.clone();
        tokio::select! {
            () = sleep(pause) => Ok(()),
            Ok(()) = end.changed() => Ok(()),
            () = up(self.end.clone()) => Err(TimeUp),
        }
    }

    fn degrade(&self, reason: &'static str, message: String) {
        if let Source::Input(input) = &self.source {
            input.set_degraded(true);
        }
        let changed = self.status.send_if_modified(|status| {
            let degraded = &mut status.log_degraded;
            let now = Some((reason, message.clone()));
            if degraded.holds == now {
                return false;
            }
            if degraded.holds.is_none() {
                degraded.changed = Some(SystemTime::now());
            }
            degraded.holds = now;
            true
        });
        if changed {
            let (device, path) = (&self.device.id, self.file.path().display());
            tracing::warn!(%device, %path, reason, error = message, "the copy of the console is not written");
            (self.changed)(&self.device);
        }
    }

    fn healthy(&mut self) {
        self.retry = limits::LOG_RETRY_MIN;
        let changed = self.status.send_if_modified(|status| {
            let degraded = &mut status.log_degraded;
            if degraded.holds.take().is_none() {
                return false;
            }
            degraded.changed = Some(SystemTime::now());
            true
        });
        if changed {
            if let Source::Input(input) = &self.source {
                input.set_degraded(false);
            }
            let (device, path) = (&self.device.id, self.file.path().display());
            let lost_bytes = Counters::get(&self.shared.counters.log_lost);
            tracing::info!(%device, %path, lost_bytes, "the copy of the console is written again");
            (self.changed)(&self.device);
        }
    }

    /// Counts bytes that will not be in the file. A console that loses a little all
    /// the time fills no log.
    fn lost(&mut self, bytes: u64) {
        Counters::add(&self.shared.counters.log_lost, bytes);
        self.metrics.log_lost_bytes.inc_by(bytes);
        self.untold += bytes;
        if Instant::now() >= self.tell_from {
            self.tell_lost();
        }
    }

    /// Logs them.
    fn tell_lost(&mut self) {
        let bytes = mem::take(&mut self.untold);
        if bytes > 0 {
            self.tell_from = Instant::now() + limits::COUNTERS_INTERVAL;
            let (device, path) = (&self.device.id, self.file.path().display());
            tracing::warn!(%device, %path, bytes, "bytes are missing from the copy of the console");
            (self.changed)(&self.device);
        }
    }

    /// Bytes that were to be copied and are not taken yet.
    fn waiting(&self) -> u64 {
        match &self.source {
            Source::Input(input) => input.len() as u64,
            Source::Output(cursor) => {
                let end = *self.end.borrow();
                end.map_or(0, |end| end.offset.saturating_sub(cursor.offset()))
            }
        }
    }
}

/// What the future gives, unless the copy's time is up first.
async fn in_time<T>(
    end: &watch::Receiver<Option<Last>>,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = up(end.clone()) => None,
    }
}

/// Adds what else is there, up to one write; returns the gap that ended it.
async fn gather(cursor: &mut Cursor, bytes: &mut BytesMut) -> Option<(u64, u64)> {
    while bytes.len() + limits::FRAME_BYTES_MAX <= limits::FILE_WRITE_BYTES_MAX {
        match cursor.try_next().await {
            Ok(Some(Item::Frame(frame))) => bytes.extend_from_slice(frame.data()),
            Ok(Some(Item::Gap { from, to })) => return Some((from, to)),
            // An error comes again when it is asked for.
            Ok(None) | Err(_) => return None,
        }
    }
    None
}

/// Waits until the copy's time is up.
async fn up(mut end: watch::Receiver<Option<Last>>) {
    // Without a line there is nobody to copy for.
    let deadline = match end.wait_for(Option::is_some).await {
        Ok(last) => (*last).map_or_else(Instant::now, |last| last.deadline),
        Err(_) => return,
    };
    sleep_until(deadline).await;
}

/// How much of a gap is before the end.
fn bytes_before(end: Option<Last>, from: u64, to: u64) -> u64 {
    end.map_or(to, |end| to.min(end.offset)).saturating_sub(from)
}

fn error_reason(error: &backend::Error) -> &'static str {
    use backend::{Error, OpenError};

    if let Error::Write { fault, .. } = error {
        return fault.reason();
    }
    let denied = matches!(error, Error::Denied(_) | Error::Open(OpenError::Denied(_)));
    if denied { "NotAllowed" } else { "CannotOpen" }
}
