//! The far side of a `tcp` device, whatever is spoken: the test hears and says
//! bytes, and TLS and telnet are between. TLS is rustls, telnet our own codec in the
//! other role; that others understand us too is told by the stories with telnet,
//! openssl, QEMU, ser2net and pyserial.

use std::{fs, io, sync::Arc};

use lineman::{
    pb::{
        self,
        tcp_host_interface::{Mode, Protocol},
    },
    wire::telnet::{Config, Role, Side, Telnet, TelnetOption},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Certificates, Holder, Identity, Server, soon};

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    Raw,
    Telnet,
    Tls,
    Telnets,
}

impl Stack {
    pub(crate) const ALL: [Self; 4] = [Self::Raw, Self::Telnet, Self::Tls, Self::Telnets];

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Telnets)
    }

    fn is_telnet(self) -> bool {
        matches!(self, Self::Telnet | Self::Telnets)
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Raw => Protocol::Raw,
            Self::Telnet => Protocol::Telnet,
            Self::Tls => Protocol::Tls,
            Self::Telnets => Protocol::Telnets,
        }
    }
}

/// A spec for a stack on 127.0.0.1; with TLS, with the credentials `test`.
pub(crate) fn tcp_spec(mode: Mode, port: u16, stack: Stack) -> pb::TcpHostInterface {
    pb::TcpHostInterface {
        mode: mode.into(),
        host: "127.0.0.1".into(),
        port: port.into(),
        protocol: stack.protocol().into(),
        credentials: if stack.is_tls() { "test".into() } else { String::new() },
        ..Default::default()
    }
}

/// A server whose credentials `test` have the CA of `certificates` and what
/// `holder` shows.
pub(crate) async fn server_with_credentials(holder: Holder, more: &str) -> (Server, Certificates) {
    let mut server = Server::start();
    server.stop().await;
    let certificates = Certificates::make(server.dir());
    let Identity { certificate, key } = certificates.of(holder);
    server.start_with_config(&format!(
        "[host_interfaces]\nnetworks = ['127.0.0.0/8']\n\
         [credentials.test]\nca = '{}'\ncertificate = '{}'\nkey = '{}'\n{more}",
        certificates.ca().display(),
        certificate.display(),
        key.display()
    ));
    (server, certificates)
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The far side of one connection.
pub(crate) struct TcpFar {
    read: ReadHalf<Box<dyn Io>>,
    write: WriteHalf<Box<dyn Io>>,
    telnet: Option<Telnet>,
    heard: Vec<u8>,
}

impl TcpFar {
    /// Of a device that connects, or of one that listens (`mode`). With TLS it has
    /// the certificate of `Server` or `Client`.
    pub(crate) async fn on(
        stream: TcpStream,
        mode: Mode,
        stack: Stack,
        certificates: &Certificates,
    ) -> io::Result<Self> {
        let io: Box<dyn Io> = match (stack.is_tls(), mode) {
            (false, _) => Box::new(stream),
            (true, Mode::Bind) => {
                let name = ServerName::try_from("localhost").unwrap();
                let connecting = TlsConnector::from(client(certificates)).connect(name, stream);
                Box::new(soon("TLS handshake", connecting).await?)
            }
            (true, _) => {
                let accepting = TlsAcceptor::from(acceptor(certificates)).accept(stream);
                Box::new(soon("TLS handshake", accepting).await?)
            }
        };
        let role = if mode == Mode::Bind { Role::Client } else { Role::Server };
        let telnet = stack.is_telnet().then(|| Telnet::new(role, Config::default()));
        let (read, write) = split(io);
        let mut far = Self { read, write, telnet, heard: Vec::new() };
        far.agree().await?;
        Ok(far)
    }

    /// Until both sides are transparent: before, a CR has a NUL after it.
    async fn agree(&mut self) -> io::Result<()> {
        let agreed = |telnet: &Telnet| {
            [Side::Us, Side::Them].iter().all(|side| telnet.is_on(*side, TelnetOption::Binary))
        };
        self.try_say(b"").await?;
        let mut came = [0; 1024];
        while self.telnet.as_ref().is_some_and(|telnet| !agreed(telnet)) {
            match soon("telnet's opening", self.read.read(&mut came)).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.take(&came[..n]),
            }
            self.try_say(b"").await?;
        }
        Ok(())
    }

    pub(crate) async fn says(&mut self, data: &[u8]) {
        self.try_say(data).await.unwrap();
    }

    async fn try_say(&mut self, data: &[u8]) -> io::Result<()> {
        let mut wire = Vec::new();
        match &mut self.telnet {
            Some(telnet) => telnet.encode(data, &mut wire),
            None => wire.extend_from_slice(data),
        }
        self.write.write_all(&wire).await?;
        self.write.flush().await
    }

    /// All that came, once it is so many bytes.
    pub(crate) async fn hears_bytes(&mut self, len: usize) -> &[u8] {
        let mut came = vec![0; 64 * 1024];
        while self.heard.len() < len {
            let n = soon("input", self.read.read(&mut came)).await.unwrap();
            assert!(n > 0, "ended after {} bytes", self.heard.len());
            self.take(&came[..n]);
            self.says(b"").await;
        }
        &self.heard
    }

    fn take(&mut self, mut came: &[u8]) {
        match &mut self.telnet {
            Some(telnet) => {
                while !came.is_empty() {
                    telnet.decode(&mut came, &mut self.heard);
                }
            }
            None => self.heard.extend_from_slice(came),
        }
    }

    /// Below telnet, for text that it leaves as it is.
    pub(crate) fn wire(&mut self) -> &mut (impl AsyncWrite + Unpin + use<>) {
        &mut self.write
    }

    /// Says that nothing more comes, and goes.
    pub(crate) async fn says_no_more(mut self) {
        self.write.shutdown().await.ok();
    }

    /// Goes without a word, as a cut cable would have it: TLS is not ended.
    pub(crate) fn cut(self) {
        drop(self);
    }
}

fn identity(
    certificates: &Certificates,
    holder: Holder,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let Identity { certificate, key } = certificates.of(holder);
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    (chain, PrivateKeyDer::from_pem_file(key).unwrap())
}

fn client(certificates: &Certificates) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = fs::read(certificates.ca()).unwrap();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let (chain, key) = identity(certificates, Holder::Client);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key);
    Arc::new(config.unwrap())
}

fn acceptor(certificates: &Certificates) -> Arc<ServerConfig> {
    let (chain, key) = identity(certificates, Holder::Server);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key);
    Arc::new(config.unwrap())
}
