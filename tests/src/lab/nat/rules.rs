//! What makes a router the kind of NAT that it is: rules for nftables, as text.

use std::{fmt::Write, net::Ipv4Addr, time::Duration};

use super::{kind::NatKind, router::Timeouts};

/// The router's interface to the internet.
pub const WAN: &str = "wan";
/// The router's interface to its hosts.
pub const LAN: &str = "lan";
/// The first of the ports that kinds draw from which do not keep the host's.
const POOL: u16 = 20_000;
/// How many of them are counted through.
const COUNTED: u16 = 1000;
/// How many a hash finds: more, for two flows with one hash to one endpoint are one too many.
const HASHED: u16 = 10_000;

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What it is.
    pub kind: NatKind,
    /// Its address on the side of the internet.
    pub external: Ipv4Addr,
    /// The network of its hosts, a /24.
    pub lan: Ipv4Addr,
    /// True if it drops what comes from the internet unasked for, as real routers do.
    pub filter_input: bool,
    /// True if hosts reach each other by their external endpoints.
    pub hairpin: bool,
    /// How long a cone's mapping is open after its host's last packet.
    pub timeouts: Timeouts,
}

impl Rules {
    /// All rules, in the place of those that were there.
    pub fn text(&self) -> String {
        // Declared first, so that there is one to delete.
        let mut text = "table ip nat\ndelete table ip nat\ntable ip nat {\n".to_owned();
        if self.tracks() {
            text += "  map owner { type inet_service : ipv4_addr . inet_service; flags timeout; size 65535; }\n";
        }
        if self.kind == NatKind::RestrictedCone {
            text += "  set seen { type ipv4_addr . inet_service; flags timeout; size 65535; }\n";
        }
        let mut chain = |name: &str, kind: &str, hook: &str, priority: &str, rules: &[String]| {
            if rules.is_empty() {
                return;
            }
            text += &format!("  chain {name} {{\n    type {kind} hook {hook} priority {priority};\n");
            for rule in rules {
                text += &format!("    {rule}\n");
            }
            text += "  }\n";
        };
        chain("input", "filter", "input", "filter", &self.input());
        chain("forward", "filter", "forward", "filter", &self.forward());
        chain("pre", "nat", "prerouting", "dstnat", &self.pre());
        chain("post", "nat", "postrouting", "srcnat", &self.post());
        // After the translation: it looks at the ports that the translation gave.
        chain("track", "filter", "postrouting", "110", &self.track());
        text + "}\n"
    }

    /// The rules that know lifetimes alone, in the place of those that were there: mappings stay.
    pub fn lifetimes(&self) -> Option<String> {
        let rules = self.track();
        let mut text = "flush chain ip nat track\n".to_owned();
        for rule in &rules {
            text += &format!("add rule ip nat track {rule}\n");
        }
        (!rules.is_empty()).then_some(text)
    }

    /// What forgets the mappings that the kernel's connection tracking does not know.
    pub fn forget(&self) -> Option<String> {
        let mut text = String::new();
        if self.tracks() {
            text += "flush map ip nat owner\n";
        }
        if self.kind == NatKind::RestrictedCone {
            text += "flush set ip nat seen\n";
        }
        (!text.is_empty()).then_some(text)
    }

    /// True if it keeps a table of whose a port is: the kernel's connections let nobody in but those sent to.
    fn tracks(&self) -> bool {
        self.hairpin || matches!(self.kind, NatKind::FullCone | NatKind::RestrictedCone)
    }

    fn input(&self) -> Vec<String> {
        let rules = [format!("iifname {WAN} ct state new drop")];
        if self.filter_input { rules.into() } else { Vec::new() }
    }

    fn forward(&self) -> Vec<String> {
        match self.kind {
            NatKind::Open => Vec::new(),
            _ => vec![format!("iifname {WAN} ct status dnat accept"), format!("iifname {WAN} ct state new drop")],
        }
    }

    fn pre(&self) -> Vec<String> {
        let mut rules = Vec::new();
        let dnat = "dnat to udp dport map @owner";
        match self.kind {
            NatKind::FullCone => rules.push(format!("iifname {WAN} ip protocol udp {dnat}")),
            NatKind::RestrictedCone => {
                rules.push(format!("iifname {WAN} ip protocol udp ip saddr . udp dport @seen {dnat}"));
            }
            _ => {}
        }
        if self.hairpin {
            rules.push(format!("iifname {LAN} ip daddr {} ip protocol udp {dnat}", self.external));
        }
        rules
    }

    fn post(&self) -> Vec<String> {
        let Rules { kind, external, lan, .. } = *self;
        let udp = format!("oifname {WAN} ip protocol udp");
        // One port of the pool by a number, so that the kernel has no choice. By a map: a number taken for a port as it is has its bytes
        // in the wrong order.
        let pick = |number: &str, count: u16| {
            let ports = (0..count).fold(String::new(), |mut ports, n| {
                let _ = write!(ports, "{}{n} : {}", if n == 0 { "" } else { ", " }, POOL + n);
                ports
            });
            format!("{udp} snat ip to {external} : {number} mod {count} map {{ {ports} }}")
        };
        let mut rules = match kind {
            NatKind::Open | NatKind::SymmetricFirewall => return Vec::new(),
            NatKind::FullCone | NatKind::RestrictedCone | NatKind::PortRestrictedCone => Vec::new(),
            NatKind::PortRestrictedConeRemapped => {
                vec![format!("{udp} snat to {external}:{POOL}-{} persistent", POOL + HASHED - 1)]
            }
            NatKind::SymmetricByAddress => vec![pick("jhash ip saddr . udp sport . ip daddr", HASHED)],
            NatKind::SymmetricSequential => vec![pick("numgen inc", COUNTED)],
            NatKind::SymmetricRandom => vec![format!("{udp} masquerade fully-random")],
        };
        // What was sent to an external endpoint comes from one, too (RFC 4787, REQ-9).
        if self.hairpin {
            rules.push(format!("oifname {LAN} ip saddr {lan}/24 ct status dnat snat to {external}"));
        }
        rules.push(format!("oifname {WAN} masquerade"));
        rules
    }

    fn track(&self) -> Vec<String> {
        let mut from = Vec::new();
        if self.tracks() {
            from.push((format!("oifname {WAN} ip protocol udp"), self.kind == NatKind::RestrictedCone));
        }
        if self.hairpin {
            from.push((format!("oifname {LAN} ip saddr {} ct status dnat ip protocol udp", self.external), false));
        }
        // As long as the kernel keeps the connection, or a port would stay its first host's when another one has got it: the longer time
        // is for connections with packets both ways for two seconds, which the kernel calls assured.
        let times = [("", self.timeouts.unreplied), (" ct status assured", self.timeouts.replied)];
        let mut rules = Vec::new();
        for (from, seen) in &from {
            for (which, time) in times {
                let timeout = format!("timeout {}s", whole_seconds(time));
                let key = format!("udp sport {timeout} : ct original ip saddr . ct original proto-src");
                rules.push(format!("{from}{which} update @owner {{ {key} }}"));
                if *seen {
                    rules.push(format!("{from}{which} update @seen {{ ip daddr . udp sport {timeout} }}"));
                }
            }
        }
        rules
    }
}

/// A time as the kernel has it here: in whole seconds, and never none.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(kind: NatKind) -> Rules {
        Rules {
            kind,
            external: Ipv4Addr::new(198, 18, 1, 2),
            lan: Ipv4Addr::new(192, 168, 1, 0),
            filter_input: true,
            hairpin: false,
            timeouts: Timeouts::default(),
        }
    }

    /// Rules whose line has a word.
    fn lines(text: &str, word: &str) -> Vec<String> {
        text.lines().filter(|line| line.contains(word)).map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn whoever_does_not_translate_has_no_nat_and_open_filters_nothing_that_passes() {
        let open = rules(NatKind::Open).text();
        assert!(!open.contains("chain pre") && !open.contains("chain post") && !open.contains("chain forward"));
        let firewall = rules(NatKind::SymmetricFirewall).text();
        assert!(!firewall.contains("chain post") && firewall.contains("chain forward"));
        assert_eq!(rules(NatKind::Open).forget(), None);
        assert_eq!(rules(NatKind::PortRestrictedCone).lifetimes(), None);
    }

    #[test]
    fn the_input_filter_is_all_that_the_quirk_leaves_out() {
        for kind in NatKind::ALL {
            let with = rules(kind).text();
            let without = Rules { filter_input: false, ..rules(kind) }.text();
            assert_eq!(lines(&with, "hook input").len(), 1, "{kind}");
            assert!(lines(&without, "hook input").is_empty(), "{kind}");
            assert_eq!(lines(&with, "hook forward"), lines(&without, "hook forward"), "{kind}");
        }
    }

    #[test]
    fn cones_ask_whose_a_port_is_and_restricted_ones_who_asks() {
        let full = rules(NatKind::FullCone).text();
        assert_eq!(lines(&full, "dnat to"), ["iifname wan ip protocol udp dnat to udp dport map @owner"]);
        assert!(!full.contains("@seen"));
        let restricted = rules(NatKind::RestrictedCone);
        assert_eq!(
            lines(&restricted.text(), "dnat to"),
            ["iifname wan ip protocol udp ip saddr . udp dport @seen dnat to udp dport map @owner"]
        );
        assert_eq!(restricted.forget().unwrap(), "flush map ip nat owner\nflush set ip nat seen\n");
        assert!(lines(&rules(NatKind::PortRestrictedCone).text(), "dnat to").is_empty());
    }

    #[test]
    fn lifetimes_can_be_changed_alone() {
        let timeouts = Timeouts { unreplied: Duration::from_millis(1), replied: Duration::from_secs(3) };
        let short = Rules { timeouts, ..rules(NatKind::RestrictedCone) };
        let text = short.lifetimes().unwrap();
        assert!(text.starts_with("flush chain ip nat track\n"));
        assert_eq!(lines(&text, "timeout 3s").len(), 2);
        assert_eq!(lines(&text, "timeout 1s").len(), 2);
        assert!(lines(&short.text(), "timeout 120s").is_empty());
    }

    #[test]
    fn only_assured_connections_have_the_longer_time() {
        let text = rules(NatKind::FullCone).text();
        let [short, long] = &lines(&text, "update @owner")[..] else { panic!("{text}") };
        assert!(short.contains("timeout 30s") && !short.contains("assured"), "{short}");
        assert!(long.contains("timeout 120s") && long.contains("ct status assured"), "{long}");
    }

    #[test]
    fn pools_have_all_of_their_ports() {
        let last =
            [(NatKind::SymmetricByAddress, ", 9999 : 29999 }"), (NatKind::SymmetricSequential, ", 999 : 20999 }")];
        for (kind, last) in last {
            let text = rules(kind).text();
            assert!(text.contains("{ 0 : 20000, 1 : 20001, ") && text.contains(last), "{kind}");
        }
    }

    #[test]
    fn hairpinning_translates_both_addresses() {
        let text = Rules { hairpin: true, ..rules(NatKind::PortRestrictedCone) }.text();
        let dnat = "iifname lan ip daddr 198.18.1.2 ip protocol udp dnat to udp dport map @owner";
        assert_eq!(lines(&text, "dnat to"), [dnat]);
        let snat = "oifname lan ip saddr 192.168.1.0/24 ct status dnat snat to 198.18.1.2";
        assert_eq!(lines(&text, "snat to"), [snat]);
        assert_eq!(lines(&text, "update @owner").len(), 4);
    }
}
