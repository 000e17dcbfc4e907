//! How much memory sessions and handshakes take: a server has ten thousand of them, an agent some for each peer.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use wavnet_proto::{
    rng::Rng,
    time::Time,
    trust::{Initiation, NetworkKey, Psk, Responder, SecretKey, Session},
    wire::Datagram,
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

/// What a session is to take at most, with all that it points to: a peer has two or three of them in 16 KiB.
const MOST: isize = 2048;

/// And a handshake that is under way.
const MOST_UNDER_WAY: isize = 4096;

fn two_sessions() -> [Session; 2] {
    let mut rng = Rng::from_seed([70; 32]);
    let (a, b, key) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng), NetworkKey::generate(&mut rng));
    let key = key.member();
    let mut initiation = Initiation::start(&a, Psk::Member(&key), 1, &mut rng);
    let datagram = initiation.init_without_cookie(b.public(), b"a payload").unwrap();
    let Ok((_, Datagram::Init(init))) = Datagram::parse(&datagram) else { panic!("INIT") };
    let request = Responder::new(&b, Psk::Member(&key)).read_forwarded_init(a.public(), &init, &mut rng).unwrap();
    let (datagram, theirs) = request.respond(Time::ZERO, 2, b"another").unwrap();
    let Ok((_, Datagram::Response(response))) = Datagram::parse(&datagram) else { panic!("RESPONSE") };
    [initiation.handle_response(Time::ZERO, &response).unwrap().0, theirs]
}

#[test]
fn a_session_takes_little_memory() {
    let before = HELD.get();
    let sessions = two_sessions();
    let heap = HELD.get() - before;
    drop(sessions);
    assert_eq!(HELD.get(), before, "nothing is left");
    let each = heap / 2 + size_of::<Session>().cast_signed();
    println!("a session is {} bytes and points to {}", size_of::<Session>(), heap / 2);
    assert!(heap > 0, "the keys are counted");
    assert!(each <= MOST, "{each} bytes");
}

#[test]
fn a_handshake_that_is_under_way_takes_little_memory() {
    let mut rng = Rng::from_seed([71; 32]);
    let (a, b) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng).public());
    let key = NetworkKey::generate(&mut rng).member();
    let before = HELD.get();
    let mut initiation = Initiation::start(&a, Psk::Member(&key), 1, &mut rng);
    initiation.init_without_cookie(b, b"a payload").unwrap();
    let heap = HELD.get() - before;
    drop(initiation);
    assert_eq!(HELD.get(), before, "nothing is left");
    println!("a handshake is {} bytes and points to {heap}", size_of::<Initiation>());
    let all = heap + size_of::<Initiation>().cast_signed();
    assert!(all <= MOST_UNDER_WAY, "{all} bytes");
}
