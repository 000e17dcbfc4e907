//! What the fuzz targets (`fuzz/`) do with their input: here, so that stable tests replay the corpus through the same code. Each
//! panics on a finding.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt::{Debug, Display},
    net::SocketAddr,
    path::Path,
    str::FromStr,
};

use blake2::{
    Blake2sMac, Blake2sMac256,
    digest::{Mac as _, consts::U16},
};
use wavnet_common::{
    abi::{ConfigFlags, Event},
    addr::Vni,
    relay,
    testing::{
        Devices, Hook, Stimulus, TestTables, World,
        relay::{RelayDevices, RelayStimulus, RelayTables, RelayWorld, run_relay},
        run,
    },
};
use wavnet_proto::{
    rng::Rng,
    time::Time,
    trust::{AccessKey, CookieJar, Initiation, KeyError, NetworkKey, Psk, PublicKey, Responder, SecretKey, Session},
    wire::{Datagram, Label, Messages, Writer},
};
use wavnet_user::{
    api::protocol::RequestLine,
    config::{Config, RendezvousConfig, key_files::parse_list},
};

const DEVICES: &Devices = &Devices::NUMBERS;

/// A frame on the underlay, through XDP and TC. The first byte: 1 an old heartbeat, 2 a super-packet, 4 headers in pages, 8 no socket
/// of an agent, 16 no dynamic peers, 32 XDP cannot send.
pub fn underlay(data: &[u8]) {
    for hook in [Hook::UnderlayXdp, Hook::UnderlayTc] {
        frame(hook, None, data);
    }
}

/// A frame from a port, through XDP and TC. The first byte as of [`underlay`] (4 in XDP: nothing is kept beside the bytes), 8 a VLAN
/// tag beside the data, upper half: which port, or, beyond the last, on an errand to which VTEP.
pub fn port(data: &[u8]) {
    let place = data.first().map_or(0, |b| usize::from(b >> 4));
    let errand = place.checked_sub(Devices::STRANGER + 1).map(|vtep| vtep as u16);
    if errand.is_none() {
        frame(Hook::PortXdp(place), None, data);
    }
    frame(Hook::Port(if errand.is_none() { place } else { 0 }), errand, data);
}

fn frame(hook: Hook, errand: Option<u16>, data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else { return };
    let mut stimulus = Stimulus { errand, ..Stimulus::new(hook, bytes.to_vec()) };
    let is_xdp = hook.is_xdp();
    stimulus.raw = flags & 4 != 0;
    stimulus.stale_agent = flags & 1 != 0;
    if matches!(hook, Hook::UnderlayXdp | Hook::UnderlayTc) {
        let missing = [(8, ConfigFlags::CONTROL), (16, ConfigFlags::DYNAMIC), (32, ConfigFlags::XDP_TX)];
        missing.iter().filter(|(bit, _)| flags & bit != 0).for_each(|(_, flag)| stimulus.flags &= !flag);
    }
    if flags & 2 != 0 && !is_xdp {
        stimulus.gso = (1448, 2);
    }
    if flags & 4 != 0 && !is_xdp {
        stimulus.linear = 20;
    }
    if flags & 8 != 0 && matches!(hook, Hook::Port(_)) {
        stimulus.meta_tag = Some([0x8100, 9]);
    }
    let world = World::new(DEVICES);
    let mut tables = TestTables::new(&world, 16);
    // Twice: the second time the source is known.
    for _ in 0..2 {
        let outcome = run(&mut tables, DEVICES, &stimulus);
        if let Err(broken) = outcome.check_rules(&stimulus, DEVICES) {
            panic!("{broken}");
        }
    }
}

/// A frame to the relay, through XDP and TC. The first byte: 1 a super-packet, 2 headers in pages, 4 labels left to the server, 8 a VLAN
/// tag beside the data, 16 a source of STUN that has had its answers.
pub fn relay(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else { return };
    let devices = &RelayDevices::NUMBERS;
    let world = RelayWorld::new(devices);
    for hook in [relay::Hook::Xdp, relay::Hook::Tc] {
        let mut stimulus = RelayStimulus::new(hook, devices.nic, bytes.to_vec());
        stimulus.incomplete = flags & 4 != 0;
        stimulus.spent = flags & 16 != 0;
        if flags & 2 != 0 {
            stimulus.linear = 34;
        }
        if hook == relay::Hook::Tc {
            stimulus.gso = if flags & 1 != 0 { (1448, 2) } else { (0, 0) };
            stimulus.meta_tag = (flags & 8 != 0).then_some([0x8100, 9]);
        }
        let outcome = run_relay(&mut RelayTables::new(&world), &stimulus);
        if let Err(broken) = outcome.check_rules(&stimulus, &world) {
            panic!("{broken}");
        }
    }
}

/// A record of the ring buffer.
pub fn event(data: &[u8]) {
    if let Some(event) = Event::from_bytes(data) {
        for code in [event.from, event.to] {
            if let Some(place) = code.place() {
                assert_eq!(wavnet_common::abi::PlaceCode::new(place).place(), Some(place));
            }
        }
        assert!(!event.mac.to_string().is_empty());
    }
}

/// A file of an operator's. The first byte: which: an agent's configuration, a rendezvous server's, a list of identities, a key. An error
/// has a message; what is accepted can be read again, and lists and keys can be written.
pub fn config(data: &[u8]) {
    let Some((which, text)) = data.split_first() else { return };
    let Ok(text) = core::str::from_utf8(text) else { return };
    match which % 4 {
        0 => read_again(text, |text| Config::parse(text, "fuzz.toml")),
        1 => read_again(text, |text| RendezvousConfig::parse(text, "fuzz.toml")),
        2 => {
            read_again(text, |text| parse_list(text, Path::new("fuzz")).map_err(|e| e.to_string()));
            let Ok(list) = parse_list(text, Path::new("fuzz")) else { return };
            let line = |(key, vnis): (&PublicKey, &Option<BTreeSet<Vni>>)| {
                let vnis: Vec<String> = vnis.iter().flatten().map(ToString::to_string).collect();
                format!("{key} {}\n", vnis.join(","))
            };
            let written: String = list.iter().map(line).collect();
            assert_eq!(parse_list(&written, Path::new("written")).ok(), Some(list));
        }
        _ => {
            written_again(text, |key: SecretKey| key.to_text().to_string());
            written_again(text, |key: NetworkKey| key.to_text().to_string());
            written_again(text, |key: AccessKey| key.to_text().to_string());
        }
    }
}

fn read_again<T: PartialEq + Debug, E: Display>(text: &str, read: impl Fn(&str) -> Result<T, E>) {
    match read(text) {
        Ok(value) => assert_eq!(read(text).ok(), Some(value)),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

/// Each key has one text, but for white space around it.
fn written_again<T: FromStr<Err = KeyError>>(text: &str, write: impl Fn(T) -> String) {
    match text.parse() {
        Ok(key) => assert_eq!(write(key), text.trim()),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// A line that a client sent: a refusal has a message.
pub fn request(data: &[u8]) {
    if let Err(refusal) = RequestLine::parse(data) {
        assert!(!refusal.message.is_empty());
    }
}

/// A datagram that begins with `W`, or is made to, and a plaintext: what is read can be written, and reads the same again.
pub fn control(data: &[u8]) {
    let _ = Datagram::parse(data);
    if let Some((kind, body)) = data.split_first() {
        let datagram = [&[b'W', 1, 2, 3, 1, *kind, 0, 0], body].concat();
        if let Ok((header, _)) = Datagram::parse(&datagram) {
            assert_eq!(header.to_bytes(), datagram[..8]);
        }
    }
    let read: Vec<_> = Messages::new(data).map_while(Result::ok).collect();
    let mut written = Vec::new();
    for message in &read {
        message.write(&mut written).expect("what was read can be written");
    }
    assert!(written.len() <= data.len());
    assert_eq!(Messages::new(&written).collect::<Result<Vec<_>, _>>().as_ref(), Ok(&read));
    // What did not come in one plaintext may be too long for one that is sent.
    let mut writer = Writer::new();
    let taken: Vec<_> = read.into_iter().filter(|message| writer.push(message).is_ok()).collect();
    let plaintexts = writer.finish();
    assert_eq!(Messages::new(&plaintexts.concat()).collect::<Result<Vec<_>, _>>(), Ok(taken));
}

/// Right datagrams, HELLO, COOKIE, INIT, RESPONSE and DATA, changed: none is accepted that says anything but what the right one does.
///
/// The first byte: which of them, lower half (beyond the last: none, the rest is the datagram), and 16 for a MAC that is right again. Three
/// bytes each: where to change it (two bytes, modulo its length and a bit), and by what.
pub fn handshake(data: &[u8]) {
    thread_local! {
        static PARTIES: RefCell<Parties> = RefCell::new(Parties::new());
    }
    let Some((how, rest)) = data.split_first() else { return };
    PARTIES.with_borrow_mut(|parties| match parties.right(how & 15) {
        None => _ = parties.take(rest),
        Some(mut datagram) => {
            let (changes, more) = rest.as_chunks::<3>();
            for [high, low, by] in changes {
                let at = usize::from(u16::from_be_bytes([*high, *low])) % (datagram.len() + 8);
                match datagram.get_mut(at) {
                    Some(byte) => *byte ^= by,
                    // Shorter by a few bytes; never longer, which what is left over is for.
                    None => datagram.truncate(datagram.len() - usize::from(*by) % datagram.len()),
                }
            }
            datagram.extend(more);
            // The first three have one.
            if how & 16 != 0 && how & 15 < 3 && datagram.len() >= 20 {
                let covered = datagram.len() - 16;
                let mac = Blake2sMac::<U16>::new_from_slice(&parties.mac_key).expect("32 bytes");
                let mac = mac.chain_update(&datagram[4..covered]).finalize().into_bytes();
                datagram[covered..].copy_from_slice(&mac);
            }
            let taken = parties.take(&datagram);
            assert!(taken || !rest.is_empty(), "what is right was refused");
        }
    });
}

/// One who answers, one who waits for RESPONSE, both ends of a session, and what is right.
struct Parties {
    keys: [SecretKey; 2],
    access: AccessKey,
    mac_key: [u8; 32],
    jar: CookieJar,
    from: SocketAddr,
    sender: Session,
    receiver: Session,
    /// HELLO, COOKIE, INIT, RESPONSE and the last DATA.
    sent: Vec<Vec<u8>>,
}

const NOW: Time = Time::ZERO;

impl Parties {
    fn new() -> Parties {
        let mut rng = Rng::from_seed([1; 32]);
        let keys = [SecretKey::generate(&mut rng), SecretKey::generate(&mut rng)];
        let access = NetworkKey::open().access();
        let derive = |key: &[u8], purpose: &str| {
            let mac = Blake2sMac256::new_from_slice(key).expect("32 bytes");
            <[u8; 32]>::from(mac.chain_update(purpose).finalize().into_bytes())
        };
        let mac_key = derive(&derive(b"wavnet 1 network without any key", "wavnet 1 access"), "wavnet 1 mac");
        let from = SocketAddr::from(([192, 0, 2, 1], 4789));
        let mut jar = CookieJar::new(rng.fork());

        let psk = Psk::Access(&access);
        let mut initiation = initiation(&keys, psk);
        let responder = Responder::new(&keys[1], psk);
        let hello_bytes = initiation.hello_datagram();
        let Ok((_, Datagram::Hello(hello))) = Datagram::parse(&hello_bytes) else { panic!("HELLO") };
        let cookie_bytes = responder.answer_hello(&mut jar, NOW, from, &hello).expect("COOKIE");
        let Ok((_, Datagram::Cookie(cookie))) = Datagram::parse(&cookie_bytes) else { panic!("COOKIE") };
        let init_bytes = initiation.handle_cookie(&cookie, None, b"init").expect("INIT");
        let Ok((_, Datagram::Init(init))) = Datagram::parse(&init_bytes) else { panic!("INIT") };
        let request = responder.read_init(&jar, NOW, from, &init, &mut rng).expect("INIT that can be read");
        let (response_bytes, receiver) = request.respond(NOW, 2, b"response").expect("RESPONSE");
        let Ok((_, Datagram::Response(response))) = Datagram::parse(&response_bytes) else { panic!("RESPONSE") };
        let (sender, _) = initiation.handle_response(NOW, &response).expect("a session");
        let sent = vec![hello_bytes, cookie_bytes, init_bytes, response_bytes, Vec::new()];
        Parties { keys, access, mac_key, jar, from, sender, receiver, sent }
    }

    /// One of the right datagrams; DATA is a new one each time, which has not come before.
    fn right(&mut self, which: u8) -> Option<Vec<u8>> {
        let datagram = self.sent.get_mut(usize::from(which))?;
        if which == 4 {
            datagram.clear();
            self.sender.seal(Label::ZERO, b"data", datagram).expect("DATA");
        }
        Some(datagram.clone())
    }

    /// Gives a datagram to whom it is for, and says whether it was taken. What is taken is what was right.
    fn take(&mut self, datagram: &[u8]) -> bool {
        let Ok((_, read)) = Datagram::parse(datagram) else { return false };
        let psk = Psk::Access(&self.access);
        let [ours, theirs] = [self.keys[0].public(), self.keys[1].public()];
        let responder = Responder::new(&self.keys[1], psk);
        // All but the label.
        let right = |which: usize| self.sent[which].get(4..) == datagram.get(4..);
        match read {
            Datagram::Hello(hello) => {
                let Ok(cookie) = responder.answer_hello(&mut self.jar, NOW, self.from, &hello) else { return false };
                assert!(cookie.len() <= datagram.len());
                assert_eq!(hello.sender == 1, cookie == self.sent[1], "a cookie is for one index");
            }
            Datagram::Cookie(cookie) => {
                let init = initiation(&self.keys, psk).handle_cookie(&cookie, Some(theirs), b"init");
                let Ok(init) = init else { return false };
                assert_eq!(init == self.sent[2], right(1));
            }
            Datagram::Init(init) => {
                let mut rng = Rng::from_seed([2; 32]);
                let forwarded = responder.read_forwarded_init(ours, &init, &mut rng);
                assert!(forwarded.is_err() || differ_in_cookie(&self.sent[2], datagram));
                let Ok(request) = responder.read_init(&self.jar, NOW, self.from, &init, &mut rng) else { return false };
                assert!(right(2) && request.peer() == ours && request.payload() == b"init");
            }
            Datagram::Response(response) => {
                let mut initiation = initiation(&self.keys, psk);
                initiation.init_without_cookie(theirs, b"init").expect("INIT");
                let Ok((session, payload)) = initiation.handle_response(NOW, &response) else { return false };
                assert!(right(3) && session.remote_index() == 2 && payload == b"response");
            }
            Datagram::Data(data) => {
                let mut opened = Vec::new();
                if self.receiver.open(&data, &mut opened).is_err() {
                    return false;
                }
                assert!(right(4) && opened == b"data");
            }
            Datagram::Opener | Datagram::Unknown(_) => return false,
        }
        true
    }
}

/// The same each time.
fn initiation(keys: &[SecretKey; 2], psk: Psk<'_>) -> Initiation {
    Initiation::start(&keys[0], psk, 1, &mut Rng::from_seed([3; 32]))
}

/// Whether two INITs differ in label, cookie and MAC at most.
fn differ_in_cookie(one: &[u8], other: &[u8]) -> bool {
    let parts = |init: &[u8]| Some([init.get(4..20)?.to_vec(), init.get(36..init.len() - 16)?.to_vec()]);
    parts(one) == parts(other)
}
