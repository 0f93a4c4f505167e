//! Lineman serves character devices over the network: every device's output is
//! a log that any number of people and programs attach to at once.
//! ARCHITECTURE.md tells how the rooms fit together.

pub mod api;
pub mod auth;
pub mod backend;
pub mod cli;
pub mod config;
pub mod device;
pub mod fleet;
pub mod journal;
pub mod libvirt;
pub mod limits;
pub mod line;
pub mod name;
pub mod net;
pub mod pb;
pub mod serve;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod wire;
