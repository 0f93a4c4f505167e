//! The first thing every handler does: find out who called and whether they may,
//! before anything tells whether a device exists (AIP-211).

use std::net::SocketAddr;

use http::Extensions;

use super::{Api, status::Error};
use crate::{
    auth::{Action, Identity, Peer, Unauthenticated},
    name::DeviceId,
};

/// Who calls, and from where.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) identity: Identity,
    pub(super) peer: Option<SocketAddr>,
}

impl Caller {
    /// How others see the caller: its identity, and its own words if it has any.
    pub(super) fn name(&self, client: &str) -> String {
        if client.is_empty() {
            self.identity.user().to_owned()
        } else {
            format!("{} ({client})", self.identity.user())
        }
    }

    /// Where from, for the log.
    pub(super) fn address(&self) -> String {
        self.peer.map(|peer| peer.to_string()).unwrap_or_default()
    }
}

impl Api {
    /// Who sent a request and whether they may do `action`.
    pub(super) fn authorize(
        &self,
        extensions: &Extensions,
        action: Action,
        device: Option<&DeviceId>,
    ) -> Result<Caller, Error> {
        let identity = extensions
            .get::<Identity>()
            .cloned()
            .ok_or(Error::Unauthenticated(Unauthenticated::Missing))?;
        let peer = extensions.get::<Peer>().map(Peer::address);
        let caller = Caller { identity, peer };
        self.may(&caller, action, device)?;
        Ok(caller)
    }

    /// Whether a known caller may do something further.
    pub(super) fn may(
        &self,
        caller: &Caller,
        action: Action,
        device: Option<&DeviceId>,
    ) -> Result<(), Error> {
        self.inner.auth.authorize(&caller.identity, action, device).map_err(|denied| {
            self.inner.metrics.permission_denied.inc();
            Error::Denied(denied)
        })
    }
}

/// A device's name from a request.
pub(super) fn device_id(field: &'static str, name: &str) -> Result<DeviceId, Error> {
    DeviceId::from_resource_name(name).map_err(|error| Error::Name { field, error })
}
