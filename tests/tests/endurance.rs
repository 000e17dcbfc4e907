//! What an agent has to put up with from the system around it, and goes on.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    overlay::{Both, Lone, SOON, Shape, ip},
    ping, poll_until,
};

const NEEDS: &[Need] = &[Need::Wavnet];

/// An agent answers, does what it is told, and ends by a signal, wherever its log goes.
fn works_with_log_to(net: &mut Both, redirection: &str) -> Result<()> {
    let agent = &mut net.agents[0];
    agent.terminate()?;
    agent.launch_with(redirection)?;
    for _ in 0..30 {
        agent.cli("port add nosuch0 --vni 100")?;
        agent.cli("port remove nosuch0")?;
    }
    agent.cli("reload")?;
    ping::once(&net.a.ns, ip(2), 56, SOON)?;
    agent.terminate().context("SIGTERM")?;
    agent.launch()
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_agent() {
    lab::run("a_log_that_cannot_be_written_does_not_end_the_agent", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        works_with_log_to(&mut net, "2>/dev/full").context("to a full disk")?;
        works_with_log_to(&mut net, "2>&-").context("to nowhere")
    });
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_agent() {
    lab::run("a_log_that_nobody_reads_does_not_stop_the_agent", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        let fifo = lab.path("log.fifo");
        net.hosts[0].ns.run("mkfifo", &[&fifo.display().to_string()])?;
        // Both ends, so that opening does not wait; what fills it is not taken out.
        works_with_log_to(&mut net, &format!("2<>\"{}\"", fifo.display()))
    });
}

#[test]
fn a_file_that_cannot_be_read_again_is_refused_at_once() {
    lab::run("a_file_that_cannot_be_read_again_is_refused_at_once", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c)?;
        let (agent, file) = (&net.agent, net.agent.file().to_owned());
        let text = fs::read_to_string(&file)?;
        fs::remove_file(&file)?;
        net.host.ns.run("mkfifo", &[&file.display().to_string()])?;
        refused(agent, "no regular file")?;
        fs::remove_file(&file)?;
        refused(agent, "cannot read")?;
        fs::write(&file, format!("a = {}", "[".repeat(8 << 20)))?;
        let answer = refused(agent, "error")?;
        ensure!(answer.len() < 100_000, "an answer of {} bytes", answer.len());
        fs::write(&file, text)?;
        agent.cli("reload").map(drop)
    });
}

fn refused(agent: &Agent, says: &str) -> Result<String> {
    let out = agent.try_cli("reload")?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(out.status.code() == Some(4) && said.contains(says), "{}: {said}", out.status);
    Ok(said)
}

#[test]
fn a_socket_that_somebody_removes_comes_back() {
    lab::run("a_socket_that_somebody_removes_comes_back", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c)?;
        let back = |what: &str| {
            let out = net.agent.try_cli("status")?;
            ensure!(out.status.code() == Some(3), "{what}: still there, {}", out.status);
            poll_until(&format!("{what} to be back"), SOON, || net.agent.status().map(drop))
        };
        fs::remove_file(net.agent.run_dir().join("agent.sock"))?;
        back("the socket")?;
        fs::remove_dir_all(net.agent.run_dir())?;
        back("the directory")
    });
}

#[test]
fn down_ends_no_other_agent_than_the_one_that_is_named() {
    lab::run("down_ends_no_other_agent_than_the_one_that_is_named", NEEDS, |lab| {
        let mut net = Both::start(lab, Shape::default())?;
        let other = net.agents[1].pins().to_owned();
        let (run_dir, pins) = (net.agents[0].run_dir().to_owned(), net.agents[0].pins().to_owned());
        let down = |run_dir: &Path, pins: Option<&Path>| -> Result<(Option<i32>, String)> {
            let mut command = net.hosts[0].ns.command(lab::binary::usable()?);
            command.arg("down").arg("--run-dir").arg(run_dir);
            if let Some(pins) = pins {
                command.arg("--bpffs").arg(pins);
            }
            let out = command.output()?;
            let said = [out.stdout, out.stderr].concat();
            Ok((out.status.code(), String::from_utf8_lossy(&said).into_owned()))
        };
        // Its pins are in use, by another agent than the one that is asked.
        let (code, said) = down(&run_dir, Some(&other))?;
        let pid = net.agents[1].status()?.pid;
        ensure!(code == Some(1) && said.contains(&format!("process {pid}")), "{code:?}: {said}");
        // Nothing is pinned there.
        let nothing = format!("{}-nothing", pins.display());
        let nothing = Path::new(&nothing);
        let (code, said) = down(&run_dir, Some(nothing))?;
        ensure!(code == Some(0) && said.contains("goes on"), "{code:?}: {said}");
        for agent in &net.agents {
            agent.status().context("an agent was ended")?;
        }
        ping::once(&net.a.ns, ip(2), 56, SOON)?;
        // Named by its directory alone, it says itself where its pins are.
        let (code, said) = down(&run_dir, None)?;
        ensure!(code == Some(0) && !pins.exists(), "{code:?}: {said}");
        ensure!(other.exists());
        net.agents[0].launch()
    });
}

#[test]
fn down_may_be_asked_for_by_several_at_once() {
    lab::run("down_may_be_asked_for_by_several_at_once", NEEDS, |lab: &Lab| {
        let net = Lone::start(lab, &[], |c| c)?;
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| net.agent.cli("down"))).collect();
            all.into_iter().try_for_each(|one| match one.join() {
                Ok(said) => said.map(drop),
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        ensure!(!net.agent.pins().exists());
        Ok(())
    });
}
