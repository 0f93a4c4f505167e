//! Input on its way to the device: what was sent and is not acknowledged, and
//! what waits to be sent.
//!
//! A thing of its own because it keeps the promise about input: what is typed or
//! piped arrives once, in order and whole, or it is told that it did not. Pure:
//! acks and bytes in, messages out; the clock is a parameter.
//!
//! ```text
//!   base              base + sent              base + bytes
//!    │ sent, not acknowledged │ waits to be sent │
//!    └──── WINDOW_BYTES ──────┘
//! ```
//!
//! A person's keys that cannot be taken now are dropped, because a command that
//! runs minutes after it was typed does harm; a stream waits. Bounds: at most
//! [`WINDOW_BYTES`] are unacknowledged and [`AHEAD_BYTES`] more are held, so that
//! the detach key is seen even while the device takes nothing.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::time::Instant;

use crate::pb::{Input, InputAck, input::Payload, input_ack::Refusal};

/// Unacknowledged input at most; the server holds 64 KiB for an attachment.
const WINDOW_BYTES: usize = 32 * 1024;
/// Keys held beyond the window.
const AHEAD_BYTES: usize = 32 * 1024;
/// One message: small enough that acks come while more is sent.
const MESSAGE_BYTES: usize = 8 * 1024;
/// After a refusal without a sign of progress, input is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The same, if nothing of ours waits in the server and no ack will come.
const TRY_AGAIN_SOON: Duration = Duration::from_millis(50);

/// Where input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody types: what cannot be taken now is dropped.
    Keys,
    /// A pipe or file: what cannot be taken now waits.
    Stream,
}

/// Whether this attachment may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Mine,
    /// It stands in the queue.
    Waiting,
    NotMine,
}

/// What an ack means for the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// Keys are being dropped, since now, for this reason.
    Dropping(Refusal),
    /// A stream cannot be sent, and waiting would not help.
    NotWriter,
}

/// Input of one attachment after another.
#[derive(Debug)]
pub(super) struct Outgoing {
    origin: Origin,
    turn: Turn,
    /// The offset of the first of `bytes` in the attachment's input.
    base: u64,
    bytes: BytesMut,
    /// How many of `bytes` were sent.
    sent: usize,
    pause: Option<Pause>,
    /// Bytes of a stream that may not have arrived, in all attachments.
    uncertain_bytes: u64,
}

/// Why nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    refusal: Refusal,
    until: Instant,
}

impl Outgoing {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            turn: Turn::NotMine,
            base: 0,
            bytes: BytesMut::new(),
            sent: 0,
            pause: None,
            uncertain_bytes: 0,
        }
    }

    /// How many bytes may be read and given to [`Outgoing::push`].
    pub(super) fn room(&self) -> usize {
        let held_max = match self.origin {
            Origin::Keys => WINDOW_BYTES + AHEAD_BYTES,
            Origin::Stream => WINDOW_BYTES,
        };
        held_max.saturating_sub(self.bytes.len())
    }

    /// Takes what was read. Keys are dropped while the device cannot take them,
    /// but tried again now and then.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant) {
        let dropped = self.is_dropping() && self.pause.is_some_and(|pause| now < pause.until);
        if !dropped {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Whether a message can be sent now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        let in_window = self.sent < self.bytes.len().min(WINDOW_BYTES);
        let paused = self.pause.is_some_and(|pause| now < pause.until) && !self.is_dropping();
        let must_wait = self.origin == Origin::Stream && self.turn == Turn::Waiting;
        in_window && !paused && !must_wait
    }

    /// When to ask [`Outgoing::is_ready`] again though nothing has happened.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let waits = self.sent < self.bytes.len();
        self.pause.filter(|_| waits).map(|pause| pause.until)
    }

    /// The next message; only if it is ready.
    pub(super) fn next_message(&mut self) -> Input {
        let end = self.bytes.len().min(WINDOW_BYTES);
        let end = end.min(self.sent + MESSAGE_BYTES);
        let data = self.bytes.get(self.sent..end).unwrap_or_default();
        let message = Input {
            offset: Some(self.base + self.sent as u64),
            payload: Some(Payload::Data(Bytes::copy_from_slice(data))),
        };
        self.sent = end;
        message
    }

    /// All was acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The server told how far input has come.
    pub(super) fn on_ack(&mut self, ack: &InputAck, now: Instant) -> Verdict {
        let progress = ack.offset.saturating_sub(self.base);
        let taken = usize::try_from(progress).unwrap_or(usize::MAX);
        let taken = taken.min(self.bytes.len());
        self.bytes.advance(taken);
        self.sent = self.sent.saturating_sub(taken);
        self.base = self.base.max(ack.offset);
        if progress > 0 {
            self.pause = None;
        }
        let refusal = ack.refusal();
        match refusal {
            Refusal::Unspecified => Verdict::Fine,
            Refusal::QueueFull | Refusal::OffsetGap => {
                let nothing_waits = ack.queued_offset <= ack.offset;
                self.send_again(refusal, now, nothing_waits);
                Verdict::Fine
            }
            Refusal::NotWriter | Refusal::NotConnected | Refusal::NoInput => {
                self.on_refusal(refusal, ack, now)
            }
        }
    }

    fn on_refusal(&mut self, refusal: Refusal, ack: &InputAck, now: Instant) -> Verdict {
        match self.origin {
            Origin::Keys => {
                let known = self.pause.is_some_and(|pause| pause.refusal == refusal);
                self.pause = Some(Pause { refusal, until: now + TRY_AGAIN_AFTER });
                self.bytes.clear();
                self.sent = 0;
                // Not the greater of the two: input continues where the server
                // says, even if it knows less than it did.
                self.base = ack.offset;
                if known { Verdict::Fine } else { Verdict::Dropping(refusal) }
            }
            Origin::Stream if refusal == Refusal::NotWriter && self.turn != Turn::Waiting => {
                Verdict::NotWriter
            }
            Origin::Stream => {
                self.send_again(refusal, now, false);
                Verdict::Fine
            }
        }
    }

    /// Goes back to what was not acknowledged, and waits for a sign.
    fn send_again(&mut self, refusal: Refusal, now: Instant, soon: bool) {
        self.sent = 0;
        let wait = if soon { TRY_AGAIN_SOON } else { TRY_AGAIN_AFTER };
        let until = now + wait;
        // Messages on their way are refused too; they do not postpone.
        if self.pause.is_none_or(|pause| pause.until <= now) {
            self.pause = Some(Pause { refusal, until });
        }
    }

    /// The writers or the link changed: what was refused may be taken now.
    pub(super) fn on_change(&mut self, turn: Turn) {
        self.turn = turn;
        self.pause = None;
    }

    /// The attachment is gone. Returns how many bytes were sent and may not have
    /// arrived, and how many keys were never sent; neither is sent again.
    pub(super) fn on_lost(&mut self) -> (u64, u64) {
        let uncertain = self.sent as u64;
        self.bytes.advance(self.sent);
        let unsent = match self.origin {
            Origin::Keys => {
                let unsent = self.bytes.len() as u64;
                self.bytes.clear();
                unsent
            }
            Origin::Stream => {
                self.uncertain_bytes += uncertain;
                0
            }
        };
        self.sent = 0;
        self.base = 0;
        self.pause = None;
        (uncertain, unsent)
    }

    /// Bytes of a stream that may not have arrived.
    pub(super) fn uncertain_bytes(&self) -> u64 {
        self.uncertain_bytes
    }

    /// Bytes that are held and not acknowledged.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn is_dropping(&self) -> bool {
        let refusal = self.pause.map(|pause| pause.refusal);
        self.origin == Origin::Keys
            && matches!(refusal, Some(Refusal::NotWriter | Refusal::NotConnected))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ack(offset: u64, queued_offset: u64, refusal: Refusal) -> InputAck {
        InputAck { offset, queued_offset, refusal: refusal.into() }
    }

    fn sent(outgoing: &mut Outgoing, now: Instant) -> Vec<(u64, Bytes)> {
        let mut messages = Vec::new();
        while outgoing.is_ready(now) {
            let message = outgoing.next_message();
            let Some(Payload::Data(data)) = message.payload else {
                panic!("input is bytes");
            };
            messages.push((message.offset.unwrap(), data));
        }
        messages
    }

    #[test]
    fn no_more_than_the_window_is_unacknowledged() {
        let now = Instant::now();
        let mut keys = Outgoing::new(Origin::Keys);
        keys.push(&vec![b'x'; WINDOW_BYTES + 10], now);
        let bytes: usize = sent(&mut keys, now).iter().map(|(_, data)| data.len()).sum();
        assert_eq!(bytes, WINDOW_BYTES);
        keys.on_ack(&ack(4, 4, Refusal::Unspecified), now);
        let messages = sent(&mut keys, now);
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].0, messages[0].1.len()), (WINDOW_BYTES as u64, 4));
        let mut stream = Outgoing::new(Origin::Stream);
        stream.push(&vec![b'x'; WINDOW_BYTES], now);
        assert_eq!(stream.room(), 0);
    }

    #[test]
    fn what_did_not_fit_is_sent_again_after_progress() {
        let now = Instant::now();
        let mut keys = Outgoing::new(Origin::Keys);
        keys.push(b"abcdef", now);
        sent(&mut keys, now);
        let full = ack(2, 4, Refusal::QueueFull);
        assert_eq!(keys.on_ack(&full, now), Verdict::Fine);
        assert!(sent(&mut keys, now).is_empty());
        keys.on_ack(&ack(3, 4, Refusal::Unspecified), now);
        assert_eq!(sent(&mut keys, now), [(3, Bytes::from_static(b"def"))]);
        // Without progress too, in the end.
        keys.on_ack(&ack(3, 3, Refusal::QueueFull), now);
        assert!(!keys.is_ready(now));
        let later = keys.wake_at().unwrap();
        assert_eq!(sent(&mut keys, later), [(3, Bytes::from_static(b"def"))]);
        keys.on_ack(&ack(3, 3, Refusal::QueueFull), later);
        assert!(!keys.is_ready(later), "each refusal makes it wait");
    }

    #[test]
    fn keys_that_are_refused_are_dropped_and_told_once() {
        let now = Instant::now();
        let mut keys = Outgoing::new(Origin::Keys);
        keys.push(b"ab", now);
        sent(&mut keys, now);
        let refused = ack(1, 1, Refusal::NotWriter);
        let dropping = Verdict::Dropping(Refusal::NotWriter);
        assert_eq!(keys.on_ack(&refused, now), dropping);
        keys.push(b"c", now);
        assert!(keys.is_done(), "dropped");
        let later = now + TRY_AGAIN_AFTER;
        keys.push(b"d", later);
        assert_eq!(sent(&mut keys, later), [(1, Bytes::from_static(b"d"))]);
        assert_eq!(keys.on_ack(&refused, later), Verdict::Fine, "told already");
        keys.on_change(Turn::Mine);
        keys.push(b"e", later);
        assert_eq!(sent(&mut keys, later), [(1, Bytes::from_static(b"e"))]);
        keys.on_ack(&ack(2, 2, Refusal::Unspecified), later);
        assert_eq!(keys.on_ack(&ack(2, 2, Refusal::NotWriter), later), dropping);
    }

    #[test]
    fn a_stream_waits_for_the_link_and_its_turn() {
        let now = Instant::now();
        let mut stream = Outgoing::new(Origin::Stream);
        stream.on_change(Turn::Waiting);
        stream.push(b"abc", now);
        assert!(sent(&mut stream, now).is_empty());
        stream.on_change(Turn::Mine);
        sent(&mut stream, now);
        let closed = ack(1, 1, Refusal::NotConnected);
        assert_eq!(stream.on_ack(&closed, now), Verdict::Fine);
        assert!(sent(&mut stream, now).is_empty());
        stream.on_change(Turn::Mine);
        assert_eq!(sent(&mut stream, now), [(1, Bytes::from_static(b"bc"))]);
        stream.on_change(Turn::NotMine);
        let taken = ack(1, 1, Refusal::NotWriter);
        assert_eq!(stream.on_ack(&taken, now), Verdict::NotWriter);
    }

    #[test]
    fn what_was_in_flight_is_counted_and_never_sent_again() {
        let now = Instant::now();
        let mut keys = Outgoing::new(Origin::Keys);
        keys.push(b"abc", now);
        sent(&mut keys, now);
        keys.on_ack(&ack(1, 3, Refusal::Unspecified), now);
        keys.push(b"de", now);
        assert_eq!(keys.on_lost(), (2, 2));
        assert!(sent(&mut keys, now).is_empty());
        let mut stream = Outgoing::new(Origin::Stream);
        stream.push(b"abc", now);
        sent(&mut stream, now);
        stream.push(b"de", now);
        assert_eq!(stream.on_lost(), (3, 0));
        assert_eq!(stream.uncertain_bytes(), 3);
        assert_eq!(sent(&mut stream, now), [(0, Bytes::from_static(b"de"))]);
    }

    proptest! {
        // A case is thousands of messages.
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Against a server that takes at random and refuses what does not fit,
        /// every byte arrives once and in order.
        #[test]
        fn a_paste_arrives_whole(
            paste in proptest::collection::vec(any::<u8>(), 1..50_000),
            takes in proptest::collection::vec(100_usize..20_000, 1..20),
        ) {
            let mut now = Instant::now();
            let mut outgoing = Outgoing::new(Origin::Stream);
            let (mut accepted, mut written) = (Vec::new(), 0_usize);
            let mut rest = &paste[..];
            let mut takes = takes.iter().cycle();
            for _ in 0..10_000 {
                let (read, left) = rest.split_at(rest.len().min(outgoing.room()));
                rest = left;
                outgoing.push(read, now);
                let mut acks = Vec::new();
                for (offset, data) in sent(&mut outgoing, now) {
                    let offset = usize::try_from(offset).unwrap();
                    let mut refusal = Refusal::Unspecified;
                    if offset > accepted.len() {
                        refusal = Refusal::OffsetGap;
                    } else {
                        let known = (accepted.len() - offset).min(data.len());
                        let free = 10_000 - (accepted.len() - written);
                        let fits = free.min(data.len() - known);
                        accepted.extend_from_slice(&data[known..known + fits]);
                        if known + fits < data.len() {
                            refusal = Refusal::QueueFull;
                        }
                    }
                    acks.push(ack(written as u64, accepted.len() as u64, refusal));
                }
                written += (accepted.len() - written).min(*takes.next().unwrap());
                acks.push(ack(written as u64, accepted.len() as u64, Refusal::Unspecified));
                for ack in &acks {
                    outgoing.on_ack(ack, now);
                }
                now += Duration::from_millis(60);
                if rest.is_empty() && outgoing.is_done() {
                    break;
                }
            }
            prop_assert_eq!(accepted.len(), paste.len());
            prop_assert!(accepted == paste);
            prop_assert!(outgoing.is_done());
        }
    }
}
