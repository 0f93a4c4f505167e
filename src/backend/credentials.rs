//! TLS credentials by name: who is trusted on the other end of a connection, and
//! what we show of ourselves. Made by `config` from the operator's files when the
//! server starts, so that a wrong file is found then and no key is read later.
//!
//! A device names a set and never a file: whoever may make devices must not be
//! able to show a certificate, or trust a CA, that the operator did not give for
//! it. Names are not listed to callers. Nothing here prints a key.

use std::{collections::BTreeMap, fmt, sync::Arc};

use rustls::{ClientConfig, ServerConfig};

/// The set that is used if a device names none.
pub const DEFAULT_CREDENTIALS: &str = "default";

/// One set: what it is good for.
#[derive(Clone, Default)]
pub struct CredentialSet {
    /// To connect with; needs a CA.
    pub client: Option<Arc<ClientConfig>>,
    /// To listen with; needs a certificate.
    pub server: Option<Arc<ServerConfig>>,
}

/// All sets of the server's configuration.
#[derive(Clone, Default)]
pub struct Credentials {
    sets: BTreeMap<String, CredentialSet>,
}

/// Why a set cannot be used; follows the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is none of that name.
    #[error("must name a set of credentials of the server's configuration")]
    Unknown,
    /// None was named, and there is no set for that.
    #[error(
        "must name a set of credentials, because the server's configuration has none called \"{DEFAULT_CREDENTIALS}\""
    )]
    NoDefault,
    /// It does not say whom to trust.
    #[error("must name credentials that have a `ca` to verify the far side with")]
    NoCa,
    /// It has nothing to show.
    #[error("must name credentials that have a `certificate` to listen with")]
    NoCertificate,
}

impl Credentials {
    /// Adds a set.
    pub fn insert(&mut self, name: String, set: CredentialSet) {
        self.sets.insert(name, set);
    }

    /// To connect with a set; without a name, the one for that.
    pub fn client(&self, name: Option<&str>) -> Result<Arc<ClientConfig>, Unfit> {
        self.find(name)?.client.clone().ok_or(Unfit::NoCa)
    }

    /// To listen with a set; without a name, the one for that.
    pub fn server(&self, name: Option<&str>) -> Result<Arc<ServerConfig>, Unfit> {
        self.find(name)?.server.clone().ok_or(Unfit::NoCertificate)
    }

    fn find(&self, name: Option<&str>) -> Result<&CredentialSet, Unfit> {
        let missing = if name.is_some() { Unfit::Unknown } else { Unfit::NoDefault };
        self.sets.get(name.unwrap_or(DEFAULT_CREDENTIALS)).ok_or(missing)
    }
}

impl fmt::Debug for CredentialSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSet")
            .field("client", &self.client.is_some())
            .field("server", &self.server.is_some())
            .finish()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.sets).finish()
    }
}
