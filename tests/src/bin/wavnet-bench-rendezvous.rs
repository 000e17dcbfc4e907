//! The benchmark of the rendezvous server: `cargo xtask bench rendezvous` builds and runs it. See docs/benchmarks.md.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use serde::Serialize;
use wavnet_tests::{
    bench::write_json,
    lab::{
        self, Lab, Need, binary, host::Host, link, netns::Netns, poll_until, process::Process, tools,
        topology::UNDERLAY_MTU,
    },
    rendezvous::{Load, Pair, Rate, Server, Shape, ask, cpu_seconds, flood, keep_on, measure, register, resident},
};

/// Measures STUN against coturn's turnserver, interleaved, the relay in XDP against that in user space, and the memory of ten thousand
/// registered hosts.
#[derive(Debug, Parser)]
#[command(name = "wavnet-bench-rendezvous", bin_name = "cargo xtask bench rendezvous", version)]
struct Arguments {
    /// Also write the results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The `wavnet` that is measured; default: the one beside this program
    #[arg(long, value_name = "FILE")]
    wavnet: Option<PathBuf>,
    /// How often each server is asked
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// How long one run measures, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2500, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    time: u64,
    /// Hosts that register
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    hosts: u32,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    stun: Vec<Row>,
    relay: Vec<Relay>,
    hosts: u32,
    /// Resident bytes of the server's process with that many hosts, and with none.
    resident: u64,
    resident_empty: u64,
    /// Seconds of CPU for one handshake and registration.
    cpu_per_host: f64,
}

/// One host that sends to another one by the relay, as fast as one CPU can.
#[derive(Debug, Serialize)]
struct Relay {
    /// What relays, as in `status`.
    by: &'static str,
    /// Bytes of each frame's UDP payload.
    bytes: usize,
    /// Frames a second that arrived, each run.
    arrived_per_second: Vec<f64>,
    /// Frames a second that were sent.
    sent_per_second: Vec<f64>,
    /// Microseconds of CPUs for a frame that arrived: what the server's process used, and what the sender did, in whose time the kernel
    /// carries frames over the lab's links and runs XDP.
    server_us: Vec<f64>,
    sender_us: Vec<f64>,
}

/// A server's runs.
#[derive(Debug, Serialize)]
struct Row {
    /// `coturn`; `wavnet`, in user space; `wavnet-xdp`, the same server with the relay's programs on its interface.
    server: &'static str,
    /// `many`: 512 ports that ask once at a time; `few`: 32 ports with 16 questions under way each.
    load: &'static str,
    /// Answers for a second of a CPU, each run: what the server's process used and the thread that polls its interface, which together
    /// do all the work from a request in the interface's queue to the answer in that of who asks.
    per_core: Vec<f64>,
    /// Answers a second. Who asks has a CPU of its own, which is full.
    per_second: Vec<f64>,
    /// The share of the server's CPU that was used, each run: far below 1, who asks was the limit.
    busy: Vec<f64>,
}

impl Row {
    fn add(&mut self, rate: Rate) {
        self.per_core.push(rate.per_core());
        self.per_second.push(rate.answers as f64 / rate.wall.as_secs_f64());
        self.busy.push(rate.busy());
    }

    fn median(values: &[f64]) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn main() -> ExitCode {
    match bench(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wavnet-bench-rendezvous: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The machine of a server, wired to one that asks. Each end is polled by a thread of its own: that of the server's on its CPU, the other
/// one's on the CPU of who asks.
struct Machine {
    asks: Netns,
    ns: Netns,
    polls: u32,
}

impl Machine {
    const ADDR: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);

    fn new(lab: &Lab, name: &str) -> Result<Machine> {
        let (asks, ns) = (lab.netns(&format!("{name}-asks"))?, lab.netns(name)?);
        link::veth((&asks, Host::NIC), (&ns, Host::NIC), UNDERLAY_MTU, 1)?;
        let mut threads = Vec::new();
        for (ns, cpu, addr) in [(&asks, 0, Ipv4Addr::new(172, 31, 0, 1)), (&ns, 1, Machine::ADDR)] {
            link::like_a_nic(ns, Host::NIC)?;
            ns.ip(&format!("address add {addr}/24 dev {}", Host::NIC))?;
            let thread = link::poll_in_thread(ns, Host::NIC)?;
            keep_on(thread, cpu)?;
            threads.push(thread);
        }
        Ok(Machine { asks, polls: threads[1], ns })
    }

    fn at(port: u16) -> SocketAddr {
        (Machine::ADDR, port).into()
    }
}

/// Who answers.
struct Contender {
    machine: Machine,
    port: u16,
    pid: u32,
    rows: [Row; 2],
}

impl Contender {
    fn new(name: &'static str, machine: Machine, port: u16, pid: u32) -> Result<Contender> {
        keep_on(pid, 1)?;
        let row = |load| Row { server: name, load, per_core: vec![], per_second: vec![], busy: vec![] };
        Ok(Contender { machine, port, pid, rows: ["many", "few"].map(row) })
    }

    fn run(&mut self, load: usize, time: Duration) -> Result<()> {
        let (kind, work) = ([Load::MANY, Load::FEW][load], [self.pid, self.machine.polls]);
        let rate = measure(&self.machine.asks, Machine::at(self.port), &work, kind, time)?;
        self.rows[load].add(rate);
        Ok(())
    }
}

fn coturn(lab: &Lab) -> Result<(Process, Contender)> {
    let machine = Machine::new(lab, "coturn")?;
    let (ns, at) = (&machine.ns, Machine::at(3478));
    let files = ["pid", "db"].map(|name| ns.log_path("turnserver").with_extension(name).display().to_string());
    let mut words: Vec<String> = ["-n", "--no-auth", "-S", "-m", "1"].map(str::to_owned).into();
    words.extend(["tls", "dtls", "cli", "tcp", "tcp-relay"].map(|what| format!("--no-{what}")));
    words.extend(["--log-file=/dev/null".into(), format!("--pidfile={}", files[0]), format!("--userdb={}", files[1])]);
    words.extend([format!("-p{}", at.port()), format!("-L{}", at.ip())]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut process = ns.spawn("turnserver", "turnserver", &words)?;
    poll_until("turnserver to answer", Duration::from_secs(20), || {
        process.still_running()?;
        ask(&machine.asks, ([0; 4], 0).into(), at)
    })?;
    let pid = process.pid();
    Ok((process, Contender::new("coturn", machine, 3478, pid)?))
}

fn wavnet(lab: &Lab, name: &'static str, xdp: &str) -> Result<(Server, Contender)> {
    let machine = Machine::new(lab, name)?;
    let addresses = format!("listen = [\"{}\"]\nother_port = 4790\n", Machine::at(4789));
    let more = format!("threads = 1\nrelay_xdp = \"{xdp}\"\n");
    // Who asks is one address. Each request is held against a limit that none comes near.
    let tables = "[limits]\nstun_per_second_of_source = 1000000\n".to_owned();
    let mut server = Server::start(lab, &machine.ns, &Shape { addresses, more, tables })?;
    let pid = server.process()?.pid();
    Ok((server, Contender::new(name, machine, 4789, pid)?))
}

/// STUN: the servers by turns, each on the same CPU, and who asks on another one.
fn stun(lab: &Lab, runs: u16, time: Duration) -> Result<Vec<Row>> {
    let (_user, user) = wavnet(lab, "wavnet", "off")?;
    let (kernel, xdp) = wavnet(lab, "wavnet-xdp", "auto")?;
    let mut all = vec![user, xdp];
    let _coturn = match tools::find("turnserver") {
        Some(_) => {
            let (process, coturn) = coturn(lab)?;
            all.push(coturn);
            Some(process)
        }
        None => {
            eprintln!("coturn's turnserver is missing, and so is the comparison: `cargo xtask setup` gets it");
            None
        }
    };
    for load in [0, 1] {
        for _ in 0..runs {
            for contender in &mut all {
                contender.run(load, time)?;
            }
        }
    }
    let counters = kernel.status()?.counters;
    let by_kernel = counters.stun_by_kernel;
    ensure!(by_kernel * 100 >= counters.stun_answered * 99, "the kernel has answered {by_kernel} only: {counters:?}");
    let mut rows: Vec<Row> = all.into_iter().flat_map(|contender| contender.rows).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.load));
    Ok(rows)
}

/// The relay in XDP and in user space, by turns.
fn relay(lab: &Lab, runs: u16, time: Duration) -> Result<Vec<Relay>> {
    let net = lab.routed(3, UNDERLAY_MTU)?;
    let [a, b, rv] = &net.hosts[..] else { bail!("three hosts were asked for") };
    let at = SocketAddr::from((rv.addr, 4789));
    let shape = |xdp: &str| Shape {
        addresses: format!("listen = [\"{at}\"]\nother_port = 4790\n"),
        more: format!("relay_xdp = \"{xdp}\"\n"),
        tables: "[limits]\nrelay_mbit_per_second = 1000000\n".into(),
    };
    let mut server = Server::start(lab, &rv.ns, &shape("auto"))?;
    let mut pair = Pair::new(&server, at, [(&a.ns, (a.addr, 6000).into()), (&b.ns, (b.addr, 6000).into())])?;
    let mut rows = Vec::new();
    for bytes in [100, 1400] {
        let row = |by| Relay {
            by,
            bytes,
            arrived_per_second: Vec::new(),
            sent_per_second: Vec::new(),
            server_us: Vec::new(),
            sender_us: Vec::new(),
        };
        let mut both = [("auto", row("xdp-driver")), ("off", row("user-space"))];
        for _ in 0..runs {
            for (xdp, row) in &mut both {
                server.stop()?;
                server.configure(&shape(xdp))?;
                server.launch()?;
                let by = server.status()?.relay;
                ensure!(by == row.by, "{by} relays, not {}", row.by);
                // Warm, and with a next hop.
                poll_until("frames to be relayed", Duration::from_secs(20), || pair.pass(0))?;
                let pid = server.process()?.pid();
                let done = flood(&mut pair, (&b.ns, Host::NIC), pid, bytes, time)?;
                let wall = done.wall.as_secs_f64();
                row.arrived_per_second.push(done.arrived as f64 / wall);
                row.sent_per_second.push(done.sent as f64 / wall);
                let arrived = done.arrived.max(1) as f64;
                row.server_us.push(done.server * 1e6 / arrived);
                row.sender_us.push(done.sender * 1e6 / arrived);
            }
        }
        rows.extend(both.map(|(_, row)| row));
    }
    server.stop()?;
    Ok(rows)
}

/// Registered hosts: what they cost the process.
fn hosts(lab: &Lab, found: &mut Found) -> Result<()> {
    let ns = lab.netns("hosts")?;
    let mut server = Server::start(lab, &ns, &Shape::default())?;
    let pid = server.process()?.pid();
    found.resident_empty = resident(pid)?;
    let before = cpu_seconds(pid)?;
    let sockets = register(&server, "127.0.0.1:4789".parse()?, found.hosts)?;
    found.cpu_per_host = (cpu_seconds(pid)? - before) / f64::from(found.hosts.max(1));
    let connected: u64 = server.status()?.networks.iter().map(|network| network.connected).sum();
    ensure!(connected == u64::from(found.hosts), "{connected} hosts are connected");
    found.resident = resident(pid)?;
    drop(sockets);
    Ok(())
}

fn bench(arguments: Arguments) -> Result<()> {
    if let Some(path) = arguments.wavnet {
        binary::choose(path);
    }
    if let Some(reason) = lab::missing(&[Need::Wavnet]) {
        bail!("{reason}");
    }
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: what is measured costs more than it should. Use `cargo xtask bench`.");
    }
    let lab = Lab::new()?;
    let time = Duration::from_millis(arguments.time);
    let stun = stun(&lab, arguments.runs, time)?;
    let relay = relay(&lab, arguments.runs, time)?;
    let mut found = Found { stun, relay, hosts: arguments.hosts, resident: 0, resident_empty: 0, cpu_per_host: 0.0 };
    hosts(&lab, &mut found)?;
    for row in &found.stun {
        let [per_core, wall, busy] = [&row.per_core, &row.per_second, &row.busy].map(|values| Row::median(values));
        let its = found.stun.iter().find(|other| (other.server, other.load) == ("coturn", row.load));
        let ratio = its.map(|its| format!(", {:.2} times coturn", per_core / Row::median(&its.per_core)));
        println!(
            "{:5} {:10} {per_core:>8.0} STUN answers for a second of a CPU{}; {wall:>8.0} a second, its CPU {:.0} % busy",
            row.load,
            row.server,
            ratio.unwrap_or_default(),
            busy * 100.0
        );
    }
    for row in &found.relay {
        let all = [&row.arrived_per_second, &row.sent_per_second, &row.server_us, &row.sender_us];
        let [arrived, sent, server, sender] = all.map(|values| Row::median(values));
        println!(
            "relay by {:10} {:4} bytes: {arrived:>8.0} frames a second arrive of {sent:>8.0}; CPU for each: {server:.2} us of the server's, {sender:.2} us of the sender's",
            row.by, row.bytes
        );
    }
    println!(
        "{} hosts: {:.1} MiB resident, {:.1} MiB without; {:.2} ms of CPU for a handshake and a registration",
        found.hosts,
        found.resident as f64 / 1_048_576.0,
        found.resident_empty as f64 / 1_048_576.0,
        found.cpu_per_host * 1000.0
    );
    if let Some(path) = arguments.json {
        write_json(&path, &found)?;
    }
    Ok(())
}
