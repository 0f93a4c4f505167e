//! Output as text, for people who read JSON: UTF-8 put back together over pieces,
//! so that no character is split; what is not UTF-8 becomes U+FFFD and is marked.

use bytes::Bytes;

use crate::{api::wire, journal::Micros, limits, pb};

/// Turns bytes into text messages.
#[derive(Debug)]
pub(super) struct TextDecoder {
    /// The beginning of a character whose rest has not come: at most 3 bytes.
    held: Vec<u8>,
    held_offset: u64,
    held_time: Micros,
    /// Messages are padded to this; see `limits::WIRE_FRAME_BYTES_MIN`.
    bytes_min: usize,
}

impl Default for TextDecoder {
    fn default() -> Self {
        let bytes_min = limits::WIRE_FRAME_BYTES_MIN;
        Self { held: Vec::new(), held_offset: 0, held_time: 0, bytes_min }
    }
}

impl TextDecoder {
    /// For a read that ends: it does not trickle, and people look at it.
    pub(super) fn without_padding(self) -> Self {
        Self { bytes_min: 0, ..self }
    }

    /// Takes bytes in; what is whole comes out.
    pub(super) fn push(&mut self, offset: u64, time: Micros, data: &[u8]) -> Option<pb::Output> {
        let start = if self.held.is_empty() { offset } else { self.held_offset };
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(data);
        let whole = bytes.len() - unfinished(&bytes);
        self.held = bytes.split_off(whole);
        self.held_offset = start + whole as u64;
        self.held_time = time;
        (!bytes.is_empty()).then(|| output(start, time, &bytes, self.bytes_min))
    }

    /// The first byte that did not come out yet, if one is held.
    pub(super) fn held_from(&self) -> Option<u64> {
        (!self.held.is_empty()).then_some(self.held_offset)
    }

    /// Nothing more follows what came last: the end, or a gap.
    pub(super) fn finish(&mut self) -> Option<pb::Output> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then(|| output(self.held_offset, self.held_time, &held, self.bytes_min))
    }
}

fn output(offset: u64, time: Micros, bytes: &[u8], bytes_min: usize) -> pb::Output {
    let text = String::from_utf8_lossy(bytes);
    let padding = vec![0; bytes_min.saturating_sub(text.len())];
    pb::Output {
        offset,
        receive_time: Some(wire::timestamp(time)),
        padding: padding.into(),
        data: Bytes::new(),
        lossy: std::str::from_utf8(bytes).is_err(),
        length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        text: text.into_owned(),
    }
}

/// Bytes at the end that may be the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let byte = bytes[bytes.len() - back];
        let wanted = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        return if wanted > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> (String, u64, bool) {
        let mut decoder = TextDecoder::default();
        let (mut text, mut offset, mut lossy) = (String::new(), 0, false);
        let mut next = 0;
        let mut outputs = Vec::new();
        for piece in pieces {
            outputs.extend(decoder.push(offset, 0, piece));
            offset += piece.len() as u64;
        }
        outputs.extend(decoder.finish());
        for output in outputs {
            assert_eq!(output.offset, next);
            next += u64::from(output.length);
            text.push_str(&output.text);
            lossy |= output.lossy;
        }
        (text, next, lossy)
    }

    #[test]
    fn what_is_not_text_is_marked() {
        assert_eq!(decode(&[b"ok"]), ("ok".into(), 2, false));
        assert_eq!(decode(&[b"a\xffb"]), ("a\u{fffd}b".into(), 3, true));
        assert!(decode(&[b"\xe2\x82"]).2);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text(text: String, cuts in prop::collection::vec(0usize..200, 0..8)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(decode(&pieces), (text.clone(), bytes.len() as u64, false));
        }
    }
}
