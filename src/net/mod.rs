//! Connections: accepts them, shakes hands over TLS, serves HTTP/2 and ends them
//! in order. Serves any router and knows nothing of devices.
//!
//! The loop is our own because a server that faces a network needs what tonic's
//! does not offer: a deadline and a cap for handshakes, a cap for connections,
//! small send buffers, and a stop with a deadline.
//!
//! Bounds: `limits::{CONNECTIONS_MAX, HANDSHAKES_MAX, HANDSHAKE_TIMEOUT,
//! HEADER_TIMEOUT, STREAMS_PER_CONNECTION, STREAM_WINDOW, CONNECTION_WINDOW,
//! SEND_BUFFER_BYTES, DRAIN_TIMEOUT}`.

mod connection;
mod listener;
mod preface;
mod tls;

pub use self::{
    listener::{Caps, Listener, Server},
    tls::{TlsError, server_config},
};
