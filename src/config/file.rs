//! The configuration file: TOML, unknown keys refused, all faults told in one
//! run with their place.
//!
//! ```toml
//! listen = "0.0.0.0:7823"
//! state_dir = "/var/lib/lineman"
//!
//! [tls]
//! certificate = "/etc/lineman/server.pem"
//! key = "/etc/lineman/server.key"
//!
//! [[tokens]]
//! user = "ops"
//! file = "/etc/lineman/ops.token"
//!
//! [host_interfaces]
//! networks = ["10.20.0.0/16", {net = "192.0.2.0/24", ports = "1024-65535"}]
//! folders = ["/run/lineman"]
//! devices = ["/dev/serial/by-id", "/dev/ttyUSB0"]
//! domain_logs = "/var/log/lineman/domains"
//!
//! [credentials.consoles]
//! ca = "/etc/lineman/consoles-ca.pem"
//! certificate = "/etc/lineman/consoles.pem"
//! key = "/etc/lineman/consoles.key"
//! client_auth = "required"
//!
//! [limits]
//! connections = 10000
//! ```

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Config, credentials, host_interfaces};
use crate::{
    auth::{Token, TokenError, Tokens},
    net::Caps,
};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {source}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Values are wrong; one a line.
    #[error("{path}:\n  {}", problems.join("\n  "))]
    Values {
        /// Which.
        path: PathBuf,
        /// Each with the key it is about.
        problems: Vec<String>,
    },
    /// Something could not be made for development mode.
    #[error("cannot make {path}: {source}")]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A token could not be used.
    #[error("{path}: {source}")]
    Token {
        /// Which.
        path: PathBuf,
        /// Why.
        source: TokenError,
    },
    /// Development mode is for one's own machine.
    #[error(
        "--dev listens on loopback only, not on {0}: for a network, use --config with your own certificate and tokens"
    )]
    NotLoopback(SocketAddr),
    /// There is no place for state.
    #[error("no folder for state: set HOME or XDG_STATE_HOME, or give --state-dir")]
    NoStateDir,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: SocketAddr,
    state_dir: PathBuf,
    tls: TlsSection,
    #[serde(default)]
    tokens: Vec<TokenSection>,
    #[serde(default)]
    host_interfaces: host_interfaces::Section,
    #[serde(default)]
    credentials: credentials::Sections,
    #[serde(default)]
    limits: Limits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsSection {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenSection {
    user: String,
    file: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    connections: Option<usize>,
}

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let file: File = toml::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    let mut problems = Vec::new();
    let mut tokens = Tokens::default();
    if file.tokens.is_empty() {
        problems.push("tokens: there must be one at least, or nobody can do anything".to_owned());
    }
    for (at, section) in file.tokens.iter().enumerate() {
        if section.user.is_empty() || section.user.chars().any(char::is_control) {
            problems.push(format!("tokens[{at}].user: must be a name"));
        }
        match read_token(&section.file) {
            Ok(token) => tokens.add_administrator(&section.user, &token),
            Err(problem) => problems.push(format!("tokens[{at}].file: {problem}")),
        }
    }
    let allow = {
        // Absolute, however they are written: they are compared with what
        // devices name.
        let own = |file: &Path| std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let mut reserved = vec![own(&file.state_dir), own(path)];
        reserved.extend([own(&file.tls.certificate), own(&file.tls.key)]);
        reserved.extend(credentials::files(&file.credentials).map(own));
        reserved.extend(file.tokens.iter().map(|token| own(&token.file)));
        file.host_interfaces.check(&own(&file.state_dir), reserved, &mut problems)
    };
    let credentials = credentials::load(&file.credentials, &mut problems);
    let mut caps = Caps::default();
    if let Some(connections) = file.limits.connections {
        if (1..=1_000_000).contains(&connections) {
            caps.connections = connections;
        } else {
            problems.push("limits.connections: must be 1 to 1000000".to_owned());
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError::Values { path: path.to_owned(), problems });
    }
    Ok(Config {
        listen: file.listen,
        state_dir: file.state_dir,
        certificate: file.tls.certificate,
        key: file.tls.key,
        tokens,
        allow,
        credentials,
        caps,
    })
}

fn read_token(path: &Path) -> Result<Token, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Token::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_all_its_faults_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lineman.toml");
        let weak = dir.path().join("weak");
        fs::write(&weak, "secret").unwrap();
        fs::write(
            &path,
            format!(
                "listen = '0.0.0.0:7823'\nstate_dir = '/x'\n[tls]\ncertificate = 'c'\nkey = 'k'\n\
                 [[tokens]]\nuser = ''\nfile = '{}'\n[host_interfaces]\nfolders = ['run']\n",
                weak.display()
            ),
        )
        .unwrap();
        let error = load(&path).unwrap_err().to_string();
        for told in ["tokens[0].user", "tokens[0].file", "at least 32", "folders[0]"] {
            assert!(error.contains(told), "{error}");
        }
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lineman.toml");
        fs::write(&path, "lissen = '0.0.0.0:7823'\n").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("lissen"));
    }
}
