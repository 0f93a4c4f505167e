//! What users feel, measured on the real program: bytes a second to many
//! attachers, the round trip of a keystroke, and what ten thousand devices cost.
//! Prints figures and judges nothing: `cargo bench --bench console [fanout|keystroke|scale]`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that fails has nothing better to do than to stop; its output is the result"
)]

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lineman::pb::{
    self, AttachMode, attach_request, attach_response,
    console_service_client::ConsoleServiceClient, device_service_client::DeviceServiceClient,
    device_spec::HostInterface,
};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

struct Server {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_lineman"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(dir.path().join("state"))
            .env("XDG_CONFIG_HOME", dir.path())
            .env("LINEMAN_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("lineman is ready on ").unwrap().to_owned();
        Self { child, address, dir }
    }

    async fn channel(&self) -> Channel {
        let ca = fs::read(self.dir.path().join("state/dev/ca.pem")).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .domain_name("localhost");
        Endpoint::from_shared(format!("https://{}", self.address))
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .tcp_nodelay(true)
            .initial_stream_window_size(512 * 1024)
            .initial_connection_window_size(4 << 20)
            .connect()
            .await
            .unwrap()
    }

    fn bearer(&self) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + use<> {
        let token = fs::read_to_string(self.dir.path().join("state/dev/admin.token")).unwrap();
        let token: tonic::metadata::MetadataValue<_> =
            format!("Bearer {}", token.trim()).parse().unwrap();
        move |mut request: Request<()>| {
            request.metadata_mut().insert("authorization", token.clone());
            Ok(request)
        }
    }

    async fn create(&self, id: &str, host_interface: HostInterface) {
        self.create_on(self.channel().await, id, host_interface).await;
    }

    async fn create_on(&self, channel: Channel, id: &str, host_interface: HostInterface) {
        // Enough that retention passes nobody: what is measured is delivery.
        let journal = Some(pb::JournalSpec { retention_bytes: 1 << 30 });
        let host_interface = Some(host_interface);
        let spec = pb::DeviceSpec { host_interface, journal, ..Default::default() };
        let device = Some(pb::Device { spec: Some(spec), ..Default::default() });
        let request =
            pb::CreateDeviceRequest { device_id: id.into(), device, ..Default::default() };
        let mut devices = DeviceServiceClient::with_interceptor(channel, self.bearer());
        devices.create_device(request).await.unwrap();
    }

    async fn pty_path(&self, id: &str) -> String {
        let mut devices =
            DeviceServiceClient::with_interceptor(self.channel().await, self.bearer());
        loop {
            let request = pb::GetDeviceRequest { name: format!("devices/{id}") };
            let device = devices.get_device(request).await.unwrap().into_inner();
            let path = device.status.unwrap().pty_path;
            if !path.is_empty() {
                return path;
            }
        }
    }

    async fn attach(
        &self,
        channel: Channel,
        id: &str,
        mode: AttachMode,
    ) -> (mpsc::Sender<pb::AttachRequest>, Streaming<pb::AttachResponse>) {
        let (requests, receiver) = mpsc::channel(16);
        let start = pb::AttachStart {
            device: format!("devices/{id}"),
            mode: mode.into(),
            ..Default::default()
        };
        let message = Some(attach_request::Message::Start(start));
        requests.send(pb::AttachRequest { message }).await.unwrap();
        let mut console = ConsoleServiceClient::with_interceptor(channel, self.bearer());
        let mut stream = console.attach(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        (requests, stream)
    }

    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn pty() -> HostInterface {
    HostInterface::Pty(pb::PtyHostInterface::default())
}

/// One pty at full speed to 1, 10 and 100 attachers.
async fn fanout() {
    for attachers in [1_usize, 10, 100] {
        let total: u64 = if attachers == 100 { 64 << 20 } else { 128 << 20 };
        let server = Server::start();
        server.create("a", pty()).await;
        let path = server.pty_path("a").await;
        let mut readers = Vec::new();
        for _ in 0..attachers {
            let (requests, mut stream) =
                server.attach(server.channel().await, "a", AttachMode::Observe).await;
            readers.push(tokio::spawn(async move {
                let (mut seen, mut lost) = (0, 0);
                while seen + lost < total {
                    match stream.message().await.unwrap().unwrap().message {
                        Some(attach_response::Message::Output(output)) => {
                            seen += output.data.len() as u64
                        }
                        Some(attach_response::Message::Gap(gap)) => {
                            lost += gap.to_offset - gap.from_offset
                        }
                        _ => {}
                    }
                }
                drop(requests);
                lost
            }));
        }
        let (cpu, began) = (server.cpu(), Instant::now());
        std::thread::spawn(move || {
            let mut far = OpenOptions::new().write(true).open(path).unwrap();
            let piece = vec![b'x'; 64 << 10];
            let mut sent = 0;
            while sent < total {
                far.write_all(&piece).unwrap();
                sent += piece.len() as u64;
            }
        });
        let mut lost = 0;
        for reader in readers {
            lost += reader.await.unwrap();
        }
        let (took, cpu) = (began.elapsed().as_secs_f64(), (server.cpu() - cpu).as_secs_f64());
        let gigabytes = (total * attachers as u64) as f64 / 1e9;
        println!(
            "pty at full speed, {attachers:3} attachers: {:6.0} MB/s in all, {:5.2} CPU s/GB delivered, {lost} lost",
            gigabytes * 1e3 / took,
            cpu / gigabytes,
        );
    }
}

/// Type a byte, the far side echoes it, it comes back.
async fn keystroke() {
    for busy in [0_usize, 50] {
        let server = Server::start();
        server.create("a", pty()).await;
        let path = server.pty_path("a").await;
        let (requests, mut stream) =
            server.attach(server.channel().await, "a", AttachMode::Write).await;
        std::thread::spawn(move || {
            let mut far = OpenOptions::new().read(true).write(true).open(path).unwrap();
            let mut byte = [0; 1];
            while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
        });
        let mut noise = Vec::new();
        for n in 0..busy {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port().into();
            let tcp = pb::TcpHostInterface {
                host: "127.0.0.1".into(),
                port,
                mode: 1,
                ..Default::default()
            };
            let id = format!("noise{n}");
            server.create(&id, HostInterface::Tcp(tcp)).await;
            let (requests, mut stream) =
                server.attach(server.channel().await, &id, AttachMode::Observe).await;
            noise.push(tokio::spawn(async move {
                let _requests = requests;
                while let Ok(Some(_)) = stream.message().await {}
            }));
            noise.push(tokio::spawn(async move {
                let (mut far, _) = listener.accept().await.unwrap();
                // 1 MB/s in pieces of 1 KB.
                let mut tick = tokio::time::interval(Duration::from_millis(10));
                loop {
                    tick.tick().await;
                    for _ in 0..10 {
                        if far.write_all(&[b'x'; 1000]).await.is_err() {
                            return;
                        }
                    }
                }
            }));
        }
        let mut times = Vec::new();
        for _ in 0..3000 {
            let began = Instant::now();
            let payload = Some(pb::input::Payload::Data(vec![b'k'].into()));
            let input = pb::Input { payload, offset: None };
            let message = Some(attach_request::Message::Input(input));
            requests.send(pb::AttachRequest { message }).await.unwrap();
            loop {
                let answer = stream.message().await.unwrap().unwrap().message;
                if matches!(answer, Some(attach_response::Message::Output(_))) {
                    break;
                }
            }
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.sort();
        println!(
            "keystroke round trip, {busy:2} other consoles at 1 MB/s: p50 {:?}, p99 {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
        for task in noise {
            task.abort();
        }
    }
}

/// Ten thousand ptys: to make, to hold, to start again with.
async fn scale() {
    const DEVICES: usize = 10_000;
    let server = Server::start();
    let channel = server.channel().await;
    let base = server.resident_kib();
    let began = Instant::now();
    for chunk in (0..DEVICES).collect::<Vec<_>>().chunks(200) {
        let creating = chunk.iter().map(|n| {
            let (channel, id) = (channel.clone(), format!("node{n}"));
            let server = &server;
            async move { server.create_on(channel, &id, pty()).await }
        });
        futures_util::future::join_all(creating).await;
    }
    let took = began.elapsed();
    println!("{DEVICES} ptys made in {took:?}: {:.0} a second", 10_000.0 / took.as_secs_f64());
    let used = server.resident_kib() - base;
    println!("memory: {} KiB, {:.1} KiB a device", used, used as f64 / 10_000.0);
    let cpu = server.cpu();
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("CPU while idle for 5 s: {:?}", server.cpu() - cpu);
    let mut devices = DeviceServiceClient::with_interceptor(channel, server.bearer())
        .max_decoding_message_size(64 << 20);
    let began = Instant::now();
    let (mut token, mut count) = (String::new(), 0);
    loop {
        let request =
            pb::ListDevicesRequest { page_size: 1000, page_token: token, ..Default::default() };
        let page = devices.list_devices(request).await.unwrap().into_inner();
        count += page.devices.len();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    println!("list of {count} in {:?}", began.elapsed());
}

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if wants("fanout") {
            fanout().await;
        }
        if wants("keystroke") {
            keystroke().await;
        }
        if wants("scale") {
            scale().await;
        }
    });
}
