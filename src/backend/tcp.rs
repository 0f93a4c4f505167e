//! The `tcp` host interface, raw, as client and as server. Keepalive and a user
//! timeout notice a far side that vanished; no Nagle, because keystrokes wait
//! for nobody.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::{
    Allow, Backend, BoxFuture, Error, Link, Place, Role,
    resolve::{no_address, resolve},
    stream::Stream,
};
use crate::{
    device::{Peer, TcpSpec},
    limits,
};

/// Far sides that wait in the kernel while we turn others away.
const BACKLOG: u32 = 16;
/// A silent far side is asked after this long, then every third of it.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Unacknowledged bytes for this long end the link (tcp(7), TCP_USER_TIMEOUT).
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Connects to a far side.
#[derive(Debug)]
pub(super) struct Client {
    spec: TcpSpec,
    allow: Arc<Allow>,
    lookups: Arc<Semaphore>,
}

impl Client {
    pub(super) fn new(spec: TcpSpec, allow: Arc<Allow>, lookups: Arc<Semaphore>) -> Self {
        Self { spec, allow, lookups }
    }

    async fn connect(&self) -> Result<Box<dyn Link>, Error> {
        let addresses = resolve(&self.spec.host, self.spec.port, &self.lookups).await?;
        let mut last = None;
        for address in addresses {
            // What is checked is what is connected to.
            if let Err(denied) = self.allow.address(address) {
                last = Some(Error::Denied(denied));
                continue;
            }
            let connected = timeout(limits::OPEN_TIMEOUT, TcpStream::connect(address))
                .await
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")));
            match connected.and_then(|stream| tune(&stream).map(|()| stream)) {
                Ok(stream) => {
                    let peer = Peer::new(address.to_string());
                    return Ok(Box::new(Stream::new(stream, Some(peer))));
                }
                Err(source) => {
                    last = Some(Error::Connect { address: address.to_string(), source });
                }
            }
        }
        Err(last.unwrap_or_else(|| no_address(&self.spec.host)))
    }
}

impl Backend for Client {
    fn role(&self) -> Role {
        Role::Opens
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(async { Ok(Place::default()) })
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(self.connect())
    }
}

/// Waits for a far side.
#[derive(Debug)]
pub(super) struct Server {
    spec: TcpSpec,
    allow: Arc<Allow>,
    lookups: Arc<Semaphore>,
    listener: Option<TcpListener>,
}

impl Server {
    pub(super) fn new(spec: TcpSpec, allow: Arc<Allow>, lookups: Arc<Semaphore>) -> Self {
        Self { spec, allow, lookups, listener: None }
    }

    async fn listen(&mut self) -> Result<Place, Error> {
        let listener = match &mut self.listener {
            Some(listener) => listener,
            none => {
                let addresses = resolve(&self.spec.host, self.spec.port, &self.lookups).await?;
                let address = *addresses.first().ok_or_else(|| no_address(&self.spec.host))?;
                self.allow.address(address)?;
                let failed = |source| Error::Bind { address: address.to_string(), source };
                none.insert(bind(address).map_err(failed)?)
            }
        };
        let address = listener.local_addr().map_err(Error::Accept)?;
        Ok(Place { listen_address: Some(address.to_string()), pty_path: None })
    }

    async fn accept(&mut self) -> Result<Box<dyn Link>, Error> {
        self.listen().await?;
        let Some(listener) = &self.listener else {
            return Err(Error::Closed);
        };
        let (stream, peer) = listener.accept().await.map_err(Error::Accept)?;
        tune(&stream).map_err(Error::Accept)?;
        Ok(Box::new(Stream::new(stream, Some(Peer::new(peer.to_string())))))
    }
}

impl Backend for Server {
    fn role(&self) -> Role {
        Role::Waits
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<Place, Error>> {
        Box::pin(self.listen())
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Link>, Error>> {
        Box::pin(self.accept())
    }

    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        let Some(listener) = &self.listener else {
            return Poll::Pending;
        };
        match ready!(listener.poll_accept(cx)) {
            // Closing it is the refusal: the bytes are the device's, so a
            // message in words would be taken for its output.
            Ok((_turned_away, peer)) => {
                Poll::Ready(format!("{peer}: another far side is connected"))
            }
            // The listener is looked at again when the link has ended.
            Err(_) => Poll::Pending,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}
