//! The serial port at the other end of a telnet connection, as client of ser2net
//! and of pyserial, and as the server of pyserial.

use lineman::pb::{
    self, AttachMode, Switch,
    device_spec::HostInterface,
    device_status::State,
    line_settings::{Parity, StopBits},
    tcp_host_interface::Mode,
};
use rustix::termios::ControlModes;
use serde_json::json;

use crate::harness::{
    Accepter, Attacher, Client, PtyPair, Rfc2217Client, Rfc2217Server, Ser2net, Server, Stack,
    device, reason, soon, tcp_spec, until,
};

fn spec(mode: Mode, port: u16, line: Option<pb::LineSettings>) -> pb::Device {
    device(HostInterface::Tcp(pb::TcpHostInterface {
        com_port: Switch::On.into(),
        line_settings: line,
        ..tcp_spec(mode, port, Stack::Telnet)
    }))
}

async fn set(
    client: &mut Client,
    settings: pb::LineSettings,
) -> Result<pb::LineSettings, tonic::Status> {
    let request = pb::SetLineSettingsRequest {
        device: "devices/a".into(),
        line_settings: Some(settings),
        ..Default::default()
    };
    let answer = client.console.set_line_settings(request).await?.into_inner();
    Ok(answer.line_settings.unwrap())
}

async fn set_lines(client: &mut Client, dtr: bool) -> Result<(), tonic::Status> {
    let request = pb::SetModemLinesRequest {
        device: "devices/a".into(),
        dtr: Some(dtr),
        ..Default::default()
    };
    client.console.set_modem_lines(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_ser2net_is_set_when_opened_and_when_asked() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(line) = PtyPair::plug(server.dir(), "ttyUSB0").await else { return };
    let served = Ser2net::serve(Accepter::Rfc2217, line.near(), server.dir()).await;
    let Some(ser2net) = served else { return };
    let wanted = pb::LineSettings { baud: 19200, ..Default::default() };
    client.create("a", spec(Mode::Connect, ser2net.port(), Some(wanted))).await;
    let status =
        client.until_status("a", "settings of the line", |s| s.line_settings.is_some()).await;
    assert_eq!(status.line_settings.unwrap().baud, 19200);
    until("19200", || (line.settings().output_speed() == 19200).then_some(())).await;

    let settings =
        pb::LineSettings { baud: 9600, stop_bits: StopBits::Two.into(), ..Default::default() };
    let taken = set(&mut client, settings).await.unwrap();
    assert_eq!((taken.baud, taken.stop_bits()), (9600, StopBits::Two));
    let settings = line.settings();
    assert_eq!(settings.output_speed(), 9600);
    assert!(settings.control_modes.contains(ControlModes::CSTOPB));

    // ser2net says nothing of DTR on a pty: told, not waited for without end.
    let begun = std::time::Instant::now();
    let error = soon("answer", set_lines(&mut client, false)).await.unwrap_err();
    assert_eq!(reason(&error), "CONTROL_FAILED", "{error}");
    assert!(error.message().contains("not confirmed"), "{error}");
    println!("DTR was given up after {:?}", begun.elapsed());

    // Bytes go both ways meanwhile.
    let mut far = line.far();
    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    attacher.type_bytes(None, b"\xffat\r").await;
    assert_eq!(far.hears_bytes(4).await, b"\xffat\r");
    far.says(b"\xffOK\r\n");
    attacher.until_offset(5).await;
    assert_eq!(attacher.seen, b"\xffOK\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn modem_lines_and_breaks_of_pyserial() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(mut far) = Rfc2217Server::serve(server.dir()).await else { return };
    let wanted = pb::LineSettings {
        baud: 38400,
        data_bits: 7,
        parity: Parity::Even.into(),
        ..Default::default()
    };
    client.create("a", spec(Mode::Connect, far.port(), Some(wanted))).await;
    far.tells(&json!({"set": {"baudrate": 38400}})).await;
    far.tells(&json!({"set": {"bytesize": 7}})).await;
    far.tells(&json!({"set": {"parity": "E"}})).await;
    let status = client
        .until_status("a", "all of the line", |s| {
            s.line_settings.is_some_and(|l| l.data_bits == 7) && s.modem_lines.is_some()
        })
        .await;
    assert!(status.modem_lines.unwrap().cts, "{:?}", status.modem_lines);

    let request = pb::SendBreakRequest { device: "devices/a".into(), ..Default::default() };
    let begun = std::time::Instant::now();
    client.console.send_break(request).await.unwrap();
    let took = begun.elapsed();
    assert!(took >= std::time::Duration::from_millis(250), "a break of {took:?}");
    far.tells(&json!({"set": {"break_condition": true}})).await;
    far.tells(&json!({"set": {"break_condition": false}})).await;

    set_lines(&mut client, false).await.unwrap();
    far.tells(&json!({"set": {"dtr": false}})).await;
    let lines = client.status("a").await.modem_lines.unwrap();
    assert!(!lines.dtr, "{lines:?}");
    far.told(&json!({"lines": {"cts": false}}));
    client.until_status("a", "CTS off", |s| s.modem_lines.is_some_and(|l| !l.cts)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pyserial_uses_a_device_as_its_port() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", spec(Mode::Bind, 0, None)).await;
    let address = client.until_state("a", State::Listening).await.listen_address;
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let Some(mut far) = Rfc2217Client::open(port, "", server.dir()).await else { return };
    let set_so = json!({"baudrate": 9600, "parity": "O", "stopbits": 2});
    assert_eq!(far.ask(&json!({ "set": set_so })).await, set_so);
    let status = client
        .until_status("a", "settings", |s| {
            s.line_settings.is_some_and(|l| l.stop_bits() == StopBits::Two)
        })
        .await;
    let settings = status.line_settings.unwrap();
    assert_eq!((settings.baud, settings.parity()), (9600, Parity::Odd));

    far.ask(&json!({"set": {"dtr": false}})).await;
    client.until_status("a", "DTR off", |s| s.modem_lines.is_some_and(|l| !l.dtr)).await;
    let lines = far.ask(&json!({"lines": null})).await;
    assert_eq!((&lines["cts"], &lines["cd"]), (&json!(true), &json!(true)));
    far.ask(&json!({"break": 0.01})).await;
    client.until_status("a", "break", |s| s.break_count == 1).await;
    for buffer in ["input", "output"] {
        far.ask(&json!({ "purge": buffer })).await;
    }

    let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    assert_eq!(far.ask(&json!({"write": "\u{ff}login: "})).await, 8);
    attacher.until_offset(8).await;
    assert_eq!(attacher.seen, b"\xfflogin: ");
    attacher.type_bytes(None, b"root\xff\r").await;
    assert_eq!(far.ask(&json!({"read": 6})).await, "root\u{ff}\r");
    drop(attacher);
    client.until_status("a", "no writer", |s| s.writer.is_empty()).await;

    // Its settings are its own.
    let error = set(&mut client, pb::LineSettings::default()).await.unwrap_err();
    assert_eq!(reason(&error), "CONTROL_UNSUPPORTED", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_agree_is_told_of() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(line) = PtyPair::plug(server.dir(), "ttyUSB0").await else { return };
    let served = Ser2net::serve(Accepter::Telnet, line.near(), server.dir()).await;
    let Some(ser2net) = served else { return };
    client.create("a", spec(Mode::Connect, ser2net.port(), None)).await;
    client.until_state("a", State::Connected).await;
    let error = set(&mut client, pb::LineSettings::default()).await.unwrap_err();
    assert_eq!(reason(&error), "CONTROL_UNSUPPORTED");
    assert!(error.message().contains("not agreed"), "{error}");
}
