//! What telnet and raw connections run on: bytes both ways, in a socket or in
//! TLS. Not tokio's `AsyncWrite`, because what that has "written" may still be in
//! a buffer of TLS, while input is acknowledged only when the operating system
//! has it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::super::Error;

/// Bytes both ways. Dropping it closes it without blocking.
pub(super) trait Transport: Send {
    /// Reads what is there; if nothing is added to `buf`, the far side has ended
    /// its sending.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>)
    -> Poll<Result<(), Error>>;

    /// Takes bytes from the front of `data`, which is not empty, and tells how
    /// many the operating system has. While it is pending it is asked again with
    /// the same bytes in front.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>>;

    /// Bytes at the front of what was last offered that cannot be taken back.
    fn in_flight(&self) -> usize;

    /// Why the far side's sending has ended.
    fn ending(&self) -> Error;
}

impl Transport for TcpStream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        AsyncRead::poll_read(Pin::new(self), cx, buf).map_err(Error::Broken)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        match ready!(AsyncWrite::poll_write(Pin::new(self), cx, data)) {
            Ok(0) => Poll::Ready(Err(Error::Broken(io::ErrorKind::WriteZero.into()))),
            result => Poll::Ready(result.map_err(Error::Broken)),
        }
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn ending(&self) -> Error {
        Error::Closed
    }
}
