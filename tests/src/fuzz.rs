//! What the fuzz targets (`fuzz/`) do with their input: here, so that stable tests replay the corpus through the same code. Each
//! panics on a finding.

use wavnet_common::{
    abi::{ConfigFlags, Event},
    relay,
    testing::{
        Devices, Hook, Stimulus, TestTables, World,
        relay::{RelayDevices, RelayStimulus, RelayTables, RelayWorld, run_relay},
        run,
    },
};
use wavnet_user::{api::protocol::RequestLine, config::Config};

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
/// tag beside the data.
pub fn relay(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else { return };
    let devices = &RelayDevices::NUMBERS;
    let world = RelayWorld::new(devices);
    for hook in [relay::Hook::Xdp, relay::Hook::Tc] {
        let mut stimulus = RelayStimulus::new(hook, devices.nic, bytes.to_vec());
        stimulus.incomplete = flags & 4 != 0;
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

/// A configuration: an error has a message, and what is accepted can be read again.
pub fn config(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    match Config::parse(text, "fuzz.toml") {
        Ok(config) => assert_eq!(Config::parse(text, "fuzz.toml").ok(), Some(config)),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

/// A line that a client sent: a refusal has a message.
pub fn request(data: &[u8]) {
    if let Err(refusal) = RequestLine::parse(data) {
        assert!(!refusal.message.is_empty());
    }
}
