//! Files on the far side: devices that write them, and disks that are small or
//! hang.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use lineman::pb::{self, device_spec::HostInterface, input_ack::Refusal};

use super::{Attacher, Client, Server, device};

pub(crate) fn null() -> pb::Device {
    device(HostInterface::Null(pb::NullHostInterface {}))
}

pub(crate) fn file(path: &Path, append: pb::Switch) -> pb::Device {
    let (path, append) = (path.to_str().unwrap().into(), append.into());
    device(HostInterface::File(pb::FileHostInterface { path, append }))
}

pub(crate) fn stdio(domain: &str) -> pb::Device {
    device(HostInterface::Stdio(pb::StdioHostInterface { domain: domain.into() }))
}

pub(crate) fn log(path: &Path, append: pb::Switch) -> Option<pb::LogSpec> {
    Some(pb::LogSpec { file: path.to_str().unwrap().into(), append: append.into() })
}

pub(crate) fn with_log(mut device: pb::Device, path: &Path, append: pb::Switch) -> pb::Device {
    device.spec.as_mut().unwrap().log = log(path, append);
    device
}

/// Lines of 16 bytes that tell their place.
pub(crate) fn numbered_lines(bytes: usize) -> Vec<u8> {
    (0..bytes / 16).flat_map(|line| format!("{line:015}\n").into_bytes()).collect()
}

impl Client {
    /// Changes a device's spec.
    pub(crate) async fn change(&mut self, id: &str, change: impl FnOnce(&mut pb::DeviceSpec)) {
        let mut device = self.get(id).await;
        change(device.spec.as_mut().unwrap());
        let update_mask = Some(prost_types::FieldMask { paths: vec!["spec".into()] });
        let request =
            pb::UpdateDeviceRequest { device: Some(device), update_mask, validate_only: false };
        self.devices.update_device(request).await.unwrap();
    }
}

/// One of the conditions of a status.
pub(crate) fn condition(status: &pb::DeviceStatus, kind: &str) -> Option<pb::Condition> {
    status.conditions.iter().find(|condition| condition.r#type == kind).cloned()
}

/// Whether a condition holds.
pub(crate) fn holds(status: &pb::DeviceStatus, kind: &str) -> bool {
    condition(status, kind).is_some_and(|c| c.status() == pb::condition::Status::True)
}

/// Sends all of `data`, again from where the server says after each refusal, and
/// waits until it is written.
pub(crate) async fn send_all(client: &mut Client, id: &str, data: &[u8]) {
    let attacher = Attacher::new(client, id, pb::AttachMode::Write, 0).await;
    send_some(attacher, data, |_| false).await;
}

/// The same until `enough`; returns the attacher, which knows how far it came.
pub(crate) async fn send_some(
    mut attacher: Attacher,
    data: &[u8],
    mut enough: impl FnMut(&Attacher) -> bool,
) -> Attacher {
    const WINDOW: usize = 48 << 10;
    const PIECE: usize = 5000;
    let mut sent = 0;
    // Whoever wrote before may not have left quite yet.
    attacher.until("the right to write", |attacher| attacher.writer.is_me).await;
    loop {
        let acked = usize::try_from(attacher.ack.offset).unwrap();
        if acked == data.len() || enough(&attacher) {
            return attacher;
        }
        if attacher.ack.refusal != 0 {
            let refusal = attacher.ack.refusal();
            let known = matches!(refusal, Refusal::NotConnected | Refusal::QueueFull);
            assert!(known || refusal == Refusal::OffsetGap, "{refusal:?}");
            attacher.ack.refusal = 0;
            sent = acked;
            while attacher.state.state() != pb::device_status::State::Connected {
                assert!(attacher.next().await.unwrap());
                if enough(&attacher) {
                    return attacher;
                }
            }
        }
        while sent < data.len() && sent - acked < WINDOW {
            let piece = &data[sent..data.len().min(sent + PIECE)];
            attacher.type_bytes(Some(sent as u64), piece).await;
            sent += piece.len();
        }
        assert!(attacher.next().await.unwrap());
    }
}

/// A file system of its own, below the server's folder; gone when dropped.
pub(crate) struct Disk {
    path: PathBuf,
    image: Option<PathBuf>,
}

impl Disk {
    /// A small one. `None`, and a word about it, if this user may not mount.
    pub(crate) fn small(server: &Server, name: &str, bytes: usize) -> Option<Self> {
        let path = server.dir().join(name);
        fs::create_dir(&path).unwrap();
        let size = format!("size={bytes}");
        let mounted = run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", path.to_str().unwrap()]);
        if !mounted {
            println!("left out: only root can mount a small disk");
        }
        mounted.then_some(Self { path, image: None })
    }

    /// One that can be made to hang.
    pub(crate) fn that_can_hang(server: &Server, name: &str) -> Option<Self> {
        let path = server.dir().join(name);
        fs::create_dir(&path).unwrap();
        let image = server.dir().join(format!("{name}.image"));
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let (at, from) = (path.to_str().unwrap(), image.to_str().unwrap());
        let mounted = run("mkfs.ext4", &["-q", from]) && run("mount", &["-o", "loop", from, at]);
        if !mounted {
            println!("left out: only root can mount a disk that hangs");
        }
        mounted.then_some(Self { path, image: Some(image) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves no room at all.
    pub(crate) fn fill(&self) {
        let mut ballast =
            fs::File::options().append(true).create(true).open(self.path.join("ballast")).unwrap();
        while ballast.write(&[b'x'; 4096]).is_ok() {}
    }

    /// Takes away what [`Disk::fill`] put there.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.path.join("ballast")).unwrap();
    }

    /// From now on writes hang.
    pub(crate) fn hang(&self) {
        assert!(run("fsfreeze", &["-f", self.path.to_str().unwrap()]));
    }

    /// They go on.
    pub(crate) fn go_on(&self) {
        assert!(run("fsfreeze", &["-u", self.path.to_str().unwrap()]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let path = self.path.to_str().unwrap();
        if self.image.is_some() {
            run("fsfreeze", &["-u", path]);
        }
        run("umount", &["-l", path]);
    }
}

fn run(program: &str, args: &[&str]) -> bool {
    let output = Command::new(program).args(args).output();
    output.is_ok_and(|output| output.status.success())
}
