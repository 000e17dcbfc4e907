//! Searches that find nothing: they grow rarer, and cost neither router more than one of them does.

use std::time::Duration;

use wavnet_proto::mesh::{ENTRIES, PathKind};
use wavnet_sim::{Attached, Direction, Seed, nat::NatConfig};

use crate::{
    grid::Kind,
    world::{World, cone},
};

/// In seconds.
const HOUR: u64 = 3600;
/// Datagrams out of a site in a second, of which a search has some hundreds and everything else some; or sockets, of which it opens as many.
const BUSY: u64 = 100;
/// Datagrams of a search: each side tries 480 ports or sockets, one of them three times.
const SEARCH: u64 = 1600;
/// All others in a second: there are the server's pulses and the relay's.
const OTHERS: u64 = 2;

/// When there was much of something, in bursts: seconds from the start.
#[derive(Default)]
struct Bursts {
    begun: Vec<u64>,
    last: Option<u64>,
    all: u64,
}

impl Bursts {
    /// So much of it was there in this second. (A search lasts for some of them.)
    fn note(&mut self, second: u64, count: u64) {
        self.all += count;
        if count >= BUSY {
            if self.last.is_none_or(|last| second - last > 10) {
                self.begun.push(second);
            }
            self.last = Some(second);
        }
    }

    fn gaps(&self) -> Vec<u64> {
        self.begun.windows(2).map(|two| two[1] - two[0]).collect()
    }
}

#[test]
fn searches_in_vain_grow_ever_rarer() {
    Seed::each(4, |seed| {
        let mut world = World::new(seed, Duration::from_millis(10));
        let a = world.behind("a", NatConfig::symmetric(), Kind::Symmetric.summary());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        // Nothing but the relay leads from the one to the other.
        let [one, other]: [Attached; 2] = [a, b].map(|site| site.router.expect("a NAT").into());
        world.net.set_partition(&[one], &[other], true);
        // Datagrams that each site sends, and sockets of the side that opens some.
        let [mut hard, mut easy, mut open] = [(); 3].map(|()| Bursts::default());
        for second in 0..HOUR {
            let carried = |world: &World| [one, other].map(|of| world.net.link_stats(of, Direction::Up).carried);
            let before = carried(&world);
            world.net.run_for(Duration::from_secs(1));
            let after = carried(&world);
            hard.note(second, after[0] - before[0]);
            easy.note(second, after[1] - before[1]);
            open.note(second, world.net.sockets(a.host).len() as u64);
            if second > 5 {
                assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Relayed), Some(PathKind::Relayed)));
            }
        }
        for bursts in [&hard, &easy, &open] {
            let gaps = bursts.gaps();
            assert!((5..=8).contains(&bursts.begun.len()), "{:?}", bursts.begun);
            assert!(gaps.first().is_some_and(|first| *first >= 30), "{gaps:?}");
            assert!(gaps.windows(2).all(|two| two[1] * 2 >= two[0] * 3), "{gaps:?} do not grow");
        }
        for bursts in [&hard, &easy] {
            let most = bursts.begun.len() as u64 * SEARCH + HOUR * OTHERS;
            assert!(bursts.all < most, "{} datagrams in an hour, and {most} are the most", bursts.all);
        }
        for site in [a, b] {
            let peak = world.net.router_stats(site.router.expect("a NAT")).flows.peak;
            assert!(peak <= usize::from(ENTRIES), "{peak}");
        }
        // The way is free: the next one finds something.
        world.net.set_partition(&[one], &[other], false);
        let met = world.until_paths(a, b, Duration::from_secs(3 * 3600), |kind| kind == PathKind::Direct);
        assert!(met.is_some(), "{}", world.net.trace());
    });
}
