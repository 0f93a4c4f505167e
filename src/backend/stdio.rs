//! The `stdio` host interface: what attachers send goes to the log of the
//! device's domain, by lines; there is no output.
//!
//! Whole lines are reported as written when they are in the file. The beginning
//! of a line is reported when it is taken, because whoever types sees each key
//! taken; it is held here until its end comes, up to
//! `limits::DOMAIN_LINE_BYTES_MAX`, and written as it is after some silence or
//! when the device stops. A kill can lose that much of each device and no more.
//! It is held over a lost link, so a full disk that heals has lost nothing; only
//! a device that is stopped meanwhile loses it, which is counted and logged.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Backend, BoxFuture, Environment, Error, Link, Place, Read, Role,
    domain_log::{Appended, DomainLog, lost},
    offload::{Offload, Underway},
};
use crate::{
    device::{Facts, StdioSpec, Uid},
    limits,
    telemetry::Metrics,
};

/// A device's place in the log of its domain.
pub(super) struct Stdio {
    domain: String,
    uid: Uid,
    log: Offload<DomainLog>,
    metrics: Arc<Metrics>,
    held: Arc<Held>,
}

impl Stdio {
    pub(super) fn new(spec: &StdioSpec, uid: Uid, environment: &Environment) -> Self {
        let metrics = environment.metrics.clone();
        let log = environment.domain_logs.log(&spec.domain, &environment.allow, &metrics);
        let log = Offload::shared(log, environment.files.clone());
        Self { domain: spec.domain.clone(), uid, log, metrics, held: Arc::default() }
    }
}

impl Backend for Stdio {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(async { Ok(Place::default()) })
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(async {
            self.log.run(DomainLog::ready).await?;
            let (log, held) = (self.log.clone(), self.held.clone());
            Ok(Box::new(StdioLink::new(self.uid, log, held)) as Box<dyn Link>)
        })
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        lost(&self.metrics, &self.domain, self.held.bytes().len());
    }
}

/// The beginning of a line. Used by the line's one task only, through the backend
/// and its link of the moment, so nobody ever waits for it.
#[derive(Debug, Default)]
struct Held(Mutex<Vec<u8>>);

impl Held {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log, open.
struct StdioLink {
    uid: Uid,
    log: Offload<DomainLog>,
    held: Arc<Held>,
    /// Of how many bytes that were offered; the rest of the batch is `held`.
    writing: Underway<Appended>,
    /// When what is held is written as it is; in use while something is held.
    due: Pin<Box<Sleep>>,
    held_since: Instant,
    /// What went wrong after something was written.
    trouble: Option<Error>,
}

/// When what is held is written as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// After some silence.
    Due,
    Now,
}

impl StdioLink {
    fn new(uid: Uid, log: Offload<DomainLog>, held: Arc<Held>) -> Self {
        let now = Instant::now();
        // What was held when a link was lost goes on like a line of now: who sent
        // its beginning sends the rest again.
        let due = Box::pin(sleep_until(now + limits::DOMAIN_LINE_QUIET));
        Self { uid, log, held, writing: Underway::none(), due, held_since: now, trouble: None }
    }

    /// Begins to write what is held and then `data`.
    fn begin(&mut self, data: &[u8]) {
        let batch = [self.held.bytes().as_slice(), data].concat();
        let uid = self.uid;
        let work = self.log.run(move |log| Ok(log.append(uid, &batch)));
        self.writing.begin(data.len(), work);
    }

    fn hold(&mut self, data: &[u8]) {
        let mut held = self.held.bytes();
        let now = Instant::now();
        if held.is_empty() {
            self.held_since = now;
        }
        held.extend_from_slice(data);
        let latest = self.held_since + limits::DOMAIN_LINE_HELD;
        self.due.as_mut().reset(latest.min(now + limits::DOMAIN_LINE_QUIET));
    }

    /// Takes in what was written of a batch; returns how much of it was not held.
    fn on_appended(&mut self, appended: Result<Appended, Error>) -> Result<usize, Error> {
        let Appended { bytes, result } = appended?;
        self.trouble = result.err();
        let mut held = self.held.bytes();
        let of_held = bytes.min(held.len());
        held.drain(..of_held);
        if held.is_empty() {
            // An idle device keeps no buffer.
            held.shrink_to_fit();
        }
        match self.trouble.take() {
            Some(error) if bytes == of_held => Err(error),
            trouble => {
                self.trouble = trouble;
                Ok(bytes - of_held)
            }
        }
    }

    /// Writes what is held, if it is time for it. Never ready but with an error.
    fn poll_held(&mut self, cx: &mut Context<'_>, when: When) -> Poll<Error> {
        loop {
            match self.writing.bytes() {
                // Offered bytes are `poll_write`'s.
                Some(1..) => return Poll::Pending,
                Some(0) => {
                    let appended = ready!(self.writing.poll(cx));
                    if let Some(Err(error)) = appended.map(|appended| self.on_appended(appended)) {
                        return Poll::Ready(error);
                    }
                }
                None => {
                    if let Some(error) = self.trouble.take() {
                        return Poll::Ready(error);
                    }
                    if self.held.bytes().is_empty() {
                        return Poll::Pending;
                    }
                    if when == When::Due {
                        ready!(self.due.as_mut().poll(cx));
                    }
                    self.begin(&[]);
                }
            }
        }
    }
}

impl Link for StdioLink {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        self.poll_held(cx, When::Due).map(Err)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        loop {
            if let Some(appended) = ready!(self.writing.poll(cx)) {
                match self.on_appended(appended) {
                    Ok(0) => {}
                    result => return Poll::Ready(result),
                }
            }
            if let Some(error) = self.trouble.take() {
                return Poll::Ready(Err(error));
            }
            let data = &data[..data.len().min(limits::FILE_WRITE_BYTES_MAX)];
            let lines = data.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            let too_long = self.held.bytes().len() + data.len() >= limits::DOMAIN_LINE_BYTES_MAX;
            match lines.or(too_long.then_some(data.len())) {
                Some(now) => self.begin(&data[..now]),
                None => {
                    self.hold(data);
                    return Poll::Ready(Ok(data.len()));
                }
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.writing.bytes().unwrap_or(0)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_held(cx, When::Now) {
            // What is left is counted when the backend goes.
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending if self.writing.bytes().is_some() => Poll::Pending,
            Poll::Pending => Poll::Ready(()),
        }
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}
