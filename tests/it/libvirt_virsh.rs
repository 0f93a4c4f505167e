//! libvirt itself as the far side: its test driver stores each example of ours
//! and shows it again, and must agree with `lineman libvirt normalize` about
//! what is accepted and what comes out.

use std::{fs, path::Path, process::Command};

use crate::harness::{LINEMAN, peer, run};

const EXAMPLES: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libvirt/chardev-examples.txt"));

/// Beyond the table: rules that no row of it has.
const MORE: &[&str] = &[
    "<parallel type='null'><acpi index='3'/><address type='pci' slot='5'/><alias name='ua-x'/></parallel>",
    "<parallel type='null'><address type='isa' iobase='0x402' irq='5'/></parallel>",
    "<serial type='null'><target type='usb-serial'/><address type='usb' bus='0' port='1.2'/></serial>",
    "<parallel type='null'><address type='ccw' cssid='0xfe' ssid='0' devno='1'/></parallel>",
    "<parallel type='null'><address type='spapr-vio' reg='0x3000'/></parallel>",
    "<serial type='null'><alias name='ua-s'/></serial><parallel type='null'><alias name='ua-s'/></parallel>",
    "<serial type='null'/><console type='file'/>",
    "<console type='file'/>",
    "<console type='null'><target type='virtio' port='zz'/></console>",
    "<channel type='null'><target type='guestfwd' address='10.0.2.1' port='-1'/></channel>",
    "<parallel type='file'><source path='/a'><seclabel relabel='maybe'/></source></parallel>",
    "<parallel type='udp'><source/><source service='5'/></parallel>",
    "<parallel type='null'><target port='-4294967295'/></parallel>",
    "<channel type='unix'><source mode='bind'><reconnect enabled='no'/></source><target type='virtio'/></channel>",
    "<serial type='null'><target><model name='16550a'/></target></serial>",
    "<console type='null'><target type='virtio'/><address type='virtio-serial' port='2'/></console>",
];

/// Where we differ on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "<parallel type='file'><source path='a&#10;b'/></parallel>",
        "libvirt writes the line feed raw, and it comes back as a blank",
    ),
    (
        "<channel type='null'><target type='guestfwd' address='10.1' port='1'/></channel>",
        "an address of two numbers is more likely a typing error",
    ),
    (
        "<parallel type='null'><address type='drive'/></parallel>",
        "a character device is not on a disk controller",
    ),
    (
        "<parallel type='null'><target port='2147483647'/></parallel><parallel/>",
        "libvirt goes on at -2147483648",
    ),
    (
        "<serial type='spicevmc'><target type='usb-serial'/></serial><console/>",
        "libvirt cannot read back the mirror that it writes",
    ),
];

/// What libvirt stores of devices, without blanks between tags; nothing if it
/// refuses them.
async fn virsh(dir: &Path, devices: &str) -> Option<String> {
    let document = format!(
        "<domain type='test'><name>x</name><memory unit='KiB'>1024</memory>\
         <os><type>hvm</type></os><devices>{devices}</devices></domain>"
    );
    let file = dir.join("vm.xml");
    fs::write(&file, document).unwrap();
    let mut command = Command::new(peer("virsh").unwrap());
    let script = format!("define {}; dumpxml --inactive x", file.display());
    command.args(["-q", "-c", "test:///default", &script]);
    let outcome = run(command, "").await;
    if outcome.code != 0 {
        assert!(outcome.stderr.contains("Failed to define domain"), "{}", outcome.stderr);
        return None;
    }
    let devices = outcome.stdout.split_once("<devices>").unwrap().1;
    let devices = devices.split_once("</devices>").unwrap().0;
    // Controllers that nobody asked for are not of character devices.
    let is_ours = |line: &&str| !line.trim_start().starts_with("<controller ");
    let devices: Vec<_> = devices.lines().filter(is_ours).collect();
    Some(without_layout(&devices.join("\n")))
}

async fn lineman(devices: &str) -> Option<String> {
    let mut command = Command::new(LINEMAN);
    command.args(["libvirt", "normalize", "-"]);
    let outcome = run(command, format!("<devices>{devices}</devices>")).await;
    match outcome.code {
        0 => Some(without_layout(&outcome.stdout)),
        _ => {
            outcome.fails(65);
            None
        }
    }
}

fn without_layout(text: &str) -> String {
    text.lines().map(str::trim_start).collect()
}

#[tokio::test]
async fn libvirt_agrees_about_every_example() {
    if peer("virsh").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let rows = EXAMPLES.lines().filter(|row| !row.starts_with('#'));
    let rows = rows.map(|row| row.split_once(" => ").unwrap().0.split_at("V00 G ".len()).1);
    let mut wrong = Vec::new();
    for devices in rows.chain(MORE.iter().copied()) {
        let (theirs, ours) = (virsh(dir.path(), devices).await, lineman(devices).await);
        if theirs != ours {
            wrong.push(format!("{devices}\n  libvirt {theirs:?}\n  lineman {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (devices, why) in DIFFERENT {
        let (theirs, ours) = (virsh(dir.path(), devices).await, lineman(devices).await);
        assert!(theirs.is_some(), "{devices}: libvirt has become stricter");
        assert_ne!(theirs, ours, "no difference any more: {why}");
    }
}
