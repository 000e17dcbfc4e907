//! A changed configuration.

use std::{collections::BTreeSet, thread, time::Duration};

use tokio::{sync::oneshot, time::timeout};
use tracing::{error, info, warn};
use wavnet_proto::fabric::{Desired, FabricError};

use super::{Agent, convert, requests::refusal};
use crate::{
    api::{ErrorCode, Refusal, model::Done},
    config::{Config, ConfigError, Mesh, Source},
};

/// How long reading a file may take. Frames are forwarded meanwhile, but nothing else is done.
const READING: Duration = Duration::from_secs(5);

impl Agent {
    /// Reads the configuration again and takes what has changed. What cannot be changed at run time keeps its value and gives
    /// a warning; a configuration with errors changes nothing.
    pub(super) async fn reload(&mut self) -> Result<Done, Refusal> {
        self.notifier.reloading();
        let done = read(&self.source).await.and_then(|config| self.take(config));
        match &done {
            Ok(done) => {
                self.reloads.0 += 1;
                news(done).iter().for_each(|change| info!("reload: {change}"));
                done.warnings.iter().for_each(|warning| warn!("reload: {warning}"));
            }
            Err(refusal) => {
                self.reloads.1 += 1;
                error!("the configuration in force stays: {refusal}");
            }
        }
        self.notifier.ready();
        done
    }

    /// The same, in force when it returns.
    pub(super) async fn reload_and_settle(&mut self) -> Result<Done, Refusal> {
        let mut done = self.reload().await?;
        self.settle().await;
        done.warnings.extend(self.warnings());
        Ok(done)
    }

    fn take(&mut self, config: Config) -> Result<Done, Refusal> {
        let desired = convert::desired(&config).map_err(refusal)?;
        let before = self.fabric.desired().clone();
        let refused = |e: FabricError| match e {
            FabricError::Full { .. } | FabricError::FloodFull { .. } => refusal(e),
            e => Refusal { code: ErrorCode::Invalid, ..refusal(e) },
        };
        let shadowed = self.fabric.runtime().shadowed(&desired);
        // Whatever may be wrong is looked at before anything is put in force.
        let mesh = self.mesh.as_ref().map(|mesh| mesh.read_settings(&config)).transpose();
        let mesh = mesh.map_err(|e| Refusal::new(ErrorCode::Invalid, format!("{e:#}")))?.flatten();
        self.fabric.set_desired(desired).map_err(refused)?;
        self.features_due.extend(self.links.keys());
        let mut fixed = self.config.needs_restart(&config);
        fixed.extend(mesh_needs_restart(self.config.mesh.as_ref(), config.mesh.as_ref()));
        let mut changes = differences(&before, self.fabric.desired());
        if config.fdb.ageing != self.config.fdb.ageing {
            changes.push(format!("entries age after {} s", config.fdb.ageing.as_secs()));
        }
        let warnings = fixed.iter().map(|key| later(key)).chain(shadowed.iter().map(ToString::to_string)).collect();
        if let (Some(running), Some(settings), Some(new)) = (&mut self.mesh, mesh, &config.mesh) {
            running.reload(new, settings);
        }
        // Who was left by an earlier agent may be off the list now.
        self.give_up_strangers();
        self.config = config.taken_over_by(&self.config);
        Ok(Done { changes, warnings })
    }
}

/// What of `[mesh]` a reload cannot apply: whether it is there, and who this host is.
fn mesh_needs_restart(running: Option<&Mesh>, new: Option<&Mesh>) -> Option<&'static str> {
    match (running, new) {
        (None, None) => None,
        (Some(running), Some(new)) => (running.key != new.key).then_some("mesh.key"),
        _ => Some("mesh"),
    }
}

/// What the log tells of a reload: a signal without any answer would leave open whether it was heard.
fn news(done: &Done) -> Vec<String> {
    match (&done.changes[..], &done.warnings[..]) {
        ([], []) => vec!["nothing has changed".to_owned()],
        (changes, _) => changes.to_vec(),
    }
}

/// Reads the configuration in a thread of its own: a file system that does not answer must not hold up the agent.
async fn read(source: &Source) -> Result<Config, Refusal> {
    let (tell, told) = oneshot::channel();
    let asked = source.clone();
    // Nobody waits for a thread that never ends, not even at the process's end.
    thread::Builder::new()
        .name("reload".into())
        .spawn(move || drop(tell.send(asked.reload())))
        .map_err(|e| Refusal::new(ErrorCode::Failed, format!("cannot start a thread: {e}")))?;
    match timeout(READING, told).await {
        Ok(Ok(loaded)) => loaded.map_err(invalid),
        _ => {
            let seconds = READING.as_secs();
            let refusal = Refusal::new(ErrorCode::Invalid, format!("{source} could not be read within {seconds} s"));
            Err(refusal.with_help("look at the file system that it is on"))
        }
    }
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
