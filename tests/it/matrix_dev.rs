//! Serial ports: every row that a host interface must pass, on real terminals.
//! There is no UART here, so the far sides are socat's joined ptys (pulled out
//! and put back under the same names, as adapters on USB are) and QEMU's.

use std::{fs, io::Write, os::unix::fs::symlink, path::Path};

use lineman::pb::{
    self, AttachMode, dev_host_interface::Kind, device_spec::HostInterface, device_status::State,
};
use rustix::{
    pty::{OpenptFlags, openpt, ptsname, unlockpt},
    termios::{ControlModes, ioctl_tiocexcl},
};

use crate::harness::{
    Attacher, Client, Console, FarSide, PtyPair, Server, UBoot, bind_tcp, device, flood, flooded,
    reason, soon, until, until_async, violations,
};

fn dev(path: &Path) -> pb::Device {
    device(HostInterface::Dev(pb::DevHostInterface {
        path: path.to_str().unwrap().into(),
        ..Default::default()
    }))
}

async fn stop(client: &mut Client, id: &str) {
    let name = format!("devices/{id}");
    let request = pb::StopDeviceRequest { name, ..Default::default() };
    client.devices.stop_device(request).await.unwrap();
    client.until_state(id, State::Stopped).await;
}

async fn start(client: &mut Client, id: &str) {
    let name = format!("devices/{id}");
    let request = pb::StartDeviceRequest { name, ..Default::default() };
    client.devices.start_device(request).await.unwrap();
    client.until_state(id, State::Connected).await;
}

async fn delete(client: &mut Client, id: &str) {
    let request = pb::DeleteDeviceRequest { name: format!("devices/{id}"), ..Default::default() };
    soon("deletion", client.devices.delete_device(request)).await.unwrap();
}

fn every_byte() -> Vec<u8> {
    (0..=255).chain((0..=255).rev()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn echoes_every_byte_and_comes_back_after_it_was_pulled_out() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(mut pair) = PtyPair::plug(server.dir(), "usb0").await else { return };
    client.create("usb", dev(pair.near())).await;
    client.until_state("usb", State::Connected).await;
    let mut attacher = Attacher::new(&mut client, "usb", AttachMode::Write, 0).await;
    let mut far = pair.far();
    far.says(every_byte());
    attacher.until_offset(512).await;
    assert_eq!(attacher.seen, every_byte(), "output");
    attacher.type_bytes(Some(0), &every_byte()).await;
    assert_eq!(far.hears_bytes(512).await, every_byte(), "input");
    attacher.until("acknowledgement", |attacher| attacher.ack.offset == 512).await;

    // Pulled out: lost, with a reason, and tried again without a hurry.
    pair.unplug().await;
    let status = client
        .until_status("usb", "an error of opening", |status| {
            status.state() == State::Backoff && status.last_error.contains("No such file")
        })
        .await;
    assert!(status.retry_time.is_some() && status.link_count == 1, "{status:?}");
    assert!(server.log().contains("the port hung up"), "{}", server.log());
    // Put back: another node behind the same name, and the attacher goes on.
    pair.plug_again().await;
    client.until_state("usb", State::Connected).await;
    let mut far = pair.far();
    far.says("back");
    attacher.until_offset(516).await;
    attacher.type_text("hello").await;
    far.hears("hello").await;
    assert_eq!(client.status("usb").await.link_count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_boots_through_it() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(machine) = UBoot::boot_on(Console::Pty) else { return };
    // As udev does it.
    let path = server.dir().join("machine");
    symlink(machine.pty_path().await, &path).unwrap();
    client.create("machine", dev(&path)).await;
    client.until_state("machine", State::Connected).await;
    let mut attacher = Attacher::new(&mut client, "machine", AttachMode::Write, 0).await;
    until_async("prompt", async || {
        attacher.type_text("\r").await;
        let seen = attacher.seen.len();
        attacher.until("echo", |attacher| attacher.seen.len() > seen).await;
        attacher.text().contains("=> ").then_some(())
    })
    .await;
    let from = attacher.seen.len();
    attacher.type_text("version\r").await;
    attacher.until_seen("U-Boot 20", from).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_arrives_whole() {
    const FLOOD: u64 = 8 << 20;
    let server = Server::start();
    let mut client = server.client().await;
    let Some(pair) = PtyPair::plug(server.dir(), "flood").await else { return };
    client.create("flood", dev(pair.near())).await;
    client.until_state("flood", State::Connected).await;
    let far = server.dir().join("flood-far");
    let mut far = tokio::fs::File::options().write(true).open(far).await.unwrap();
    let mut attacher = Attacher::new(&mut client, "flood", AttachMode::Observe, 0).await;
    let flooding = tokio::spawn(async move { flood(&mut far, FLOOD).await.map(|()| far) });
    attacher.until_offset(FLOOD).await;
    let _open = flooding.await.unwrap().unwrap();
    assert!(attacher.seen == flooded(0, FLOOD) && attacher.gaps.is_empty());
    assert_eq!(client.status("flood").await.lost_count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_side_that_takes_nothing_holds_up_only_its_own_input() {
    let server = Server::start();
    let mut client = server.client().await;
    // Nobody reads the far end. It is the test's own, because socat says nothing
    // either while it is not read.
    let far_end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&far_end).unwrap();
    let path = server.dir().join("stuck");
    symlink(ptsname(&far_end, Vec::new()).unwrap().to_str().unwrap(), &path).unwrap();
    client.create("stuck", dev(&path)).await;
    client.until_state("stuck", State::Connected).await;
    client.create("other", bind_tcp(0)).await;
    let listening = client.until_state("other", State::Listening).await.listen_address;
    let port = listening.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut far = FarSide::connect(port);
    client.until_state("other", State::Connected).await;
    let before = server.resident_bytes();
    let writer = Attacher::new(&mut client, "stuck", AttachMode::Write, 0).await;
    for _ in 0..8 {
        writer.type_bytes(None, &[b'x'; 32 << 10]).await;
    }
    let written = client
        .until_status("stuck", "input on its way", |status| status.input_bytes > 1024)
        .await
        .input_bytes;
    assert!(written < 256 << 10, "{written} bytes were taken by nobody");
    // The other one is as quick as ever, and this one still speaks.
    client.write("other", b"ping").await.unwrap();
    far.hears("ping").await;
    fs::File::from(far_end.try_clone().unwrap()).write_all(b"still here").unwrap();
    let mut attacher = Attacher::new(&mut client, "stuck", AttachMode::Observe, 0).await;
    attacher.until_seen("still here", 0).await;
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "grew by {grown} bytes");
    println!("a stuck port: {written} bytes taken, grown by {} KiB", grown >> 10);
    // Busy to the last: it is stopped and deleted at once.
    stop(&mut client, "stuck").await;
    start(&mut client, "stuck").await;
    client.write("stuck", b"more").await.ok();
    delete(&mut client, "stuck").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_openings_leave_nothing_behind() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(pair) = PtyPair::plug(server.dir(), "cycles").await else { return };
    client.create("cycles", dev(pair.near())).await;
    client.until_state("cycles", State::Connected).await;
    let cycle = async |client: &mut Client, n| {
        for _ in 0..n {
            stop(client, "cycles").await;
            start(client, "cycles").await;
        }
    };
    cycle(&mut client, 20).await;
    let (files, threads, memory) =
        (server.descriptors(), server.threads(), server.resident_bytes());
    cycle(&mut client, 200).await;
    until("descriptors given back", || (server.descriptors() <= files).then_some(())).await;
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 4 << 20, "grew by {grown} bytes");
    assert!(server.threads() <= threads + 4, "{} threads, {threads} before", server.threads());
    let status = client.status("cycles").await;
    assert_eq!((status.link_count, status.last_error.as_str()), (221, ""));
    println!("200 openings: {files} descriptors, grown by {} KiB", grown >> 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_belongs_to_one_device_and_to_whoever_has_it() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(pair) = PtyPair::plug(server.dir(), "port").await else { return };
    client.create("first", dev(pair.near())).await;
    client.until_state("first", State::Connected).await;
    let alias = server.dir().join("alias");
    symlink(fs::canonicalize(pair.near()).unwrap(), &alias).unwrap();
    client.create("second", dev(&alias)).await;
    let status = client.until_state("second", State::Backoff).await;
    let told = format!("{} is in use by another program or device", alias.display());
    assert_eq!(status.last_error, told);
    // It heals by itself, also from somebody else.
    delete(&mut client, "first").await;
    client.until_state("second", State::Connected).await;
    stop(&mut client, "second").await;
    let picocom = fs::File::open(&alias).unwrap();
    ioctl_tiocexcl(&picocom).unwrap();
    let name = "devices/second".to_owned();
    let request = pb::StartDeviceRequest { name, ..Default::default() };
    client.devices.start_device(request).await.unwrap();
    let status = client.until_state("second", State::Backoff).await;
    assert_eq!(status.last_error, told);
    rustix::termios::ioctl_tiocnxcl(&picocom).unwrap();
    client.until_state("second", State::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_such_port_is_told_and_heals() {
    let mut server = Server::start();
    assert!(server.stop().await.success());
    let dir = server.dir().display().to_string();
    server.start_with_config(&format!("[host_interfaces]\ndevices = ['{dir}', '/dev/null']\n"));
    let mut client = server.client().await;
    let parallel = |path: &Path| {
        let mut device = dev(path);
        let Some(HostInterface::Dev(dev)) =
            device.spec.as_mut().and_then(|spec| spec.host_interface.as_mut())
        else {
            unreachable!()
        };
        dev.set_kind(Kind::Parallel);
        device
    };
    let file = server.dir().join("file");
    fs::write(&file, "").unwrap();
    let missing = server.dir().join("missing");
    let Some(pair) = PtyPair::plug(server.dir(), "port").await else { return };
    let null = Path::new("/dev/null");
    for (id, device, told) in [
        ("null", dev(null), "is a character device, not a terminal"),
        ("no-lp", parallel(null), "is a character device, not a parallel printer port"),
        ("tty-lp", parallel(pair.near()), "is a terminal, not a parallel printer port"),
        ("file", dev(&file), "is a regular file, not a character device"),
        ("missing", dev(&missing), "No such file or directory"),
    ] {
        client.create(id, device).await;
        let status = client.until_state(id, State::Backoff).await;
        assert!(status.last_error.contains(told), "{id}: {}", status.last_error);
    }
    symlink(fs::canonicalize(pair.near()).unwrap(), &missing).unwrap();
    client.until_state("missing", State::Connected).await;
    // What the operator does not list is not even looked at.
    let error = client.try_create("denied", dev(Path::new("/dev/zero"))).await.unwrap_err();
    assert_eq!(reason(&error), "NOT_ALLOWED_HERE");
}

#[tokio::test(flavor = "multi_thread")]
async fn is_set_as_the_spec_says_each_time() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(mut pair) = PtyPair::plug(server.dir(), "port").await else { return };
    let with = |settings: pb::LineSettings| {
        device(HostInterface::Dev(pb::DevHostInterface {
            path: pair.near().to_str().unwrap().into(),
            line_settings: Some(settings),
            ..Default::default()
        }))
    };
    let odd = pb::LineSettings {
        baud: 74_880,
        stop_bits: pb::line_settings::StopBits::Two.into(),
        ..Default::default()
    };
    let seven = pb::LineSettings { data_bits: 7, ..odd };
    let half = pb::LineSettings {
        stop_bits: pb::line_settings::StopBits::OnePointFive.into(),
        ..Default::default()
    };
    let (odd, seven, half) = (with(odd), with(seven), with(half));
    client.create("odd", odd).await;
    for _ in 0..2 {
        let status = client.until_state("odd", State::Connected).await;
        let told = status.line_settings.unwrap();
        assert_eq!((told.baud, told.data_bits), (74_880, 8));
        assert_eq!(told.stop_bits(), pb::line_settings::StopBits::Two);
        assert_eq!(status.modem_lines, None, "a pty has none");
        let termios = pair.settings();
        assert_eq!(termios.output_speed(), 74_880);
        assert!(termios.control_modes.contains(ControlModes::CSTOPB | ControlModes::CLOCAL));
        assert!(!termios.control_modes.contains(ControlModes::HUPCL), "DTR would drop");
        pair.unplug().await;
        client.until_state("odd", State::Backoff).await;
        pair.plug_again().await;
    }
    // A pty always has 8 bits: what was not done is not said to be done.
    delete(&mut client, "odd").await;
    client.create("seven", seven).await;
    let status = client.until_state("seven", State::Backoff).await;
    let told = "asked for 74880 7N2, the port sets itself to 74880 8N2";
    assert!(status.last_error.ends_with(told), "{}", status.last_error);
    let error = client.try_create("half", half).await.unwrap_err();
    assert_eq!(violations(&error), ["spec.dev.line_settings.stop_bits"]);
}
