//! Reloads that are refused, or cannot do all that the file asks for.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::{signal::Signal, stat::Mode};
use wavnet_proto::{rng::Rng, trust::SecretKey};
use wavnet_tests::lab::{
    self, Need,
    agent::Agent,
    overlay::{Both, SOON, Shape, blue, ip, mac},
    ping::{self, Ping},
    wait_until,
};
use wavnet_user::api::model::{FdbKind, PlaceInfo};

const NEEDS: &[Need] = &[Need::Wavnet];

/// All that a configuration sets and an agent shows.
fn in_force(agent: &Agent) -> Result<String> {
    let status = agent.status()?;
    let ports: Vec<_> = agent.ports()?.into_iter().map(|p| (p.interface, p.vni, p.vlan, p.state, p.hook)).collect();
    let peers: Vec<_> = agent.peers()?.into_iter().map(|p| (p.address, p.udp_port, p.vnis, p.state)).collect();
    let statics: Vec<_> =
        agent.fdb()?.into_iter().filter(|e| e.kind == FdbKind::Static).map(|e| (e.mac, e.place)).collect();
    Ok(format!("{:?} {:?} {ports:?} {peers:?} {statics:?} {:?}", status.underlay, status.counts.vnis, status.warnings))
}

#[test]
fn a_refused_file_leaves_everything_in_force() {
    lab::run("a_refused_file_leaves_everything_in_force", NEEDS, |lab| {
        let net = Both::start(lab, Shape { tables: "[limits]\npeers = 1\n".into(), ..Shape::default() })?;
        let agent = &net.agents[0];
        agent.write_config(&net.config(0).static_port(blue(), mac(0x77), "p-a"))?;
        agent.reload()?;
        let before = in_force(agent)?;
        ensure!(before.contains("02:00:00:00:00:77"), "{before}");
        let good = std::fs::read_to_string(agent.file())?;
        let pings = Ping::start(&net.a.ns, ip(2), Duration::from_millis(4))?;

        // What would change something in every table, were it not for the last line; and what has no error of its own, but
        // does not fit the tables that there are.
        let other = good
            .replace("id = 100", "id = 200")
            .replace("vni = 100", "vni = 200")
            .replace("vnis = [100]", "vnis = [200]")
            .replace("interface = \"p-a\"", "interface = \"p-*\"")
            .replace(":77", ":78")
            .replace("[underlay]", "[fdb]\nageing = \"1s\"\n[underlay]\nport = 4790\nhook = \"tc\"");
        let wrong = format!("{other}\n[nonsense]\n");
        let large = other.replace("peers = 1", "peers = 2") + "\n[[peer]]\naddress = \"192.0.2.9\"\nvnis = [200]\n";
        let failures = || agent.metric("wavnet_agent_reloads_total", &["result=\"failed\""]);
        for (n, (text, why)) in [(&wrong, "nonsense"), (&large, "no room for more peers")].into_iter().enumerate() {
            std::fs::write(agent.file(), text)?;
            agent.signal(Signal::SIGHUP)?;
            wait_until("the reload to fail", SOON, || Ok(failures()? == 2.0 * n as f64 + 1.0))?;
            let out = agent.try_cli("reload")?;
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            ensure!(out.status.code() == Some(4) && said.contains(why), "{:?}: {said}", out.status);
            ensure!(failures()? == 2.0 * n as f64 + 2.0);
            let now = in_force(agent)?;
            ensure!(now == before, "after {why}:\n{now}\nbefore:\n{before}");
        }
        ensure!(agent.log().contains("the configuration in force stays"), "the log does not say so");
        // The ageing time of the refused file was a second: what was learned is still there.
        let learned =
            |e: &wavnet_user::api::model::FdbEntry| e.mac == mac(1) && e.place == PlaceInfo::Port("p-a".into());
        ensure!(agent.fdb()?.iter().any(learned), "{:?}", agent.fdb()?);
        let loss = pings.stop();
        ensure!(loss.lost() == 0, "{loss:?}");

        std::fs::write(agent.file(), &good)?;
        let said = agent.reload()?;
        ensure!(said.starts_with("nothing has changed"), "{said}");
        ping::once(&net.a.ns, ip(2), 56, SOON)
    });
}

#[test]
fn a_refused_reload_lists_the_errors() {
    lab::run("a_refused_reload_lists_the_errors", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let agent = &net.agents[0];
        let good = std::fs::read_to_string(agent.file())?;
        let lines = good.lines().count() as u64;
        std::fs::write(agent.file(), format!("{good}[[port]]\ninterface = \"p-x\"\nvni = 7\nvlam = \"pass\"\n"))?;
        let out = agent.try_cli("reload --json")?;
        let said: serde_json::Value = serde_json::from_slice(&out.stderr).context("an object")?;
        let errors = said["error"]["errors"].as_array().with_context(|| said.to_string())?;
        let places: Vec<_> = errors.iter().map(|e| (e["line"].as_u64(), e["key"].as_str())).collect();
        ensure!(
            places == [(Some(lines + 3), Some("port.vni")), (Some(lines + 4), Some("port.vlam"))],
            "{lines} lines before: {said}"
        );
        ensure!(errors[0]["file"] == agent.file().display().to_string().as_str(), "{said}");
        ensure!(errors[1]["help"].as_str().is_some_and(|h| h.contains("vlan")), "{said}");
        Ok(())
    });
}

#[test]
fn what_needs_a_restart_is_said_at_every_reload() {
    lab::run("what_needs_a_restart_is_said_at_every_reload", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        let config = net.config(0).underlay("tc = \"clsact\"").table("[limits]\nports = 7\n");
        net.agents[0].write_config(&config)?;
        for turn in 1..=3 {
            let said = net.agents[0].reload()?;
            for key in ["underlay.tc", "limits.ports"] {
                ensure!(said.contains(&format!("{key} has changed, which takes effect")), "reload {turn}: {said}");
            }
            let hook = net.agents[0].ports()?.remove(0).hook;
            ensure!(hook.as_deref() == Some("tcx"), "reload {turn} changed what it said it would not: {hook:?}");
        }
        net.agents[0].write_config(&net.config(0).underlay("tc = \"clsact\""))?;
        net.agents[0].terminate()?;
        net.agents[0].launch()?;
        net.agents[0].wait_ready()?;
        let said = net.agents[0].reload()?;
        ensure!(!said.contains("underlay.tc"), "{said}");
        Ok(())
    });
}

#[test]
fn a_list_that_is_read_slowly_does_not_stop_the_agent() {
    lab::run("a_list_that_is_read_slowly_does_not_stop_the_agent", NEEDS, |lab| {
        let [key, list] = ["host.key", "allow"].map(|name| lab.path(name));
        let secret = SecretKey::generate(&mut Rng::from_seed([7; 32]));
        fs::write(&key, secret.to_text().as_bytes())?;
        fs::write(&list, "")?;
        // Nobody is there, and there are no peers that it could lead to.
        let mesh = format!(
            "[mesh]\nservers = [\"192.0.2.250\"]\nkey = \"{}\"\nallow = \"{}\"\n",
            key.display(),
            list.display()
        );
        let net = Both::start(lab, Shape { tables: mesh, ..Shape::default() })?;
        let agent = &net.agents[0];
        let reloads = |result: &str| agent.metric("wavnet_agent_reloads_total", &[&format!("result=\"{result}\"")]);
        fs::remove_file(&list)?;
        nix::unistd::mkfifo(&list, Mode::S_IRWXU)?;
        agent.signal(Signal::SIGHUP)?;
        // It can be opened as soon as it is being read.
        let mut slow = None;
        wait_until("the list to be read", SOON, || {
            slow = OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&list).ok();
            Ok(slow.is_some())
        })?;
        agent.status()?;
        ensure!((reloads("ok")?, reloads("failed")?) == (0.0, 0.0), "it has not been read");
        let mut slow = slow.context("the list")?;
        // Who asks meanwhile has it read once more, and gets the answer to that.
        fs::rename(&list, lab.path("before"))?;
        fs::write(&list, "")?;
        let asked = std::thread::scope(|scope| {
            let asked = scope.spawn(|| agent.try_cli("reload"));
            writeln!(slow, "nonsense")?;
            drop(slow);
            asked.join().map_err(|_| anyhow::anyhow!("the thread has panicked"))?
        })?;
        ensure!(asked.status.success(), "{asked:?}");
        ensure!((reloads("ok")?, reloads("failed")?) == (1.0, 1.0), "{}", agent.log());
        ping::once(&net.a.ns, ip(2), 56, SOON)
    });
}
