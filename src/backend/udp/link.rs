//! The link: each datagram becomes a record of output, input becomes datagrams.
//!
//! What was lost is told before what came after it: datagrams that the kernel had
//! no room for, and messages of a netconsole whose numbers are missing. Then the
//! datagram at hand has to wait a turn, so it is copied; without losses nothing
//! is.
//!
//! A single byte is given as such and not as a record: a UART's emulation sends a
//! datagram a byte (QEMU does), and a record each would cost the journal
//! seventeen bytes for one.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::io::Errno;
use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    super::{Allow, Error, Link, Read},
    senders::{Sender, Senders},
    socket::{Datagram, Socket},
    strangers::Strangers,
};
use crate::{
    device::{Facts, UdpFormat},
    limits,
    telemetry::Metrics,
    wire::netconsole::{Record, Taken},
};

/// Times that a datagram is offered when what comes back is an error. An error
/// (ICMP) is of an earlier datagram, and the one at hand was not sent.
const SEND_ATTEMPTS: usize = 3;

/// A socket with its senders.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: Socket,
    /// Where input goes, and the only one who is heard then.
    peer: Option<SocketAddr>,
    format: UdpFormat,
    allow: Arc<Allow>,
    strangers: Arc<Strangers>,
    metrics: Arc<Metrics>,
    senders: Senders,
    /// What was made of datagrams that are read, in order: a few at most.
    ready: VecDeque<Ready>,
    /// Bytes of a datagram of input.
    datagram_bytes: usize,
    /// When the oldest unfinished message has waited long enough; unset while
    /// there is none.
    unfinished: Option<Pin<Box<Sleep>>>,
    /// Whether the status has something new to tell.
    changed: bool,
}

#[derive(Debug)]
enum Ready {
    Lost(u64),
    Record(Vec<u8>),
}

impl Datagrams {
    pub(super) fn new(
        socket: Socket,
        peer: Option<SocketAddr>,
        format: UdpFormat,
        allow: Arc<Allow>,
        strangers: Arc<Strangers>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            socket,
            peer,
            format,
            allow,
            strangers,
            metrics,
            senders: Senders::new(peer),
            ready: VecDeque::new(),
            datagram_bytes: limits::DATAGRAM_BYTES_MAX,
            unfinished: None,
            changed: false,
        }
    }

    fn hears(&self, from: SocketAddr) -> bool {
        match self.peer {
            // The kernel sees to it, but for what came before it was connected.
            Some(peer) => (peer.ip(), peer.port()) == (from.ip(), from.port()),
            None => self.allow.sender(from.ip()),
        }
    }

    /// Makes of a datagram what is to be told of it; what is told at once needs
    /// no copy.
    fn take(&mut self, datagram: Datagram, bytes: &[u8]) -> Option<Read> {
        if datagram.lost > 0 {
            self.metrics.datagrams_overrun.inc_by(datagram.lost);
            self.ready.push_back(Ready::Lost(datagram.lost));
        }
        if !self.hears(datagram.from) {
            self.metrics.datagrams_refused.inc();
            self.strangers.meet(datagram.from);
            return None;
        }
        let (sender, displaced) = self.senders.heard(datagram.from);
        sender.peer.output_bytes += bytes.len() as u64;
        sender.peer.record_count += 1;
        if !sender.peer.description.is_empty() {
            // It is there after all.
            sender.peer.description.clear();
            self.changed = true;
        }
        if let Some(torn) = displaced {
            push_torn(&mut self.ready, &torn);
        }
        if bytes.is_empty() {
            return None;
        }
        if self.format == UdpFormat::Netconsole
            && let Ok(record) = Record::parse(bytes)
        {
            let since = take_message(sender, record, &mut self.ready);
            if let Some(since) = since {
                let due = since + limits::FRAGMENT_TIMEOUT;
                self.unfinished.get_or_insert_with(|| Box::pin(sleep_until(due)));
            }
            return None;
        }
        if self.ready.is_empty() {
            return Some(if bytes.len() == 1 { Read::Bytes } else { Read::Record });
        }
        self.ready.push_back(Ready::Record(bytes.to_vec()));
        None
    }

    /// Gives out messages whose rest has not come; pending if there is none yet.
    fn poll_unfinished(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.unfinished else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for sender in self.senders.iter_mut() {
            let Some(since) = sender.unfinished else { continue };
            let due = since + limits::FRAGMENT_TIMEOUT;
            if due > now {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            sender.unfinished = None;
            if let Some(torn) = sender.kernel.abandon() {
                sender.peer.lost_count += 1;
                push_torn(&mut self.ready, &torn);
            }
        }
        match next {
            Some(due) => timer.as_mut().reset(due),
            None => self.unfinished = None,
        }
        Poll::Ready(())
    }

    /// An error that is of one datagram and not of the socket.
    fn note_trouble(&mut self, error: &io::Error) {
        self.metrics.datagrams_failed.inc();
        if let Some(Sender { peer, .. }) = self.senders.target() {
            let trouble = error.to_string();
            self.changed |= peer.description != trouble;
            peer.description = trouble;
        }
    }
}

impl Link for Datagrams {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<Read, Error>> {
        for _ in 0..limits::DATAGRAMS_SKIPPED_MAX {
            match self.ready.pop_front() {
                Some(Ready::Lost(n)) => return Poll::Ready(Ok(Read::Lost(n))),
                Some(Ready::Record(bytes)) => {
                    // Never longer than a datagram, for which there is room.
                    buf.put_slice(&bytes[..bytes.len().min(buf.remaining())]);
                    return Poll::Ready(Ok(Read::Record));
                }
                None if self.changed => {
                    self.changed = false;
                    return Poll::Ready(Ok(Read::Changed));
                }
                None => {}
            }
            match self.socket.poll_receive(cx, buf) {
                Poll::Ready(Ok(datagram)) => {
                    if let Some(read) = self.take(datagram, buf.filled()) {
                        return Poll::Ready(Ok(read));
                    }
                    buf.clear();
                }
                Poll::Ready(Err(error)) if is_of_one_datagram(&error) => self.note_trouble(&error),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::Broken(error))),
                Poll::Pending => ready!(self.poll_unfinished(cx)),
            }
        }
        // The others of this task come first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        if self.peer.is_none() {
            return Poll::Ready(Err(Error::Broken(io::ErrorKind::Unsupported.into())));
        }
        let mut attempts = 0;
        loop {
            let n = data.len().min(self.datagram_bytes);
            match ready!(self.socket.poll_send(cx, &data[..n])) {
                Ok(_) => return Poll::Ready(Ok(n)),
                Err(error)
                    if is(&error, Errno::MSGSIZE)
                        && self.datagram_bytes > limits::DATAGRAM_BYTES_MIN =>
                {
                    self.datagram_bytes = limits::DATAGRAM_BYTES_MIN;
                }
                Err(error) if is_of_one_datagram(&error) => {
                    self.note_trouble(&error);
                    attempts += 1;
                    if attempts == SEND_ATTEMPTS {
                        // Gone, as datagrams go.
                        return Poll::Ready(Ok(n));
                    }
                }
                Err(error) => return Poll::Ready(Err(Error::Broken(error))),
            }
        }
    }

    fn takes_input(&self) -> bool {
        self.peer.is_some()
    }

    fn facts(&self) -> Facts {
        Facts { peers: self.senders.peers(), ..Facts::default() }
    }
}

/// Takes a kernel's message in. Since when one waits for its rest, if one does.
fn take_message(
    sender: &mut Sender,
    record: Record<'_>,
    ready: &mut VecDeque<Ready>,
) -> Option<Instant> {
    let is_part = record.fragment.is_some();
    let Taken { torn, missing, record, left_out } = sender.kernel.take(record);
    if let Some(torn) = &torn {
        sender.peer.lost_count += 1;
        push_torn(ready, torn);
    }
    if missing > 0 {
        sender.peer.lost_count += missing;
        ready.push_back(Ready::Lost(missing));
    }
    if let Some(record) = &record {
        ready.push_back(Ready::Record(line(record)));
    }
    if left_out {
        return sender.unfinished;
    }
    let before = sender.unfinished.filter(|_| torn.is_none());
    let waits = is_part && record.is_none();
    sender.unfinished = waits.then(|| before.unwrap_or_else(Instant::now));
    sender.unfinished
}

/// A message whose end is missing: what there is of it, and one record lost.
fn push_torn(ready: &mut VecDeque<Ready>, torn: &Record<'_>) {
    ready.push_back(Ready::Record(line(torn)));
    ready.push_back(Ready::Lost(1));
}

/// A message as the kernel's own console shows it.
fn line(record: &Record<'_>) -> Vec<u8> {
    let mut line = record.text().into_owned();
    line.push(b'\n');
    line
}

/// Whether an error says that a datagram did not get through, now or earlier
/// (udp(7), icmp(7)), and nothing of the socket. What is not here ends the link,
/// and a new socket is made.
fn is_of_one_datagram(error: &io::Error) -> bool {
    [
        Errno::CONNREFUSED,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::NETDOWN,
        Errno::NONET,
        Errno::NOPROTOOPT,
        Errno::PROTO,
        Errno::OPNOTSUPP,
        Errno::MSGSIZE,
        // A firewall of this host, or one on the way.
        Errno::PERM,
        Errno::ACCESS,
        // No room just now.
        Errno::NOBUFS,
        Errno::NOMEM,
        // The neighbour did not answer.
        Errno::TIMEDOUT,
    ]
    .iter()
    .any(|errno| is(error, *errno))
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
