use std::{
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use clap::{CommandFactory, Parser};
use tokio::{runtime::Runtime, sync::mpsc};

use super::*;
use crate::api::{
    Call, ErrorCode, Refusal, Response, Server,
    model::Done,
    protocol::{Outcome, ResponseLine},
};

#[test]
fn clap_agrees_with_itself() {
    Cli::command().debug_assert();
}

#[test]
fn docs_name_every_command() {
    let docs = include_str!("../../../docs/cli.md");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let nested: Vec<_> = command.get_subcommands().map(|c| format!("wavnet {name} {}", c.get_name())).collect();
        let all = nested.into_iter().chain([format!("wavnet {name}")]);
        for full in all.filter(|f| f != "wavnet port" && f != "wavnet peer") {
            assert!(docs.contains(&format!("`{full}")), "docs/cli.md does not mention {full}");
        }
    }
}

/// What was printed.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a command line; its output and result.
fn wavnet(args: &[&str], out: impl Write + 'static) -> Result<ExitCode> {
    let cli = Cli::try_parse_from(std::iter::once("wavnet").chain(args.iter().copied()))?;
    let mut printer = Printer::to(&cli.global, out);
    run(cli, &mut printer, |source| anyhow::bail!("agent with {:?}", source.load()?.underlay))
}

fn output(args: &[&str]) -> String {
    let paper = Paper::default();
    wavnet(args, paper.clone()).unwrap();
    let bytes = paper.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// An agent that answers with the examples of docs/api.md, and refuses to add ports.
fn agent(dir: &Path) -> (Runtime, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let path = dir.join("agent.sock");
    let server = {
        let _in = runtime.enter();
        Server::bind(&path, 0o600, None).unwrap()
    };
    let (calls, mut queue) = mpsc::channel::<Call>(1);
    runtime.spawn(server.run(calls));
    let bpffs = dir.join("nothing").display().to_string();
    runtime.spawn(async move {
        while let Some(call) = queue.recv().await {
            let detach = call.request == Request::Detach;
            let mut answer = answer(&call.request);
            if let Ok(Response::Status(status)) = &mut answer {
                // Nowhere near the pins of a real one.
                status.bpffs.clone_from(&bpffs);
            }
            let _ = call.reply.send(answer.map(Into::into));
            if detach {
                return;
            }
        }
    });
    (runtime, path.display().to_string())
}

fn answer(request: &Request) -> Result<Response, Refusal> {
    if let Request::PortAdd { .. } = request {
        return Err(Refusal::new(ErrorCode::Conflict, "port tap0 belongs to VNI 100 already"));
    }
    if request.is_change() {
        return Ok(Response::Done(Done { changes: vec![format!("{request:?}")], warnings: vec![] }));
    }
    let docs = include_str!("../../../docs/api.md");
    let mark = format!("{{\"v\": 1, \"ok\": {{\"{}\"", request.name());
    let line = docs.lines().find(|l| l.starts_with(&mark)).unwrap();
    match serde_json::from_str::<ResponseLine>(line).unwrap().outcome {
        Outcome::Ok(response) => Ok(response),
        Outcome::Error(e) => Err(e),
    }
}

#[test]
fn answers_come_as_tables_or_json() {
    let dir = tempfile::tempdir().unwrap();
    let (_runtime, socket) = agent(dir.path());
    for command in ["status", "peers", "ports", "fdb", "drops"] {
        let table = output(&[command, "--socket", &socket]);
        assert!(table.lines().count() > 1 && !table.contains('{'), "{table}");
        let json: serde_json::Value = serde_json::from_str(&output(&["--json", command, "--socket", &socket])).unwrap();
        assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), [command]);
    }
    let run_dir = dir.path().to_str().unwrap();
    assert_eq!(output(&["status", "--run-dir", run_dir]), output(&["status", "--socket", &socket]));
}

#[test]
fn commands_ask_for_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let (_runtime, socket) = agent(dir.path());
    for (args, asked) in [
        ("port remove tap0", "PortRemove { interface: \"tap0\" }"),
        (
            "peer add 192.0.2.2 --vni 100,200",
            "PeerAdd { address: 192.0.2.2, udp_port: None, vnis: [Vni(100), Vni(200)] }",
        ),
        ("peer remove 192.0.2.2", "PeerRemove { address: 192.0.2.2, vnis: [] }"),
        (
            "fdb add --vni 100 --mac 52:54:00:00:00:01 --peer 192.0.2.2",
            "FdbAdd { vni: Vni(100), mac: 52:54:00:00:00:01, place: Peer(192.0.2.2) }",
        ),
        ("fdb remove --vni 100 --mac 52:54:00:00:00:01", "FdbRemove { vni: Vni(100), mac: 52:54:00:00:00:01 }"),
        ("reload", "Reload"),
    ] {
        let mut args: Vec<_> = args.split(' ').collect();
        args.extend(["--socket", &socket]);
        assert_eq!(output(&args), format!("{asked}\n"));
    }
}

#[test]
fn failures_have_their_codes() {
    let dir = tempfile::tempdir().unwrap();
    let code = |args: &[&str]| failure::exit(&wavnet(args, Paper::default()).unwrap_err());
    let nobody = dir.path().join("nobody.sock");
    assert_eq!(code(&["status", "--socket", nobody.to_str().unwrap()]), failure::Exit::NotRunning);
    let (_runtime, socket) = agent(dir.path());
    assert_eq!(code(&["port", "add", "tap0", "--vni", "7", "--socket", &socket]), failure::Exit::Refused);
    assert_eq!(code(&["agent", "--config", "/nonexistent"]), failure::Exit::Refused);
    assert_eq!(code(&["agent", "--config", "x", "--run-dir", "/x"]), failure::Exit::Usage);
}

#[test]
fn clap_refuses_nonsense() {
    for args in [
        "",
        "agent",
        "agent --config x --underlay eth1",
        "agent --config x --vni 1",
        "agent --underlay eth1 --vni 0",
        "agent --underlay eth1 --peer 224.0.0.1",
        "agent --underlay eth1 --ageing 9h",
        "port add tap0",
        "port add a/b --vni 1",
        "peer add 192.0.2.2",
        "fdb add --vni 1 --mac 52:54:00:00:00:01",
        "fdb add --vni 1 --mac ff:ff:ff:ff:ff:ff --port a",
        "fdb --watch --vni 1",
        "down --bpffs relative",
        "nat --server a:0",
        "nat --server a --listen 192.0.2.7",
        "nat --server a --listen 224.0.0.1:1",
        "nat --server a --listen 0.0.0.0:1 --interface eth1",
        "nat --server a --lifetime 0s",
        "nat --server a -4 -6",
        &format!("status --socket /{}", "x".repeat(107)),
    ] {
        let line = std::iter::once("wavnet").chain(args.split_whitespace());
        let refused = Cli::try_parse_from(line).expect_err(args);
        assert_eq!(refused.exit_code(), 2, "{args}");
    }
}

#[test]
fn nat_takes_servers_from_the_command_line_or_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wavnet.toml");
    let config = file.to_str().unwrap();
    let failed = |args: &[&str]| wavnet(args, Paper::default()).unwrap_err();
    assert_eq!(failure::exit(&failed(&["nat"])), failure::Exit::Usage);
    std::fs::write(&file, "[underlay]\ninterface = \"nosuch0\"\n").unwrap();
    let none = failed(&["nat", "--config", config]);
    assert_eq!(failure::exit(&none), failure::Exit::Usage);
    assert!(none.to_string().contains("[mesh]"), "{none:#}");
    let mesh = "[mesh]\nservers = [\"127.0.0.1\"]\nallow = \"/etc/wavnet/allow\"\n";
    std::fs::write(&file, format!("[underlay]\ninterface = \"nosuch0\"\n{mesh}")).unwrap();
    // The servers of the file from its underlay; what is said on the command line comes before it.
    for args in [&["nat", "--config", config][..], &["nat", "--config", config, "--server", "127.0.0.1:1"]] {
        let error = failed(args);
        assert_eq!(failure::exit(&error), failure::Exit::Refused, "{error:#}");
        assert!(failure::text(&error).contains("there is no interface nosuch0\n  help: "), "{error:#}");
    }
    let error = failed(&["nat", "--config", config, "--listen", "192.0.2.77:0", "--json"]);
    assert_eq!(error.to_string(), "192.0.2.77 is not an address of this host");
}

#[test]
fn the_agent_gets_its_configuration() {
    let args = ["agent", "--underlay", "eth7", "--vni", "100", "--port", "vnet*", "--peer", "192.0.2.2"];
    // The log can be started once per process, and this is the only test that does.
    let e = wavnet(&args, Paper::default()).unwrap_err();
    assert!(e.to_string().contains("interface: \"eth7\""), "{e:#}");
}

#[test]
fn check_refuses_what_the_start_would() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wavnet.toml");
    let args = ["agent", "--config", file.to_str().unwrap(), "--check"];
    let written = |group: &str| {
        let text = format!("[agent]\nsocket_group = \"{group}\"\n[underlay]\ninterface = \"eth1\"\n");
        std::fs::write(&file, text).unwrap();
    };
    written("nobody-has-this-group");
    let e = wavnet(&args, Paper::default()).unwrap_err();
    assert_eq!(failure::exit(&e), failure::Exit::Refused);
    assert!(failure::text(&e).contains("there is no group nobody-has-this-group"), "{e:#}");
    written("root");
    assert!(output(&args).contains("is valid"));
}

#[test]
fn a_filter_that_names_nobody_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (_runtime, socket) = agent(dir.path());
    let Ok(Response::Ports(ports)) = answer(&Request::Ports) else { panic!() };
    let Ok(Response::Peers(peers)) = answer(&Request::Peers) else { panic!() };
    let slips = |f: crate::api::FdbFilter| commands::slips(&f, &ports, &peers);
    let all = crate::api::FdbFilter::default();
    let known = crate::api::FdbFilter {
        vni: Some(ports[0].vni),
        port: Some(ports[0].interface.clone()),
        peer: Some(peers[0].address),
        ..all.clone()
    };
    assert!(slips(known).is_empty() && slips(all.clone()).is_empty());
    let port = crate::api::FdbFilter { port: Some("nosuch".into()), ..all.clone() };
    assert_eq!(slips(port), ["there is no port nosuch: `wavnet ports` lists the ports"]);
    let peer = crate::api::FdbFilter { peer: Some([9, 9, 9, 9].into()), ..all.clone() };
    assert_eq!(slips(peer), ["there is no peer 9.9.9.9: `wavnet peers` lists the peers"]);
    let vni = crate::api::FdbFilter { vni: Some("4242".parse().unwrap()), ..all };
    assert_eq!(slips(vni).len(), 1);
    // The agent of this test has entries whatever is asked: nothing is added to those.
    assert!(!output(&["fdb", "--port", "nosuch", "--socket", &socket]).contains("warning"));
}

#[test]
fn down_stops_the_agent_first_and_may_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (_runtime, socket) = agent(dir.path());
    let bpffs = dir.path().join("nothing").display().to_string();
    let args = ["down", "--socket", &socket, "--bpffs", &bpffs];
    assert_eq!(output(&args), "Detach\n");
    assert!(!Path::new(&socket).exists());
    assert_eq!(output(&args), format!("nothing to change: nothing is pinned in {bpffs}\n"));
}

#[test]
fn down_clears_what_a_killed_agent_left() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, additions) = (dir.path().join("agent.sock"), dir.path().join("additions.json"));
    let leave = || {
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        std::fs::write(&additions, "{}").unwrap();
        std::fs::write(additions.with_extension("new"), "").unwrap();
    };
    leave();
    let (run_dir, bpffs) = (dir.path().to_str().unwrap(), dir.path().join("nothing").display().to_string());
    assert!(output(&["down", "--run-dir", run_dir, "--bpffs", &bpffs]).contains("cleared of what a killed agent left"));
    assert!(!socket.exists() && !additions.exists() && !additions.with_extension("new").exists());
}

/// Whoever runs the tests may have a hypervisor's agent and its neighbours beside them.
#[test]
fn down_of_one_agent_leaves_the_neighbours_of_others() {
    use crate::{
        netlink::Netlink,
        testing::{Namespace, ip},
    };
    let Some(ns) = Namespace::new() else { return };
    ns.run(|| {
        ip("link add wav-a type veth peer name wav-b");
        ip("addr add 198.51.100.1/24 dev wav-a");
        ip("link set wav-a up");
        let ifindex = nix::net::if_::if_nametoindex("wav-a").unwrap();
        let next_hop = [198, 51, 100, 2].into();
        let runtime = Runtime::new().unwrap();
        let netlink = || Netlink::open().unwrap();
        runtime.block_on(async { netlink().resolve(ifindex, next_hop).await }).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (run_dir, bpffs) = (dir.path().to_str().unwrap(), dir.path().join("nothing").display().to_string());
        assert!(output(&["down", "--run-dir", run_dir, "--bpffs", &bpffs]).starts_with("nothing to change"));
        let still = runtime.block_on(async { netlink().release(ifindex, next_hop).await }).unwrap();
        assert!(still, "the neighbour of another agent was released");
    });
}

#[test]
fn status_finds_the_agent_of_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (_runtime, socket) = agent(dir.path());
    let file = dir.path().join("wavnet.toml");
    let run_dir = dir.path().display();
    std::fs::write(&file, format!("[agent]\nrun_dir = \"{run_dir}\"\n[underlay]\ninterface = \"eth1\"\n")).unwrap();
    assert_eq!(output(&["status", "--config", file.to_str().unwrap()]), output(&["status", "--socket", &socket]));
}

/// A reader that has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let e = wavnet(&["completions", "bash"], Gone).unwrap_err();
    assert!(commands::is_stop(&e));
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(output(&["completions", shell]).contains("wavnet"));
    }
}

#[test]
fn keys_are_made_once_and_their_public_parts_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (host, network, access) = (path("host.key"), path("network.key"), path("network.access"));
    let public = output(&["key", "generate", &host]);
    assert_eq!((output(&["key", "public", &host]), public.len()), (public.clone(), 45));
    let id = output(&["key", "network", &network]);
    assert_eq!((output(&["key", "access", &network, &access]), id.len()), (id.clone(), 17));
    let shown: serde_json::Value = serde_json::from_str(&output(&["--json", "key", "public", &host])).unwrap();
    assert_eq!(shown["public_key"], public.trim());
    for (args, say) in [
        (&["key", "generate", &host][..], "no key is written over another file"),
        (&["key", "access", &network, &access], "no key is written over another file"),
        (&["key", "public", &network], "a network key"),
        (&["key", "access", &host, &path("x")], "a host's secret key"),
        (&["key", "public", &path("nothing")], "cannot read the secret key"),
    ] {
        let e = wavnet(args, Paper::default()).unwrap_err();
        assert_eq!(failure::exit(&e), failure::Exit::Refused, "{args:?}");
        let text = failure::text(&e);
        assert!(text.contains(say) && text.contains("\n  help: "), "{text}");
    }
    assert!(!dir.path().join("x").exists());
}

#[test]
fn a_server_is_checked_without_being_started() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (key, network, access) = (path("server.key"), path("network.key"), path("network.access"));
    output(&["key", "generate", &key]);
    output(&["key", "network", &network]);
    output(&["key", "access", &network, &access]);
    let flags = ["rendezvous", "--check", "--listen", "0.0.0.0:4789", "--key", &key, "--access-key", &access];
    assert_eq!(output(&flags), "command line is valid: 1 network\n");
    let code = |args: &[&str]| failure::exit(&wavnet(args, Paper::default()).unwrap_err());
    assert_eq!(code(&["rendezvous"]), failure::Exit::Usage);
    assert_eq!(code(&["rendezvous", "--listen", "0.0.0.0:4789", "--key", &key]), failure::Exit::Usage);
    assert_eq!(code(&["rendezvous", "--config", "/nonexistent"]), failure::Exit::Refused);
    let twice = [&flags[..], &["--access-key", &access]].concat();
    assert_eq!(code(&twice), failure::Exit::Refused);
    let nobody = path("run");
    let e = wavnet(&["rendezvous", "status", "--run-dir", &nobody], Paper::default()).unwrap_err();
    assert_eq!(failure::exit(&e), failure::Exit::NotRunning);
    assert!(failure::text(&e).contains("no rendezvous server is running"), "{}", failure::text(&e));
}
