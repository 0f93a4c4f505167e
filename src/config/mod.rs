//! How a server is set up: from a file, or made by itself in development mode.

mod credentials;
mod dev;
mod file;
mod host_interfaces;

use std::{net::SocketAddr, path::PathBuf};

pub use self::{
    dev::{Dev, prepare as prepare_dev},
    file::{ConfigError, load},
};
use crate::{
    auth::{Token, Tokens},
    backend::{Allow, Credentials},
    net::Caps,
};

/// Everything a server needs to know to run.
#[derive(Debug)]
pub struct Config {
    /// Where to listen; port 0 is any free one.
    pub listen: SocketAddr,
    /// Where devices and journals are kept.
    pub state_dir: PathBuf,
    /// PEM: the server's certificate and those that lead to its CA.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// Who is let in.
    pub tokens: Tokens,
    /// What devices may name.
    pub allow: Allow,
    /// What they show and trust in TLS.
    pub credentials: Credentials,
    /// How many connections may be there at once.
    pub caps: Caps,
}

/// A token that stands for an administrator.
fn administrator(user: &str, token: &Token) -> Tokens {
    let mut tokens = Tokens::default();
    tokens.add_administrator(user, token);
    tokens
}
