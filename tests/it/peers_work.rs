//! The far sides of the other stories, without a server between: if one of these
//! fails, it is the far side that is broken, or not what is believed of it.

use std::{fs, net::UdpSocket, time::Instant};

use rustix::termios::ControlModes;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener},
};

use crate::harness::{
    Accepter, Certificates, ClientCertificate, Console, Datagrams, FarSide, FifoPair, Holder,
    PtyPair, Rfc2217Client, Rfc2217Server, Ser2net, Telnet, TelnetClient, UBoot, define_and_dump,
    flood, flooded, free_port, narrow_listener, send_datagram, soon, tls_client, tls_server, until,
    virsh,
};

/// Telnet's IAC and BREAK (RFC 854).
const BREAK: [u8; 2] = [0xff, 0xf3];

fn dir() -> TempDir {
    tempfile::Builder::new().prefix("lineman-").tempdir().unwrap()
}

/// Waits for the prompt and for an answer, and prints how long both took.
async fn boots(uboot: &UBoot, mut far: FarSide, console: &str) {
    let start = Instant::now();
    uboot.prompts(&mut far).await;
    uboot.answers(&mut far).await;
    println!("U-Boot on {console}: at its prompt after {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_serves_its_console() {
    let dir = dir();
    let Some(mut tcp) = UBoot::boot_on(Console::TcpServer) else { return };
    let port = tcp.port().await;
    let mut far = FarSide::connect(port);
    far.hears("U-Boot 20").await;
    boots(&tcp, far, "tcp server").await;
    // Half-closed is closed, for QEMU; then it takes the next.
    let half_closed = FarSide::connect(port);
    half_closed.says_no_more();
    boots(&tcp, FarSide::connect(port), "tcp server, later").await;

    let socket = dir.path().join("console.sock");
    let unix_server = UBoot::boot_on(Console::UnixServer(&socket)).unwrap();
    let connect = || std::os::unix::net::UnixStream::connect(&socket).ok();
    let mut far = FarSide::on(until("socket of QEMU", connect).await);
    far.hears("U-Boot 20").await;
    boots(&unix_server, far, "unix server").await;

    let pty = UBoot::boot_on(Console::Pty).unwrap();
    boots(&pty, FarSide::open(pty.pty_path().await), "pty").await;

    let fifos = FifoPair::make(dir.path().join("console"));
    let pipe = UBoot::boot_on(Console::Pipe(fifos.path())).unwrap();
    boots(&pipe, fifos.far(), "pipe").await;

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = socket.local_addr().unwrap().port();
    let mut udp = UBoot::boot_on(Console::Udp { peer }).unwrap();
    socket.connect(("127.0.0.1", udp.udp_port().await)).unwrap();
    boots(&udp, FarSide::on(socket), "udp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_connects_its_console_again_and_again() {
    let dir = dir();
    let port = free_port();
    let Some(tcp) = UBoot::boot_on(Console::TcpClient { port }) else { return };
    for _ in 0..2 {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (stream, _) = soon("connection of QEMU", listener.accept()).await.unwrap();
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        boots(&tcp, FarSide::on(stream), "tcp client").await;
    }

    let path = dir.path().join("console.sock");
    let unix = UBoot::boot_on(Console::UnixClient(&path)).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let (stream, _) = soon("connection of QEMU", listener.accept()).await.unwrap();
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    boots(&unix, FarSide::on(stream), "unix client").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_speaks_telnet() {
    let dir = dir();
    let Some(mut uboot) = UBoot::boot_on(Console::TelnetServer) else { return };
    let port = uboot.port().await;
    let Some(mut telnet) = Telnet::connect(TelnetClient::Inetutils, port, dir.path()).await else {
        return;
    };
    telnet.terminal.shows("Hit any key").await;
    telnet.terminal.types("\r");
    telnet.terminal.shows("=> ").await;
    telnet.command("quit").await;
    assert_eq!(telnet.terminal.ended().await, 0);
    assert!(telnet.terminal.is_as_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_speaks_tls_as_server_and_as_client() {
    let dir = dir();
    let certificates = Certificates::make(dir.path());
    let Some(mut server) = UBoot::boot_on(Console::TlsServer(&certificates)) else { return };
    let port = server.port().await;
    let Some(mut anonymous) = tls_client(&certificates, None, port, dir.path()) else { return };
    assert_eq!(anonymous.program.ended().await, 1, "{}", anonymous.program.stderr());
    let client = tls_client(&certificates, Some(Holder::Client), port, dir.path()).unwrap();
    boots(&server, client.far, "TLS server").await;

    let demanded = ClientCertificate::Demanded;
    let (relay, port) =
        tls_server(&certificates, Holder::Server, demanded, dir.path()).await.unwrap();
    let client = Console::TlsClient { port, certificates: &certificates };
    boots(&UBoot::boot_on(client).unwrap(), relay.far, "TLS client").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn telnet_programs_send_keys_and_breaks() {
    let dir = dir();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(telnet) = Telnet::connect(TelnetClient::Inetutils, port, dir.path()).await else {
        return;
    };
    let mut far = FarSide::on(listener.accept().unwrap().0);
    keys_and_breaks(telnet, &mut far).await;

    let made = Certificates::make(dir.path());
    let demanded = ClientCertificate::Demanded;
    let Some((mut relay, port)) = tls_server(&made, Holder::Server, demanded, dir.path()).await
    else {
        return;
    };
    let client = TelnetClient::Tls(&made);
    let Some(telnet) = Telnet::connect(client, port, dir.path()).await else { return };
    keys_and_breaks(telnet, &mut relay.far).await;
}

async fn keys_and_breaks(mut telnet: Telnet, far: &mut FarSide) {
    // WILL ECHO and WILL SUPPRESS-GO-AHEAD: a key at a time.
    far.says([0xff, 0xfb, 1, 0xff, 0xfb, 3]);
    far.says("login: ");
    telnet.terminal.shows("login: ").await;
    telnet.send_break().await;
    // DO for both options, and the break.
    let heard = far.hears_bytes(8).await;
    assert!(heard.ends_with(&BREAK), "{heard:02x?}");
    telnet.terminal.types("x");
    assert_eq!(far.hears_bytes(9).await[8], b'x');
}

#[tokio::test(flavor = "multi_thread")]
async fn ser2net_serves_a_line_that_is_pulled_out() {
    let dir = dir();
    let Some(mut line) = PtyPair::plug(dir.path(), "ttyUSB0").await else { return };
    let Some(mut ser2net) = Ser2net::serve(Accepter::Raw, line.near(), dir.path()).await else {
        return;
    };
    for round in 0..2 {
        let (mut near, mut far) = (FarSide::connect(ser2net.port()), line.far());
        near.says("ping");
        far.hears("ping").await;
        far.says("pong");
        near.hears("pong").await;
        drop((near, far));
        line.unplug().await;
        line.plug_again().await;
        if round == 0 {
            ser2net.stop().await;
            ser2net.start_again().await;
        }
    }

    let telnet = Ser2net::serve(Accepter::Telnet, line.near(), dir.path()).await.unwrap();
    let mut near = FarSide::connect(telnet.port());
    line.far().says("login: ");
    near.hears("login: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pyserial_sets_a_line_of_ser2net() {
    let dir = dir();
    let Some(line) = PtyPair::plug(dir.path(), "ttyUSB0").await else { return };
    let accepter = Accepter::Rfc2217;
    let Some(ser2net) = Ser2net::serve(accepter, line.near(), dir.path()).await else { return };
    let port = ser2net.port();
    let Some(mut client) = Rfc2217Client::open(port, "ign_set_control", dir.path()).await else {
        return;
    };
    let set = json!({"baudrate": 19200, "stopbits": 2});
    assert_eq!(client.ask(&json!({ "set": set })).await, set);
    let settings = line.settings();
    assert_eq!(settings.output_speed(), 19200);
    assert!(settings.control_modes.contains(ControlModes::CSTOPB));

    let mut far = line.far();
    assert_eq!(client.ask(&json!({"write": "\u{ff}at\r"})).await, 4);
    assert_eq!(far.hears_bytes(4).await, b"\xffat\r");
    far.says(b"\xffOK\r\n");
    assert_eq!(client.ask(&json!({"read": 5})).await, "\u{ff}OK\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn pyserial_sees_and_moves_modem_lines() {
    let dir = dir();
    let Some(mut server) = Rfc2217Server::serve(dir.path()).await else { return };
    let mut client = Rfc2217Client::open(server.port(), "", dir.path()).await.unwrap();
    server.tells(&json!({"connected": true})).await;
    for set in [json!({"bytesize": 7}), json!({"parity": "E"}), json!({"dtr": false})] {
        assert_eq!(client.ask(&json!({ "set": set })).await, set);
        server.tells(&json!({ "set": set })).await;
    }
    client.ask(&json!({"break": 0.01})).await;
    server.tells(&json!({"set": {"break_condition": true}})).await;
    server.tells(&json!({"set": {"break_condition": false}})).await;
    client.ask(&json!({"purge": "output"})).await;
    server.tells(&json!({"purge": "output"})).await;

    let lines = client.ask(&json!({"lines": null})).await;
    assert_eq!(lines, json!({"cts": true, "dsr": true, "ri": true, "cd": true}));
    server.told(&json!({"lines": {"cts": false}}));
    server.told(&json!({"say": "\u{ff}!"}));
    // It looks at the lines after what was said, and tells the change next.
    assert_eq!(client.ask(&json!({"read": 2})).await, "\u{ff}!");
    while client.ask(&json!({"lines": null})).await["cts"] == true {}

    client.ask(&json!({"write": "\u{fe}\u{ff}"})).await;
    server.tells(&json!({"heard": "\u{fe}\u{ff}"})).await;
    drop(client);
    server.tells(&json!({"connected": false})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_accepts_the_right_certificates_only() {
    let dir = dir();
    let certificates = Certificates::make(dir.path());
    let made = &certificates;
    let asked = [ClientCertificate::NotAsked, ClientCertificate::Demanded];
    for (clients, holder) in asked.into_iter().zip([None, Some(Holder::Client)]) {
        let server = tls_server(made, Holder::Server, clients, dir.path()).await;
        let Some((mut server, port)) = server else { return };
        let mut client = tls_client(made, holder, port, dir.path()).unwrap();
        client.far.says("Q\nping\r\n");
        server.far.hears("Q\nping\r\n").await;
        server.far.says(b"Q\npong\xff");
        client.far.hears("Q\npong").await;
    }

    let servers = [
        (Holder::Stranger, "unable to get local issuer certificate"),
        (Holder::Expired, "certificate has expired"),
        (Holder::Elsewhere, "hostname mismatch"),
    ];
    for (holder, complaint) in servers {
        let not_asked = ClientCertificate::NotAsked;
        let (_server, port) = tls_server(made, holder, not_asked, dir.path()).await.unwrap();
        let mut client = tls_client(made, None, port, dir.path()).unwrap();
        assert_eq!(client.program.ended().await, 1);
        assert!(client.program.stderr().contains(complaint), "{}", client.program.stderr());
    }

    let demanded = ClientCertificate::Demanded;
    let (server, port) = tls_server(made, Holder::Server, demanded, dir.path()).await.unwrap();
    for holder in [None, Some(Holder::Stranger), Some(Holder::Expired)] {
        let mut client = tls_client(made, holder, port, dir.path()).unwrap();
        assert_ne!(client.program.ended().await, 0, "{holder:?}");
    }
    let why = until("the server's reasons", || {
        Some(server.program.stderr()).filter(|why| why.contains("certificate has expired"))
    })
    .await;
    assert!(why.contains("peer did not return a certificate"), "{why}");
    assert!(why.contains("unable to get local issuer certificate"), "{why}");
    assert_ne!(fs::read(made.other_ca()).unwrap(), fs::read(made.ca()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn socat_sends_datagrams_from_where_it_is_told() {
    let dir = dir();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let (first, second) = (free_port(), free_port());
    let mut buffer = [0; 16];
    for (source, payload) in [(first, "one"), (second, "two"), (first, "")] {
        let Some(()) = send_datagram(source, port, payload.as_bytes()).await else { return };
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from.port()), (payload.as_bytes(), source));
    }

    let taking = Datagrams::listen(dir.path(), "datagrams").await.unwrap();
    send_datagram(first, taking.port(), b"one ").await.unwrap();
    send_datagram(second, taking.port(), b"two").await.unwrap();
    assert_eq!(taking.takes_bytes(7).await, b"one two");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_and_writers_of_fifos_come_and_go() {
    let dir = dir();
    let fifos = FifoPair::make(dir.path().join("fifo"));
    // Whoever has it open keeps what was written.
    let mut input = fs::OpenOptions::new().read(true).write(true).open(fifos.input()).unwrap();
    for text in ["one ", "two"] {
        fifos.write_and_go(text.as_bytes()).await;
    }
    let mut taken = [0; 7];
    std::io::Read::read_exact(&mut input, &mut taken).unwrap();
    assert_eq!(&taken, b"one two");

    for name in ["first", "second"] {
        let reader = fifos.reader(dir.path(), name);
        fs::write(fifos.output(), name).unwrap();
        until("what was written", || (reader.stdout() == name.as_bytes()).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_says_where_it_is_and_stops_at_who_does_not_read() {
    assert_eq!(flooded(14, 20), b"0\n0000");
    let (listener, port) = narrow_listener();
    let (taking, talking) =
        tokio::join!(listener.accept(), TcpStream::connect(("127.0.0.1", port)));
    let (mut taking, mut talking) = (taking.unwrap().0, talking.unwrap());
    const LEN: u64 = 32 * 1024 * 1024;
    let flooding = tokio::spawn(async move { flood(&mut talking, LEN).await.map(|()| talking) });
    let mut seen = vec![0; 100];
    taking.read_exact(&mut seen).await.unwrap();
    assert!(!flooding.is_finished(), "nobody took it");
    seen.resize(usize::try_from(LEN).unwrap(), 0);
    soon("all of the flood", taking.read_exact(&mut seen[100..])).await.unwrap();
    assert!(seen == flooded(0, LEN));
    flooding.await.unwrap().unwrap().shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn virsh_tells_what_libvirt_makes_of_devices() {
    let Some(list) = virsh("list --name", "").await else { return };
    assert_eq!(list.ok().trim(), "test");
    let xml = define_and_dump("<console type='tcp'><source host='h' service='1'/></console>");
    let xml = xml.await.unwrap().ok();
    assert!(xml.contains("<serial type='tcp'>\n      <source mode='connect' host='h'"), "{xml}");
    let refused = define_and_dump("<console type='carrier-pigeon'/>").await.unwrap().fails(1);
    assert!(refused.contains("unknown type presented"), "{refused}");
}
