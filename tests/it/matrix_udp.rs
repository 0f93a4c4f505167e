//! Consoles behind datagrams: machines, loggers and strangers on the other end,
//! that are there or not, and talk at once and too fast.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use lineman::pb::{
    self, AttachMode, UdpEndpoint, device_spec::HostInterface, device_status::State,
    input_ack::Refusal,
};

use crate::harness::{
    Attacher, Client, Datagrams, Server, UBoot, device, free_port, metric, opens_and_closes, pty,
    send_datagram, soon, until, until_async,
};

/// Largest payload of an IPv4 datagram: 65535 less 20 and 8 of headers.
const LARGEST: usize = 65_507;
/// Kernel's patience for a datagram that does not come.
const PATIENCE: Duration = Duration::from_secs(30);

fn at(port: u16) -> Option<UdpEndpoint> {
    Some(UdpEndpoint { host: "127.0.0.1".into(), port: port.into() })
}

fn udp(connect: Option<UdpEndpoint>, bind: Option<UdpEndpoint>) -> pb::Device {
    device(HostInterface::Udp(pb::UdpHostInterface { connect, bind, ..Default::default() }))
}

/// Creates the device and tells where it listens.
async fn create(client: &mut Client, id: &str, device: pb::Device) -> SocketAddr {
    client.create(id, device).await;
    client.until_state(id, State::Connected).await.listen_address.parse().unwrap()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().unwrap().port()
}

/// The next datagram, which must come.
fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; LARGEST];
    let (len, _) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

/// Waits until the kernel holds no more datagrams for the device, so that it has
/// room for the next.
async fn drained(device: SocketAddr) {
    let local = format!(":{:04X}", device.port());
    until("an empty queue", || {
        let table = fs::read_to_string("/proc/net/udp").unwrap();
        let mut sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let socket = sockets.find(|fields| fields[1].ends_with(&local))?;
        socket[4].ends_with(":00000000").then_some(())
    })
    .await;
}

fn every_byte() -> Vec<u8> {
    (0..=255).chain((0..=255).rev()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_passes_both_ways() {
    let server = Server::start();
    let mut client = server.client().await;
    let (near, far) = (socket(), socket());
    let peer = at(port(&near));
    let connected = create(&mut client, "connect", udp(peer, None)).await;
    let both = create(&mut client, "both", udp(at(port(&far)), at(0))).await;
    for (id, far, device) in [("connect", near, connected), ("both", far, both)] {
        let mut attacher = Attacher::new(&mut client, id, AttachMode::Write, 0).await;
        far.send_to(&every_byte(), device).unwrap();
        attacher.until_offset(512).await;
        assert_eq!(attacher.seen, every_byte(), "{id}");
        attacher.type_bytes(Some(0), &every_byte()).await;
        assert_eq!(receive(&far), every_byte(), "{id}");
        attacher.until("acknowledgement", |attacher| attacher.ack.offset == 512).await;
        let told = |status: &pb::DeviceStatus| status.peers.iter().any(|p| p.record_count == 1);
        let status = client.until_status(id, "what came from the peer", told).await;
        let peer = &status.peers[0];
        assert_eq!(peer.address, far.local_addr().unwrap().to_string());
        assert_eq!((peer.output_bytes, peer.lost_count, status.input_bytes), (512, 0, 512));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_goes_in_datagrams_that_no_path_cuts() {
    let server = Server::start();
    let mut client = server.client().await;
    let far = socket();
    create(&mut client, "input", udp(at(port(&far)), None)).await;
    let attacher = Attacher::new(&mut client, "input", AttachMode::Write, 0).await;
    attacher.type_text("k").await;
    assert_eq!(receive(&far), b"k", "a keystroke waits for nothing");
    let pasted: Vec<u8> = every_byte().repeat(8);
    attacher.type_bytes(None, &pasted).await;
    let mut came = Vec::new();
    while came.len() < pasted.len() {
        let datagram = receive(&far);
        assert!((1..=1232).contains(&datagram.len()), "{}", datagram.len());
        came.extend(datagram);
    }
    assert_eq!(came, pasted);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_are_whole_and_senders_apart() {
    let server = Server::start();
    let mut client = server.client().await;
    let device = create(&mut client, "bound", udp(None, at(0))).await;
    let mut attacher = Attacher::new(&mut client, "bound", AttachMode::Write, 0).await;
    attacher.type_text("to whom?").await;
    attacher.until("refusal", |attacher| attacher.ack.refusal() == Refusal::NoInput).await;

    let senders = [socket(), socket()];
    let large = [vec![b'a'; LARGEST], vec![b'b'; LARGEST]];
    for _ in 0..3 {
        for (sender, datagram) in senders.iter().zip(&large) {
            sender.send_to(datagram, device).unwrap();
            let seen = attacher.next_offset + LARGEST as u64;
            attacher.until_offset(seen).await;
        }
        // Nothing in it; nothing comes of it.
        senders[0].send_to(b"", device).unwrap();
    }
    assert!(attacher.seen == [large.concat(), large.concat(), large.concat()].concat());
    let wanted =
        |status: &pb::DeviceStatus| status.peers.iter().map(|peer| peer.record_count).eq([6, 3]);
    let status = client.until_status("bound", "all datagrams", wanted).await;
    for (peer, sender) in status.peers.iter().zip(&senders) {
        assert_eq!(peer.address, sender.local_addr().unwrap().to_string());
        assert_eq!(peer.output_bytes, 3 * LARGEST as u64);
        assert!(peer.connect_time.is_some());
    }
    assert_eq!((status.lost_count, status.link_count), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_many_are_never_split() {
    const LINES: usize = 2000;
    let server = Server::start();
    let mut client = server.client().await;
    let device = create(&mut client, "many", udp(None, at(0))).await;
    let talking: Vec<_> = (0..4)
        .map(|who: usize| {
            thread::spawn(move || {
                let socket = socket();
                for n in 0..LINES {
                    // Of different lengths, so that a seam would show.
                    let line = format!("<{who} {n} {}>\n", "x".repeat(n % 97));
                    socket.send_to(line.as_bytes(), device).unwrap();
                }
            })
        })
        .collect();
    for talking in talking {
        talking.join().unwrap();
    }
    drained(device).await;
    socket().send_to(b"<9 0 >\n", device).unwrap();
    let mut observer = Attacher::new(&mut client, "many", AttachMode::Observe, 0).await;
    observer.until_seen("<9 0 >\n", 0).await;
    let text = observer.text();
    let mut next = [0; 10];
    for line in text.lines() {
        let inner = line.strip_prefix('<').and_then(|line| line.strip_suffix('>'));
        let mut words = inner.unwrap_or_else(|| panic!("a split record: {line:?}")).split(' ');
        let who: usize = words.next().unwrap().parse().unwrap();
        let n: usize = words.next().unwrap().parse().unwrap();
        assert_eq!(words.next().unwrap().len(), n % 97, "{line:?}");
        assert!(n >= next[who], "in the order in which {who} sent them");
        next[who] = n + 1;
    }
    let gaps: u64 = observer.gaps.iter().map(|gap| gap.to_offset - gap.from_offset).sum();
    assert_eq!(text.lines().count() as u64 + gaps, 4 * LINES as u64 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_peer_is_heard_when_connected() {
    let server = Server::start();
    let mut client = server.client().await;
    // Of loopback both: `bind` fixes the own address and lets nobody else in.
    for (id, bind) in [("connect", None), ("both", at(0))] {
        let (far, stranger) = (socket(), socket());
        let device = create(&mut client, id, udp(at(port(&far)), bind)).await;
        for _ in 0..100 {
            // The kernel says that nobody is there for it.
            stranger.send_to(b"stranger", device).ok();
        }
        far.send_to(b"peer", device).unwrap();
        let mut observer = Attacher::new(&mut client, id, AttachMode::Observe, 0).await;
        observer.until_offset(4).await;
        assert_eq!(observer.seen, b"peer", "{id}");
        let status = client.status(id).await;
        assert_eq!((status.peers.len(), status.refused_peer_count), (1, 0), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_at_no_address_is_heard_from_loopback() {
    let mut server = Server::start();
    server.stop().await;
    server.start_with_config("[host_interfaces]\nnetworks = ['0.0.0.0/0']\n");
    let mut client = server.client().await;
    let far = socket();
    // As the kernel takes it: 0.0.0.0 is this host.
    let peer = UdpEndpoint { host: "0.0.0.0".into(), port: port(&far).into() };
    let device = create(&mut client, "here", udp(Some(peer), None)).await;
    let mut attacher = Attacher::new(&mut client, "here", AttachMode::Write, 0).await;
    attacher.type_text("hello").await;
    assert_eq!(receive(&far), b"hello");
    far.send_to(b"hi", (Ipv4Addr::LOCALHOST, device.port())).unwrap();
    attacher.until_offset(2).await;
    let status = client.status("here").await;
    assert_eq!(status.peers[0].address, far.local_addr().unwrap().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_outside_the_allowed_networks_are_dropped_and_told() {
    let mut server = Server::start();
    server.stop().await;
    server.start_with_config("[host_interfaces]\nnetworks = ['127.0.0.1/32']\n");
    let mut client = server.client().await;
    let device = create(&mut client, "bound", udp(None, at(0))).await;
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    for _ in 0..500 {
        stranger.send_to(b"let me in", device).unwrap();
    }
    let friend = socket();
    friend.send_to(b"friend", device).unwrap();
    let mut observer = Attacher::new(&mut client, "bound", AttachMode::Observe, 0).await;
    observer.until_offset(6).await;
    assert_eq!(observer.seen, b"friend");
    // The one who may is listed at the next tick of the counters.
    let told =
        |status: &pb::DeviceStatus| !status.last_refusal.is_empty() && status.peers.len() == 1;
    let status = client.until_status("bound", "the refusal", told).await;
    let why = format!(
        "{}: host_interfaces.networks allows no network that holds it",
        stranger.local_addr().unwrap()
    );
    assert_eq!((status.last_refusal, status.refused_peer_count), (why, 1));
    assert_eq!(metric(&server, "datagrams_refused").await, 500);

    // And nothing may be sent there.
    let outside = Some(UdpEndpoint { host: "127.0.0.2".into(), port: 7 });
    for spec in [udp(outside.clone(), None), udp(None, outside)] {
        let refused = client.try_create("x", spec).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_there_yet_does_no_harm() {
    let server = Server::start();
    let mut client = server.client().await;
    let far_port = free_port();
    let device = create(&mut client, "early", udp(at(far_port), None)).await;
    // The kernel tells that nobody is there (ICMP): with the next one.
    let unreachable = |status: &pb::DeviceStatus| {
        status.peers[0].description.contains("Connection refused")
            && status.state() == State::Connected
    };
    until_async("what ICMP told", async || {
        client.write("early", b"hello?").await.unwrap();
        Some(client.status("early").await).filter(&unreachable)
    })
    .await;
    assert!(metric(&server, "datagrams_failed").await > 0);

    // It comes, goes and comes again.
    let mut attacher = Attacher::new(&mut client, "early", AttachMode::Write, 0).await;
    for text in ["first", "second"] {
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, far_port)).unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        let before = attacher.ack.offset;
        attacher.type_text(text).await;
        assert_eq!(receive(&far), text.as_bytes(), "an old error costs no new datagram");
        let from = attacher.seen.len();
        far.send_to(text.as_bytes(), device).unwrap();
        attacher.until_seen(text, from).await;
        let well = |status: &pb::DeviceStatus| status.peers[0].description.is_empty();
        client.until_status("early", "a peer that is well", well).await;
        drop(far);
        attacher.type_text("into the void").await;
        let sent = before + (text.len() + "into the void".len()) as u64;
        attacher.until("the kernel's word", |attacher| attacher.ack.offset == sent).await;
    }
    let status = client.status("early").await;
    assert_eq!((status.link_count, status.last_error.as_str()), (1, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn socat_on_the_other_end() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(taking) = Datagrams::listen(server.dir(), "taken").await else { return };
    create(&mut client, "taken", udp(at(taking.port()), at(0))).await;
    let attacher = Attacher::new(&mut client, "taken", AttachMode::Write, 0).await;
    attacher.type_bytes(None, &every_byte()).await;
    assert_eq!(taking.takes_bytes(512).await, every_byte());

    let source = free_port();
    let device = create(&mut client, "given", udp(at(source), at(0))).await;
    let mut observer = Attacher::new(&mut client, "given", AttachMode::Observe, 0).await;
    for payload in [&every_byte()[..], b"", b"more"] {
        send_datagram(source, device.port(), payload).await.unwrap();
    }
    observer.until_offset(516).await;
    assert_eq!(observer.seen, [&every_byte()[..], b"more"].concat());
    let heard = |status: &pb::DeviceStatus| {
        let peer = status.peers.iter().find(|p| p.address == format!("127.0.0.1:{source}"));
        peer.is_some_and(|peer| (peer.record_count, peer.output_bytes) == (3, 516))
    };
    client.until_status("given", "three datagrams", heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_on_it() {
    let server = Server::start();
    let mut client = server.client().await;
    // We are there first: QEMU's input would end with the first datagram that
    // nobody takes (ICMP).
    let peer = free_port();
    let own = create(&mut client, "machine", udp(at(peer), at(0))).await;
    let mut attacher = Attacher::new(&mut client, "machine", AttachMode::Write, 0).await;
    let serial = format!("udp:{own}@127.0.0.1:{peer}");
    let Some(_machine) = UBoot::boot(&serial) else { return };
    attacher.until_seen("Hit any key", 0).await;
    attacher.type_text("\r").await;
    attacher.until_seen("=> ", 0).await;
    let from = attacher.seen.len();
    for key in "echo udp$baudrate\r".chars() {
        attacher.type_text(&key.to_string()).await;
    }
    attacher.until_seen("\nudp115200", from).await;
    // A datagram a byte costs no record a byte.
    let status = client.status("machine").await;
    let journal = status.journal.unwrap();
    println!("{} bytes in {} on disk", journal.next_offset, journal.disk_bytes);
    assert!(journal.disk_bytes < 8 * journal.next_offset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_there_or_told() {
    const EACH: u64 = 100_000;
    let server = Server::start();
    let mut client = server.client().await;
    let device = create(&mut client, "flood", udp(None, at(0))).await;
    let before = server.resident_bytes();
    let began = std::time::Instant::now();
    let talking: Vec<_> = (0..2)
        .map(|who| {
            thread::spawn(move || {
                let socket = socket();
                for n in 0..EACH {
                    let line = format!("{who}{n:014}\n");
                    socket.send_to(line.as_bytes(), device).unwrap();
                }
            })
        })
        .collect();
    for talking in talking {
        talking.join().unwrap();
    }
    let took = began.elapsed();
    // What was lost last is told with what comes next.
    drained(device).await;
    let mut observer = Attacher::new(&mut client, "flood", AttachMode::Observe, 0).await;
    socket().send_to(b"the end\n", device).unwrap();
    observer.until_seen("the end\n", 0).await;
    let lines: Vec<_> = observer.seen.split_inclusive(|byte| *byte == b'\n').collect();
    let records = lines.len() as u64;
    assert!(lines[..lines.len() - 1].iter().all(|line| line.len() == 16), "no line is torn");
    let gaps: u64 = observer.gaps.iter().map(|gap| gap.to_offset - gap.from_offset).sum();
    let status = client.status("flood").await;
    println!(
        "200,000 datagrams in {took:?}: {records} recorded, {gaps} told as lost in {} gaps; \
         the server grew from {before} to {}",
        observer.gaps.len(),
        server.resident_bytes()
    );
    assert_eq!(records + gaps, 2 * EACH + 1);
    assert_eq!(status.lost_count, gaps);
    assert_eq!(metric(&server, "datagrams_overrun").await.unsigned_abs(), gaps);
    assert!(server.resident_bytes() < before + (24 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_senders_takes_no_more_memory() {
    let server = Server::start();
    let mut client = server.client().await;
    let device = create(&mut client, "many", udp(None, at(0))).await;
    let mut observer = Attacher::new(&mut client, "many", AttachMode::Observe, 0).await;
    for n in 1..=200 {
        let sender = socket();
        sender.send_to(b"hi", device).unwrap();
        observer.until_offset(2 * n).await;
    }
    let listed = |status: &pb::DeviceStatus| status.peers.len() == 64;
    client.until_status("many", "the latest 64", listed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_stops_nobody() {
    let server = Server::start();
    let mut client = server.client().await;
    let deaf = socket();
    let device = create(&mut client, "deaf", udp(at(port(&deaf)), None)).await;
    let before = server.resident_bytes();
    let mut attacher = Attacher::new(&mut client, "deaf", AttachMode::Write, 0).await;
    let mut typed = 0;
    for _ in 0..256 {
        attacher.type_bytes(None, &[b'x'; 16 << 10]).await;
        typed += 16 << 10;
        attacher.until("the kernel's word", |attacher| attacher.ack.offset == typed).await;
    }
    deaf.send_to(b"still here", device).unwrap();
    attacher.until_seen("still here", 0).await;
    client.create("other", pty()).await;
    client.until_state("other", State::Connected).await;
    assert!(server.resident_bytes() < before + (8 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_and_heals() {
    let server = Server::start();
    let mut client = server.client().await;
    let holder = socket();
    client.create("late", udp(None, at(port(&holder)))).await;
    let told = format!("cannot listen on 127.0.0.1:{}: Address already in use", port(&holder));
    let taken = |status: &pb::DeviceStatus| {
        status.state() == State::Backoff && status.last_error.starts_with(&told)
    };
    client.until_status("late", &told, taken).await;
    let port = port(&holder);
    drop(holder);
    client.until_state("late", State::Connected).await;
    socket().send_to(b"now", (Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut observer = Attacher::new(&mut client, "late", AttachMode::Observe, 0).await;
    observer.until_seen("now", 0).await;
    // A name that nobody has.
    let nowhere = Some(UdpEndpoint { host: "console.invalid".into(), port: 7 });
    client.create("nowhere", udp(nowhere, None)).await;
    let told = |status: &pb::DeviceStatus| {
        status.last_error.starts_with("cannot look up host console.invalid")
    };
    client.until_status("nowhere", "a failed look-up", told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_busy_one_takes_no_time_and_leaves_nothing() {
    let server = Server::start();
    let mut client = server.client().await;
    let far = socket();
    let own = free_port();
    create(&mut client, "busy", udp(at(port(&far)), at(own))).await;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let talking = thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            // While it is closed the kernel says so; that is what is tried.
            far.send_to(&[b'x'; 1000], (Ipv4Addr::LOCALHOST, own)).ok();
        }
    });
    let attacher = Attacher::new(&mut client, "busy", AttachMode::Write, 0).await;
    for _ in 0..16 {
        attacher.type_bytes(None, &[b'x'; 16 << 10]).await;
    }
    soon("stop", client.stop("busy")).await;
    client.until_state("busy", State::Stopped).await;
    soon("start", client.start("busy")).await;
    client.until_state("busy", State::Connected).await;
    drop(attacher);
    opens_and_closes(&server, &mut client, "busy").await;
    soon("deletion", client.delete("busy")).await;
    drop(stop);
    talking.join().unwrap();
    // The port is free again.
    UdpSocket::bind((Ipv4Addr::LOCALHOST, own)).unwrap();
}
