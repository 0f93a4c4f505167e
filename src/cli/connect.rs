//! The way to the server: TLS that trusts the context's CA and no other, and a
//! bearer token with every call.
//!
//! A thing of its own because attachments connect again and again: the files are
//! read each time, so that a renewed token or CA is taken without a restart.
//! The token is marked sensitive and is in no `Debug` form and no error.
//!
//! Windows are larger than the default of 64 KiB so that a console that was
//! silent for an hour and prints a megabyte is not paced by round trips: with
//! 512 KiB a stream fills 40 Mbit/s at 100 ms.

use std::{fmt, fs, io, path::Path, time::Duration};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri},
};

use super::{
    context::Context,
    exit::{Exit, Failure, root},
};
use crate::pb::{
    console_service_client::ConsoleServiceClient, device_service_client::DeviceServiceClient,
};

/// The port of a server that is named without one.
const PORT_DEFAULT: u16 = 7823;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead connection is noticed after the interval and the timeout together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// A page of a list may hold many devices with long labels.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A CA bundle or token file larger than this is some other file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Every call goes through this.
pub(super) type Transport = InterceptedService<Channel, Bearer>;
pub(super) type Devices = DeviceServiceClient<Transport>;
pub(super) type Consoles = ConsoleServiceClient<Transport>;

/// A server to connect to.
#[derive(Debug, Clone)]
pub(super) struct Server {
    context: Context,
}

impl Server {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }

    /// Connects, for managing devices.
    pub(super) async fn devices(&self) -> Result<Devices, Failure> {
        let transport = self.connect().await?;
        Ok(Devices::new(transport).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Connects, for output and input.
    pub(super) async fn consoles(&self) -> Result<Consoles, Failure> {
        Ok(Consoles::new(self.connect().await?))
    }

    async fn connect(&self) -> Result<Transport, Failure> {
        let Context { server, ca_file, token_file } = &self.context;
        let bearer = Bearer::read(token_file)?;
        let ca = read_file(ca_file)?;
        let (uri, host) = address(server)?;
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(host);
        let endpoint = Endpoint::from(uri)
            .tls_config(tls)
            .map_err(|error| {
                let ca_file = ca_file.display();
                let message = format!("the CA in {ca_file} cannot be used: {}", root(&error));
                Failure::new(Exit::Invalid, message)
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let channel = endpoint.connect().await.map_err(|error| {
            let cause = root(&error);
            let advice = if cause.contains("certificate") {
                format!(
                    "; the host in --server must be one that the certificate is for, and {} the \
                     CA that signed it",
                    ca_file.display()
                )
            } else {
                "; check that it runs and that --server is right".to_owned()
            };
            let message = format!("cannot reach the server at {server}: {cause}{advice}");
            Failure::new(Exit::Unreachable, message)
        })?;
        Ok(InterceptedService::new(channel, bearer))
    }
}

/// Puts the bearer token into each call.
#[derive(Clone)]
pub(super) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = read_file(path)?;
        // The cause of a failure would quote the token; the path says enough.
        let value = str::from_utf8(&bytes).ok().map(str::trim);
        let value = value.filter(|token| !token.is_empty() && !token.contains(char::is_whitespace));
        let value = value.and_then(|token| format!("Bearer {token}").parse().ok());
        let mut value: MetadataValue<Ascii> = value.ok_or_else(|| {
            let message = format!("{} does not hold one bearer token", path.display());
            Failure::new(Exit::Denied, message)
        })?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// The address to connect to and the name that the certificate must be for.
fn address(server: &str) -> Result<(Uri, String), Failure> {
    let invalid = || {
        let message = format!("\"{server}\" is not the address of a server; give HOST:PORT");
        Failure::new(Exit::Invalid, message)
    };
    let authority = server.strip_prefix("https://").unwrap_or(server);
    if authority.contains(['/', '@', '?', '#']) {
        return Err(invalid());
    }
    let authority: http::uri::Authority = authority.parse().map_err(|_| invalid())?;
    let host = authority.host();
    let port = match authority.port_u16() {
        Some(port) => port,
        // Something stands where a port should.
        None if authority.as_str().len() > host.len() => return Err(invalid()),
        None => PORT_DEFAULT,
    };
    let uri = format!("https://{host}:{port}").parse();
    let uri = uri.map_err(|_| invalid())?;
    let name = host.trim_matches(['[', ']']).to_owned();
    Ok((uri, name))
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = || {
        let size = fs::metadata(path)?.len();
        if size > FILE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        fs::read(path)
    };
    read().map_err(|error| {
        let message = format!("cannot read {}: {error}", path.display());
        Failure::new(Exit::Failed, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verified_name_is_the_host_of_the_server() {
        let check = |server: &str, uri: &str, name: &str| {
            let (found_uri, found_name) = address(server).unwrap();
            assert_eq!(found_uri.to_string(), uri);
            assert_eq!(found_name, name);
        };
        check("127.0.0.1:7823", "https://127.0.0.1:7823/", "127.0.0.1");
        check("lab.example", "https://lab.example:7823/", "lab.example");
        check("https://[::1]:99", "https://[::1]:99/", "::1");
        for bad in ["", "a/b", "http://x", "x:99999", "user@x:1", "a b"] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_token_is_in_no_debug_form_and_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "s3cret\n").unwrap();
        let mut bearer = Bearer::read(&path).unwrap();
        assert!(!format!("{bearer:?}").contains("s3cret"));
        let request = bearer.call(Request::new(())).unwrap();
        assert!(!format!("{request:?}").contains("s3cret"));
        fs::write(&path, "s3cret and more").unwrap();
        let error = Bearer::read(&path).unwrap_err();
        assert!(!error.to_string().contains("s3cret"));
    }
}
