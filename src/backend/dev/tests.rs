//! Ports without hardware: the slave of a pty is a terminal as any other, and
//! says honestly what it has not (modem lines, breaks, 7 bits).

use std::{future::poll_fn, io::Write, os::unix::fs::symlink, path::Path, time::Duration};

use rustix::{
    pty::{OpenptFlags, openpt, ptsname, unlockpt},
    termios::{
        ControlModes, InputModes, OptionalActions, SpecialCodeIndex, ioctl_tiocexcl, tcgetattr,
        tcsetattr,
    },
};
use tempfile::TempDir;
use tokio::io::ReadBuf;

use super::*;
use crate::{
    backend::{Control, ControlError, Read, explain},
    device::{DataBits, FlowControl, LineSettings, Parity, StopBits, Switch},
};

/// A port with the other end in the test's hands.
struct Fixture {
    dir: TempDir,
    far: File,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Self { dir, far: File::open("/dev/null").unwrap() };
        fixture.plug();
        fixture
    }

    /// Pulls it out, if it was in, and puts another in under the same name.
    fn plug(&mut self) {
        let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&far).unwrap();
        let slave = ptsname(&far, Vec::new()).unwrap().into_string().unwrap();
        std::fs::remove_file(self.path()).ok();
        symlink(slave, self.path()).unwrap();
        self.far = far.into();
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("port")
    }

    fn dev(&self, path: &Path) -> Dev {
        let spec = DevSpec {
            path: path.to_owned(),
            kind: DevKind::Serial,
            line_settings: None,
            hangup_on_close: Switch::Unsaid,
        };
        let devices = vec![self.dir.path().to_owned(), "/dev/null".into()];
        Dev::new(spec, Arc::new(Allow { devices, ..Allow::default() }))
    }

    async fn open(&self) -> Box<dyn Link> {
        self.dev(&self.path()).open().await.unwrap()
    }
}

/// Reads once, or until the deadline.
async fn read(link: &mut Box<dyn Link>, bytes: &mut Vec<u8>) -> Result<Read, Error> {
    let mut space = vec![0; limits::LINE_READ_BYTES];
    let mut buf = ReadBuf::new(&mut space);
    let read = poll_fn(|cx| link.poll_read(cx, &mut buf));
    let read = timeout(Duration::from_secs(30), read).await.expect("a read")?;
    bytes.extend_from_slice(buf.filled());
    Ok(read)
}

async fn ask(link: &mut Box<dyn Link>, control: Control) -> Result<(), ControlError> {
    poll_fn(|cx| link.poll_control(cx, &control)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_passes_and_a_hang_up_is_the_end() {
    let mut fixture = Fixture::new();
    let mut link = fixture.open().await;
    let every: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    fixture.far.write_all(&every).unwrap();
    let mut got = Vec::new();
    while got.len() < every.len() {
        assert_eq!(read(&mut link, &mut got).await.unwrap(), Read::Bytes);
    }
    assert_eq!(got, every);
    fixture.plug();
    let error = read(&mut link, &mut got).await.unwrap_err();
    assert!(matches!(error, Error::HungUp), "{error}");
    let error = poll_fn(|cx| link.poll_write(cx, b"x")).await.unwrap_err();
    assert!(matches!(error, Error::HungUp), "{error}");
    // The name leads to the new one.
    let mut link = fixture.open().await;
    fixture.far.write_all(b"again").unwrap();
    got.clear();
    read(&mut link, &mut got).await.unwrap();
    assert_eq!(got, b"again");
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_the_kernel_become_breaks_and_stay_out_of_the_bytes() {
    let fixture = Fixture::new();
    let mut link = fixture.open().await;
    // The kernel marks what the driver of a pty never sees. Without marks of its
    // own the terminal hands on these bytes as they are.
    let slave = File::open(fixture.path()).unwrap();
    let mut termios = tcgetattr(&slave).unwrap();
    termios.input_modes -= InputModes::PARMRK;
    tcsetattr(&slave, OptionalActions::Now, &termios).unwrap();
    let (mut seen, mut breaks) = (Vec::new(), 0);
    for piece in [&b"one\xff"[..], b"\0", b"\0two\xff\0\0\xff\0\0\xff\0a", b"\xff\xff."] {
        (&fixture.far).write_all(piece).unwrap();
    }
    while !seen.ends_with(b".") {
        if read(&mut link, &mut seen).await.unwrap() == Read::Break {
            breaks += 1;
            seen.push(b'!');
        }
    }
    assert_eq!((seen.as_slice(), breaks), (&b"one!two!!a\xff."[..], 3));
    assert_eq!(link.facts().receive_errors, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_is_what_the_kernel_has_and_what_cannot_be_is_told() {
    let fixture = Fixture::new();
    let mut link = fixture.open().await;
    assert_eq!(link.facts().line_settings, Some(LineSettings::default()));
    assert_eq!(link.facts().modem_lines, None);
    let settings = LineSettings {
        baud: 74_880,
        data_bits: DataBits::Eight,
        parity: Parity::None,
        stop_bits: StopBits::Two,
        flow_control: FlowControl::Hardware,
    };
    ask(&mut link, Control::LineSettings(settings)).await.unwrap();
    assert_eq!(link.facts().line_settings, Some(settings));
    let slave = File::open(fixture.path()).unwrap();
    let termios = tcgetattr(&slave).unwrap();
    assert_eq!(termios.output_speed(), 74_880);
    assert!(termios.control_modes.contains(ControlModes::CSTOPB | ControlModes::CLOCAL));
    assert!(!termios.control_modes.contains(ControlModes::HUPCL));
    assert_eq!(termios.special_codes[SpecialCodeIndex::VMIN], 1);

    // A pty has always 8 bits and no parity. It is left as it was.
    let wanted = LineSettings { data_bits: DataBits::Seven, parity: Parity::Even, ..settings };
    let error = ask(&mut link, Control::LineSettings(wanted)).await.unwrap_err();
    let expected = "asked for 74880 7E2 RTS/CTS, the port sets itself to 74880 8N2 RTS/CTS";
    assert_eq!(error, ControlError::Failed(expected.into()));
    assert_eq!(link.facts().line_settings, Some(settings));
    assert_eq!(tcgetattr(&slave).unwrap().output_speed(), 74_880);

    let wanted = LineSettings { stop_bits: StopBits::OnePointFive, ..settings };
    let error = ask(&mut link, Control::LineSettings(wanted)).await.unwrap_err();
    assert!(error.to_string().contains("1.5"), "{error}");
    for control in [
        Control::Break(Duration::from_millis(1)),
        Control::ModemLines { dtr: Some(true), rts: None },
        Control::Window(crate::device::WindowSize { rows: 1, columns: 1 }),
    ] {
        let error = ask(&mut link, control).await.unwrap_err();
        assert_eq!(error, ControlError::Unsupported(control.name()));
    }

    // Somebody else changes it: told to who asks.
    let mut termios = tcgetattr(&slave).unwrap();
    termios.set_speed(9600).unwrap();
    tcsetattr(&slave, OptionalActions::Now, &termios).unwrap();
    poll_fn(|cx| link.poll_look(cx)).await.unwrap();
    assert_eq!(link.facts().line_settings.unwrap().baud, 9600);
    let mut none = Vec::new();
    assert_eq!(read(&mut link, &mut none).await.unwrap(), Read::Changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_belongs_to_one() {
    let fixture = Fixture::new();
    let link = fixture.open().await;
    let other = fixture.dir.path().join("other-name");
    symlink(std::fs::canonicalize(fixture.path()).unwrap(), &other).unwrap();
    for path in [fixture.path(), other.clone()] {
        let error = fixture.dev(&path).open().await.err().unwrap();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        assert!(explain(&error).contains(path.to_str().unwrap()), "{error}");
    }
    // Given back at once.
    drop(link);
    drop(fixture.dev(&other).open().await.unwrap());
    // Others say it in another way, which lets root in.
    ioctl_tiocexcl(File::open(fixture.path()).unwrap()).unwrap();
    let error = fixture.dev(&other).open().await.err().unwrap();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_such_port_is_told_as_what_it_is() {
    let fixture = Fixture::new();
    let file = fixture.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let check = async |path: &Path, kind, expected: &str| {
        let mut dev = fixture.dev(path);
        dev.spec.kind = kind;
        let error = explain(&dev.open().await.err().unwrap());
        assert_eq!(error, format!("{} {expected}", path.display()));
    };
    let null = Path::new("/dev/null");
    check(null, DevKind::Serial, "is a character device, not a terminal").await;
    check(null, DevKind::Parallel, "is a character device, not a parallel printer port").await;
    check(&fixture.path(), DevKind::Parallel, "is a terminal, not a parallel printer port").await;
    check(&file, DevKind::Serial, "is a regular file, not a character device").await;
    let missing = fixture.dev(&fixture.dir.path().join("missing")).open().await.err().unwrap();
    assert!(explain(&missing).contains("No such file"), "{missing}");
    assert_eq!(kind_of(rustix::fs::makedev(6, 1)), Kind::Printer);
}
