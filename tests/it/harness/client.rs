//! A client made of the generated code alone.

use std::{fs, path::Path, time::Duration};

use lineman::pb::{
    self, console_service_client::ConsoleServiceClient, device_service_client::DeviceServiceClient,
    device_spec::HostInterface, device_status::State,
};
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_types::StatusExt;

use super::{Server, soon, until_async};

type Service = InterceptedService<Channel, Bearer>;

/// Sends the administrator's token.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Both services on one connection.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) devices: DeviceServiceClient<Service>,
    pub(crate) console: ConsoleServiceClient<Service>,
}

impl Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        let token = format!("Bearer {}", server.token()).parse().unwrap();
        Self::over(channel(server).await, Some(token))
    }

    /// A client that takes in little before it is read (64 KiB, HTTP/2's default).
    pub(crate) async fn with_small_windows(server: &Server) -> Self {
        const WINDOW: u32 = 65_535;
        let endpoint = endpoint(server)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let token = format!("Bearer {}", server.token()).parse().unwrap();
        Self::over(endpoint.connect().await.unwrap(), Some(token))
    }

    /// Whoever has no token.
    pub(crate) async fn anonymous(server: &Server) -> Self {
        Self::over(channel(server).await, None)
    }

    /// A call of somebody without a token that stays open.
    pub(crate) async fn watch_health(server: &Server) -> Streaming<HealthCheckResponse> {
        let mut health = HealthClient::new(channel(server).await);
        let watch = health.watch(HealthCheckRequest { service: String::new() });
        let mut watch = watch.await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status, 1, "serving");
        watch
    }

    fn over(channel: Channel, token: Option<MetadataValue<Ascii>>) -> Self {
        let bearer = Bearer(token);
        Self {
            devices: DeviceServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            console: ConsoleServiceClient::with_interceptor(channel, bearer),
        }
    }

    pub(crate) async fn create(&mut self, id: &str, device: pb::Device) -> pb::Device {
        self.try_create(id, device).await.unwrap()
    }

    pub(crate) async fn try_create(
        &mut self,
        id: &str,
        device: pb::Device,
    ) -> Result<pb::Device, Status> {
        let request = pb::CreateDeviceRequest {
            device_id: id.into(),
            device: Some(device),
            ..Default::default()
        };
        self.devices.create_device(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn get(&mut self, id: &str) -> pb::Device {
        let name = format!("devices/{id}");
        self.devices.get_device(pb::GetDeviceRequest { name }).await.unwrap().into_inner()
    }

    pub(crate) async fn status(&mut self, id: &str) -> pb::DeviceStatus {
        self.get(id).await.status.unwrap()
    }

    /// Waits until the device's status is as wanted.
    pub(crate) async fn until_status(
        &mut self,
        id: &str,
        what: &str,
        wanted: impl Fn(&pb::DeviceStatus) -> bool,
    ) -> pb::DeviceStatus {
        until_async(what, async || Some(self.status(id).await).filter(&wanted)).await
    }

    pub(crate) async fn until_state(&mut self, id: &str, state: State) -> pb::DeviceStatus {
        self.until_status(id, state.as_str_name(), |status| status.state() == state).await
    }

    /// Everything that a device said so far, and the gaps in it.
    pub(crate) async fn history(&mut self, id: &str) -> (Vec<u8>, Vec<pb::Gap>) {
        let request =
            pb::ReadOutputRequest { device: format!("devices/{id}"), ..Default::default() };
        let mut stream = self.console.read_output(request).await.unwrap().into_inner();
        let (mut bytes, mut gaps) = (Vec::new(), Vec::new());
        while let Some(message) = soon("history", stream.message()).await.unwrap() {
            match message.message {
                Some(pb::read_output_response::Message::Output(output)) => {
                    bytes.extend_from_slice(&output.data);
                }
                Some(pb::read_output_response::Message::Gap(gap)) => gaps.push(gap),
                _ => {}
            }
        }
        (bytes, gaps)
    }

    /// Sends input and waits until it is written.
    pub(crate) async fn write(&mut self, id: &str, data: &[u8]) -> Result<u64, Status> {
        let request = pb::WriteInputRequest {
            device: format!("devices/{id}"),
            payload: Some(pb::write_input_request::Payload::Data(data.to_vec().into())),
            mode: 0,
        };
        self.console.write_input(request).await.map(|response| response.into_inner().accepted_bytes)
    }
}

async fn channel(server: &Server) -> Channel {
    endpoint(server).connect().await.unwrap()
}

fn endpoint(server: &Server) -> Endpoint {
    let ca = Certificate::from_pem(fs::read(server.ca_file()).unwrap());
    let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name("localhost");
    Endpoint::from_shared(format!("https://{}", server.address()))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
}

/// A device of a host interface.
pub(crate) fn device(host_interface: HostInterface) -> pb::Device {
    let spec = pb::DeviceSpec {
        host_interface: Some(host_interface),
        // Tests do not wait for a patient back-off.
        reconnect: Some(pb::ReconnectSpec {
            min_delay: Some(Duration::from_millis(20).try_into().unwrap()),
            max_delay: Some(Duration::from_millis(200).try_into().unwrap()),
            ..Default::default()
        }),
        ..Default::default()
    };
    pb::Device { spec: Some(spec), ..Default::default() }
}

pub(crate) fn pty() -> pb::Device {
    device(HostInterface::Pty(pb::PtyHostInterface::default()))
}

pub(crate) fn connect_tcp(port: u16) -> pb::Device {
    device(HostInterface::Tcp(pb::TcpHostInterface {
        mode: pb::tcp_host_interface::Mode::Connect.into(),
        host: "127.0.0.1".into(),
        port: port.into(),
        ..Default::default()
    }))
}

pub(crate) fn bind_tcp(port: u16) -> pb::Device {
    device(HostInterface::Tcp(pb::TcpHostInterface {
        mode: pb::tcp_host_interface::Mode::Bind.into(),
        host: "127.0.0.1".into(),
        port: port.into(),
        ..Default::default()
    }))
}

pub(crate) fn unix(mode: pb::unix_host_interface::Mode, path: &Path) -> pb::Device {
    device(HostInterface::Unix(pb::UnixHostInterface {
        mode: mode.into(),
        path: path.to_str().unwrap().into(),
        ..Default::default()
    }))
}

/// The names of all devices.
pub(crate) async fn device_names(client: &mut Client) -> Vec<String> {
    let list = client.devices.list_devices(pb::ListDevicesRequest::default()).await.unwrap();
    list.into_inner().devices.into_iter().map(|device| device.name).collect()
}

/// The reason of an error, as the API documents it.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "lineman.v1");
    info.reason.clone()
}

/// The fields that an error names.
pub(crate) fn violations(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let request = details.bad_request().unwrap_or_else(|| panic!("no BadRequest in {status:?}"));
    request.field_violations.iter().map(|violation| violation.field.clone()).collect()
}
