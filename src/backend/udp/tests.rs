//! Pairs of addresses, and the bounds of what is kept of senders.

use std::net::SocketAddr;

use super::{senders::Senders, *};
use crate::{limits, wire::netconsole::Record};

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn allow(nets: &[&str]) -> Arc<Allow> {
    let networks = nets.iter().map(|net| net.parse::<ipnet::IpNet>().unwrap().into()).collect();
    Arc::new(Allow { networks, ..Allow::default() })
}

fn endpoint(host: &str, port: u16) -> UdpEndpoint {
    UdpEndpoint { host: host.to_owned(), port }
}

fn udp(connect: Option<UdpEndpoint>, bind: Option<UdpEndpoint>, nets: &[&str]) -> Udp {
    let environment = Environment {
        credentials: Arc::default(),
        allow: allow(nets),
        notes_dir: "/nowhere".into(),
        lookups: Arc::new(Semaphore::new(1)),
        metrics: Arc::default(),
        files: Arc::new(Semaphore::new(1)),
        domain_logs: Arc::default(),
    };
    Udp::new(UdpSpec { connect, bind, ..UdpSpec::default() }, &environment)
}

#[tokio::test]
async fn own_addresses_are_of_the_family_of_the_peer() {
    let table = [
        // (connect, bind, pairs)
        (Some("127.0.0.1"), None, "0.0.0.0:0>127.0.0.1:7"),
        (Some("::1"), None, "[::]:0>[::1]:7"),
        (Some(""), None, "0.0.0.0:0>127.0.0.1:7 [::]:0>[::1]:7"),
        (None, Some(""), "[::]:9 0.0.0.0:9"),
        (None, Some("127.0.0.1"), "127.0.0.1:9"),
        (Some("127.0.0.1"), Some(""), "0.0.0.0:9>127.0.0.1:7"),
        (Some(""), Some("::1"), "[::1]:9>[::1]:7"),
        (Some("127.0.0.1"), Some("::"), "[::]:9>[::ffff:127.0.0.1]:7"),
        (Some("127.0.0.1"), Some("::1"), ""),
    ];
    for (connect, bind, expected) in table {
        let udp = udp(connect.map(|h| endpoint(h, 7)), bind.map(|h| endpoint(h, 9)), &[]);
        let pairs = udp.pairs().await.unwrap().into_iter().map(|(own, peer)| match peer {
            Some(peer) => format!("{own}>{peer}"),
            None => own.to_string(),
        });
        let pairs = pairs.collect::<Vec<_>>();
        assert_eq!(pairs.join(" "), expected, "{connect:?} {bind:?}");
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_not_bound() {
    let loopback = ["127.0.0.0/8"];
    let bind = |host| udp(None, Some(endpoint(host, 0)), &loopback);
    assert!(bind("127.0.0.1").bind().await.is_ok());
    assert!(matches!(bind("").bind().await, Err(Error::Denied(_))), "every address");
    let both = |host| udp(Some(endpoint(host, 7)), Some(endpoint("127.0.0.1", 0)), &loopback);
    assert!(both("127.0.0.1").bind().await.is_ok());
    assert!(matches!(both("10.0.0.1").bind().await, Err(Error::Denied(_))));
    // The port of our own that the kernel gives out needs no rule.
    assert!(udp(Some(endpoint("127.0.0.1", 7)), None, &loopback).bind().await.is_ok());
    // Every address of IPv4 alone, where that is what is allowed.
    let bound = udp(None, Some(endpoint("", 0)), &["0.0.0.0/0"]).bind().await.unwrap();
    assert!(bound.socket.local_address().unwrap().is_ipv4());
}

#[test]
fn a_spec_is_checked_before_it_is_used() {
    let table = [
        (None, Some(""), &["0.0.0.0/0"][..], true),
        (None, Some(""), &["127.0.0.0/8"], false),
        (Some(""), None, &["127.0.0.0/8"], true),
        (Some("10.0.0.1"), None, &["127.0.0.0/8"], false),
        (Some("a.example"), None, &["127.0.0.0/8"], true),
        (Some("a.example"), None, &[], false),
        (Some("127.0.0.1"), Some("10.0.0.1"), &["127.0.0.0/8"], false),
    ];
    for (connect, bind, nets, fine) in table {
        let spec = UdpSpec {
            connect: connect.map(|host| endpoint(host, 7)),
            bind: bind.map(|host| endpoint(host, 0)),
            ..UdpSpec::default()
        };
        assert_eq!(check(&spec, &allow(nets)).is_ok(), fine, "{spec:?} {nets:?}");
    }
}

#[test]
fn the_longest_silent_sender_makes_place_and_the_target_never() {
    let target = at("10.0.0.1:7");
    let mut senders = Senders::new(Some(target));
    let sender = |n: usize| at(&format!("10.1.0.1:{}", 1000 + n));
    let (first, _) = senders.heard(sender(0));
    first.kernel.take(Record::parse(b"6,1,1,-,ncfrag=0/9;half").unwrap());
    let mut torn = None;
    for n in 1..limits::SENDERS_MAX + 10 {
        // The second goes on talking.
        senders.heard(sender(1));
        torn = torn.or(senders.heard(sender(n)).1);
    }
    let listed: Vec<_> = senders.peers().into_iter().map(|peer| peer.address).collect();
    assert_eq!(listed.len(), limits::SENDERS_MAX);
    assert_eq!(listed[..2], [target.to_string(), sender(1).to_string()]);
    assert!(!listed.contains(&sender(2).to_string()));
    assert_eq!(torn.unwrap().text(), &b"half"[..], "what it had not finished");
}

#[test]
fn a_stranger_is_told_once() {
    let strangers = Strangers::default();
    for port in 1..1000 {
        strangers.meet(at(&format!("10.0.0.1:{port}")));
    }
    assert_eq!(strangers.next_untold(), Some(at("10.0.0.1:1")));
    assert_eq!(strangers.next_untold(), None);
    for n in 0..1000 {
        strangers.meet(at(&format!("10.0.{}.{}:1", 1 + n / 250, n % 250)));
    }
    let told = std::iter::from_fn(|| strangers.next_untold()).count();
    assert_eq!(told, limits::SENDERS_MAX);
}
