//! A connection without a protocol: its bytes are the console's.

use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::{
    super::{Error, Link, Read},
    transport::Transport,
};
use crate::device::{Facts, Peer};

/// Bytes, and who is on the other end.
pub(super) struct Plain {
    transport: Box<dyn Transport>,
    peer: Peer,
}

impl Plain {
    pub(super) fn new(transport: Box<dyn Transport>, peer: Peer) -> Self {
        Self { transport, peer }
    }
}

impl Link for Plain {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        ready!(self.transport.poll_read(cx, buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(Read::End));
        }
        self.peer.output_bytes += buf.filled().len() as u64;
        Poll::Ready(Ok(Read::Bytes))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        self.transport.poll_write(cx, data)
    }

    fn in_flight(&self) -> usize {
        self.transport.in_flight()
    }

    fn ending(&self) -> Error {
        self.transport.ending()
    }

    fn facts(&self) -> Facts {
        Facts { peers: vec![self.peer.clone()], ..Facts::default() }
    }
}
