use proptest::prelude::*;

use super::*;
use crate::api::model::VlanMode;

const EXAMPLE: &str = include_str!("../../../docs/wavnet.example.toml");
const SMALL: &str = "[underlay]\ninterface = \"eth1\"\n[[vni]]\nid = 100\n";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, "test.toml")
}

/// What SMALL says with more behind it.
#[track_caller]
fn valid(added: &str) -> Config {
    parse(&format!("{SMALL}{added}")).unwrap_or_else(|e| panic!("{e}"))
}

fn port(name: &str, vni: u32) -> String {
    format!("[[port]]\ninterface = \"{name}\"\nvni = {vni}\n")
}

fn peer(address: &str, vnis: &str) -> String {
    format!("[[peer]]\naddress = \"{address}\"\nvnis = {vnis}\n")
}

fn errors(text: &str) -> Vec<(usize, usize, String, String)> {
    let e = parse(text).expect_err("must not pass");
    let _ = e.to_string();
    let told = |(d, place): (&Diagnostic, Option<(usize, usize)>)| {
        let (line, column) = place.unwrap_or_else(|| panic!("{d:?} has no place"));
        (line, column, d.key.clone(), d.message.clone())
    };
    e.places().map(told).collect()
}

/// One error, at a line (of what is added to SMALL) and key, that says something.
#[track_caller]
fn one(added: &str, line: usize, key: &str, says: &str) {
    let found = errors(&format!("{SMALL}{added}"));
    assert_eq!(found.len(), 1, "{found:#?}");
    let (at, _, k, message) = &found[0];
    assert_eq!((*at, k.as_str()), (line + SMALL.lines().count(), key), "{message}");
    assert!(message.contains(says), "{message}");
}

#[test]
fn the_example_is_valid_and_says_what_it_shows() {
    let c = parse(EXAMPLE).unwrap();
    assert_eq!(c.underlay.interface, "eth1");
    assert_eq!(c.underlay.address, Some([192, 0, 2, 1].into()));
    assert_eq!(c.vnis.iter().map(|v| v.vni.get()).collect::<Vec<_>>(), [100, 200]);
    assert_eq!(c.port_for("vnet7").unwrap().vni.get(), 100);
    assert_eq!(c.port_for("tap0").unwrap().vlan, VlanMode::Discard);
    assert_eq!(c.port_for("eth0"), None);
    assert_eq!(c.peers[1].udp_port, 8472);
    assert_eq!(c.peers[0].udp_port, 4789);
    assert_eq!(c.statics.len(), 2);
    assert_eq!(c.mesh.map(|m| m.servers.len()), Some(1));
}

#[test]
fn commented_defaults_of_the_example_are_the_defaults() {
    // With the comment signs of `# key = value` removed, the configuration stays the same.
    let bare = |l: &str| {
        let key = l.strip_prefix("# ")?;
        let name = key.split_once(" = ")?.0;
        name.chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| key.to_owned())
    };
    let mut shown = 0;
    let lines = EXAMPLE.lines().map(|l| bare(l).inspect(|_| shown += 1).unwrap_or_else(|| l.to_owned()));
    let text = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(parse(&text).unwrap(), parse(EXAMPLE).unwrap());
    assert_eq!(shown, 21);
}

#[test]
fn every_error_is_reported_with_its_place() {
    let text = "[underlay]\ninterface = \"eth1\"\nadress = \"192.0.2.1\"\n\n[[vni]]\nid = 100\n\n[[port]]\n\tinterface = \"a b\"\nvni = 0\n\n[fdb]\nageing = \"9h\"\n";
    let found = errors(text);
    let places: Vec<_> = found.iter().map(|(l, c, k, _)| (*l, *c, k.as_str())).collect();
    assert_eq!(
        places,
        [(3, 1, "underlay.adress"), (9, 14, "port.interface"), (10, 7, "port.vni"), (13, 10, "fdb.ageing")]
    );
}

#[test]
fn errors_look_like_this() {
    let text = format!("{SMALL}[[port]]\ninterface = \"tap0\"\nvni = 200\nvlam = \"pass\"\n");
    let shown = Config::parse(&text, "/etc/wavnet.toml").unwrap_err().to_string();
    assert_eq!(
        shown,
        "\
error: VNI 200 is not declared
 --> /etc/wavnet.toml:7:7 (key `port.vni`)
  |
7 | vni = 200
  |       ^^^
  = help: declare it:
            [[vni]]
            id = 200

error: unknown key `vlam` in [port]
 --> /etc/wavnet.toml:8:1 (key `port.vlam`)
  |
8 | vlam = \"pass\"
  | ^^^^
  = help: did you mean `vlan`?

/etc/wavnet.toml has 2 errors"
    );
}

#[test]
fn long_lines_and_values_are_shown_cut() {
    let long = "ä".repeat(1_000_000);
    for text in [
        format!("{SMALL}[[port]]\ninterface = \"{long}\"\nvni = 100\n"),
        format!("{SMALL}{long}"),
        format!("{SMALL}a = {}", "[".repeat(1_000_000)),
        format!("{SMALL}x = [{}]\n", "7, ".repeat(300_000)),
        format!("{SMALL}[{long}]\n"),
    ] {
        let errors = parse(&text).unwrap_err();
        let shown = errors.to_string();
        assert!(shown.len() < 200_000, "{} bytes", shown.len());
        assert!(shown.lines().all(|line| line.chars().count() < 700));
        let told: usize = errors.problems().iter().map(|p| p.message.len() + p.key.len()).sum();
        assert!(told < 4_000_000, "{told} bytes");
    }
    let text = format!("{SMALL}{}vlam = 1\n", " ".repeat(100));
    let shown = parse(&text).unwrap_err().to_string();
    let caret = format!("  | {}^^^^\n", " ".repeat(41));
    assert!(shown.contains(&format!("5 | …{}vlam = 1\n{caret}", " ".repeat(40))), "{shown}");
}

#[test]
fn what_is_wrong_with_ports() {
    one(&port("a", 7), 3, "port.vni", "not declared");
    one("[[port]]\ninterface = \"a\"\n", 1, "port.vni", "missing");
    one(&port("eth1", 100), 2, "port.interface", "is the underlay");
    one(&port("eth*", 100), 2, "port.interface", "matches the underlay");
    one(&(port("a", 100) + "vlan = \"drop\"\n"), 4, "port.vlan", "\"pass\", \"discard\"");
    let two = |a: &str, b: &str| port(a, 100) + &port(b, 100);
    one(&two("a", "a"), 5, "port.interface", "given twice, first in line 6");
    one(&two("tap*", "tap?"), 5, "port.interface", "can match the same");
    assert_eq!(valid(&two("tap*", "tap0")).ports.len(), 2, "an exact name beside a pattern");
}

#[test]
fn what_is_wrong_with_peers() {
    for bad in ["224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0"] {
        one(&peer(bad, "[100]"), 2, "peer.address", "unicast");
    }
    one(&peer("192.0.2.2", "[]"), 3, "peer.vnis", "no VNI");
    one(&peer("192.0.2.2", "[100, 100]"), 3, "peer.vnis", "twice");
    one(&peer("192.0.2.2", "[100, 7]"), 3, "peer.vnis", "not declared");
    one(&peer("192.0.2.2", "[16777216]"), 3, "peer.vnis", "no VNI");
    one("[[peer]]\naddress = \"192.0.2.2\"\n", 1, "peer.vnis", "missing");
    one(&[peer("192.0.2.2", "[100]"), peer("192.0.2.2", "[100]")].concat(), 5, "peer.address", "twice");
    let own = "[underlay]\ninterface = \"eth1\"\naddress = \"192.0.2.1\"\n[[vni]]\nid = 100\n";
    let found = errors(&format!("{own}{}", peer("192.0.2.1", "[100]")));
    assert!(found.len() == 1 && found[0].3.contains("own address (in line 3)"), "{found:?}");
}

#[test]
fn advice_about_limits_can_be_followed() {
    let vnis = |n: u32| (200..200 + n).map(|id| format!("[[vni]]\nid = {id}\n")).collect::<String>();
    let help = |text: &str| parse(text).unwrap_err().errors.last().unwrap().help.clone().unwrap();
    assert_eq!(help(&format!("{SMALL}[limits]\nvnis = 2\n{}", vnis(2))), "raise vnis in [limits]");
    let too_many = format!("{SMALL}{}", vnis(Limits::MAX + 1));
    assert_eq!(help(&too_many), "65535 is the most that an agent takes: leave some out");
}

#[test]
fn a_vni_floods_to_so_many_peers() {
    let peers = |n: u32| -> String { (0..n).map(|i| peer(&format!("10.0.{}.{}", i >> 8, i & 255), "[100]")).collect() };
    assert_eq!(valid(&peers(512)).peers.len(), 512);
    one(&peers(514), 513 * 3, "peer.vnis", "more than 512 peers");
    let found = errors(&format!("{SMALL}[limits]\npeers = 511\n{}", peers(512)));
    assert!(found[0].3.contains("room for 511"), "{found:?}");
}

#[test]
fn what_is_wrong_with_statics() {
    let with = |rest: &str| [port("tap*", 100), peer("192.0.2.2", "[100]"), rest.into()].concat();
    let st = |mac: &str, place: &str| format!("[[static]]\nvni = 100\nmac = \"{mac}\"\n{place}\n");
    let ok = "52:54:00:00:00:01";
    one(&with(&st("01:00:5e:00:00:01", "port = \"tap0\"")), 9, "static.mac", "group address");
    one(&with(&st("5254", "port = \"tap0\"")), 9, "static.mac", "not a MAC");
    one(&with(&st(ok, "port = \"veth0\"")), 10, "static.port", "no [[port]]");
    one(&with(&st(ok, "peer = \"192.0.2.3\"")), 10, "static.peer", "no peer of VNI 100");
    one(&with(&st(ok, "")), 7, "static.port", "say where");
    one(&with(&st(ok, "port = \"tap0\"\npeer = \"192.0.2.2\"")), 11, "static.peer", "not both");
    let elsewhere = |name: &str| [&st(ok, "port = \"vnet7\""), "[[vni]]\nid = 200\n", &port(name, 200)].concat();
    one(
        &with(&elsewhere("vnet*")),
        10,
        "static.port",
        "belongs to VNI 200, not to 100: the pattern vnet* (in line 18)",
    );
    one(&with(&elsewhere("vnet7")), 10, "static.port", "belongs to VNI 200, not to 100 (in line 18)");
    let both = elsewhere("vnet*") + &port("vnet7", 100);
    assert_eq!(valid(&with(&both)).statics.len(), 1, "an exact name goes first");
    let twice = [st(ok, "port = \"tap0\""), st(ok, "peer = \"192.0.2.2\"")].concat();
    one(&with(&twice), 13, "static.mac", "twice");
}

#[test]
fn an_mtu_that_cannot_fit() {
    let text = |mtu: u32| format!("[underlay]\ninterface = \"eth1\"\nmtu = 1500\n[[vni]]\nid = 1\nmtu = {mtu}\n");
    assert!(parse(&text(1450)).is_ok());
    let found = errors(&text(1451));
    assert_eq!((found[0].0, found[0].2.as_str()), (6, "vni.mtu"));
    assert!(found[0].3.contains("cannot fit"));
}

#[test]
fn the_interface_says_what_the_configuration_does_not() {
    let text = "[underlay]\ninterface = \"eth1\"\n[[vni]]\nid = 1\nmtu = 9000\n";
    let nic = |name: &str| (name == "eth1").then_some(1600);
    let with = |text: &str| Config::parse_with(text, "x", &nic);
    let e = with(text).unwrap_err().to_string();
    assert!(e.contains("an MTU of 9000 cannot fit the underlay's 1600") && e.contains("x:5:7 (key `vni.mtu`)"), "{e}");
    assert!(e.contains("ip link set eth1 mtu 9050") && e.contains("lower this one to 1550"), "{e}");
    assert!(parse(text).is_ok(), "there is no such interface yet");
    let told = text.replace("[[vni]]", "mtu = 9100\n[[vni]]");
    assert!(with(&told).is_ok(), "underlay.mtu is taken at its word");
    assert!(with(&text.replace("9000", "1550")).is_ok());
}

#[test]
fn tc_can_be_forced_to_clsact() {
    let with = |tc: &str| parse(&SMALL.replace("[[vni]]", &format!("{tc}\n[[vni]]")));
    let auto = with("").unwrap();
    assert_eq!(auto.underlay.tc, TcChoice::Auto);
    let forced = with("tc = \"clsact\"").unwrap();
    assert_eq!(forced.underlay.tc, TcChoice::Clsact);
    assert_eq!(auto.needs_restart(&forced), ["underlay.tc"]);
    assert!(with("tc = \"tcx\"").is_err());
}

#[test]
fn other_errors() {
    one("[[vni]]\nid = 100\n", 2, "vni.id", "twice, first in line 4");
    one("[metrics]\nlisten = \"localhost\"\n", 2, "metrics.listen", "127.0.0.1:9810");
    one("[fdb]\nageing = 300\n", 2, "fdb.ageing", "300s");
    one("[fdb]\nentries = -1\n", 2, "fdb.entries", "out of range");
    one("[agent]\nrun_dir = 3\n", 2, "agent.run_dir", "found integer");
    one("[vnis]\n", 1, "vnis", "unknown key");
    let found = errors("[[vni]]\nid = 1\n");
    assert!(found[0].3.contains("[underlay] is missing"), "{found:?}");
    let found = errors("[underlay\ninterface = \"eth1\nx = = 3\n");
    assert!(found.len() > 1 && found.iter().all(|f| f.2.is_empty()), "{found:?}");
    assert_eq!(errors("vni = 3\n[underlay]\ninterface=\"e\"").len(), 1);
}

#[test]
fn entries_round_up_to_buckets() {
    for (entries, buckets) in [(1, 1), (4, 1), (5, 2), (262_144, 65_536), (262_145, 131_072)] {
        let c = valid(&format!("[fdb]\nentries = {entries}\n"));
        assert_eq!(c.fdb.buckets, buckets, "{entries}");
    }
}

fn flags(vnis: &[u32], ports: &[&str], peers: &[&str]) -> Flags {
    Flags {
        underlay: "eth1".into(),
        address: None,
        udp_port: 4789,
        hook: HookChoice::Auto,
        vnis: vnis.iter().map(|n| wavnet_common::addr::Vni::new(*n).unwrap()).collect(),
        ports: ports.iter().map(|p| p.parse().unwrap()).collect(),
        peers: peers.iter().map(|p| p.parse().unwrap()).collect(),
        agent: Agent::default(),
        log: Log::default(),
        metrics: Metrics::default(),
        rendezvous: Vec::new(),
        mesh: mesh::defaults(),
        fdb: Fdb::default(),
    }
}

#[test]
fn flags_say_the_same_as_a_file() {
    let from_flags = flags(&[100], &["tap0", "vnet*"], &["192.0.2.2"]).validate().unwrap();
    assert_eq!(from_flags, valid(&[port("tap0", 100), port("vnet*", 100), peer("192.0.2.2", "[100]")].concat()));
    let two = flags(&[1, 2], &["a=1", "b=2"], &["192.0.2.2", "192.0.2.3=2"]).validate().unwrap();
    assert_eq!(two.peers[0].vnis.len(), 2);
    assert_eq!(two.peers[1].vnis.len(), 1);
}

#[test]
fn wrong_flags_are_named() {
    let shown = flags(&[1, 2], &["a", "b=3"], &[]).validate().unwrap_err().to_string();
    assert!(shown.contains("--> --port a") && shown.contains("--port a=VNI"), "{shown}");
    assert!(shown.contains("VNI 3 is not declared") && shown.contains("--vni 3"), "{shown}");
}

#[test]
fn what_needs_a_restart_is_said_at_every_reload() {
    let running = parse(EXAMPLE).unwrap();
    let mut new = running.clone();
    new.fdb.ageing *= 2;
    new.peers.clear();
    assert!(running.needs_restart(&new).is_empty());
    new.agent = Agent {
        name: None,
        bpffs: "/sys/fs/bpf/x".into(),
        run_dir: "/x".into(),
        socket_mode: 0,
        socket_group: Some("x".into()),
    };
    new.log = Log { level: LogLevel::Trace, format: LogFormat::Json };
    new.metrics = Metrics { listen: None, program_run_time: true };
    new.limits = Limits { ports: 1, vnis: 2, peers: 3 };
    new.fdb.buckets *= 2;
    new.underlay.tc = TcChoice::Clsact;
    assert_eq!(running.needs_restart(&new), Config::FIXED);
    let now = new.clone().taken_over_by(&running);
    assert_eq!((now.fdb.ageing, &now.peers), (new.fdb.ageing, &new.peers));
    assert_eq!(now.needs_restart(&new), Config::FIXED, "still so when the file is read again");
    assert!(running.needs_restart(&now).is_empty());
}

#[test]
fn the_example_marks_what_needs_a_restart() {
    let (mut section, mut marked, mut in_comment) = (String::new(), false, false);
    let mut keys = Vec::new();
    for line in EXAMPLE.lines().skip_while(|l| !l.starts_with('[')) {
        let bare = line.trim_start_matches("# ");
        let key = bare
            .split_once(" = ")
            .map(|(key, _)| key)
            .filter(|k| k.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()));
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some(key) = key {
            in_comment = false;
            if marked {
                keys.push(format!("{section}.{key}"));
            }
        } else if line.starts_with('#') {
            marked = (in_comment && marked) || line.ends_with("[restart]") || line.ends_with("[down]");
            in_comment = true;
        }
    }
    assert_eq!(keys, Config::FIXED);
}

proptest! {
    #[test]
    fn random_text_never_panics(text in "(?s).{0,300}") {
        if let Err(e) = parse(&text) {
            let _ = e.to_string();
        }
    }

    #[test]
    fn random_bytes_of_toml_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(e) = parse(&String::from_utf8_lossy(&bytes)) {
            let _ = e.to_string();
        }
    }

    #[test]
    fn a_mutated_example_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, "[\\[\\]={}\"'#.,\n\t 0-9a-z*?é-]{0,4}"), 1..6)
    ) {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(e) = parse(&text) {
            prop_assert!(!e.errors.is_empty());
            let _ = e.to_string();
        }
    }

    #[test]
    fn shuffled_values_never_panic(key in 0..60usize, value in "([0-9]{1,25}|-1|\"[a-z0-9.:*?/ ]{0,20}\"|\\[1, \"a\"\\]|true|1.5|1979-05-27|\\{a = 1\\})") {
        let mut n = 0;
        let lines: Vec<String> = EXAMPLE.lines().map(|l| match l.split_once(" = ") {
            Some((k, _)) if !l.starts_with('#') => {
                n += 1;
                if n == key { format!("{k} = {value}") } else { l.to_owned() }
            }
            _ => l.to_owned(),
        }).collect();
        if let Err(e) = parse(&lines.join("\n")) {
            let _ = e.to_string();
        }
    }
}
