//! The session of a new user at the command line: from the first empty table to
//! consoles shared, piped, replayed and kept over a server that was killed.

use std::{
    fs::{self, File},
    process::Command,
    time::{Duration, SystemTime},
};

use rustix::process::Signal;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::harness::{
    Background, FarSide, Outcome, Process, Server, Terminal, peer, run, until, until_async,
};

/// `lineman …`, its words separated by spaces.
fn command(server: &Server, words: &str) -> Command {
    let mut command = server.lineman();
    command.args(words.split(' '));
    command
}

/// `lineman …`, run to its end.
async fn lineman(server: &Server, words: &str) -> Outcome {
    run(command(server, words), "").await
}

/// `lineman apply -f -` with a document.
async fn apply(server: &Server, document: &str) -> Outcome {
    run(command(server, "apply -f -"), document).await
}

/// Makes a pty device as a user would, and returns where its far side is.
async fn create_pty(server: &Server, id: &str) -> String {
    apply(server, &format!("name: {id}\nspec: {{pty: {{}}}}")).await.ok();
    pty_path(server, id).await
}

/// Makes a pty device and plays its far side.
async fn pty(server: &Server, id: &str) -> FarSide {
    FarSide::open(create_pty(server, id).await)
}

async fn pty_path(server: &Server, id: &str) -> String {
    until_async("path of the pty", async || {
        let device = lineman(server, &format!("get {id} -o json")).await.ok();
        let device: serde_json::Value = serde_json::from_str(&device).unwrap();
        device["status"]["ptyPath"].as_str().map(str::to_owned)
    })
    .await
}

/// Waits until the journal of a device ends with `end`, and returns all of it.
async fn logged(server: &Server, id: &str, end: &str) -> String {
    until_async(&format!("{end:?} in the log of {id}"), async || {
        let log = lineman(server, &format!("logs {id}")).await.ok();
        Some(log).filter(|log| log.ends_with(end))
    })
    .await
}

/// Attaches at a terminal and waits until the keys go to the device.
async fn attach(server: &Server, words: &str) -> Terminal {
    let mut terminal = Terminal::run(command(server, &format!("attach {words}")));
    terminal.shows("detaches, Enter ~? tells more]").await;
    assert!(!terminal.is_as_found(), "keys are for the device, so the terminal must be raw");
    terminal
}

/// Waits until a program has left its terminal as it has found it, and returns
/// its exit code.
async fn leaves(mut terminal: Terminal) -> i32 {
    let code = terminal.ended().await;
    assert!(terminal.is_as_found(), "the terminal is not as it was");
    code
}

/// Bytes of every value in ever another order, so that none can be lost,
/// repeated or translated unseen.
fn every_byte(len: u32) -> Vec<u8> {
    (0..len).map(|n| (n ^ (n >> 8)).to_le_bytes()[0]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_described_in_documents_and_shown_in_every_form() {
    let server = Server::start();
    let header = lineman(&server, "get devices").await.ok();
    assert_eq!(header.lines().count(), 1, "{header}");
    assert!(header.starts_with("NAME") && header.contains("STATE"), "{header}");

    let document = "name: node7\nlabels: {rack: '3'}\nspec: {pty: {}, description: first try}\n";
    let dry = run(command(&server, "apply --validate-only -f -"), document).await.ok();
    assert_eq!(dry, "devices/node7 created (only validated)\n");
    assert_eq!(lineman(&server, "get -o name").await.ok(), "");
    assert_eq!(apply(&server, document).await.ok(), "devices/node7 created\n");
    assert_eq!(apply(&server, document).await.ok(), "devices/node7 unchanged\n");
    let path = pty_path(&server, "node7").await;

    let table = lineman(&server, "get devices").await.ok();
    let row = table.lines().nth(1).unwrap();
    assert!(row.starts_with("node7 ") && row.contains(&path), "{table}");
    let wide = lineman(&server, "list -o wide").await.ok();
    assert!(wide.contains("rack=3"), "{wide}");
    let told = lineman(&server, "describe node7").await.ok();
    for fact in [&path, "first try", "rack=3", "CONNECTED"] {
        assert!(told.contains(fact), "no {fact} in {told}");
    }

    // What is printed can be applied, and is what there is already.
    let other = "name: node8\nspec:\n  journal: {retentionBytes: 65536}\n  pty: {}\n";
    apply(&server, other).await.ok();
    for what in ["node7 -o yaml", "node7 -o json", "devices -o yaml", "devices -o json"] {
        let printed = lineman(&server, &format!("get {what}")).await.ok();
        let applied = apply(&server, &printed).await.ok();
        assert!(applied.lines().all(|line| line.ends_with(" unchanged")), "{what}: {applied}");
    }
    // An edit changes that and nothing else.
    let edited = lineman(&server, "get node8 -o yaml").await.ok().replace("'65536'", "131072");
    assert_eq!(apply(&server, &edited).await.ok(), "devices/node8 configured\n");
    let node8 = lineman(&server, "get node8 -o yaml").await.ok();
    assert!(node8.contains("retentionBytes: '131072'") && node8.contains("pty: {}"), "{node8}");

    let names = async |words: &str| lineman(&server, words).await.ok();
    assert_eq!(names("get -o name").await, "devices/node7\ndevices/node8\n");
    assert_eq!(names("get -o name -l rack=3").await, "devices/node7\n");
    assert_eq!(names("get -o name -l rack!=3").await, "devices/node8\n");
    assert_eq!(names("get -o name --selector rack").await, "devices/node7\n");

    assert_eq!(names("delete node7 node8").await, "devices/node7 deleted\ndevices/node8 deleted\n");
    assert_eq!(lineman(&server, "get devices").await.ok(), header);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_terminals_talk_over_a_console() {
    let Some(picocom) = peer("picocom") else { return };
    let server = Server::start();
    let mut far = Command::new(picocom);
    far.args(["--nolock", "--noreset"]).arg(create_pty(&server, "line").await);
    let mut far = Terminal::run(far);
    far.shows("Terminal ready").await;
    let mut near = attach(&server, "line").await;

    near.types("are you there?\r");
    far.shows("are you there?\r").await;
    // Keys that end or stop other programs go to the far side, and what comes
    // from there drives nothing here.
    near.types("\u{3}\u{1a}\u{1c}\u{4}!");
    far.shows("\u{3}\u{1a}\u{1c}\u{4}!").await;
    far.types("here: \u{3}\u{1d}\r~.\r");
    near.shows("here: \u{3}\u{1d}\r~.\r").await;

    near.types("\u{1d}");
    near.shows("[lineman: detached]").await;
    assert_eq!(near.ended().await, 0);
    assert_eq!(near.screen().matches("[lineman:").count(), 2, "{}", near.screen());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_detach_and_the_device_does_not_see_them() {
    let server = Server::start();
    let mut far_side = pty(&server, "line").await;

    let mut terminal = attach(&server, "line").await;
    terminal.types("a~.b\r~~c\r~x\r~?");
    terminal.shows("Enter ~. detaches").await;
    terminal.types("\r~.");
    assert_eq!(leaves(terminal).await, 0);

    let mut terminal = attach(&server, "line").await;
    terminal.types("d\u{1d}");
    assert_eq!(leaves(terminal).await, 0);

    let mut terminal = attach(&server, "line --escape ^A").await;
    terminal.types("\u{1d}e\u{1}");
    assert_eq!(leaves(terminal).await, 0);

    assert_eq!(far_side.hears("e").await, "a~.b\r~c\r~x\r\rd\u{1d}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_given_back_on_every_way_out() {
    let mut server = Server::start();
    create_pty(&server, "line").await;
    for (signal, code) in [(Signal::HUP, 129), (Signal::INT, 130), (Signal::TERM, 143)] {
        let terminal = attach(&server, "line").await;
        terminal.signal(signal);
        assert_eq!(leaves(terminal).await, code);
    }

    let mut deleted = attach(&server, "line").await;
    lineman(&server, "delete line").await.ok();
    deleted.shows("lineman: line was deleted").await;
    assert_eq!(leaves(deleted).await, 4);

    create_pty(&server, "line").await;
    let mut abandoned = attach(&server, "line").await;
    server.kill();
    abandoned.shows("[lineman: connection lost; trying again]").await;
    abandoned.types("\u{1d}");
    assert_eq!(leaves(abandoned).await, 0);

    // Nothing was opened, so nothing is changed and ^C works as ever.
    let mut unreachable = Terminal::run(command(&server, "attach line"));
    unreachable.shows("lineman: cannot reach the server").await;
    assert!(unreachable.is_as_found());
    assert_eq!(leaves(unreachable).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writes_and_the_others_watch_wait_or_take_over() {
    let server = Server::start();
    let mut far_side = pty(&server, "line").await;
    let mut first = attach(&server, "line").await;
    let mut watching = attach(&server, "line").await;
    watching.shows(" writes]").await;
    watching.types("x");
    watching.shows("what is typed is dropped]").await;
    let mut waiting = attach(&server, "line --mode wait").await;
    waiting.shows("you wait to write, as number 1]").await;

    far_side.says("login: ");
    for terminal in [&mut first, &mut watching, &mut waiting] {
        terminal.shows("login: ").await;
    }
    first.types("root\r");
    far_side.hears("root\r").await;
    first.types("\u{1d}");
    assert_eq!(leaves(first).await, 0);
    waiting.shows("[lineman: you may write]").await;
    waiting.types("toor\r");
    assert_eq!(far_side.hears("toor\r").await, "", "what was dropped came");

    let mut taking = attach(&server, "line --mode force").await;
    waiting.shows("took the right to write; you observe]").await;
    taking.types("mine\r");
    assert_eq!(far_side.hears("mine\r").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_carry_every_byte_both_ways() {
    let Some(socat) = peer("socat") else { return };
    let server = Server::start();
    let pty = create_pty(&server, "echo").await;
    let mut cat = Command::new(socat);
    let _cat = Process::spawn(cat.args([format!("FILE:{pty},rawer"), "EXEC:cat".into()]));

    let bytes = every_byte(200_000);
    let input = server.dir().join("input");
    fs::write(&input, &bytes).unwrap();
    let mut command = command(&server, "attach echo");
    command.stdin(File::open(input).unwrap());
    let mut attached = Background::spawn(command, server.dir(), "echoed");
    until("everything back", || (attached.stdout().len() >= bytes.len()).then_some(())).await;
    assert!(attached.stdout() == bytes, "what came back is not what was sent");
    attached.signal(Signal::TERM);
    assert_eq!(attached.ended().await, 143);
    assert_eq!(attached.stderr(), "[lineman: ended by signal 15]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_sent_whole_or_fails() {
    let server = Server::start();
    let far_side = pty(&server, "line").await;
    let script = every_byte(100_000);
    let sent = run(command(&server, "attach line --exit-on-eof"), &script).await;
    assert_eq!((sent.code, sent.stderr.as_str()), (0, "[lineman: end of input]\n"));
    let heard = far_side.hears_bytes(script.len()).await;
    assert!(heard == script, "what arrived is not what was sent");

    let _writer = attach(&server, "line").await;
    let refused = run(command(&server, "attach line --exit-on-eof"), "more").await.fails(8);
    assert!(refused.contains("--mode wait"), "{refused}");
    assert_eq!(far_side.hears_bytes(0).await.len(), script.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_has_ended_leaves_writing_to_others() {
    let server = Server::start();
    let mut far_side = pty(&server, "line").await;
    let logger = command(&server, "attach line");
    let logger = Background::spawn(logger, server.dir(), "logger");
    let mut client = server.client().await;
    client.until_status("line", "attachment", |status| status.attachment_count == 1).await;
    until_async("right to write", async || {
        (lineman(&server, "send line hello").await.code == 0).then_some(())
    })
    .await;
    far_side.hears("hello").await;
    far_side.says("still here\r\n");
    logger.prints(&["still here"]).await;
    assert_eq!(logger.stderr(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_replay_any_part_of_the_past_and_follow() {
    let server = Server::start();
    let mut far_side = pty(&server, "line").await;
    assert_eq!(lineman(&server, "logs line").await.ok(), "");
    far_side.says("one\r\ntwo\r\nthree\r\n");
    logged(&server, "line", "three\r\n").await;
    let between = humantime::format_rfc3339_nanos(SystemTime::now());
    far_side.says("four\r\nfive");
    let all = logged(&server, "line", "five").await;
    assert_eq!(all, "one\r\ntwo\r\nthree\r\nfour\r\nfive");

    let logs = async |flags: &str| lineman(&server, &format!("logs line {flags}")).await.ok();
    assert_eq!(logs("--tail 2").await, "four\r\nfive");
    assert_eq!(logs("--tail 99").await, all);
    assert_eq!(logs(&format!("--since {between}")).await, "four\r\nfive");
    assert_eq!(logs(&format!("--until {between}")).await, "one\r\ntwo\r\nthree\r\n");
    assert_eq!(logs("--since 1h").await, all);
    assert_eq!(logs("--until 1h").await, "");
    let stamped = logs("--timestamps").await;
    let year = &between.to_string()[..4];
    assert!(stamped.lines().all(|line| line.starts_with(year)), "{stamped}");

    let follow = command(&server, "logs line --tail 1 --follow");
    let mut following = Background::spawn(follow, server.dir(), "followed");
    until("the last line", || (following.stdout() == b"five").then_some(())).await;
    far_side.says(" and six\r\n");
    following.prints(&["five and six"]).await;
    following.signal(Signal::INT);
    assert_eq!(following.ended().await, 130);
    assert_eq!((following.stdout(), following.stderr()), (b"five and six\r\n".into(), "".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn send_tells_whether_input_has_arrived() {
    let server = Server::start();
    let mut far_side = pty(&server, "line").await;
    lineman(&server, "send line hello world").await.ok();
    lineman(&server, "send line --enter reboot").await.ok();
    run(command(&server, "send line --enter --file -"), b"from a pipe\n").await.ok();
    lineman(&server, "send line --enter").await.ok();
    assert_eq!(far_side.hears("hello worldreboot\rfrom a pipe\n\r\r").await, "");

    let mut terminal = attach(&server, "line").await;
    let refused = lineman(&server, "send line no").await.fails(8);
    assert!(refused.contains("--mode force"), "{refused}");
    lineman(&server, "send line --mode force yes").await.ok();
    assert_eq!(far_side.hears("yes").await, "");
    terminal.shows("took the right to write; you observe]").await;
    drop(terminal);

    lineman(&server, "stop line").await.ok();
    let refused = lineman(&server, "send line no").await.fails(8);
    assert!(refused.contains("not connected"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_and_attachments_tell_what_happens_to_a_device() {
    let server = Server::start();
    let watching = Background::spawn(command(&server, "watch"), server.dir(), "watched");
    create_pty(&server, "line").await;
    watching.prints(&["ADDED", "line"]).await;
    let mut terminal = attach(&server, "line").await;

    assert_eq!(lineman(&server, "stop line").await.ok(), "devices/line stopped\n");
    watching.prints(&["MODIFIED", "line", "STOPPED"]).await;
    terminal.shows("[lineman: line is STOPPED]").await;
    terminal.types("x");
    terminal.shows("[lineman: line is not connected; what is typed is dropped]").await;

    assert_eq!(lineman(&server, "start line").await.ok(), "devices/line started\n");
    terminal.shows("[lineman: line is CONNECTED]").await;
    let mut far_side = FarSide::open(pty_path(&server, "line").await);
    terminal.types("y");
    assert_eq!(far_side.hears("y").await, "");

    let json = command(&server, "watch line -o json");
    let json = Background::spawn(json, server.dir(), "watched.json");
    let event = json.prints(&["EVENT_ADDED"]).await;
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    assert_eq!(event["device"]["name"], "devices/line");
    assert_eq!(lineman(&server, "delete line").await.ok(), "devices/line deleted\n");
    watching.prints(&["DELETED", "line"]).await;
    json.prints(&["EVENT_DELETED"]).await;
    assert_eq!(leaves(terminal).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_end_with_the_documented_codes_and_one_sentence() {
    let mut server = Server::start();
    create_pty(&server, "line").await;
    let check = |told: String, words: &str| {
        assert!(told.contains(words), "no {words:?} in {told:?}");
    };

    for wrong in ["frobnicate", "get --nonsense", "attach", "logs line --tail many"] {
        check(lineman(&server, wrong).await.fails(2), "error: ");
    }
    for verb in ["get", "describe", "delete", "start", "stop", "logs", "attach", "send --enter"] {
        check(lineman(&server, &format!("{verb} gone")).await.fails(4), "get devices");
    }

    let stale = lineman(&server, "get line -o yaml").await.ok() + "labels: {a: b}\n";
    apply(&server, "name: line\nspec: {description: faster}\n").await.ok();
    check(apply(&server, &stale).await.fails(5), "shows it as it is now");

    let stranger = server.dir().join("stranger.token");
    fs::write(&stranger, "not-one-of-the-tokens-that-it-knows-0").unwrap();
    let stranger = format!("get devices --token-file {}", stranger.display());
    check(lineman(&server, &stranger).await.fails(6), "token");

    let unknown = "name: line\nspec: {ptty: {}, journal: {retention: 1}}\n";
    let told = apply(&server, unknown).await.fails(7);
    check(told.clone(), "spec.ptty: unknown field");
    check(told, "spec.journal.retention: unknown field");
    let outside = "name: bad\nspec: {tcp: {host: '', port: 70000}}\n";
    check(apply(&server, outside).await.fails(7), "spec.tcp.port");
    check(lineman(&server, "get devices --filter ((").await.fails(7), "filter");

    lineman(&server, "stop line").await.ok();
    check(lineman(&server, "send line x").await.fails(8), "STOPPED");

    server.stop().await;
    for words in ["get devices", "attach line", "logs line", "send line x", "watch"] {
        check(lineman(&server, words).await.fails(3), "cannot reach the server");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_killed_server_go_on_without_a_hole_or_a_repeat() {
    let mut server = Server::start();
    let device = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = device.local_addr().unwrap().port();
    let document = format!(
        "name: chatty\nspec:\n  tcp: {{host: 127.0.0.1, port: {port}}}\n  \
         reconnect: {{minDelay: 0.02s, maxDelay: 0.2s}}\n"
    );
    apply(&server, &document).await.ok();
    let device = tokio::spawn(print_lines(device));
    let readers = ["attach chatty --from beginning", "attach chatty --from 0", "logs chatty -f"];
    let readers = readers.map(|words| {
        Background::spawn(command(&server, words), server.dir(), &words.replace(' ', "-"))
    });

    for _ in 0..3 {
        for reader in &readers {
            let seen = reader.stdout().len();
            until("lines", || (reader.stdout().len() > seen + 20_000).then_some(())).await;
        }
        server.kill();
        server.start_again();
    }
    let resumed = |reader: &Background| reader.stderr().matches("resumed at offset").count() == 3;
    for reader in &readers {
        until("third resumption", || resumed(reader).then_some(())).await;
        let seen = reader.stdout().len();
        until("lines", || (reader.stdout().len() > seen + 20_000).then_some(())).await;
    }

    device.abort();
    let log = until_async("readers that have all of the log", async || {
        let log = lineman(&server, "logs chatty").await.ok();
        readers.iter().all(|reader| reader.stdout().len() == log.len()).then_some(log)
    })
    .await;
    for reader in &readers {
        assert!(reader.stdout() == log.as_bytes(), "another text than the log");
        assert!(!reader.stderr().contains("lost ("), "{}", reader.stderr());
    }
}

/// A device that prints numbered lines to whoever is connected, for ever.
async fn print_lines(listener: TcpListener) {
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    let mut number = 0_u64;
    loop {
        let (mut line, _) = listener.accept().await.unwrap();
        loop {
            pace.tick().await;
            let text = format!("{number:08} all is well, and this line is one of many\r\n");
            if line.write_all(text.as_bytes()).await.is_err() {
                break;
            }
            number += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_writes_on_after_the_server_was_killed() {
    let mut server = Server::start();
    create_pty(&server, "line").await;
    let mut terminal = attach(&server, "line").await;
    server.kill();
    terminal.shows("[lineman: connection lost; trying again]").await;
    terminal.types("x");
    terminal.shows("[lineman: there is no connection; what is typed is dropped]").await;
    server.start_again();
    terminal.shows("[lineman: resumed at offset 0]").await;
    let mut far_side = FarSide::open(pty_path(&server, "line").await);
    terminal.types("y\r");
    assert_eq!(far_side.hears("y\r").await, "", "what was dropped came");
    far_side.says("welcome back");
    terminal.shows("welcome back").await;
}
