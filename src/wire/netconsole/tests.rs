//! The room from outside: datagrams as kernels send them, lost, doubled, torn
//! and forged.

use std::{borrow::Cow, time::Duration};

use proptest::prelude::*;

use super::{Continuation, Error, Fragment, Order, Receiver, Record, Sequence, Taken};
use crate::limits::{NETCONSOLE_MISSING_MAX, NETCONSOLE_RECORD_BYTES_MAX};

fn parse(text: &str) -> Record<'_> {
    Record::parse(text.as_bytes()).unwrap()
}

fn lossy(text: Cow<'_, [u8]>) -> String {
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn records_of_kernels_are_understood() {
    // The kernel's own example, from dev-kmsg, with the newlines it sends.
    let record = parse(
        "7,160,424069,-;pci_root PNP0A03:00: host bridge (ignored)\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n",
    );
    assert_eq!((record.level, record.facility, record.sequence), (7, 0, 160));
    assert_eq!(record.timestamp, Duration::from_micros(424_069));
    assert_eq!(record.continuation, Continuation::Whole);
    assert_eq!(record.fragment, None);
    assert_eq!(lossy(record.text()), "pci_root PNP0A03:00: host bridge (ignored)");
    let dictionary: Vec<_> = record.dictionary().collect();
    let expected: [(&[u8], &[u8]); 2] = [(b"SUBSYSTEM", b"acpi"), (b"DEVICE", b"+acpi:PNP0A03:00")];
    assert_eq!(dictionary, expected);

    // From user space: facility 3, level 6.
    let record = parse("30,340,5690716,-;udevd[80]: starting version 181\n");
    assert_eq!((record.level, record.facility), (6, 3));

    // With a release and with the caller, as netconsole and printk can be told.
    let record =
        parse("6.4.0-13_rc1,12,444,501237,-,caller=T514;systemd[1]: x; y = \\x1b[0m\\\\x\n");
    assert_eq!((record.level, record.facility, record.sequence), (4, 1, 444));
    assert_eq!(lossy(record.text()), "systemd[1]: x; y = \u{1b}[0m\\\\x");

    assert_eq!(parse("6,1,2,c;a").continuation, Continuation::Piece);
    assert_eq!(parse("6,1,2,+;a").continuation, Continuation::Rest);
    assert_eq!(parse("6,1,2,z,future=1,;a").continuation, Continuation::Whole);
    assert_eq!(lossy(parse("6,1,2,-;").text()), "");
}

#[test]
fn what_is_no_record_is_refused() {
    let table = [
        ("", Error::NoHeader),
        ("[    1.2] plain netconsole\n", Error::NoHeader),
        ("[    1.2] plain; with a semicolon\n", Error::Field("priority")),
        (";", Error::Field("priority")),
        ("6;x", Error::Field("sequence number")),
        ("6,1;x", Error::Field("timestamp")),
        ("6,1,2;x", Error::Field("flags")),
        ("6,-1,2,-;x", Error::Field("sequence number")),
        ("6,+1,2,-;x", Error::Field("sequence number")),
        ("6,1,99999999999999999999,-;x", Error::Field("timestamp")),
        ("99999999999999999,1,2,-;x", Error::Field("priority")),
        ("6,1,2,-,ncfrag=;x", Error::Field("fragment")),
        ("6,1,2,-,ncfrag=0/0;x", Error::Field("fragment")),
        ("6,1,2,-,ncfrag=5/5;x", Error::Field("fragment")),
        ("6,1,2,-,ncfrag=4/5;xx", Error::Field("fragment")),
    ];
    for (datagram, error) in table {
        assert_eq!(Record::parse(datagram.as_bytes()), Err(error), "{datagram}");
    }
}

#[test]
fn missing_records_are_counted() {
    let most = NETCONSOLE_MISSING_MAX;
    let table = [
        (100, Order::First),
        (101, Order::Next),
        (101, Order::Same),
        (104, Order::Missing(2)),
        // A kernel that has started again.
        (3, Order::First),
        (4, Order::Next),
        (4 + 1 + most, Order::Missing(most)),
        (4 + 1 + most + 2 + most, Order::First),
        (u64::MAX, Order::First),
        (0, Order::First),
    ];
    let mut sequence = Sequence::default();
    for (number, order) in table {
        assert_eq!(sequence.see(number), order, "{number}");
    }
}

/// What becomes of datagrams: texts, `<torn …>`, `<missing …>`, `<left out>`.
fn receive(datagrams: &[&str]) -> Vec<String> {
    let mut receiver = Receiver::default();
    let mut seen = Vec::new();
    for datagram in datagrams {
        let Taken { torn, missing, record, left_out } = receiver.take(parse(datagram));
        seen.extend(torn.map(|torn| {
            let of = torn.fragment.unwrap().total;
            format!("<torn {} of {of}>", lossy(torn.text()))
        }));
        seen.extend((missing > 0).then(|| format!("<missing {missing}>")));
        seen.extend(record.map(|record| {
            assert_eq!(record.fragment, None);
            lossy(record.text())
        }));
        seen.extend(left_out.then(|| "<left out>".to_owned()));
    }
    seen
}

#[test]
fn fragments_are_joined_or_told() {
    // The kernel's own example, from netconsole.rst.
    let first = "6,416,1758426,-,ncfrag=0/32;the first chunk,";
    let second = "6,416,1758426,-,ncfrag=16/32; the 2nd chunk.\n";
    let before = "6,415,1,-;before\n";
    let after = "6,417,1,-;after\n";
    let table: [(&[&str], &[&str]); 8] = [
        (&[before, first, second, after], &["before", "the first chunk, the 2nd chunk.", "after"]),
        // The end is lost.
        (&[before, first, after], &["before", "<torn the first chunk, of 32>", "after"]),
        // The beginning is lost.
        (&[before, second, after], &["before", "<missing 1>", "after"]),
        // Out of order.
        (&[before, second, first, after], &["before", "<missing 1>", "<left out>", "after"]),
        // Doubled.
        (
            &[first, first, second, second, after, after],
            &["<left out>", "the first chunk, the 2nd chunk.", "<left out>", "after", "<left out>"],
        ),
        // One in the middle is lost: what follows it is no use.
        (
            &["6,1,1,-,ncfrag=0/9;abc", "6,1,1,-,ncfrag=6/9;ghi", "6,1,1,-,ncfrag=3/9;def"],
            &["<torn abc of 9>", "<left out>"],
        ),
        // The total changes.
        (&["6,1,1,-,ncfrag=0/9;abc", "6,1,1,-,ncfrag=3/8;def"], &["<torn abc of 9>"]),
        (&["6,1,1,-,ncfrag=0/3;abc"], &["abc"]),
    ];
    for (datagrams, seen) in table {
        assert_eq!(receive(datagrams), seen, "{datagrams:?}");
    }
}

#[test]
fn the_last_words_of_a_kernel_are_not_kept_back() {
    let mut receiver = Receiver::default();
    receiver.take(parse("0,9,1,-,ncfrag=0/2000;Kernel panic - not syncing"));
    let torn = receiver.abandon().unwrap();
    assert_eq!(lossy(torn.text()), "Kernel panic - not syncing");
    assert_eq!(torn.fragment, Some(Fragment { offset: 0, total: 2000 }));
    assert_eq!(receiver.abandon(), None);
}

#[test]
fn a_message_beyond_the_bound_is_counted_and_not_held() {
    let mut receiver = Receiver::default();
    let total = NETCONSOLE_RECORD_BYTES_MAX + 1;
    let taken = receiver.take(parse(&format!("6,1,1,-,ncfrag=0/{total};abc"))).missing;
    assert_eq!(taken, 1);
    assert!(receiver.take(parse(&format!("6,1,1,-,ncfrag=3/{total};def"))).left_out);
    assert_eq!(receiver.abandon(), None);
}

/// Datagrams that are nearly right.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let header = ("(6\\.1,)?", 0_u64..300, 0_u64..5, any::<u64>(), "[-c+]");
    let fragment = prop::option::of((0_usize..12, 0_usize..12));
    let right = (header, fragment, "[a-c;,\\\\x\n =]{0,12}").prop_map(|(header, part, body)| {
        let (release, priority, sequence, timestamp, flags) = header;
        let part = part.map_or(String::new(), |(at, of)| format!(",ncfrag={at}/{of}"));
        format!("{release}{priority},{sequence},{timestamp},{flags}{part};{body}").into_bytes()
    });
    prop_oneof![4 => right, 1 => prop::collection::vec(any::<u8>(), 0..60)]
}

proptest! {
    #[test]
    fn no_datagram_is_trusted(datagrams in prop::collection::vec(datagram(), 0..60)) {
        let mut receiver = Receiver::default();
        for datagram in &datagrams {
            let Ok(record) = Record::parse(datagram) else { continue };
            prop_assert!(record.text().len() <= datagram.len());
            prop_assert!(record.dictionary().count() <= datagram.len());
            let taken = receiver.take(record);
            for record in taken.torn.iter().chain(&taken.record) {
                prop_assert!(record.body.len() <= NETCONSOLE_RECORD_BYTES_MAX.max(datagram.len()));
            }
            prop_assert!(taken.missing <= NETCONSOLE_MISSING_MAX + 1);
        }
    }

    #[test]
    fn any_split_into_fragments_is_joined(
        body in prop::collection::vec(any::<u8>(), 1..3000),
        chunk in 1_usize..1000,
    ) {
        let mut receiver = Receiver::default();
        let mut joined = Vec::new();
        for (at, piece) in body.chunks(chunk).enumerate() {
            let header = format!("6,7,1,-,ncfrag={}/{};", at * chunk, body.len());
            let datagram = [header.as_bytes(), piece].concat();
            let taken = receiver.take(Record::parse(&datagram).unwrap());
            prop_assert_eq!((taken.missing, taken.left_out, taken.torn), (0, false, None));
            joined.extend(taken.record.map(Record::into_owned));
        }
        prop_assert_eq!(joined.len(), 1);
        prop_assert_eq!(&*joined[0].body, &body[..]);
    }
}
