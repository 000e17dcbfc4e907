use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use wavnet_common::{
    abi::{ABI_VERSION, Count, Traffic},
    addr::Vni,
    reason::Reason,
};

use super::*;
use crate::api::model::HookMode;

const DOCS: &str = include_str!("../../../docs/metrics.md");

fn traffic(n: u64) -> Traffic {
    Traffic { rx_frames: n, rx_bytes: 60 * n, tx_frames: 2 * n, tx_bytes: 120 * n }
}

fn snapshot(peers: u8) -> Snapshot {
    Snapshot {
        start_time_s: 1_700_000_000.5,
        ports: vec![PortSample { port: "tap\"0".into(), vni: Vni::new(100).unwrap(), xdp: true, traffic: traffic(3) }],
        vnis: vec![VniSample { vni: Vni::new(100).unwrap(), traffic: traffic(5), fdb_learned: 10_000, fdb_static: 1 }],
        peers: (0..peers)
            .map(|i| PeerSample { peer: [192, 0, 2, i].into(), traffic: traffic(7), up: i % 2 == 0 })
            .collect(),
        drops: vec![(Reason::UnknownVni, 9)],
        counts: vec![(Count::Moved, 4)],
        fdb_capacity: 262_144,
        fdb_aged: 6,
        underlay: ("eth1".into(), Some(HookMode::XdpGeneric)),
        ports_unattached: 1,
        programs: vec![ProgramSample {
            program: "port_tc".into(),
            run_time: Duration::from_millis(1500),
            run_count: 1_000_000,
        }],
        mesh: Some(Box::new(mesh())),
        reloads: (2, 1),
    }
}

/// The mesh of docs/api.md.
fn mesh() -> crate::api::model::MeshInfo {
    let docs = include_str!("../../../docs/api.md");
    let line = docs.lines().find(|line| line.contains(r#""ok": {"mesh""#)).unwrap();
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    serde_json::from_value(value["ok"]["mesh"].clone()).unwrap()
}

#[test]
fn numbers_arrive_under_their_names() {
    let text = render(&snapshot(2)).unwrap();
    let build = format!(r#"wavnet_build_info{{version="0.1.0",abi="{ABI_VERSION}"}} 1"#);
    for line in [
        r#"wavnet_port_frames_total{port="tap\"0",vni="100",direction="tx"} 6"#,
        r#"wavnet_port_bytes_total{port="tap\"0",vni="100",direction="rx"} 180"#,
        r#"wavnet_vni_frames_total{vni="100",direction="rx"} 5"#,
        r#"wavnet_peer_bytes_total{peer="192.0.2.1",direction="tx"} 840"#,
        r#"wavnet_peer_up{peer="192.0.2.1"} 0"#,
        r#"wavnet_drops_total{reason="unknown_vni"} 9"#,
        r#"wavnet_nat_info{type="port-restricted-cone",mapping="endpoint-independent",filtering="address-and-port-dependent",ports="preserving",preserves_port="yes",hairpin="no",mapped="203.0.113.9:4789"} 1"#,
        "wavnet_held_frames_lost_total 0",
        "wavnet_mesh_refused_total 0",
        r#"wavnet_mesh_drops_total{reason="replayed"} 2"#,
        "wavnet_nat_lifetime_seconds 30",
        r#"wavnet_mesh_server_registered{server="198.51.100.1:4789"} 1"#,
        r#"wavnet_mesh_peer_path{peer="zP0rFdQKfyZ2aJzSm5cQe8Xy2p0ZrZJ9yS2m3dQ4Uk8=",path="direct"} 1"#,
        r#"wavnet_mesh_peer_path{peer="zP0rFdQKfyZ2aJzSm5cQe8Xy2p0ZrZJ9yS2m3dQ4Uk8=",path="relayed"} 0"#,
        r#"wavnet_mesh_peer_rtt_seconds{peer="zP0rFdQKfyZ2aJzSm5cQe8Xy2p0ZrZJ9yS2m3dQ4Uk8="} 0.03125"#,
        r#"wavnet_drops_total{reason="clone_failed"} 0"#,
        r#"wavnet_fdb_entries{vni="100",kind="learned"} 10000"#,
        r#"wavnet_fdb_entries{vni="100",kind="static"} 1"#,
        "wavnet_fdb_moved_total 4",
        "wavnet_fdb_learned_total 0",
        "wavnet_fdb_aged_total 6",
        "wavnet_fdb_capacity_entries 262144",
        r#"wavnet_underlay_hook_mode{interface="eth1",mode="xdp-generic"} 1"#,
        r#"wavnet_underlay_hook_mode{interface="eth1",mode="xdp-driver"} 0"#,
        r#"wavnet_program_run_time_seconds_total{program="port_tc"} 1.5"#,
        r#"wavnet_program_runs_total{program="port_tc"} 1000000"#,
        &build,
        "wavnet_agent_start_time_seconds 1700000000.5",
        r#"wavnet_agent_reloads_total{result="failed"} 1"#,
        r#"wavnet_port_xdp{port="tap\"0",vni="100"} 1"#,
        "wavnet_ports_unattached 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    }
    let drops = text.lines().filter(|l| l.starts_with("wavnet_drops_total{")).count();
    assert_eq!(drops, Reason::COUNT);
}

#[test]
fn an_underlay_without_programs_has_its_series_too() {
    let cut_off = Snapshot { underlay: ("eth1".into(), None), ..snapshot(1) };
    let text = render(&cut_off).unwrap();
    for mode in HookMode::ALL {
        let line = format!("wavnet_underlay_hook_mode{{interface=\"eth1\",mode=\"{}\"}} 0", mode.as_str());
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    }
}

#[test]
fn an_agent_without_anything_has_metrics_too() {
    let text = render(&Snapshot::default()).unwrap();
    assert!(text.contains("wavnet_fdb_moved_total 0") && !text.contains("wavnet_port_frames_total"));
}

#[test]
fn the_text_grows_with_peers_and_not_with_macs() {
    let mut many = snapshot(2);
    let before = render(&many).unwrap().lines().count();
    many.vnis[0].fdb_learned *= 1000;
    assert_eq!(render(&many).unwrap().lines().count(), before);
}

#[test]
fn docs_list_exactly_the_metrics_there_are() {
    let text = render(&snapshot(1)).unwrap();
    let rendered: BTreeSet<_> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let documented: BTreeSet<_> = DOCS
        .lines()
        .filter_map(|l| {
            let (name, rest) = l.strip_prefix("| `")?.split_once("` | ")?;
            let kind = rest.split(" | ").next()?;
            // Those of the rendezvous server are its own tests' business.
            let is_agents = name.starts_with("wavnet_") && !name.starts_with("wavnet_rendezvous_");
            is_agents.then_some((name, kind))
        })
        .collect();
    assert_eq!(rendered, documented);
}

#[test]
fn docs_say_what_each_reason_for_a_drop_means() {
    let row = |label: &str, help: &str| format!("| `{label}` | {help} |");
    let rows = |heading: &str| -> Vec<String> {
        let section = DOCS
            .split_once(heading)
            .expect(heading)
            .1
            .lines()
            .skip_while(|l| !l.starts_with("| `"))
            .collect::<Vec<_>>();
        section.into_iter().take_while(|l| l.starts_with("| `")).map(String::from).collect()
    };
    let mesh: Vec<_> = wavnet_proto::mesh::Dropped::ALL.iter().map(|why| row(why.label(), why.help())).collect();
    assert_eq!(rows("### Why the mesh drops"), mesh);
    let server: Vec<_> =
        wavnet_proto::rendezvous::Dropped::ALL.iter().map(|why| row(why.label(), why.help())).collect();
    assert_eq!(rows("### Why the server drops"), server);
}

/// promtool from PATH or from the project's own tools.
fn promtool() -> Option<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/toolchain/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain([own]).map(|d| d.join("promtool")).find(|p| p.is_file())
}

#[test]
fn promtool_finds_nothing_to_say() {
    let Some(promtool) = promtool() else {
        eprintln!("SKIPPED promtool_finds_nothing_to_say: no promtool (cargo xtask setup)");
        return;
    };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(render(&snapshot(3)).unwrap().as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    assert!(out.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

struct Served {
    // Dropped last, with the tasks in it.
    _runtime: tokio::runtime::Runtime,
    address: SocketAddr,
}

/// An endpoint whose agent gives `snapshots` answers and then ends.
fn served(mut snapshots: usize) -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let endpoint = runtime.block_on(Endpoint::bind(([127, 0, 0, 1], 0).into())).unwrap();
    let address = endpoint.local_addr().unwrap();
    let (sender, mut queue) = mpsc::channel::<oneshot::Sender<Snapshot>>(1);
    runtime.spawn(endpoint.run(sender));
    runtime.spawn(async move {
        while snapshots > 0
            && let Some(reply) = queue.recv().await
        {
            snapshots -= 1;
            reply.send(snapshot(1)).unwrap();
        }
    });
    Served { _runtime: runtime, address }
}

fn ask(to: &Served, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(to.address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_endpoint_speaks_http() {
    let to = served(usize::MAX);
    let metrics = ask(&to, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4\r\n"));
    assert!(metrics.ends_with(&render(&snapshot(1)).unwrap()));
    let head = ask(&to, "HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask(&to, "GET /healthz HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nok\n"));
    assert!(ask(&to, "GET /metric HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 404"));
    let post = ask(&to, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD\r\n"), "{post}");
    assert!(ask(&to, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
}

#[test]
fn an_agent_that_ends_is_unhealthy() {
    let to = served(1);
    assert!(ask(&to, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 200"));
    assert!(ask(&to, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 503"));
    assert!(ask(&to, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 503"));
}
