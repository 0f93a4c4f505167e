//! libvirt's XML at the command line: the character devices of a real document
//! in libvirt's own form, every fault with its place, and documents that were
//! written to do harm, each refused at once and in little memory.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{LINEMAN, Outcome, peer, run};

/// A document is refused faster than anybody can wonder about it; debug builds
/// and busy machines included.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);
/// Peak of resident memory: about 15 MiB of a debug build before it reads
/// anything, and a small multiple of the largest document, 1 MiB.
const RESIDENT_KIB_MAX: u64 = 48 << 10;

const VM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libvirt/vm.xml");

const VM_STORED: &str = "<serial type='pty'>
  <log file='/var/log/libvirt/build-vm &quot;serial&quot;.log' append='on'/>
  <target type='isa-serial' port='0'>
    <model name='isa-serial'/>
  </target>
</serial>
<serial type='tcp'>
  <source mode='bind' host='127.0.0.1' service='2445' tls='no'/>
  <protocol type='telnet'/>
  <target type='isa-serial' port='1'/>
  <alias name='ua-debug'/>
</serial>
<parallel type='udp'>
  <source mode='bind' host='0.0.0.0' service='5513'/>
  <source mode='connect' host='10.0.0.9' service='5514'/>
  <target port='0'/>
</parallel>
<console type='pty'>
  <log file='/var/log/libvirt/build-vm &quot;serial&quot;.log' append='on'/>
  <target type='serial' port='0'/>
</console>
<console type='file'>
  <source path='/var/log/libvirt/build-vm-hvc.log'/>
  <target type='virtio' port='1'/>
</console>
<channel type='unix'>
  <source mode='bind' path='/run/libvirt/qemu/channel/3-build-vm/org.qemu.guest_agent.0'/>
  <target type='virtio' name='org.qemu.guest_agent.0'/>
  <address type='virtio-serial' controller='0' bus='0' port='1'/>
</channel>
<channel type='spicevmc'>
  <target type='virtio' name='com.redhat.spice.0'/>
  <address type='virtio-serial' controller='0' bus='0' port='2'/>
</channel>
";

/// `lineman libvirt normalize FILE`, in an environment without any server.
fn normalize(file: impl AsRef<Path>) -> Command {
    let mut command = Command::new(LINEMAN);
    command.env_clear().env("HOME", "/nonexistent").args(["libvirt", "normalize"]);
    command.arg(file.as_ref());
    command
}

async fn normalize_text(document: impl AsRef<[u8]>) -> Outcome {
    run(normalize("-"), document).await
}

#[tokio::test]
async fn a_real_domain_comes_out_as_libvirt_stores_it() {
    let stored = run(normalize(VM), "").await.ok();
    assert_eq!(stored, VM_STORED);
    // From a pipe it is the same, and what was printed is normal.
    assert_eq!(normalize_text(fs::read(VM).unwrap()).await.ok(), stored);
    assert_eq!(normalize_text(&stored).await.ok(), stored);
    assert_eq!(normalize_text("<devices/>").await.ok(), "");
}

#[tokio::test]
async fn every_fault_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vm.xml");
    let document = "<devices>
  <serial type='PTY'/>
  <parallel type='file'/>
  <console><target type='virtio'/>
    <log append='\u{9b}31m'/></console>
</devices>";
    fs::write(&file, document).unwrap();
    let told = run(normalize(&file), "").await.fails(65);
    let file = file.display();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert!(
        lines[0].starts_with(&format!("{file}:2:11: type-unknown: type 'PTY' is none")),
        "{told}"
    );
    assert!(lines[1].starts_with(&format!("{file}:5:10: enum: append")), "{told}");
    assert_eq!(lines[2], format!("{file}:3:3: source-path: the source needs a path"));
    assert!(!told.contains('\u{9b}'), "what others wrote drives the terminal");
    let told = normalize_text("<serial").await.fails(65);
    assert!(told.starts_with("-:1:1: xml: "), "{told}");
}

#[tokio::test]
async fn what_cannot_be_read_is_another_failure() {
    let told = run(normalize("/nonexistent/vm.xml"), "").await.fails(1);
    assert!(told.starts_with("lineman: cannot read /nonexistent/vm.xml: "), "{told}");
    run(normalize("/"), "").await.fails(1);
    let mut nothing = Command::new(LINEMAN);
    nothing.args(["libvirt", "normalize"]);
    run(nothing, "").await.fails(2);
}

#[tokio::test]
async fn help_explains_with_an_example() {
    let mut command = Command::new(LINEMAN);
    command.args(["libvirt", "normalize", "--help"]);
    let help = run(command, "").await.ok();
    for wanted in ["virsh dumpxml --inactive vm | lineman libvirt normalize -", "65"] {
        assert!(help.contains(wanted), "{wanted}: {help}");
    }
}

/// Writes a document to the command, as much of it as is taken. Returns what it
/// said with status 65, and how much it took.
#[track_caller]
fn refused(
    python: &Path,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> (String, u64) {
    // A process whose only child is the command tells the peak of that: of this
    // process the servers of other stories are children, too.
    let script = "import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)";
    let begin = Instant::now();
    let mut child = Command::new(python)
        .args(["-c", script, LINEMAN, "libvirt", "normalize", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut counted = Counted { to: child.stdin.take().unwrap(), bytes: 0 };
    // It does not read on once it has seen enough.
    write(&mut counted).ok();
    let taken = counted.bytes;
    drop(counted);
    let output = child.wait_with_output().unwrap();
    let took = begin.elapsed();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let resident_kib: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert_eq!(output.status.code(), Some(65), "{name}: {stderr}");
    println!("{name}: {took:?}, {resident_kib} KiB: {}", stderr.trim_end());
    assert!(took < REFUSED_WITHIN, "{name} took {took:?}");
    assert!(resident_kib < RESIDENT_KIB_MAX, "{name} took {resident_kib} KiB");
    (stderr, taken)
}

struct Counted<W> {
    to: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes += u64::try_from(written).unwrap();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[test]
fn hostile_documents_are_refused_at_once_and_cheaply() {
    let Some(python) = peer("python3") else { return };
    let lol: String = (1..10)
        .map(|n| format!("<!ENTITY l{n} \"{}\">", format!("&l{};", n - 1).repeat(10)))
        .collect();
    let laughs = format!("<!DOCTYPE l [<!ENTITY l0 \"lol\">{lol}]><serial type='&l9;'/>");
    let external = "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>\
                    <serial type='file'><source path='&x;'/></serial>";
    let parameter = "<!DOCTYPE d SYSTEM 'http://127.0.0.1:1/x.dtd'><serial/>";
    // As many attributes as fit, all of them kept until the last was read.
    let mut attributes = String::from("<serial>");
    while attributes.len() < (1 << 20) - 200 {
        attributes.push_str("<source a='' b='' c='' d='' e='' f='' g='' h='' i='' j=''/>");
    }
    attributes.push_str("</serial>");
    let references = format!("<serial type='{}'/>", "&amp;".repeat(200_000));
    for (name, document, class) in [
        ("billion laughs", laughs.as_bytes(), "forbidden"),
        ("external entity", external.as_bytes(), "forbidden"),
        ("external DTD", parameter.as_bytes(), "forbidden"),
        ("depth 100,000", "<serial>".repeat(100_000).as_bytes(), "too-deep"),
        ("NUL", b"<serial type='null\0'/>", "xml"),
        ("bad UTF-8", b"<serial type='\xc3\x28'/>", "xml"),
        ("UTF-16", b"\xff\xfe<\0s\0/\0>\0", "xml"),
        ("10,000 devices", "<serial type='null'/>".repeat(10_000).as_bytes(), "too-many"),
        ("40,000 elements", "<a/>".repeat(40_000).as_bytes(), "too-many"),
        ("many attributes", attributes.as_bytes(), "dup-element"),
        ("references", references.as_bytes(), "too-large"),
        ("one tag", "<".repeat(1 << 20).as_bytes(), "xml"),
        ("one comment", format!("<!--{}", "-".repeat(1 << 19)).as_bytes(), "xml"),
    ] {
        let (told, _) = refused(&python, name, |to| to.write_all(document));
        let told_class = told.split(": ").nth(1);
        assert_eq!(told_class, Some(class), "{name}: {told}");
        assert!(!told.contains("root:"), "{told}");
        assert!(told.len() < 400, "{name}: {told}");
    }
}

#[test]
fn a_document_without_end_is_not_read_to_its_end() {
    let Some(python) = peer("python3") else { return };
    let megabyte = vec![b' '; 1 << 20];
    let (told, taken) = refused(&python, "100 MB", |to| {
        to.write_all(b"<devices>")?;
        (0..100).try_for_each(|_| to.write_all(&megabyte))
    });
    assert_eq!(told, "-:1:1: too-large: more than 1048576 bytes\n");
    // What a pipe holds may have been written and not read.
    assert!(taken < 3 << 20, "{taken} bytes were taken");
}
