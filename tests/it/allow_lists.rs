//! What a security team signs off: devices name on the server's host what the
//! operator's lists cover and nothing else, and a refusal tells the rule, never
//! what is there.

use std::{fs, os::unix::fs::symlink, path::Path};

use lineman::pb::{
    self, device_spec::HostInterface, device_status::State, tcp_host_interface,
    unix_host_interface::Mode,
};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Client, Server, bind_tcp, connect_tcp, device, pty, reason, unix};

/// A server with these lists instead of those of development mode.
async fn server(host_interfaces: impl FnOnce(&Path) -> String) -> (Server, Client) {
    let mut server = Server::start();
    assert!(server.stop().await.success());
    let lists = host_interfaces(server.dir());
    server.start_with_config(&format!("[host_interfaces]\n{lists}\n"));
    let client = server.client().await;
    (server, client)
}

fn tcp(host: &str, port: u32) -> pb::Device {
    device(HostInterface::Tcp(pb::TcpHostInterface {
        mode: tcp_host_interface::Mode::Connect.into(),
        host: host.into(),
        port,
        ..Default::default()
    }))
}

/// A refusal: its message and the rule that it names.
async fn refused(client: &mut Client, device: pb::Device) -> (String, String) {
    let error: Status = client.try_create("refused", device).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (Code::PermissionDenied, "NOT_ALLOWED_HERE")
    );
    let details = error.get_error_details();
    let rule = details.error_info().unwrap().metadata["rule"].clone();
    assert!(error.message().contains(&rule), "{}", error.message());
    (error.message().to_owned(), rule)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_a_pty_is_allowed_unless_it_is_listed() {
    let (server, mut client) = server(|_| String::new()).await;
    client.create("pty", pty()).await;
    client.until_state("pty", State::Connected).await;
    let path = server.dir().join("a.sock");
    for (device, rule) in [
        (connect_tcp(1), "host_interfaces.networks"),
        (bind_tcp(0), "host_interfaces.networks"),
        (tcp("localhost", 23), "host_interfaces.networks"),
        (unix(Mode::Bind, &path), "host_interfaces.folders"),
        (unix(Mode::Connect, &path), "host_interfaces.folders"),
    ] {
        assert_eq!(refused(&mut client, device).await.1, rule);
    }
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_allow_their_ports() {
    let (yes, no) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await);
    let no = no.unwrap().local_addr().unwrap().port();
    let port = yes.local_addr().unwrap().port();
    let (_server, mut client) =
        server(|_| format!("networks = [{{net = '127.0.0.0/8', ports = '{port}'}}]")).await;
    client.create("yes", connect_tcp(port)).await;
    client.until_state("yes", State::Connected).await;
    let (message, rule) = refused(&mut client, connect_tcp(no)).await;
    assert_eq!(rule, "host_interfaces.networks");
    assert!(message.contains(&format!("127.0.0.1:{no}")), "{message}");
    refused(&mut client, tcp("::ffff:127.0.0.1", no.into())).await;
    refused(&mut client, tcp("::1", port.into())).await;
    // Any free port is not a port of the list.
    refused(&mut client, bind_tcp(0)).await;
    // What a name means is checked when it is used.
    client.create("name", tcp("localhost", no.into())).await;
    let status = client.until_status("name", "refusal", |s| !s.last_error.is_empty()).await;
    assert!(status.last_error.contains("host_interfaces.networks"), "{}", status.last_error);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_allow_what_is_below_them() {
    let (server, mut client) = server(|dir| {
        fs::create_dir_all(dir.join("in/deep")).unwrap();
        format!("folders = ['{}']", dir.join("in").display())
    })
    .await;
    let inside = server.dir().join("in");
    client.create("bind", unix(Mode::Bind, &inside.join("deep/a.sock"))).await;
    client.until_state("bind", State::Listening).await;
    // Also by a link that stays inside.
    symlink("deep/a.sock", inside.join("link")).unwrap();
    client.create("connect", unix(Mode::Connect, &inside.join("link"))).await;
    client.until_state("connect", State::Connected).await;
    let status = client.until_state("bind", State::Connected).await;
    let (pid, uid) = (server.pid().as_raw_nonzero(), rustix::process::getuid());
    let peer = format!("pid {pid}, uid {uid}, gid {}", rustix::process::getgid());
    assert_eq!(status.peer_address, peer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_never_tells_what_is_there() {
    let (server, mut client) = server(|dir| {
        fs::create_dir_all(dir.join("in")).unwrap();
        fs::create_dir_all(dir.join("out/there")).unwrap();
        format!("folders = ['{}']", dir.join("in").display())
    })
    .await;
    let (inside, outside) = (server.dir().join("in"), server.dir().join("out"));
    let _listening = UnixListener::bind(outside.join("there.sock")).unwrap();

    // As it is written.
    let (there, _) = refused(&mut client, unix(Mode::Connect, &outside.join("there.sock"))).await;
    let (missing, _) = refused(&mut client, unix(Mode::Connect, &outside.join("no.sock"))).await;
    assert_eq!(there, missing);

    // By links, when it is used.
    let mut told = Vec::new();
    for (at, (mode, target, path)) in [
        (Mode::Connect, "there.sock", ""),
        (Mode::Connect, "no.sock", ""),
        (Mode::Connect, "there", "/x.sock"),
        (Mode::Connect, "no", "/x.sock"),
        (Mode::Bind, "there", "/x.sock"),
        (Mode::Bind, "no", "/x.sock"),
    ]
    .into_iter()
    .enumerate()
    {
        let link = inside.join(format!("link{at}"));
        symlink(outside.join(target), &link).unwrap();
        let id = format!("device{at}");
        let path = format!("{}{path}", link.display());
        client.create(&id, unix(mode, Path::new(&path))).await;
        let status = client.until_status(&id, "refusal", |s| !s.last_error.is_empty()).await;
        told.push(status.last_error);
    }
    told.dedup();
    assert_eq!(told, [there.trim_start_matches("refused: ")], "all the same");
    assert!(!outside.join("there/x.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_covers_the_servers_own_files() {
    // The folder that holds state, configuration and keys.
    let (server, mut client) = server(|dir| format!("folders = ['{}']", dir.display())).await;
    let state = server.state_dir();
    for own in ["devices.redb", "dev/x.sock", "journal/x.sock", "notes/x.sock", "x.sock"] {
        let (message, rule) = refused(&mut client, unix(Mode::Bind, &state.join(own))).await;
        assert_eq!(rule, "host_interfaces.folders");
        assert!(message.contains("the server's own files"), "{message}");
    }
    // Nor is it told by a link what is among them.
    let mut told = Vec::new();
    for (id, target) in [("there", "state/journal"), ("missing", "state/nothing")] {
        symlink(target, server.dir().join(id)).unwrap();
        client.create(id, unix(Mode::Bind, &server.dir().join(id).join("x.sock"))).await;
        let status = client.until_status(id, "refusal", |s| !s.last_error.is_empty()).await;
        told.push(status.last_error);
    }
    assert_eq!(told[0], told[1]);
    assert!(told[0].contains("host_interfaces.folders"), "{}", told[0]);
    assert!(!state.join("journal/x.sock").exists());
    // What is beside them is covered.
    client.create("beside", unix(Mode::Bind, &server.dir().join("x.sock"))).await;
    client.until_state("beside", State::Listening).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_restarted_in_a_hurry_listens_at_its_path() {
    let server = Server::start();
    let mut client = server.client().await;
    let path = server.state_dir().join("sockets/a.sock");
    client.create("a", unix(Mode::Bind, &path)).await;
    client.until_state("a", State::Listening).await;
    let name = String::from("devices/a");
    for _ in 0..20 {
        let request = pb::StopDeviceRequest { name: name.clone(), etag: String::new() };
        client.devices.stop_device(request).await.unwrap();
        let request = pb::StartDeviceRequest { name: name.clone(), etag: String::new() };
        client.devices.start_device(request).await.unwrap();
    }
    client.until_state("a", State::Listening).await;
    let _far_side = UnixStream::connect(&path).await.unwrap();
    client.until_state("a", State::Connected).await;
}
