//! Whether a tap has XDP: chosen by what its VM sends.
//!
//! XDP saves about 0.5 µs for each datagram that it carries. But while a tap has a program, the kernel copies each super-packet before it
//! runs it, which costs about 10 µs. Where there are twenty datagrams to a super-packet it is all one; to either side of that,
//! XDP comes and goes, at some distance, so that a mixture does not make it do both.

use std::{collections::BTreeMap, fmt, time::Duration};

use wavnet_common::abi::Mix;

use crate::fabric::AdaptivePort;

/// So many datagrams a second are worth it: 5 ms of a CPU's second.
const DATAGRAMS: u64 = 10_000;
/// XDP comes where there are so many datagrams to a super-packet.
const COMES: u64 = 32;
/// It goes where there are fewer than so many.
const GOES: u64 = 8;
/// Fewer super-packets a second do no harm: 1 ms of a CPU's second.
const SUPER_PACKETS: u64 = 100;
/// XDP that leaves more than so many datagrams to TC for each that it carries is of no use: they have no checksum, say.
const LEFT: u64 = 4;
/// How long a port stays as it is, at the least.
const HOLD: Duration = Duration::from_secs(5);
/// XDP that went earlier than this was not worth its coming, and comes back later, twice as late each time.
const WORTH: Duration = Duration::from_secs(60);
/// But not later than this. A VM that plays with it costs us a few lines in the log.
const LATEST: Duration = Duration::from_secs(320);
/// Over less time nothing is measured.
const SHORTEST: Duration = Duration::from_millis(100);

/// How often to look at each port.
pub const PERIOD: Duration = Duration::from_millis(500);

/// The ports that are chosen for, by interface index.
#[derive(Clone, Debug, Default)]
pub struct Chooser(BTreeMap<u32, Watched>);

/// A port as it was when it was looked at.
#[derive(Clone, Copy, Debug)]
struct Watched {
    at: Duration,
    port: AdaptivePort,
    counted: Mix,
    /// It stays as it is until then.
    until: Duration,
    /// When XDP came, and for how long it stayed away before.
    came: Duration,
    pause: Duration,
    /// The time before spoke for XDP, too: one burst does not bring it.
    spoke_for: bool,
}

/// That a port shall have XDP, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// It shall.
    pub xdp: bool,
    /// Why.
    pub why: Why,
    /// What it sends a second.
    pub rates: Mix,
}

/// What a choice was made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Many datagrams.
    Datagrams,
    /// Super-packets.
    SuperPackets,
    /// XDP leaves most datagrams to TC.
    Useless,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mix { carried, left, super_packets } = self.rates;
        let what = match self.why {
            Why::Datagrams => "it sends mostly datagrams",
            Why::SuperPackets => "it sends super-packets, which XDP on a tap makes slow",
            Why::Useless => "XDP cannot carry most of its datagrams",
        };
        write!(f, "{what} (a second: {} datagrams, {super_packets} super-packets)", carried.saturating_add(left))
    }
}

impl Chooser {
    /// Takes what the programs have counted so far of a port, and says if XDP on it is to change. Whether it has changed, the next
    /// look sees: what is chosen may be refused, or have to wait. Time is since whenever.
    pub fn look(&mut self, port: AdaptivePort, now: Duration, counted: Mix) -> Option<Choice> {
        let new = Watched { at: now, port, counted, until: now, came: now, pause: HOLD, spoke_for: false };
        let watched = self.0.entry(port.ifindex).or_insert(new);
        if port.xdp != watched.port.xdp {
            watched.switched(port.xdp, now);
        }
        let time = now.saturating_sub(watched.at);
        let comparable = port.index == watched.port.index && !went_back(&watched.counted, &counted);
        if comparable && time < SHORTEST {
            return None;
        }
        let before = std::mem::replace(&mut watched.counted, counted);
        (watched.at, watched.port) = (now, port);
        if !comparable {
            watched.spoke_for = false;
            return None;
        }
        let rates = rates(&before, &counted, time);
        let why = if port.xdp { against(&rates) } else { speaks_for(&rates).then_some(Why::Datagrams) };
        let lasts = std::mem::replace(&mut watched.spoke_for, why == Some(Why::Datagrams)) || port.xdp;
        let why = why.filter(|_| lasts && now >= watched.until)?;
        Some(Choice { xdp: !port.xdp, why, rates })
    }

    /// Forgets ports that are not chosen for any more.
    pub fn retain(&mut self, is_one: impl Fn(u32) -> bool) {
        self.0.retain(|ifindex, _| is_one(*ifindex));
    }
}

impl Watched {
    /// XDP has come, or gone.
    fn switched(&mut self, xdp: bool, now: Duration) {
        self.port.xdp = xdp;
        self.spoke_for = false;
        if xdp {
            (self.came, self.until) = (now, now + HOLD);
        } else {
            let worth = now.saturating_sub(self.came) >= WORTH;
            self.pause = if worth { HOLD } else { (self.pause * 2).min(LATEST) };
            self.until = now + self.pause;
        }
    }
}

fn speaks_for(rates: &Mix) -> bool {
    let datagrams = rates.carried.saturating_add(rates.left);
    datagrams >= DATAGRAMS && datagrams >= rates.super_packets.saturating_mul(COMES)
}

fn against(rates: &Mix) -> Option<Why> {
    if rates.super_packets > SUPER_PACKETS && rates.super_packets.saturating_mul(GOES) > rates.carried {
        Some(Why::SuperPackets)
    } else if rates.left >= DATAGRAMS && rates.left > rates.carried.saturating_mul(LEFT) {
        Some(Why::Useless)
    } else {
        None
    }
}

/// The slot's counters began anew: nothing is known of what came since.
const fn went_back(before: &Mix, after: &Mix) -> bool {
    after.carried < before.carried || after.left < before.left || after.super_packets < before.super_packets
}

/// A second.
fn rates(before: &Mix, after: &Mix, time: Duration) -> Mix {
    let rate = |before: u64, after: u64| {
        let per_second = u128::from(after.saturating_sub(before)) * 1000 / time.as_millis().max(1);
        u64::try_from(per_second).unwrap_or(u64::MAX)
    };
    Mix {
        carried: rate(before.carried, after.carried),
        left: rate(before.left, after.left),
        super_packets: rate(before.super_packets, after.super_packets),
    }
}
