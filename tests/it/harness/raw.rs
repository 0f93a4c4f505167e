//! Below gRPC: TLS by hand, for clients that do not behave and for metrics.

use std::{fs, io, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Server, soon, until_async};

/// A TLS connection that has said nothing yet.
pub(crate) async fn tls(server: &Server, alpn: &str) -> TlsStream<TcpStream> {
    try_tls(server, alpn).await.unwrap()
}

/// The same, of a server that may turn it away.
async fn try_tls(server: &Server, alpn: &str) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&fs::read(server.ca_file()).unwrap()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(server.address()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    soon("TLS handshake", connecting).await
}

/// One of the server's counters or gauges, as soon as there is a place for us to
/// ask.
pub(crate) async fn metric(server: &Server, name: &str) -> i64 {
    let place = async || try_tls(server, "http/1.1").await.ok();
    let mut stream = until_async("place for a connection", place).await;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        server.token()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    soon("metrics", stream.read_to_string(&mut text)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let line = text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        let found = found.strip_prefix("lineman_")?;
        (found == name || found.strip_suffix("_total") == Some(name)).then_some(value)
    });
    line.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
}
