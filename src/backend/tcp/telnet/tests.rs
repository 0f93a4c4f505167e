//! The link between a line and a transport that takes and gives bytes in the
//! worst pieces.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::Waker,
};

use proptest::prelude::*;

use super::*;
use crate::device::Endpoint;

/// What the other end of a connection does.
#[derive(Default)]
struct Far {
    /// What it has of ours.
    wire: Vec<u8>,
    /// How much it takes at a time; then nothing, until it takes again.
    takes: VecDeque<usize>,
    /// What it says, a piece a read.
    says: VecDeque<Vec<u8>>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Far>>);

impl Transport for Fake {
    fn poll_read(&mut self, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        match self.0.lock().unwrap().says.pop_front() {
            Some(piece) => {
                buf.put_slice(&piece);
                Poll::Ready(Ok(()))
            }
            None => Poll::Pending,
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Error>> {
        let mut far = self.0.lock().unwrap();
        match far.takes.pop_front() {
            None | Some(0) => Poll::Pending,
            Some(most) => {
                let n = data.len().min(most);
                far.wire.extend_from_slice(&data[..n]);
                Poll::Ready(Ok(n))
            }
        }
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn ending(&self) -> Error {
        Error::Closed
    }
}

fn link(fake: &Fake, mode: Endpoint) -> Telnet {
    let spec = TcpSpec { mode, protocol: crate::device::Protocol::Telnet, ..TcpSpec::default() };
    let role = if mode == Endpoint::Bind { Role::Server } else { Role::Client };
    Telnet::new(Box::new(fake.clone()), Peer::new("far".into()), role, &spec)
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What a link gives for what the far side says, until it has nothing more.
fn hear(link: &mut Telnet) -> (Vec<u8>, Vec<Read>) {
    let (mut data, mut events) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; limits::LINE_READ_BYTES];
    loop {
        let mut buf = ReadBuf::new(&mut buffer);
        match link.poll_read(&mut context(), &mut buf) {
            Poll::Ready(Ok(Read::Bytes)) => data.extend_from_slice(buf.filled()),
            Poll::Ready(Ok(read)) => events.push(read),
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => return (data, events),
        }
    }
}

/// What a client would make of what was sent.
fn decoded(wire: &[u8]) -> Vec<u8> {
    let config = telnet::Config::default();
    let mut client = telnet::Telnet::new(Role::Client, config);
    let (mut input, mut data) = (wire, Vec::new());
    while !input.is_empty() {
        client.decode(&mut input, &mut data);
    }
    data
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

proptest! {
    /// At every moment what was reported is exactly what a peer can have read;
    /// in the end it is everything, once.
    #[test]
    fn what_is_reported_is_what_has_gone(
        input in prop::collection::vec(
            prop_oneof![Just(0xffu8), Just(b'\r'), Just(b'\n'), Just(0), any::<u8>()], 1..9000
        ),
        takes in prop::collection::vec(0usize..40, 0..60),
        binary: bool,
    ) {
        let _runtime = runtime();
        let _entered = _runtime.enter();
        let fake = Fake::default();
        let mut link = link(&fake, Endpoint::Connect);
        if binary {
            // DO BINARY; the answer waits before the input.
            fake.0.lock().unwrap().says.push_back(vec![0xff, 253, 0]);
            hear(&mut link);
        }
        fake.0.lock().unwrap().takes = takes.into();
        let mut reported = 0;
        while reported < input.len() {
            match link.poll_write(&mut context(), &input[reported..]) {
                Poll::Ready(n) => {
                    let n = n.unwrap();
                    prop_assert!(n > 0);
                    reported += n;
                }
                Poll::Pending => {
                    // The link breaks here: what the far side has is what was reported,
                    // and at most half of one byte more.
                    let wire = fake.0.lock().unwrap().wire.clone();
                    let prefix = if binary { wire.get(3..).unwrap_or(&[]) } else { &wire[..] };
                    let form = if binary { Form::Binary } else { Form::Terminal };
                    let chunk = reported + link.in_flight();
                    let (whole, _) = within(&input[..chunk], form, prefix.len());
                    prop_assert_eq!(whole, reported);
                    // And reading meanwhile does no harm.
                    hear(&mut link);
                    let mut far = fake.0.lock().unwrap();
                    if far.takes.is_empty() {
                        far.takes.extend([1000; 40]);
                    }
                }
            }
        }
        let wire = fake.0.lock().unwrap().wire.clone();
        let mut expected = telnet::Telnet::new(Role::Client, telnet::Config::default());
        let mut whole = Vec::new();
        if binary {
            expected.decode(&mut &[0xff, 253, 0][..], &mut Vec::new());
        }
        expected.encode(&input, &mut whole);
        prop_assert_eq!(wire, whole);
    }

    /// In whatever pieces it comes, and whatever commands are between.
    #[test]
    fn what_is_said_is_heard_whole(
        data in prop::collection::vec(prop_oneof![Just(0xffu8), any::<u8>()], 0..2000),
        cuts in prop::collection::vec(1usize..50, 1..40),
        breaks in prop::collection::vec(0usize..2000, 0..20),
    ) {
        let _runtime = runtime();
        let _entered = _runtime.enter();
        let fake = Fake::default();
        let mut link = link(&fake, Endpoint::Bind);
        // WILL BINARY, so that CR is nothing special.
        let mut wire = vec![0xff, 251, 0];
        for (at, byte) in data.iter().enumerate() {
            for _ in breaks.iter().filter(|where_| **where_ == at) {
                wire.extend([0xff, 243]);
            }
            wire.extend(std::iter::repeat_n(*byte, if *byte == 0xff { 2 } else { 1 }));
        }
        let mut rest = &wire[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, next) = rest.split_at((*cut).min(rest.len()));
            fake.0.lock().unwrap().says.push_back(piece.to_vec());
            rest = next;
        }
        let (heard, events) = hear(&mut link);
        prop_assert_eq!(heard, data.clone());
        let expected = breaks.iter().filter(|at| **at < data.len()).count();
        prop_assert_eq!(events, vec![Read::Break; expected]);
    }
}

#[test]
fn a_line_end_at_the_end_of_a_chunk_stays_whole() {
    let _runtime = runtime();
    let _entered = _runtime.enter();
    let fake = Fake::default();
    let mut link = link(&fake, Endpoint::Connect);
    fake.0.lock().unwrap().takes = [usize::MAX; 8].into();
    let mut input = vec![b'x'; CHUNK_BYTES_MAX - 1];
    input.extend(b"\r\nmore");
    let mut reported = 0;
    while reported < input.len() {
        let Poll::Ready(n) = link.poll_write(&mut context(), &input[reported..]) else { panic!() };
        reported += n.unwrap();
    }
    assert_eq!(fake.0.lock().unwrap().wire, input);
}

#[test]
fn the_next_connection_owes_nothing_to_the_last() {
    let _runtime = runtime();
    let _entered = _runtime.enter();
    for dangling in [&[0xff][..], &[0xff, 251], &[0xff, 250, 31, 0, 80], b"\r"] {
        let mut spoken = Vec::new();
        for said in [dangling, b"\0login"] {
            let fake = Fake::default();
            fake.0.lock().unwrap().says.push_back(said.to_vec());
            spoken.push(hear(&mut link(&fake, Endpoint::Bind)).0);
        }
        assert_eq!(spoken[1], b"\0login", "after {dangling:02x?}");
    }
}

#[test]
fn the_window_and_the_terminal_are_known() {
    let _runtime = runtime();
    let _entered = _runtime.enter();
    let fake = Fake::default();
    let mut link = link(&fake, Endpoint::Bind);
    let mut said = vec![0xff, 251, 31, 0xff, 250, 31, 0, 132, 0, 43, 0xff, 240];
    said.extend([0xff, 251, 24, 0xff, 250, 24, 0]);
    said.extend(b"XTERM\x1b");
    said.extend([0xff, 240, b'!']);
    fake.0.lock().unwrap().says.push_back(said);
    let (data, events) = hear(&mut link);
    assert_eq!((&data[..], &events[..]), (&b"!"[..], &[Read::Changed; 2][..]));
    let facts = link.facts();
    assert_eq!(facts.window, Some(WindowSize { rows: 43, columns: 132 }));
    assert_eq!(facts.peers[0].description, "terminal XTERM");
}

#[test]
fn a_flood_of_breaks_costs_one_copy() {
    let _runtime = runtime();
    let _entered = _runtime.enter();
    let fake = Fake::default();
    let mut link = link(&fake, Endpoint::Bind);
    fake.0.lock().unwrap().says.push_back([0xff, 243].repeat(30_000));
    let mut buffer = vec![0; limits::LINE_READ_BYTES];
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..30_000 {
        let read = link.poll_read(&mut context(), &mut ReadBuf::new(&mut buffer));
        assert!(matches!(read, Poll::Ready(Ok(Read::Break))));
        if !link.rest.is_empty() {
            // The same bytes, further on.
            seen.insert(link.rest.as_ptr() as usize + link.rest.len());
        }
    }
    assert_eq!(seen.len(), 1);
}

#[test]
fn what_a_server_sends_a_client_reads() {
    let _runtime = runtime();
    let _entered = _runtime.enter();
    let fake = Fake::default();
    // The client has agreed to BINARY both ways.
    fake.0.lock().unwrap().says.push_back(vec![0xff, 253, 0, 0xff, 251, 0]);
    fake.0.lock().unwrap().takes = [7; 400].into();
    let mut link = link(&fake, Endpoint::Bind);
    hear(&mut link);
    let input: Vec<u8> = (0..=255).collect();
    let mut reported = 0;
    while reported < input.len() {
        if let Poll::Ready(n) = link.poll_write(&mut context(), &input[reported..]) {
            reported += n.unwrap();
        }
    }
    assert_eq!(decoded(&fake.0.lock().unwrap().wire), input);
}
