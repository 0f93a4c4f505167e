//! The room from outside: messages as they are on the wire, and the two sides
//! against each other.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::{
    Client, ComPort, Control, Error, Heard, LineState, ModemState, Purge, Request, Sender, Server,
    Setting,
};
use crate::{
    device::{DataBits, FlowControl, LineSettings, ModemLines, Parity, StopBits},
    wire::Payload,
};

const DATA_BITS: [DataBits; 4] = [DataBits::Five, DataBits::Six, DataBits::Seven, DataBits::Eight];
const PARITIES: [Parity; 5] =
    [Parity::None, Parity::Odd, Parity::Even, Parity::Mark, Parity::Space];
const STOP_BITS: [StopBits; 3] = [StopBits::One, StopBits::OnePointFive, StopBits::Two];
const FLOWS: [FlowControl; 3] = [FlowControl::None, FlowControl::Software, FlowControl::Hardware];

fn server() -> Server {
    Server::new(LineSettings::default(), "lineman")
}

fn baud(baud: u32) -> ComPort {
    ComPort::Baud(NonZeroU32::new(baud))
}

#[test]
fn messages_are_those_of_the_rfc() {
    let table: [(&[u8], ComPort); 16] = [
        (&[0], ComPort::Signature(Payload::EMPTY)),
        (&[1, 0, 0, 0x25, 0x80], baud(9600)),
        (&[1, 0, 0, 0, 0], ComPort::Baud(None)),
        (&[2, 7], ComPort::DataSize(Setting::Is(DataBits::Seven))),
        (&[2, 0], ComPort::DataSize(Setting::Ask)),
        (&[2, 9], ComPort::DataSize(Setting::Other(9))),
        (&[3, 3], ComPort::Parity(Setting::Is(Parity::Even))),
        (&[4, 3], ComPort::StopSize(Setting::Is(StopBits::OnePointFive))),
        (&[5, 5], ComPort::Control(Control::BreakOn)),
        (&[5, 17], ComPort::Control(Control::Other(17))),
        (&[6, 16], ComPort::LineState(LineState::BREAK)),
        (&[8], ComPort::Suspend),
        (&[9], ComPort::Resume),
        (&[10, 16], ComPort::LineStateMask(LineState::BREAK)),
        (&[11, 255], ComPort::ModemStateMask(ModemState::ALL)),
        (&[12, 3], ComPort::Purge(Purge::Both)),
    ];
    for (bytes, message) in table {
        assert_eq!(ComPort::parse(bytes, Sender::Client), Ok(message));
        assert_eq!(&*message.encode(Sender::Client), bytes);
        let mut of_server = bytes.to_vec();
        of_server[0] += 100;
        assert_eq!(ComPort::parse(&of_server, Sender::Server), Ok(message));
        assert_eq!(&*message.encode(Sender::Server), of_server);
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let table: [(&[u8], Sender, Error); 8] = [
        (&[], Sender::Client, Error::Empty),
        (&[13, 1], Sender::Client, Error::Unknown(13)),
        (&[101, 0, 0, 1, 0], Sender::Client, Error::Unknown(101)),
        (&[1, 0, 0, 1, 0], Sender::Server, Error::Unknown(1)),
        (&[113, 0], Sender::Server, Error::Unknown(113)),
        (&[1, 0, 0, 1], Sender::Client, Error::Short(1)),
        (&[102], Sender::Server, Error::Short(102)),
        (&[107], Sender::Server, Error::Short(107)),
    ];
    for (bytes, from, error) in table {
        assert_eq!(ComPort::parse(bytes, from), Err(error), "{bytes:?}");
    }
    // A signature that does not fit is cut, once.
    let long = ComPort::parse(&[0; 300], Sender::Client).unwrap();
    assert_eq!(ComPort::parse(&long.encode(Sender::Client), Sender::Client), Ok(long));
    // As sredird answers.
    assert_eq!(
        ComPort::parse(&[101, 0, 0, 0x25, 0x80, 0, 0, 0, 0], Sender::Server),
        Ok(baud(9600))
    );
}

#[test]
fn a_port_is_set_as_wanted() {
    let wanted = LineSettings {
        baud: 19_200,
        data_bits: DataBits::Seven,
        parity: Parity::Even,
        stop_bits: StopBits::Two,
        flow_control: FlowControl::Hardware,
    };
    let mut client = Client::new(wanted);
    let mut server = server();
    let opening = client.opening();
    // The five settings, byte for byte as ser2net is known to take them.
    let bytes: Vec<_> = opening[2..].iter().map(|message| message.encode(Sender::Client)).collect();
    let expected: [&[u8]; 5] = [&[1, 0, 0, 0x4B, 0], &[2, 7], &[3, 3], &[4, 2], &[5, 3]];
    assert!(bytes.iter().map(|bytes| &**bytes).eq(expected));

    let mut heard = Vec::new();
    for message in opening {
        let answer = server.hear(message).answer.unwrap();
        heard.extend(client.hear(answer));
    }
    assert_eq!(heard, [Heard::Granted(wanted)]);
    assert_eq!(client.granted(), Some(wanted));
    assert_eq!(server.settings(), wanted);
}

#[test]
fn a_server_that_cannot_is_heard() {
    let mut client = Client::new(LineSettings { baud: 12_345, ..LineSettings::default() });
    let mut server = server();
    for message in client.opening() {
        client.hear(server.hear(message).answer.unwrap());
    }
    // The port took the nearest it has.
    let possible = LineSettings { baud: 9600, ..LineSettings::default() };
    let told = server.set_settings(possible);
    assert_eq!(told, [baud(9600)]);
    assert_eq!(client.hear(told[0]), Some(Heard::Refused));
    assert_eq!(client.granted(), Some(possible));
    // Nothing is said twice.
    assert_eq!(server.set_settings(possible), []);

    // 17: flow control by carrier, which is none of ours.
    assert_eq!(client.hear(ComPort::Control(Control::Other(17))), Some(Heard::Refused));
    let odd = ComPort::Parity(Setting::Other(9));
    assert_eq!(client.hear(odd), Some(Heard::Refused));
    assert_eq!(client.granted(), None, "nobody knows its parity");
}

#[test]
fn other_settings_are_asked_for_anew() {
    let mut client = Client::new(LineSettings::default());
    let mut server = server();
    for message in client.opening() {
        client.hear(server.hear(message).answer.unwrap());
    }
    let wanted = LineSettings { parity: Parity::Odd, ..LineSettings::default() };
    let mut heard = Vec::new();
    let messages = client.want(wanted);
    assert_eq!(client.granted(), None, "until the server has said so");
    for message in messages {
        heard.extend(client.hear(server.hear(message).answer.unwrap()));
    }
    assert_eq!(heard, [Heard::Granted(wanted)]);
}

#[test]
fn a_server_tells_what_is_wanted_of_the_port() {
    let mut server = server();
    let default = LineSettings::default();
    let odd = LineSettings { parity: Parity::Odd, ..default };
    let control = ComPort::Control;
    let rts = ModemLines::RTS;
    let table = [
        // Asking changes nothing.
        (baud(0), Some(baud(115_200)), None),
        (ComPort::Parity(Setting::Ask), Some(ComPort::Parity(Setting::Is(Parity::None))), None),
        (baud(115_200), Some(baud(115_200)), None),
        (
            ComPort::Parity(Setting::Is(Parity::Odd)),
            Some(ComPort::Parity(Setting::Is(Parity::Odd))),
            Some(Request::Settings(odd)),
        ),
        // What it does not know is answered with what it has.
        (ComPort::Parity(Setting::Other(9)), Some(ComPort::Parity(Setting::Is(Parity::Odd))), None),
        (control(Control::Other(19)), Some(control(Control::Flow(FlowControl::None))), None),
        (
            control(Control::InboundFlow(FlowControl::Software)),
            Some(control(Control::InboundFlow(FlowControl::None))),
            None,
        ),
        (control(Control::AskBreak), Some(control(Control::BreakOff)), None),
        (control(Control::BreakOn), Some(control(Control::BreakOn)), Some(Request::BreakOn)),
        (control(Control::AskBreak), Some(control(Control::BreakOn)), None),
        (control(Control::BreakOff), Some(control(Control::BreakOff)), Some(Request::BreakOff)),
        (control(Control::AskDtr), Some(control(Control::DtrOn)), None),
        (control(Control::DtrOff), Some(control(Control::DtrOff)), Some(Request::Lines(rts))),
        (control(Control::DtrOff), Some(control(Control::DtrOff)), None),
        (control(Control::AskDtr), Some(control(Control::DtrOff)), None),
        (
            ComPort::Purge(Purge::Both),
            Some(ComPort::Purge(Purge::Both)),
            Some(Request::Purge(Purge::Both)),
        ),
        (ComPort::Purge(Purge::Other(4)), None, None),
        (ComPort::Suspend, None, Some(Request::Suspend)),
        (ComPort::Resume, None, Some(Request::Resume)),
        (
            ComPort::Signature(Payload::EMPTY),
            Some(ComPort::Signature(Payload::new(b"lineman"))),
            None,
        ),
        (ComPort::Signature(Payload::new(b"me")), None, None),
    ];
    for (message, answer, request) in table {
        let reply = server.hear(message);
        assert_eq!((reply.answer, reply.request), (answer, request), "{message:?}");
    }
}

#[test]
fn lines_and_breaks_are_told_to_who_wants_to_know() {
    let mut server = server();
    let mut client = Client::new(LineSettings::default());
    assert_eq!(server.tell_line(LineState::BREAK), None, "nobody has asked");
    let told = server.set_lines(ModemLines::CTS | ModemLines::CD).unwrap();
    assert_eq!(&*told.encode(Sender::Server), [107, 0b1001_1001]);
    let lines = ModemLines::CTS | ModemLines::CD;
    assert_eq!(client.hear(told), Some(Heard::ModemLines(lines)));
    assert_eq!(client.modem_lines(), lines);
    assert_eq!(server.set_lines(lines), None, "nothing has changed");

    for message in client.opening() {
        server.hear(message);
    }
    let told = server.tell_line(LineState(0x71)).unwrap();
    assert_eq!(told, ComPort::LineState(LineState::BREAK), "and only what was asked for");
    assert_eq!(client.hear(told), Some(Heard::Break));
    assert_eq!(client.hear(ComPort::LineState(LineState(0x61))), None);

    // Asked by itself, as pyserial does: how it is, without a change.
    let reply = server.hear(ComPort::parse(&[7], Sender::Client).unwrap());
    assert_eq!(reply.answer, Some(ComPort::ModemState(ModemState(0b1001_0000))));
    // Our own lines are not the port's to tell.
    assert_eq!(server.set_lines(lines | ModemLines::DTR), None);
    server.hear(ComPort::ModemStateMask(ModemState(0)));
    assert_eq!(server.set_lines(ModemLines::NONE), None);
}

#[test]
fn a_client_holds_back_while_told_to() {
    let mut client = Client::new(LineSettings::default());
    assert!(!client.is_suspended());
    assert_eq!(client.hear(ComPort::Suspend), Some(Heard::Suspended));
    assert!(client.is_suspended());
    assert_eq!(client.hear(ComPort::Resume), Some(Heard::Resumed));
    assert!(!client.is_suspended());
}

#[test]
fn connecting_does_not_touch_the_targets_lines() {
    let client = Client::new(LineSettings::default());
    let mut server = server();
    for message in client.opening() {
        let request = server.hear(message).request;
        assert!(!matches!(request, Some(Request::Lines(_) | Request::BreakOn)), "{message:?}");
    }
    let lines = Client::set_lines(ModemLines::DTR);
    let requests: Vec<_> = lines.iter().filter_map(|line| server.hear(*line).request).collect();
    assert_eq!(requests, [Request::Lines(ModemLines::DTR)]);
}

fn sender() -> impl Strategy<Value = Sender> {
    prop_oneof![Just(Sender::Client), Just(Sender::Server)]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..140),
        (prop_oneof![0_u8..14, 99_u8..114], prop::collection::vec(any::<u8>(), 0..8)).prop_map(
            |(number, mut rest)| {
                rest.insert(0, number);
                rest
            }
        ),
    ]
}

proptest! {
    #[test]
    fn what_is_parsed_is_encoded_as_it_was(bytes in payload(), from in sender()) {
        if let Ok(message) = ComPort::parse(&bytes, from) {
            let encoded = message.encode(from);
            // Up to what stands after the value, or does not fit.
            prop_assert!(bytes.starts_with(&encoded) || bytes == [7]);
            prop_assert_eq!(ComPort::parse(&encoded, from), Ok(message));
        }
    }

    #[test]
    fn settings_read_back_as_written(
        rate in 1_u32..,
        data_bits in prop::sample::select(DATA_BITS.to_vec()),
        parity in prop::sample::select(PARITIES.to_vec()),
        stop_bits in prop::sample::select(STOP_BITS.to_vec()),
        flow_control in prop::sample::select(FLOWS.to_vec()),
    ) {
        let wanted = LineSettings { baud: rate, data_bits, parity, stop_bits, flow_control };
        let client = Client::new(wanted);
        let mut server = server();
        for message in client.opening() {
            let bytes = message.encode(Sender::Client);
            server.hear(ComPort::parse(&bytes, Sender::Client).unwrap());
        }
        prop_assert_eq!(server.settings(), wanted);
    }

    #[test]
    fn modem_lines_read_back_as_told(before in any::<u8>(), now in any::<u8>()) {
        let (before, now) = (ModemState(before).lines(), ModemState(now).lines());
        prop_assert_eq!(ModemState::new(before, now).lines(), now);
    }

    #[test]
    fn neither_side_minds_what_the_other_says(
        messages in prop::collection::vec((payload(), sender()), 0..40),
    ) {
        let mut client = Client::new(LineSettings::default());
        let mut server = server();
        for (bytes, from) in messages {
            match (ComPort::parse(&bytes, from), from) {
                (Ok(message), Sender::Client) => {
                    let reply = server.hear(message);
                    if let Some(answer) = reply.answer {
                        client.hear(answer);
                    }
                }
                (Ok(message), Sender::Server) => {
                    client.hear(message);
                }
                (Err(_), _) => {}
            }
            prop_assert_ne!(server.settings().baud, 0);
        }
    }
}
