//! An open serial port as a link.
//!
//! Bytes go through the descriptor itself and never wait. What a driver may take
//! its time for (settings, modem lines, breaks: an adapter on USB is asked over
//! the bus, and may hang) is a job on a thread for blocking work, one at a time;
//! a thread that never comes back holds up further jobs, which then fail after
//! `limits::CONTROL_TIMEOUT`, and nothing else.
//!
//! Modem lines and error counts do not tell when they change, and a timer for
//! idle ports is too dear. So the driver is asked `limits::PORT_LOOK` after bytes
//! came, after each control, and when somebody asks how the line is set. Overruns
//! are thus recorded as a gap near the place where they happened, at most one
//! such interval behind it.

use std::{
    fs::File,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
    sync::Semaphore,
    task::spawn_blocking,
    time::{Sleep, sleep, timeout},
};

use super::{
    super::{BoxFuture, Control, ControlError, Error, Link, Read, descriptor::Descriptor},
    ioctl::{self, Counts},
    marks::Marks,
    port::{self, Hardware, Known, Port},
    settings::OnClose,
};
use crate::{
    device::{Facts, ModemLines},
    limits,
};

/// An open port.
pub(super) struct Serial {
    io: Descriptor,
    worker: Worker,
    job: Option<Job>,
    known: Known,
    /// What the driver had counted when the port was opened.
    opened_at: Option<Counts>,
    /// Set while bytes came that the driver was not asked about yet.
    look: Option<Pin<Box<Sleep>>>,
    marks: Marks,
    /// What came behind a break, marks and all.
    rest: Vec<u8>,
    /// Told by the reads that follow.
    tell_break: bool,
    tell_lost: u64,
    tell_changed: bool,
    /// Behind all that uses its descriptor.
    port: Port,
}

/// Something the driver is asked to do.
struct Job {
    what: What,
    done: BoxFuture<'static, Result<Known, ControlError>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Look,
    Control(Control),
}

impl Serial {
    pub(super) fn new(port: Port, known: Known, on_close: OnClose) -> io::Result<Self> {
        let file = port.file();
        Ok(Self {
            io: Descriptor::new(file.clone())?,
            worker: Worker { file, free: Arc::new(Semaphore::new(1)), on_close },
            job: None,
            known,
            opened_at: known.counts,
            look: None,
            marks: Marks::default(),
            rest: Vec::new(),
            tell_break: false,
            tell_lost: 0,
            tell_changed: false,
            port,
        })
    }

    /// Has a job done, behind the one that is being done.
    fn poll_job(&mut self, cx: &mut Context<'_>, wanted: What) -> Poll<Result<(), ControlError>> {
        loop {
            let job = match &mut self.job {
                Some(job) => job,
                none => none.insert(self.worker.job(wanted)),
            };
            let result = ready!(job.done.as_mut().poll(cx));
            let what = job.what;
            self.job = None;
            let result = result.map(|known| self.learn(known));
            if what == wanted {
                return Poll::Ready(result);
            }
        }
    }

    /// Takes in what a look has shown.
    fn learn(&mut self, known: Known) {
        let errors = self.receive_errors();
        let overruns = |known: &Known| known.counts.map_or(0, |counts| counts.overruns);
        // The driver's counters are 32 bits wide and go round.
        self.tell_lost += u64::from(overruns(&known).wrapping_sub(overruns(&self.known)));
        self.tell_changed |=
            (self.known.settings, self.known.lines) != (known.settings, known.lines);
        self.known = known;
        self.tell_changed |= self.receive_errors() != errors;
    }

    /// Characters with a wrong check bit or no stop bit. The driver's count, or
    /// else what was marked.
    fn receive_errors(&self) -> u64 {
        match (self.known.counts, self.opened_at) {
            (Some(now), Some(then)) => {
                u64::from(now.frame.wrapping_sub(then.frame))
                    + u64::from(now.parity.wrapping_sub(then.parity))
            }
            _ => self.marks.faulty(),
        }
    }

    /// Looks when it is time to; never ready otherwise.
    fn poll_looks(&mut self, cx: &mut Context<'_>) {
        if let Some(look) = &mut self.look
            && look.as_mut().poll(cx).is_ready()
        {
            self.look = None;
            if self.job.is_none() {
                self.job = Some(self.worker.job(What::Look));
            }
        }
        if self.job.as_ref().is_some_and(|job| job.what == What::Look) {
            // A driver that does not answer is told to those who ask.
            let _seen_by_the_reads_that_follow = self.poll_job(cx, What::Look);
        }
    }

    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.rest.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf)).map_err(broken)?;
            // Zero bytes of a terminal are a hang-up.
            if buf.filled().is_empty() {
                return Poll::Ready(Err(Error::HungUp));
            }
            // A pty has nothing to look for.
            if self.known.lines.is_some() || self.known.counts.is_some() {
                self.look.get_or_insert_with(|| Box::pin(sleep(limits::PORT_LOOK)));
            }
        } else {
            buf.put_slice(&mem::take(&mut self.rest));
        }
        Poll::Ready(Ok(()))
    }
}

impl Link for Serial {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        loop {
            if mem::take(&mut self.tell_break) {
                return Poll::Ready(Ok(Read::Break));
            }
            self.poll_looks(cx);
            match mem::take(&mut self.tell_lost) {
                0 => {}
                lost => return Poll::Ready(Ok(Read::Lost(lost))),
            }
            if mem::take(&mut self.tell_changed) {
                return Poll::Ready(Ok(Read::Changed));
            }
            ready!(self.poll_more(cx, buf))?;
            let piece = buf.filled_mut();
            let decoded = self.marks.decode(piece);
            self.rest = piece[decoded.taken..].to_vec();
            self.tell_break = decoded.is_break;
            buf.set_filled(decoded.kept);
            if decoded.kept > 0 {
                return Poll::Ready(Ok(Read::Bytes));
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        match ready!(Pin::new(&mut self.io).poll_write(cx, data)) {
            Ok(0) => Poll::Ready(Err(Error::HungUp)),
            result => Poll::Ready(result.map_err(broken)),
        }
    }

    fn poll_control(
        &mut self,
        cx: &mut Context<'_>,
        control: &Control,
    ) -> Poll<Result<(), ControlError>> {
        // Drivers without breaks say that they did it; of ptys it is certain.
        let is_missing = match control {
            Control::Break(_) => self.port.hardware() == Hardware::Pty,
            Control::Window(_) => true,
            Control::LineSettings(_) | Control::ModemLines { .. } => false,
        };
        if is_missing {
            return Poll::Ready(Err(ControlError::Unsupported(control.name())));
        }
        self.poll_job(cx, What::Control(*control))
    }

    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ControlError>> {
        self.poll_job(cx, What::Look)
    }

    fn facts(&self) -> Facts {
        Facts {
            line_settings: Some(self.known.settings),
            modem_lines: self.known.lines,
            receive_errors: self.receive_errors(),
            ..Facts::default()
        }
    }
}

/// EIO is how a driver says that its hardware is gone.
fn broken(error: io::Error) -> Error {
    if error.raw_os_error() == Some(Errno::IO.raw_os_error()) {
        Error::HungUp
    } else {
        Error::Broken(error)
    }
}

/// Asks the driver, on threads that may wait.
#[derive(Debug, Clone)]
struct Worker {
    file: Arc<File>,
    /// One thread at a time.
    free: Arc<Semaphore>,
    on_close: OnClose,
}

impl Worker {
    fn job(&self, what: What) -> Job {
        let worker = self.clone();
        let done: BoxFuture<'static, _> = match what {
            What::Look => Box::pin(async move { worker.look().await }),
            What::Control(control) => Box::pin(async move {
                let name = control.name();
                worker.obey(control).await.map_err(|failure| failure.told(name))?;
                worker.look().await
            }),
        };
        Job { what, done }
    }

    async fn look(&self) -> Result<Known, ControlError> {
        let looked = self.on_thread(|file| port::look(&file).map_err(Failure::Io)).await;
        looked.map_err(|failure| failure.told("line settings"))
    }

    async fn obey(&self, control: Control) -> Result<(), Failure> {
        match control {
            Control::Break(duration) => self.send_break(duration).await,
            Control::LineSettings(settings) => {
                let on_close = self.on_close;
                let set = move |file: Arc<File>| {
                    port::set(&file, &settings, on_close)
                        .map_err(|unset| Failure::Told(unset.to_string()))
                };
                self.on_thread(set).await
            }
            Control::ModemLines { dtr, rts } => {
                let named = |wanted: bool| {
                    let [dtr, rts] =
                        [(dtr, ModemLines::DTR), (rts, ModemLines::RTS)].map(|(said, line)| {
                            if said == Some(wanted) { line } else { ModemLines::NONE }
                        });
                    dtr | rts
                };
                let (on, off) = (named(true), named(false));
                let set = move |file: Arc<File>| {
                    ioctl::set_modem_lines(&file, on, off).map_err(Failure::Io)
                };
                self.on_thread(set).await
            }
            // Asked of nobody: `poll_control` has answered.
            Control::Window(_) => Err(Failure::Missing),
        }
    }

    async fn send_break(&self, duration: Duration) -> Result<(), Failure> {
        let begin = |file: Arc<File>| {
            ioctl::hold_break(&file).map_err(Failure::Io)?;
            Ok(HeldBreak(Some(file)))
        };
        // Given up or not, the break ends when this is dropped.
        let mut held = self.on_thread(begin).await?;
        sleep(duration).await;
        let end = |file: Arc<File>| ioctl::end_break(&file).map_err(Failure::Io);
        self.on_thread(end).await?;
        held.0 = None;
        Ok(())
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<File>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let on_thread = async {
            let free = self.free.clone().acquire_owned().await;
            let file = self.file.clone();
            let working = spawn_blocking(move || {
                let done = work(file);
                drop(free);
                done
            });
            working.await.unwrap_or_else(|gone| Err(Failure::Told(gone.to_string())))
        };
        timeout(limits::CONTROL_TIMEOUT, on_thread).await.unwrap_or(Err(Failure::Late))
    }
}

/// Why the driver did not do it.
enum Failure {
    /// It has no such thing.
    Missing,
    /// It does not come back.
    Late,
    /// In its words.
    Io(io::Error),
    /// In ours.
    Told(String),
}

impl Failure {
    fn told(self, what: &'static str) -> ControlError {
        match self {
            Self::Missing => ControlError::Unsupported(what),
            Self::Io(error) if ioctl::is_missing(&error) => ControlError::Unsupported(what),
            Self::Io(error) => ControlError::Failed(format!("the port did not do it: {error}")),
            Self::Told(text) => ControlError::Failed(text),
            Self::Late => ControlError::Failed(format!(
                "the port did not do it within {:?}; perhaps flow control holds back what was \
                 written",
                limits::CONTROL_TIMEOUT
            )),
        }
    }
}

/// A line in the break state; dropping it ends that.
#[derive(Debug)]
struct HeldBreak(Option<Arc<File>>);

impl Drop for HeldBreak {
    fn drop(&mut self) {
        let Some(file) = self.0.take() else { return };
        let end = move || ioctl::end_break(&file).ok();
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(end)),
            Err(_) => drop(end()),
        }
    }
}
