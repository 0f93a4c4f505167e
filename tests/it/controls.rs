//! Beside the bytes: breaks, line settings, modem lines and window sizes. Who may
//! ask for them, what has them, and what is said of all others.

use std::path::Path;

use lineman::pb::{
    self, AttachMode,
    device_spec::HostInterface,
    device_status::State,
    line_settings::{FlowControl, StopBits},
};
use tonic::{Code, Status};

use crate::harness::{
    Attacher, Client, Outcome, PtyPair, Server, bind_tcp, device, pty, reason, run, violations,
};

fn dev(path: &Path) -> pb::Device {
    device(HostInterface::Dev(pb::DevHostInterface {
        path: path.to_str().unwrap().into(),
        ..Default::default()
    }))
}

fn name(id: &str) -> String {
    format!("devices/{id}")
}

async fn send_break(client: &mut Client, id: &str, mode: AttachMode) -> Result<(), Status> {
    let request =
        pb::SendBreakRequest { device: name(id), mode: mode.into(), ..Default::default() };
    client.console.send_break(request).await.map(drop)
}

async fn set_line(
    client: &mut Client,
    id: &str,
    settings: pb::LineSettings,
    mode: AttachMode,
) -> Result<pb::LineSettings, Status> {
    let request = pb::SetLineSettingsRequest {
        device: name(id),
        line_settings: Some(settings),
        mode: mode.into(),
    };
    let set = client.console.set_line_settings(request).await?.into_inner();
    Ok(set.line_settings.unwrap())
}

async fn set_dtr(client: &mut Client, id: &str, dtr: Option<bool>) -> Result<(), Status> {
    let request = pb::SetModemLinesRequest { device: name(id), dtr, ..Default::default() };
    client.console.set_modem_lines(request).await.map(drop)
}

async fn set_window(client: &mut Client, id: &str, rows: u32) -> Result<(), Status> {
    let window = Some(pb::WindowSize { rows, columns: 80 });
    let request = pb::SetWindowSizeRequest { device: name(id), window, ..Default::default() };
    client.console.set_window_size(request).await.map(drop)
}

async fn get_line(client: &mut Client, id: &str) -> Result<pb::GetLineSettingsResponse, Status> {
    let request = pb::GetLineSettingsRequest { device: name(id) };
    client.console.get_line_settings(request).await.map(tonic::Response::into_inner)
}

fn told<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let error = result.unwrap_err();
    (error.code(), reason(&error))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_such_thing_says_so() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(pair) = PtyPair::plug(server.dir(), "port").await else { return };
    client.create("null", device(HostInterface::Null(pb::NullHostInterface {}))).await;
    client.create("pty", pty()).await;
    client.create("port", dev(pair.near())).await;
    client.create("tcp", bind_tcp(0)).await;
    for id in ["null", "pty", "port"] {
        client.until_state(id, State::Connected).await;
    }
    client.until_state("tcp", State::Listening).await;
    let write = AttachMode::Write;
    let baud = pb::LineSettings { baud: 9600, ..Default::default() };
    let missing = || (Code::FailedPrecondition, "CONTROL_UNSUPPORTED".to_owned());
    for (id, has_line, has_window) in
        [("null", false, false), ("pty", false, true), ("port", true, false)]
    {
        assert_eq!(told(send_break(&mut client, id, write).await), missing(), "{id}");
        assert_eq!(told(set_dtr(&mut client, id, Some(true)).await), missing(), "{id}");
        let set = set_line(&mut client, id, baud, write).await;
        if has_line {
            assert_eq!(set.unwrap().baud, 9600);
            let now = get_line(&mut client, id).await.unwrap();
            assert_eq!((now.line_settings.unwrap().baud, now.modem_lines), (9600, None));
        } else {
            assert_eq!(told(set), missing(), "{id}");
            assert_eq!(told(get_line(&mut client, id).await), missing(), "{id}");
        }
        let set = set_window(&mut client, id, 24).await;
        if has_window {
            set.unwrap();
        } else {
            assert_eq!(told(set), missing(), "{id}");
        }
    }
    let nobody = || (Code::Unavailable, "NOT_CONNECTED".to_owned());
    assert_eq!(told(send_break(&mut client, "tcp", write).await), nobody());
    assert_eq!(told(get_line(&mut client, "tcp").await), nobody());
    // A port that cannot do it stays as it was.
    let seven = pb::LineSettings { baud: 19_200, data_bits: 7, ..Default::default() };
    let error = set_line(&mut client, "port", seven, write).await.unwrap_err();
    assert_eq!(reason(&error), "CONTROL_FAILED");
    assert!(error.message().contains("asked for 19200 7N1"), "{}", error.message());
    let now = get_line(&mut client, "port").await.unwrap().line_settings.unwrap();
    assert_eq!((now.baud, now.data_bits), (9600, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_write_may_ask_and_force_is_told_to_the_other() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(pair) = PtyPair::plug(server.dir(), "port").await else { return };
    client.create("port", dev(pair.near())).await;
    client.until_state("port", State::Connected).await;
    let mut writer = Attacher::new(&mut client, "port", AttachMode::Write, 0).await;
    let baud = |baud| pb::LineSettings { baud, ..Default::default() };
    let not_writer = || (Code::FailedPrecondition, "NOT_WRITER".to_owned());
    let write = AttachMode::Write;
    assert_eq!(told(send_break(&mut client, "port", write).await), not_writer());
    assert_eq!(told(set_line(&mut client, "port", baud(9600), write).await), not_writer());
    assert_eq!(told(set_dtr(&mut client, "port", Some(false)).await), not_writer());
    assert_eq!(told(set_window(&mut client, "port", 24).await), not_writer());
    assert_eq!(pair.settings().output_speed(), 115_200);
    // To look needs nothing.
    let now = get_line(&mut client, "port").await.unwrap().line_settings.unwrap();
    assert_eq!(now.baud, 115_200);
    let force = AttachMode::WriteForce;
    set_line(&mut client, "port", baud(9600), force).await.unwrap();
    assert_eq!(pair.settings().output_speed(), 9600);
    writer.until("loss of the right", |w| !w.writer.is_me).await;
    // What was taken is given back.
    set_line(&mut client, "port", baud(19_200), write).await.unwrap();
    let wait = send_break(&mut client, "port", AttachMode::WriteWait).await.unwrap_err();
    assert_eq!(violations(&wait), ["mode"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_by_its_field() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("pty", pty()).await;
    client.until_state("pty", State::Connected).await;
    for duration in [
        prost_types::Duration { seconds: 0, nanos: 0 },
        prost_types::Duration { seconds: 0, nanos: 999_999 },
        prost_types::Duration { seconds: 10, nanos: 1 },
        prost_types::Duration { seconds: -1, nanos: 0 },
        prost_types::Duration { seconds: i64::MAX, nanos: i32::MAX },
    ] {
        let request = pb::SendBreakRequest {
            device: name("pty"),
            duration: Some(duration),
            ..Default::default()
        };
        let error = client.console.send_break(request).await.unwrap_err();
        assert_eq!(violations(&error), ["duration"], "{duration:?}");
    }
    let good = pb::LineSettings::default();
    for (settings, field) in [
        (pb::LineSettings { baud: 49, ..good }, "line_settings.baud"),
        (pb::LineSettings { baud: 4_000_001, ..good }, "line_settings.baud"),
        (pb::LineSettings { data_bits: 9, ..good }, "line_settings.data_bits"),
        (pb::LineSettings { parity: 77, ..good }, "line_settings.parity"),
        (pb::LineSettings { stop_bits: 77, ..good }, "line_settings.stop_bits"),
        (pb::LineSettings { flow_control: 77, ..good }, "line_settings.flow_control"),
    ] {
        let error = set_line(&mut client, "pty", settings, AttachMode::Write).await.unwrap_err();
        assert_eq!(violations(&error), [field]);
    }
    let error = set_dtr(&mut client, "pty", None).await.unwrap_err();
    assert_eq!(violations(&error), ["dtr"]);
    for rows in [0, 65_536] {
        let error = set_window(&mut client, "pty", rows).await.unwrap_err();
        assert_eq!(violations(&error), ["window.rows"]);
    }
}

async fn lineman(server: &Server, words: &str) -> Outcome {
    let mut command = server.lineman();
    command.args(words.split(' '));
    run(command, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_command_line() {
    let server = Server::start();
    let mut client = server.client().await;
    let Some(pair) = PtyPair::plug(server.dir(), "port").await else { return };
    client.create("port", dev(pair.near())).await;
    client.until_state("port", State::Connected).await;
    let shown = |settings: &str| format!("Settings:     {settings}\nModem lines:  none\n");
    assert_eq!(lineman(&server, "line port").await.ok(), shown("115200 8N1"));
    let set = lineman(&server, "line port 9600,8N2,rtscts").await.ok();
    assert_eq!(set, shown("9600 8N2 RTS/CTS"));
    // What is not named stays.
    assert_eq!(lineman(&server, "line port none").await.ok(), shown("9600 8N2"));
    assert_eq!(lineman(&server, "line port 74880").await.ok(), shown("74880 8N2"));
    let now = client.status("port").await.line_settings.unwrap();
    assert_eq!((now.baud, now.stop_bits()), (74_880, StopBits::Two));
    assert_eq!(now.flow_control(), FlowControl::None);
    let told = lineman(&server, "describe port").await.ok();
    assert!(told.contains("Line settings:   74880 8N2\n"), "{told}");

    let refused = lineman(&server, "line port 7E1").await.fails(8);
    assert_eq!(refused, "lineman: port: asked for 74880 7E1, the port sets itself to 74880 8N1\n");
    let refused = lineman(&server, "break port").await.fails(8);
    assert!(refused.starts_with("lineman: port: the host interface has no breaks"), "{refused}");
    let refused = lineman(&server, "line port --dtr off").await.fails(8);
    assert!(refused.contains("has no modem lines"), "{refused}");
    let refused = lineman(&server, "break port --duration 11s").await.fails(7);
    assert!(refused.contains("duration: must be 1ms to 10s"), "{refused}");
    let refused = lineman(&server, "line port 9N1").await.fails(2);
    assert!(refused.contains("neither a speed"), "{refused}");
    lineman(&server, "line nobody").await.fails(4);

    let mut writer = Attacher::new(&mut client, "port", AttachMode::Write, 0).await;
    let refused = lineman(&server, "line port 9600").await.fails(8);
    assert!(refused.contains("port"), "{refused}");
    assert_eq!(lineman(&server, "line port 9600 --force").await.ok(), shown("9600 8N2"));
    writer.until("loss of the right", |w| !w.writer.is_me).await;
    let help = lineman(&server, "line --help").await.ok();
    assert!(help.contains("9600,7E1,rtscts") && help.contains("Exit codes"), "{help}");
}
