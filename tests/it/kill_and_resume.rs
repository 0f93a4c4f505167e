//! `kill -9` in the middle: whoever was attached goes on where it was, without a
//! lost or repeated byte.

use lineman::pb::{
    AttachMode, InputSpec, JournalSpec, device_status::State, input_spec::Sharing,
    unix_host_interface::Mode,
};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::harness::{Attacher, Server, UBoot, connect_tcp, unix};

/// What one person saw over several connections.
struct Person {
    seen: Vec<u8>,
    next: u64,
    gaps: usize,
}

impl Person {
    fn take(&mut self, attacher: &Attacher) {
        assert_eq!(attacher.started.offset, self.next, "resumed where it was");
        self.seen.extend_from_slice(&attacher.seen);
        self.next = attacher.next_offset;
        self.gaps += attacher.gaps.len();
    }
}

/// Sends numbered lines to whoever connects, on and on, as fast as it can.
async fn flood(listener: TcpListener) {
    let mut line = 0u64;
    while let Ok((mut far, _)) = listener.accept().await {
        loop {
            let lines: String = (line..line + 100).map(|line| format!("{line:015}\n")).collect();
            line += 100;
            if far.write_all(lines.as_bytes()).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_saw_a_byte_of_a_flood_that_a_killed_server_forgot() {
    let mut server = Server::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = server.client().await;
    let mut device = connect_tcp(listener.local_addr().unwrap().port());
    device.spec.as_mut().unwrap().journal = Some(JournalSpec { retention_bytes: 4 << 30 });
    client.create("flood", device).await;
    let flooding = tokio::spawn(flood(listener));
    let mut person = Person { seen: Vec::new(), next: 0, gaps: 0 };
    for round in 1..=8 {
        let mut attacher =
            Attacher::new(&mut client, "flood", AttachMode::Observe, person.next).await;
        attacher.until_offset(person.next + round * 300_000).await;
        server.kill();
        attacher.drain().await.expect_err("the connection is lost");
        person.take(&attacher);
        server.start_again();
        client = server.client().await;
    }
    flooding.abort();
    let mut attacher = Attacher::new(&mut client, "flood", AttachMode::Observe, person.next).await;
    attacher.until_offset(client.status("flood").await.journal.unwrap().next_offset).await;
    person.take(&attacher);
    assert_eq!(person.gaps, 0);
    let (journal, gaps) = client.history("flood").await;
    assert!(gaps.is_empty());
    assert!(person.seen == journal[..person.seen.len()], "what was seen is in the journal");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_attachers_of_a_booted_machine_resume_without_a_hole() {
    let mut server = Server::start();
    let socket = server.dir().join("uboot.sock");
    let mut client = server.client().await;
    let mut device = unix(Mode::Connect, &socket);
    device.spec.as_mut().unwrap().input = Some(InputSpec { sharing: Sharing::Shared.into() });
    client.create("uboot", device).await;
    let serial = format!("unix:{},server=on,wait=on", socket.display());
    let Some(_uboot) = UBoot::boot(&serial) else { return };

    let mut people = [0, 1].map(|_| Person { seen: Vec::new(), next: 0, gaps: 0 });
    let mut attached = Vec::new();
    for _ in 0..2 {
        attached.push(Attacher::new(&mut client, "uboot", AttachMode::WriteShared, 0).await);
    }
    attached[0].until_seen("stop autoboot", 0).await;
    attached[0].type_text("\r").await;
    attached[0].until_seen("=> ", 0).await;
    attached[1].until_seen("=> ", 0).await;
    attached[1].type_text("while true; do version; done\r").await;

    for round in 0..3 {
        // It prints without end; each has seen some of it, not the same amount.
        let target = attached[0].next_offset + 4000;
        attached[0].until_offset(target).await;
        attached[1].until_offset(target / 2).await;
        server.kill();
        for (attacher, person) in attached.iter_mut().zip(&mut people) {
            // What was on its way still arrives.
            attacher.drain().await.expect_err("the connection is lost");
            person.take(attacher);
        }
        server.start_again();
        client = server.client().await;
        attached.clear();
        for person in &people {
            let mut start = crate::harness::start(
                "uboot",
                AttachMode::WriteShared,
                lineman::pb::journal_position::At::Offset(person.next),
            );
            start.client = format!("round {round}");
            attached.push(Attacher::open(&mut client, start).await.unwrap());
        }
        client.until_state("uboot", State::Connected).await;
    }
    let from = attached[0].seen.len();
    let more = attached[0].next_offset + 4000;
    attached[0].until_offset(more).await;
    attached[1].type_bytes(None, b"\x03").await;
    attached[0].until_seen("=> ", from).await;
    let prompt = attached[0].next_offset;
    attached[1].until_offset(prompt).await;
    let end = attached[1].next_offset;
    attached[0].until_offset(end).await;
    for (attacher, person) in attached.iter().zip(&mut people) {
        person.take(attacher);
    }

    let (journal, gaps) = client.history("uboot").await;
    assert!(gaps.is_empty(), "a killed server loses nothing that it had shown: {gaps:?}");
    assert!(journal.len() > 12_000, "{}", journal.len());
    for person in &people {
        assert_eq!(person.gaps, 0);
        assert!(
            person.seen == journal[..person.seen.len()],
            "what was seen is what is in the journal"
        );
        assert_eq!(person.seen.len() as u64, person.next);
    }
    assert_eq!(people[0].next, people[1].next);
}
