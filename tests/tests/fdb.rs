//! The forwarding table: static entries, ageing, and what happens when it is full.

use std::net::Ipv4Addr;

use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    self, Need,
    frame::{Outer, has_mark, marked},
    overlay::{Lone, SOON, blue, mac, until},
    poll_until, wait_until,
};
use wavnet_user::api::model::{FdbEntry, FdbKind, PlaceInfo};

const NEEDS: &[Need] = &[Need::Wavnet];
const OTHER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 102);

fn receivers(frames: &[Vec<u8>], mark: &str) -> Vec<Ipv4Addr> {
    let to = |f: &&Vec<u8>| <[u8; 4]>::try_from(&f[30..34]).map(Ipv4Addr::from).unwrap_or(Ipv4Addr::UNSPECIFIED);
    frames.iter().filter(|f| f.len() > 50 && has_mark(f, mark)).map(|f| to(&f)).collect()
}

#[test]
fn static_entries_are_obeyed_and_never_learned_over() {
    lab::run("static_entries_are_obeyed_and_never_learned_over", NEEDS, |lab| {
        let net = Lone::start(lab, &[OTHER], |c| {
            c.static_peer(blue(), mac(0x50), OTHER).static_port(blue(), mac(0x51), "p-a")
        })?;
        let find = |n: u8| -> anyhow::Result<FdbEntry> {
            let found = net.agent.fdb()?.into_iter().find(|e| e.mac == mac(n));
            found.ok_or_else(|| anyhow::anyhow!("{} is not in the FDB", mac(n)))
        };
        for (n, place) in [(0x50, PlaceInfo::Peer(OTHER)), (0x51, PlaceInfo::Port("p-a".into()))] {
            let entry = poll_until("the static entry", SOON, || find(n))?;
            assert_eq!((entry.kind, entry.place, entry.age_s), (FdbKind::Static, place, None));
        }
        let kept = net.agent.metric("wavnet_fdb_static_kept_total", &[])?;
        // The wrong peer claims the MAC; the entry stays.
        net.inject(&net.outer(), &marked(Mac::BROADCAST, mac(0x50), "claim"))?;
        until(&net.vm_nic, "claim")?;
        net.vm_nic.send(&marked(mac(0x50), mac(1), "to-static"))?;
        let out = net.fence_out("fence")?;
        assert_eq!(receivers(&out, "to-static"), [OTHER], "receivers of a frame to a static MAC");
        assert_eq!(find(0x50)?.place, PlaceInfo::Peer(OTHER));
        wait_until("the claim to be counted", SOON, || {
            Ok(net.agent.metric("wavnet_fdb_static_kept_total", &[])? > kept)
        })?;
        // A static MAC behind a port takes unicast from the first frame on.
        net.inject(&net.outer(), &marked(mac(0x51), mac(0x10), "to-port"))?;
        until(&net.vm_nic, "to-port")?;
        Ok(())
    });
}

#[test]
fn learned_entries_age_and_static_ones_do_not() {
    lab::run("learned_entries_age_and_static_ones_do_not", NEEDS, |lab| {
        let net =
            Lone::start(lab, &[OTHER], |c| c.static_peer(blue(), mac(0x50), OTHER).table("[fdb]\nageing = \"2s\""))?;
        net.inject(&net.outer(), &marked(Mac::BROADCAST, mac(0x10), "hello"))?;
        until(&net.vm_nic, "hello")?;
        let has = |n: u8| -> anyhow::Result<bool> { Ok(net.agent.fdb()?.iter().any(|e| e.mac == mac(n))) };
        wait_until("the sender to be learned", SOON, || has(0x10))?;
        wait_until("the learned entry to age", SOON, || Ok(!has(0x10)?))?;
        assert!(has(0x50)?, "the static entry aged");
        let aged = net.agent.metric("wavnet_fdb_aged_total", &[])?;
        assert!(aged >= 1.0, "{aged} entries counted as aged");
        // Known no more: a frame to it is flooded again.
        net.vm_nic.send(&marked(mac(0x10), mac(1), "forgotten"))?;
        let out = net.fence_out("fence")?;
        assert_eq!(receivers(&out, "forgotten").len(), 2, "copies of a frame to a forgotten MAC");
        Ok(())
    });
}

#[test]
fn a_mac_that_moves_between_peers_is_followed() {
    lab::run("a_mac_that_moves_between_peers_is_followed", NEEDS, |lab| {
        let net = Lone::start(lab, &[OTHER], |c| c)?;
        let from_other = Outer { src: OTHER, ..net.outer() };
        for (round, (outer, at)) in
            [(net.outer(), net.far.addr), (from_other, OTHER)].into_iter().cycle().take(6).enumerate()
        {
            let mark = format!("round-{round}");
            net.inject(&outer, &marked(Mac::BROADCAST, mac(0x10), &mark))?;
            until(&net.vm_nic, &mark)?;
            net.vm_nic.send(&marked(mac(0x10), mac(1), &format!("reply-{round}")))?;
            let out = net.fence_out(&format!("fence-{round}"))?;
            assert_eq!(receivers(&out, &format!("reply-{round}")), [at], "round {round}");
        }
        let moved = net.agent.metric("wavnet_fdb_moved_total", &[])?;
        assert!(moved >= 5.0, "{moved} moves counted");
        Ok(())
    });
}

#[test]
fn a_full_table_is_counted_and_frames_still_flow() {
    lab::run("a_full_table_is_counted_and_frames_still_flow", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c.table("[fdb]\nentries = 16"))?;
        let capacity = net.agent.status()?.counts.fdb_capacity;
        assert!((16..1000).contains(&capacity), "capacity {capacity}");
        for i in 0..2000u16 {
            let [high, low] = i.to_be_bytes();
            net.inject(&net.outer(), &marked(Mac::BROADCAST, Mac([2, 1, 0, 0, high, low]), &format!("flood {i}")))?;
            if i % 100 == 99 {
                // Each of them arrives though the table is full.
                let fence = format!("flood {i}");
                let before = until(&net.vm_nic, &fence)?;
                assert_eq!(before.len(), 99, "frames that arrived before {fence}");
            }
        }
        let full = net.agent.metric("wavnet_fdb_full_total", &[])?;
        assert!(full >= 2000.0 - capacity as f64, "{full} of 2000 found the table full, which has {capacity} entries");
        let status = net.agent.status()?;
        assert!(status.counts.fdb_entries <= capacity, "{status:?}");
        assert!(!status.warnings.is_empty(), "a full FDB deserves a warning: {status:?}");
        net.fence_out("still out")?;
        net.fence_in("still in")?;
        Ok(())
    });
}

#[test]
fn entries_come_and_go_by_command() {
    lab::run("entries_come_and_go_by_command", NEEDS, |lab| {
        let net = Lone::start(lab, &[OTHER], |c| c)?;
        let has = || -> anyhow::Result<bool> {
            Ok(net.agent.fdb()?.iter().any(|e| e.mac == mac(0x60) && e.kind == FdbKind::Static))
        };
        net.agent.cli(&format!("fdb add --vni 100 --mac {} --peer {OTHER}", mac(0x60)))?;
        assert!(has()?);
        net.vm_nic.send(&marked(mac(0x60), mac(1), "added"))?;
        assert_eq!(receivers(&net.fence_out("fence-1")?, "added"), [OTHER]);
        net.agent.cli(&format!("fdb remove --vni 100 --mac {}", mac(0x60)))?;
        assert!(!has()?);
        net.vm_nic.send(&marked(mac(0x60), mac(1), "removed"))?;
        assert_eq!(receivers(&net.fence_out("fence-2")?, "removed").len(), 2);
        Ok(())
    });
}
