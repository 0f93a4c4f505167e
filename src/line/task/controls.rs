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

/// Controls in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct Controls {
    waiting: VecDeque<(Control, Answer)>,
}

impl Controls {
    /// Takes one in, or answers that there are too many.
    pub(super) fn push(&mut self, control: Control, answer: Answer) {
        if self.waiting.len() < limits::LINE_CONTROLS {
            self.waiting.push_back((control, answer));
        } else {
            answer.send(Err(ControlError::Busy.into())).ok();
        }
    }

    /// Ready when at least one came to its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, link: &mut dyn Link) -> Poll<()> {
        let mut done = Poll::Pending;
        while let Some((control, _)) = self.waiting.front() {
            let Poll::Ready(result) = link.poll_control(cx, control) else { break };
            if let Some((_, answer)) = self.waiting.pop_front() {
                answer.send(result.map_err(Error::from)).ok();
            }
            done = Poll::Ready(());
        }
        done
    }

    /// The link is gone, and with it what was asked of it.
    pub(super) fn fail(&mut self) {
        for (_, answer) in self.waiting.drain(..) {
            answer.send(Err(ControlError::NotConnected.into())).ok();
        }
    }
}
