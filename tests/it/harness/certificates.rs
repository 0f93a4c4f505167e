//! Certificates made for one test: the right ones, and each kind of wrong one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, date_time_ymd,
};

/// Who a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A server at `localhost` and 127.0.0.1.
    Server,
    /// A client called `operator`. Its key is of RSA, all others are of P-256.
    Client,
    /// The same as the server and client, but of a CA that nobody trusts.
    Stranger,
    /// The same as the server and client, but its time is over.
    Expired,
    /// A server at `elsewhere.example` only.
    Elsewhere,
}

const HOLDERS: [(Holder, &str); 5] = [
    (Holder::Server, "server"),
    (Holder::Client, "client"),
    (Holder::Stranger, "stranger"),
    (Holder::Expired, "expired"),
    (Holder::Elsewhere, "elsewhere"),
];

/// PEM files in a folder: `ca.pem`, `other-ca.pem`, and for each holder
/// `NAME.pem` and `NAME.key`.
pub(crate) struct Certificates {
    dir: PathBuf,
}

/// The files of one holder.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    /// Makes them all in `DIR/certificates`.
    pub(crate) fn make(dir: &Path) -> Self {
        let made = Self { dir: dir.join("certificates") };
        fs::create_dir(&made.dir).unwrap();
        let ca = authority("Test CA");
        let other = authority("Another CA");
        fs::write(made.ca(), ca.pem()).unwrap();
        fs::write(made.other_ca(), other.pem()).unwrap();
        for (holder, _) in HOLDERS {
            let key = match holder {
                // telnet-ssl takes no other kind.
                Holder::Client => KeyPair::generate_for(&PKCS_RSA_SHA256),
                Holder::Server | Holder::Stranger | Holder::Expired | Holder::Elsewhere => {
                    KeyPair::generate()
                }
            };
            let key = key.unwrap();
            let issuer = if holder == Holder::Stranger { &other } else { &ca };
            let certificate = params(holder).signed_by(&key, issuer).unwrap();
            let files = made.of(holder);
            fs::write(files.certificate, certificate.pem()).unwrap();
            fs::write(files.key, key.serialize_pem()).unwrap();
        }
        made
    }

    /// The CA of all but the stranger.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The stranger's CA.
    pub(crate) fn other_ca(&self) -> PathBuf {
        self.dir.join("other-ca.pem")
    }

    pub(crate) fn of(&self, holder: Holder) -> Identity {
        let (_, name) = HOLDERS.iter().find(|(each, _)| *each == holder).unwrap();
        let file = |kind: &str| self.dir.join(format!("{name}.{kind}"));
        Identity { certificate: file("pem"), key: file("key") }
    }

    /// A folder as QEMU's `tls-creds-x509` and libvirt want it: the CA, the
    /// server and the client under their names.
    pub(crate) fn for_qemu(&self) -> PathBuf {
        let dir = self.dir.join("qemu");
        fs::create_dir_all(&dir).unwrap();
        fs::copy(self.ca(), dir.join("ca-cert.pem")).unwrap();
        for (holder, name) in [(Holder::Server, "server"), (Holder::Client, "client")] {
            let Identity { certificate, key } = self.of(holder);
            fs::copy(certificate, dir.join(format!("{name}-cert.pem"))).unwrap();
            fs::copy(key, dir.join(format!("{name}-key.pem"))).unwrap();
        }
        dir
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = named(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(holder: Holder) -> CertificateParams {
    const HERE: [&str; 2] = ["localhost", "127.0.0.1"];
    let (client, server) =
        (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth);
    let (name, hosts, purposes) = match holder {
        Holder::Server => ("localhost", &HERE[..], vec![server]),
        Holder::Client => ("operator", &[][..], vec![client]),
        Holder::Stranger | Holder::Expired => ("localhost", &HERE[..], vec![server, client]),
        Holder::Elsewhere => ("elsewhere.example", &["elsewhere.example"][..], vec![server]),
    };
    let mut params = named(name, hosts);
    params.extended_key_usages = purposes;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if holder == Holder::Expired {
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    params
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.into()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}
