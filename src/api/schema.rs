//! The API's own description at run time: what fields there are and which of
//! them a caller may set. Field masks are checked and applied with it, so that a
//! field added to the proto needs no code here.

use prost::Message;
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::pb;

/// The description of `Device`.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    device: MessageDescriptor,
}

impl Schema {
    pub(super) fn new() -> Result<Self, DescriptorError> {
        let pool = DescriptorPool::decode(pb::DESCRIPTORS)?;
        let device = pool.get_message_by_name("lineman.v1.Device");
        // The descriptor set is compiled in beside the type it describes.
        let device = device.unwrap_or_else(|| unreachable!("Device is in its own descriptor set"));
        Ok(Self { device })
    }

    /// A device whose fields can be named.
    pub(super) fn dynamic(&self, device: &pb::Device) -> DynamicMessage {
        let bytes = device.encode_to_vec();
        DynamicMessage::decode(self.device.clone(), bytes.as_slice())
            .unwrap_or_else(|_| DynamicMessage::new(self.device.clone()))
    }

    /// And back.
    pub(super) fn generated(&self, device: &DynamicMessage) -> pb::Device {
        pb::Device::decode(device.encode_to_vec().as_slice()).unwrap_or_default()
    }
}
