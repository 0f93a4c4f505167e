//! The matrix of the `tcp` host interface: raw, telnet, TLS and telnet in TLS, as
//! client and as server, each against what far sides do. A row is a [`Rig`]; a
//! column is a function that knows nothing of what is spoken.

use lineman::pb::{
    self, AttachMode, device_spec::HostInterface, device_status::State, input_ack::Refusal,
    tcp_host_interface::Mode,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::harness::{
    Attacher, Certificates, Client, Holder, Server, Stack, TcpFar, device, flood, flooded, reason,
    server_with_credentials, soon, tcp_spec,
};

/// Longer than an answer takes that comes at all.
const ANSWER: std::time::Duration = std::time::Duration::from_millis(20);

/// A device with a far side that comes when it is called.
struct Rig<'a> {
    client: Client,
    certificates: &'a Certificates,
    id: String,
    mode: Mode,
    stack: Stack,
    /// Of a device that connects.
    listener: Option<TcpListener>,
}

/// The rows of the matrix.
fn rows() -> impl Iterator<Item = (Mode, Stack)> {
    let modes = [Mode::Connect, Mode::Bind].into_iter();
    modes.flat_map(|mode| Stack::ALL.into_iter().map(move |stack| (mode, stack)))
}

impl<'a> Rig<'a> {
    async fn make(
        server: &Server,
        certificates: &'a Certificates,
        mode: Mode,
        stack: Stack,
    ) -> Self {
        let listener = match mode {
            Mode::Bind => None,
            Mode::Unspecified | Mode::Connect => {
                Some(TcpListener::bind("127.0.0.1:0").await.unwrap())
            }
        };
        let port = listener.as_ref().map_or(0, |l| l.local_addr().unwrap().port());
        let mut client = server.client().await;
        let id = format!("{mode:?}-{stack:?}").to_lowercase();
        let spec = device(HostInterface::Tcp(tcp_spec(mode, port, stack)));
        client.create(&id, spec).await;
        Self { client, certificates, id, mode, stack, listener }
    }

    /// The next far side, with which the device is connected.
    async fn meet(&mut self) -> TcpFar {
        loop {
            let stream = match &self.listener {
                Some(listener) => soon("connection", listener.accept()).await.unwrap().0,
                None => {
                    let listening = self.client.until_state(&self.id, State::Listening).await;
                    TcpStream::connect(&listening.listen_address).await.unwrap()
                }
            };
            // A device that was stopped has left connections that nobody accepted.
            let far = TcpFar::on(stream, self.mode, self.stack, self.certificates).await;
            if let Ok(far) = far {
                self.client.until_state(&self.id, State::Connected).await;
                return far;
            }
        }
    }

    async fn attach(&mut self) -> Attacher {
        Attacher::new(&mut self.client, &self.id, AttachMode::Write, 0).await
    }

    fn name(&self) -> String {
        format!("devices/{}", self.id)
    }

    async fn stop(&mut self) {
        let request = pb::StopDeviceRequest { name: self.name(), etag: String::new() };
        self.client.devices.stop_device(request).await.unwrap();
        self.client.until_state(&self.id, State::Stopped).await;
    }

    async fn start(&mut self) {
        let request = pb::StartDeviceRequest { name: self.name(), etag: String::new() };
        self.client.devices.start_device(request).await.unwrap();
    }
}

fn every_byte() -> Vec<u8> {
    (0..=255).chain((0..=255).rev()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_goes_both_ways_and_far_sides_come_again() {
    let (server, certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'none'").await;
    for (mode, stack) in rows() {
        let mut rig = Rig::make(&server, &certificates, mode, stack).await;
        let mut attacher = rig.attach().await;
        for round in 1..=3 {
            let mut far = rig.meet().await;
            let (seen, sent) = (attacher.seen.len(), attacher.ack.offset);
            attacher.until("link", |a| a.state.state() == State::Connected).await;
            far.says(&every_byte()).await;
            attacher.until_offset(seen as u64 + 512).await;
            assert_eq!(attacher.seen[seen..], every_byte(), "{}: output", rig.id);
            attacher.type_bytes(Some(sent), &every_byte()).await;
            assert_eq!(far.hears_bytes(512).await, every_byte(), "{}: input", rig.id);
            attacher.until("acknowledgement", |a| a.ack.offset == sent + 512).await;
            let status = rig.client.status(&rig.id).await;
            assert_eq!(
                (status.output_bytes, status.input_bytes, status.link_count),
                (round * 512, round * 512, round),
                "{}",
                rig.id
            );
            if round == 2 && rig.stack.is_tls() {
                // What was written without a goodbye may be cut short, and is told.
                far.cut();
                rig.client
                    .until_status(&rig.id, "cut", |s| s.last_error.contains("without ending TLS"))
                    .await;
            } else {
                far.says_no_more().await;
                attacher.until("end", |a| a.state.state() != State::Connected).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_stalls_nobody_and_gets_all_in_the_end() {
    let (server, certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'none'").await;
    for (mode, stack) in rows() {
        let mut rig = Rig::make(&server, &certificates, mode, stack).await;
        let mut far = rig.meet().await;
        let mut attacher = rig.attach().await;
        let before = server.resident_bytes();
        let piece = flooded(0, 32 * 1024);
        let mut sent = Vec::new();
        while attacher.ack.refusal() != Refusal::QueueFull {
            attacher.type_bytes(Some(sent.len() as u64), &piece).await;
            sent.extend_from_slice(&piece);
            // What is not taken is not answered either, while there is room for it.
            while attacher.ack.offset < sent.len() as u64
                && attacher.ack.refusal() != Refusal::QueueFull
                && timeout(ANSWER, attacher.next()).await.is_ok()
            {}
        }
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{}: {grown} bytes more", rig.id);
        // Others are served, and so is its output.
        far.says(b"still here\n").await;
        attacher.until_seen("still here", 0).await;
        let taken = rig.client.status(&rig.id).await.input_bytes;
        println!("{}: stalled after {taken} bytes, {grown} bytes of memory more", rig.id);
        let waits = far.hears_bytes(usize::try_from(taken).unwrap()).await.len();
        assert_eq!(far.hears_bytes(waits).await[..waits], sent[..waits], "{}", rig.id);
        attacher.until("rest", |a| a.ack.offset >= taken).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_arrives_whole() {
    const LEN: u64 = 16 << 20;
    let (server, certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'none'").await;
    for (mode, stack) in rows() {
        let mut rig = Rig::make(&server, &certificates, mode, stack).await;
        let mut far = rig.meet().await;
        let mut attacher = rig.attach().await;
        let begun = std::time::Instant::now();
        let flooding = tokio::spawn(async move {
            flood(far.wire(), LEN).await.unwrap();
            far
        });
        attacher.until_offset(LEN).await;
        assert!(attacher.seen == flooded(0, LEN), "{}", rig.id);
        assert!(attacher.gaps.is_empty());
        flooding.await.unwrap();
        println!("{}: {LEN} bytes in {:?}", rig.id, begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_and_heals_by_itself() {
    let (server, certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'none'").await;
    for stack in Stack::ALL {
        let mut rig = Rig::make(&server, &certificates, Mode::Connect, stack).await;
        let address = rig.listener.take().unwrap().local_addr().unwrap();
        let status =
            rig.client.until_status(&rig.id, "refused", |s| s.last_error.contains("refused")).await;
        assert!(status.last_error.contains(&address.to_string()), "{}", status.last_error);
        rig.listener = Some(TcpListener::bind(address).await.unwrap());
        rig.meet().await.says(b"here").await;
        rig.attach().await.until_offset(4).await;
    }
    // A port that is taken, and then is not.
    for stack in Stack::ALL {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut client = server.client().await;
        let id = format!("taken-{stack:?}").to_lowercase();
        client.create(&id, device(HostInterface::Tcp(tcp_spec(Mode::Bind, port, stack)))).await;
        client.until_status(&id, "in use", |s| s.last_error.contains("in use")).await;
        drop(taken);
        client.until_state(&id, State::Listening).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_devices_stop_start_and_go() {
    let (server, certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'none'").await;
    for (mode, stack) in rows() {
        let mut rig = Rig::make(&server, &certificates, mode, stack).await;
        for last in [false, true] {
            let mut far = rig.meet().await;
            let mut attacher = rig.attach().await;
            let flooding = tokio::spawn(async move {
                flood(far.wire(), u64::MAX).await.unwrap_err();
            });
            let from = attacher.next_offset;
            attacher.until_offset(from + (1 << 20)).await;
            attacher.type_bytes(None, &[b'x'; 60_000]).await;
            if last {
                let request = pb::DeleteDeviceRequest { name: rig.name(), etag: String::new() };
                rig.client.devices.delete_device(request).await.unwrap();
            } else {
                rig.stop().await;
            }
            soon("end of the flood", flooding).await.unwrap();
            if !last {
                rig.start().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_cycles_leave_nothing_behind() {
    let (server, certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'none'").await;
    for (mode, stack) in rows() {
        let mut rig = Rig::make(&server, &certificates, mode, stack).await;
        let mut measured = Vec::new();
        for cycle in 0..200 {
            rig.meet().await.says(b"x").await;
            // All end at the far side, half of them here too.
            if cycle % 2 == 0 {
                rig.stop().await;
                rig.start().await;
            }
            if [20, 199].contains(&cycle) {
                measured.push((descriptors(&server), server.resident_bytes()));
            }
        }
        let [(fds, memory), (fds_after, memory_after)] = measured[..] else { panic!() };
        println!("{}: {fds} to {fds_after} descriptors, {memory} to {memory_after} bytes", rig.id);
        assert!(fds_after <= fds + 2, "{}: {fds} to {fds_after} descriptors", rig.id);
        assert!(memory_after < memory + (8 << 20), "{}", rig.id);
        rig.stop().await;
    }
}

fn descriptors(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid().as_raw_nonzero())).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_far_sides_share_a_device() {
    let (server, certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'none'").await;
    let mut client = server.client().await;
    for stack in Stack::ALL {
        let id = format!("shared-{stack:?}").to_lowercase();
        let spec = pb::TcpHostInterface { max_peers: 3, ..tcp_spec(Mode::Bind, 0, stack) };
        client.create(&id, device(HostInterface::Tcp(spec))).await;
        let address = client.until_state(&id, State::Listening).await.listen_address;
        let mut fars = Vec::new();
        for count in 1..=3 {
            let stream = TcpStream::connect(&address).await.unwrap();
            fars.push(TcpFar::on(stream, Mode::Bind, stack, &certificates).await.unwrap());
            client.until_status(&id, "peers", |s| s.peers.len() == count).await;
        }
        // A fourth finds no place.
        let mut fourth = TcpStream::connect(&address).await.unwrap();
        let told = |s: &pb::DeviceStatus| s.last_refusal.contains("3 far sides are connected");
        let refused = client.until_status(&id, "refusal", told).await;
        assert_eq!(refused.refused_peer_count, 1);
        tokio::io::AsyncReadExt::read(&mut fourth, &mut [0; 1]).await.ok();

        // Each is heard, and each hears.
        let mut attacher = Attacher::new(&mut client, &id, AttachMode::Write, 0).await;
        for (at, far) in fars.iter_mut().enumerate() {
            far.says(format!("from {at}\n").as_bytes()).await;
            attacher.until_seen(&format!("from {at}\n"), 0).await;
        }
        attacher.type_bytes(Some(0), &every_byte()).await;
        for far in &mut fars {
            assert_eq!(far.hears_bytes(512).await, every_byte(), "{id}");
        }
        attacher.until("acknowledgement", |a| a.ack.offset == 512).await;

        // They leave one by one; the link with the last.
        for left in (0..3).rev() {
            fars.remove(0).says_no_more().await;
            client.until_status(&id, "one less", |s| s.peers.len() == left).await;
        }
        let status = client.until_state(&id, State::Listening).await;
        assert_eq!(status.link_count, 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_that_takes_nothing_is_sent_away() {
    let (server, certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'none'").await;
    let mut client = server.client().await;
    let spec = pb::TcpHostInterface { max_peers: 2, ..tcp_spec(Mode::Bind, 0, Stack::Raw) };
    client.create("a", device(HostInterface::Tcp(spec))).await;
    let address = client.until_state("a", State::Listening).await.listen_address;
    let _stuck = TcpStream::connect(&address).await.unwrap();
    client.until_status("a", "peers", |s| s.peers.len() == 1).await;
    let stream = TcpStream::connect(&address).await.unwrap();
    let mut far = TcpFar::on(stream, Mode::Bind, Stack::Raw, &certificates).await.unwrap();
    client.until_status("a", "peers", |s| s.peers.len() == 2).await;
    let mut writer = server.client().await;
    let reading = tokio::spawn(async move {
        // More than any socket takes of who does not read.
        let len = 24 << 20;
        far.hears_bytes(len).await;
        far
    });
    let typing = tokio::spawn(async move {
        let piece = flooded(0, 32 * 1024);
        let mut sent = 0;
        while sent < 24 << 20 {
            // While the one is borne, a call may run out of patience.
            sent += writer.write("a", &piece).await.unwrap_or(0);
        }
    });
    let status =
        client.until_status("a", "one sent away", |s| s.last_refusal.contains("sent away")).await;
    assert_eq!((status.peers.len(), status.refused_peer_count), (1, 1));
    soon("input", typing).await.unwrap();
    soon("input", reading).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_addresses_need_all_to_be_allowed() {
    let mut server = Server::start();
    server.stop().await;
    let everywhere =
        pb::TcpHostInterface { host: String::new(), ..tcp_spec(Mode::Bind, 0, Stack::Raw) };
    let device = || device(HostInterface::Tcp(everywhere.clone()));
    server.start_with_config("[host_interfaces]\nnetworks = ['127.0.0.0/8', '::/0']\n");
    let error = server.client().await.try_create("a", device()).await.unwrap_err();
    assert_eq!(reason(&error), "NOT_ALLOWED_HERE");
    server.stop().await;

    for (id, networks, listens) in
        [("v4", "'0.0.0.0/0'", "0.0.0.0:"), ("both", "'0.0.0.0/0', '::/0'", "[::]:")]
    {
        server.start_with_config(&format!("[host_interfaces]\nnetworks = [{networks}]\n"));
        let mut client = server.client().await;
        client.create(id, device()).await;
        let address = client.until_state(id, State::Listening).await.listen_address;
        assert!(address.starts_with(listens), "{address}");
        let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let _far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client.until_state(id, State::Connected).await;
        server.stop().await;
    }
}
