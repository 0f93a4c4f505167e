//! Who calls and from where, as it travels with a request.

use std::{net::SocketAddr, sync::Arc};

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

/// The address a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);
