//! What a user would notice, tried on the real program: each test starts the
//! server as a process on a port of its own, and real far sides (QEMU with
//! U-Boot, socat, sockets) on the other end. A module is a user story.

// Also of what the tests share; clippy then takes all of it for tests.
#![cfg(test)]

mod harness;

mod boot;
mod cli_session;
mod generic_client;
