//! `virsh` on libvirt's test driver: what libvirt itself makes of a domain,
//! without a daemon and without a machine.

use std::process::Command;

use super::{Outcome, peer, run};

/// Runs commands of virsh, separated by semicolons, in one connection to
/// `test:///default`; what they define is gone with it. A file `/dev/stdin` is
/// `input`.
pub(crate) async fn virsh(commands: &str, input: &str) -> Option<Outcome> {
    let mut command = Command::new(peer("virsh")?);
    command.env("LC_ALL", "C").args(["--quiet", "--connect", "test:///default", commands]);
    Some(run(command, input).await)
}

/// The XML that libvirt writes back for a domain with these devices, or its
/// complaint.
pub(crate) async fn define_and_dump(devices: &str) -> Option<Outcome> {
    let domain = format!(
        "<domain type='test'><name>lineman</name><memory>4096</memory>\
         <os><type>hvm</type></os><devices>{devices}</devices></domain>"
    );
    virsh("define /dev/stdin; dumpxml --inactive lineman", &domain).await
}
