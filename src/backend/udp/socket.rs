//! The socket: datagrams in and out, and how many the kernel had no room for.
//!
//! The kernel counts what it drops from the socket's queue and says with each
//! datagram how many that were when it was queued (SO_RXQ_OVFL), so a loss is
//! known where it happened. It is told with the next datagram that comes.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket as StdSocket},
    os::fd::AsRawFd,
    task::{Context, Poll, ready},
};

use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt::RxqOvfl,
    },
};
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::{
    io::{Interest, ReadBuf},
    net::UdpSocket,
};

use crate::limits;

/// A datagram socket.
#[derive(Debug)]
pub(super) struct Socket {
    udp: UdpSocket,
    /// Room for what the kernel says beside a datagram.
    control: Vec<u8>,
    /// What it dropped so far; begins again after 2^32.
    dropped: u32,
}

/// What is known of a datagram beside its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagram {
    /// Who sent it. IPv4 is told as such whatever the socket is.
    pub(super) from: SocketAddr,
    /// Datagrams that were dropped since the one before.
    pub(super) lost: u64,
}

impl Socket {
    /// Needs a runtime.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            // Said here, because hosts differ in what they do by themselves.
            socket.set_only_v6(false)?;
        }
        // Both before the first datagram can come.
        socket.set_recv_buffer_size(limits::DATAGRAM_QUEUE_BYTES)?;
        setsockopt(&socket, RxqOvfl, &1)?;
        socket.bind(&address.into())?;
        let udp = UdpSocket::from_std(StdSocket::from(socket))?;
        Ok(Self { udp, control: cmsg_space!(u32), dropped: 0 })
    }

    /// From here on the kernel lets nobody else in. Sends nothing. The peer is
    /// told as its datagrams will: the kernel makes loopback of 0.0.0.0.
    pub(super) fn connect(&self, peer: SocketAddr) -> io::Result<SocketAddr> {
        SockRef::from(&self.udp).connect(&peer.into())?;
        self.udp.peer_addr().map(plain)
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Reads one datagram into `buf`.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Datagram>> {
        let Self { udp, control, dropped } = self;
        loop {
            ready!(udp.poll_recv_ready(cx))?;
            let mut receive = || {
                let mut room = [IoSliceMut::new(buf.initialize_unfilled())];
                let fd = udp.as_raw_fd();
                let flags = MsgFlags::MSG_DONTWAIT;
                let message = recvmsg::<SockaddrStorage>(fd, &mut room, Some(control), flags)?;
                // Absent while nothing was ever dropped.
                let so_far = message.cmsgs()?.find_map(|said| {
                    if let ControlMessageOwned::RxqOvfl(n) = said { Some(n) } else { None }
                });
                let from = message.address.as_ref().and_then(address);
                Ok((message.bytes, from, so_far))
            };
            match udp.try_io(Interest::READABLE, &mut receive) {
                Ok((len, from, so_far)) => {
                    buf.advance(len);
                    let so_far = so_far.unwrap_or(*dropped);
                    let lost = so_far.wrapping_sub(std::mem::replace(dropped, so_far));
                    let from = from.ok_or_else(|| io::Error::other("a datagram of nobody"))?;
                    return Poll::Ready(Ok(Datagram { from, lost: lost.into() }));
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends one datagram to the peer that the socket is connected to.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.udp.poll_send(cx, data)
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some((*v4).into());
    }
    storage.as_sockaddr_in6().map(|v6| plain((*v6).into()))
}

/// ::ffff:10.0.0.1 is 10.0.0.1. The scope of a link-local address stays; the flow
/// is not part of who it is.
fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => {
                v6.set_flowinfo(0);
                v6.into()
            }
        },
        SocketAddr::V4(_) => address,
    }
}
