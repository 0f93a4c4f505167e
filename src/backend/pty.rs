//! The `pty` host interface: a pseudo terminal, raw and 8 bit, for a program on
//! this host to open.
//!
//! The backend holds the slave open itself: the master then never reports a
//! hang-up, so programs may come and go without a lost link or a spinning loop,
//! and the terminal's settings stay. Input that nobody reads waits in the
//! kernel's buffer (4 KiB), then in the line's queue.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};

use super::{Backend, BoxFuture, Error, Link, Place, Role, stream::Stream};

/// A pseudo terminal.
#[derive(Debug, Default)]
pub(super) struct Pty {
    terminal: Option<Terminal>,
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
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn make() -> io::Result<Terminal> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let mut settings = tcgetattr(&slave)?;
        settings.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &settings)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        let path = ptsname(&master, Vec::new())?.into_string().map_err(io::Error::other)?;
        Ok(Terminal { master: Arc::new(master.into()), _slave: slave, path })
    }
}

impl Backend for Pty {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(async {
            let terminal = match &mut self.terminal {
                Some(terminal) => terminal,
                none => none.insert(Self::make().map_err(Error::Pty)?),
            };
            Ok(Place { listen_address: None, pty_path: Some(terminal.path.clone()) })
        })
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(async {
            let terminal = match &mut self.terminal {
                Some(terminal) => terminal,
                none => none.insert(Self::make().map_err(Error::Pty)?),
            };
            let io = Master::new(terminal.master.clone()).map_err(Error::Pty)?;
            Ok(Box::new(Stream::new(io, None)) as Box<dyn Link>)
        })
    }
}

/// The master as a stream of bytes.
#[derive(Debug)]
struct Master(AsyncFd<Arc<File>>);

impl Master {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe because of types whose descriptor changes or closes \
                  early; a File owns one descriptor from beginning to end (tokio-rs/tokio#8587)"
    )]
    fn new(file: Arc<File>) -> io::Result<Self> {
        AsyncFd::new(file).map(Self)
    }
}

impl AsyncRead for Master {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match ready.try_io(|fd| fd.get_ref().as_ref().read(buf.initialize_unfilled())) {
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
}

impl AsyncWrite for Master {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|fd| fd.get_ref().as_ref().write(buf)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
