//! What hosts send and receive, counted where it passes the internet's router: bytes of IP packets.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Context, Result};

use crate::lab::{netns::Netns, tools};

/// UDP's own header and a pulse's two bytes, or a relayed one's six: nothing else is so short.
const PULSES: [usize; 2] = [8 + 2, 8 + 6];
const TABLE: &str = "metered";

/// What one site has sent or received.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Passed {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// Counters for some of the internet's interfaces, until it drops.
pub(super) struct Meter {
    ns: Netns,
    interfaces: Vec<String>,
}

impl Meter {
    /// Counts from now on.
    pub(super) fn start(internet: &Netns, interfaces: &[String]) -> Result<Meter> {
        let meter = Meter { ns: internet.clone(), interfaces: interfaces.to_vec() };
        let text = rules(interfaces);
        tools::feed(internet.command("nft").args(["-f", "-"]), &text).context("counting what passes the internet")?;
        Ok(meter)
    }

    /// What each interface's site has sent and received, all of it and pulses alone.
    pub(super) fn read(&self) -> Result<Vec<Traffic>> {
        let said = self.ns.run("nft", &["-j", "list", "counters", "table", "ip", TABLE])?;
        let counters = parse(&said)?;
        let get = |name: &str| counters.get(name).copied().with_context(|| format!("no counter {name}"));
        let of = |interface: &String| {
            let [sent, received] = ["up", "down"].map(|way| get(&format!("all-{way}-{interface}")));
            let [pulses_sent, pulses_received] = ["up", "down"].map(|way| get(&format!("pulses-{way}-{interface}")));
            let (sent, received) = (sent?, received?);
            Ok(Traffic { sent, received, pulses_sent: pulses_sent?, pulses_received: pulses_received? })
        };
        self.interfaces.iter().map(of).collect()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // It goes with its namespace otherwise.
        let _ = self.ns.run("nft", &["delete", "table", "ip", TABLE]);
    }
}

/// What one site has sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Traffic {
    pub(super) sent: Passed,
    pub(super) received: Passed,
    pub(super) pulses_sent: Passed,
    pub(super) pulses_received: Passed,
}

fn rules(interfaces: &[String]) -> String {
    let mut text = format!("table ip {TABLE} {{\n");
    let mut chain = "  chain passing {\n    type filter hook forward priority 0;\n".to_owned();
    let pulses = format!("udp length {{ {}, {} }} ", PULSES[0], PULSES[1]);
    for (what, which) in [("all", ""), ("pulses", pulses.as_str())] {
        for (way, key) in [("up", "iifname"), ("down", "oifname")] {
            let mut elements = Vec::new();
            for interface in interfaces {
                let name = format!("{what}-{way}-{interface}");
                let _ = writeln!(text, "  counter {name} {{ }}");
                elements.push(format!("\"{interface}\" : \"{name}\""));
            }
            let _ = writeln!(chain, "    {which}counter name {key} map {{ {} }}", elements.join(", "));
        }
    }
    text + &chain + "  }\n}\n"
}

fn parse(said: &str) -> Result<BTreeMap<String, Passed>> {
    let value: serde_json::Value = serde_json::from_str(said).context("output of nft -j")?;
    let all = value["nftables"].as_array().context("no counters in the output of nft -j")?;
    let counter = |item: &serde_json::Value| {
        let counter = item.get("counter")?;
        let number = |key: &str| counter.get(key)?.as_u64();
        let passed = Passed { packets: number("packets")?, bytes: number("bytes")? };
        Some((counter.get("name")?.as_str()?.to_owned(), passed))
    };
    Ok(all.iter().filter_map(counter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let said = r#"{"nftables": [{"metainfo": {"version": "1"}},
            {"counter": {"family": "ip", "name": "all-up-s2", "table": "metered", "packets": 3, "bytes": 90}}]}"#;
        let counters = parse(said).unwrap();
        assert_eq!(counters["all-up-s2"], Passed { packets: 3, bytes: 90 });
        assert!(parse("no JSON").is_err());
    }

    #[test]
    fn every_interface_has_four_counters() {
        let text = rules(&["s2".into(), "s3".into()]);
        assert_eq!(text.matches("\n  counter ").count(), 8, "{text}");
        assert!(
            text.contains("udp length { 10, 14 } counter name oifname map { \"s2\" : \"pulses-down-s2\""),
            "{text}"
        );
    }
}
