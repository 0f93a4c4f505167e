//! Frames: pieces of output that are ready to be sent. The bytes of a frame are
//! made once, with the header that the wire needs in front of them, and shared
//! by every cursor: an attacher adds a reference, not a copy.
//!
//! The journal does not know the wire. Whoever builds the server passes a
//! [`Framer`] that writes the header for given data.

use bytes::{Bytes, BytesMut};

/// Room for a header: gRPC prefix, message and field tags, offset, time, and
/// padding up to `limits::WIRE_FRAME_BYTES_MIN`.
const HEADER_BYTES: usize = 320;

/// Microseconds since the Unix epoch: what a frame's time is measured in.
pub type Micros = u64;

/// What a header tells of the data that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Of the first byte.
    pub offset: u64,
    /// When the first byte was received.
    pub time: Micros,
    /// How many bytes follow.
    pub len: usize,
}

/// Appends the header of a frame.
pub type Framer = fn(FrameHead, &mut BytesMut);

/// One piece of output, ready to be sent. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Frame {
    head: FrameHead,
    wire: Bytes,
}

impl Frame {
    /// Puts a header before a copy of `parts`, one after another.
    pub(super) fn build(framer: Framer, offset: u64, time: Micros, parts: &[&[u8]]) -> Self {
        let len = parts.iter().map(|part| part.len()).sum();
        let head = FrameHead { offset, time, len };
        let mut wire = BytesMut::with_capacity(HEADER_BYTES + len);
        framer(head, &mut wire);
        for part in parts {
            wire.extend_from_slice(part);
        }
        Self { head, wire: wire.freeze() }
    }

    /// Offset of the first byte.
    pub fn offset(&self) -> u64 {
        self.head.offset
    }

    /// Offset after the last byte.
    pub fn end(&self) -> u64 {
        self.head.offset + self.head.len as u64
    }

    /// When the first byte was received.
    pub fn time(&self) -> Micros {
        self.head.time
    }

    /// Bytes of output. Never 0.
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.head.len
    }

    /// The output alone.
    pub fn data(&self) -> &[u8] {
        &self.wire[self.wire.len() - self.head.len..]
    }

    /// Header and output.
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// The part of this frame from `from` to before `to`, as a frame of its own.
    pub(super) fn part(&self, framer: Framer, from: u64, to: u64) -> Self {
        let start = from.max(self.offset());
        let skip = usize::try_from(start - self.offset()).unwrap_or(self.len()).min(self.len());
        let keep = usize::try_from(to.min(self.end()).saturating_sub(start)).unwrap_or(0);
        Self::build(framer, start, self.time(), &[&self.data()[skip..skip + keep]])
    }

    /// Memory that the frame takes, its place in the tail included.
    pub(super) fn cost(&self) -> usize {
        self.wire.len() + size_of::<Self>() + 64
    }
}
