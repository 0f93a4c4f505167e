//! Protocols between us and a far side, as pure state machines: bytes in, data
//! and events out. No sockets, no clock, no tokio, so that each is tested and
//! fuzzed byte by byte, and the same code serves a line that connects and one
//! that listens.
//!
//! - [`telnet`]: RFC 854 with the options a console needs;
//! - [`rfc2217`]: the serial port at the other end of a telnet connection;
//! - [`netconsole`]: the kernel's messages in datagrams.
//!
//! What all three promise: a peer can send what it likes, in whatever pieces,
//! and never makes us panic, loop or hold more than the bounds in
//! `crate::limits`. One value belongs to one connection (or one sender): nothing
//! is carried over to the next.

pub mod netconsole;
mod payload;
pub mod rfc2217;
pub mod telnet;

pub use self::payload::Payload;
