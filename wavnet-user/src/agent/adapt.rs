//! XDP on ports that have it by what they send, and what XDP on a tap has to know of it.

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;
use wavnet_proto::fabric::{LinkInfo, PortView};

use super::{Agent, told::Warning};
use crate::ethtool::Ethtool;

impl Agent {
    /// Looks at what the ports have sent, and gives XDP to them or takes it.
    pub(super) fn adapt(&mut self) {
        let Some(ports) = self.fabric.adaptive_ports() else { return };
        let present: BTreeSet<u32> = ports.iter().map(|p| p.ifindex).collect();
        self.chooser.retain(|ifindex| present.contains(&ifindex));
        for port in ports {
            let counted = match self.datapath.mix(port.index) {
                Ok(counted) => counted,
                Err(e) => {
                    let words = format!("nothing is chosen by what ports send: {:#}", anyhow::Error::from(e));
                    if self.complaints.is_news(&words) {
                        tracing::warn!("{words}");
                    }
                    continue;
                }
            };
            let now = self.started.0.elapsed();
            if let Some(choice) = self.chooser.look(port, now, counted) {
                let name = self.links.get(&port.ifindex).map_or("(gone)", |link| link.name.as_str());
                let what = if choice.xdp { "gets XDP" } else { "loses XDP" };
                info!(port = name, xdp = choice.xdp, "the port {what}: {choice}");
                self.fabric.choose_xdp(port.ifindex, choice.xdp);
                self.features_due.insert(port.ifindex);
            }
        }
    }

    /// What was known of an interface holds until it is asked again, if anybody wants to know.
    pub(super) fn keep_features(&mut self, news: &mut LinkInfo) {
        news.datagram_gso &= self.links.get(&news.ifindex).is_none_or(|known| known.datagram_gso);
        self.features_due.insert(news.ifindex);
    }

    /// Asks taps for what XDP on them wants to know, if it may be news and there is XDP to be. Of all others nothing is known, which
    /// counts as the worst.
    pub(super) fn ask_features(&mut self) {
        for ifindex in std::mem::take(&mut self.features_due) {
            let Some(link) = self.links.get_mut(&ifindex).filter(|link| self.fabric.wants_features(link)) else {
                continue;
            };
            // Not known stays "yes": XDP then leaves more to TC than it might.
            link.datagram_gso = Ethtool::new().and_then(|e| e.takes_datagram_gso(&link.name)).unwrap_or(true);
            self.fabric.link_up(link.clone());
        }
    }
}

/// Ports that the kernel refuses XDP on, by reason.
pub(super) fn refusal_warnings(ports: &[PortView]) -> Vec<Warning> {
    let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for port in ports {
        if let Some(why) = &port.xdp_refused {
            names.entry(why).or_default().push(port.name.clone());
        }
    }
    let warning = |(why, names): (&str, Vec<String>)| {
        let mend = format!("TC carries small datagrams, too, until a reload tries again: {}", why.replace("{}", "{ }"));
        Warning::about(
            names,
            format!("the kernel refuses XDP on port {{}}; {mend}"),
            format!("the kernel refuses XDP on ports {{}}; {mend}"),
        )
    };
    names.into_iter().filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use wavnet_common::addr::Vni;
    use wavnet_proto::fabric::{Origin, PortMode, PortState, VlanMode};

    use super::*;

    #[test]
    fn refusals_are_told_by_reason() {
        let port = |name: &str, why: Option<&str>| PortView {
            index: Some(0),
            name: name.into(),
            ifindex: Some(1),
            vni: Vni::new(1).unwrap(),
            vlan: VlanMode::Pass,
            mode: PortMode::Auto,
            origin: Origin::Config,
            state: PortState::Attached,
            mtu: Some(1500),
            up: true,
            deliver_tc: false,
            xdp_refused: why.map(Into::into),
        };
        let ports =
            [port("a", Some("busy {}")), port("b", None), port("c", Some("busy {}")), port("d", Some("no memory"))];
        let words: Vec<String> = refusal_warnings(&ports).iter().map(Warning::words).collect();
        assert_eq!(words.len(), 2);
        assert!(words[0].contains("on ports a, c;") && words[0].ends_with("busy { }"), "{words:?}");
        assert!(words[1].contains("on port d;") && words[1].ends_with("no memory"), "{words:?}");
    }
}
