//! `openssl` as the other end of TLS: an implementation that is not ours, and
//! that tells in words why it did not like a certificate.

use std::{path::Path, process::Command};

use super::{
    Certificates, Holder, Relay, peer,
    ports::{Port, port_of},
};

/// Whether a server wants to know who its clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    NotAsked,
    /// Of the CA, or the connection ends.
    Demanded,
}

/// `openssl s_server` with a holder's certificate, and the port it listens on.
/// It takes one client after the other; the relay's far side talks to whoever is
/// connected.
pub(crate) async fn tls_server(
    certificates: &Certificates,
    holder: Holder,
    clients: ClientCertificate,
    dir: &Path,
) -> Option<(Relay, u16)> {
    let mut command = Command::new(peer("openssl")?);
    let identity = certificates.of(holder);
    command.args(["s_server", "-quiet", "-accept", "127.0.0.1:0", "-cert"]);
    command.arg(identity.certificate).arg("-key").arg(identity.key);
    command.arg("-CAfile").arg(certificates.ca());
    if clients == ClientCertificate::Demanded {
        command.args(["-Verify", "1", "-verify_return_error"]);
    }
    let mut relay = Relay::spawn(command, dir, "s_server");
    let port = port_of(&mut relay.program, Port::Listening).await;
    Some((relay, port))
}

/// `openssl s_client`, connected to a port of this machine as `localhost`, which
/// the server's certificate must be valid for; with a holder's certificate if
/// there is one. If the handshake fails it ends with code 1 and its
/// `program.stderr()` says why.
pub(crate) fn tls_client(
    certificates: &Certificates,
    holder: Option<Holder>,
    port: u16,
    dir: &Path,
) -> Option<Relay> {
    let mut command = Command::new(peer("openssl")?);
    command.args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost"]);
    command.args(["-connect", &format!("127.0.0.1:{port}"), "-CAfile"]).arg(certificates.ca());
    if let Some(holder) = holder {
        let identity = certificates.of(holder);
        command.arg("-cert").arg(identity.certificate).arg("-key").arg(identity.key);
    }
    Some(Relay::spawn(command, dir, "s_client"))
}
