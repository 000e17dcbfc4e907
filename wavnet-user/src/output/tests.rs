use super::*;
use crate::api::protocol::{Outcome, Response, ResponseLine};

/// The examples of docs/api.md are what is shown here.
fn example(kind: &str) -> Response {
    let docs = include_str!("../../../docs/api.md");
    let mut lines = docs.lines().filter(|l| l.starts_with("{\"v\"") && l.contains(&format!("\"ok\": {{\"{kind}\"")));
    let line: ResponseLine = serde_json::from_str(lines.next_back().unwrap()).unwrap();
    match line.outcome {
        Outcome::Ok(response) => response,
        Outcome::Error(e) => panic!("{e}"),
    }
}

#[test]
fn status_reads_well() {
    let Response::Status(s) = example("status") else { panic!() };
    assert_eq!(
        status(&s, false),
        "\
agent          hypervisor-1
version        0.1.0 (map ABI 7), process 4711
running for    1m 0s, counting for 1d 0h
configuration  /etc/wavnet.toml
pins           /sys/fs/bpf/wavnet
metrics        http://127.0.0.1:9810/metrics
underlay       eth1, 192.0.2.1, UDP port 4789, MTU 1600
state          attached
hook           xdp-driver
NAT            port restricted cone
seen as        203.0.113.9:4789 by 198.51.100.1:4789
mapping        endpoint-independent
filtering      address- and port-dependent
ports          preserved: the mapped port is the host's own
hairpin        no
lifetime       30s to 34s, idle
VNIs           2
ports          3, 2 attached
peers          2, 2 up
MACs           5 of 262,144, 1 static
dropped        7 frames
warning: port tap7 is configured, but there is no such interface
"
    );
}

#[test]
fn tables_line_up() {
    let Response::Peers(p) = example("peers") else { panic!() };
    assert_eq!(
        peers(&p, false),
        "\
PEER          PORT  VNIS     STATE     NEXT HOP     INTERFACE  MTU   RX FRAMES  RX    TX FRAMES  TX     ORIGIN
192.0.2.2     4789  100,200  up        192.0.2.254  eth1       1600          1  60 B          2  120 B  config
198.51.100.7  8472  100      no_route  -            -          -             0   0 B          0    0 B  runtime
"
    );
    let Response::Ports(p) = example("ports") else { panic!() };
    let text = ports(&p, false);
    assert!(text.contains("tap7  100  missing   -     -        -         -     discard"), "{text}");
    let down = text.lines().find(|l| l.starts_with("tap1 ")).unwrap();
    assert!(down.starts_with("tap1  100  attached  down  tcx      tc "), "{text}");
    let Response::Fdb(e) = example("fdb") else { panic!() };
    assert!(fdb(&e, false).ends_with("100  52:54:00:00:00:07  peer 198.51.100.7  static  -\n"));
    let Response::Drops(r) = example("drops") else { panic!() };
    assert!(drops(&r, false).contains("unknown_vni       7  The VNI is not configured on this host."));
}

#[test]
fn colours_only_when_asked_for() {
    let Response::Ports(p) = example("ports") else { panic!() };
    assert!(!ports(&p, false).contains('\u{1b}'));
    assert!(ports(&p, true).contains('\u{1b}'));
}

#[test]
fn errors_follow_the_table() {
    let Response::Ports(mut p) = example("ports") else { panic!() };
    p[0].error = Some("the kernel refused".into());
    assert!(ports(&p, false).ends_with("tap0: the kernel refused\n"));
}

#[test]
fn changes_are_told() {
    let Response::Done(d) = example("done") else { panic!() };
    assert_eq!(done(&d), "port tap0 added to VNI 100\n");
    assert_eq!(done(&Done::default()), "nothing has changed\n");
    let Response::Event(e) = example("event") else { panic!() };
    assert_eq!(event(&e), "moved 52:54:00:00:00:01 in VNI 100: port tap0 -> peer 192.0.2.2\n");
}
