//! A telnet peer that sends whatever the fuzzer makes up: in pieces or at once,
//! we hear the same, and hold no more than the bound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lineman::{
    limits::TELNET_OUTGOING_BYTES_MAX,
    wire::telnet::{ComPortUse, Config, Event, Role, Telnet},
};

fn decode(telnet: &mut Telnet, mut input: &[u8], data: &mut Vec<u8>, events: &mut Vec<Event>) {
    let most = data.len() + input.len() + 1;
    while let Some(event) = telnet.decode(&mut input, data) {
        events.push(event);
    }
    assert!(input.is_empty() && data.len() <= most);
    assert!(telnet.pending() <= TELNET_OUTGOING_BYTES_MAX);
}

fuzz_target!(|input: (bool, bool, Vec<Vec<u8>>)| {
    let (server, com_port, pieces) = input;
    let role = if server { Role::Server } else { Role::Client };
    let com_port = if com_port { ComPortUse::On } else { ComPortUse::Off };
    let new = || Telnet::new(role, Config { com_port });

    let (mut split, mut data, mut events) = (new(), Vec::new(), Vec::new());
    for piece in &pieces {
        decode(&mut split, piece, &mut data, &mut events);
    }
    let (mut whole, mut all_data, mut all_events) = (new(), Vec::new(), Vec::new());
    decode(&mut whole, &pieces.concat(), &mut all_data, &mut all_events);
    assert_eq!(data, all_data);
    assert_eq!(events, all_events);
    assert_eq!(split.answers_dropped(), whole.answers_dropped());

    let (mut wire, mut all_wire) = (Vec::new(), Vec::new());
    split.encode(&data, &mut wire);
    whole.encode(&data, &mut all_wire);
    assert_eq!(wire, all_wire);
});
