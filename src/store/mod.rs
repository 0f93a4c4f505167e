//! The store: which devices there are, durable. Small on purpose: a table of
//! devices, a revision that grows with every change, and a condition on each
//! change, which is what a distributed store can offer too.
//!
//! Invariants: a change is wholly there or not at all, also after a kill; a
//! revision is used once; a store that a newer version wrote is not opened and
//! not touched. One thread writes; changes that come together are committed
//! together.
//!
//! Bound: `limits::STORE_QUEUE` waiting changes; callers wait.

mod memory;
mod record;
mod redb;
mod writer;

use std::path::PathBuf;

pub use self::{
    memory::Memory,
    redb::Redb,
    writer::{Handle, spawn},
};
use crate::{device::Device, name::DeviceId};

/// A number that grows with every change.
pub type Revision = u64;

/// A change of one device, or of several together. `device.revision` is set by
/// the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Fails if there is a device of the name.
    Create(Device),
    /// Makes all of them or none; fails if there is a device of any of the names.
    /// Their revisions follow each other; the last one's is the result.
    CreateAll(Vec<Device>),
    /// Fails if the device's revision is not `from`.
    Update {
        /// As it is to be.
        device: Device,
        /// As it was seen.
        from: Revision,
    },
    /// Fails if the device's revision is not `from`.
    Delete {
        /// Which.
        id: DeviceId,
        /// As it was seen.
        from: Revision,
    },
}

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// There is a device of that name.
    #[error("the device exists")]
    Exists,
    /// There is no device of that name.
    #[error("the device does not exist")]
    Missing,
    /// Somebody changed it in between.
    #[error("the device was changed by somebody else")]
    Changed,
}

/// Why the store did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened, read or written.
    #[error("cannot use the store {path}")]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<::redb::Error>,
    },
    /// A newer version of the program wrote it.
    #[error(
        "the store {path} has format {found}, and this version knows formats up to {known}; \
         use the version that wrote it"
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// Another process has it open.
    #[error("the store {path} is in use by another process")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A record does not read.
    #[error("the record of device {id} in the store is damaged")]
    Damaged {
        /// Which.
        id: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The thread could not be started.
    #[error("cannot start the store's thread")]
    Thread(#[source] std::io::Error),
    /// A commit failed; the log has the cause.
    #[error("the store could not commit")]
    Commit,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// Where devices are kept. Calls may block.
pub trait Store: Send {
    /// Every device, in the order of names.
    fn load(&mut self) -> Result<Vec<Device>, Error>;

    /// Makes changes durable together. Each is made or has a conflict of its
    /// own; with an error none is made.
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Result<Revision, Conflict>>, Error>;
}
