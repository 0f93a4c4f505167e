//! The accept loop: takes connections while there are places, turns the rest
//! away at once, and survives running out of file descriptors.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::connection::{Calls, Places, Shared, serve};
use crate::{limits, telemetry::Metrics};

/// How many may be there at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Open connections.
    pub connections: usize,
    /// TLS handshakes in progress.
    pub handshakes: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { connections: limits::CONNECTIONS_MAX, handshakes: limits::HANDSHAKES_MAX }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens. Port 0 is any free one.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A running accept loop and its connections.
#[derive(Debug)]
pub struct Server {
    accepting: CancellationToken,
    stop: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    /// Begins to serve `router` on `listener`.
    pub fn start(
        listener: Listener,
        router: Router,
        tls: Arc<ServerConfig>,
        caps: Caps,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (accepting, stop) = (CancellationToken::new(), CancellationToken::new());
        let (cut, connections) = (CancellationToken::new(), TaskTracker::new());
        let shared = Arc::new(Shared {
            router,
            acceptor: TlsAcceptor::from(tls),
            metrics,
            stop: stop.clone(),
            calls: Calls { tasks: connections.clone(), cut: cut.clone() },
        });
        let server =
            Self { accepting: accepting.clone(), stop, cut, connections: connections.clone() };
        let accept = Accept {
            shared,
            tasks: connections.clone(),
            places: Arc::new(Semaphore::new(caps.connections)),
            handshakes: Arc::new(Semaphore::new(caps.handshakes)),
        };
        connections.spawn(async move {
            tokio::select! {
                () = accepting.cancelled() => {}
                () = accept.run(&listener.socket) => {}
            }
        });
        server
    }

    /// Takes no more connections; those that are open go on.
    pub fn stop_accepting(&self) {
        self.accepting.cancel();
    }

    /// Ends the connections: each call may finish until `patience` is over, what
    /// is left is cut. Returns whether nothing had to be.
    pub async fn drain(self, patience: Duration) -> bool {
        self.stop_accepting();
        self.stop.cancel();
        self.connections.close();
        if timeout(patience, self.connections.wait()).await.is_ok() {
            return true;
        }
        self.cut.cancel();
        self.connections.wait().await;
        false
    }
}

struct Accept {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

impl Accept {
    async fn run(&self, socket: &TcpListener) {
        loop {
            match socket.accept().await {
                Ok((stream, peer)) => self.take(stream, peer),
                Err(error) => {
                    self.shared.metrics.accept_errors.inc();
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of file descriptors: others must end first.
                    sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let metrics = &self.shared.metrics;
        let Ok(connection) = self.places.clone().try_acquire_owned() else {
            metrics.connections_refused.inc();
            tracing::warn!(%peer, "turned away: there are as many connections as there may be");
            return;
        };
        metrics.connections_accepted.inc();
        let places = Places { connection, handshakes: self.handshakes.clone() };
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            let cut = shared.calls.cut.clone();
            tokio::select! {
                () = cut.cancelled() => {}
                () = serve(shared, stream, peer, places) => {}
            }
        });
    }
}
