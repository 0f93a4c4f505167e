//! Bad input: each gets its documented error, which names the field and what
//! would be right; nothing is changed, nobody is disturbed.

use std::path::Path;

use lineman::pb::{
    self, AttachMode, attach_request, device_spec::HostInterface, journal_position::At,
    tcp_host_interface, unix_host_interface,
};
use prost_types::FieldMask;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::harness::{
    Attacher, Client, Server, bind_tcp, connect_tcp, device, pty, reason, soon, start, unix,
    violations,
};

fn tcp(host: &str, port: u32) -> pb::Device {
    device(HostInterface::Tcp(pb::TcpHostInterface {
        mode: tcp_host_interface::Mode::Connect.into(),
        host: host.into(),
        port,
        ..Default::default()
    }))
}

fn told(error: &Status, code: Code, wanted: &str) {
    assert_eq!((error.code(), reason(error).as_str()), (code, wanted), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_devices_are_refused_field_by_field() {
    let server = Server::start();
    let mut client = server.client().await;
    let bind = |path: &str| unix(unix_host_interface::Mode::Bind, Path::new(path));
    let with = |change: &dyn Fn(&mut pb::Device)| {
        let mut device = pty();
        change(&mut device);
        device
    };
    for (id, device, fields) in [
        ("A", pty(), &["device_id"][..]),
        ("", pty(), &["device_id"]),
        ("../etc", pty(), &["device_id"]),
        (&"x".repeat(64), pty(), &["device_id"]),
        ("a", pb::Device::default(), &["spec"]),
        (
            "a",
            pb::Device { spec: Some(pb::DeviceSpec::default()), ..Default::default() },
            &["spec"],
        ),
        ("a", with(&|d| d.name = "devices/b".into()), &["device.name"]),
        ("a", with(&|d| drop(d.labels.insert("a b".into(), "c".into()))), &["labels"]),
        (
            "a",
            with(&|d| d.spec.as_mut().unwrap().description = "x".repeat(2000)),
            &["spec.description"],
        ),
        ("a", with(&|d| d.spec.as_mut().unwrap().run_state = 77), &["spec.run_state"]),
        ("a", tcp("127.0.0.1", 70_000), &["spec.tcp.port"]),
        ("a", tcp("127.0.0.1", 0), &["spec.tcp.port"]),
        ("a", tcp("", 1), &["spec.tcp.host"]),
        ("a", tcp("a b", 1), &["spec.tcp.host"]),
        ("a", tcp(&"h".repeat(300), u32::MAX), &["spec.tcp.port", "spec.tcp.host"]),
        ("a", bind(""), &["spec.unix.path"]),
        ("a", bind("relative.sock"), &["spec.unix.path"]),
        ("a", bind("/tmp/../etc/x.sock"), &["spec.unix.path"]),
        ("a", bind(&format!("/tmp/{}", "x".repeat(200))), &["spec.unix.path"]),
    ] {
        let error = client.try_create(id, device).await.unwrap_err();
        told(&error, Code::InvalidArgument, "INVALID_FIELDS");
        assert_eq!(violations(&error), fields, "{id}: {error:?}");
    }
    let request = pb::ListDevicesRequest::default();
    assert!(client.devices.list_devices(request).await.unwrap().into_inner().devices.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_does_not_allow_is_denied_by_rule() {
    let server = Server::start();
    let mut client = server.client().await;
    let inside = server.dir().join("x.sock");
    let outside = unix(unix_host_interface::Mode::Connect, Path::new("/run/docker.sock"));
    for (denied, rule) in [
        (tcp("10.0.0.1", 22), "host_interfaces.networks"),
        (tcp("0.0.0.0", 22), "host_interfaces.networks"),
        (tcp("::ffff:10.0.0.1", 22), "host_interfaces.networks"),
        (outside, "host_interfaces.folders"),
    ] {
        let error = client.try_create("a", denied.clone()).await.unwrap_err();
        told(&error, Code::PermissionDenied, "NOT_ALLOWED_HERE");
        assert!(error.message().contains(rule), "{}", error.message());
        // Nor by changing a device that is allowed.
        client.create("b", unix(unix_host_interface::Mode::Connect, &inside)).await;
        let change = pb::Device { name: "devices/b".into(), ..denied };
        let request = pb::UpdateDeviceRequest { device: Some(change), ..Default::default() };
        let error = client.devices.update_device(request).await.unwrap_err();
        told(&error, Code::PermissionDenied, "NOT_ALLOWED_HERE");
        let request = pb::DeleteDeviceRequest { name: "devices/b".into(), etag: String::new() };
        client.devices.delete_device(request).await.unwrap();
    }
    // A link that leads out is found when it is used.
    let link = server.dir().join("link.sock");
    std::os::unix::fs::symlink("/run/docker.sock", &link).unwrap();
    std::os::unix::fs::symlink("/run", server.dir().join("out")).unwrap();
    let via_folder =
        unix(unix_host_interface::Mode::Bind, &server.dir().join("out/lineman-test.sock"));
    client.create("folder", via_folder).await;
    let status = client.until_status("folder", "refusal", |s| !s.last_error.is_empty()).await;
    assert!(status.last_error.contains("host_interfaces.folders"), "{}", status.last_error);
    assert!(!Path::new("/run/lineman-test.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_and_names_that_are_wrong_are_named() {
    let server = Server::start();
    let mut client = server.client().await;
    let made = client.create("a", pty()).await;
    let mut update = async |paths: &[&str]| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let request = pb::UpdateDeviceRequest {
            device: Some(made.clone()),
            update_mask: Some(FieldMask { paths }),
            validate_only: false,
        };
        client.devices.update_device(request).await.unwrap_err()
    };
    for path in ["spec.nothing", "status.state", "name", "spec.pty.x", "", "specs"] {
        let error = update(&[path]).await;
        told(&error, Code::InvalidArgument, "INVALID_FIELDS");
        assert_eq!(violations(&error), ["update_mask"]);
        assert!(error.message().contains(&format!("{path:?}")), "{}", error.message());
    }
    // To clear the host interface leaves a device without one.
    assert_eq!(
        violations(&{
            let request = pb::UpdateDeviceRequest {
                device: Some(pb::Device { name: made.name.clone(), ..Default::default() }),
                update_mask: Some(FieldMask { paths: vec!["spec.pty".into()] }),
                validate_only: false,
            };
            client.devices.update_device(request).await.unwrap_err()
        }),
        ["spec"]
    );
    assert_eq!(client.get("a").await.etag, made.etag, "nothing was changed");
    for name in ["a", "devices/", "devices/A", "things/a", "devices/a/b"] {
        let request = pb::GetDeviceRequest { name: name.into() };
        let error = client.devices.get_device(request).await.unwrap_err();
        assert_eq!(violations(&error), ["name"], "{name}");
    }
}

async fn attach_error(client: &mut Client, messages: Vec<attach_request::Message>) -> Status {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    for message in messages {
        sender.send(pb::AttachRequest { message: Some(message) }).await.unwrap();
    }
    let mut stream =
        client.console.attach(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let status = soon("end of the call", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended without an error"),
                Err(status) => return status,
            }
        }
    });
    let status = status.await;
    drop(sender);
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn attachers_that_break_the_protocol_are_told() {
    use attach_request::Message;

    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let good = || start("a", AttachMode::Write, At::Offset(0));
    let input = |len: usize| {
        let payload = Some(pb::input::Payload::Data(vec![0; len].into()));
        Message::Input(pb::Input { payload, offset: None })
    };
    let start = |change: &dyn Fn(&mut pb::AttachStart)| {
        let mut start = good();
        change(&mut start);
        Message::Start(start)
    };
    for (messages, field) in [
        (vec![input(1)], "message"),
        (vec![Message::Start(good()), Message::Start(good())], "message"),
        (vec![start(&|s| s.device = "a".into())], "start.device"),
        (vec![start(&|s| s.mode = 99)], "start.mode"),
        (vec![start(&|s| s.encoding = 99)], "start.encoding"),
        (vec![start(&|s| s.client = "x".repeat(200))], "start.client"),
        (vec![start(&|s| s.client = "a\nb".into())], "start.client"),
        (vec![Message::Start(good()), input(65 << 10)], "input"),
        (
            vec![Message::Start(good()), Message::Writer(pb::WriterRequest { mode: 99 })],
            "writer.mode",
        ),
    ] {
        let error = attach_error(&mut client, messages).await;
        told(&error, Code::InvalidArgument, "INVALID_FIELDS");
        assert_eq!(violations(&error), [field]);
    }
    let error = attach_error(&mut client, vec![start(&|s| s.device = "devices/none".into())]).await;
    told(&error, Code::NotFound, "DEVICE_NOT_FOUND");
    // A message of a megabyte ends the call, not the server.
    let error = attach_error(&mut client, vec![Message::Start(good()), input(1 << 20)]).await;
    assert_eq!(error.code(), Code::OutOfRange, "{error:?}");
    client.until_status("a", "no attachment left", |s| s.attachment_count == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_cannot_be_written_is_told_with_what_was() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("down", connect_tcp(1)).await;
    told(&client.write("down", b"x").await.unwrap_err(), Code::Unavailable, "NOT_CONNECTED");
    client.create("listening", bind_tcp(0)).await;
    told(&client.write("listening", b"x").await.unwrap_err(), Code::Unavailable, "NOT_CONNECTED");
    assert_eq!(violations(&client.write("listening", b"").await.unwrap_err()), ["payload"]);
    assert_eq!(
        violations(&client.write("listening", &[0; 70_000]).await.unwrap_err()),
        ["payload"]
    );
    told(&client.write("none", b"x").await.unwrap_err(), Code::NotFound, "DEVICE_NOT_FOUND");
    // The far side takes some and then no more: how much is told.
    client.create("pty", pty()).await;
    client.until_state("pty", pb::device_status::State::Connected).await;
    let error = client.write("pty", &[b'x'; 60_000]).await.unwrap_err();
    told(&error, Code::Aborted, "INPUT_INCOMPLETE");
    let details = tonic_types::StatusExt::get_error_details(&error);
    let accepted: u64 = details.error_info().unwrap().metadata["accepted_bytes"].parse().unwrap();
    assert!(accepted > 0 && accepted < 60_000);
    assert_eq!(client.status("pty").await.input_bytes, accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_credential() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let mut nobody = Client::anonymous(&server).await;
    let request = pb::ListDevicesRequest::default();
    let error = nobody.devices.list_devices(request).await.unwrap_err();
    told(&error, Code::Unauthenticated, "UNAUTHENTICATED");
    let error = nobody.try_create("b", pty()).await.unwrap_err();
    told(&error, Code::Unauthenticated, "UNAUTHENTICATED");
    let error = nobody.write("a", b"x").await.unwrap_err();
    told(&error, Code::Unauthenticated, "UNAUTHENTICATED");
    let attach = Attacher::open(&mut nobody, start("a", AttachMode::Observe, At::Offset(0))).await;
    told(&attach.err().unwrap(), Code::Unauthenticated, "UNAUTHENTICATED");
    // A device that is not there looks the same.
    let error = nobody.write("none", b"x").await.unwrap_err();
    told(&error, Code::Unauthenticated, "UNAUTHENTICATED");
}
