//! Clients that do not behave: each is cut off or held to its bound and counted,
//! and those who were there before do not notice.

use std::time::{Duration, Instant};

use lineman::pb::{AttachMode, device_status::State, journal_position::At};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    Attacher, Client, Server, metric, pty, reason, soon, start, tls, until, until_async,
};

/// Somebody who is there and works.
struct Bystander {
    client: Client,
    attacher: Attacher,
    pty_path: String,
}

impl Bystander {
    async fn new(server: &Server) -> Self {
        let mut client = server.client().await;
        client.create("bystander", pty()).await;
        let pty_path = client.until_state("bystander", State::Connected).await.pty_path;
        let attacher = Attacher::new(&mut client, "bystander", AttachMode::Write, 0).await;
        Self { client, attacher, pty_path }
    }

    /// Output still comes.
    async fn is_undisturbed(&mut self) {
        let offset = self.attacher.next_offset;
        std::fs::write(&self.pty_path, "still here").unwrap();
        self.attacher.until_offset(offset + 10).await;
        self.client.status("bystander").await;
    }
}

async fn until_metric(server: &Server, name: &str, wanted: impl Fn(i64) -> bool) {
    until_async(name, async || Some(metric(server, name).await).filter(|n| wanted(*n))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_say_nothing_are_cut_off() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut before_tls = TcpStream::connect(server.address()).await.unwrap();
    let mut after_tls = tls(&server, "h2").await;
    let mut half_a_request = tls(&server, "http/1.1").await;
    half_a_request.write_all(b"GET / HT").await.unwrap();
    let began = Instant::now();
    let mut rest = Vec::new();
    soon("end without a handshake", before_tls.read_to_end(&mut rest)).await.ok();
    soon("end without a preface", after_tls.read_to_end(&mut rest)).await.ok();
    soon("end without a request", half_a_request.read_to_end(&mut rest)).await.ok();
    println!("three silent clients were cut off within {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(30));
    until_metric(&server, "handshakes_timed_out", |n| n == 1).await;
    until_metric(&server, "connections_failed", |n| n >= 1).await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_never_say_who_they_are_do_not_keep_their_place() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    // Health needs no credential, but it is no reason to stay.
    let mut health = Client::watch_health(&server).await;
    let began = Instant::now();
    soon("end of the connection", health.message()).await.unwrap_err();
    println!("an anonymous connection was ended after {:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_secs(15));
    until_metric(&server, "connections_failed", |n| n == 1).await;
    assert!(server.log().contains("no call with a valid credential"));
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_speak_something_else_are_cut_off_at_once() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut plain = TcpStream::connect(server.address()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    soon("end of plain HTTP", plain.read_to_end(&mut Vec::new())).await.ok();
    until_metric(&server, "handshakes_failed", |n| n >= 1).await;
    let mut garbage = tls(&server, "h2").await;
    garbage.write_all(&[b'x'; 4096]).await.unwrap();
    soon("end of garbage", garbage.read_to_end(&mut Vec::new())).await.ok();
    until_metric(&server, "connections_failed", |n| n >= 1).await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_handshakes_are_turned_away_at_once() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        // The first byte of a handshake, and no more.
        stream.write_all(b"\x16").await.unwrap();
        silent.push(stream);
    }
    // 256 are waited for; the others are closed without waiting.
    let refused = || server.log().matches("too many handshakes").count();
    until("refusals", || (refused() >= 44).then_some(())).await;
    bystander.is_undisturbed().await;
    drop(silent);
    assert!(metric(&server, "handshakes_refused").await >= 44);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_say_nothing_take_no_place_from_those_who_speak() {
    let server = Server::start();
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(server.address()).await.unwrap());
    }
    // A new client gets in while all of them are there.
    let mut client = server.client().await;
    client.create("a", pty()).await;
    assert_eq!(metric(&server, "handshakes_refused").await, 0);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_takes_no_large_requests_from_strangers() {
    let server = Server::start();
    let (requests, connection) = h2::client::handshake(tls(&server, "h2").await).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let request = http::Request::post("https://localhost/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (answer, mut body) = requests.send_request(request, false).unwrap();
    // A message of 2 MiB is announced: refused before it comes.
    body.send_data(vec![0, 0, 0x20, 0, 0].into(), false).unwrap();
    let answer = soon("refusal", answer).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "11", "OUT_OF_RANGE: {answer:?}");
    driver.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection_that_sends_them() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let (mut requests, connection) = h2::client::handshake(tls(&server, "h2").await).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut sent = 0;
    let ended = soon("end of the connection", async {
        loop {
            requests = match requests.ready().await {
                Ok(requests) => requests,
                Err(error) => return error,
            };
            let request = http::Request::post("https://localhost/lineman.v1.ConsoleService/Attach");
            let (answer, mut body) = match requests.send_request(request.body(()).unwrap(), false) {
                Ok(stream) => stream,
                Err(error) => return error,
            };
            body.send_reset(h2::Reason::CANCEL);
            drop(answer);
            sent += 1;
            assert!(sent < 100_000, "resets are not without bound");
        }
    })
    .await;
    println!("cut off after {sent} rapid resets: {ended}");
    driver.await.unwrap().ok();
    until_metric(&server, "connections_failed", |n| n >= 1).await;
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_allowed_wait_and_headers_have_a_limit() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let (requests, connection) = h2::client::handshake(tls(&server, "h2").await).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut ready = requests.ready().await.unwrap();
    // The server's settings arrive with the first answer.
    let request = http::Request::post("https://localhost/none").body(()).unwrap();
    let (answer, _) = ready.send_request(request, true).unwrap();
    soon("first answer", answer).await.unwrap();
    assert_eq!(ready.current_max_send_streams(), 256);

    let huge = "x".repeat(64 << 10);
    let request = http::Request::post("https://localhost/none").header("x-huge", huge);
    let mut ready = ready.ready().await.unwrap();
    let (answer, _) = ready.send_request(request.body(()).unwrap(), true).unwrap();
    let refused = match soon("answer to huge headers", answer).await {
        Ok(answer) => answer.status() == http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Err(_) => true,
    };
    assert!(refused);
    drop(ready);
    driver.abort();
    bystander.is_undisturbed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_room_for_so_many_attachments() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server).await;
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let mut attached = Vec::new();
    for n in 0..1000 {
        // A connection carries up to 256 calls.
        if n % 200 == 0 {
            client = server.client().await;
        }
        attached.push(Attacher::new(&mut client, "a", AttachMode::Observe, 0).await);
    }
    let one_more =
        Attacher::open(&mut client, start("a", AttachMode::Observe, At::Offset(0))).await;
    let error = one_more.err().unwrap();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted);
    assert_eq!(reason(&error), "ATTACHMENT_LIMIT");
    bystander.is_undisturbed().await;
    assert_eq!(metric(&server, "attachments").await, 1001);
    let path = client.status("a").await.pty_path;
    std::fs::write(path, "to a thousand").unwrap();
    for attacher in &mut attached {
        attacher.until_offset(13).await;
    }
    drop(attached);
    client.until_status("a", "free places", |status| status.attachment_count == 0).await;
    Attacher::new(&mut client, "a", AttachMode::Observe, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_have_a_cap() {
    let mut server = Server::start();
    assert!(server.stop().await.success());
    server.start_with_config("[limits]\nconnections = 4\n");
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(server.client().await);
    }
    let mut fifth = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(soon("refusal", fifth.read(&mut [0; 1])).await.unwrap_or(0), 0);
    for client in &mut clients {
        client.devices.list_devices(lineman::pb::ListDevicesRequest::default()).await.unwrap();
    }
    clients.pop();
    until_metric(&server, "connections_refused", |n| n >= 1).await;
}
