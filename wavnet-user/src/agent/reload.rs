//! A changed configuration: it is read in a thread of its own, while the loop goes on, and put in force when it has been.

use std::{collections::BTreeSet, thread, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tracing::{error, info, warn};
use wavnet_proto::fabric::{Desired, FabricError};

use super::{
    Agent, convert,
    mesh::{
        Overlay,
        settings::{self, Wanted},
    },
    requests::refusal,
};
use crate::{
    api::{Answer, ErrorCode, Refusal, Response, model::Done},
    config::{Config, ConfigError, KeyFileError, Source},
};

/// How long reading all files may take.
const READING: Duration = Duration::from_secs(5);

/// Where the answer goes, if it was asked for by the local API.
type Asker = Option<oneshot::Sender<Result<Answer, Refusal>>>;

/// What is read: the configuration, and what the files say that it names for the mesh.
type Files = Result<(Config, Option<Wanted>), Refusal>;

/// Reloads that were asked for.
#[derive(Default)]
pub(super) struct Reloads {
    /// Those that worked, and that did not.
    pub(super) counts: (u64, u64),
    reading: Option<Reading>,
    /// Who has asked since that began: the files may have changed behind it.
    waiting: Vec<Asker>,
}

/// Files are being read.
struct Reading {
    source: Source,
    told: oneshot::Receiver<Files>,
    until: Instant,
    askers: Vec<Asker>,
}

/// The files have been read, or not in time.
pub(super) struct Read {
    files: Files,
    askers: Vec<Asker>,
}

impl Reloads {
    /// Waits until files that are being read have been; for ever if none are.
    pub(super) async fn next(&mut self) -> Read {
        let Some(reading) = &mut self.reading else { return std::future::pending().await };
        let files = match timeout_at(reading.until, &mut reading.told).await {
            Ok(Ok(files)) => files,
            _ => Err(too_slow(&reading.source)),
        };
        let askers = std::mem::take(&mut reading.askers);
        self.reading = None;
        Read { files, askers }
    }
}

impl Agent {
    /// Has the configuration read again. Who asks while that is done has it read once more after it.
    pub(super) async fn ask_reload(&mut self, asker: Asker) {
        self.reloads.waiting.push(asker);
        if self.reloads.reading.is_none() {
            self.read_again().await;
        }
    }

    async fn read_again(&mut self) {
        let askers = std::mem::take(&mut self.reloads.waiting);
        if askers.is_empty() {
            return;
        }
        self.notifier.reloading();
        match read(&self.source, self.mesh.is_some()) {
            Ok(told) => {
                let (source, until) = (self.source.clone(), Instant::now() + READING);
                self.reloads.reading = Some(Reading { source, told, until, askers });
            }
            Err(refusal) => self.finish_reload(Read { files: Err(refusal), askers }).await,
        }
    }

    /// Takes what was read, has it in force, and answers; then it is read once more if somebody has asked since.
    pub(super) async fn reloaded(&mut self, read: Read) {
        self.finish_reload(read).await;
        self.read_again().await;
    }

    async fn finish_reload(&mut self, Read { files, askers }: Read) {
        let mut done = self.reload(files);
        self.settle_all().await;
        if let Ok(done) = &mut done {
            done.warnings.extend(self.warnings());
        }
        for asker in askers.into_iter().flatten() {
            // Who has asked may have gone.
            let _ = asker.send(done.clone().map(|done| Response::Done(done).into()));
        }
    }

    /// Takes what has changed. What cannot be changed at run time keeps its value and gives a warning; a configuration with errors changes
    /// nothing.
    fn reload(&mut self, files: Files) -> Result<Done, Refusal> {
        let done = files.and_then(|(config, mesh)| self.take(config, mesh));
        match &done {
            Ok(done) => {
                self.reloads.counts.0 += 1;
                news(done).iter().for_each(|change| info!("reload: {change}"));
                done.warnings.iter().for_each(|warning| warn!("reload: {warning}"));
            }
            Err(refusal) => {
                self.reloads.counts.1 += 1;
                error!("the configuration in force stays: {refusal}");
            }
        }
        self.notifier.ready();
        done
    }

    fn take(&mut self, config: Config, mesh: Option<Wanted>) -> Result<Done, Refusal> {
        let desired = convert::desired(&config).map_err(refusal)?;
        let before = self.fabric.desired().clone();
        let refused = |e: FabricError| match e {
            FabricError::Full { .. } | FabricError::FloodFull { .. } => refusal(e),
            e => Refusal { code: ErrorCode::Invalid, ..refusal(e) },
        };
        let shadowed = self.fabric.runtime().shadowed(&desired);
        self.fabric.set_desired(desired).map_err(refused)?;
        self.features_due.extend(self.links.keys());
        let mut fixed = self.config.needs_restart(&config);
        fixed.extend(mesh_needs_restart(self.mesh.as_ref(), config.mesh.is_some(), mesh.as_ref()));
        let mut changes = differences(&before, self.fabric.desired());
        if config.fdb.ageing != self.config.fdb.ageing {
            changes.push(format!("entries age after {} s", config.fdb.ageing.as_secs()));
        }
        let warnings = fixed.iter().map(|key| later(key)).chain(shadowed.iter().map(ToString::to_string)).collect();
        if let (Some(running), Some(wanted), Some(new)) = (&mut self.mesh, mesh, &config.mesh) {
            changes.extend(running.reload(new.servers.clone(), wanted));
        }
        // Who was left by an earlier agent may be off the list now.
        self.give_up_strangers();
        self.config = config.taken_over_by(&self.config);
        Ok(Done { changes, warnings })
    }
}

/// What of `[mesh]` a reload cannot apply: whether it is there, and who this host is.
fn mesh_needs_restart(running: Option<&Overlay>, is_configured: bool, wanted: Option<&Wanted>) -> Option<&'static str> {
    if running.is_some() != is_configured {
        return Some("mesh");
    }
    running.zip(wanted).is_some_and(|(running, wanted)| running.is_another(wanted)).then_some("mesh.key")
}

/// What the log tells of a reload: a signal without any answer would leave open whether it was heard.
fn news(done: &Done) -> Vec<String> {
    match (&done.changes[..], &done.warnings[..]) {
        ([], []) => vec!["nothing has changed".to_owned()],
        (changes, _) => changes.to_vec(),
    }
}

/// Reads the configuration, and for the mesh the files that it names, in a thread of its own: a file system that does not answer must not
/// hold up the agent.
fn read(source: &Source, with_mesh: bool) -> Result<oneshot::Receiver<Files>, Refusal> {
    let (tell, told) = oneshot::channel();
    let source = source.clone();
    // Nobody waits for a thread that never ends, not even at the process's end.
    let started =
        thread::Builder::new().name("reload".into()).spawn(move || drop(tell.send(read_files(&source, with_mesh))));
    started.map_err(|e| Refusal::new(ErrorCode::Failed, format!("cannot start a thread: {e}")))?;
    Ok(told)
}

fn read_files(source: &Source, with_mesh: bool) -> Files {
    let config = source.reload().map_err(invalid)?;
    // Whatever may be wrong is looked at before anything is put in force.
    let mesh = with_mesh.then(|| settings::read(&config)).transpose();
    Ok((config, mesh.map_err(unread)?.flatten()))
}

/// A file of keys that cannot be read or has an error, and what to do about it.
fn unread(e: anyhow::Error) -> Refusal {
    let refusal = Refusal::new(ErrorCode::Invalid, format!("{e:#}"));
    match e.downcast_ref::<KeyFileError>() {
        Some(e) => refusal.with_help(e.help()),
        None => refusal,
    }
}

fn too_slow(source: &Source) -> Refusal {
    let seconds = READING.as_secs();
    let what = format!("{source}, or a file that it names, could not be read within {seconds} s");
    Refusal::new(ErrorCode::Invalid, what).with_help("look at the file systems that they are on")
}

/// A file that cannot be read or has errors, and where they are.
fn invalid(e: ConfigError) -> Refusal {
    let errors = match &e {
        ConfigError::Invalid(all) => all.problems(),
        ConfigError::Read { .. } => Vec::new(),
    };
    Refusal { errors, ..Refusal::new(ErrorCode::Invalid, format!("{:#}", anyhow::Error::from(e))) }
}

/// When a change takes effect that a reload cannot make.
fn later(key: &str) -> String {
    // What has the size, or the place, of the maps that are pinned.
    let of_maps = key.starts_with("limits.") || ["fdb.entries", "agent.bpffs"].contains(&key);
    let when = if of_maps { "after `wavnet down` and a start of the agent" } else { "when the agent is restarted" };
    format!("{key} has changed, which takes effect {when}")
}

/// What a reload changes, in sentences.
fn differences(old: &Desired, new: &Desired) -> Vec<String> {
    fn keyed<K: Ord>(what: &str, old: BTreeSet<K>, new: BTreeSet<K>, changed: usize) -> Option<String> {
        let (added, removed) = (new.difference(&old).count(), old.difference(&new).count());
        let parts = [(added, "added"), (removed, "removed"), (changed, "changed")];
        let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, verb)| format!("{n} {verb}")).collect();
        (!parts.is_empty()).then(|| format!("{what}: {}", parts.join(", ")))
    }
    macro_rules! table {
        ($what:literal, $field:ident) => {{
            let changed = old.$field.iter().filter(|(k, v)| new.$field.get(k).is_some_and(|n| n != *v)).count();
            keyed($what, old.$field.keys().collect(), new.$field.keys().collect(), changed)
        }};
    }
    let mut all = Vec::new();
    if old.underlay != new.underlay {
        all.push("underlay: changed".to_owned());
    }
    all.extend(table!("VNIs", vnis));
    let rules = |d: &'_ Desired| d.ports.iter().map(|r| r.name.to_string()).collect::<BTreeSet<_>>();
    let same = |r: &&wavnet_proto::fabric::PortRule| new.ports.iter().any(|n| n.name == r.name && n != *r);
    all.extend(keyed("port rules", rules(old), rules(new), old.ports.iter().filter(same).count()));
    all.extend(table!("peers", peers));
    all.extend(table!("static entries", statics));
    all
}

#[cfg(test)]
mod tests {
    use wavnet_common::addr::Vni;
    use wavnet_proto::fabric::{NamePattern, PeerSettings, PortMode, PortRule, VlanMode, VniSettings};

    use super::*;

    #[test]
    fn what_a_restart_cannot_change_says_so() {
        assert!(later("fdb.entries").contains("wavnet down") && later("limits.ports").contains("wavnet down"));
        assert!(later("metrics.listen").contains("restarted"));
    }

    #[test]
    fn a_reload_that_changes_nothing_is_told_too() {
        let done = |changes: &[&str], warnings: &[&str]| {
            let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
            Done { changes: owned(changes), warnings: owned(warnings) }
        };
        assert_eq!(news(&done(&[], &[])), ["nothing has changed"]);
        assert_eq!(news(&done(&["peers: 1 added"], &[])), ["peers: 1 added"]);
        assert!(news(&done(&[], &["a restart is needed"])).is_empty(), "the warning tells");
    }

    #[test]
    fn differences_are_counted_by_kind() {
        let vni = Vni::new(10).unwrap();
        let mut old = Desired::default();
        old.vnis.insert(vni, VniSettings::default());
        let rule =
            |name: &str, vlan| PortRule { name: NamePattern::new(name).unwrap(), vni, vlan, mode: PortMode::Auto };
        old.ports = vec![rule("tap*", VlanMode::Pass), rule("vnet0", VlanMode::Pass)];
        assert!(differences(&old, &old).is_empty());
        let mut new = old.clone();
        new.ports = vec![rule("tap*", VlanMode::Discard), rule("vnet1", VlanMode::Pass)];
        new.peers.insert([192, 0, 2, 1].into(), PeerSettings::default());
        new.underlay.udp_port = 8472;
        assert_eq!(
            differences(&old, &new),
            ["underlay: changed", "port rules: 1 added, 1 removed, 1 changed", "peers: 1 added"]
        );
    }
}
