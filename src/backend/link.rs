//! The seam between a line and an open connection of its backend: bytes both
//! ways, and beside them what some host interfaces have more (records that
//! belong together, losses, breaks, line settings, modem lines).
//!
//! Everything is polled by the line's one task, so a link needs no task, lock or
//! queue of its own. Rules for those who write one:
//! - nothing blocks: what the operating system only offers as a blocking call is
//!   done on a thread for blocking work and polled;
//! - `poll_read` is asked before anybody wants the bytes, and goes on without
//!   anybody;
//! - `poll_write` takes what it reports, and nothing else; what it has begun and
//!   not reported is `in_flight`;
//! - dropping a link closes it, at any moment, without blocking.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::ReadBuf;

use super::Error;
use crate::device::{Facts, LineSettings, WindowSize};

/// What a look at the far side gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Bytes, one or more.
    Bytes,
    /// Bytes, one or more, that are one record: with a time of their own, never
    /// joined with what comes before or after.
    Record,
    /// So many records or bytes were lost before what comes next.
    Lost(u64),
    /// A break. Nothing was read.
    Break,
    /// What [`Link::facts`] tells has changed. Nothing was read.
    Changed,
    /// The far side has ended its sending, for good.
    End,
}

/// Something that is asked of the other end beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Hold the line in the break state for so long.
    Break(Duration),
    /// Set the line so.
    LineSettings(LineSettings),
    /// Set these modem lines; `None` is left as it is.
    ModemLines {
        /// Data terminal ready.
        dtr: Option<bool>,
        /// Request to send.
        rts: Option<bool>,
    },
    /// Tell the size of the terminal.
    Window(WindowSize),
}

impl Control {
    /// Its name, in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Break(_) => "breaks",
            Self::LineSettings(_) => "line settings",
            Self::ModemLines { .. } => "modem lines",
            Self::Window(_) => "window sizes",
        }
    }
}

/// Why a control was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The host interface has no such thing.
    #[error("the host interface has no {0}")]
    Unsupported(&'static str),
    /// There is no link, or it was lost meanwhile.
    #[error("the host interface is not open")]
    NotConnected,
    /// More wait than may.
    #[error("too many controls wait for the device")]
    Busy,
    /// The other end refused or did not answer.
    #[error("{0}")]
    Failed(String),
}

/// An open connection of a backend; see the module's doc.
pub trait Link: Send {
    /// Reads what is there into `buf`, which is empty and never small
    /// (`limits::LINE_READ_BYTES`).
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>>;

    /// Takes bytes for the far side from the front of `data`, at least one.
    /// While it is pending it is asked again with the same bytes in front.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>>;

    /// Bytes at the front of what was last offered that are on their way
    /// already, though not reported yet: they cannot be taken back.
    fn in_flight(&self) -> usize {
        0
    }

    /// Ready when nothing that was reported is held back any more. Asked before a
    /// link is dropped in order, for at most `limits::LINK_SETTLE`.
    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Whether there is anybody to take input at all.
    fn takes_input(&self) -> bool {
        true
    }

    /// Whether taking input means throwing it away.
    fn discards_input(&self) -> bool {
        false
    }

    /// Does what is asked; asked again with the same control until it is ready,
    /// also when nobody waits for the answer any more. Ends by itself within
    /// `limits::CONTROL_TIMEOUT` and the length of a break.
    fn poll_control(
        &mut self,
        _cx: &mut Context<'_>,
        control: &Control,
    ) -> Poll<Result<(), ControlError>> {
        Poll::Ready(Err(ControlError::Unsupported(control.name())))
    }

    /// Why the far side's sending has ended, for whoever was told [`Read::End`].
    fn ending(&self) -> Error {
        Error::Closed
    }

    /// Looks again at what [`Link::facts`] tells, where it does not tell by itself
    /// when it changes; asked again until it is ready. Ends by itself within
    /// `limits::CONTROL_TIMEOUT`.
    fn poll_look(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ControlError>> {
        Poll::Ready(Ok(()))
    }

    /// What is known of the other end, without waiting for anything.
    fn facts(&self) -> Facts;
}
