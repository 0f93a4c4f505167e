//! The `pty` host interface: a pseudo terminal, raw and 8 bit, for a program on
//! this host to open.
//!
//! The backend holds the slave open itself: the master then never reports a
//! hang-up, so programs may come and go without a lost link or a spinning loop,
//! and the terminal's settings stay. A program may change them, and what it
//! leaves behind is what the next one finds (with `stty sane`, an echo of our
//! input): whoever holds the slave open is not told that others have left, so
//! there is no moment to set them back. Input that nobody reads waits in the
//! kernel's buffer (4 KiB), then in the line's queue.
//!
//! The slave's name changes with each start of the device; a link to it, if the
//! spec has one, does not. See `left_over` for what may be replaced.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll},
};

use rustix::{
    io::Errno,
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt},
    termios::{OptionalActions, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use tokio::{io::ReadBuf, task::spawn_blocking};

use super::{
    Allow, Backend, BoxFuture, Control, ControlError, Error, Link, OpenError, Place, Read, Role,
    descriptor::Descriptor,
    left_over::{Made, Own, remove_left_over},
    stream::Stream,
};
use crate::device::{Facts, PtySpec, WindowSize};

/// A pseudo terminal.
#[derive(Debug)]
pub(super) struct Pty {
    spec: PtySpec,
    note: PathBuf,
    allow: Arc<Allow>,
    terminal: Option<Terminal>,
    link: Option<Own>,
}

#[derive(Debug)]
struct Terminal {
    /// Shared with the link, so that a device costs two descriptors.
    master: Arc<File>,
    /// Held open; see the module doc.
    _slave: OwnedFd,
    path: String,
}

impl Pty {
    /// `note` is where the link is noted.
    pub(super) fn new(spec: PtySpec, note: PathBuf, allow: Arc<Allow>) -> Self {
        Self { spec, note, allow, terminal: None, link: None }
    }

    fn terminal(&mut self) -> Result<&Terminal, Error> {
        match &mut self.terminal {
            Some(terminal) => Ok(terminal),
            none => Ok(none.insert(make(self.spec.window).map_err(Error::Pty)?)),
        }
    }

    async fn make_place(&mut self) -> Result<Place, Error> {
        let path = self.terminal()?.path.clone();
        if let (Some(link), None) = (&self.spec.link, &self.link) {
            let (allow, link, note) = (self.allow.clone(), link.clone(), self.note.clone());
            let failed = OpenError::failed(&link);
            let target = PathBuf::from(&path);
            let made = spawn_blocking(move || make_link(&allow, &link, &target, &note)).await;
            self.link = Some(made.map_err(|gone| failed(io::Error::other(gone)))??);
        }
        Ok(Place { listen_address: None, pty_path: Some(path) })
    }
}

fn make(window: Option<WindowSize>) -> io::Result<Terminal> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let mut settings = tcgetattr(&slave)?;
    settings.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &settings)?;
    if let Some(window) = window {
        set_window(&slave, window)?;
    }
    rustix::io::ioctl_fionbio(&master, true)?;
    let path = ptsname(&master, Vec::new())?.into_string().map_err(io::Error::other)?;
    Ok(Terminal { master: Arc::new(master.into()), _slave: slave, path })
}

/// Makes the link, in place of our own left-over if there is one. Blocks.
fn make_link(allow: &Allow, link: &Path, target: &Path, note: &Path) -> Result<Own, Error> {
    let folder = allow.open_folder(link)?;
    let identity = match folder.symlink(target) {
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            remove_left_over(&folder, note)?;
            folder.symlink(target)?
        }
        result => result?,
    };
    let failed = OpenError::failed(link);
    Made::new(folder, identity).note(note).map_err(|source| failed(source).into())
}

fn set_window(terminal: impl std::os::fd::AsFd, window: WindowSize) -> rustix::io::Result<()> {
    let WindowSize { rows, columns } = window;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // Programs in the foreground are told by SIGWINCH.
    tcsetwinsize(terminal, size)
}

impl Backend for Pty {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(self.make_place())
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(async {
            let master = self.terminal()?.master.clone();
            let io = Descriptor::new(master.clone()).map_err(Error::Pty)?;
            Ok(Box::new(Master { bytes: Stream::new(io, None), master }) as Box<dyn Link>)
        })
    }
}

/// The master as a link: bytes, and the size of the window. What asks for a
/// window is answered at once: a pty has no hardware to wait for.
struct Master {
    bytes: Stream<Descriptor>,
    master: Arc<File>,
}

impl Link for Master {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        self.bytes.poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        self.bytes.poll_write(cx, data)
    }

    fn poll_control(
        &mut self,
        _cx: &mut Context<'_>,
        control: &Control,
    ) -> Poll<Result<(), ControlError>> {
        Poll::Ready(match control {
            Control::Window(window) => {
                let failed =
                    |errno: Errno| ControlError::Failed(io::Error::from(errno).to_string());
                set_window(&self.master, *window).map_err(failed)
            }
            Control::Break(_) | Control::LineSettings(_) | Control::ModemLines { .. } => {
                Err(ControlError::Unsupported(control.name()))
            }
        })
    }

    fn facts(&self) -> Facts {
        // Programs on the slave may set it too.
        let size = tcgetwinsize(&self.master).ok();
        let window = size.map(|size| WindowSize { rows: size.ws_row, columns: size.ws_col });
        Facts {
            window: window.filter(|window| *window != WindowSize::default()),
            ..Facts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn only_our_own_left_over_gives_way_to_the_link() {
        let dir = tempfile::tempdir().unwrap();
        let allow = Arc::new(Allow { folders: vec![dir.path().to_owned()], ..Allow::default() });
        let (path, note) = (dir.path().join("console"), dir.path().join("note"));
        let spec = PtySpec { link: Some(path.clone()), window: None };
        let pty = || Pty::new(spec.clone(), note.clone(), allow.clone());

        let mut first = pty();
        let place = first.prepare().await.unwrap();
        let target = || std::fs::read_link(&path).unwrap().display().to_string();
        assert_eq!(Some(target()), place.pty_path);
        // Killed: what was made stays, with its note.
        let own = first.link.take();
        std::mem::forget(own);
        let mut second = pty();
        let place = second.prepare().await.unwrap();
        assert_eq!(Some(target()), place.pty_path);
        // Made anew, again and again: the removal never meets the next one.
        for _ in 0..100 {
            second = pty();
            let place = second.prepare().await.unwrap();
            assert_eq!(Some(target()), place.pty_path);
        }

        // The same to look at, and not ours.
        let theirs = target();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&theirs, &path).unwrap();
        let error = pty().prepare().await.unwrap_err();
        assert!(matches!(error, Error::NotOurs { .. }), "{error}");
        drop(second);
        assert_eq!(target(), theirs);
    }
}
