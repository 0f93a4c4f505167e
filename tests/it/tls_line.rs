//! TLS on a device's own connection: who is trusted, who is turned away and why,
//! and that a stranger keeps nobody out.

use std::time::{Duration, Instant};

use lineman::pb::{
    self, AttachMode, device_spec::HostInterface, device_status::State, tcp_host_interface::Mode,
};
use tokio::net::TcpStream;

use crate::harness::{
    Attacher, Certificates, Client, ClientCertificate, Console, Holder, Server, Stack, TcpFar,
    Telnet, TelnetClient, UBoot, device, server_with_credentials, tcp_spec, tls_client, tls_server,
    violations,
};

async fn bind(client: &mut Client, id: &str, stack: Stack) -> u16 {
    client.create(id, device(HostInterface::Tcp(tcp_spec(Mode::Bind, 0, stack)))).await;
    let address = client.until_state(id, State::Listening).await.listen_address;
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn connect(port: u16, stack: Stack) -> pb::Device {
    device(HostInterface::Tcp(tcp_spec(Mode::Connect, port, stack)))
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_connects_with_the_right_certificate_only() {
    let (server, certificates) = server_with_credentials(Holder::Server, "").await;
    let mut client = server.client().await;
    let port = bind(&mut client, "a", Stack::Tls).await;
    let wrong = [
        (None, "peer sent no certificates"),
        (Some(Holder::Stranger), "UnknownIssuer"),
        (Some(Holder::Expired), "expired"),
    ];
    for (count, (holder, why)) in (1..).zip(wrong) {
        let Some(mut relay) = tls_client(&certificates, holder, port, server.dir()) else { return };
        let status = client.until_status("a", "refusal", |s| s.refused_peer_count == count).await;
        assert!(status.last_refusal.contains(why), "{holder:?}: {}", status.last_refusal);
        assert_ne!(relay.program.ended().await, 0);
        assert_eq!(status.link_count, 0);
    }
    let mut relay = tls_client(&certificates, Some(Holder::Client), port, server.dir()).unwrap();
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    relay.far.says("hello\r\n");
    attacher.until_seen("hello", 0).await;
    attacher.type_text("welcome\n").await;
    relay.far.hears("welcome").await;
    let status = client.status("a").await;
    assert_eq!(status.peers[0].description, "operator", "whose certificate it is");
    assert_eq!((status.link_count, status.refused_peer_count), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_show_that_it_is_the_one() {
    let (server, certificates) = server_with_credentials(Holder::Client, "").await;
    let mut client = server.client().await;
    let wrong = [
        ("stranger", Holder::Stranger, "UnknownIssuer"),
        ("expired", Holder::Expired, "expired"),
        ("elsewhere", Holder::Elsewhere, "not valid for name"),
    ];
    for (id, holder, why) in wrong {
        let asks = ClientCertificate::NotAsked;
        let far = tls_server(&certificates, holder, asks, server.dir()).await;
        let Some((_relay, port)) = far else { return };
        client.create(id, connect(port, Stack::Tls)).await;
        let status = client.until_status(id, "refusal", |s| s.last_error.contains("TLS: ")).await;
        assert!(status.last_error.contains(why), "{id}: {}", status.last_error);
        assert_eq!(status.link_count, 0);
    }
    // By its other name it is the one.
    let asks = ClientCertificate::Demanded;
    let (mut relay, port) =
        tls_server(&certificates, Holder::Elsewhere, asks, server.dir()).await.unwrap();
    let spec = pb::TcpHostInterface {
        server_name: "elsewhere.example".into(),
        ..tcp_spec(Mode::Connect, port, Stack::Tls)
    };
    client.create("named", device(HostInterface::Tcp(spec))).await;
    let status = client.until_state("named", State::Connected).await;
    assert_eq!(status.peers[0].description, "elsewhere.example");
    let mut attacher = Attacher::new(&mut client, "named", AttachMode::Write, 0).await;
    attacher.type_text("ping\n").await;
    relay.far.hears("ping").await;
    relay.far.says("pong\n");
    attacher.until_seen("pong", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_keep_nobody_out() {
    let (server, certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'optional'").await;
    let mut client = server.client().await;
    let port = bind(&mut client, "a", Stack::Tls).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let begun = Instant::now();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut far = TcpFar::on(stream, Mode::Bind, Stack::Tls, &certificates).await.unwrap();
    far.says(b"here").await;
    Attacher::new(&mut client, "a", AttachMode::Observe, 0).await.until_offset(4).await;
    let took = begun.elapsed();
    println!("with 8 silent strangers, the right one was in after {took:?}");
    assert!(took < Duration::from_secs(9), "{took:?}: no time-out was waited for");
    // All of them are turned away, and counted.
    client.until_status("a", "refusals", |s| s.refused_peer_count == 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_telnet_in_tls() {
    let (server, certificates) = server_with_credentials(Holder::Server, "").await;
    let mut client = server.client().await;
    let port = bind(&mut client, "a", Stack::Telnets).await;
    let telnet = Telnet::connect(TelnetClient::Tls(&certificates), port, server.dir()).await;
    let Some(mut telnet) = telnet else { return };
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    telnet.terminal.types("typed");
    attacher.until_seen("typed", 0).await;
    attacher.type_text("shown\r\n").await;
    telnet.terminal.shows("shown").await;
    telnet.send_break().await;
    client.until_status("a", "break", |s| s.break_count == 1).await;
    let peer = &client.status("a").await.peers[0];
    assert!(peer.description.starts_with("operator"), "{peer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_boots_over_tls_both_ways() {
    let (server, certificates) = server_with_credentials(Holder::Client, "").await;
    let mut client = server.client().await;
    let Some(mut uboot) = UBoot::boot_on(Console::TlsServer(&certificates)) else { return };
    client.create("a", connect(uboot.port().await, Stack::Tls)).await;
    answers(&mut client, "a").await;

    let (server, certificates) = server_with_credentials(Holder::Server, "").await;
    let mut client = server.client().await;
    let port = bind(&mut client, "b", Stack::Tls).await;
    let console = Console::TlsClient { port, certificates: &certificates };
    let Some(_uboot) = UBoot::boot_on(console) else { return };
    answers(&mut client, "b").await;
}

/// Gets to the prompt of U-Boot and asks for its version, a key at a time: see
/// `Console::TlsServer`.
async fn answers(client: &mut Client, id: &str) {
    client.until_state(id, State::Connected).await;
    let mut attacher = Attacher::new(client, id, AttachMode::Write, 0).await;
    attacher.type_text("\r").await;
    attacher.until_seen("=> ", 0).await;
    for key in ["v", "e", "r", "s", "i", "o", "n"] {
        let from = attacher.seen.len();
        attacher.type_text(key).await;
        attacher.until_seen(key, from).await;
    }
    let from = attacher.seen.len();
    attacher.type_text("\r").await;
    attacher.until_seen("U-Boot 20", from).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_named_and_not_listed() {
    let (server, _certificates) = server_with_credentials(Holder::Server, "").await;
    let mut client = server.client().await;
    for credentials in ["", "tset", "dev"] {
        let spec = pb::TcpHostInterface {
            credentials: credentials.into(),
            ..tcp_spec(Mode::Bind, 0, Stack::Tls)
        };
        let error = client.try_create("x", device(HostInterface::Tcp(spec))).await.unwrap_err();
        assert_eq!(violations(&error), ["spec.tcp.credentials"]);
        assert!(!error.message().contains("\"test\""), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn development_mode_has_credentials_for_both_ends() {
    let server = Server::start();
    let mut client = server.client().await;
    let listens =
        pb::TcpHostInterface { credentials: "dev".into(), ..tcp_spec(Mode::Bind, 0, Stack::Tls) };
    client.create("listens", device(HostInterface::Tcp(listens.clone()))).await;
    let address = client.until_state("listens", State::Listening).await.listen_address;
    let port: u32 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let connects = pb::TcpHostInterface { mode: Mode::Connect.into(), port, ..listens };
    client.create("connects", device(HostInterface::Tcp(connects))).await;
    client.until_state("connects", State::Connected).await;
    client.until_state("listens", State::Connected).await;
    client.write("connects", b"through").await.unwrap();
    let mut attacher = Attacher::new(&mut client, "listens", AttachMode::Observe, 0).await;
    attacher.until_seen("through", 0).await;
    let secret = std::fs::read_to_string(server.state_dir().join("dev/server.key")).unwrap();
    assert!(!server.log().contains(secret.lines().nth(1).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_tls_was_told_of_is_an_end() {
    let (server, certificates): (Server, Certificates) =
        server_with_credentials(Holder::Server, "client_auth = 'none'").await;
    let mut client = server.client().await;
    let port = bind(&mut client, "a", Stack::Tls).await;
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut far = TcpFar::on(stream, Mode::Bind, Stack::Tls, &certificates).await.unwrap();
    client.until_state("a", State::Connected).await;
    far.says(b"last words").await;
    client.write("a", b"first").await.unwrap();
    far.says_no_more().await;
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Observe, 0).await;
    attacher.until_seen("last words", 0).await;
    let status = client.until_state("a", State::Listening).await;
    assert!(status.last_error.contains("closed the connection"), "{}", status.last_error);
    assert!(!status.last_error.contains("without ending TLS"), "{}", status.last_error);
}
