//! The long help of each command: examples, keys and exit codes.
//!
//! A thing of its own because these texts are as long as man pages and would
//! hide the commands that they explain.

use super::exit;

/// Joins literals with the exit codes, which every page ends with.
macro_rules! page {
    ($name:ident, $text:literal) => {
        pub(super) fn $name() -> String {
            format!(concat!($text, "\n\n{}"), exit::HELP)
        }
    };
}

page!(
    get,
    "\
Examples:
  lineman get devices
  lineman get node7 -o yaml
  lineman get devices -l rack=3 -o wide
  lineman get devices --filter 'state != CONNECTED'
  lineman get devices -o name | xargs -n1 lineman describe

Columns:
  ENDPOINT     the pty to open on the server's host, the peer, or the address
  NEXT-OFFSET  how many bytes the device has said in its life
  ATTACHED     how many attachments are open"
);

page!(
    describe,
    "\
Examples:
  lineman describe node7"
);

page!(
    apply,
    "\
Examples:
  lineman apply -f devices.yaml
  lineman get node7 -o yaml | sed 's/port: 23/port: 24/' | lineman apply -f -
  lineman apply --validate-only -f - <<END
  name: node7
  labels: {{rack: \"3\"}}
  spec:
    tcp: {{host: 10.0.0.7, port: 2001}}
    journal: {{retentionBytes: 67108864}}
  ---
  name: build-vm
  spec: {{pty: {{}}}}
  END"
);

page!(
    attach,
    "\
Keys, if standard input is a terminal:
  ^]        detach at once (--escape chooses another key)
  Enter ~.  detach
  Enter ~?  tell the keys
  Enter ~~  send one ~
Everything else goes to the device, ^C and ^Z too. The ~ counts only at the
beginning of a line that was typed.

A lost connection is opened again, for ever, and output goes on where it
stopped: no byte is lost or repeated. Input is never sent again by itself; if
some may not have arrived, the number of bytes is told. What is typed while
there is no connection, or while somebody else writes, is dropped, and that is
told too. Whoever was writing asks for the right again and waits for it, never
taking it from others.

If standard input is a pipe or file, no key means anything: all of it is sent,
as fast as the device takes it. At its end others may write, and output goes on
unless --exit-on-eof is given. It is an error (8) if some input may not have
arrived or nothing may be written.

Examples:
  lineman attach node7
  lineman attach node7 --tail 100 --mode observe
  lineman attach node7 --from 10m
  lineman attach node7 --mode wait --exit-on-eof < script.txt
  lineman attach node7 < /dev/null >> node7.log"
);

page!(
    logs,
    "\
Output is printed exactly as the device sent it. Bytes that are no longer held
are told on standard error, with their offsets.

Examples:
  lineman logs node7 | less -R
  lineman logs node7 --tail 100 --follow
  lineman logs node7 --since 10m --timestamps
  lineman logs node7 --since 2025-03-01T08:00:00Z --until 2025-03-01T09:00:00Z"
);

page!(
    send,
    "\
Returns when everything was written to the host interface. TEXT is sent as it
is, its words joined by spaces and with no line end; --enter adds the carriage
return that the Enter key sends. Input longer than 64 KiB is sent in pieces, and
others may write in between.

Examples:
  lineman send node7 --enter reboot
  lineman send node7 --mode force --enter
  printf '\\003' | lineman send node7 --file -"
);

page!(
    send_break,
    "\
Returns when the break has ended. It does not wait for input that the device has
not taken: a break is there to get through when nothing else does. Over telnet
the length is up to the other end.

Examples:
  lineman break node7
  lineman break node7 --duration 1s
  lineman break node7 --force"
);

page!(
    line,
    "\
SETTINGS are joined by commas, in any order:
  9600       a speed, in bits a second
  7E1        a character: 5 to 8 bits; parity N(one), E(ven), O(dd), M(ark) or
             S(pace); 1, 1.5 or 2 stop bits
  rtscts     flow control: none, rtscts or xonxoff
Those left out stay as they are. If the port cannot do what is asked, it stays as
it was, and that is told (8).

With flow control by RTS and CTS the port moves RTS by itself.

Examples:
  lineman line node7
  lineman line node7 9600
  lineman line node7 9600,7E1,rtscts
  lineman line node7 --dtr off
  lineman line node7 --rts on --force"
);

page!(
    watch,
    "\
Shows what is there, then every change, until it is stopped. States in between
may be left out, the last one never is. After a lost connection it goes on where
it stopped, or lists again if the server no longer knows, and tells of each
device only what changed.

Examples:
  lineman watch
  lineman watch node7 -o json
  lineman watch --filter 'state != CONNECTED'"
);

page!(
    libvirt_normalize,
    "\
Reads a whole <domain>, its <devices>, or console, serial, parallel and channel
elements in a row, and prints all character devices as libvirt would store them:
with their defaults, port numbers and the console that mirrors the first serial,
and without what libvirt does not keep. No server is asked, and no emulator: what
a hypervisor's driver would add for a machine is not there. A document that does
not say what kind of guest it has is taken for a whole machine (hvm). What was
printed can be read again and stays as it is, but that consoles behind a mirror
that was added now count one further.

Every fault is told on standard error, in the order in which libvirt would meet
them, and nothing is printed on standard output:
  FILE:LINE:COLUMN: CLASS: message
Documents have at most 1 MiB and 256 character devices. A DOCTYPE is refused, and
so are entities.

Examples:
  virsh dumpxml --inactive vm | lineman libvirt normalize -
  lineman libvirt normalize vm.xml > devices.xml
  echo \"<console type='tcp'><source host='h' service='1'/></console>\" |
    lineman libvirt normalize -"
);

page!(
    libvirt_import,
    "\
Reads what `libvirt normalize` reads and makes a device of each console, serial,
parallel and channel, named after the domain, the element and its place among
those: web1-serial0. A console that only shows the first serial is not counted.
All of them are made or, if anything is wrong with any, none; every fault is told
on standard error:
  FILE:LINE:COLUMN: CLASS: message
Labels say where a device came from: domain, element, target-type, target-name,
port and alias. What a server does not serve (vc, spicevmc, spiceport, nmdm,
qemu-vdagent, dbus) is refused by name, and so is a unix without a path: take
these elements out first. Paths and addresses must be among those that the
server's operator allows. A server takes 256 KiB; of more, give it what `libvirt
normalize` prints.

Examples:
  virsh dumpxml --inactive vm | lineman libvirt import -
  lineman libvirt import vm.xml --domain vm2 --validate-only"
);

page!(
    libvirt_export,
    "\
Prints character devices as they stand in the <devices> of a domain. What the
device's spec has no word for, such as aliases and addresses, is as it was
imported. A device that was not imported is a serial. With --live the path of a
pty is there, and the tty attribute of a console at port 0.

Examples:
  lineman libvirt export --domain vm
  lineman libvirt export vm-serial0 --live"
);
