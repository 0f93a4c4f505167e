//! A serial port that is ours: opened, held against others, set, and given back.
//! Everything but dropping it blocks.
//!
//! Two things hold it. `flock` keeps out another device of this server, by
//! whatever link it names the node, and programs that take the lock too (ser2net,
//! picocom, everything on serialport). `TIOCEXCL` keeps out whoever just opens
//! it, unless privileged; that others have said so is honoured, privileged or
//! not. A pty only gets the lock: its `TIOCEXCL` stays until its master goes, so
//! a killed server would have locked itself out. Lock files in `/var/lock`
//! (UUCP) are neither made nor looked at: they need a folder of their own
//! permissions and stay behind.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock, major},
    io::Errno,
    termios::{
        OptionalActions, QueueSelector, ioctl_tiocexcl, ioctl_tiocnxcl, isatty, tcflush, tcgetattr,
        tcsetattr,
    },
};
use tokio::runtime::Handle;

use super::{
    super::{Allow, Error, Kind, OpenError, host_device::PTY_MAJORS},
    ioctl::{self, Counts},
    settings::{self, OnClose, Unset},
};
use crate::{
    device::{DevSpec, LineSettings, ModemLines},
    limits,
};

/// Between two looks at what others must finish first.
const LOOK: Duration = Duration::from_millis(10);
/// How long a lock is waited for: the link before this one may still be sending
/// what it was given.
const HANDOVER: Duration = limits::PORT_CLOSE_DRAIN.saturating_add(Duration::from_millis(250));

/// What is known of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// As the kernel has them.
    pub(super) settings: LineSettings,
    /// Where it has some.
    pub(super) lines: Option<ModemLines>,
    /// Where it counts.
    pub(super) counts: Option<Counts>,
}

/// An open port. Dropping it closes it, on a thread that may wait for it.
#[derive(Debug)]
pub(super) struct Port {
    file: Arc<File>,
    path: PathBuf,
    hardware: Hardware,
}

/// What is behind the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hardware {
    /// A driver of a real port, as far as is known.
    Real,
    /// Another program.
    Pty,
}

impl Port {
    /// Opens what the spec names, as the spec says.
    pub(super) fn open(allow: &Allow, spec: &DevSpec) -> Result<(Self, Known), Error> {
        let path = &spec.path;
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let file = File::from(allow.open_device(path, OFlags::RDWR).map_err(|e| busy(path, e))?);
        let number = file.metadata().map_err(failed)?.rdev();
        if !isatty(&file) {
            let found = super::kind_of(number);
            let path = path.clone();
            return Err(OpenError::Kind { path, found, wanted: Kind::Terminal }.into());
        }
        let is_pty = PTY_MAJORS.contains(&major(number));
        let hardware = if is_pty { Hardware::Pty } else { Hardware::Real };
        hold(&file, hardware).map_err(|error| busy(path, failed(error)))?;
        // Only now: what is another's must not be flushed and given back.
        let port = Self { file: Arc::new(file), path: path.clone(), hardware };
        let wanted = spec.line_settings.unwrap_or_default();
        let unset = |source: Unset| Error::Settings { path: path.clone(), source: source.into() };
        set(&port.file, &wanted, on_close(spec)).map_err(unset)?;
        let known = look(&port.file).map_err(failed)?;
        Ok((port, known))
    }

    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    pub(super) fn hardware(&self) -> Hardware {
        self.hardware
    }
}

/// Keeps others out, or fails because they do (`ResourceBusy`).
fn hold(port: &File, hardware: Hardware) -> io::Result<()> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        match flock(port, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => pause(),
            Err(Errno::WOULDBLOCK) => return Err(Errno::BUSY.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
    if ioctl::is_exclusive(port)? {
        return Err(Errno::BUSY.into());
    }
    match hardware {
        Hardware::Real => Ok(ioctl_tiocexcl(port)?),
        Hardware::Pty => Ok(()),
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let (file, path, hardware) = (self.file.clone(), self.path.clone(), self.hardware);
        let close = move || close(&file, &path, hardware);
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(close)),
            Err(_) => close(),
        }
    }
}

/// What the spec says of DTR.
pub(super) fn on_close(spec: &DevSpec) -> OnClose {
    if spec.hangup_on_close.is_on() { OnClose::DropDtr } else { OnClose::KeepDtr }
}

/// Sets the port, or leaves it as it was.
pub(super) fn set(port: &File, wanted: &LineSettings, on_close: OnClose) -> Result<(), Unset> {
    let before = tcgetattr(port).map_err(io::Error::from)?;
    let mut termios = before.clone();
    settings::apply(&mut termios, wanted, on_close)?;
    let write = |termios| tcsetattr(port, OptionalActions::Now, termios).map_err(io::Error::from);
    write(&termios)?;
    let got = settings::read(&tcgetattr(port).map_err(io::Error::from)?);
    settings::check(wanted, &got).inspect_err(|_| {
        // What fails here is told by the next look.
        write(&before).ok();
    })
}

/// Asks the driver what there is to know.
pub(super) fn look(port: &File) -> io::Result<Known> {
    let settings = settings::read(&tcgetattr(port)?);
    Ok(Known { settings, lines: ioctl::modem_lines(port)?, counts: ioctl::counts(port)? })
}

/// Lets what was written be sent for a moment, and closes. Without a bound the
/// kernel would wait up to 30 s for a far side that holds us back.
fn close(port: &File, path: &Path, hardware: Hardware) {
    let deadline = Instant::now() + limits::PORT_CLOSE_DRAIN;
    // A port that was pulled out answers with an error: nothing waits.
    let left = loop {
        match ioctl::unsent(port) {
            Ok(0) | Err(_) => break 0,
            Ok(left) if Instant::now() >= deadline => break left,
            Ok(_) => pause(),
        }
    };
    if left > 0 {
        tracing::warn!(path = %path.display(), bytes = left, "input dropped: the far side did not take it in time");
        tcflush(port, QueueSelector::OFlush).ok();
    }
    if hardware == Hardware::Real {
        ioctl_tiocnxcl(port).ok();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kernel has no way to wait for a lock or for a port with a deadline; this is on a \
              thread for blocking work, and its callers have deadlines"
)]
fn pause() {
    sleep(LOOK);
}

/// The kernel's way to say that somebody else has it to himself.
fn busy(path: &Path, error: OpenError) -> Error {
    let is_busy = matches!(
        &error,
        OpenError::Io { source, .. } if source.kind() == io::ErrorKind::ResourceBusy
    );
    if is_busy { Error::InUse { path: path.to_owned() } } else { error.into() }
}
