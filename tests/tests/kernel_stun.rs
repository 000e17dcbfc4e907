//! STUN answered by the relay's XDP programs, on the host and in the kernel, against what the server itself would answer.

use std::{net::SocketAddr, num::NonZeroU32, time::Instant};

use anyhow::{Context, Result, ensure};
use wavnet_common::{
    abi::relay::{RelayConfig, RelayCount, StunSource},
    relay::{Hook, Verdict},
    testing::{
        Rng,
        frames::{Outer, UdpSum, checksum, summed},
        relay::{
            OTHER, RelayDevices, RelayOutcome, RelayStimulus, RelayTables, RelayWorld, SERVER, hop_mac, link_mac,
            run_relay,
        },
    },
};
use wavnet_proto::{
    relay::RelayCommand,
    stun::{
        Attribute, AttributeType, Builder, Class, TransactionId,
        server::{LONGEST_ANSWER, Responder},
    },
    transmit::Socket,
};
use wavnet_tests::kernel::{RelaySandbox, require};

const REQUESTS: usize = 5_000;
/// Where UDP payloads begin.
const PAYLOAD: usize = 42;

/// The server in user space, with a second address or without.
fn responder(has_other: bool) -> Responder {
    let main = SocketAddr::from((SERVER.addr, SERVER.port));
    Responder::new(main, Some(OTHER.port), has_other.then(|| OTHER.addr.into())).expect("addresses that can be")
}

/// The configuration for that in the kernel.
fn config(world: &RelayWorld, has_other: bool) -> RelayConfig {
    RelayConfig { other_port: if has_other { world.config.other_port } else { [0; 2] }, ..world.config }
}

/// A request, and whether the program should answer it.
struct Asked {
    payload: Vec<u8>,
    source: SocketAddr,
    frame: Vec<u8>,
    is_plain: bool,
}

fn flip(rng: &mut Rng) -> bool {
    rng.below(2) == 0
}

fn request(rng: &mut Rng) -> Vec<u8> {
    let id = std::array::from_fn(|_| rng.bits() as u8);
    let id = TransactionId::new(id);
    let text = "x".repeat(rng.below(20));
    let attributes = [
        Attribute::Software(&text),
        Attribute::ChangeRequest { ip: flip(rng), port: flip(rng) },
        Attribute::ChangeRequest { ip: false, port: false },
        Attribute::Padding(rng.below(64) as u16),
        Attribute::ResponsePort(rng.bits() as u16),
        Attribute::Other(AttributeType(rng.bits() as u16), text.as_bytes()),
    ];
    let some = [attributes[rng.below(attributes.len())]];
    let with = if rng.below(3) == 0 { &some[..] } else { &[] };
    if rng.below(8) == 0 {
        let mut out = vec![0; 256];
        let mut builder = Builder::new(&mut out, Class::Request, id);
        with.iter().for_each(|attribute| _ = builder.add(attribute));
        let len = builder.finish_with_fingerprint().expect("room");
        out.truncate(len);
        return out;
    }
    Builder::message(Class::Request, id, with).expect("not too long")
}

/// A frame with a request, as it comes from a router.
fn sent(addr: [u8; 4], port: u16, request: &[u8]) -> Vec<u8> {
    let outer = Outer {
        eth_dst: link_mac(0).0,
        eth_src: hop_mac(1).0,
        src: addr,
        udp_src: port,
        dst: SERVER.addr,
        udp_dst: SERVER.port,
        ..Outer::default()
    };
    outer.carry(request)
}

fn asked(rng: &mut Rng) -> Asked {
    let mut payload = request(rng);
    if rng.below(4) == 0 {
        let (at, bit) = (rng.below(20), rng.below(8));
        // That bit of the first byte makes it a frame, which may be dropped.
        payload[at] ^= if (at, bit) == (0, 3) { 0 } else { 1 << bit };
    }
    let (addr, port) = (std::array::from_fn(|_| rng.bits() as u8), rng.bits() as u16);
    // Now and then one of the server's.
    let addr = if rng.below(50) == 0 { rng.pick(&[SERVER.addr, OTHER.addr]) } else { addr };
    let frame = sent(addr, port, &payload);
    let frame = if flip(rng) { summed(&frame, UdpSum::Right) } else { frame };
    let is_host = port != 0 && !matches!(addr[0], 0 | 127 | 224..) && ![SERVER.addr, OTHER.addr].contains(&addr);
    let is_plain = is_host && payload.starts_with(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]) && payload.len() == 20;
    Asked { payload, source: (addr, port).into(), frame, is_plain }
}

/// The answer is the server's, byte for byte, and the headers around it are as the kernel writes them for its socket.
fn check(asked: &Asked, outcome: &RelayOutcome, responder: &Responder) -> Result<()> {
    let taken = outcome.counts.contains_key(&RelayCount::StunAnswered);
    ensure!(taken == asked.is_plain, "{outcome:02x?}");
    if !taken {
        ensure!(outcome.verdict == Verdict::Pass && outcome.bytes == asked.frame, "{outcome:02x?}");
        return Ok(());
    }
    ensure!(outcome.verdict == Verdict::Back, "{outcome:?}");
    let mut buffer = [0; LONGEST_ANSWER];
    let answer = responder.respond(Socket::Main, asked.source, &asked.payload, &mut buffer)?;
    ensure!(answer.to == asked.source && answer.from == Socket::Main && answer.error.is_none());
    let (wanted, found) = (&buffer[..answer.len], &outcome.bytes[PAYLOAD..]);
    ensure!(found == wanted, "{found:02x?} instead of {wanted:02x?}");
    let from = &asked.frame;
    let headers = [&from[6..12], &from[..6], &[8, 0, 0x45, 0]].concat();
    ensure!(outcome.bytes[..16] == headers[..], "{outcome:02x?}");
    let ip = &outcome.bytes[14..34];
    ensure!(usize::from(u16::from_be_bytes([ip[2], ip[3]])) == outcome.bytes.len() - 14 && checksum(ip) == 0);
    ensure!(ip[4..10] == [0, 0, 0x40, 0, 64, 17] && ip[12..] == [&from[30..34], &from[26..30]].concat()[..]);
    ensure!(outcome.bytes[34..38] == [&from[36..38], &from[34..36]].concat()[..]);
    ensure!(outcome.bytes == summed(&outcome.bytes, UdpSum::Right), "{outcome:02x?}");
    Ok(())
}

fn seed() -> u64 {
    let seed = std::env::var("WAVNET_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed_5780);
    println!("seed {seed} (WAVNET_TEST_SEED)");
    seed
}

#[test]
fn what_is_answered_is_answered_as_by_the_server() {
    let seed = seed();
    let (mut rng, mut answered) = (Rng::new(seed), 0);
    let world = RelayWorld::new(&RelayDevices::NUMBERS);
    for i in 0..20 * REQUESTS {
        let (has_other, asked) = (flip(&mut rng), asked(&mut rng));
        let mut tables = RelayTables::new(&world);
        tables.config = Some(config(&world, has_other));
        let stimulus = RelayStimulus::new(Hook::Xdp, RelayDevices::NUMBERS.nic, asked.frame.clone());
        let outcome = run_relay(&mut tables, &stimulus);
        if let Err(e) = check(&asked, &outcome, &responder(has_other)) {
            panic!("seed {seed}, request {i}: {e:#}");
        }
        answered += usize::from(asked.is_plain);
    }
    assert!(answered > 5 * REQUESTS, "only {answered} were plain");
}

#[test]
fn both_programs_answer_as_the_server() {
    if require("kernel_stun::both_programs_answer_as_the_server").is_none() {
        return;
    }
    let seed = seed();
    let result: Result<()> = RelaySandbox::run(|sandbox| {
        let (mut rng, mut answered) = (Rng::new(seed), 0);
        for has_other in [true, false] {
            sandbox.relay.apply(&RelayCommand::SetServer(config(&sandbox.world, has_other)))?;
            for i in 0..REQUESTS / 2 {
                let asked = asked(&mut rng);
                let stimulus = RelayStimulus::new(Hook::Xdp, sandbox.devices.nic, asked.frame.clone());
                for generic in [false, true] {
                    let context = || format!("seed {seed}, request {i}, another address {has_other}");
                    let outcome = sandbox.test_run(&stimulus, generic).with_context(context)?;
                    check(&asked, &outcome, &responder(has_other)).with_context(context)?;
                }
                answered += usize::from(asked.is_plain);
            }
        }
        ensure!(answered > REQUESTS / 4, "only {answered} were plain");
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}

/// Of a source that asks all the time, what is more than it may have is dropped, by both programs, and nobody else notices.
#[test]
fn a_source_is_answered_no_more_than_it_may_be() {
    const REQUESTS: u32 = 500;
    const PER_SECOND: u32 = 5;
    if require("kernel_stun::a_source_is_answered_no_more_than_it_may_be").is_none() {
        return;
    }
    let plain = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let result: Result<()> = RelaySandbox::run(|sandbox| {
        let nic = sandbox.devices.nic;
        let ask = |sandbox: &mut RelaySandbox, addr, port, generic| {
            let frame = sent(addr, port, &plain);
            let outcome = sandbox.test_run(&RelayStimulus::new(Hook::Xdp, nic, frame), generic)?;
            let wanted = match outcome.verdict {
                Verdict::Back => RelayCount::StunAnswered,
                _ => RelayCount::StunTooFast,
            };
            let is_right = matches!(outcome.verdict, Verdict::Back | Verdict::Drop);
            ensure!(is_right && outcome.counts == [(wanted, 1)].into(), "{outcome:02x?}");
            Ok(u32::from(outcome.verdict == Verdict::Back))
        };
        sandbox.world.config.stun_answer_ns = StunSource::answer_ns(NonZeroU32::new(PER_SECOND));
        for (generic, flood) in [(false, [198, 51, 100, 1]), (true, [198, 51, 100, 2])] {
            let (start, mut answered) = (Instant::now(), 0);
            for n in 0..REQUESTS {
                answered += ask(sandbox, flood, 1024 + n as u16, generic)?;
            }
            let most = f64::from(PER_SECOND) * (1.0 + start.elapsed().as_secs_f64());
            println!("{answered} of {REQUESTS} answered, {most:.1} may be");
            ensure!(answered >= PER_SECOND && f64::from(answered) <= most, "{answered} answers, and not {most}");
            // One of them may have drawn the flood's bucket; that two have is less likely than that the machine fails.
            let others: u32 = (0..8).map(|n| ask(sandbox, [203, 0, 113, 100 + n], 9, generic)).sum::<Result<u32>>()?;
            ensure!(others >= 7, "{others} of 8 others were answered");
        }
        sandbox.world.config.stun_answer_ns = 0;
        for n in 0..REQUESTS {
            ensure!(ask(sandbox, [198, 51, 100, 1], n as u16 + 1, false)? == 1, "request {n}, without a limit");
        }
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e:#}");
    }
}
