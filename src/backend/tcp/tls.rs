//! TLS around a connection: the handshake of either side, within
//! `limits::HANDSHAKE_TIMEOUT`, and the connection after it.
//!
//! Written is what was flushed: one record at a time is given to rustls and
//! reported when the socket has all of it. An end without close_notify is an end,
//! but one that somebody else may have made; it is told as such.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{super::Error, certificate, transport::Transport};
use crate::limits;

/// Most that is in one record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 16 << 10;

/// A connection inside TLS.
pub(super) struct Tls {
    stream: TlsStream<TcpStream>,
    /// Bytes that rustls has and the socket may not.
    taken: usize,
    /// The end came without close_notify.
    truncated: bool,
}

impl Tls {
    /// Our side of the handshake with a server that must be `name`.
    pub(super) async fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        stream: TcpStream,
    ) -> Result<Self, Error> {
        let handshake = TlsConnector::from(config).connect(name, stream);
        Ok(Self::new(in_time(handshake).await?.into()))
    }

    /// Our side of the handshake with whoever has connected.
    pub(super) async fn accept(
        config: Arc<ServerConfig>,
        stream: TcpStream,
    ) -> Result<Self, Error> {
        let handshake = TlsAcceptor::from(config).accept(stream);
        Ok(Self::new(in_time(handshake).await?.into()))
    }

    fn new(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, taken: 0, truncated: false }
    }

    /// The name in the certificate that the other end has shown, which was
    /// verified; empty if it has shown none.
    pub(super) fn peer_name(&self) -> String {
        let (_, session) = self.stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        shown.map(|shown| certificate::name(shown)).unwrap_or_default()
    }
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
    let late = || {
        let text = format!("the handshake took longer than {:?}", limits::HANDSHAKE_TIMEOUT);
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    };
    let done = timeout(limits::HANDSHAKE_TIMEOUT, handshake).await;
    done.unwrap_or_else(|_| late()).map_err(Error::Tls)
}

/// An alert of the far side, or a broken record, is TLS's own; the rest is the
/// connection's.
fn broken(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::InvalidData {
        Error::Tls(error)
    } else {
        Error::Broken(error)
    }
}

impl Transport for Tls {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buf)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.truncated = true;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(broken(error))),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        if self.taken == 0 {
            let record = &data[..data.len().min(RECORD_BYTES_MAX)];
            self.taken =
                ready!(Pin::new(&mut self.stream).poll_write(cx, record)).map_err(broken)?;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(broken)?;
        match std::mem::take(&mut self.taken) {
            0 => Poll::Ready(Err(Error::Broken(io::ErrorKind::WriteZero.into()))),
            n => Poll::Ready(Ok(n)),
        }
    }

    fn in_flight(&self) -> usize {
        self.taken
    }

    fn ending(&self) -> Error {
        if self.truncated { Error::Truncated } else { Error::Closed }
    }
}

impl Drop for Tls {
    /// Says that this is the end, if the socket takes it at once: whoever does not
    /// read finds out by the connection's end.
    fn drop(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        let _unheard = Pin::new(&mut self.stream).poll_shutdown(&mut nobody);
    }
}
