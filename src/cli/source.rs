//! Input of this program: standard input or a file, read by a thread of its own
//! and never further than it was asked to.
//!
//! A thing of its own because neither can be waited for without a thread, and
//! tokio's would keep the program from ending while a read is blocked; this one
//! is left behind. Nothing is read before it is asked for, so that back pressure
//! reaches whoever writes to the pipe. Bounds: one read at a time, of as many
//! bytes as were asked for.

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd, OwnedFd},
    sync::mpsc as blocking,
    thread,
};

use bytes::Bytes;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::sync::mpsc;

/// Bytes to read.
#[derive(Debug)]
pub(super) struct Source {
    requests: blocking::SyncSender<usize>,
    reads: mpsc::Receiver<io::Result<Bytes>>,
    /// A read was asked for whose bytes were not taken yet.
    is_asked: bool,
}

/// What standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody types.
    Terminal,
    /// A pipe or file.
    Stream,
}

impl Source {
    /// What standard input is.
    pub(super) fn stdin_kind() -> Kind {
        if io::stdin().is_terminal() { Kind::Terminal } else { Kind::Stream }
    }

    pub(super) fn stdin() -> io::Result<Self> {
        // A descriptor of its own: the thread may outlive everything else.
        Self::new(rustix::stdio::stdin().try_clone_to_owned()?)
    }

    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let (requests, asked) = blocking::sync_channel::<usize>(1);
        let (answers, reads) = mpsc::channel(1);
        thread::Builder::new().name("input".to_owned()).spawn(move || {
            while let Ok(bytes_max) = asked.recv() {
                if answers.blocking_send(read(&fd, bytes_max)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, reads, is_asked: false })
    }

    /// At least one byte, and at most `bytes_max`, which must not be less than
    /// it was in a call that was dropped; none at the end. Loses nothing if it
    /// is dropped.
    pub(super) async fn read(&mut self, bytes_max: usize) -> io::Result<Bytes> {
        if !self.is_asked {
            self.requests.try_send(bytes_max).ok();
            self.is_asked = true;
        }
        let read = self.reads.recv().await;
        self.is_asked = false;
        read.unwrap_or_else(|| Ok(Bytes::new()))
    }
}

fn read(fd: &OwnedFd, bytes_max: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; bytes_max];
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(read) => {
                buffer.truncate(read);
                return Ok(buffer.into());
            }
            Err(Errno::INTR) => {}
            // Another program on the same terminal has made it non-blocking.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&fd.as_fd(), PollFlags::IN)], None)?;
            }
            // How a terminal that has gone away ends.
            Err(Errno::IO) => return Ok(Bytes::new()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn reads_what_was_asked_for_and_loses_nothing_when_dropped() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut source = Source::new(reader.into()).unwrap();
        let dropped = timeout(Duration::from_millis(20), source.read(2)).await;
        assert!(dropped.is_err());
        writer.write_all(b"abcd").unwrap();
        assert_eq!(&source.read(2).await.unwrap()[..], b"ab");
        assert_eq!(&source.read(100).await.unwrap()[..], b"cd");
        drop(writer);
        assert!(source.read(100).await.unwrap().is_empty());
    }
}
