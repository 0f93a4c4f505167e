//! Who calls and from where, as it travels with a request.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Who calls. Made only by authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    user: Arc<str>,
    role: Role,
}

/// What an identity is to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// May do everything.
    Administrator,
}

impl Identity {
    pub(super) fn administrator(user: &str) -> Self {
        Self { user: user.into(), role: Role::Administrator }
    }

    /// The caller's name, as others see it.
    pub fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }
}

/// The connection that a request came on.
#[derive(Debug, Clone)]
pub struct Peer {
    address: SocketAddr,
    known: Arc<AtomicBool>,
}

impl Peer {
    /// A peer of which nothing is known but its address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, known: Arc::default() }
    }

    /// Where from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A call with a valid credential came on this connection.
    pub fn set_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// Whether such a call ever came.
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }
}
