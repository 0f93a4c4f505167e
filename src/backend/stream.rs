//! A link that is nothing but a stream of bytes: a socket, the master of a pty.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Error, Link, Read};
use crate::device::{Facts, Peer};

/// A stream of bytes with somebody on the other end, or nobody in particular.
#[derive(Debug)]
pub(super) struct Stream<T> {
    io: T,
    peer: Option<Peer>,
}

impl<T> Stream<T> {
    pub(super) fn new(io: T, peer: Option<Peer>) -> Self {
        Self { io, peer }
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for Stream<T> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf)).map_err(Error::Broken)?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(Read::End));
        }
        if let Some(peer) = &mut self.peer {
            peer.output_bytes += buf.filled().len() as u64;
        }
        Poll::Ready(Ok(Read::Bytes))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        match ready!(Pin::new(&mut self.io).poll_write(cx, data)) {
            Ok(0) => Poll::Ready(Err(Error::Broken(io::ErrorKind::WriteZero.into()))),
            result => Poll::Ready(result.map_err(Error::Broken)),
        }
    }

    fn facts(&self) -> Facts {
        Facts { peers: self.peer.iter().cloned().collect(), ..Facts::default() }
    }
}
