//! Input on its way to a copy: pushed by the line as the far side takes it,
//! taken by the follower. Exactly the bytes that were taken, in their order.
//!
//! Bound: `limits::LOG_INPUT_BYTES_MAX` and one piece of input. While there is
//! no room the line waits, unless the copy is degraded: then what does not fit
//! is left out and counted by the line.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::limits;

/// Input that waits for a copy.
#[derive(Debug, Default)]
pub(in super::super) struct InputCopy {
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    /// No more comes.
    closed: bool,
    /// Nothing waits for the copy.
    degraded: bool,
    waits_for_room: Option<Waker>,
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes.len() >= limits::LOG_INPUT_BYTES_MAX
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waits_for_room.take() {
            waker.wake();
        }
    }
}

impl InputCopy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when a piece of input may be written.
    pub(in super::super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.is_full() && !state.degraded {
            state.waits_for_room = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Takes in what was written; returns how many bytes it had to leave out.
    pub(in super::super) fn push(&self, data: &[u8]) -> usize {
        let mut state = self.state();
        if state.is_full() {
            return data.len();
        }
        state.bytes.extend_from_slice(data);
        drop(state);
        self.pushed.notify_one();
        0
    }

    /// No more comes.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.pushed.notify_one();
    }

    /// Whether the line need not wait for room.
    pub(super) fn set_degraded(&self, degraded: bool) {
        let mut state = self.state();
        state.degraded = degraded;
        if degraded {
            state.wake();
        }
    }

    /// What waits.
    pub(super) fn len(&self) -> usize {
        self.state().bytes.len()
    }

    /// What waits, up to `most`; waits for some. `None` at the end. Giving it up
    /// loses nothing.
    pub(super) async fn take(&self, most: usize) -> Option<Bytes> {
        loop {
            {
                let mut state = self.state();
                if !state.bytes.is_empty() {
                    let most = most.min(state.bytes.len());
                    let taken = state.bytes.split_to(most).freeze();
                    if state.bytes.is_empty() {
                        // An idle device keeps no buffer.
                        state.bytes = BytesMut::new();
                    }
                    state.wake();
                    return Some(taken);
                }
                if state.closed {
                    return None;
                }
            }
            self.pushed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_while_the_disk_is_slow_and_counts_while_it_fails() {
        let copy = InputCopy::default();
        let piece = vec![b'x'; limits::LOG_INPUT_BYTES_MAX];
        let mut cx = Context::from_waker(Waker::noop());
        assert!(copy.poll_room(&mut cx).is_ready());
        assert_eq!(copy.push(&piece), 0);
        assert!(copy.poll_room(&mut cx).is_pending());
        copy.set_degraded(true);
        assert!(copy.poll_room(&mut cx).is_ready());
        assert_eq!(copy.push(b"left out"), 8);
        assert_eq!(copy.take(10).await.unwrap().len(), 10);
        copy.set_degraded(false);
        assert_eq!(copy.push(b"!"), 0);
        copy.close();
        let rest = copy.take(usize::MAX).await.unwrap();
        assert_eq!((rest.len(), rest.last()), (piece.len() - 9, Some(&b'!')));
        assert_eq!(copy.take(1).await, None);
    }
}
