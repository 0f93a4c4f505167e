//! The `pipe` host interface: named pipes, as QEMU names them. The device reads
//! its output from `PATH.in` and writes its input to `PATH.out`; without that
//! pair, one FIFO at `PATH` carries one direction.
//!
//! Each end is opened for reading and writing and does not wait. So nobody's
//! coming or going is seen, and nobody is needed: what is written while nobody
//! reads stays in the pipe (64 KiB on Linux) for the next reader, and beyond that
//! input waits in the line's queue. We never read from a FIFO that we write to: it
//! would give back our own input. What is in a pipe lasts for as long as somebody
//! has it open, so what nobody has read is gone when the device is stopped.
//!
//! A FIFO that is deleted or replaced while it is open has no end: the kernel
//! tells nobody. Its count of names does tell, and is looked at when input would
//! wait and every `limits::PIPE_LOOK_INTERVAL`; then the link is lost and the new
//! one is opened. One that was moved aside, or has another name still, is not
//! noticed before the device is started again.
//!
//! FIFOs that we made are ours until the device is deleted or gets another path,
//! over stops and restarts: whoever uses them keeps what it has open. A note (in
//! the state folder, `UID.fifos`) says which; only what matches it is removed.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::fs::{Mode, OFlags};
use tokio::{
    io::{Interest, ReadBuf, unix::AsyncFd},
    task::spawn_blocking,
    time::{Instant, Sleep, sleep},
};

use super::{
    Allow, Backend, BoxFuture, Environment, Error, Folder, Link, OpenError, Place, Read, Role,
    remove_if_there,
};
use crate::{
    device::{Facts, PipeSpec, SinglePipe, Uid},
    limits,
};

/// Only the server's own user, unless the operator changes it.
const FIFO_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Named pipes.
#[derive(Debug)]
pub(super) struct Pipe {
    spec: PipeSpec,
    note: PathBuf,
    allow: Arc<Allow>,
}

impl Pipe {
    pub(super) fn new(spec: PipeSpec, uid: Uid, environment: &Environment) -> Self {
        Self { spec, note: note(uid, environment), allow: environment.allow.clone() }
    }

    async fn connect(&self) -> Result<Box<dyn Link>, Error> {
        let (spec, note, allow) = (self.spec.clone(), self.note.clone(), self.allow.clone());
        let opened = spawn_blocking(move || open(&spec, &note, &allow)).await;
        let Opened { reads, writes } =
            opened.map_err(|error| Error::Broken(io::Error::other(error)))??;
        let end = |(file, path), interest| End::new(file, path, interest).map_err(Error::Broken);
        Ok(Box::new(Fifos {
            reads: reads.map(|opened| end(opened, Interest::READABLE)).transpose()?,
            writes: writes.map(|opened| end(opened, Interest::WRITABLE)).transpose()?,
            look: Box::pin(sleep(limits::PIPE_LOOK_INTERVAL)),
        }))
    }
}

impl Backend for Pipe {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(async { Ok(Place::default()) })
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(self.connect())
    }
}

/// FIFOs that are open; at least one of them is there.
#[derive(Debug)]
struct Fifos {
    reads: Option<End>,
    writes: Option<End>,
    /// When their names are looked at next.
    look: Pin<Box<Sleep>>,
}

impl Fifos {
    fn check_names(&self) -> Result<(), Error> {
        match self.reads.iter().chain(&self.writes).find(|end| end.has_no_name()) {
            Some(end) => Err(Error::Replaced { path: end.path.clone() }),
            None => Ok(()),
        }
    }
}

impl Link for Fifos {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        if let Some(reads) = &self.reads
            && let Poll::Ready(result) = reads.poll_read(cx, buf)
        {
            result.map_err(Error::Broken)?;
            // We hold the writing end too, so there is no end; if a kernel tells
            // one all the same, it is not to be asked again and again.
            let ended = buf.filled().is_empty();
            return Poll::Ready(Ok(if ended { Read::End } else { Read::Bytes }));
        }
        // Only once all that was in it is read.
        while self.look.as_mut().poll(cx).is_ready() {
            self.check_names()?;
            self.look.as_mut().reset(Instant::now() + limits::PIPE_LOOK_INTERVAL);
        }
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        let Some(writes) = &self.writes else {
            return Poll::Ready(Err(Error::Broken(io::ErrorKind::Unsupported.into())));
        };
        match writes.poll_write(cx, data) {
            Poll::Ready(result) => Poll::Ready(result.map_err(Error::Broken)),
            // It is full: perhaps because nobody can find it any more.
            Poll::Pending => {
                self.check_names()?;
                Poll::Pending
            }
        }
    }

    fn takes_input(&self) -> bool {
        self.writes.is_some()
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}

/// One FIFO, of which one direction is used.
#[derive(Debug)]
struct End {
    fd: AsyncFd<File>,
    path: PathBuf,
}

impl End {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe because of types whose descriptor changes or closes \
                  early; a File owns one descriptor from beginning to end (tokio-rs/tokio#8587)"
    )]
    fn new(file: File, path: PathBuf, interest: Interest) -> io::Result<Self> {
        // Of one direction only: we hold both ends, so each write would wake us to
        // read it back.
        Ok(Self { fd: AsyncFd::with_interest(file, interest)?, path })
    }

    /// Whether it was deleted, or something else has its name. Asks the open
    /// file, so no folder is walked and no disk is waited for.
    fn has_no_name(&self) -> bool {
        rustix::fs::fstat(self.fd.get_ref().as_fd()).is_ok_and(|stat| stat.st_nlink == 0)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(cx))?;
            match ready.try_io(|fd| fd.get_ref().read(buf.initialize_unfilled())) {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.fd.poll_write_ready(cx))?;
            match ready.try_io(|fd| fd.get_ref().write(data)) {
                Ok(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }
}

/// What was found at the path, open.
struct Opened {
    reads: Option<(File, PathBuf)>,
    writes: Option<(File, PathBuf)>,
}

/// Opens the pair, or the one; makes what is missing if that is wanted. Blocks.
fn open(spec: &PipeSpec, note: &Path, allow: &Allow) -> Result<Opened, Error> {
    let single = allow.open_folder(&spec.path)?;
    let (reads, writes) = (suffixed(&single, ".in")?, suffixed(&single, ".out")?);
    let mut made = Made::read(note);
    made.keep_only(&[reads.path(), writes.path()], allow);
    let making = if spec.create.is_on() { made.make_missing(&[&reads, &writes]) } else { Ok(()) };
    // Also what was made before it failed.
    made.write(note).map_err(|source| OpenError::Io { path: note.to_owned(), source })?;
    making?;
    match (is_there(&reads)?, is_there(&writes)?) {
        (true, true) => Ok(Opened { reads: Some(fifo(&reads)?), writes: Some(fifo(&writes)?) }),
        (_, _) if is_there(&single)? => {
            let opened = Some(fifo(&single)?);
            Ok(match spec.single {
                SinglePipe::Output => Opened { reads: opened, writes: None },
                SinglePipe::Input => Opened { reads: None, writes: opened },
            })
        }
        // Opening tells which of the two is missing.
        (true, false) => fifo(&writes).and(Err(Error::NoFifo { path: spec.path.clone() })),
        (false, true) => fifo(&reads).and(Err(Error::NoFifo { path: spec.path.clone() })),
        (false, false) => Err(Error::NoFifo { path: spec.path.clone() }),
    }
}

/// Opened so that it never waits, and has both ends whoever comes and goes.
fn fifo(folder: &Folder) -> Result<(File, PathBuf), Error> {
    Ok((folder.open_fifo(OFlags::RDWR | OFlags::CLOEXEC)?, folder.path().to_owned()))
}

fn suffixed(single: &Folder, suffix: &str) -> Result<Folder, OpenError> {
    let mut name = single.path().file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    single.sibling(&name)
}

fn is_there(folder: &Folder) -> Result<bool, OpenError> {
    match folder.identity() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(OpenError::Io { path: folder.path().to_owned(), source }),
    }
}

/// Removes the FIFOs that were made for a device, and the note of them. Blocks.
pub(super) fn forget(uid: Uid, environment: &Environment) -> io::Result<()> {
    let note = note(uid, environment);
    let mut made = Made::read(&note);
    made.keep_only(&[], &environment.allow);
    remove_if_there(&note)
}

fn note(uid: Uid, environment: &Environment) -> PathBuf {
    environment.notes_dir.join(format!("{uid}.fifos"))
}

/// The FIFOs that we made for one device: at most a pair.
#[derive(Debug, Default)]
struct Made {
    fifos: Vec<MadeFifo>,
    changed: bool,
}

#[derive(Debug)]
struct MadeFifo {
    /// [`super::Identity::lasting`].
    identity: String,
    path: PathBuf,
}

impl Made {
    /// What the note says; nothing if there is none, or if it cannot be
    /// understood: then nothing is ours.
    fn read(note: &Path) -> Self {
        let text = fs::read_to_string(note).unwrap_or_default();
        let fifos = text.lines().filter_map(|line| {
            let path = line.splitn(4, ' ').nth(3)?;
            let identity = line.strip_suffix(path)?.trim_end().to_owned();
            Some(MadeFifo { identity, path: path.into() })
        });
        Self { fifos: fifos.collect(), changed: false }
    }

    /// Only if something was made or removed.
    fn write(&self, note: &Path) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        if self.fifos.is_empty() {
            return remove_if_there(note);
        }
        if let Some(folder) = note.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut text = Vec::new();
        for MadeFifo { identity, path } in &self.fifos {
            text.extend_from_slice(identity.as_bytes());
            text.push(b' ');
            text.extend_from_slice(path.as_os_str().as_bytes());
            text.push(b'\n');
        }
        fs::write(note, text)
    }

    fn make_missing(&mut self, folders: &[&Folder]) -> Result<(), OpenError> {
        for folder in folders {
            if !is_there(folder)? {
                self.make(folder)?;
            }
        }
        Ok(())
    }

    fn make(&mut self, folder: &Folder) -> Result<(), OpenError> {
        let identity = folder.make_fifo(FIFO_MODE)?;
        self.changed = true;
        self.fifos.retain(|made| made.path != folder.path());
        match identity.lasting() {
            Some(identity) => {
                self.fifos.push(MadeFifo { identity, path: folder.path().to_owned() });
            }
            None => {
                let path = folder.path().display();
                tracing::warn!(%path, "the file system does not tell when a FIFO was made: it will be left there when the device is deleted");
            }
        }
        Ok(())
    }

    /// Removes those at other paths, unless somebody has replaced them.
    fn keep_only(&mut self, paths: &[&Path], allow: &Allow) {
        let before = self.fifos.len();
        self.fifos.retain(|made| {
            let keep = paths.contains(&made.path.as_path());
            if !keep && let Err(error) = made.remove(allow) {
                let path = made.path.display();
                tracing::warn!(%path, error = %error, "FIFO not removed");
            }
            keep
        });
        self.changed |= self.fifos.len() != before;
    }
}

impl MadeFifo {
    fn remove(&self, allow: &Allow) -> Result<(), OpenError> {
        let folder = allow.open_folder(&self.path)?;
        let removal = folder.unlink_lasting(&self.identity);
        removal.map(drop).map_err(|source| OpenError::Io { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests;
