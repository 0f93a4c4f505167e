//! Where far sides come in: the listener, and with TLS the handshakes of those
//! who have not shown yet who they are.
//!
//! Handshakes go on side by side, at most `limits::DEVICE_HANDSHAKES_MAX`; the
//! first that is done has the place. One more makes the longest waiting give way,
//! so that a stranger who connects and says nothing keeps nobody out. Everything
//! is polled by the line: no task, and all of it ends with the door.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::ServerConfig;
use tokio::net::TcpListener;

use super::{
    super::{BoxFuture, Error, explain},
    Connection,
    tls::Tls,
    tune,
};
use crate::{device::Peer, limits};

/// What is behind the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// A place for one more.
    Some,
    /// So many are in there, and that is all.
    None(u32),
}

/// What has come of somebody at the door.
pub(super) enum Visit {
    /// Is to be let in.
    Arrived(Connection),
    /// Was turned away; who and why.
    Refused(String),
    /// Nobody can come just now.
    Failed(io::Error),
}

/// See the module's doc.
pub(super) struct Door {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    /// The longest waiting first.
    handshakes: VecDeque<Handshake>,
}

struct Handshake {
    from: SocketAddr,
    done: BoxFuture<'static, Result<Tls, Error>>,
}

impl Door {
    pub(super) fn new(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Self {
        Self { listener, tls, handshakes: VecDeque::new() }
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for the next who is let in or turned away.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, room: Room) -> Poll<Visit> {
        if let Room::None(there) = room {
            return self.poll_turn_away(cx, there);
        }
        if let Poll::Ready(visit) = self.poll_handshakes(cx) {
            return Poll::Ready(visit);
        }
        loop {
            let (stream, from) = match self.listener.poll_accept(cx) {
                Poll::Ready(Ok(came)) => came,
                Poll::Ready(Err(error)) => return Poll::Ready(Visit::Failed(error)),
                Poll::Pending => return Poll::Pending,
            };
            if let Err(error) = tune(&stream) {
                return Poll::Ready(refused(from, &Error::Broken(error)));
            }
            let Some(tls) = &self.tls else {
                let peer = Peer::new(from.to_string());
                return Poll::Ready(Visit::Arrived(Connection {
                    transport: Box::new(stream),
                    peer,
                }));
            };
            let done = Box::pin(Tls::accept(tls.clone(), stream));
            self.handshakes.push_back(Handshake { from, done });
            if self.handshakes.len() > limits::DEVICE_HANDSHAKES_MAX
                && let Some(oldest) = self.handshakes.pop_front()
            {
                // It is polled when the line comes round, which is at once.
                let why = "its TLS handshake has not ended, and others wait";
                return Poll::Ready(Visit::Refused(format!("{}: {why}", oldest.from)));
            }
            if let Poll::Ready(visit) = self.poll_handshakes(cx) {
                return Poll::Ready(visit);
            }
        }
    }

    fn poll_handshakes(&mut self, cx: &mut Context<'_>) -> Poll<Visit> {
        for at in 0..self.handshakes.len() {
            let Some(handshake) = self.handshakes.get_mut(at) else { break };
            let Poll::Ready(done) = handshake.done.as_mut().poll(cx) else { continue };
            let from = handshake.from;
            self.handshakes.remove(at);
            return Poll::Ready(match done {
                Ok(tls) => {
                    let mut peer = Peer::new(from.to_string());
                    peer.description = tls.peer_name();
                    Visit::Arrived(Connection { transport: Box::new(tls), peer })
                }
                Err(error) => refused(from, &error),
            });
        }
        Poll::Pending
    }

    /// Closing is the refusal: the bytes are the device's, so a message in words
    /// would be taken for its output.
    fn poll_turn_away(&mut self, cx: &mut Context<'_>, there: u32) -> Poll<Visit> {
        let from = match self.handshakes.pop_front() {
            Some(handshake) => handshake.from,
            None => match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((_turned_away, from))) => from,
                Poll::Ready(Err(error)) => return Poll::Ready(Visit::Failed(error)),
                Poll::Pending => return Poll::Pending,
            },
        };
        let why = match there {
            1 => "another far side is connected".to_owned(),
            n => format!("{n} far sides are connected"),
        };
        Poll::Ready(Visit::Refused(format!("{from}: {why}")))
    }
}

fn refused(from: SocketAddr, error: &Error) -> Visit {
    Visit::Refused(format!("{from}: {}", explain(error)))
}
