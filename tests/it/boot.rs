//! A machine boots: its console is complete from the first byte, for whoever was
//! there and for whoever comes later, and its prompt answers.

use lineman::pb::{
    AttachMode, InputSpec, device_status::State, input_spec::Sharing, unix_host_interface::Mode,
};

use crate::harness::{Attacher, Server, UBoot, unix};

#[tokio::test(flavor = "multi_thread")]
async fn u_boot_boots_to_its_prompt_and_answers_two_people_at_once() {
    let server = Server::start();
    let socket = server.dir().join("uboot.sock");
    let mut client = server.client().await;
    let mut device = unix(Mode::Connect, &socket);
    let sharing = Sharing::Shared.into();
    device.spec.as_mut().unwrap().input = Some(InputSpec { sharing });
    client.create("uboot", device).await;
    let mut first = Attacher::new(&mut client, "uboot", AttachMode::WriteShared, 0).await;
    let serial = format!("unix:{},server=on,wait=on", socket.display());
    let Some(_uboot) = UBoot::boot(&serial) else { return };

    first.until_seen("Hit any key to stop autoboot", 0).await;
    first.type_text("\r").await;
    first.until_seen("=> ", 0).await;

    let mut second = Attacher::new(&mut client, "uboot", AttachMode::WriteShared, 0).await;
    second.until_seen("=> ", 0).await;
    let from = second.seen.len();
    first.type_text("version\r").await;
    second.until_seen("U-Boot", from).await;
    second.until_seen("=> ", from + 20).await;
    let from = first.seen.len();
    second.type_text("printenv\r").await;
    first.until_seen("bootcmd=", from).await;
    first.until_seen("Environment size:", from).await;
    let status = client.until_state("uboot", State::Connected).await;
    second.until_offset(status.journal.as_ref().unwrap().next_offset).await;
    first.until_offset(second.next_offset).await;
    second.until_offset(first.next_offset).await;
    assert_eq!(first.seen, second.seen, "two attachers see the same bytes");

    // After the fact, the boot is there from its first byte.
    let mut late = Attacher::new(&mut client, "uboot", AttachMode::Observe, 0).await;
    late.until_offset(first.next_offset).await;
    assert_eq!(late.seen[..first.seen.len()], first.seen);
    assert!(late.text().trim_start().starts_with("U-Boot"), "{}", late.text());
    assert_eq!(client.history("uboot").await.0[..first.seen.len()], first.seen);
    assert_eq!(server.log().matches("WARN").count(), server.log().matches("link lost").count());
}
