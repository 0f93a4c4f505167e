//! One attachment's side of its line: joins, asks to write, sends input, and
//! leaves when dropped, however that comes about.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::{
    AttachmentId, Command, EndReason, Error, Handle, Joined, Mode, Piece, Progress, Refusal,
    SharedProgress, Writers, try_room,
};
use crate::{
    backend::Control,
    device::LinkStatus,
    journal::{Cursor, Journal},
};

/// One attachment. Dropping it leaves the line and gives up the write lock.
#[derive(Debug)]
pub struct Attachment {
    line: Handle,
    place: Joined,
}

/// The input side of an attachment, for the task that reads the attacher.
#[derive(Debug, Clone)]
pub struct Input {
    line: Handle,
    id: AttachmentId,
    progress: Arc<SharedProgress>,
}

impl Attachment {
    pub(super) fn new(line: Handle, joined: Joined) -> Self {
        Self { line, place: joined }
    }

    /// Names it on its line.
    pub fn id(&self) -> AttachmentId {
        self.place.id
    }

    /// The input side.
    pub fn input(&self) -> Input {
        Input { line: self.line.clone(), id: self.place.id, progress: self.place.progress.clone() }
    }

    /// The device's output.
    pub fn journal(&self) -> &Journal {
        &self.line.journal
    }

    /// A reader of the output from `offset` on.
    pub fn cursor(&self, offset: u64) -> Cursor {
        self.line.journal.cursor(offset)
    }

    /// Follows the link's state.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.line.status.clone()
    }

    /// Follows the writers.
    pub fn writers(&self) -> watch::Receiver<Arc<Writers>> {
        self.line.writers.clone()
    }

    /// Whether it may write now; otherwise who may.
    pub fn check_writer(&self) -> Result<(), Vec<String>> {
        let writers = self.line.writers.borrow();
        if writers.lock.may_write(self.place.id) { Ok(()) } else { Err(writers.names.clone()) }
    }

    /// How far this attachment's input has come.
    pub fn input_progress(&self) -> &SharedProgress {
        &self.place.progress
    }

    /// Why the line has ended, if it has.
    pub fn ended(&self) -> Option<EndReason> {
        self.line.ended_for()
    }

    /// Waits until the line ends, and tells why.
    pub async fn ending(&self) -> EndReason {
        self.line.ending().await
    }
}

impl Input {
    /// Asks to write, to wait, or to give up writing.
    pub async fn claim(&self, mode: Mode) -> Result<(), Error> {
        let (answer, claimed) = oneshot::channel();
        let command = Command::Claim { id: self.id, mode, answer };
        self.line.commands.send(command).await.map_err(|_| self.line.ended())?;
        claimed.await.map_err(|_| self.line.ended())?
    }

    /// Asks something of the other end beside its bytes.
    pub async fn control(&self, control: Control) -> Result<(), Error> {
        let (answer, done) = oneshot::channel();
        let command = Command::Control { id: self.id, control, answer };
        self.line.commands.send(command).await.map_err(|_| self.line.ended())?;
        done.await.map_err(|_| self.line.ended())?
    }

    /// Sends input, if there is room for it now; otherwise gives it back.
    pub async fn try_send(&self, offset: Option<u64>, data: Bytes) -> Result<Option<Bytes>, Error> {
        let Some(room) = try_room(&self.line.shared, &data) else {
            return Ok(Some(data));
        };
        self.queue(offset, data, room).await?;
        Ok(None)
    }

    /// Sends input, waiting for room. Giving it up before there is room sends
    /// nothing.
    pub async fn send(&self, offset: Option<u64>, data: Bytes) -> Result<(), Error> {
        if self.is_refused() {
            return Ok(());
        }
        let n = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let room = self.line.shared.input_room.clone().acquire_many_owned(n).await;
        let room = room.map_err(|_| self.line.ended())?;
        self.queue(offset, data, room).await
    }

    /// Whether the attachment may not write: told here, before it waits for room
    /// that those who may write need. The line has the last word.
    fn is_refused(&self) -> bool {
        let refused = !self.line.writers.borrow().lock.may_write(self.id);
        if refused {
            self.line.shared.refused_input(&self.progress, Refusal::NotWriter);
        }
        refused
    }

    async fn queue(
        &self,
        offset: Option<u64>,
        data: Bytes,
        room: tokio::sync::OwnedSemaphorePermit,
    ) -> Result<(), Error> {
        let progress = self.progress.clone();
        let piece = Piece { from: self.id, offset, data, room, progress };
        self.line.commands.send(Command::Input(piece)).await.map_err(|_| self.line.ended())
    }

    /// Tells the attacher that a piece was dropped for lack of room.
    pub fn refuse(&self, refusal: Refusal) {
        self.progress.refuse(refusal);
    }

    /// Drops what waits; afterwards [`Progress::written`] is final.
    pub async fn drop_waiting(&self) -> Progress {
        let (answer, done) = oneshot::channel();
        let command = Command::DropInput { id: self.id, answer };
        if self.line.commands.send(command).await.is_ok() {
            done.await.ok();
        }
        self.progress.get()
    }
}
