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
