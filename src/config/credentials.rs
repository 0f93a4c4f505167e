//! The sections `[credentials.NAME]`: files of TLS credentials for the host
//! interfaces of devices. All files are read and tried here, so that a server
//! does not start with a key that does not fit and find out at three in the
//! morning. Each fault is told with its place, all at once, and never with what
//! is in a file.

use std::{collections::BTreeMap, path::Path, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde::Deserialize;

use crate::{
    backend::{CredentialSet, Credentials},
    limits,
};

/// All of them, by name.
pub(super) type Sections = BTreeMap<String, Section>;

/// One, as it is written.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    /// Who is trusted on the other end.
    pub(super) ca: Option<PathBuf>,
    /// What we show.
    pub(super) certificate: Option<PathBuf>,
    /// Its key.
    pub(super) key: Option<PathBuf>,
    /// Whether far sides that connect must show a certificate.
    pub(super) client_auth: Option<ClientAuth>,
}

/// Whether far sides that connect must show a certificate of the CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientAuth {
    /// Or they are turned away.
    Required,
    /// If they have one, it must be right.
    Optional,
    /// They are not asked.
    None,
}

/// Files that no device may touch.
pub(super) fn files(sections: &Sections) -> impl Iterator<Item = &Path> {
    sections
        .values()
        .flat_map(|section| [&section.ca, &section.certificate, &section.key])
        .filter_map(|file| file.as_deref())
}

/// Reads and tries all sets.
pub(super) fn load(sections: &Sections, problems: &mut Vec<String>) -> Credentials {
    let mut credentials = Credentials::default();
    for (name, section) in sections {
        let place = format!("credentials.{name}");
        if name.is_empty() || name.len() > limits::CREDENTIALS_NAME_BYTES_MAX {
            let most = limits::CREDENTIALS_NAME_BYTES_MAX;
            problems.push(format!("{place}: the name must be 1 to {most} bytes"));
        }
        match section.load() {
            Ok(set) => credentials.insert(name.clone(), set),
            Err(faults) => {
                problems.extend(faults.iter().map(|fault| format!("{place}{fault}")));
            }
        }
    }
    credentials
}

/// Development mode's set, for this machine only: its own certificate to listen
/// with, its own CA to connect by. Clients are not asked for certificates: there
/// are none.
pub(super) fn development(
    ca: &Path,
    certificate: &Path,
    key: &Path,
) -> Result<Credentials, String> {
    let client = Section { ca: Some(ca.to_owned()), ..Section::default() };
    let server = Section {
        certificate: Some(certificate.to_owned()),
        key: Some(key.to_owned()),
        ..Section::default()
    };
    let load = |section: Section| section.load().map_err(|faults| faults.join("; "));
    let set = CredentialSet { client: load(client)?.client, server: load(server)?.server };
    let mut credentials = Credentials::default();
    credentials.insert("dev".to_owned(), set);
    Ok(credentials)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Section {
    /// The set, or what is wrong with it, each with the rest of its place.
    fn load(&self) -> Result<CredentialSet, Vec<String>> {
        let mut faults = Vec::new();
        if self.certificate.is_some() != self.key.is_some() {
            faults.push(": `certificate` and `key` go together".to_owned());
        }
        if self.ca.is_none() && self.certificate.is_none() {
            faults.push(": must have a `ca`, a `certificate` with its `key`, or all".to_owned());
        }
        let default = if self.ca.is_some() { ClientAuth::Required } else { ClientAuth::None };
        let client_auth = self.client_auth.unwrap_or(default);
        if client_auth != ClientAuth::None && self.ca.is_none() {
            faults.push(".client_auth: needs a `ca` to verify clients with".to_owned());
        }
        let mut told = |key: &str, fault: String| faults.push(format!(".{key}: {fault}"));
        let roots = self.ca.as_deref().and_then(|file| match roots(file) {
            Ok(roots) => Some(Arc::new(roots)),
            Err(fault) => {
                told("ca", fault);
                None
            }
        });
        let chain = self
            .certificate
            .as_deref()
            .and_then(|file| certificates(file).map_err(|fault| told("certificate", fault)).ok());
        let key = self.key.as_deref().and_then(|file| {
            let key = PrivateKeyDer::from_pem_file(file);
            key.map_err(|error| told("key", unreadable(file, "private key", &error))).ok()
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let identity = chain.zip(key);
        build(roots, identity, client_auth)
            .map_err(|error| vec![format!(": certificate and key cannot be used: {error}")])
    }
}

fn build(
    roots: Option<Arc<RootCertStore>>,
    identity: Option<Identity>,
    client_auth: ClientAuth,
) -> Result<CredentialSet, rustls::Error> {
    let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = match &roots {
        None => None,
        Some(roots) => {
            let builder = ClientConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots.clone());
            Some(Arc::new(match &identity {
                None => builder.with_no_client_auth(),
                Some((chain, key)) => {
                    builder.with_client_auth_cert(chain.clone(), key.clone_key())?
                }
            }))
        }
    };
    let server = match identity {
        None => None,
        Some((chain, key)) => Some(server(roots, chain, key, client_auth, provider())?),
    };
    Ok(CredentialSet { client, server })
}

fn server(
    roots: Option<Arc<RootCertStore>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_auth: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match (client_auth, roots) {
        (ClientAuth::None, _) | (_, None) => builder.with_no_client_auth(),
        (required, Some(roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match required {
                ClientAuth::Optional => verifier.allow_unauthenticated(),
                ClientAuth::Required | ClientAuth::None => verifier,
            };
            let verifier = verifier.build();
            let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

fn roots(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("{} is of no use as a CA: {error}", file.display()))?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(file, "certificate", &error))?;
    if read.is_empty() {
        return Err(format!("there is no certificate in {}", file.display()));
    }
    Ok(read)
}

fn unreadable(file: &Path, what: &str, error: &rustls::pki_types::pem::Error) -> String {
    format!("cannot read a {what} from {}: {error}", file.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn make(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let files = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        fs::write(&files.0, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    fn check(text: &str) -> (Credentials, Vec<String>) {
        let mut problems = Vec::new();
        let credentials = load(&toml::from_str(text).unwrap(), &mut problems);
        (credentials, problems)
    }

    #[test]
    fn a_set_is_good_for_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = make(dir.path(), "a");
        let (certificate, key) = (certificate.display(), key.display());
        let (credentials, problems) = check(&format!(
            "[trusts]\nca = '{certificate}'\n\
             [shows]\ncertificate = '{certificate}'\nkey = '{key}'\n\
             [both]\nca = '{certificate}'\ncertificate = '{certificate}'\nkey = '{key}'\n\
             client_auth = 'optional'\n"
        ));
        assert_eq!(problems, Vec::<String>::new());
        let fit =
            |name| (credentials.client(Some(name)).is_ok(), credentials.server(Some(name)).is_ok());
        assert_eq!(
            [fit("trusts"), fit("shows"), fit("both")],
            [(true, false), (false, true), (true, true)]
        );
        let missing = credentials.client(Some("others")).unwrap_err().to_string();
        assert!(!missing.contains("both"), "{missing}");
        let secret = fs::read_to_string(dir.path().join("a.key")).unwrap();
        let shown = format!("{credentials:?}");
        assert!(!shown.contains(secret.lines().nth(1).unwrap()), "{shown}");
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (make(dir.path(), "a"), make(dir.path(), "b"));
        let (_, problems) = check(&format!(
            "[alone]\ncertificate = '{}'\n[empty]\n[gone]\nca = '/nowhere/ca.pem'\n\
             [strangers]\ncertificate = '{}'\nkey = '{}'\n\
             [trustless]\ncertificate = '{}'\nkey = '{}'\nclient_auth = 'required'\n\
             [keyless]\ncertificate = '{}'\nkey = '{}'\n",
            a.0.display(),
            a.0.display(),
            b.1.display(),
            a.0.display(),
            a.1.display(),
            a.0.display(),
            b.0.display(),
        ));
        let told = problems.join("\n");
        for fault in [
            "credentials.alone: `certificate` and `key` go together",
            "credentials.empty: must have a `ca`",
            "credentials.gone.ca: cannot read a certificate from /nowhere/ca.pem",
            "credentials.strangers: certificate and key cannot be used",
            "credentials.trustless.client_auth: needs a `ca`",
            "credentials.keyless.key: cannot read a private key",
        ] {
            assert!(told.contains(fault), "{fault} in\n{told}");
        }
        assert_eq!(problems.len(), 6, "{told}");
        let secret = fs::read_to_string(&b.1).unwrap();
        assert!(!told.contains(secret.lines().nth(1).unwrap()), "{told}");
    }
}
