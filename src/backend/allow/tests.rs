//! Every way out of the list that we could think of, tried.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
        net::{UnixListener, UnixStream},
    },
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{CWD, Mode, RenameFlags, mkfifoat, renameat_with},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tempfile::TempDir;

use super::*;
use crate::backend::{Kind, Removal};

/// A folder that is allowed, one that is not, and one that is allowed but holds
/// files of the server's own.
struct Host {
    dir: TempDir,
    allow: Allow,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["in", "out", "mixed", "mixed/own", "mixed/own/open"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("out/secret"), "secret").unwrap();
        let path = |name: &str| dir.path().join(name);
        let allow = Allow {
            folders: vec![path("in"), path("mixed"), path("mixed/own/open")],
            devices: vec![path("in"), path("mixed")],
            reserved: vec![path("mixed/own"), path("mixed/token")],
            ..Allow::default()
        };
        Self { dir, allow }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn folder(&self, name: &str) -> Result<Folder, OpenError> {
        self.allow.open_folder(&self.path(name))
    }

    fn denied(&self, name: &str) -> Denied {
        match self.folder(name) {
            Err(OpenError::Denied(denied)) => denied,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn file(&self, name: &str, flags: OFlags) -> Result<fs::File, OpenError> {
        self.folder(name)?.open_file(flags, Mode::from_raw_mode(0o600))
    }

    fn kind(&self, name: &str) -> Kind {
        match self.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC) {
            Err(OpenError::Kind { found, wanted: Kind::File, .. }) => found,
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn net(text: &str) -> Network {
    text.parse::<IpNet>().unwrap().into()
}

fn address(allow: &Allow, text: &str) -> bool {
    allow.address(text.parse().unwrap()).is_ok()
}

#[test]
fn denies_unless_allowed() {
    let nothing = Allow::default();
    let address = "127.0.0.1:23".parse().unwrap();
    let path = Path::new("/tmp/x");
    assert_eq!(nothing.address(address), Err(Denied::Address(address)));
    assert_eq!(nothing.some_network(), Err(Denied::AnyAddress));
    assert_eq!(nothing.path_as_written(path), Err(Denied::Path));
    assert_eq!(nothing.device_as_written(Path::new("/dev/null")), Err(Denied::Device));
    assert_eq!(nothing.domain_logs(), Err(Denied::DomainLogs));
    assert!(matches!(nothing.open_folder(path), Err(OpenError::Denied(Denied::Path))));
    assert!(matches!(nothing.open_socket(path), Err(OpenError::Denied(Denied::Path))));
    let device = nothing.open_device(Path::new("/dev/null"), OFlags::RDWR);
    assert!(matches!(device, Err(OpenError::Denied(Denied::Device))));
    let log = nothing.open_domain_logs(OsStr::new("a"));
    assert!(matches!(log, Err(OpenError::Denied(Denied::DomainLogs))));
}

#[test]
fn every_refusal_names_its_rule() {
    let address = "127.0.0.1:23".parse().unwrap();
    for denied in [
        Denied::Address(address),
        Denied::AnyAddress,
        Denied::Path,
        Denied::Device,
        Denied::DomainLogs,
        Denied::Reserved,
    ] {
        assert!(denied.to_string().starts_with(denied.rule()), "{denied}");
    }
}

#[test]
fn addresses_are_what_they_mean() {
    let allow = Allow { networks: vec![net("127.0.0.0/8")], ..Allow::default() };
    assert!(address(&allow, "127.0.0.9:1"));
    assert!(address(&allow, "[::ffff:127.0.0.1]:1"));
    assert!(!address(&allow, "[::ffff:10.0.0.1]:1"));
    assert!(!address(&allow, "[::1]:1"));
    assert!(!address(&allow, "128.0.0.1:1"));
}

#[test]
fn all_addresses_need_all_addresses() {
    let with = |nets: &[&str]| Allow {
        networks: nets.iter().map(|text| net(text)).collect(),
        ..Allow::default()
    };
    // 0.0.0.0 is every address of this host, not one in 0.0.0.0/8.
    assert!(!address(&with(&["0.0.0.0/8"]), "0.0.0.0:1"));
    assert!(!address(&with(&["127.0.0.0/8"]), "0.0.0.0:1"));
    assert!(address(&with(&["0.0.0.0/0"]), "0.0.0.0:1"));
    assert!(address(&with(&["0.0.0.0/0"]), "[::ffff:0.0.0.0]:1"));
    // A socket at :: takes IPv4 too.
    assert!(!address(&with(&["::/0"]), "[::]:1"));
    assert!(!address(&with(&["0.0.0.0/0"]), "[::]:1"));
    assert!(address(&with(&["::/0", "0.0.0.0/0"]), "[::]:1"));
}

#[test]
fn ports_belong_to_their_network() {
    let port = |text: &str, ports| Network { net: text.parse().unwrap(), ports };
    let networks = vec![port("192.0.2.0/24", 1024..=65535), port("::1/128", 23..=23)];
    let allow = Allow { networks, ..Allow::default() };
    for (text, fine) in [
        ("192.0.2.1:1023", false),
        ("192.0.2.1:1024", true),
        ("192.0.2.1:65535", true),
        ("[::ffff:192.0.2.1]:22", false),
        ("[::ffff:192.0.2.1]:2222", true),
        ("[::1]:23", true),
        ("[::1]:1024", false),
        // Any free port is not a port of the range.
        ("192.0.2.1:0", false),
    ] {
        assert_eq!(address(&allow, text), fine, "{text}");
    }
}

#[test]
fn paths_as_written() {
    let path = |text: &str| Path::new(text).to_owned();
    let allow = Allow {
        folders: vec![path("/run/a"), path("/srv/lineman/open")],
        devices: vec![path("/dev/serial/by-id"), path("/dev/ttyUSB0")],
        domain_logs: Some(path("/var/log/domains")),
        reserved: vec![path("/run/a/own"), path("/srv/lineman")],
        ..Allow::default()
    };
    for (text, expected) in [
        ("/run/a/x.sock", Ok(())),
        ("/run/a/b/c/x.sock", Ok(())),
        ("/run/a", Err(Denied::Path)),
        ("/run/a/", Err(Denied::Path)),
        ("/run/ab/x.sock", Err(Denied::Path)),
        ("/run/a/../b/x.sock", Err(Denied::Path)),
        ("run/a/x.sock", Err(Denied::Path)),
        ("", Err(Denied::Path)),
        ("/", Err(Denied::Path)),
        ("/run/a/own", Err(Denied::Reserved)),
        ("/run/a/own/x", Err(Denied::Reserved)),
        ("/run/a/owner", Ok(())),
        ("/srv/lineman/x", Err(Denied::Path)),
        ("/srv/lineman/open/x", Ok(())),
    ] {
        assert_eq!(allow.path_as_written(Path::new(text)), expected, "{text}");
    }
    for (text, fine) in [
        ("/dev/serial/by-id/usb-1", true),
        ("/dev/ttyUSB0", true),
        ("/dev/ttyUSB01", false),
        ("/dev/ttyUSB1", false),
        ("/dev/serial/by-id/../../mem", false),
        ("/dev/mem", false),
    ] {
        assert_eq!(allow.device_as_written(Path::new(text)).is_ok(), fine, "{text}");
    }
    assert_eq!(allow.domain_logs(), Ok(Path::new("/var/log/domains")));
}

#[test]
fn a_folder_that_leads_out_is_denied_whatever_is_there() {
    let host = Host::new();
    let out = host.path("out");
    symlink(&out, host.path("in/absolute")).unwrap();
    symlink("../out", host.path("in/relative")).unwrap();
    symlink(host.path("nothing"), host.path("in/dangling")).unwrap();
    symlink("../nothing", host.path("in/dangling-relative")).unwrap();
    symlink("loop", host.path("in/loop")).unwrap();
    symlink("/proc/self/root", host.path("in/magic")).unwrap();
    symlink("/proc/self/cwd", host.path("in/cwd")).unwrap();
    symlink("/", host.path("in/root")).unwrap();
    for link in
        ["absolute", "relative", "dangling", "dangling-relative", "loop", "magic", "cwd", "root"]
    {
        assert_eq!(host.denied(&format!("in/{link}/x")), Denied::Path, "{link}");
        assert_eq!(host.denied(&format!("in/{link}/deep/x")), Denied::Path, "{link}");
        let socket = host.allow.open_socket(&host.path(&format!("in/{link}/x")));
        assert!(matches!(socket, Err(OpenError::Denied(Denied::Path))), "{link}: {socket:?}");
    }
    assert_eq!(host.denied("in/../out/x"), Denied::Path);
    assert_eq!(host.denied("in/a/../../out/x"), Denied::Path);
    // Even below what the operator lists there is no way through magic links.
    let allow = Allow { folders: vec!["/proc".into()], ..Allow::default() };
    for path in ["/proc/self/root/etc/x", "/proc/self/cwd/x", "/proc/thread-self/root/etc/x"] {
        let opened = allow.open_folder(Path::new(path));
        assert!(matches!(opened, Err(OpenError::Denied(Denied::Path))), "{path}: {opened:?}");
    }
}

#[test]
fn what_stays_inside_works_and_is_told() {
    let host = Host::new();
    fs::create_dir_all(host.path("in/a/b")).unwrap();
    symlink("a/b", host.path("in/short")).unwrap();
    symlink("../a", host.path("in/a/up")).unwrap();
    for name in ["in/x", "in/a/b/x", "in/short/y", "in/a/up/b/z"] {
        host.file(name, OFlags::WRONLY | OFlags::CREATE).unwrap();
    }
    assert!(host.path("in/a/b/y").exists());
    // What is missing is an error of its own, inside.
    let error = host.folder("in/missing/x").unwrap_err();
    assert!(
        matches!(&error, OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );
    // The operator's own links are the operator's.
    symlink(host.path("in"), host.path("alias")).unwrap();
    let allow = Allow { folders: vec![host.path("alias")], ..Allow::default() };
    assert!(allow.open_folder(&host.path("alias/a/x")).is_ok());
}

#[test]
fn a_name_that_is_a_link_is_never_followed() {
    let host = Host::new();
    symlink(host.path("out/secret"), host.path("in/out")).unwrap();
    symlink(host.path("out/new"), host.path("in/new")).unwrap();
    fs::write(host.path("in/file"), "").unwrap();
    symlink("file", host.path("in/inside")).unwrap();
    for name in ["in/out", "in/new", "in/inside"] {
        assert_eq!(host.kind(name), Kind::Symlink, "{name}");
        assert!(host.folder(name).unwrap().open_fifo(OFlags::RDWR).is_err());
        let mode = Mode::from_raw_mode(0o777);
        assert!(host.folder(name).unwrap().set_access(Kind::File, mode, None).is_err());
        assert!(host.folder(name).unwrap().bind_unix().is_err());
    }
    assert_eq!(fs::read_to_string(host.path("out/secret")).unwrap(), "secret");
    assert!(!host.path("out/new").exists());
    assert!(fs::metadata(host.path("out/secret")).unwrap().mode() & 0o777 != 0o777);
}

#[test]
fn only_regular_files_are_files() {
    let host = Host::new();
    fs::create_dir(host.path("in/folder")).unwrap();
    mkfifoat(CWD, host.path("in/fifo"), Mode::from_raw_mode(0o600)).unwrap();
    let _listening = UnixListener::bind(host.path("in/socket")).unwrap();
    assert_eq!(host.kind("in/folder"), Kind::Folder);
    // Without waiting for a reader.
    assert_eq!(host.kind("in/fifo"), Kind::Fifo);
    assert_eq!(host.kind("in/socket"), Kind::Socket);
    let dev = Allow { folders: vec!["/dev".into()], ..Allow::default() };
    let null = dev.open_folder(Path::new("/dev/null")).unwrap();
    let error = null.open_file(OFlags::WRONLY, Mode::empty()).unwrap_err();
    assert_eq!(error.to_string(), "/dev/null is a character device, not a regular file");
    let error = null.open_fifo(OFlags::WRONLY).unwrap_err();
    assert_eq!(error.to_string(), "/dev/null is a character device, not a FIFO");
    let error = dev.open_socket(Path::new("/dev/null")).unwrap_err();
    assert_eq!(error.to_string(), "/dev/null is a character device, not a socket");
}

#[test]
fn a_file_with_another_name_elsewhere_is_refused_untouched() {
    let host = Host::new();
    fs::hard_link(host.path("out/secret"), host.path("in/link")).unwrap();
    let error = host.file("in/link", OFlags::WRONLY | OFlags::TRUNC).unwrap_err();
    assert!(error.to_string().contains("hard links"), "{error}");
    assert_eq!(fs::read_to_string(host.path("out/secret")).unwrap(), "secret");
}

#[test]
fn the_servers_own_files_are_never_covered() {
    let host = Host::new();
    fs::create_dir(host.path("mixed/own/journal")).unwrap();
    fs::write(host.path("mixed/token"), "token").unwrap();
    let refused = |name: &str, wanted: Denied| {
        let denied = match host.file(name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC) {
            Err(OpenError::Denied(denied)) => denied,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(denied, wanted, "{name}");
    };
    for name in ["own/devices.redb", "own/journal/x", "own/missing/x", "token"] {
        refused(&format!("mixed/{name}"), Denied::Reserved);
    }
    // Links are not followed here, so that nothing tells what is there.
    symlink("own", host.path("mixed/link")).unwrap();
    symlink("own/journal", host.path("mixed/deep")).unwrap();
    symlink("own/missing", host.path("mixed/dangling")).unwrap();
    for name in ["link", "deep", "dangling"] {
        refused(&format!("mixed/{name}/x"), Denied::Path);
        let socket = host.allow.open_socket(&host.path(&format!("mixed/{name}")));
        assert!(matches!(socket, Err(OpenError::Denied(Denied::Path))), "{name}: {socket:?}");
        let device = host.allow.open_device(&host.path(&format!("mixed/{name}")), OFlags::RDWR);
        assert!(matches!(device, Err(OpenError::Denied(Denied::Device))), "{name}: {device:?}");
    }
    let device = host.allow.open_device(&host.path("mixed/token"), OFlags::RDWR);
    assert!(matches!(device, Err(OpenError::Denied(Denied::Device))), "{device:?}");
    assert_eq!(fs::read_to_string(host.path("mixed/token")).unwrap(), "token");
    // But the folder made for it is open.
    host.file("mixed/own/open/x", OFlags::WRONLY | OFlags::CREATE).unwrap();
    host.file("mixed/x", OFlags::WRONLY | OFlags::CREATE).unwrap();
}

#[test]
fn the_servers_own_files_are_known_by_any_name() {
    // The configuration names them by links; the list names the real folder.
    let host = Host::new();
    fs::create_dir(host.path("in/state")).unwrap();
    fs::write(host.path("in/key"), "key").unwrap();
    symlink("in/state", host.path("state")).unwrap();
    symlink("in/key", host.path("key")).unwrap();
    let allow =
        Allow { reserved: vec![host.path("state"), host.path("key")], ..host.allow.clone() };
    let folder = allow.open_folder(&host.path("in/state/x"));
    assert!(matches!(folder, Err(OpenError::Denied(Denied::Reserved))), "{folder:?}");
    let key = allow.open_folder(&host.path("in/key")).unwrap();
    let opened = key.open_file(OFlags::WRONLY | OFlags::TRUNC, Mode::empty());
    assert!(matches!(opened, Err(OpenError::Denied(Denied::Reserved))), "{opened:?}");
    // Nor does rolling a file over replace one.
    fs::write(host.path("in/log"), "").unwrap();
    let log = allow.open_folder(&host.path("in/log")).unwrap();
    assert!(log.rename_to(OsStr::new("key")).is_err());
    assert_eq!(fs::read_to_string(host.path("in/key")).unwrap(), "key");
    log.rename_to(OsStr::new("log.0")).unwrap();
    assert!(host.path("in/log.0").exists());
}

#[test]
fn another_name_stays_in_the_folder() {
    let host = Host::new();
    let folder = host.folder("in/a").unwrap();
    for name in ["..", ".", "", "../out", "x/y", "/etc/passwd"] {
        assert!(folder.sibling(OsStr::new(name)).is_err(), "{name}");
    }
    folder.sibling(OsStr::new("a.in")).unwrap().make_fifo(Mode::from_raw_mode(0o666)).unwrap();
    let made = fs::metadata(host.path("in/a.in")).unwrap();
    assert!(made.file_type().is_fifo());
    assert_eq!(made.permissions().mode() & 0o777, 0o666, "whatever the umask");
    folder.sibling(OsStr::new("a.in")).unwrap().open_fifo(OFlags::RDWR).unwrap();
}

#[test]
fn a_folder_swapped_for_a_link_never_leads_out() {
    const OPENINGS: usize = 10_000;
    let host = Host::new();
    fs::create_dir(host.path("in/real")).unwrap();
    fs::write(host.path("in/real/secret"), "mine").unwrap();
    symlink("../out", host.path("in/link")).unwrap();
    let outside = fs::metadata(host.path("out/secret")).unwrap().ino();
    let done = AtomicBool::new(false);
    let (mut opened, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, link) = (host.path("in/real"), host.path("in/link"));
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        // Ends the other thread also when an assertion fails.
        let _done = scopeguard(&done);
        for _ in 0..OPENINGS {
            match host.file("in/real/secret", OFlags::WRONLY) {
                Ok(file) => {
                    assert_ne!(file.metadata().unwrap().ino(), outside);
                    opened += 1;
                }
                Err(_) => refused += 1,
            }
        }
    });
    assert!(opened > 0 && refused > 0, "nothing was swapped: {opened} opened, {refused} refused");
    assert_eq!(fs::read_to_string(host.path("out/secret")).unwrap(), "secret");
}

fn scopeguard(done: &AtomicBool) -> impl Drop + use<'_> {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    Done(done)
}

#[test]
fn a_file_swapped_for_a_link_never_leads_out() {
    let host = Host::new();
    fs::write(host.path("in/file"), "mine").unwrap();
    symlink("../out/secret", host.path("in/link")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (file, link) = (host.path("in/file"), host.path("in/link"));
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &file, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _done = scopeguard(&done);
        for _ in 0..5_000 {
            host.file("in/file", OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC).ok();
        }
    });
    assert_eq!(fs::read_to_string(host.path("out/secret")).unwrap(), "secret");
}

#[test]
fn sockets_are_found_inside_only_and_whatever_their_path_length() {
    let host = Host::new();
    let _outside = UnixListener::bind(host.path("out/socket")).unwrap();
    symlink(host.path("out/socket"), host.path("in/leads-out")).unwrap();
    let socket = host.allow.open_socket(&host.path("in/leads-out"));
    assert!(matches!(socket, Err(OpenError::Denied(Denied::Path))), "{socket:?}");

    let deep = host.path("in").join("d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let path = deep.join("socket");
    let folder = host.allow.open_folder(&path).unwrap();
    let bound = folder.bind_unix().unwrap();
    let made = folder.identity().unwrap();
    assert_eq!(made.kind(), Kind::Socket);
    assert!(!folder.is_listening().unwrap(), "nobody can connect yet");
    rustix::net::listen(&bound, 1).unwrap();
    assert!(folder.is_listening().unwrap());
    symlink(Path::new(&"d".repeat(120)).join("socket"), host.path("in/short")).unwrap();
    let found = host.allow.open_socket(&host.path("in/short")).unwrap();
    UnixStream::connect(found.address()).unwrap();
    drop(bound);
    assert!(!folder.is_listening().unwrap());
}

#[test]
fn only_the_very_file_is_removed() {
    let host = Host::new();
    let folder = host.folder("in/link").unwrap();
    let made = folder.symlink(Path::new("/dev/pts/1")).unwrap();
    assert!(folder.symlink(Path::new("/dev/pts/2")).is_err(), "what is there stays");
    assert_eq!(folder.read_link().unwrap(), Path::new("/dev/pts/1"));
    fs::remove_file(host.path("in/link")).unwrap();
    assert_eq!(folder.unlink_if(&made).unwrap(), Removal::Missing);
    fs::write(host.path("in/link"), "somebody's").unwrap();
    assert_eq!(folder.unlink_if(&made).unwrap(), Removal::Other);
    assert!(host.path("in/link").exists());
    let other = folder.identity().unwrap();
    assert_eq!(folder.unlink_if(&other).unwrap(), Removal::Removed);
    assert!(!host.path("in/link").exists());
}

#[test]
fn domain_logs_are_files_in_their_folder() {
    let host = Host::new();
    let allow = Allow { domain_logs: Some(host.path("mixed/own")), ..host.allow.clone() };
    for name in ["..", ".", "", "a/b", "/etc/passwd", "../out/secret"] {
        let log = allow.open_domain_logs(OsStr::new(name));
        assert!(matches!(log, Err(OpenError::Denied(_))), "{name}: {log:?}");
    }
    let log = allow.open_domain_logs(OsStr::new("node7.log")).unwrap();
    log.open_file(OFlags::WRONLY | OFlags::CREATE, Mode::from_raw_mode(0o600)).unwrap();
    assert!(host.path("mixed/own/node7.log").exists());
}

#[test]
fn devices_are_what_the_list_names_or_terminals_that_it_leads_to() {
    let host = Host::new();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let pts = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
    let open = |name: &str| host.allow.open_device(&host.path(name), OFlags::RDWR);
    let denied = |name: &str| {
        let error = open(name).unwrap_err();
        assert!(matches!(error, OpenError::Denied(Denied::Device)), "{name}: {error}");
    };

    symlink(&pts, host.path("in/pty")).unwrap();
    symlink("pty", host.path("in/again")).unwrap();
    for name in ["in/pty", "in/again"] {
        let fd = open(name).unwrap();
        assert!(rustix::termios::isatty(&fd));
        let flags = rustix::fs::fcntl_getfl(&fd).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK | OFlags::RDWR));
    }
    // A link leads to terminals, not to all that is below /dev.
    symlink("/dev/null", host.path("in/null")).unwrap();
    let error = open("in/null").unwrap_err();
    assert!(error.to_string().ends_with("is a character device, not a terminal"), "{error}");
    // Nor is it told what is elsewhere.
    symlink(host.path("out/secret"), host.path("in/out")).unwrap();
    symlink(host.path("out/missing"), host.path("in/missing-out")).unwrap();
    symlink("../out/secret", host.path("in/relative")).unwrap();
    symlink(host.path("out"), host.path("in/folder")).unwrap();
    symlink("/dev/fd", host.path("in/fd")).unwrap();
    symlink("/dev/fd/0", host.path("in/stdin")).unwrap();
    for name in ["in/out", "in/missing-out", "in/relative", "in/folder/secret", "in/folder/nothing"]
    {
        denied(name);
    }
    denied("in/stdin");
    denied("in/fd/0");
    denied("out/secret");
    denied("in/../out/secret");

    // Inside, it is told what is wrong.
    fs::write(host.path("in/file"), "").unwrap();
    fs::create_dir(host.path("in/own")).unwrap();
    mkfifoat(CWD, host.path("in/fifo"), Mode::from_raw_mode(0o600)).unwrap();
    symlink("circle", host.path("in/circle")).unwrap();
    for (name, told) in [
        ("in/file", "is a regular file, not a character device"),
        ("in/fifo", "is a FIFO, not a character device"),
        ("in/own", "is a directory, not a character device"),
    ] {
        let error = open(name).unwrap_err();
        assert!(error.to_string().ends_with(told), "{error}");
    }
    for name in ["in/missing", "in/circle"] {
        assert!(matches!(open(name), Err(OpenError::Io { .. })), "{name}");
    }

    // One node, and no other.
    let allow = Allow { devices: vec![pts.clone(), "/dev/null".into()], ..Allow::default() };
    assert!(allow.open_device(&pts, OFlags::RDWR).is_ok());
    assert!(allow.open_device(Path::new("/dev/null"), OFlags::RDWR).is_ok());
    let error = allow.open_device(Path::new("/dev/zero"), OFlags::RDWR).unwrap_err();
    assert!(matches!(error, OpenError::Denied(Denied::Device)));
}

#[test]
fn udevs_links_are_followed_as_they_are_meant() {
    // As /dev/serial/by-id/usb-1 -> ../../ttyUSB0, with a pty for the adapter.
    let host = Host::new();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let pts = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    fs::create_dir_all(host.path("in/serial/by-id")).unwrap();
    symlink(&pts, host.path("in/ttyUSB0")).unwrap();
    symlink("../../ttyUSB0", host.path("in/serial/by-id/usb-1")).unwrap();
    // Through a folder that is a link itself, `..` counts from the real place.
    symlink("serial/by-id", host.path("in/ids")).unwrap();
    for name in ["in/serial/by-id/usb-1", "in/ids/usb-1"] {
        host.allow.open_device(&host.path(name), OFlags::RDWR).unwrap();
    }
    // Listed alone, the folder of links does not open what is beside it.
    let alone = Allow { devices: vec![host.path("in/serial/by-id")], ..Allow::default() };
    let error = alone.open_device(&host.path("in/serial/by-id/usb-1"), OFlags::RDWR).unwrap_err();
    assert!(matches!(error, OpenError::Denied(Denied::Device)), "{error}");
}
