//! n2n 1.x at the same hosts behind the same NATs: a supernode where the rendezvous server is, an edge on each host.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use wavnet_common::addr::Mac;

use super::{Place, cost::Member, meter::Meter, report::Formation};
use crate::{
    bench::contender::tools::{start, wait_interface},
    lab::{frame::checksum, host::Host, netns::Netns, process::Process, tools},
};

pub(super) const NAME: &str = "n2n";
/// What must be there.
pub(super) const PROGRAMS: [&str; 2] = ["supernode", "edge"];

const TAP: &str = "n2n0";
const SUPERNODE_PORT: u16 = 7654;
const EDGE_PORT: u16 = 7655;
/// Its default.
const MTU: u32 = 1400;
/// How long answers may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two requests of a host.
const PACE: Duration = Duration::from_millis(5);

/// A supernode and edges, until they drop.
pub(super) struct N2n {
    supernode: Host,
    edges: Vec<Process>,
    _supernode: Process,
}

/// Address of the edge of this number, from 0.
pub(super) fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, n as u8 + 1)
}

fn mac(n: usize) -> Mac {
    Mac([2, 99, 0, 0, 0, n as u8 + 1])
}

impl N2n {
    /// A supernode without edges.
    pub(super) fn new(host: &Host) -> Result<N2n> {
        let process = start(host, "supernode", &format!("-l {SUPERNODE_PORT}"))?;
        Ok(N2n { supernode: host.clone(), edges: Vec::new(), _supernode: process })
    }

    /// Starts edges on these hosts, those that have none yet.
    pub(super) fn grow(&mut self, places: &[Place]) -> Result<()> {
        let supernode = self.supernode.addr;
        for (n, place) in places.iter().enumerate().skip(self.edges.len()) {
            let words = format!(
                "-d {TAP} -a {} -c bench -k secret -m {} -M {MTU} -p {EDGE_PORT} -l {supernode}:{SUPERNODE_PORT}",
                address(n),
                mac(n)
            );
            let mut edge = start(&place.host, "edge", &words)?;
            wait_interface(&place.host, &mut edge, TAP, MTU)?;
            self.edges.push(edge);
        }
        // Resolution is not what is measured: each request would be a broadcast that the supernode copies to everybody.
        for (n, place) in places.iter().enumerate() {
            let others = (0..places.len()).filter(|other| *other != n);
            let batch: String = others
                .map(|other| {
                    format!("neigh replace {} lladdr {} nud permanent dev {TAP}\n", address(other), mac(other))
                })
                .collect();
            tools::feed(place.host.ns.command("ip").args(["-batch", "-"]), &batch)?;
        }
        Ok(())
    }

    /// What is watched.
    pub(super) fn members(&self, places: &[Place]) -> Vec<Member> {
        let pairs = self.edges.iter().zip(places);
        pairs.map(|(edge, place)| Member { pid: edge.pid(), interface: place.interface.clone() }).collect()
    }

    /// Has every edge ping all others until all have answered, or for `most`: then says which have, and how many of a further
    /// round's requests and answers went over the supernode. It has no tunnels before frames want them.
    pub(super) fn form(
        &self,
        internet: &Netns,
        places: &[Place],
        supernode: &str,
        most: Duration,
    ) -> Result<Formation> {
        let start = Instant::now();
        let mut missing = round(places)?;
        while !missing.is_empty() && start.elapsed() < most {
            // Who has answered once is found, whatever is lost later.
            let again = round(places)?;
            missing.retain(|pair| again.contains(pair));
        }
        let up = start.elapsed().as_secs_f64();
        let interface = [supernode.to_owned()];
        let meter = Meter::start(internet, &interface)?;
        round(places)?;
        // What the supernode sends on: each of a relayed pair's two requests and two answers, once.
        let relayed_frames = meter.read()?.first().context("no counters")?.sent.packets;
        let pairs = places.len() * (places.len() - 1) / 2;
        let without_path: BTreeSet<_> = missing.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
        let without_path = without_path.len();
        let relayed = (relayed_frames as usize / 4).min(pairs - without_path);
        Ok(Formation {
            pairs,
            direct: pairs - without_path - relayed,
            relayed,
            without_path,
            all_up_s: missing.is_empty().then_some(up),
            ..Formation::default()
        })
    }
}

/// Each pings all others once, all at the same time; the pairs, from and to, without an answer.
fn round(places: &[Place]) -> Result<BTreeSet<(usize, usize)>> {
    let one = |from: usize, place: &Place| {
        let wanted: BTreeSet<_> = (0..places.len()).filter(|to| *to != from).collect();
        let answered = ping_all(&place.host.ns, &wanted)?;
        Ok::<_, anyhow::Error>(wanted.difference(&answered).map(|to| (from, *to)).collect::<Vec<_>>())
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            places.iter().enumerate().map(|(from, place)| scope.spawn(move || one(from, place))).collect();
        let mut missing = BTreeSet::new();
        for thread in threads {
            missing.extend(thread.join().map_err(|_| anyhow!("a thread that pings panicked"))??);
        }
        Ok(missing)
    })
}

fn ping_all(ns: &Netns, wanted: &BTreeSet<usize>) -> Result<BTreeSet<usize>> {
    let open = || Ok(socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?);
    // std's type serves any socket that sends and receives datagrams.
    let socket = UdpSocket::from(ns.enter(open).with_context(|| format!("pinging from {}", ns.short_name()))?);
    let mut packet = [0u8; 64];
    packet[0] = 8;
    packet[4..6].copy_from_slice(b"n2");
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    socket.set_read_timeout(Some(PACE))?;
    let mut answered = BTreeSet::new();
    for to in wanted {
        // What is refused is not answered either.
        let _ = socket.send_to(&packet, (address(*to), 0));
        hear(&socket, &mut answered);
    }
    let start = Instant::now();
    while answered.len() < wanted.len() && start.elapsed() < PATIENCE {
        hear(&socket, &mut answered);
        thread::sleep(PACE);
    }
    ensure!(answered.is_subset(wanted), "an answer from somebody who was not asked: {answered:?}");
    Ok(answered)
}

/// Takes the answers that have come.
fn hear(socket: &UdpSocket, answered: &mut BTreeSet<usize>) {
    let mut buffer = [0; 256];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let header = usize::from(buffer[0] & 15) * 4;
        let icmp = buffer.get(header..length).unwrap_or_default();
        let std::net::IpAddr::V4(from) = from.ip() else { continue };
        if icmp.first() == Some(&0) && icmp.get(4..6) == Some(b"n2") {
            answered.insert(usize::from(from.octets()[3]) - 1);
        }
    }
}
