//! Messages about a serial port, from whoever: what is parsed is encoded as it
//! was, and neither side minds what the other says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lineman::{
    device::LineSettings,
    wire::rfc2217::{Client, ComPort, Sender, Server},
};

fuzz_target!(|input: Vec<(bool, Vec<u8>)>| {
    let mut client = Client::new(LineSettings::default());
    let mut server = Server::new(LineSettings::default(), "fuzz");
    for (of_server, payload) in input {
        let from = if of_server { Sender::Server } else { Sender::Client };
        let Ok(message) = ComPort::parse(&payload, from) else { continue };
        assert_eq!(ComPort::parse(&message.encode(from), from), Ok(message));
        match from {
            Sender::Client => {
                if let Some(answer) = server.hear(message).answer {
                    client.hear(answer);
                }
            }
            Sender::Server => {
                client.hear(message);
            }
        }
        assert_ne!(server.settings().baud, 0);
    }
});
