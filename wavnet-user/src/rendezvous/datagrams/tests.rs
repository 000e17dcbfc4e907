use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::AsFd,
    time::Duration,
};

use super::*;

/// Sends some by one call and takes them by another.
fn there_and_back(at: &str, from: Option<IpAddr>) {
    let Ok(receiver) = UdpSocket::bind(at) else { return };
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let sender = UdpSocket::bind(at).unwrap();
    let mut outgoing = Outgoing::new();
    for n in 0..10u8 {
        let to = receiver.local_addr().unwrap();
        let write = |room: &mut [u8]| {
            room[..usize::from(n)].fill(n);
            Some((usize::from(n), to))
        };
        assert!(outgoing.push(50, from, write));
    }
    assert!(!outgoing.push(50, None, |_| None));
    assert_eq!((outgoing.len(), outgoing.send(sender.as_fd()), outgoing.len()), (10, 0, 0));
    let (mut incoming, mut next) = (Incoming::new(), 0u8);
    while next < 10 {
        assert!(incoming.receive(receiver.as_fd()).unwrap() > 0);
        for one in incoming.iter() {
            let (from, _, payload) = one.unwrap();
            assert_eq!((from, payload), (sender.local_addr().unwrap(), &vec![next; usize::from(next)][..]));
            next += 1;
        }
    }
}

#[test]
fn many_at_once_in_both_families() {
    there_and_back("127.0.0.1:0", None);
    there_and_back("127.0.0.1:0", Some(Ipv4Addr::LOCALHOST.into()));
    there_and_back("[::1]:0", None);
    there_and_back("[::1]:0", Some(Ipv6Addr::LOCALHOST.into()));
}

#[test]
fn what_cannot_be_sent_does_not_hold_up_the_rest() {
    let [receiver, sender] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut outgoing = Outgoing::new();
    let good = receiver.local_addr().unwrap();
    for to in [good, "[2001:db8::1]:1".parse().unwrap(), good, SocketAddr::new(good.ip(), 0), good] {
        outgoing.push(8, None, |_| Some((8, to)));
    }
    assert_eq!(outgoing.send(sender.as_fd()), 2);
    let mut incoming = Incoming::new();
    let mut got = 0;
    while got < 3 {
        got += incoming.receive(receiver.as_fd()).unwrap();
    }
    assert_eq!(got, 3);
}

/// The kernel parts them again: the receiver sees each by itself, in order.
#[test]
fn those_of_one_length_to_one_address_go_as_one() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(receiver) = UdpSocket::bind(at) else { continue };
        let [sender, third] = [0; 2].map(|_| UdpSocket::bind(at).unwrap());
        let (to, other) = (receiver.local_addr().unwrap(), third.local_addr().unwrap());
        for from in [None, Some(to.ip())] {
            let mut outgoing = Outgoing::new();
            let lens = [100, 100, 100, 50, 50, 0, 0, 1400, 1400, 1400];
            for (n, len) in lens.into_iter().enumerate() {
                outgoing.push(len, from, |buffer| {
                    buffer.fill(n as u8);
                    Some((len, to))
                });
            }
            outgoing.push(1400, from, |_| Some((1400, other)));
            assert_eq!(outgoing.groups(), [0..3, 3..5, 5..6, 6..7, 7..10, 10..11]);
            assert_eq!(outgoing.send(sender.as_fd()), 0);
            let mut incoming = Incoming::new();
            let mut got = Vec::new();
            while got.len() < lens.len() {
                incoming.receive(receiver.as_fd()).unwrap();
                got.extend(incoming.iter().map(|one| one.unwrap().2.to_vec()));
            }
            let wanted: Vec<_> = lens.into_iter().enumerate().map(|(n, len)| vec![n as u8; len]).collect();
            assert_eq!(got, wanted);
        }
    }
}

#[test]
fn what_is_too_long_is_known() {
    let [receiver, sender] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    sender.send_to(&vec![1; LONGEST + 1], receiver.local_addr().unwrap()).unwrap();
    let mut incoming = Incoming::new();
    assert_eq!(incoming.receive(receiver.as_fd()).unwrap(), 1);
    assert!(incoming.iter().eq([None]));
}
