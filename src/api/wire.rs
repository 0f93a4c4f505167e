//! Messages as they stand on the wire: the five bytes that gRPC puts in front
//! (PROTOCOL-HTTP2, "Length-Prefixed-Message") and the protobuf encoding.
//!
//! Output is framed here once, when it comes from the device, with everything
//! that is the same for every attacher; `AttachResponse` and
//! `ReadOutputResponse` carry `output` under the same number so that both can
//! use it. A test holds this hand-written encoding against the generated one.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use crate::{
    journal::{FrameHead, Micros},
    limits::WIRE_FRAME_BYTES_MIN,
};

/// gRPC's flag and length.
const PREFIX_BYTES: usize = 5;
/// `AttachResponse.output` and `ReadOutputResponse.output`.
const OUTPUT: u32 = 2;
/// The fields of `Output`.
const OFFSET: u32 = 1;
const RECEIVE_TIME: u32 = 2;
const PADDING: u32 = 3;
const DATA: u32 = 4;

/// A message with its prefix.
pub(super) fn message(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut wire = BytesMut::with_capacity(PREFIX_BYTES + len);
    put_prefix(len, &mut wire);
    // A BytesMut grows; encoding into it cannot fail.
    message.encode_raw(&mut wire);
    wire.freeze()
}

/// The header of an output frame; the data follows it.
pub fn output_header(head: FrameHead, out: &mut BytesMut) {
    let time = timestamp(head.time);
    let time_len = time.encoded_len();
    let fields_len = varint_field_len(head.offset) + bytes_field_len(time_len);
    let data_len = bytes_field_len(head.len);
    let bare = PREFIX_BYTES + bytes_field_len(fields_len + data_len);
    // The filler's own key and length, and the longer lengths around it, may
    // bring a frame a few bytes above the least.
    let filler = WIRE_FRAME_BYTES_MIN.checked_sub(bare).map(|missing| missing.saturating_sub(2));
    let output_len = fields_len + filler.map_or(0, bytes_field_len) + data_len;

    put_prefix(bytes_field_len(output_len), out);
    encode_key(OUTPUT, WireType::LengthDelimited, out);
    encode_varint(output_len as u64, out);
    encode_key(OFFSET, WireType::Varint, out);
    encode_varint(head.offset, out);
    encode_key(RECEIVE_TIME, WireType::LengthDelimited, out);
    encode_varint(time_len as u64, out);
    time.encode_raw(out);
    if let Some(filler) = filler {
        encode_key(PADDING, WireType::LengthDelimited, out);
        encode_varint(filler as u64, out);
        out.put_bytes(0, filler);
    }
    encode_key(DATA, WireType::LengthDelimited, out);
    encode_varint(head.len as u64, out);
}

/// A frame's time as the API gives it.
pub(super) fn timestamp(time: Micros) -> prost_types::Timestamp {
    const MICROS: u64 = 1_000_000;
    prost_types::Timestamp {
        seconds: i64::try_from(time / MICROS).unwrap_or(i64::MAX),
        nanos: i32::try_from(time % MICROS * 1000).unwrap_or(0),
    }
}

fn put_prefix(len: usize, out: &mut BytesMut) {
    out.put_u8(0);
    // Frames and messages are bounded far below 4 GiB.
    out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// Key, length and value of a bytes field with a number below 16.
fn bytes_field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// Key and value of a varint field with a number below 16.
fn varint_field_len(value: u64) -> usize {
    1 + encoded_len_varint(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pb;

    proptest! {
        #[test]
        fn frames_are_what_the_generated_code_reads(
            offset: u64,
            time in 0u64..=4_102_444_800_000_000,
            data in prop::collection::vec(any::<u8>(), 1..600),
        ) {
            let mut wire = BytesMut::new();
            output_header(FrameHead { offset, time, len: data.len() }, &mut wire);
            wire.extend_from_slice(&data);
            prop_assert!(wire.len() >= WIRE_FRAME_BYTES_MIN && wire.len() < 600 + 320);
            prop_assert_eq!(wire[0], 0);
            let len = u32::from_be_bytes([wire[1], wire[2], wire[3], wire[4]]) as usize;
            prop_assert_eq!(len, wire.len() - PREFIX_BYTES);
            let attach = pb::AttachResponse::decode(&wire[PREFIX_BYTES..]).unwrap();
            let read = pb::ReadOutputResponse::decode(&wire[PREFIX_BYTES..]).unwrap();
            let Some(pb::attach_response::Message::Output(output)) = attach.message else { panic!() };
            prop_assert_eq!(
                Some(pb::read_output_response::Message::Output(output.clone())),
                read.message
            );
            prop_assert_eq!(output.offset, offset);
            prop_assert_eq!(output.data, data);
            prop_assert_eq!(output.receive_time, Some(timestamp(time)));
        }
    }
}
