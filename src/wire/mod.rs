//! Protocols between us and a far side, as pure state machines: bytes in, data
//! and events out. No sockets, no clock, no tokio, so that each is tested and
//! fuzzed byte by byte.
//!
//! - [`netconsole`]: the kernel's messages in datagrams.
//!
//! What they promise: a peer can send what it likes, in whatever pieces, and
//! never makes us panic, loop or hold more than the bounds in `crate::limits`.
//! One value belongs to one connection (or one sender): nothing is carried over
//! to the next.

pub mod netconsole;
