//! Datagrams that claim to be of a kernel: whatever they say, one message is
//! held at most, and it is no longer than the bound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lineman::{
    limits::{NETCONSOLE_MISSING_MAX, NETCONSOLE_RECORD_BYTES_MAX},
    wire::netconsole::{Receiver, Record},
};

fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    let mut receiver = Receiver::default();
    for datagram in &datagrams {
        let Ok(record) = Record::parse(datagram) else { continue };
        assert!(record.text().len() <= datagram.len());
        let _keys = record.dictionary().count();
        let taken = receiver.take(record);
        for record in taken.torn.iter().chain(&taken.record) {
            assert!(record.body.len() <= NETCONSOLE_RECORD_BYTES_MAX.max(datagram.len()));
        }
        assert!(taken.missing <= NETCONSOLE_MISSING_MAX + 1);
    }
    assert!(receiver.abandon().is_none_or(|torn| torn.body.len() < NETCONSOLE_RECORD_BYTES_MAX));
});
