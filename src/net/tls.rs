//! TLS for the server: rustls with aws-lc-rs, TLS 1.3 and 1.2, HTTP/2 for gRPC
//! and HTTP/1.1 for a browser or `curl` that wants metrics.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// What HTTP/2 is called in the handshake (RFC 9113 section 3.2).
pub(super) const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file does not hold what it should.
    #[error("cannot read {what} from {path}")]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The file holds no certificate.
    #[error("there is no certificate in {0}")]
    Empty(PathBuf),
    /// Certificate and key do not fit, or are of a kind that is not known.
    #[error("certificate and key cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// The server's side of TLS, from a certificate chain and its key.
pub fn server_config(certificate: &PathBuf, key: &PathBuf) -> Result<Arc<ServerConfig>, TlsError> {
    let file = |what, path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::File { what, path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file("a certificate", certificate))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(certificate.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(file("a private key", key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(Arc::new(config))
}
