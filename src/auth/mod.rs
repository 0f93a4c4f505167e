//! Who is calling, and what they may do. Every RPC passes here twice: once to
//! find out who calls ([`Auth::authenticate`]) and once for each thing it does
//! ([`Auth::authorize`]), before it is told whether a device exists.
//!
//! Denies unless allowed. Today a caller is known by a bearer token and whoever
//! is known may do everything; certificates and policies take the same two
//! doors.

mod identity;
mod token;

use http::{HeaderMap, header::AUTHORIZATION};

use self::identity::Role;
pub use self::{
    identity::{Identity, Peer},
    token::{Token, TokenError, Tokens},
};
use crate::name::DeviceId;

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See that a device exists, and what it is.
    Get,
    /// See devices.
    List,
    /// Make one.
    Create,
    /// Change, start or stop one.
    Update,
    /// Remove one.
    Delete,
    /// Read output.
    Observe,
    /// Send input.
    Write,
    /// Take the right to write from somebody.
    Force,
    /// Read the API's own description.
    Reflect,
    /// Read metrics.
    Metrics,
}

/// It is not known who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// No credential was sent.
    #[error("send a bearer token in the authorization header")]
    Missing,
    /// The credential is not one of ours.
    #[error("the credential is not valid")]
    Invalid,
}

/// The caller may not do this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{user} may not do this")]
pub struct Denied {
    /// Who.
    pub user: String,
}

/// The two doors.
#[derive(Debug)]
pub struct Auth {
    tokens: Tokens,
}

impl Auth {
    /// Knows the callers of `tokens`.
    pub fn new(tokens: Tokens) -> Self {
        Self { tokens }
    }

    /// Who calls.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, Unauthenticated> {
        let header = headers.get(AUTHORIZATION).ok_or(Unauthenticated::Missing)?;
        let header = header.to_str().map_err(|_| Unauthenticated::Invalid)?;
        let (scheme, token) = header.split_once(' ').ok_or(Unauthenticated::Invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Unauthenticated::Invalid);
        }
        self.tokens.identify(token.trim()).ok_or(Unauthenticated::Invalid)
    }

    /// Whether `identity` may do `action`, on `device` if it is about one.
    pub fn authorize(
        &self,
        identity: &Identity,
        _action: Action,
        _device: Option<&DeviceId>,
    ) -> Result<(), Denied> {
        match identity.role() {
            Role::Administrator => Ok(()),
        }
    }
}
