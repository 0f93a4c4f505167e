//! Telnet as people and machines speak it: GNU's client at a console that listens,
//! QEMU's server with U-Boot behind it, and commands cut in two.

use lineman::pb::{
    self, AttachMode, device_spec::HostInterface, device_status::State, tcp_host_interface::Mode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    Attacher, Client, Console, Server, Stack, Telnet, TelnetClient, UBoot, device, reason, soon,
    tcp_spec, until_async,
};

async fn bind(client: &mut Client, stack: Stack) -> u16 {
    client.create("a", device(HostInterface::Tcp(tcp_spec(Mode::Bind, 0, stack)))).await;
    port(client).await
}

async fn port(client: &mut Client) -> u16 {
    let address = client.until_state("a", State::Listening).await.listen_address;
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

async fn send_break(client: &mut Client, id: &str) -> Result<(), tonic::Status> {
    let request = pb::SendBreakRequest { device: format!("devices/{id}"), ..Default::default() };
    client.console.send_break(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_with_telnet_types_breaks_and_reads() {
    let server = Server::start();
    let mut client = server.client().await;
    let port = bind(&mut client, Stack::Telnet).await;
    let telnet = Telnet::connect(TelnetClient::Inetutils, port, server.dir()).await;
    let Some(mut telnet) = telnet else { return };
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    telnet.terminal.types("version");
    attacher.until_seen("version", 0).await;
    attacher.type_text("Grüße\r\n").await;
    telnet.terminal.shows("Grüße").await;
    assert!(!telnet.terminal.screen().contains("version"), "the device's to echo, not ours");
    telnet.send_break().await;
    client.until_status("a", "break", |s| s.break_count == 1).await;
    assert_eq!(attacher.text(), "version", "a break is no byte");
    telnet.command("quit").await;
    client.until_state("a", State::Listening).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_pieces_are_commands_and_data_is_data() {
    let server = Server::start();
    let mut client = server.client().await;
    let port = bind(&mut client, Stack::Telnet).await;
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    far.set_nodelay(true).unwrap();
    client.until_state("a", State::Connected).await;
    // WILL NAWS, 132 by 43; a terminal; 0xFF doubled; a break. A byte at a time.
    let mut said = vec![0xff, 251, 31, 0xff, 250, 31, 0, 132, 0, 43, 0xff, 240];
    said.extend(b"\xff\xfb\x18\xff\xfa\x18\0VT220\xff\xf0one\xff\xfftwo\xff\xf3three");
    for byte in said {
        far.write_all(&[byte]).await.unwrap();
    }
    attacher.until_offset(12).await;
    assert_eq!(attacher.seen, b"one\xfftwothree");
    let status = client
        .until_status("a", "window and break", |s| s.window.is_some() && s.break_count == 1)
        .await;
    assert_eq!(status.window, Some(pb::WindowSize { rows: 43, columns: 132 }));
    assert_eq!(status.peers[0].description, "terminal VT220");

    // Input goes out doubled; our own break is a command.
    attacher.type_bytes(None, b"\xff!").await;
    attacher.until("acknowledgement", |a| a.ack.offset == 2).await;
    drop(attacher);
    // As soon as the right to write is free.
    until_async("break sent", async || send_break(&mut client, "a").await.ok()).await;
    let mut heard = Vec::new();
    while !heard.ends_with(&[0xff, 0xf3]) {
        let byte = soon("input", far.read_u8()).await.unwrap();
        heard.push(byte);
    }
    assert!(heard.ends_with(b"\xff\xff!\xff\xf3"), "{heard:02x?}");
    // A terminal's size is the far side's to tell.
    let request = pb::SetWindowSizeRequest {
        device: "devices/a".into(),
        window: Some(pb::WindowSize { rows: 24, columns: 80 }),
        ..Default::default()
    };
    let error = client.console.set_window_size(request).await.unwrap_err();
    assert_eq!(reason(&error), "CONTROL_UNSUPPORTED");

    // It leaves in the middle of a command; the next one's bytes are whole.
    far.write_all(&[0xff]).await.unwrap();
    drop(far);
    client.until_state("a", State::Listening).await;
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Observe, 12).await;
    let mut next = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    next.write_all(b"\xf3next").await.unwrap();
    attacher.until_offset(12 + 5).await;
    assert_eq!(attacher.seen, b"\xf3next");
    let status = client.status("a").await;
    assert_eq!((status.break_count, status.window), (1, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_boots_and_answers_over_telnet_and_raw() {
    let server = Server::start();
    let mut client = server.client().await;
    let consoles =
        [("raw", Stack::Raw, Console::TcpServer), ("telnet", Stack::Telnet, Console::TelnetServer)];
    for (id, stack, console) in consoles {
        let Some(mut uboot) = UBoot::boot_on(console) else { return };
        let spec = tcp_spec(Mode::Connect, uboot.port().await, stack);
        client.create(id, device(HostInterface::Tcp(spec))).await;
        answers(&mut client, id, "").await;
    }
    // QEMU as the client of a device that listens.
    let port = bind(&mut client, Stack::Raw).await;
    let Some(_uboot) = UBoot::boot_on(Console::TcpClient { port }) else { return };
    answers(&mut client, "a", "\r").await;
}

/// Gets to the prompt of U-Boot and asks for its version.
async fn answers(client: &mut Client, id: &str, first: &str) {
    client.until_state(id, State::Connected).await;
    let mut attacher = Attacher::new(client, id, AttachMode::Write, 0).await;
    attacher.until_seen("Hit any key", 0).await;
    attacher.type_text("\r").await;
    attacher.until_seen("=> ", 0).await;
    let from = attacher.seen.len();
    attacher.type_text(&format!("{first}version\r")).await;
    attacher.until_seen("U-Boot 20", from).await;
    let banners = attacher.text().matches("U-Boot 20").count();
    assert!(banners >= 2, "the boot and the answer: {}", attacher.text());
    println!("{id}: U-Boot said {} bytes", attacher.seen.len());
}
