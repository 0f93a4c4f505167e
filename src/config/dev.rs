//! Development mode: everything a first session needs, made on first start and
//! kept. A CA of its own signs the certificate, so that even here nobody learns
//! to switch verification off; private files are readable by their owner only.

use std::{
    fs, io,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

use super::{Config, ConfigError, administrator, credentials, host_interfaces};
use crate::{auth::Token, net::Caps};

/// Who the token stands for.
const USER: &str = "admin";
/// Years that the certificates are good for.
const YEARS: i32 = 20;

/// Where development mode keeps what it made.
#[derive(Debug, Clone)]
pub struct Dev {
    /// PEM: the CA to trust.
    pub ca_file: PathBuf,
    /// The administrator's token.
    pub token_file: PathBuf,
}

/// Makes what is missing, and the configuration that uses it. Blocks.
pub fn prepare(
    listen: SocketAddr,
    state_dir: Option<PathBuf>,
) -> Result<(Config, Dev), ConfigError> {
    if !listen.ip().is_loopback() {
        return Err(ConfigError::NotLoopback(listen));
    }
    let state_dir = match state_dir {
        Some(dir) => std::path::absolute(&dir)
            .map_err(|source| ConfigError::Make { path: dir.clone(), source })?,
        None => default_state_dir().ok_or(ConfigError::NoStateDir)?,
    };
    let dir = state_dir.join("dev");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ConfigError::Make { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed(&dir))?;
    let (ca_file, token_file) = (dir.join("ca.pem"), dir.join("admin.token"));
    let (certificate, key) = (dir.join("server.pem"), dir.join("server.key"));
    if ![&ca_file, &certificate, &key].iter().all(|path| path.exists()) {
        let made = certificates()?;
        write_private(&dir.join("ca.key"), &made.ca_key).map_err(failed(&dir))?;
        write_private(&key, &made.key).map_err(failed(&key))?;
        write_private(&certificate, &made.certificate).map_err(failed(&certificate))?;
        // Last: its being there says that the others are.
        write_private(&ca_file, &made.ca).map_err(failed(&ca_file))?;
    }
    let unusable = |source| ConfigError::Token { path: token_file.clone(), source };
    let token = match fs::read_to_string(&token_file) {
        Ok(text) => Token::parse(&text).map_err(unusable)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = Token::generate().map_err(unusable)?;
            write_private(&token_file, &format!("{}\n", token.reveal()))
                .map_err(failed(&token_file))?;
            token
        }
        Err(source) => return Err(ConfigError::Read { path: token_file, source }),
    };
    let credentials = credentials::development(&ca_file, &certificate, &key)
        .map_err(|problem| ConfigError::Values { path: dir.clone(), problems: vec![problem] })?;
    let config = Config {
        listen,
        allow: host_interfaces::development(&state_dir),
        state_dir,
        credentials,
        certificate,
        key,
        tokens: administrator(USER, &token),
        caps: Caps::default(),
    };
    Ok((config, Dev { ca_file, token_file }))
}

fn default_state_dir() -> Option<PathBuf> {
    let xdg = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let base = xdg.or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))?;
    Some(base.join("lineman"))
}

struct Certificates {
    ca: String,
    ca_key: String,
    certificate: String,
    key: String,
}

fn certificates() -> Result<Certificates, rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let ca_key_pem = ca_key.serialize_pem();
    let mut ca = params("Lineman development CA", Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, ca_key)?;

    let key = KeyPair::generate()?;
    let names = vec![
        "localhost".into(),
        Ipv4Addr::LOCALHOST.to_string(),
        IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]).to_string(),
    ];
    let mut server = params("Lineman development server", names)?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let certificate = server.signed_by(&key, &ca)?;
    Ok(Certificates {
        ca: ca.pem(),
        ca_key: ca_key_pem,
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let year = this_year();
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    Ok(params)
}

fn this_year() -> i32 {
    /// Of the Gregorian calendar.
    const SECONDS_PER_YEAR: u64 = 31_556_952;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    1970 + i32::try_from(since.as_secs() / SECONDS_PER_YEAR).unwrap_or(0)
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_made_is_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let state = dir.path().join("state");
        let (_config, dev) = prepare(listen, Some(state.clone())).unwrap();
        let read = || [fs::read(&dev.ca_file).unwrap(), fs::read(&dev.token_file).unwrap()];
        let before = read();
        prepare(listen, Some(state.clone())).unwrap();
        assert_eq!(read(), before);
        for entry in fs::read_dir(state.join("dev")).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.path());
        }
    }

    #[test]
    fn it_stays_on_this_machine() {
        let error = prepare("0.0.0.0:7823".parse().unwrap(), None).unwrap_err();
        assert!(error.to_string().contains("loopback"), "{error}");
    }
}
