//! Kernels that log to the network (netconsole, extended format): their words
//! without the headers, and what of them is missing exactly where it is missing.
//!
//! The module cannot be loaded on a machine for tests, so the datagrams are
//! replayed: they are as a kernel sends them (Documentation/networking/netconsole.rst).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use lineman::pb::{
    self, AttachMode, Gap, UdpEndpoint, device_spec::HostInterface, device_status::State,
    udp_host_interface::Format,
};

use crate::harness::{Attacher, Client, Server, device};

/// A boot, from the first message to a panic that is cut off.
const BOOT: [&str; 5] = [
    "6.12.0-console,6,1,0,-;Linux version 6.12.0 (build@host) #1 SMP\n",
    "6.12.0-console,6,2,12,-;Command line: console=ttyS0 netconsole=+6665@10.0.0.2/eth0\n",
    "6.12.0-console,7,3,424069,-,caller=T1;pci_root PNP0A03:00: host bridge\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n",
    "6.12.0-console,4,4,501237,-;systemd[1]: \\x1b[31mred\\x1b[0m\n",
    "6.12.0-console,6,5,501240,-;eth0: link up\n",
];

const BOOTED: &str = "Linux version 6.12.0 (build@host) #1 SMP\n\
    Command line: console=ttyS0 netconsole=+6665@10.0.0.2/eth0\n\
    pci_root PNP0A03:00: host bridge\n\
    systemd[1]: \u{1b}[31mred\u{1b}[0m\n\
    eth0: link up\n";

struct Kernel {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Kernel {
    fn new(server: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), server }
    }

    fn says(&self, datagrams: &[&str]) {
        for datagram in datagrams {
            self.socket.send_to(datagram.as_bytes(), self.server).unwrap();
        }
    }
}

async fn create(client: &mut Client) -> SocketAddr {
    let bind = Some(UdpEndpoint { host: "127.0.0.1".into(), port: 0 });
    let format = Format::Netconsole.into();
    let udp = pb::UdpHostInterface { connect: None, bind, format };
    client.create("kernel", device(HostInterface::Udp(udp))).await;
    client.until_state("kernel", State::Connected).await.listen_address.parse().unwrap()
}

/// Everything in order: text, and `<N>` where N offsets are missing.
async fn told(client: &mut Client) -> String {
    let request = pb::ReadOutputRequest { device: "devices/kernel".into(), ..Default::default() };
    let mut stream = client.console.read_output(request).await.unwrap().into_inner();
    let mut told = String::new();
    while let Some(message) = stream.message().await.unwrap() {
        match message.message {
            Some(pb::read_output_response::Message::Output(output)) => {
                told.push_str(std::str::from_utf8(&output.data).unwrap());
            }
            Some(pb::read_output_response::Message::Gap(Gap { from_offset, to_offset })) => {
                told.push_str(&format!("<{}>", to_offset - from_offset));
            }
            _ => {}
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_boots_and_what_is_lost_is_a_gap_where_it_was() {
    let server = Server::start();
    let mut client = server.client().await;
    let kernel = Kernel::new(create(&mut client).await);
    let mut observer = Attacher::new(&mut client, "kernel", AttachMode::Observe, 0).await;
    kernel.says(&BOOT);
    observer.until_seen("link up\n", 0).await;
    assert_eq!(observer.text(), BOOTED);

    kernel.says(&[
        // Three did not arrive.
        "6,9,600000,-;after the gap\n",
        // One came twice.
        "6,9,600000,-;after the gap\n",
        // A long one, in pieces: the kernel's own example.
        "6,10,1758426,-,ncfrag=0/32;the first chunk,",
        "6,10,1758426,-,ncfrag=16/32; the 2nd chunk.\n",
        // One of which the beginning is lost, and one of which the end is.
        "6,11,1758430,-,ncfrag=16/32; the 2nd chunk.\n",
        "6,12,1758431,-,ncfrag=0/32;the first chunk,",
        "6,13,1758432,-;next\n",
        // A kernel without the extended format, and something else altogether.
        "[    1.234567] plain; and simple\n",
        "\n",
    ]);
    observer.until_seen("and simple\n\n", 0).await;
    // The last words of a kernel have no end, and are not kept back for one.
    kernel.says(&["0,14,1758433,-,ncfrag=0/2000;Kernel panic - not syncing"]);
    observer.until_seen("not syncing\n", 0).await;
    let all = format!(
        "{BOOTED}<3>after the gap\nthe first chunk, the 2nd chunk.\n<1>the first chunk,\n<1>next\n\
         [    1.234567] plain; and simple\n\nKernel panic - not syncing\n<1>"
    );
    assert_eq!(told(&mut client).await, all);
    let counted = |status: &pb::DeviceStatus| status.lost_count == 6;
    let status = client.until_status("kernel", "6 lost", counted).await;
    assert_eq!((status.peers.len(), status.peers[0].lost_count), (1, 6));
    assert_eq!(status.peers[0].record_count, 5 + 9 + 1);

    // It starts anew: nothing is missing.
    kernel.says(&BOOT);
    observer.until_seen("link up\n", BOOTED.len()).await;
    assert_eq!(told(&mut client).await, all + BOOTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_kernels_are_counted_apart() {
    let server = Server::start();
    let mut client = server.client().await;
    let address = create(&mut client).await;
    let (first, second) = (Kernel::new(address), Kernel::new(address));
    let mut observer = Attacher::new(&mut client, "kernel", AttachMode::Observe, 0).await;
    // Each has its own numbers, and half a message open while the other speaks.
    first.says(&["6,1,1,-;one\n", "6,2,1,-,ncfrag=0/8;half"]);
    second.says(&["6,700,1,-;two\n", "6,701,1,-,ncfrag=0/8;HALF"]);
    first.says(&["6,2,1,-,ncfrag=4/8; me\n"]);
    second.says(&["6,701,1,-,ncfrag=4/8; ME\n", "6,704,1,-;end\n"]);
    observer.until_seen("end\n", 0).await;
    assert_eq!(told(&mut client).await, "one\ntwo\nhalf me\nHALF ME\n<2>end\n");
    let counted = |status: &pb::DeviceStatus| status.lost_count == 2;
    let status = client.until_status("kernel", "2 lost", counted).await;
    let lost = status.peers.iter().map(|peer| peer.lost_count);
    assert!(lost.eq([0, 2]), "{:?}", status.peers);
}
