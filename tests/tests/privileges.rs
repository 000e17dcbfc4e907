//! Who may do what: users of the socket, an agent that is not root, a host without bpffs, a kernel that is too old.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::Output,
};

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    binary,
    config::AgentConfig,
    host::{Host, Vm, VmSpec},
    overlay::{Lone, SOON, blue, ip, mac},
    process::Process,
    wait_until,
};
use wavnet_user::api::model::{AttachState, Status};

const NEEDS: &[Need] = &[Need::Wavnet, Need::Tool("setpriv"), Need::Tool("unshare")];
/// The user and the group that own nothing.
const NOBODY: u32 = 65_534;
/// What docs/cli.md says that an agent needs.
const CAPABILITIES: &str = "+bpf,+net_admin,+perfmon";

/// The program where anybody can run it.
fn for_all(lab: &Lab) -> Result<PathBuf> {
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755))?;
    let copy = lab.path("wavnet");
    if !copy.exists() {
        fs::copy(binary::usable()?, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    Ok(copy)
}

/// Words for setpriv: another user, with groups and capabilities.
fn as_user(groups: &str, capabilities: &str) -> String {
    format!(
        "--reuid={NOBODY} --regid={NOBODY} {groups} --inh-caps=-all{capabilities} --ambient-caps=-all{capabilities}"
    )
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Runs a command against the agent as nobody, with these words for its groups.
fn ask(lab: &Lab, agent: &Agent, groups: &str, words: &str) -> Result<Output> {
    let mut command = agent.ns().command("setpriv");
    command.args(as_user(groups, "").split(' ')).arg(for_all(lab)?).args(words.split(' '));
    command.arg("--run-dir").arg(agent.run_dir()).output().context("starting setpriv")
}

#[test]
fn the_sockets_mode_and_group_decide_who_may_ask() {
    lab::run("the_sockets_mode_and_group_decide_who_may_ask", NEEDS, |lab| {
        const ALONE: &str = "--clear-groups";
        // A group of nobody's that no user has by accident.
        const GROUP: &str = "--groups=54321";
        let by_group = "socket_group = \"54321\"";
        for (lines, mode, alone, in_group) in [
            ("", 0o660, false, false),
            (by_group, 0o660, false, true),
            ("socket_group = \"54321\"\nsocket_mode = \"0600\"", 0o600, false, false),
            ("socket_mode = \"0666\"", 0o666, true, true),
        ] {
            let net = Lone::start(lab, &[], |c| c.agent(lines))?;
            let socket = fs::metadata(net.agent.run_dir().join("agent.sock"))?;
            ensure!(socket.permissions().mode() & 0o7777 == mode, "{lines}: {:o}", socket.permissions().mode());
            for (groups, admitted) in [(ALONE, alone), (GROUP, in_group)] {
                let out = ask(lab, &net.agent, groups, "status --json")?;
                if admitted {
                    ensure!(out.status.success(), "{lines}, {groups}: {}", said(&out));
                    let status: std::collections::BTreeMap<String, Status> = serde_json::from_slice(&out.stdout)?;
                    ensure!(status.len() == 1, "{lines}, {groups}: {status:?}");
                    continue;
                }
                ensure!(out.status.code() == Some(1), "{lines}, {groups}: {}: {}", out.status, said(&out));
                let error: serde_json::Value = serde_json::from_slice(&out.stderr)?;
                ensure!(error["error"]["exit"] == 1, "{error}");
                let out = ask(lab, &net.agent, groups, "port remove p-a")?;
                let said = said(&out);
                ensure!(out.status.code() == Some(1), "{lines}, {groups}: {}: {said}", out.status);
                for word in ["may not", "agent.sock", "sudo", "socket_group"] {
                    ensure!(said.contains(word), "{word} is not said: {said}");
                }
            }
            ensure!(net.agent.ports()?.len() == 1, "somebody who may not has changed something");
        }
        Ok(())
    });
}

/// A hypervisor whose agent runs in a mount namespace of its own.
struct Apart {
    host: Host,
    far: Host,
    vm: Vm,
    agent: Agent,
    bin: PathBuf,
}

impl Apart {
    fn prepare(lab: &Lab) -> Result<Apart> {
        let bin = for_all(lab)?;
        let [host, far] = lab.pair(1600)?;
        let vm = host.vm(lab, &VmSpec::new("a", mac(1), ip(1)))?;
        let config = AgentConfig::new(&[blue()]).port(&vm.port, blue()).peer(far.addr, &[blue()]);
        let agent = Agent::prepare(lab, &host, &config)?;
        fs::create_dir_all(agent.run_dir())?;
        chown(agent.run_dir(), Some(NOBODY), Some(NOBODY))?;
        Ok(Apart { host, far, vm, agent, bin })
    }

    /// Runs `wavnet WORDS` after `prelude`, a shell's commands that change mounts for this alone. `$PINS` is the directory of pins;
    /// `user` are words for setpriv.
    fn spawn(&self, what: &str, prelude: &str, user: Option<&str>, words: &str) -> Result<Process> {
        let setpriv = user.map_or_else(String::new, |user| format!("setpriv {user} "));
        let (pins, bin) = (self.agent.pins().display(), self.bin.display());
        let script = format!("PINS={pins}; {prelude}; exec {setpriv}{bin} {words}");
        self.host.ns.spawn(what, "unshare", &["--mount", "sh", "-ec", &script])
    }

    fn start(&self, prelude: &str, user: Option<&str>) -> Result<Process> {
        let mut process = self.spawn("agent", prelude, user, &format!("agent --config {}", self.file()))?;
        wait_until("the agent to answer", SOON, || {
            process.still_running()?;
            Ok(self.agent.status().is_ok())
        })?;
        Ok(process)
    }

    /// Starts an agent that must not run; what it says.
    fn refused(&self, what: &str, prelude: &str, user: Option<&str>) -> Result<String> {
        let mut process = self.spawn(what, prelude, user, &format!("agent --config {}", self.file()))?;
        let status = process.wait(SOON)?;
        ensure!(status.code() == Some(1), "{what}: {status}: {}", process.log());
        Ok(process.log())
    }

    fn file(&self) -> String {
        self.agent.file().display().to_string()
    }

    /// The port is attached, and frames pass.
    fn works(&self) -> Result<()> {
        self.agent.wait_port(&self.vm.port, AttachState::Attached)?;
        self.agent.wait_peers()?;
        let wire = lab::raw::RawSocket::open(&self.far.ns, Host::NIC)?;
        let frame = lab::frame::marked(wavnet_common::addr::Mac::BROADCAST, mac(1), "hello");
        lab::raw::RawSocket::open(&self.vm.ns, Vm::NIC)?.send(&frame)?;
        lab::overlay::until(&wire, "hello").map(drop)
    }

    /// `wavnet down` ends the agent, and says so; nothing is left on the port.
    fn ends(&self, mut process: Process) -> Result<()> {
        self.agent.cli("down")?;
        let status = process.wait(SOON)?;
        ensure!(status.success(), "the agent ended with {status}: {}", process.log());
        let left = self.host.ns.ip("-d link show dev u0")?;
        ensure!(!left.contains("xdp"), "XDP is still attached: {left}");
        Ok(())
    }
}

/// Hides the bpffs that is there behind an ordinary directory.
const HIDDEN: &str = "mount -t tmpfs -o mode=0755 none /sys/fs/bpf";
/// A bpffs that others than root may enter.
const OPEN: &str = "mount -t bpf -o mode=0711 bpf /sys/fs/bpf";

#[test]
fn where_no_bpffs_is_mounted_root_mounts_it() {
    lab::run("where_no_bpffs_is_mounted_root_mounts_it", NEEDS, |lab| {
        let net = Apart::prepare(lab)?;
        let process = net.start(HIDDEN, None)?;
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", process.pid()))?;
        let last = mounts.lines().rfind(|l| l.contains(" /sys/fs/bpf ")).context("nothing is mounted")?;
        ensure!(last.contains(" bpf ") && last.contains("mode=700"), "{last}");
        net.works()?;
        net.ends(process)
    });
}

#[test]
fn where_no_bpffs_is_mounted_others_are_told_how_to_mount_it() {
    lab::run("where_no_bpffs_is_mounted_others_are_told_how_to_mount_it", NEEDS, |lab| {
        let net = Apart::prepare(lab)?;
        let said = net.refused("hidden", HIDDEN, Some(&as_user("--clear-groups", &format!(",{CAPABILITIES}"))))?;
        ensure!(said.contains("mount -t bpf bpf /sys/fs/bpf"), "it does not say what to do: {said}");
        let user = as_user("--clear-groups", &format!(",{CAPABILITIES}"));
        let mut doctor = net.spawn("doctor", HIDDEN, Some(&user), &format!("doctor --config {}", net.file()))?;
        doctor.wait(SOON)?;
        ensure!(doctor.log().contains("mount -t bpf bpf /sys/fs/bpf"), "doctor: {}", doctor.log());
        Ok(())
    });
}

#[test]
fn an_agent_with_capabilities_and_a_directory_of_its_own_needs_no_root() {
    lab::run("an_agent_with_capabilities_and_a_directory_of_its_own_needs_no_root", NEEDS, |lab| {
        let net = Apart::prepare(lab)?;
        let user = as_user("--clear-groups", &format!(",{CAPABILITIES}"));
        let own = format!("{OPEN}; mkdir -m 700 $PINS; chown {NOBODY}:{NOBODY} $PINS");
        let process = net.start(&own, Some(&user))?;
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
        ensure!(status.contains(&format!("Uid:\t{NOBODY}\t{NOBODY}")), "it runs as somebody else: {status}");
        net.works()?;
        ensure!(net.agent.status()?.warnings.is_empty(), "{:?}", net.agent.status()?.warnings);
        net.ends(process)
    });
}

#[test]
fn an_agent_without_a_directory_of_its_own_is_told_so() {
    lab::run("an_agent_without_a_directory_of_its_own_is_told_so", NEEDS, |lab| {
        let net = Apart::prepare(lab)?;
        let user = as_user("--clear-groups", &format!(",{CAPABILITIES}"));
        let other = NOBODY - 1;
        for (what, directory) in [
            ("none", "true"),
            ("roots", "mkdir -m 700 $PINS"),
            ("open", "mkdir -m 755 $PINS"),
            ("theirs", &format!("mkdir -m 777 $PINS; chown {other} $PINS")),
            ("writable", &format!("mkdir -m 777 $PINS; chown {NOBODY} $PINS")),
        ] {
            let said = net.refused(what, &format!("{OPEN}; {directory}"), Some(&user))?;
            ensure!(said.contains("agent.bpffs"), "{what}: it does not say what to do: {said}");
            ensure!(said.contains(&*net.agent.pins().display().to_string()), "{what}: which directory? {said}");
        }
        Ok(())
    });
}

#[test]
fn an_agent_without_privileges_says_which_it_needs() {
    lab::run("an_agent_without_privileges_says_which_it_needs", NEEDS, |lab| {
        let net = Apart::prepare(lab)?;
        let own = format!("{OPEN}; mkdir -m 700 $PINS; chown {NOBODY}:{NOBODY} $PINS");
        for (what, capabilities) in
            [("nothing", ""), ("no-bpf", ",+net_admin,+perfmon"), ("no-perfmon", ",+bpf,+net_admin")]
        {
            let user = as_user("--clear-groups", capabilities);
            let said = net.refused(what, &own, Some(&user))?;
            for word in ["not permitted", "root", "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"] {
                ensure!(said.contains(word), "{what}: {word} is not said: {said}");
            }
            let mut doctor = net.spawn(what, &own, Some(&user), &format!("doctor --config {}", net.file()))?;
            let status = doctor.wait(SOON)?;
            ensure!(status.code() == Some(1) && doctor.log().contains("missing: CAP_"), "{what}: {}", doctor.log());
        }
        Ok(())
    });
}

/// By a personality that makes uname(2) tell of Linux 2.6.
#[test]
fn on_a_kernel_that_is_too_old_the_agent_says_which_it_needs() {
    let needs = [NEEDS, &[Need::Tool("setarch")]].concat();
    lab::run("on_a_kernel_that_is_too_old_the_agent_says_which_it_needs", &needs, |lab| {
        let net = Apart::prepare(lab)?;
        let (bin, file) = (net.bin.display().to_string(), net.file());
        let mut old = net.host.ns.spawn("old", "setarch", &["--uname-2.6", &bin, "agent", "--config", &file])?;
        let status = old.wait(SOON)?;
        let said = old.log();
        ensure!(status.code() == Some(1), "{status}: {said}");
        for word in ["kernel 2.6.", "too old", "Linux 6.1"] {
            ensure!(said.contains(word), "{word} is not said: {said}");
        }
        ensure!(!net.agent.pins().exists(), "it made {} all the same", net.agent.pins().display());
        Ok(())
    });
}
