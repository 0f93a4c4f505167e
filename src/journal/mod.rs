//! The journal: everything a device said, at offsets that only grow.
//!
//! ```text
//!  line ── Writer::append ──▶ tail (frames in memory) ──▶ Cursor ──▶ attacher
//!                               │        ▲
//!                             scribe     │ older than the tail
//!                               ▼        │
//!                        segments on disk (log + index)
//! ```
//!
//! It is a room of its own because it is the one truth about output: history,
//! live output, resume, time and (later) search are all reads of it.
//!
//! Invariants:
//! - an offset is given out once, whatever crashes; what is missing between two
//!   offsets is told as a gap, exactly;
//! - a cursor sees a byte only after the operating system has it, so a killed
//!   server forgets nothing that anybody saw. The exception is a disk that fails
//!   or stalls for `limits::DISK_STALL`: output then goes on from memory, the
//!   journal says that it is degraded, and it catches up by itself;
//! - output that was lost before it came here ([`Writer::lose`]) is told by every
//!   reader as one gap of just that length, and never as anything else;
//! - appending never blocks; `Writer::room` waits only while the disk is slow,
//!   and never longer than `DISK_STALL` plus the watch's period;
//! - a cursor costs its position: no queue, no copy of what the tail holds.
//!
//! Bounds: `limits::{TAIL_BYTES_MAX, TAILS_BYTES_MAX, UNWRITTEN_BYTES_MAX,
//! OPEN_SEGMENTS_MAX, DISK_READ_BYTES}`; disk by the device's retention.

mod cursor;
mod extent;
mod frame;
mod index;
mod position;
mod recover;
mod reread;
mod root;
mod scribe;
mod segment;
mod shared;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use self::{
    cursor::{Cursor, Item},
    frame::{Frame, FrameHead, Framer, Micros},
    position::{Position, Start},
    root::{Age, Config, Root},
    writer::Writer,
};
use self::{scribe::Work, shared::SharedRef};
use crate::{device::JournalStatus, limits};

/// What went wrong with the stored output.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or file could not be read, made or repaired.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread for writing could not be started.
    #[error("cannot start a writing thread")]
    Thread(#[source] io::Error),
    /// The read was given up because the server stops.
    #[error("the server stops")]
    Stopping,
}

impl Error {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// The reading end of a journal; cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: SharedRef,
}

impl Journal {
    /// Where the journal stands.
    pub fn status(&self) -> JournalStatus {
        self.shared.status()
    }

    /// A reader that begins at `offset`.
    pub fn cursor(&self, offset: u64) -> Cursor {
        Cursor::new(self.shared.clone(), offset)
    }

    /// Changes how much is kept; applied with the next byte that is written.
    pub fn set_retention(&self, bytes: u64) {
        self.shared
            .set_retention(bytes.clamp(limits::RETENTION_BYTES_MIN, limits::RETENTION_BYTES_MAX));
    }

    /// Removes everything from disk, when the writer is gone. Cursors that are
    /// still open see the end of what is in memory.
    pub async fn remove(self) -> Result<(), Error> {
        let (done, removed) = tokio::sync::oneshot::channel();
        self.shared.clone().schedule(Work::Remove(self.shared.clone(), done));
        let left =
            removed.await.map_err(|_| Error::Stopping)?.map_err(Error::io(self.shared.dir()))?;
        // Gigabytes take their time, and a scribe has others to write for.
        let Some(left) = left else { return Ok(()) };
        let path = left.clone();
        let remove = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(left));
        remove.await.map_err(|_| Error::Stopping)?.map_err(Error::io(path))
    }
}

/// A moment as frames carry it.
pub fn micros(time: SystemTime) -> Micros {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
