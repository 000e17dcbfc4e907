//! The lab's WAN: links do what they are asked to, and everything that is Ethernet passes.

mod attached;
mod impaired;
mod passing;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    Lab,
    frame::{EXPERIMENT, ethernet},
    netns::Netns,
    raw::RawSocket,
    wait_until,
    wan::{Counts, LinkSpec, WanLink, Way},
};

/// MTU of links.
const MTU: u32 = 1500;
/// For how long to wait for what must come.
const SOON: Duration = Duration::from_secs(20);

/// Two namespaces with nothing but a link between them, and raw sockets on its ends.
struct Ends {
    a: Netns,
    b: Netns,
    tx: RawSocket,
    rx: RawSocket,
    link: WanLink,
}

impl Ends {
    /// Name of the interfaces.
    const NIC: &str = "u0";

    fn new(lab: &Lab, spec: &LinkSpec) -> Result<Ends> {
        let (a, b) = (lab.netns("a")?, lab.netns("b")?);
        let link = WanLink::between(lab, "wan", [(&a, Ends::NIC), (&b, Ends::NIC)], MTU, spec)?;
        let (tx, rx) = (RawSocket::open(&a, Ends::NIC)?, RawSocket::open(&b, Ends::NIC)?);
        Ok(Ends { a, b, tx, rx, link })
    }

    /// Sends frames with these numbers, of so many bytes each.
    fn send(&self, numbers: std::ops::Range<u32>, bytes: usize) -> Result<()> {
        numbers.into_iter().try_for_each(|number| self.tx.send(&numbered(number, bytes)))
    }

    /// Waits until nothing is on its way up any more; what became of all.
    fn wait_through(&self, sent: u64) -> Result<Counts> {
        wait_until("all frames to be through", SOON, || {
            let c = self.link.counts(Way::Up)?;
            Ok(c.came == sent && c.out + c.lost + c.queue_full + c.faults() == sent)
        })
        .with_context(|| format!("{sent} sent: {:?}", self.link.counts(Way::Up)))?;
        let counts = self.link.counts(Way::Up)?;
        ensure!(counts.missed == 0 && counts.refused == 0, "{counts:?}");
        Ok(counts)
    }

    /// The numbers of frames that came, in the order in which they did.
    fn received(&self) -> Result<Vec<u32>> {
        Ok(self.rx.drain(|_| true)?.iter().filter_map(|frame| number(frame)).collect())
    }
}

/// A frame that carries its number.
fn numbered(number: u32, bytes: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(bytes - 14, 0x5a);
    ethernet(Mac::BROADCAST, Mac([2, 0, 0, 0, 0, 1]), EXPERIMENT, &payload)
}

fn number(frame: &[u8]) -> Option<u32> {
    let number = frame.get(14..18).filter(|_| frame[12..14] == EXPERIMENT.to_be_bytes())?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

/// True if every number is greater than the one before.
fn ascending(numbers: &[u32]) -> bool {
    numbers.windows(2).all(|pair| pair[0] < pair[1])
}

/// How long it takes until a frame has arrived.
fn time_of_one(ends: &Ends, number: u32) -> Result<Duration> {
    let frame = numbered(number, 100);
    let start = Instant::now();
    ends.tx.send(&frame)?;
    ends.rx.expect("the frame", SOON, |f| f == frame)?;
    Ok(start.elapsed())
}

/// The numbers that are missing.
fn missing(numbers: &[u32], of: std::ops::Range<u32>) -> BTreeSet<u32> {
    let there: BTreeSet<u32> = numbers.iter().copied().collect();
    of.filter(|number| !there.contains(number)).collect()
}
