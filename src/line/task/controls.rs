//! Controls that wait for the link: breaks, line settings, modem lines, window
//! sizes. One at a time and in order, each to its end, also when whoever asked
//! has gone: a break that was begun must be ended. They do not wait for input:
//! a break is there to get through when nothing else does.
//!
//! Bound: `limits::LINE_CONTROLS`.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::super::Error;
use crate::{
    backend::{Control, ControlError, Link},
    limits,
};

type Answer = oneshot::Sender<Result<(), Error>>;

/// Something that is asked of the link.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// To do this.
    Control(Control),
    /// To look again at what it knows.
    Look,
}

/// Controls in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Controls {
    waiting: VecDeque<(Asked, Answer)>,
    done: Vec<(Answer, Result<(), Error>)>,
}

impl Controls {
    /// Takes one in, or answers that there are too many.
    pub(super) fn push(&mut self, asked: Asked, answer: Answer) {
        if self.waiting.len() < limits::LINE_CONTROLS {
            self.waiting.push_back((asked, answer));
        } else {
            answer.send(Err(ControlError::Busy.into())).ok();
        }
    }

    /// Ready when at least one came to its end and is to be answered.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, link: &mut dyn Link) -> Poll<()> {
        while let Some((asked, _)) = self.waiting.front() {
            let result = match asked {
                Asked::Control(control) => link.poll_control(cx, control),
                Asked::Look => link.poll_look(cx),
            };
            let Poll::Ready(result) = result else { break };
            if let Some((_, answer)) = self.waiting.pop_front() {
                self.done.push((answer, result.map_err(Error::from)));
            }
        }
        if self.done.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Answers those that came to their end; what they changed has been published.
    pub(super) fn answer(&mut self) {
        for (answer, result) in self.done.drain(..) {
            answer.send(result).ok();
        }
    }

    /// The link is gone, and with it what was asked of it.
    pub(super) fn fail(&mut self) {
        self.answer();
        for (_, answer) in self.waiting.drain(..) {
            answer.send(Err(ControlError::NotConnected.into())).ok();
        }
    }
}
