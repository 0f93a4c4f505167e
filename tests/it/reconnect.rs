//! Far sides come and go: the device says what happened, tries again by itself,
//! and its journal and attachments go on.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use lineman::pb::{
    self, AttachMode, device_spec::HostInterface, device_status::State, input_ack::Refusal,
    unix_host_interface::Mode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use crate::harness::{
    Attacher, Server, bind_tcp, connect_tcp, device, pty, reason, soon, unix, violations,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_connects_again_and_attachers_stay() {
    let server = Server::start();
    let mut client = server.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    client.create("a", connect_tcp(port)).await;
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    for round in 0..3 {
        let (mut far, peer) = soon("connection", listener.accept()).await.unwrap();
        attacher.until("connected", |a| a.state.state() == State::Connected).await;
        let status = client.until_state("a", State::Connected).await;
        assert_eq!(status.peer_address, format!("127.0.0.1:{port}"), "{peer}");
        assert_eq!(status.link_count, round + 1);
        far.write_all(b"hello ").await.unwrap();
        attacher.until_offset((round + 1) * 6).await;
        drop(far);
        attacher.until("lost", |a| a.state.state() != State::Connected).await;
    }
    assert_eq!(attacher.text(), "hello hello hello ");
    drop(listener);
    let status =
        client.until_status("a", "refused connection", |s| s.last_error.contains("refused")).await;
    assert!(status.last_error.contains(&format!("cannot connect to 127.0.0.1:{port}")));
    assert!(status.last_error_time.is_some());

    // While there is no link, input is refused, with the reason.
    attacher.until("back-off", |a| a.state.state() == State::Backoff).await;
    attacher.type_bytes(Some(0), b"lost?").await;
    attacher.until("refusal", |a| a.ack.refusal() == Refusal::NotConnected).await;
    assert_eq!(attacher.ack.offset, 0);
    let error = client.write("a", b"x").await.unwrap_err();
    assert!(["NOT_CONNECTED", "NOT_WRITER"].contains(&reason(&error).as_str()));

    // The far side returns, and the same bytes go through once.
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (mut far, _) = soon("connection", listener.accept()).await.unwrap();
    attacher.until("connected", |a| a.state.state() == State::Connected).await;
    attacher.type_bytes(Some(0), b"lost?").await;
    attacher.until("acknowledgement", |a| a.ack.offset == 5).await;
    let mut got = [0; 5];
    soon("input", far.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"lost?");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_one_far_side_and_turns_others_away() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", bind_tcp(0)).await;
    let address = client.until_state("a", State::Listening).await.listen_address;
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Observe, 0).await;
    let mut first = TcpStream::connect(&address).await.unwrap();
    client.until_state("a", State::Connected).await;
    let mut second = TcpStream::connect(&address).await.unwrap();
    let n = soon("refusal", second.read(&mut [0; 8])).await.unwrap_or(0);
    assert_eq!(n, 0, "closed without a word");
    client.until_status("a", "refused peer in the status", |s| s.refused_peer_count == 1).await;
    first.write_all(b"undisturbed").await.unwrap();
    attacher.until_offset(11).await;
    drop(first);
    client.until_state("a", State::Listening).await;
    let mut third = TcpStream::connect(&address).await.unwrap();
    third.write_all(b"!").await.unwrap();
    attacher.until_offset(12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_told_and_taken_when_it_is_free() {
    let server = Server::start();
    let mut client = server.client().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    client.create("a", bind_tcp(port)).await;
    let status = client.until_state("a", State::Backoff).await;
    assert!(status.last_error.contains("in use"), "{}", status.last_error);
    assert!(status.retry_time.is_some());
    drop(taken);
    client.until_state("a", State::Listening).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_own_left_over_socket_is_replaced() {
    let mut server = Server::start();
    let mut client = server.client().await;
    let (ours, theirs) = (server.dir().join("ours.sock"), server.dir().join("theirs.sock"));
    client.create("ours", unix(Mode::Bind, &ours)).await;
    client.until_state("ours", State::Listening).await;
    let mode = std::fs::metadata(&ours).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    // Somebody's socket, alive, dead, and an ordinary file: all stay.
    drop(UnixListener::bind(&theirs).unwrap());
    client.create("theirs", unix(Mode::Bind, &theirs)).await;
    let status = client.until_state("theirs", State::Backoff).await;
    let told = "exists and is not what this device left behind";
    assert!(status.last_error.contains(told), "{}", status.last_error);
    assert!(theirs.exists());

    // Killed, the server takes its own path again.
    server.kill();
    assert!(ours.exists());
    server.start_again();
    let mut client = server.client().await;
    client.until_state("ours", State::Listening).await;
    drop(UnixStream::connect(&ours).await.unwrap());
    assert!(theirs.exists());

    // Stopped or deleted, it leaves nothing behind.
    let name = String::from("devices/ours");
    client
        .devices
        .stop_device(pb::StopDeviceRequest { name: name.clone(), etag: String::new() })
        .await
        .unwrap();
    client.until_state("ours", State::Stopped).await;
    crate::harness::until("removed socket", || (!ours.exists()).then_some(())).await;
    let request = pb::StartDeviceRequest { name: name.clone(), etag: String::new() };
    client.devices.start_device(request).await.unwrap();
    client.until_state("ours", State::Listening).await;
    let request = pb::DeleteDeviceRequest { name, etag: String::new() };
    client.devices.delete_device(request).await.unwrap();
    assert!(!ours.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_has_the_mode_and_group_of_its_spec() {
    let server = Server::start();
    let mut client = server.client().await;
    let path = server.dir().join("a.sock");
    let with = |mode: u32, group: &str| {
        device(HostInterface::Unix(pb::UnixHostInterface {
            mode: Mode::Bind.into(),
            path: path.to_str().unwrap().into(),
            socket_mode: mode,
            group: group.into(),
        }))
    };
    let own = rustix::process::getgid().as_raw();
    client.create("a", with(0o660, &own.to_string())).await;
    client.until_state("a", State::Listening).await;
    let file = std::fs::metadata(&path).unwrap();
    assert_eq!((file.permissions().mode() & 0o777, file.gid()), (0o660, own));
    let _far = UnixStream::connect(&path).await.unwrap();
    let status = client.until_state("a", State::Connected).await;
    let (pid, uid) = (std::process::id(), rustix::process::getuid().as_raw());
    assert_eq!(status.peers[0].address, format!("pid {pid}, uid {uid}, gid {own}"));

    client.create("b", with(0o660, "no-such-group")).await;
    let status = client.until_state("b", State::Backoff).await;
    assert!(status.last_error.contains("group no-such-group: there is no"), "{status:?}");
    let wrong = client.try_create("c", with(0o4777, "a:b")).await.unwrap_err();
    assert_eq!(violations(&wrong), ["spec.unix.socket_mode", "spec.unix.group"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_interface_keeps_journal_and_attachments() {
    let server = Server::start();
    let mut client = server.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Observe, 0).await;
    std::fs::write(&path, "pty ").unwrap();
    attacher.until_offset(4).await;

    let mut device = connect_tcp(listener.local_addr().unwrap().port());
    device.name = "devices/a".into();
    let request = pb::UpdateDeviceRequest { device: Some(device), ..Default::default() };
    client.devices.update_device(request).await.unwrap();
    let (mut far, _) = soon("connection", listener.accept()).await.unwrap();
    far.write_all(b"tcp").await.unwrap();
    attacher.until_offset(7).await;
    assert_eq!(attacher.text(), "pty tcp");
    assert_eq!(client.status("a").await.pty_path, "");
}
