//! What kind of NAT there is, for people.

use std::time::Duration;

use comfy_table::{Cell, Color};
use wavnet_proto::nat::Lifetime;

use super::{duration, finish, optional, table};
use crate::api::model::{NatInfo, NatLifetime, NatNote};

/// What `wavnet nat` found out; `searching`: the lifetime comes later.
pub fn nat(n: &NatInfo, searching: bool, color: bool) -> String {
    let (hue, means) = meaning(n);
    let mut table = table(&["NAT", &family(n)], color);
    table.add_row([Cell::new("type"), Cell::new(n.kind.replace('-', " ")).fg(hue)]);
    let mut row = |key: &str, value: String| {
        table.add_row([Cell::new(key), Cell::new(value)]);
    };
    row("which means", means.to_owned());
    row("here", n.local.to_string());
    for (key, value) in behaviour(n) {
        row(key, value);
    }
    if !searching && n.mapped.is_some() {
        row("lifetime", n.lifetime.map_or_else(|| "not measured: --lifetime does".into(), lifetime));
    }
    let mut text = finish(&table);
    if n.unstable {
        text += "warning: the mapping moved during the tests: all of this is uncertain\n";
    }
    if n.many_addresses {
        text +=
            "warning: mappings of one socket have different addresses: nobody can tell where the next one will be\n";
    }
    text + &notes(n.notes.iter())
}

/// How the NAT behaves, but for the lifetime; nothing if no server has answered.
fn behaviour(n: &NatInfo) -> Vec<(&'static str, String)> {
    let Some((mapped, server)) = n.mapped.zip(n.server) else { return Vec::new() };
    let most = if n.filtering_at_most { ", at the most" } else { "" };
    let mut rows = vec![
        ("seen as", format!("{mapped} by {server}")),
        ("mapping", words(&n.mapping)),
        ("filtering", format!("{}{most}", words(&n.filtering))),
        ("ports", ports(n)),
    ];
    if n.situation == "natted" {
        rows.push(("hairpin", n.hairpin.map_or("unknown", |yes| if yes { "yes" } else { "no" }).to_owned()));
    }
    rows
}

/// What is in front of the host of an agent, as rows of its status.
pub(super) fn nat_rows(n: &NatInfo) -> Vec<(&'static str, String)> {
    let mut rows = vec![("NAT", n.kind.replace('-', " "))];
    rows.extend(behaviour(n));
    if n.mapped.is_some() {
        rows.push(("lifetime", n.lifetime.map_or_else(|| "not known yet".into(), lifetime)));
    }
    rows
}

/// What a search for the lifetime has added.
pub fn nat_lifetime(before: &NatInfo, now: &NatInfo) -> String {
    let found = now.lifetime.map(|found| format!("lifetime ({}): {}\n", family(now), lifetime(found)));
    found.unwrap_or_default() + &notes(now.notes.iter().filter(|n| !before.notes.contains(n)))
}

/// That there was no lifetime to be found, and why.
pub fn nat_no_lifetime(n: &NatInfo) -> String {
    let why = match n.kind.as_str() {
        "open" if n.filtering == "endpoint-independent" => "nothing here ends: there is no NAT, and nobody is kept out",
        _ => "not known; a warning says why",
    };
    format!("lifetime ({}): {why}\n", family(n))
}

/// How far a search for the lifetime is.
pub fn nat_progress(known: Option<Lifetime>, seconds: u64, longest: Duration) -> String {
    // Two rounds, and what comes before.
    let most = duration(longest.as_secs().saturating_mul(2).saturating_add(30));
    let so_far = match known {
        None => "mappings are idle".to_owned(),
        Some(Lifetime { alive_after, dead_after }) => {
            let dead = dead_after.map_or_else(String::new, |dead| format!(", less than {}", time(dead)));
            format!("more than {}{dead}", time(alive_after))
        }
    };
    format!("looking for the lifetime: {so_far}; {} of at most {most}", duration(seconds))
}

fn family(n: &NatInfo) -> String {
    n.family.replace("ipv", "IPv")
}

/// What a type means for paths, and how bad that is.
fn meaning(n: &NatInfo) -> (Color, &'static str) {
    match n.kind.as_str() {
        "open" if n.filtering == "unknown" => {
            (Color::Green, "no NAT; whether a filter keeps out whom nothing was sent to is not known")
        }
        "open" => (Color::Green, "no NAT: direct paths with everybody"),
        "full-cone" => (Color::Green, "one mapping, open to everybody: direct paths with everybody"),
        "restricted-cone" => {
            (Color::Green, "one mapping, open to addresses that were sent to: direct paths with everybody")
        }
        "port-restricted-cone" => (
            Color::Green,
            "one mapping, open to ports that were sent to: direct paths; with symmetric NATs after a search",
        ),
        "symmetric" => (
            Color::Yellow,
            "a mapping for each destination: direct paths with cones, some after a search; with symmetric NATs over a relay, unless both count their ports",
        ),
        "symmetric-firewall" => {
            (Color::Green, "no NAT, but only who was sent to gets in: direct paths; with symmetric NATs after a search")
        }
        "blocked" => (Color::Red, "no server answers: no paths, unless a server is reachable that was not asked"),
        _ => (Color::Yellow, "too little is known; the warnings say what is missing"),
    }
}

fn words(behaviour: &str) -> String {
    behaviour.replace("address-and-port-dependent", "address- and port-dependent")
}

fn ports(n: &NatInfo) -> String {
    let order = match (n.ports.as_str(), n.port_step) {
        ("preserving", _) => return "preserved: the mapped port is the host's own".to_owned(),
        ("sequential", Some(step)) => format!("sequential ({step:+})"),
        (order, _) => order.to_owned(),
    };
    match n.preserves_port {
        Some(true) => format!("{order}; the first one is the host's own"),
        Some(false) if n.ports == "unknown" => "not preserved".to_owned(),
        _ => order,
    }
}

fn lifetime(NatLifetime { alive_ms, dead_ms }: NatLifetime) -> String {
    let [alive, dead] = [Some(alive_ms), dead_ms].map(|ms| ms.map(|ms| time(Duration::from_millis(ms))));
    match (alive_ms, dead) {
        (_, None) => format!("{} at least, idle", optional(alive)),
        (0, Some(dead)) => format!("less than {dead}, idle"),
        (_, Some(dead)) => format!("{} to {dead}, idle", optional(alive)),
    }
}

/// With tenths where seconds are few.
fn time(time: Duration) -> String {
    if time < Duration::from_secs(20) { format!("{:.1}s", time.as_secs_f64()) } else { duration(time.as_secs()) }
}

/// Advice that several have in common comes behind the last of them.
fn notes<'a>(notes: impl Iterator<Item = &'a NatNote>) -> String {
    let mut notes = notes.peekable();
    let mut text = String::new();
    while let Some(NatNote { message, help, .. }) = notes.next() {
        text += &format!("warning: {message}\n");
        if notes.peek().is_none_or(|next| next.help != *help) {
            text += &format!("  help: {help}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of docs/api.md.
    fn examples() -> Vec<NatInfo> {
        let docs = include_str!("../../../docs/api.md");
        let block = docs.split("```json nat\n").nth(1).unwrap().split("```").next().unwrap();
        let infos = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            serde_json::from_value::<Vec<NatInfo>>(value["nat"].clone()).unwrap()
        };
        block.lines().flat_map(infos).collect()
    }

    #[test]
    fn what_is_documented_is_what_is_shown() {
        let docs = include_str!("../../../docs/nat.md");
        let shown = docs.split("rendezvous.example.net\n").nth(1).unwrap().split("```").next().unwrap();
        let info = NatInfo { lifetime: None, ..examples().remove(0) };
        assert_eq!(nat(&info, false, false), shown);
        // Every type has a line in the table.
        for kind in [
            "open",
            "full-cone",
            "restricted-cone",
            "port-restricted-cone",
            "symmetric",
            "symmetric-firewall",
            "blocked",
            "unknown",
        ] {
            assert!(docs.contains(&format!("\n| {} | ", kind.replace('-', " "))), "{kind}");
        }
    }

    #[test]
    fn a_lifetime_that_comes_later_is_shown_alone() {
        let now = examples().remove(0);
        let before = NatInfo { lifetime: None, ..now.clone() };
        assert!(!nat(&before, true, false).contains("lifetime"));
        assert_eq!(nat_lifetime(&before, &now), "lifetime (IPv4): 28s to 30s, idle\n");
        let shown = |alive_ms, dead_ms| lifetime(NatLifetime { alive_ms, dead_ms });
        assert_eq!(shown(300_000, None), "5m 0s at least, idle");
        assert_eq!(shown(0, Some(1400)), "less than 1.4s, idle");
        assert_eq!(nat_no_lifetime(&before), "lifetime (IPv4): not known; a warning says why\n");
        let known = Lifetime { alive_after: Duration::from_secs(55), dead_after: Some(Duration::from_secs(91)) };
        let line = nat_progress(Some(known), 130, Duration::from_secs(300));
        assert_eq!(line, "looking for the lifetime: more than 55s, less than 1m 31s; 2m 10s of at most 10m 30s");
    }

    #[test]
    fn advice_that_warnings_share_comes_once() {
        let blocked = examples().remove(1);
        let note =
            |message: &str, help: &str| NatNote { code: "silent".into(), message: message.into(), help: help.into() };
        let notes = vec![note("a", "x"), note("b", "x"), note("c", "y")];
        let text = nat(&NatInfo { notes, unstable: true, ..blocked }, false, false);
        let end = "warning: the mapping moved during the tests: all of this is uncertain\n\
                   warning: a\nwarning: b\n  help: x\nwarning: c\n  help: y\n";
        assert!(text.ends_with(end) && !text.contains("seen as"), "{text}");
    }

    #[test]
    fn no_more_is_promised_than_is_known() {
        let open = NatInfo { kind: "open".into(), situation: "direct".into(), ..examples().remove(0) };
        let shown = |filtering: &str| nat(&NatInfo { filtering: filtering.into(), ..open.clone() }, true, false);
        assert!(shown("endpoint-independent").contains("direct paths with everybody"));
        assert!(!shown("unknown").contains("everybody"), "{}", shown("unknown"));
        assert!(!shown("unknown").contains("hairpin"), "nothing to hairpin without a NAT");
    }

    #[test]
    fn ports_read_well() {
        let of = |order: &str, port_step, preserves_port| {
            ports(&NatInfo { ports: order.into(), port_step, preserves_port, ..examples().remove(0) })
        };
        assert_eq!(of("sequential", Some(1), Some(true)), "sequential (+1); the first one is the host's own");
        assert_eq!(of("sequential", Some(-2), Some(false)), "sequential (-2)");
        assert_eq!(of("unknown", None, Some(false)), "not preserved");
        assert_eq!(of("random", None, Some(false)), "random");
    }
}
