//! Lineman serves character devices over the network: every device's output is
//! a log that any number of people and programs attach to at once.
//! ARCHITECTURE.md tells how the rooms fit together.

pub mod cli;
pub mod name;
pub mod pb;
