//! A changed configuration is applied without touching what did not change.

use std::time::Duration;

use nix::sys::signal::Signal;
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    self, Need,
    frame::{has_mark, marked},
    host::{Vm, VmSpec},
    overlay::{Both, SOON, Shape, blue, ip, mac, until, vni},
    ping::{self, Ping},
    raw::RawSocket,
    wait_until,
};
use wavnet_user::api::model::AttachState;

const NEEDS: &[Need] = &[Need::Wavnet];

#[test]
fn reload_adds_and_removes_under_traffic() {
    lab::run("reload_adds_and_removes_under_traffic", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let pings = Ping::start(&net.a.ns, ip(2), Duration::from_millis(4))?;
        let vms = [net.hosts[0].vm(lab, &VmSpec::new("c", mac(3), ip(3)))?, {
            net.hosts[1].vm(lab, &VmSpec::new("d", mac(4), ip(4)))?
        }];
        let red = vni(200);
        let with_red = |i: usize| {
            let other = net.hosts[1 - i].addr;
            let ports = [("p-a", "p-c"), ("p-b", "p-d")][i];
            let config = lab::config::AgentConfig::new(&[blue(), red]).port(ports.0, blue()).port(ports.1, red);
            config.peer(other, &[blue(), red])
        };
        for (i, agent) in net.agents.iter().enumerate() {
            agent.write_config(&with_red(i))?;
            let said = agent.reload()?;
            assert!(said.contains(["p-c", "p-d"][i]), "reload does not say what it did: {said}");
            agent.wait_ready()?;
        }
        ping::once(&vms[0].ns, ip(4), 56, SOON)?;
        ping::unreachable(&vms[0].ns, ip(2))?;
        let said = net.agents[0].reload()?;
        assert!(!said.contains("p-c"), "nothing changed, yet reload says: {said}");

        // And back, by signal.
        for (i, agent) in net.agents.iter().enumerate() {
            agent.write_config(&net.config(i))?;
            agent.signal(Signal::SIGHUP)?;
            let gone = ["p-c", "p-d"][i];
            wait_until(&format!("{gone} to be no port any more"), SOON, || {
                Ok(!agent.ports()?.iter().any(|p| p.interface == gone))
            })?;
        }
        ping::unreachable(&vms[0].ns, ip(4))?;
        let (c, d) = (RawSocket::open(&vms[0].ns, Vm::NIC)?, RawSocket::open(&net.b.ns, Vm::NIC)?);
        c.send(&marked(Mac::BROADCAST, mac(3), "stray"))?;
        RawSocket::open(&net.a.ns, Vm::NIC)?.send(&marked(Mac::BROADCAST, mac(1), "fence"))?;
        assert!(!until(&d, "fence")?.iter().any(|f| has_mark(f, "stray")), "a removed port still sends");
        let loss = pings.stop();
        assert_eq!(loss.lost(), 0, "reloads disturbed what did not change: {loss:?}");
        Ok(())
    });
}

#[test]
fn a_port_moves_to_another_vni_by_reload() {
    lab::run("a_port_moves_to_another_vni_by_reload", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let red = vni(200);
        for (i, agent) in net.agents.iter().enumerate() {
            let other = net.hosts[1 - i].addr;
            let port = ["p-a", "p-b"][i];
            let config = lab::config::AgentConfig::new(&[blue(), red]).port(port, red).peer(other, &[blue(), red]);
            agent.write_config(&config)?;
            agent.reload()?;
            if i == 0 {
                ping::unreachable(&net.a.ns, ip(2))?;
            }
        }
        ping::once(&net.a.ns, ip(2), 56, SOON)?;
        let port = net.agents[0].wait_port("p-a", AttachState::Attached)?;
        assert_eq!(port.vni, red);
        assert!(net.agents[0].fdb()?.iter().all(|e| e.vni == red), "entries of the old VNI remain");
        Ok(())
    });
}

#[test]
fn a_bad_file_changes_nothing_and_is_pointed_at() {
    lab::run("a_bad_file_changes_nothing_and_is_pointed_at", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        let pings = Ping::start(&net.a.ns, ip(2), Duration::from_millis(4))?;
        let good = std::fs::read_to_string(agent.file())?;
        for (bad, word) in [
            (good.replace("interface = \"p-a\"", "interfaec = \"p-a\""), "interfaec"),
            (good.replace("vni = 100", "vni = 16777216"), "vni"),
            (good.clone() + "\n[[port]]\ninterface = \"p-a\"\nvni = 100\n", "p-a"),
            (good.clone() + "\n[nonsense]\n", "nonsense"),
            ("this is no TOML".into(), "TOML"),
        ] {
            assert_ne!(bad, good);
            std::fs::write(agent.file(), &bad)?;
            let out = agent.try_cli("reload")?;
            assert_eq!(out.status.code(), Some(4), "exit code for a file with a bad {word}");
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(said.contains(word) || word == "TOML", "{word} is not named: {said}");
            let file = agent.file().file_name().unwrap_or_default().to_string_lossy().into_owned();
            assert!(said.contains(&file), "the file is not named: {said}");
        }
        let ports = agent.ports()?;
        assert!(ports.len() == 1 && ports[0].state == AttachState::Attached, "{ports:?}");
        let loss = pings.stop();
        assert_eq!(loss.lost(), 0, "{loss:?}");
        Ok(())
    });
}
