//! Standard output, written by a thread of its own so that nothing else waits
//! for it: a terminal or pipe that does not take output stops neither the keys
//! nor the reading of the stream.
//!
//! The client keeps reading while output is blocked, because a stream that is
//! not read looks to the server like a client that is gone. Memory is bounded
//! all the same: past [`OUTPUT_BYTES_MAX`] the owner stops reading ([`has_room`]),
//! HTTP/2 flow control closes the stream's window, and the server keeps the rest
//! where it is, in the journal. At most one message more than that is held.
//!
//! What is told about the session goes through the same queue to standard error,
//! so that it stands in the output where it happened.
//!
//! [`has_room`]: Display::has_room

use std::{
    io::{self, IsTerminal, Write as _},
    os::fd::AsFd,
    thread,
    time::Duration,
};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::exit::{Exit, Failure, on_stdout};

/// Output held before the stream is left unread.
const OUTPUT_BYTES_MAX: u64 = 1024 * 1024;
/// Pieces held; a lone key's echo is a piece.
const PIECES_MAX: usize = 4096;
/// Of these, kept free for what is told while output is blocked.
const NOTICES_MAX: usize = 64;
/// How long somebody who wants to leave waits for output that is blocked.
const BRIEFLY: Duration = Duration::from_millis(300);

/// The writing end of standard output.
#[derive(Debug)]
pub(super) struct Display {
    pieces: mpsc::Sender<Piece>,
    progress: watch::Receiver<Progress>,
    queued_bytes: u64,
}

/// How much to wait for at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// Until all is written.
    Fully,
    /// Only for a moment.
    Briefly,
}

#[derive(Debug)]
enum Piece {
    Output { data: Bytes, next_offset: u64 },
    Notice(String),
}

#[derive(Debug, Default)]
struct Progress {
    written_bytes: u64,
    next_offset: Option<u64>,
    failed: Option<io::Error>,
}

impl Display {
    /// Starts the thread; it ends when this is dropped and all is written.
    pub(super) fn spawn() -> Result<Self, Failure> {
        let (pieces, queue) = mpsc::channel(PIECES_MAX);
        let (report, progress) = watch::channel(Progress::default());
        thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || write_pieces(queue, &report))
            .map_err(|error| {
                let message = format!("cannot start a thread: {error}");
                Failure::new(Exit::Failed, message)
            })?;
        Ok(Self { pieces, progress, queued_bytes: 0 })
    }

    /// Whether another message may be read from the stream.
    pub(super) fn has_room(&self) -> bool {
        let written_bytes = self.progress.borrow().written_bytes;
        self.queued_bytes.saturating_sub(written_bytes) < OUTPUT_BYTES_MAX
            && self.pieces.capacity() > NOTICES_MAX
    }

    /// Queues output; `next_offset` is that of the byte after it. Only after
    /// [`Display::has_room`].
    pub(super) fn output(&mut self, data: Bytes, next_offset: u64) -> Result<(), Failure> {
        if data.is_empty() {
            return Ok(());
        }
        self.queued_bytes += data.len() as u64;
        match self.pieces.try_send(Piece::Output { data, next_offset }) {
            // If the thread is gone, `progress` tells why.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                debug_assert!(false, "output is queued only while there is room");
                let message = "output came faster than it was asked for";
                Err(Failure::new(Exit::Failed, message))
            }
        }
    }

    /// Tells something on a line of its own. Dropped if nobody could read it
    /// because output has been blocked for long.
    pub(super) fn notice(&self, text: impl Into<String>) {
        self.pieces.try_send(Piece::Notice(text.into())).ok();
    }

    /// Returns when more was written, or why no more can be.
    pub(super) async fn progress(&mut self) -> Result<(), Failure> {
        let ended = self.progress.changed().await.is_err();
        match &self.progress.borrow().failed {
            Some(error) => Err(on_stdout(copy(error))),
            None if ended => Err(Failure::new(Exit::Failed, "standard output has ended")),
            None => Ok(()),
        }
    }

    /// The offset after what was written last.
    pub(super) fn written_offset(&self) -> Option<u64> {
        self.progress.borrow().next_offset
    }

    /// Waits for what is queued and tells if it could not be written.
    pub(super) async fn finish(self, drain: Drain) -> Result<(), Failure> {
        let Self { pieces, mut progress, queued_bytes: _ } = self;
        drop(pieces);
        let ended = async { while progress.changed().await.is_ok() {} };
        match drain {
            Drain::Fully => ended.await,
            // What is still blocked is given up; that is what was asked for.
            Drain::Briefly => timeout(BRIEFLY, ended).await.unwrap_or(()),
        }
        match &progress.borrow().failed {
            Some(error) => Err(on_stdout(copy(error))),
            None => Ok(()),
        }
    }
}

/// The thread.
fn write_pieces(mut queue: mpsc::Receiver<Piece>, report: &watch::Sender<Progress>) {
    let shares_screen = io::stdout().is_terminal();
    // Right in raw mode and harmless in any other.
    let line_end = if io::stderr().is_terminal() { "\r\n" } else { "\n" };
    let mut in_line = false;
    while let Some(piece) = queue.blocking_recv() {
        match piece {
            Piece::Output { data, next_offset } => {
                let written = write_all(rustix::stdio::stdout(), &data);
                in_line = shares_screen && data.last().is_some_and(|last| *last != b'\n');
                let failed = written.err();
                let stop = failed.is_some();
                report.send_modify(|progress| {
                    progress.written_bytes += data.len() as u64;
                    progress.next_offset = Some(next_offset);
                    progress.failed = failed;
                });
                if stop {
                    return;
                }
            }
            Piece::Notice(text) => {
                let before = if in_line { line_end } else { "" };
                let line = if text.is_empty() {
                    before.to_owned()
                } else {
                    format!("{before}[lineman: {text}]{line_end}")
                };
                // There is no other place to tell that standard error is gone.
                io::stderr().write_all(line.as_bytes()).ok();
                in_line = false;
            }
        }
    }
}

/// Writes past std's line buffer, and waits on a descriptor that another program
/// on the same terminal has made non-blocking.
fn write_all(fd: impl AsFd, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match rustix::io::write(&fd, data) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => data = data.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None).map(drop)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Errors of writing come from the system and are nothing but a number.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => error.kind().into(),
    }
}
