//! Tenants never meet, though they use the same MACs and addresses.

use std::time::Duration;

use wavnet_common::{addr::Mac, addr::Vni, reason::Reason};
use wavnet_tests::lab::{
    self, Need,
    agent::Agent,
    config::AgentConfig,
    frame::{has_mark, marked},
    host::{Vm, VmSpec},
    overlay::{SOON, ip, mac, until, vni},
    ping::{self, Ping},
    raw::RawSocket,
    stream,
};
use wavnet_user::api::model::PlaceInfo;

const NEEDS: &[Need] = &[Need::Wavnet];

#[test]
fn tenants_with_the_same_macs_and_addresses_are_isolated() {
    lab::run("tenants_with_the_same_macs_and_addresses_are_isolated", NEEDS, |lab| {
        let hosts = lab.pair(1600)?;
        let tenants: [Vni; 2] = [vni(1), vni(0xff_ffff)];
        // [host][tenant]: red and blue have the same MAC and address on each host.
        let names = [["r1", "b1"], ["r2", "b2"]];
        let mut vms: Vec<Vec<Vm>> = Vec::new();
        for (host, names) in hosts.iter().zip(names) {
            let n = vms.len() as u8 + 1;
            let row = names.map(|name| host.vm(lab, &VmSpec::new(name, mac(n), ip(n))));
            vms.push(row.into_iter().collect::<Result<_, _>>()?);
        }
        let mut agents = Vec::new();
        for (i, host) in hosts.iter().enumerate() {
            let mut config = AgentConfig::new(&tenants).peer(hosts[1 - i].addr, &tenants);
            for (name, tenant) in names[i].iter().zip(tenants) {
                config = config.port(&format!("p-{name}"), tenant);
            }
            agents.push(Agent::start(lab, host, &config)?);
        }
        for agent in &agents {
            agent.wait_ready()?;
        }

        let pings: Vec<Ping> = (0..2)
            .map(|t| {
                ping::once(&vms[0][t].ns, ip(2), 56, SOON)?;
                Ping::start(&vms[0][t].ns, ip(2), Duration::from_millis(5))
            })
            .collect::<Result<_, _>>()?;
        let nics: Vec<Vec<RawSocket>> = vms
            .iter()
            .map(|row| row.iter().map(|vm| RawSocket::open(&vm.ns, Vm::NIC)).collect())
            .collect::<Result<_, _>>()?;
        for t in 0..2 {
            let mine = format!("secret-of-{t}");
            for dst in [Mac::BROADCAST, mac(2), mac(0x99), Mac([1, 0, 0x5e, 1, 2, 3])] {
                nics[0][t].send(&marked(dst, mac(1), &mine))?;
            }
            stream::bulk(&vms[1][t].ns, ip(2), &vms[0][t].ns, 300_000)?;
            // A fence in both tenants: what was sent before has arrived wherever it would.
            for (other, nic) in nics[0].iter().enumerate() {
                nic.send(&marked(Mac::BROADCAST, mac(1), &format!("fence-{t}-{other}")))?;
            }
            let here = until(&nics[1][t], &format!("fence-{t}-{t}"))?;
            assert_eq!(here.iter().filter(|f| has_mark(f, &mine)).count(), 4, "frames of tenant {t} that arrived");
            let there = until(&nics[1][1 - t], &format!("fence-{t}-{}", 1 - t))?;
            assert!(!there.iter().any(|f| has_mark(f, &mine)), "tenant {} saw a frame of tenant {t}", 1 - t);
            let beside = nics[0][1 - t].drain(|f| has_mark(f, &mine))?;
            assert!(beside.is_empty(), "tenant {} on the same host saw a frame of tenant {t}", 1 - t);
        }
        for ping in pings {
            let loss = ping.stop();
            assert_eq!(loss.lost(), 0, "{loss:?}");
        }
        for tenant in tenants {
            let entries = agents[0].fdb()?;
            let mut mine: Vec<_> = entries.iter().filter(|e| e.vni == tenant).map(|e| (e.mac, &e.place)).collect();
            mine.sort_by_key(|e| e.0);
            let port = format!("p-{}", names[0][usize::from(tenant != tenants[0])]);
            assert_eq!(mine, [(mac(1), &PlaceInfo::Port(port)), (mac(2), &PlaceInfo::Peer(hosts[1].addr))]);
        }
        assert_eq!(agents[1].drops(Reason::UnknownVni)?, 0);
        Ok(())
    });
}
