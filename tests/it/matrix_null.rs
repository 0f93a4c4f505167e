//! `null`: input goes nowhere, is counted, and holds up nothing.

use lineman::pb::{AttachMode, device_status::State};

use crate::harness::{
    Attacher, Server, flooded, metric, null, opens_and_closes, send_all, send_some, soon,
};

#[tokio::test(flavor = "multi_thread")]
async fn throws_input_away_and_counts_it() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", null()).await;
    client.until_state("a", State::Connected).await;
    let data = vec![0; 1 << 20];
    send_all(&mut client, "a", &data).await;
    let status = client.status("a").await;
    assert_eq!((status.input_bytes, status.discarded_bytes), (1 << 20, 1 << 20));
    assert_eq!(metric(&server, "input_discarded_bytes").await, 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_a_flood_tells_exactly_what_was_thrown_away() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", null()).await;
    client.until_state("a", State::Connected).await;
    let attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
    let sender = tokio::spawn(async move {
        let stopped = |attacher: &Attacher| attacher.state.state() == State::Stopped;
        send_some(attacher, &flooded(0, 64 << 20), stopped).await
    });
    client.until_status("a", "a part", |status| status.input_bytes > 1 << 20).await;
    soon("stop", client.stop("a")).await;
    client.until_state("a", State::Stopped).await;
    let mut attacher = soon("the end", sender).await.unwrap();
    assert_eq!(attacher.state.state(), State::Stopped, "before all was sent");
    // What was dropped is told last.
    attacher.type_text("x").await;
    attacher.until("refusal", |a| a.ack.refusal != 0 && a.ack.queued_offset == a.ack.offset).await;
    let status = client.status("a").await;
    assert_eq!(status.discarded_bytes, attacher.ack.offset);
    soon("start", client.start("a")).await;
    client.until_state("a", State::Connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_in_a_flood_ends_it() {
    let server = Server::start();
    let mut client = server.client().await;
    for _ in 0..5 {
        client.create("a", null()).await;
        client.until_state("a", State::Connected).await;
        let mut attacher = Attacher::new(&mut client, "a", AttachMode::Write, 0).await;
        for piece in flooded(0, 56_000).chunks(4000) {
            attacher.type_bytes(None, piece).await;
        }
        soon("deletion", client.delete("a")).await;
        attacher.drain().await.unwrap();
        assert!(attacher.ended.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_starts_leave_nothing_behind() {
    let server = Server::start();
    let mut client = server.client().await;
    client.create("a", null()).await;
    client.until_state("a", State::Connected).await;
    opens_and_closes(&server, &mut client, "a").await;
}
