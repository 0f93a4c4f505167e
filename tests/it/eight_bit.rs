//! 8-bit clean: every byte value, both ways, through each host interface.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
};

use lineman::pb::{AttachMode, device_status::State, unix_host_interface};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::spawn_blocking,
};

use crate::harness::{Attacher, Client, Server, bind_tcp, connect_tcp, pty, soon, unix};

fn every_byte() -> Vec<u8> {
    (0..=255).chain((0..=255).rev()).collect()
}

/// What the far side sends arrives, and what is typed arrives there.
async fn check(client: &mut Client, id: &str, far: impl AsyncRead + AsyncWrite + Unpin) {
    let mut far = far;
    let mut attacher = Attacher::new(client, id, AttachMode::Write, 0).await;
    far.write_all(&every_byte()).await.unwrap();
    attacher.until_offset(512).await;
    assert_eq!(attacher.seen, every_byte(), "{id}: output");
    attacher.type_bytes(Some(0), &every_byte()).await;
    let mut got = vec![0; 512];
    soon("input at the far side", far.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, every_byte(), "{id}: input");
    attacher.until("acknowledgement", |attacher| attacher.ack.offset == 512).await;
    let status = client.status(id).await;
    assert_eq!((status.output_bytes, status.input_bytes), (512, 512), "{id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_as_client_and_as_server() {
    let server = Server::start();
    let mut client = server.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    client.create("connect", connect_tcp(listener.local_addr().unwrap().port())).await;
    let (far, _) = soon("connection", listener.accept()).await.unwrap();
    check(&mut client, "connect", far).await;

    client.create("bind", bind_tcp(0)).await;
    let status = client.until_state("bind", State::Listening).await;
    let far = TcpStream::connect(&status.listen_address).await.unwrap();
    let local = far.local_addr().unwrap().to_string();
    check(&mut client, "bind", far).await;
    assert!(server.log().contains(&local), "the log tells who connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_as_client_and_as_server() {
    let server = Server::start();
    let mut client = server.client().await;
    let path = server.dir().join("far.sock");
    let listener = UnixListener::bind(&path).unwrap();
    client.create("connect", unix(unix_host_interface::Mode::Connect, &path)).await;
    let (far, _) = soon("connection", listener.accept()).await.unwrap();
    check(&mut client, "connect", far).await;

    let path = server.dir().join("near.sock");
    client.create("bind", unix(unix_host_interface::Mode::Bind, &path)).await;
    client.until_state("bind", State::Listening).await;
    check(&mut client, "bind", UnixStream::connect(&path).await.unwrap()).await;
    let pid = std::process::id();
    assert!(server.log().contains(&format!("pid {pid}")), "the log tells who connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pty() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("pty", pty()).await;
    let status = client.until_state("pty", State::Connected).await;
    let open = || OpenOptions::new().read(true).write(true).open(&status.pty_path).unwrap();
    let mut attacher = Attacher::new(&mut client, "pty", AttachMode::Write, 0).await;
    let mut far: File = open();
    far.write_all(&every_byte()).unwrap();
    attacher.until_offset(512).await;
    assert_eq!(attacher.seen, every_byte());
    attacher.type_bytes(Some(0), &every_byte()).await;
    let got = spawn_blocking(move || {
        let mut got = vec![0; 512];
        far.read_exact(&mut got).map(|()| got)
    });
    assert_eq!(soon("input at the far side", got).await.unwrap().unwrap(), every_byte());

    // Programs come and go; the link stays.
    for _ in 0..3 {
        open().write_all(b"again").unwrap();
    }
    attacher.until_offset(512 + 15).await;
    assert_eq!(client.status("pty").await.link_count, 1);
}
