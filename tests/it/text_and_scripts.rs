//! For hands and scripts: text instead of bytes, and single calls that do what
//! an attachment does.

use std::{
    fs::OpenOptions,
    io::{Read, Write},
};

use lineman::pb::{
    self, AttachMode, device_status::State, read_output_response::Message,
    write_input_request::Payload,
};
use tokio::task::spawn_blocking;

use crate::harness::{Attacher, Server, pty, soon};

#[tokio::test(flavor = "multi_thread")]
async fn output_as_text_and_input_as_text() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", pty()).await;
    let path = client.until_state("a", State::Connected).await.pty_path;
    let mut far = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let request = pb::ReadOutputRequest {
        device: "devices/a".into(),
        follow: true,
        encoding: pb::OutputEncoding::Text.into(),
        ..Default::default()
    };
    let mut stream = client.console.read_output(request).await.unwrap().into_inner();
    let mut watcher = Attacher::new(&mut client.clone(), "a", AttachMode::Observe, 0).await;
    let mut text = String::new();
    let mut next = 0;
    // A euro sign in two pieces, and a byte that is no text.
    for piece in [&b"10 \xe2"[..], b"\x82\xac", b" \xff!"] {
        far.write_all(piece).unwrap();
        watcher.until_offset(watcher.next_offset + piece.len() as u64).await;
    }
    let mut lossy = false;
    while !text.ends_with('!') {
        let message = soon("text", stream.message()).await.unwrap().unwrap().message;
        if let Some(Message::Output(output)) = message {
            assert!(output.data.is_empty());
            assert_eq!(output.offset, next);
            next += u64::from(output.length);
            text.push_str(&output.text);
            lossy |= output.lossy;
        }
    }
    assert_eq!((text.as_str(), next, lossy), ("10 € \u{fffd}!", 9, true));

    let request = pb::WriteInputRequest {
        device: "devices/a".into(),
        payload: Some(Payload::Text("größe\r".into())),
        mode: 0,
    };
    let written = client.console.write_input(request).await.unwrap().into_inner();
    assert_eq!((written.accepted_bytes, written.next_offset), (8, 9));
    let mut got = [0; 8];
    let got = spawn_blocking(move || far.read_exact(&mut got).map(|()| got));
    assert_eq!(soon("input", got).await.unwrap().unwrap(), "größe\r".as_bytes());
}
