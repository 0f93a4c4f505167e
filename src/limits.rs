//! Every bound of the program, each with its reason. A bound that can be hit
//! has a counter in `telemetry::Metrics`; ARCHITECTURE.md adds them up to a
//! memory sum.

use std::time::Duration;

// === the journal ===

/// Disk bytes (index included) of a device that does not say: 10,000 devices
/// then fit in 160 GB, and each keeps several thousand boots' worth of a
/// serial console.
pub const RETENTION_BYTES_DEFAULT: u64 = 16 << 20;
/// Least retention that leaves room for several segments.
pub const RETENTION_BYTES_MIN: u64 = 64 << 10;
/// Most retention: beyond this a typing error is more likely than a wish.
pub const RETENTION_BYTES_MAX: u64 = 1 << 50;
/// A segment is this part of the retention, so that deleting the oldest one
/// never removes more than an eighth of the history.
pub const SEGMENTS_PER_RETENTION: u64 = 8;
/// Largest gap that is kept as a hole in a segment; output after a longer one
/// begins a new segment. A hole counts against the retention with its length,
/// so that it must not be long; a segment takes files, so that a device that
/// loses output all the time must not begin one at each gap.
pub const HOLE_BYTES_MAX: u64 = 64 << 10;
/// What a segment counts against the retention at least: a block for each of
/// its two files. Bounds how many there are of a device with long gaps.
pub const SEGMENT_BYTES_MIN: u64 = 8 << 10;
/// Largest segment file: what a pager opens at once without complaint.
pub const SEGMENT_BYTES_MAX: u64 = 32 << 20;

/// Largest frame of the tail: pieces are joined up to here. Measured: joining
/// gains nothing above 16–32 KiB.
pub const FRAME_BYTES_MAX: usize = 16 << 10;
/// Most small frames at the end of the tail before they are joined: bounds the
/// bookkeeping of a device that speaks byte by byte.
pub const SMALL_FRAMES_MAX: usize = 64;
/// Frames on the wire are at least this long: HTTP/2 receivers built on h2
/// count shorter DATA frames as a flood and end the connection when a slow
/// reader has let too many of them pile up (h2 0.4.16 and later, threshold 256).
pub const WIRE_FRAME_BYTES_MIN: usize = 256;
/// Memory of one tail while its device speaks: 25 ms of the fastest pty, so
/// that cursors of a busy device rarely need the disk.
pub const TAIL_BYTES_MAX: usize = 2 << 20;
/// Memory of all tails together; past it each keeps [`TAIL_BYTES_MIN`].
pub const TAILS_BYTES_MAX: usize = 256 << 20;
/// Memory of one tail when the budget is used up.
pub const TAIL_BYTES_MIN: usize = 64 << 10;
/// A tail whose device has been quiet for this long is dropped; cursors then
/// read from disk.
pub const TAIL_QUIET: Duration = Duration::from_secs(2);
/// Output that may wait for the disk before the line waits too.
pub const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
/// How long a line waits for the disk before output goes to attachers from
/// memory and the journal is marked degraded.
pub const DISK_STALL: Duration = Duration::from_millis(250);
/// How often a degraded journal tries the disk again.
pub const DISK_RETRY: Duration = Duration::from_secs(1);
/// Threads that write journals. Two, so that one slow file does not hold up
/// every device and small machines are not crowded.
pub const SCRIBES: usize = 2;
/// Journals that one scribe keeps open between writes (two files each).
pub const OPEN_SEGMENTS_MAX: usize = 512;
/// Bytes written in one go before the scribe looks after the next device.
pub const SCRIBE_TURN_BYTES: usize = 256 << 10;
/// Bytes that a cursor reads from disk at once: with the send buffer this is
/// what a stuck attacher holds.
pub const DISK_READ_BYTES: usize = 32 << 10;
/// Output read back from disk that a journal keeps for other cursors.
pub const REREAD_BYTES_MAX: usize = 2 << 20;
/// How far `last_lines` looks back.
pub const LAST_LINES_BYTES_MAX: u64 = 16 << 20;
/// After a power loss, or whenever it is not certain which offsets were given
/// out, offsets go on this much further: more than a device can say between
/// two writes of the operating system.
pub const OFFSET_JUMP: u64 = 1 << 32;

// === the line ===

/// Commands waiting for one line. The line never waits for an attacher, so the
/// queue is short-lived; senders wait.
pub const LINE_COMMANDS: usize = 64;
/// Input that one line holds for a far side that is slow to take it.
pub const LINE_INPUT_BYTES_MAX: usize = 64 << 10;
/// Controls (breaks, line settings) that wait for one line: each takes moments.
pub const LINE_CONTROLS: usize = 16;
/// How long the other end may take to do what a control asks, beside the length
/// of a break.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// Shortest and longest break, and the usual one (termios: 250 to 500 ms).
pub const BREAK_MIN: Duration = Duration::from_millis(1);
/// See [`BREAK_MIN`].
pub const BREAK_MAX: Duration = Duration::from_secs(10);
/// See [`BREAK_MIN`].
pub const BREAK_DEFAULT: Duration = Duration::from_millis(250);
/// How long after its bytes a serial port is asked for its modem lines and for
/// what it has lost: often enough for people, and no timer while it is idle.
pub const PORT_LOOK: Duration = Duration::from_secs(1);
/// How long a serial port that is closed may go on sending what it took: some
/// 100 bytes at 1200 baud, a screen at 115200. The kernel alone would wait 30 s.
pub const PORT_CLOSE_DRAIN: Duration = Duration::from_secs(1);
/// Between two attempts to write to a printer that takes nothing now.
pub const PRINTER_RETRY: Duration = Duration::from_millis(100);
/// A far side that has ended its sending gets input that was queued already for
/// this long; then the link ends, so that it holds no place for ever.
pub const HALF_CLOSE_DRAIN: Duration = Duration::from_secs(1);
/// Far sides of one link: each has buffers, and each gets all input.
pub const LINK_PEERS_MAX: u32 = 16;
/// Senders of datagrams that one device tells apart; the longest silent one
/// makes place.
pub const SENDERS_MAX: usize = 64;
/// Input that one of several far sides of a link may be behind.
pub const PEER_INPUT_BYTES_MAX: usize = 64 << 10;
/// One of several far sides that is that far behind and takes nothing for this
/// long is sent away, so that the others get their input.
pub const PEER_STALL: Duration = Duration::from_secs(10);
/// TLS handshakes in progress of one device that listens; the longest waiting
/// gives way to a newer one, so that nobody keeps the real far side out by
/// connecting and saying nothing.
pub const DEVICE_HANDSHAKES_MAX: usize = 4;
/// What is told of a far side's name: a certificate may hold any amount.
pub const PEER_DESCRIPTION_CHARS_MAX: usize = 128;
/// Room that the kernel is asked for, for datagrams that wait for one device: a
/// second of a loud kernel. It counts its own bookkeeping too and so gives twice
/// as much, and no more than `net.core.rmem_max`.
pub const DATAGRAM_QUEUE_BYTES: usize = 1 << 20;
/// Longest datagram of input: what the least IPv6 path takes without being cut
/// into pieces (RFC 8200 section 5: 1280 bytes, less 48 of headers), so that a
/// lost piece never costs a whole one. A keystroke is never held back for it.
pub const DATAGRAM_BYTES_MAX: usize = 1232;
/// Where even that is refused: what any IPv4 host must take (RFC 1122 section
/// 3.3.2: 576 bytes, less 68 of headers at their longest).
pub const DATAGRAM_BYTES_MIN: usize = 508;
/// Datagrams without output (empty, of strangers) that are looked at in one
/// turn, so that a flood of them stops nothing else.
pub const DATAGRAMS_SKIPPED_MAX: usize = 64;
/// A message of netconsole whose rest has not come for this long is given out as
/// it is: the last one of a crash has no rest.
pub const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a quiet named pipe is looked at: whether it still has its name. The
/// kernel tells nobody. Costs one fstat(2).
pub const PIPE_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes read from a far side at once.
pub const LINE_READ_BYTES: usize = 64 << 10;
/// Longest that a busy device's output is held back to be joined.
pub const JOIN_INTERVAL: Duration = Duration::from_millis(1);
/// Output goes out at once for this long after input: somebody is typing.
pub const TYPING: Duration = Duration::from_millis(100);
/// Least time between two notices of a device whose counters alone changed.
pub const COUNTERS_INTERVAL: Duration = Duration::from_secs(2);
/// Name look-ups at once: each holds a thread, and dead DNS for half a minute.
pub const LOOKUPS_MAX: usize = 32;
/// Longest time to look a name up, and to connect to one of its addresses.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// First delay before a lost host interface is opened again.
pub const RECONNECT_MIN_DEFAULT: Duration = Duration::from_millis(250);
/// Longest delay before a lost host interface is opened again.
pub const RECONNECT_MAX_DEFAULT: Duration = Duration::from_secs(30);
/// A link that stayed up this long makes the next delay the first again.
pub const RECONNECT_RESET_DEFAULT: Duration = Duration::from_secs(10);
/// Bounds of what a spec may set for the three above.
pub const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(10);
/// See [`RECONNECT_DELAY_MIN`].
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(3600);

// === protocols on the wire ===

/// Telnet answers that wait until the peer reads: all that an honest opening
/// makes is below 200 bytes. Answers past it are dropped and counted.
pub const TELNET_OUTGOING_BYTES_MAX: usize = 4 << 10;
/// Longest telnet subnegotiation that is kept. RFC 1091 allows 40 characters,
/// RFC 1073 has 4 bytes; only a signature of RFC 2217 is free text.
pub const SUBNEGOTIATION_BYTES_MAX: usize = 128;
/// A subnegotiation that has not ended after this many bytes was none, and what
/// follows is data again: a lost end must not swallow a console.
pub const SUBNEGOTIATION_SKIP_MAX: usize = 4 << 10;
/// Longest message that netconsole's fragments are joined to: what the kernel
/// formats at most (CONSOLE_EXT_LOG_MAX, PRINTK_MESSAGE_MAX).
pub const NETCONSOLE_RECORD_BYTES_MAX: usize = 8 << 10;
/// Sequence numbers that may be missing at once. More is another kernel or a
/// forged datagram, and says nothing of a loss.
pub const NETCONSOLE_MISSING_MAX: u64 = 1 << 20;
/// What was begun for a far side is waited for when a device is stopped; a disk
/// that hangs longer keeps what it has, and senders are told it was dropped.
pub const LINK_SETTLE: Duration = Duration::from_secs(1);

// === files and logs ===

/// Bytes of one write to a file; one is in flight for each device.
pub const FILE_WRITE_BYTES_MAX: usize = 64 << 10;
/// Threads at once that write files: of the runtime's 512 for blocking work, so
/// that a disk that hangs leaves those that journals are read with.
pub const FILE_THREADS_MAX: usize = 128;
/// How often the path of a file that is being written is walked anew; its name
/// in the folder is looked at before each write.
pub const FOLDER_LOOK: Duration = Duration::from_secs(1);
/// Room that a disk must have before a file on it that could not be written is
/// tried again: a page.
pub const FILE_ROOM_BYTES: u64 = 4 << 10;
/// A domain's log is rolled over at this size (as virtlogd) …
pub const DOMAIN_LOG_BYTES_MAX: u64 = 2 << 20;
/// … into so many old files (as virtlogd) …
pub const DOMAIN_LOGS_KEPT: usize = 3;
/// … and rather after a newline that is this near (as virtlogd).
pub const DOMAIN_LOG_CUT_BYTES: usize = 80;
/// The beginning of a line is held up to here, then it is written as it is: a
/// kill loses no more than this of what one device was told is written.
pub const DOMAIN_LINE_BYTES_MAX: usize = 4 << 10;
/// The beginning of a line is written after so much silence …
pub const DOMAIN_LINE_QUIET: Duration = Duration::from_secs(1);
/// … and at the latest after this long.
pub const DOMAIN_LINE_HELD: Duration = Duration::from_secs(10);
/// Input that waits for the copy of `spec.log`. Output waits in the journal.
pub const LOG_INPUT_BYTES_MAX: usize = 256 << 10;
/// A write of the copy that takes longer than this holds up no input any more.
pub const LOG_STALL: Duration = Duration::from_secs(1);
/// What the copy has not got yet is still written for this long when the device
/// or the server stops.
pub const LOG_DRAIN: Duration = Duration::from_secs(1);
/// First and longest delay before a copy that failed is tried again.
pub const LOG_RETRY_MIN: Duration = Duration::from_secs(1);
/// See [`LOG_RETRY_MIN`].
pub const LOG_RETRY_MAX: Duration = Duration::from_secs(30);

// === attachments ===

/// Attachments of one device.
pub const DEVICE_ATTACHMENTS_MAX: usize = 1_000;
/// Attachments and reads of the server.
pub const ATTACHMENTS_MAX: usize = 20_000;
/// Input of one attachment that waits for the line.
pub const ATTACHMENT_INPUT_BYTES_MAX: usize = 64 << 10;
/// Largest input in one message; also the limit of WriteInput.
pub const INPUT_MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Largest text that names a client to the others.
pub const CLIENT_BYTES_MAX: usize = 128;
/// How long an opened Attach may say nothing before `start`.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How long WriteInput waits for the far side to take its bytes.
pub const WRITE_INPUT_TIMEOUT: Duration = Duration::from_secs(10);

// === devices ===

/// Devices of one server.
pub const DEVICES_MAX: usize = 100_000;
/// Labels of one device (as Kubernetes, in order of magnitude).
pub const LABELS_MAX: usize = 64;
/// Longest label key.
pub const LABEL_KEY_BYTES_MAX: usize = 63;
/// Longest label value.
pub const LABEL_VALUE_BYTES_MAX: usize = 253;
/// Longest description.
pub const DESCRIPTION_BYTES_MAX: usize = 1024;
/// Longest host name (RFC 1035 section 2.3.4).
pub const HOST_BYTES_MAX: usize = 253;
/// Longest path (Linux: PATH_MAX is 4096 with the final NUL).
pub const PATH_BYTES_MAX: usize = 4095;
/// Longest name of a domain: a file's name with room for suffixes.
pub const DOMAIN_NAME_BYTES_MAX: usize = 200;
/// Longest guest's side of a device in libvirt XML: it has the paths of source
/// and log in it, and as much again for the rest.
pub const GUEST_XML_BYTES_MAX: usize = 3 * (PATH_BYTES_MAX + 1);
/// Longest name of a set of credentials.
pub const CREDENTIALS_NAME_BYTES_MAX: usize = 63;
/// Longest name of a group.
pub const GROUP_BYTES_MAX: usize = 32;
/// Bits a second that a line can be set to: what Linux knows by name, 50 to
/// 4,000,000 (termios.h).
pub const BAUD_MIN: u32 = 50;
/// See [`BAUD_MIN`].
pub const BAUD_MAX: u32 = 4_000_000;
/// Longest path of a unix socket (unix(7): 108 with the final NUL).
pub const UNIX_PATH_BYTES_MAX: usize = 107;
/// Longest `request_id`.
pub const REQUEST_ID_BYTES_MAX: usize = 64;
/// Longest filter.
pub const FILTER_BYTES_MAX: usize = 4096;
/// Devices on one page unless asked otherwise.
pub const PAGE_SIZE_DEFAULT: usize = 100;
/// Most devices on one page.
pub const PAGE_SIZE_MAX: usize = 1000;
/// Deletions that a watch can resume across.
pub const TOMBSTONES_MAX: usize = 10_000;
/// Watches of the server.
pub const WATCHES_MAX: usize = 1_000;
/// Devices that one step of a watch looks at.
pub const WATCH_BATCH: usize = 128;
/// Changes that wait for the store's one writer; callers wait.
pub const STORE_QUEUE: usize = 1024;

// === connections ===

/// Open connections.
pub const CONNECTIONS_MAX: usize = 10_000;
/// TLS handshakes in progress: each costs CPU that attachers need.
pub const HANDSHAKES_MAX: usize = 256;
/// A client has this long to finish its TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Of that, this long for its first byte: who says nothing takes no place among
/// the handshakes.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(3);
/// And this long to send the first HTTP bytes; h1 headers too.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which no call with a valid credential came ends after this
/// long: places are for those who may use them. Enough for a health check.
pub const ANONYMOUS_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls at once on one connection.
pub const STREAMS_PER_CONNECTION: u32 = 256;
/// Receive window of one call: input is at most 64 KiB a message.
pub const STREAM_WINDOW: u32 = 64 << 10;
/// Receive window of one connection: all its calls at once, so that one call
/// whose input is not read cannot starve another.
pub const CONNECTION_WINDOW: u32 = STREAMS_PER_CONNECTION * STREAM_WINDOW;
/// What HTTP/2 may hold of one call's output when the peer does not read.
pub const SEND_BUFFER_BYTES: usize = 32 << 10;
/// Largest HTTP/2 frame we ask for and send. Measured: 32 KiB gains 10 %.
pub const HTTP2_FRAME_BYTES: u32 = 32 << 10;
/// Largest header list of a request.
pub const HEADER_LIST_BYTES: u32 = 16 << 10;
/// Streams that a peer may have reset by its own errors before the connection
/// ends (RUSTSEC-2024-0003).
pub const ERROR_RESETS_MAX: usize = 1024;
/// A silent peer is asked after this long …
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and given up after this long.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest request message.
pub const REQUEST_BYTES_MAX: usize = 256 << 10;
/// Largest health request: a service's name, from whoever asks.
pub const HEALTH_REQUEST_BYTES_MAX: usize = 1 << 10;
/// Devices on one page take no more than this, however many were asked for:
/// gRPC clients refuse messages above 4 MiB unless told otherwise.
pub const PAGE_BYTES_MAX: usize = 2 << 20;
/// How long a stopping server waits for its connections.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting pauses when the process is out of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// === libvirt documents ===

/// Largest domain XML that is read: a hundred times a large virtual machine's.
/// Everything that is kept of it borrows from it.
pub const DOMAIN_BYTES_MAX: usize = 1 << 20;
/// Elements within each other: libvirt's own documents have about ten.
pub const DOMAIN_DEPTH_MAX: usize = 32;
/// Elements of a document: a large virtual machine has a few hundred.
pub const DOMAIN_ELEMENTS_MAX: usize = 20_000;
/// Attributes of an element: libvirt's largest has about twenty.
pub const DOMAIN_ATTRIBUTES_MAX: usize = 64;
/// Bytes of a value, references resolved: a path is at most this long (Linux's
/// `PATH_MAX`).
pub const DOMAIN_VALUE_BYTES_MAX: usize = 4 << 10;
/// Character devices of a document, a console that mirrors a serial not counted:
/// several times what any hypervisor gives a guest.
pub const DOMAIN_DEVICES_MAX: usize = 256;
