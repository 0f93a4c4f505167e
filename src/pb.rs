//! The generated types, clients and servers of `lineman.v1`, and the descriptor
//! set they were made from. Seen by the API, the command line and the
//! composition root only: no other room knows the wire.

#![expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::struct_excessive_bools,
    reason = "generated code"
)]

tonic::include_proto!("lineman.v1");

/// The encoded `FileDescriptorSet` of everything in `proto/`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lineman.bin"));
