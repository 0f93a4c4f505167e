//! The room from outside: real openings, every way to cut a stream in pieces,
//! and peers that mean ill.

use proptest::prelude::*;

use super::{
    ComPortUse, Config, Event, Note, Role, SendError, Side, Switch, Telnet, TelnetOption,
    WindowSize,
};
use crate::limits::{SUBNEGOTIATION_BYTES_MAX, SUBNEGOTIATION_SKIP_MAX, TELNET_OUTGOING_BYTES_MAX};

const WITH_PORT: Config = Config { com_port: ComPortUse::On };

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// A connection whose opening has been sent.
fn opened(role: Role, config: Config) -> Telnet {
    let mut telnet = Telnet::new(role, config);
    sent(&mut telnet);
    telnet
}

/// What waits to be sent.
fn sent(telnet: &mut Telnet) -> Vec<u8> {
    let mut wire = Vec::new();
    telnet.flush(&mut wire);
    wire
}

fn encode(telnet: &mut Telnet, data: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    telnet.encode(data, &mut wire);
    wire
}

/// Data, and events with how much data came before each.
#[derive(Debug, Default, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    events: Vec<(usize, Event)>,
}

fn decode_onto(telnet: &mut Telnet, mut input: &[u8], decoded: &mut Decoded) {
    while let Some(event) = telnet.decode(&mut input, &mut decoded.data) {
        decoded.events.push((decoded.data.len(), event));
    }
    assert_eq!(input, b"");
}

fn decode(telnet: &mut Telnet, input: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    decode_onto(telnet, input, &mut decoded);
    decoded
}

/// Both sides have said all they have to say, without data.
fn settle(left: &mut Telnet, right: &mut Telnet) -> usize {
    let mut bytes = 0;
    loop {
        let (from_left, from_right) = (sent(left), sent(right));
        if from_left.is_empty() && from_right.is_empty() {
            return bytes;
        }
        bytes += from_left.len() + from_right.len();
        assert!(bytes < 100_000, "they talk in circles");
        assert_eq!(decode(right, &from_left).data, b"");
        assert_eq!(decode(left, &from_right).data, b"");
    }
}

fn binary(role: Role) -> Telnet {
    let mut telnet = opened(role, Config::default());
    decode(&mut telnet, &hex("fffd00 fffb00"));
    sent(&mut telnet);
    assert!(telnet.is_on(Side::Us, TelnetOption::Binary));
    assert!(telnet.is_on(Side::Them, TelnetOption::Binary));
    telnet
}

#[test]
fn data_is_given_as_it_was_meant() {
    // Received, in NVT mode, and in binary.
    let table: [(&[u8], &[u8], &[u8]); 12] = [
        (b"login: ", b"login: ", b"login: "),
        (b"a\r\nb\n", b"a\r\nb\n", b"a\r\nb\n"),
        (b"a\r\0b", b"a\rb", b"a\r\0b"),
        (b"\r\0\0", b"\r\0", b"\r\0\0"),
        (b"\r\r\0\0", b"\r\r\0", b"\r\r\0\0"),
        (b"\0a\0", b"\0a\0", b"\0a\0"),
        (b"\xFF\xFF", b"\xFF", b"\xFF"),
        (b"\r\xFF\xFF\0", b"\r\xFF\0", b"\r\xFF\0"),
        // A command parts neither data nor a CR from its NUL, and eats none.
        (b"a\xFF\xF1b", b"ab", b"ab"),
        (b"\r\xFF\xF1\0b", b"\rb", b"\r\0b"),
        (b"a\xFF\xF2\xFF\xF5\xFF\xF7\xFF\xF8\xFF\xF9\xFF\xEF\xFF\xECb", b"ab", b"ab"),
        (b"a\xFF\xF0b", b"ab", b"ab"),
    ];
    for (input, nvt, plain) in table {
        let mut telnet = opened(Role::Client, Config::default());
        assert_eq!(decode(&mut telnet, input), Decoded { data: nvt.into(), events: vec![] });
        let decoded = decode(&mut binary(Role::Client), input);
        assert_eq!(decoded, Decoded { data: plain.into(), events: vec![] });
    }
}

#[test]
fn a_peer_that_does_not_double_keeps_its_bytes() {
    let mut telnet = binary(Role::Client);
    let decoded = decode(&mut telnet, b"\xFFA\xFF\rB");
    assert_eq!(decoded.data, b"\xFFA\xFF\rB");
    let note = Event::Note(Note::LoneIac);
    assert_eq!(decoded.events, [(1, note), (3, note)]);
}

#[test]
fn events_stand_where_they_came() {
    let mut telnet = opened(Role::Server, Config::default());
    let decoded = decode(&mut telnet, b"b\xFF\xF3t\xFF\xF4\xFF\xF6s");
    assert_eq!(decoded.data, b"bts");
    let events = [(1, Event::Break), (2, Event::InterruptProcess), (2, Event::AreYouThere)];
    assert_eq!(decoded.events, events);
    // Nothing that could be taken for input.
    assert_eq!(sent(&mut telnet), hex("fff1"));
}

#[test]
fn what_is_sent_follows_the_mode() {
    let table: [(&[u8], &[u8], &[u8]); 7] = [
        (b"ls\r", b"ls\r\0", b"ls\r"),
        (b"a\r\nb", b"a\r\nb", b"a\r\nb"),
        (b"a\nb", b"a\nb", b"a\nb"),
        (b"\r\r\n", b"\r\0\r\n", b"\r\r\n"),
        (b"\xFF\xFF", b"\xFF\xFF\xFF\xFF", b"\xFF\xFF\xFF\xFF"),
        (b"\r\xFF", b"\r\0\xFF\xFF", b"\r\xFF\xFF"),
        (b"", b"", b""),
    ];
    for (data, nvt, plain) in table {
        assert_eq!(encode(&mut opened(Role::Client, Config::default()), data), nvt);
        assert_eq!(encode(&mut binary(Role::Client), data), plain);
    }
}

#[test]
fn commands_go_before_the_data_that_follows_them() {
    let mut telnet = binary(Role::Client);
    telnet.send_break().unwrap();
    assert_eq!(encode(&mut telnet, b"h"), b"\xFF\xF3h");
    // What tells that we leave binary mode comes before what is no longer it.
    telnet.want(Side::Us, TelnetOption::Binary, Switch::Off).unwrap();
    assert_eq!(encode(&mut telnet, b"\r"), b"\xFF\xFC\x00\r\0");
}

#[test]
fn qemus_server_is_answered_with_nothing_that_reaches_the_guest() {
    let mut telnet = Telnet::new(Role::Client, Config::default());
    assert_eq!(telnet.pending(), 0, "a client is quiet");
    let decoded = decode(&mut telnet, &hex("fffb01 fffb03 fffb00 fffd00"));
    assert_eq!(decoded.data, b"");
    let answer = sent(&mut telnet);
    assert_eq!(answer, hex("fffd01 fffd03 fffd00 fffb00"));
    assert!(answer.chunks(3).all(|command| command[0] == 0xFF && command[1] >= 251));
    // CR NUL would reach the guest as two bytes.
    assert_eq!(encode(&mut telnet, b"\r"), b"\r");
}

#[test]
fn inetutils_telnet_is_understood() {
    let mut telnet = Telnet::new(Role::Server, Config::default());
    assert_eq!(sent(&mut telnet), hex("fffb01 fffb03 fffb00 fffd00 fffd1f"));
    // Its answer to just this, captured.
    let answer = hex("fffd01 fffd03 fffd00 fffb00 fffb1f fffa1f00500018fff0");
    let decoded = decode(&mut telnet, &answer);
    assert_eq!(decoded.data, b"");
    let window = Event::WindowSize(WindowSize { columns: 80, rows: 24 });
    assert_eq!(decoded.events.last(), Some(&(0, window)));
    assert_eq!(telnet.pending(), 0, "all was agreed in one round");

    // And if it offers its terminal's name, also captured.
    decode(&mut telnet, &hex("fffb18"));
    assert_eq!(sent(&mut telnet), hex("fffd18 fffa1801fff0"));
    let decoded = decode(&mut telnet, b"\xFF\xFA\x18\x00XTERM\xFF\xF0");
    let [(0, Event::TerminalType(name))] = decoded.events[..] else { panic!("{decoded:?}") };
    assert_eq!(&*name, b"XTERM");
}

#[test]
fn pyserials_opening_gets_all_it_waits_for() {
    let mut telnet = Telnet::new(Role::Server, WITH_PORT);
    assert_eq!(sent(&mut telnet), hex("fffb01 fffb03 fffb00 fffd00 fffd1f fffd2c"));
    // DO ECHO, WILL SGA, DO SGA, DO COM-PORT, WILL COM-PORT; then its answers.
    decode(&mut telnet, &hex("fffd01 fffb03 fffd03 fffd2c fffb2c"));
    assert_eq!(sent(&mut telnet), hex("fffd03 fffb2c"));
    decode(&mut telnet, &hex("fffd00 fffb00 fffc1f"));
    assert_eq!(telnet.pending(), 0);
    for side in [Side::Us, Side::Them] {
        assert!(telnet.is_on(side, TelnetOption::Binary));
        assert!(telnet.is_on(side, TelnetOption::ComPort));
    }
    let decoded = decode(&mut telnet, &hex("fffa2c01 0001c200 fff0"));
    let [(0, Event::ComPort(message))] = decoded.events[..] else { panic!("{decoded:?}") };
    assert_eq!(&*message, hex("01 0001c200"));
}

#[test]
fn ser2nets_port_is_agreed_on() {
    let mut telnet = Telnet::new(Role::Client, WITH_PORT);
    assert_eq!(sent(&mut telnet), hex("fffb00 fffd00 fffb03 fffd03 fffb2c"));
    assert_eq!(telnet.send_com_port(b"\x00"), Err(SendError::Off(TelnetOption::ComPort)));
    // Its opening, which takes our offers for answers, then what it says to
    // those that it did not ask for, and a notice, all of them captured.
    decode(&mut telnet, &hex("fffb03 fffb01 fffe01 fffd00 fffb00 fffd2c fffd03"));
    assert_eq!(sent(&mut telnet), hex("fffd01"));
    assert!(telnet.com_port_is_on());
    let decoded = decode(&mut telnet, &hex("fffa2c6ffffffff0 fffa2c6b00fff0"));
    let messages: Vec<_> = decoded.events.iter().map(|(_, event)| *event).collect();
    let [Event::ComPort(mask), Event::ComPort(state)] = messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!((&*mask, &*state), (&hex("6fff")[..], &hex("6b00")[..]));

    telnet.send_com_port(b"\x01\x00\x00\xFF\x00").unwrap();
    assert_eq!(sent(&mut telnet), hex("fffa2c010000ffff00fff0"));
}

#[test]
fn what_we_do_not_know_or_want_is_refused_once() {
    let mut telnet = opened(Role::Client, Config::default());
    // LINEMODE, STATUS, TTYPE, COM-PORT, ECHO by us; an unknown end is no question.
    decode(&mut telnet, &hex("fffd22 fffb05 fffd18 fffd2c fffb2c fffd01 fffe22 fffc05"));
    let refusals = "fffc22 fffe05 fffc18 fffc2c fffe2c fffc01";
    assert_eq!(sent(&mut telnet), hex(refusals));
}

#[test]
fn a_window_is_told_when_wanted_and_when_it_changes() {
    let mut telnet = opened(Role::Client, Config::default());
    telnet.set_window(WindowSize { columns: 80, rows: 255 }).unwrap();
    assert_eq!(telnet.pending(), 0, "nobody has asked");
    decode(&mut telnet, &hex("fffd1f"));
    assert_eq!(sent(&mut telnet), hex("fffb1f fffa1f 0050 00ffff fff0"));
    telnet.set_window(WindowSize { columns: 132, rows: 43 }).unwrap();
    assert_eq!(sent(&mut telnet), hex("fffa1f 0084 002b fff0"));
}

#[test]
fn subnegotiations_of_what_is_not_agreed_on_are_left_out() {
    let mut telnet = opened(Role::Server, Config::default());
    let input = b"a\xFF\xFA\x1F\0\x50\0\x18\xFF\xF0\xFF\xFA\x2C\x01\xFF\xF0\xFF\xFA\xFF\xF0b";
    assert_eq!(decode(&mut telnet, input), Decoded { data: b"ab".into(), events: vec![] });
}

fn port_agreed() -> Telnet {
    let mut telnet = opened(Role::Server, WITH_PORT);
    decode(&mut telnet, &hex("fffb2c"));
    telnet
}

fn subnegotiation(bytes: usize) -> Vec<u8> {
    let mut input = hex("fffa2c");
    input.resize(3 + bytes, b'x');
    input.extend(hex("fff0"));
    input
}

#[test]
fn a_subnegotiation_is_kept_up_to_its_bound() {
    let mut telnet = port_agreed();
    let decoded = decode(&mut telnet, &subnegotiation(SUBNEGOTIATION_BYTES_MAX));
    let [(0, Event::ComPort(payload))] = decoded.events[..] else { panic!("{decoded:?}") };
    assert_eq!(payload.len(), SUBNEGOTIATION_BYTES_MAX);

    let decoded = decode(&mut telnet, &subnegotiation(SUBNEGOTIATION_BYTES_MAX + 1));
    let note = Event::Note(Note::SubnegotiationTooLong { option: 44 });
    assert_eq!(decoded, Decoded { data: vec![], events: vec![(0, note)] });
    // The next one is not harmed.
    let decoded = decode(&mut telnet, &subnegotiation(1));
    assert!(matches!(decoded.events[..], [(0, Event::ComPort(_))]));
}

#[test]
fn a_subnegotiation_without_an_end_does_not_swallow_the_console() {
    let mut telnet = port_agreed();
    let mut input = hex("fffa2c");
    input.resize(3 + SUBNEGOTIATION_SKIP_MAX, b'x');
    input.extend(b"login: ");
    let decoded = decode(&mut telnet, &input);
    let note = Event::Note(Note::SubnegotiationUnterminated);
    assert_eq!(decoded, Decoded { data: b"login: ".into(), events: vec![(0, note)] });

    // Another command says so earlier, and is heard.
    let decoded = decode(&mut telnet, b"\xFF\xFA\x2Cxx\xFF\xF3login: ");
    let note = Event::Note(Note::SubnegotiationBroken);
    let events = vec![(0, note), (0, Event::Break)];
    assert_eq!(decoded, Decoded { data: b"login: ".into(), events });
}

#[test]
fn a_flood_of_questions_holds_no_more_than_the_bound() {
    for (input, what) in [
        (hex("fffd22"), "unknown option"),
        (hex("fffb03 fffc03"), "known option on and off"),
        (hex("fff6"), "are you there"),
        (hex("fffb18 fffc18"), "terminal type on and off"),
    ] {
        let mut telnet = opened(Role::Server, Config::default());
        for _ in 0..10_000 {
            decode(&mut telnet, &input);
        }
        assert!(telnet.pending() <= TELNET_OUTGOING_BYTES_MAX, "{what}");
        assert!(telnet.answers_dropped() > 1000, "{what}");
        // Once there is room again, so is an agreement.
        sent(&mut telnet);
        decode(&mut telnet, &hex("fffc03 fffb03"));
        assert!(sent(&mut telnet).ends_with(&hex("fffd03")), "{what}");
        assert!(telnet.is_on(Side::Them, TelnetOption::SuppressGoAhead), "{what}");
    }
}

#[test]
fn a_wish_that_changes_before_the_answer_comes_true_after_it() {
    let mut telnet = binary(Role::Client);
    for wish in [Switch::Off, Switch::On, Switch::Off, Switch::On] {
        telnet.want(Side::Us, TelnetOption::Binary, wish).unwrap();
    }
    assert_eq!(sent(&mut telnet), hex("fffc00"), "one question at a time");
    decode(&mut telnet, &hex("fffe00"));
    assert_eq!(sent(&mut telnet), hex("fffb00"));
    assert!(!telnet.is_on(Side::Us, TelnetOption::Binary));
    telnet.want(Side::Us, TelnetOption::Binary, Switch::Off).unwrap();
    assert_eq!(telnet.pending(), 0);
    decode(&mut telnet, &hex("fffd00"));
    assert_eq!(sent(&mut telnet), hex("fffc00"));
    decode(&mut telnet, &hex("fffe00"));
    assert_eq!(telnet.pending(), 0);

    // What the peer is asked to end, it uses until it says so.
    telnet.want(Side::Them, TelnetOption::Binary, Switch::Off).unwrap();
    assert_eq!(decode(&mut telnet, b"\r\0").data, b"\r\0");
    decode(&mut telnet, &hex("fffc00"));
    assert_eq!(decode(&mut telnet, b"\r\0").data, b"\r");
}

#[test]
fn what_could_not_be_answered_is_off() {
    let mut telnet = opened(Role::Client, Config::default());
    while telnet.send_break().is_ok() {}
    decode(&mut telnet, &hex("fffd00 fffb00"));
    assert_eq!(telnet.answers_dropped(), 2);
    assert!(!telnet.is_on(Side::Us, TelnetOption::Binary));
    assert!(!telnet.is_on(Side::Them, TelnetOption::Binary));
    assert!(telnet.want(Side::Us, TelnetOption::Binary, Switch::On).is_err());
    sent(&mut telnet);
    telnet.want(Side::Us, TelnetOption::Binary, Switch::On).unwrap();
    assert_eq!(sent(&mut telnet), hex("fffb00"), "the refused wish left no trace");
}

#[test]
fn two_of_us_agree_on_a_clean_line() {
    let mut client = Telnet::new(Role::Client, WITH_PORT);
    let mut server = Telnet::new(Role::Server, WITH_PORT);
    let bytes = settle(&mut client, &mut server);
    assert!(bytes < 100, "{bytes}");
    for (side, other) in [(Side::Us, Side::Them), (Side::Them, Side::Us)] {
        assert!(client.is_on(side, TelnetOption::Binary));
        assert!(server.is_on(other, TelnetOption::Binary));
    }
    assert!(client.com_port_is_on() && server.com_port_is_on());
    assert!(client.is_on(Side::Them, TelnetOption::Echo));
    assert!(!client.is_on(Side::Us, TelnetOption::Echo));
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

fn config() -> impl Strategy<Value = Config> {
    prop_oneof![Just(Config::default()), Just(WITH_PORT)]
}

/// Bytes that are likely to mean something.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => Just(0xFF_u8),
        2 => 236_u8..=254,
        2 => prop::sample::select(vec![0_u8, 1, 3, 24, 31, 44]),
        1 => Just(b'\r'),
        1 => Just(b'\n'),
        2 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..200)
}

fn wish() -> impl Strategy<Value = (bool, Side, TelnetOption, Switch, bool)> {
    (
        any::<bool>(),
        prop::sample::select(vec![Side::Us, Side::Them]),
        prop::sample::select(TelnetOption::ALL.to_vec()),
        prop::sample::select(vec![Switch::On, Switch::Off]),
        any::<bool>(),
    )
}

proptest! {
    #[test]
    fn any_split_gives_the_same(
        role in role(),
        config in config(),
        input in stream(),
        cuts in prop::collection::vec(1_usize..8, 0..200),
    ) {
        let mut whole = Telnet::new(role, config);
        let expected = decode(&mut whole, &input);

        let mut split = Telnet::new(role, config);
        let mut decoded = Decoded::default();
        let mut rest = &input[..];
        for cut in cuts {
            let (piece, next) = rest.split_at(cut.min(rest.len()));
            let before = decoded.data.len();
            decode_onto(&mut split, piece, &mut decoded);
            prop_assert!(decoded.data.len() - before <= piece.len() + 1);
            rest = next;
        }
        decode_onto(&mut split, rest, &mut decoded);
        prop_assert_eq!(decoded, expected);
        prop_assert_eq!(sent(&mut split), sent(&mut whole));
    }

    #[test]
    fn data_survives_both_ways(
        binary in any::<bool>(),
        chunks in prop::collection::vec(stream(), 0..8),
        cut in 1_usize..16,
    ) {
        let mut client = Telnet::new(Role::Client, Config::default());
        let mut server = Telnet::new(Role::Server, Config::default());
        settle(&mut client, &mut server);
        if !binary {
            for side in [Side::Us, Side::Them] {
                server.want(side, TelnetOption::Binary, Switch::Off).unwrap();
            }
            settle(&mut client, &mut server);
        }
        let expected = chunks.concat();
        for _ in 0..2 {
            let mut wire = Vec::new();
            chunks.iter().for_each(|chunk| client.encode(chunk, &mut wire));
            let mut decoded = Decoded::default();
            for piece in wire.chunks(cut) {
                decode_onto(&mut server, piece, &mut decoded);
            }
            prop_assert_eq!(decoded.events, vec![]);
            // No NUL goes and none comes, in either mode.
            prop_assert_eq!(&decoded.data, &expected);
            std::mem::swap(&mut client, &mut server);
        }
    }

    #[test]
    fn any_wishes_settle_and_are_agreed_on(
        config in config(),
        wishes in prop::collection::vec(wish(), 0..60),
    ) {
        let mut client = Telnet::new(Role::Client, config);
        let mut server = Telnet::new(Role::Server, config);
        let mut bytes = 0;
        for (by_client, side, option, wish, exchange) in wishes.iter().copied() {
            let who = if by_client { &mut client } else { &mut server };
            who.want(side, option, wish).unwrap();
            // Otherwise the next wish crosses this one on its way.
            if exchange {
                let (from_client, from_server) = (sent(&mut client), sent(&mut server));
                bytes += from_client.len() + from_server.len();
                decode(&mut server, &from_client);
                decode(&mut client, &from_server);
            }
        }
        bytes += settle(&mut client, &mut server);
        prop_assert!(bytes <= 200 + wishes.len() * 20, "{} bytes", bytes);
        for option in TelnetOption::ALL {
            for (side, other) in [(Side::Us, Side::Them), (Side::Them, Side::Us)] {
                prop_assert_eq!(client.is_on(side, option), server.is_on(other, option));
            }
        }
    }

    #[test]
    fn no_peer_makes_us_hold_much(role in role(), input in stream()) {
        let mut telnet = Telnet::new(role, WITH_PORT);
        for _ in 0..200 {
            decode(&mut telnet, &input);
            prop_assert!(telnet.pending() <= TELNET_OUTGOING_BYTES_MAX);
        }
    }
}
