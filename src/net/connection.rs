//! One connection: TLS handshake, then HTTP, until the peer goes or the server
//! stops.

use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use axum::{Router, body::Body};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{preface, tls::ALPN_H2};
use crate::{auth::Peer, limits, telemetry::Metrics};

/// A silent peer's TCP is asked after this long, should HTTP/2's own pings not
/// be answered for (an HTTP/1.1 peer).
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// What connections share.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) acceptor: TlsAcceptor,
    pub(super) metrics: Arc<Metrics>,
    /// Cancelled to end connections in order.
    pub(super) stop: CancellationToken,
    /// Runs the calls of all connections, so that they can be cut.
    pub(super) calls: Calls,
}

/// Where calls run: counted, and cut when the server's patience is over.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    pub(super) tasks: TaskTracker,
    pub(super) cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Calls
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, call: F) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                _ = call => {}
            }
        });
    }
}

/// What keeps a connection's place among the others.
pub(super) struct Places {
    pub(super) connection: OwnedSemaphorePermit,
    pub(super) handshakes: Arc<Semaphore>,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    places: Places,
) {
    let metrics = &shared.metrics;
    metrics.connections.inc();
    let _gauge = Gauge(metrics.clone());
    if let Err(error) = tune(&stream) {
        tracing::debug!(%peer, %error, "connection broke before it began");
        return;
    }
    if timeout(limits::FIRST_BYTE_TIMEOUT, stream.peek(&mut [0; 1])).await.is_err() {
        metrics.handshakes_timed_out.inc();
        tracing::debug!(%peer, "said nothing within {:?}", limits::FIRST_BYTE_TIMEOUT);
        return;
    }
    let Ok(place) = places.handshakes.clone().try_acquire_owned() else {
        metrics.handshakes_refused.inc();
        tracing::warn!(%peer, "turned away: too many handshakes are in progress");
        return;
    };
    let handshake = timeout(limits::HANDSHAKE_TIMEOUT, shared.acceptor.accept(stream)).await;
    drop(place);
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            metrics.handshakes_failed.inc();
            tracing::debug!(%peer, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            metrics.handshakes_timed_out.inc();
            tracing::info!(%peer, "TLS handshake took longer than {:?}", limits::HANDSHAKE_TIMEOUT);
            return;
        }
    };
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_H2);
    let result = if is_h2 {
        serve_h2(&shared, stream, peer).await
    } else {
        serve_http1(&shared, stream, peer).await
    };
    if let Err(error) = result {
        metrics.connections_failed.inc();
        tracing::info!(%peer, error = &*error, "connection ended with an error");
    }
    drop(places.connection);
}

type ServeError = Box<dyn std::error::Error + Send + Sync>;

async fn serve_h2(
    shared: &Shared,
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
) -> Result<(), ServeError> {
    let peer = Peer::new(address);
    let prefaced = timeout(limits::HEADER_TIMEOUT, preface::read(stream)).await;
    let stream = match prefaced {
        Ok(Ok(stream)) => stream,
        // A port scan, or a health check of the TCP kind.
        Ok(Err(_closed)) => return Ok(()),
        Err(_) => return Err("the client sent nothing after the TLS handshake".into()),
    };
    let mut http = hyper::server::conn::http2::Builder::new(shared.calls.clone());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .max_local_error_reset_streams(limits::ERROR_RESETS_MAX)
        .max_header_list_size(limits::HEADER_LIST_BYTES)
        .max_frame_size(limits::HTTP2_FRAME_BYTES)
        .max_send_buf_size(limits::SEND_BUFFER_BYTES)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT);
    let connection = http.serve_connection(TokioIo::new(stream), service(&shared.router, &peer));
    until_stopped(shared, &peer, connection, |connection| connection.graceful_shutdown()).await
}

async fn serve_http1(
    shared: &Shared,
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
) -> Result<(), ServeError> {
    let peer = Peer::new(address);
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits::HEADER_TIMEOUT);
    let connection = http.serve_connection(TokioIo::new(stream), service(&shared.router, &peer));
    until_stopped(shared, &peer, connection, |connection| connection.graceful_shutdown()).await
}

/// Drives a connection; asks it to end when the server stops.
async fn until_stopped<C: Future<Output = Result<(), hyper::Error>>>(
    shared: &Shared,
    peer: &Peer,
    connection: C,
    end: impl FnOnce(std::pin::Pin<&mut C>),
) -> Result<(), ServeError> {
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        () = anonymous(peer) => {
            let problem = format!("no call with a valid credential within {:?}", limits::ANONYMOUS_TIMEOUT);
            return Err(problem.into());
        }
        () = shared.stop.cancelled() => end(connection.as_mut()),
    }
    Ok(connection.await?)
}

/// Ends when a peer has had its time to say who it is, and has not.
async fn anonymous(peer: &Peer) {
    sleep(limits::ANONYMOUS_TIMEOUT).await;
    if peer.is_known() {
        std::future::pending::<()>().await;
    }
}

/// The router for requests of one peer.
fn service(
    router: &Router,
    peer: &Peer,
) -> impl hyper::service::Service<
    http::Request<Incoming>,
    Response = http::Response<Body>,
    Error = Infallible,
    Future: Send,
> + use<> {
    let (router, peer) = (router.clone(), peer.clone());
    hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(Body::new))
    })
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    // Without this, the last piece of every burst waits up to 40 ms.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    socket.set_tcp_user_timeout(Some(limits::KEEPALIVE_INTERVAL + limits::KEEPALIVE_TIMEOUT))
}

/// Counts a connection while it lasts.
struct Gauge(Arc<Metrics>);

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
