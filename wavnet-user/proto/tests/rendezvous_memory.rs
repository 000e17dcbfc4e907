//! How much memory a rendezvous server takes for ten thousand hosts.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::{Ipv4Addr, SocketAddr},
};

use wavnet_proto::{
    bucket::Rate,
    rendezvous::{
        Rendezvous,
        persist::Saved,
        testing::{Client, access, settings},
    },
    rng::Rng,
    time::Time,
    transmit::Socket,
    trust::SecretKey,
    wire::{Candidate, CandidateKind},
};

/// The system's allocator, and what this thread has of it.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: all is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: Time = Time::from_nanos(1_000_000_000);

/// A server with so many hosts, each with so many candidates and VNIs; bytes for each host.
fn bytes_for_each(hosts: u32, candidates: u8, vnis: u32) -> isize {
    let mut wanted = settings([1]);
    wanted.limits.handshakes = Rate { per_second: 1, burst: 1_000_000 };
    wanted.limits.handshakes_of_prefix = wanted.limits.handshakes;
    let secret = SecretKey::generate(&mut Rng::from_seed([1; 32]));
    let mut server = Rendezvous::new(wanted, secret, Saved::default(), [2; 32], NOW);
    let mut rng = Rng::from_seed([3; 32]);
    let before = HELD.get();
    for n in 0..hosts {
        let from = SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 4789);
        let mut client = Client::new(access(1), rng.fork());
        let candidates: Vec<_> = (1..=candidates)
            .map(|port| Candidate { kind: CandidateKind::Host, addr: ([192, 0, 2, 1], port.into()).into() })
            .collect();
        let vnis: Vec<u32> = (1..=vnis).collect();
        let register = client.register(&format!("hypervisor-{n}.example"), &vnis, &candidates);
        let mut to_server = vec![client.hello()];
        while let Some(datagram) = to_server.pop() {
            server.handle_input(NOW, Socket::Main, from, &datagram);
            while let Some(transmit) = server.poll_transmit() {
                let heard = client.hear(NOW, &transmit.payload);
                to_server.extend(heard.replies);
                to_server.extend(heard.is_connected.then(|| client.say(std::slice::from_ref(&register)).unwrap()));
            }
            while server.poll_command().is_some() {}
            while server.poll_event().is_some() {}
        }
    }
    assert_eq!(server.view().networks[0].connected, hosts as usize);
    (HELD.get() - before) / isize::try_from(hosts).unwrap()
}

#[test]
fn ten_thousand_hosts_fit() {
    let each = bytes_for_each(10_000, 4, 8);
    println!("{each} bytes for each of 10,000 hosts");
    assert!(each <= 2560, "{each} bytes");
}

#[test]
fn hosts_that_say_as_much_as_they_may_fit_as_well() {
    let each = bytes_for_each(500, 16, 256);
    println!("{each} bytes for each host that says as much as it may");
    assert!(each <= 4096, "{each} bytes");
}
