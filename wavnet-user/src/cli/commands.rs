//! What each command does: ask the agent, show the answer.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use wavnet_common::addr::Vni;

use super::{
    args::{FdbArgs, FdbCommand, FdbFilterArgs, Global, PeerCommand, PortCommand},
    host_args::DownArgs,
    print::{Printer, Stop},
};
use crate::{
    api::{
        Client, ClientError, ErrorCode, FdbFilter, Request, Response,
        model::{Done, PeerInfo, PlaceInfo, PortInfo},
    },
    config::{Agent, Source},
    datapath::{self, Neighbour},
    netlink::Netlink,
    output::{self, counted},
};

/// Asks the agent one thing and shows the answer.
pub(super) fn ask(global: &Global, printer: &mut Printer, request: Request) -> Result<()> {
    let response = Client::connect(&global.socket())?.call(&request)?;
    show(printer, &response)
}

/// `wavnet status`.
pub(super) fn status(global: &Global, printer: &mut Printer, config: Option<&Path>) -> Result<()> {
    let response = Client::connect(&global.socket_for(config)?)?.call(&Request::Status)?;
    show(printer, &response)
}

/// Drops, without the zeros if so wished.
pub(super) fn drops(global: &Global, printer: &mut Printer, all: bool) -> Result<()> {
    let mut response = Client::connect(&global.socket())?.call(&Request::Drops)?;
    if let Response::Drops(rows) = &mut response
        && !all
        && !printer.json
    {
        rows.retain(|r| r.frames > 0);
        if rows.is_empty() {
            return printer.text("no frame was dropped\n");
        }
    }
    show(printer, &response)
}

pub(super) fn show(printer: &mut Printer, response: &Response) -> Result<()> {
    if printer.json {
        return printer.value(response);
    }
    let color = printer.color;
    let text = match response {
        Response::Status(status) => output::status(status, color),
        Response::Peers(peers) => output::peers(peers, color),
        Response::Mesh(mesh) => output::mesh(mesh, color),
        Response::Ports(ports) => output::ports(ports, color),
        Response::Fdb(entries) => output::fdb(entries, color),
        Response::Drops(rows) => output::drops(rows, color),
        Response::Done(done) => output::done(done),
        Response::Event(event) => output::event(event),
        Response::Rendezvous(status) => output::rendezvous(status, color),
    };
    printer.text(&text)
}

impl From<FdbFilterArgs> for FdbFilter {
    fn from(f: FdbFilterArgs) -> FdbFilter {
        FdbFilter { vni: f.vni, mac: f.mac, port: f.port, peer: f.peer, limit: f.limit }
    }
}

/// `wavnet fdb …`.
pub(super) fn fdb(global: &Global, printer: &mut Printer, args: FdbArgs) -> Result<()> {
    let request = match args.command {
        None if args.watch => return watch(global, printer),
        None => return entries(global, printer, args.filter.into()),
        Some(FdbCommand::List(filter)) => return entries(global, printer, filter.into()),
        Some(FdbCommand::Add { vni, mac, port, peer }) => {
            let place = match (port, peer) {
                (Some(port), None) => PlaceInfo::Port(port),
                (None, Some(peer)) => PlaceInfo::Peer(peer),
                _ => bail!(super::failure::Usage("give either --port or --peer".into())),
            };
            Request::FdbAdd { vni, mac, place }
        }
        Some(FdbCommand::Remove { vni, mac }) => Request::FdbRemove { vni, mac },
    };
    ask(global, printer, request)
}

/// Entries; people are told when some are left out, and when there are none for what looks like a slip.
fn entries(global: &Global, printer: &mut Printer, mut filter: FdbFilter) -> Result<()> {
    let mut client = Client::connect(&global.socket())?;
    let limit = filter.limit;
    // One more, to know whether there is one.
    filter.limit = limit.map(|n| n.saturating_add(1));
    let mut response = client.call(&Request::Fdb(filter.clone()))?;
    let Response::Fdb(found) = &mut response else { return show(printer, &response) };
    let more = limit.filter(|n| found.len() > *n);
    found.truncate(limit.unwrap_or(usize::MAX));
    let none = found.is_empty() && more.is_none();
    show(printer, &response)?;
    if printer.json {
        return Ok(());
    }
    if let Some(n) = more {
        printer.text(&format!("there are more than these {n}: leave out --limit to see all\n"))?;
    }
    if none
        && let Response::Ports(ports) = client.call(&Request::Ports)?
        && let Response::Peers(peers) = client.call(&Request::Peers)?
    {
        slips(&filter, &ports, &peers).iter().try_for_each(|slip| printer.text(&format!("warning: {slip}\n")))?;
    }
    Ok(())
}

/// What a filter that finds nothing names and nobody has.
pub(super) fn slips(filter: &FdbFilter, ports: &[PortInfo], peers: &[PeerInfo]) -> Vec<String> {
    let in_use = |vni: &Vni| ports.iter().any(|p| p.vni == *vni) || peers.iter().any(|p| p.vnis.contains(vni));
    let vni = filter.vni.filter(|vni| !in_use(vni));
    let port = filter.port.as_ref().filter(|name| ports.iter().all(|p| p.interface != **name));
    let peer = filter.peer.filter(|addr| peers.iter().all(|p| p.address != *addr));
    let words = [
        vni.map(|vni| format!("VNI {vni} has neither a port nor a peer: is it declared in [[vni]]?")),
        port.map(|name| format!("there is no port {name}: `wavnet ports` lists the ports")),
        peer.map(|addr| format!("there is no peer {addr}: `wavnet peers` lists the peers")),
    ];
    words.into_iter().flatten().collect()
}

fn watch(global: &Global, printer: &mut Printer) -> Result<()> {
    let client = Client::connect(&global.socket())?;
    let mut shown = Ok(());
    client.watch(|event| {
        shown = if printer.json { printer.value(&event) } else { printer.text(&output::event(&event)) };
        shown.is_ok()
    })?;
    shown
}

/// `wavnet port …`.
pub(super) fn port(global: &Global, printer: &mut Printer, command: PortCommand) -> Result<()> {
    let request = match command {
        PortCommand::Add { interface, vni, vlan, mode } => Request::PortAdd { interface, vni, vlan, mode },
        PortCommand::Remove { interface } => Request::PortRemove { interface },
    };
    ask(global, printer, request)
}

/// `wavnet peer …`.
pub(super) fn peer(global: &Global, printer: &mut Printer, command: PeerCommand) -> Result<()> {
    let request = match command {
        PeerCommand::Add { address, vni, udp_port } => Request::PeerAdd { address, udp_port, vnis: vni },
        PeerCommand::Remove { address, vni } => Request::PeerRemove { address, vnis: vni },
    };
    ask(global, printer, request)
}

/// How long an agent may take to end.
const ENDING: Duration = Duration::from_secs(10);
/// How long pins may be locked by an agent that does not answer: while it starts, or ends.
const LOCKED: Duration = Duration::from_secs(5);

/// `wavnet down`: through the agent if there is one, and then whatever is left.
pub(super) fn down(global: &Global, printer: &mut Printer, args: DownArgs) -> Result<()> {
    let socket = global.socket_for(args.config.as_deref())?;
    // Flags that name one of pins and run directory leave open whose the other is.
    let of_one_agent = args.config.is_some() || args.bpffs.is_some() == global.names_agent();
    let named = match args.config {
        None => args.bpffs,
        Some(path) => Some(Source::File(path).load_alone()?.agent.bpffs),
    };
    let mut done = Done::default();
    let (agents, ended) = end_agent(&socket, named.as_deref(), &mut done)?;
    let bpffs = named.or(agents).unwrap_or_else(|| Agent::BPFFS.into());
    let by_agent = !done.changes.is_empty();
    let report = take_down(&bpffs)?;
    let pins = bpffs.display();
    if report.links + report.maps > 0 {
        let (links, maps) = (counted(report.links as u64, "program"), counted(report.maps as u64, "map"));
        done.changes.push(format!("{links} detached and {maps} removed from {pins}"));
    } else if !by_agent && !of_one_agent && global.names_agent() {
        let socket = socket.display();
        done.warnings.push(format!(
            "nothing is pinned in {pins}, and no agent is running on {socket}: if that agent had its pins elsewhere, its \
             programs go on; name them with --bpffs DIR, or its file with --config FILE"
        ));
    }
    match release(&report.neighbours)? {
        0 => {}
        n => done.changes.push(format!("{} left to the kernel's ordinary ageing", counted(n as u64, "neighbour"))),
    }
    // Not from under an agent that somebody has started meanwhile.
    let nobody = matches!(Client::connect(&socket), Err(ClientError::NotRunning(_)));
    if (of_one_agent || ended) && nobody && clear_run_dir(&socket)? {
        done.changes.push(format!("{} cleared of what a killed agent left", socket.with_file_name("").display()));
    }
    if printer.json {
        return printer.value(&Response::Done(done));
    }
    if done.changes.is_empty() && done.warnings.is_empty() {
        return printer.text(&format!("nothing to change: nothing is pinned in {pins}\n"));
    }
    printer.text(&output::done(&done))
}

/// Ends the agent on a socket, unless its pins are not those that were named. Returns where they are, and whether it ended.
fn end_agent(socket: &Path, named: Option<&Path>, done: &mut Done) -> Result<(Option<PathBuf>, bool)> {
    let mut client = match Client::connect(socket) {
        Err(ClientError::NotRunning(_)) => return Ok((None, false)),
        other => other?,
    };
    // An agent that is ending already has nothing to say but that.
    let stopping = |e: &ClientError| matches!(e, ClientError::Refused(r) if r.code == ErrorCode::Stopping);
    let agents = match client.call(&Request::Status) {
        Ok(Response::Status(status)) => PathBuf::from(status.bpffs),
        Err(e) if stopping(&e) => {
            wait_until_gone(socket)?;
            return Ok((None, true));
        }
        other => bail!(ClientError::Protocol(format!("{:?} to a question for the status", other?))),
    };
    if let Some(named) = named
        && !is_same(named, &agents)
    {
        let (socket, agents) = (socket.display(), agents.display());
        done.warnings.push(format!("the agent on {socket} goes on: its pins are in {agents}"));
        return Ok((None, false));
    }
    match client.call(&Request::Detach) {
        Ok(Response::Done(by_agent)) => *done = by_agent,
        Err(e) if stopping(&e) => {}
        other => drop(other?),
    }
    wait_until_gone(socket)?;
    Ok((Some(agents), true))
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Removes the socket that a killed agent left, and its file of additions, which belongs to the maps that have gone. True if
/// there was anything.
fn clear_run_dir(socket: &Path) -> Result<bool> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = fs::symlink_metadata(socket).is_ok_and(|m| m.file_type().is_socket());
    let in_run_dir = socket.file_name().is_some_and(|name| name == Agent::SOCKET);
    let additions = socket.with_file_name(Agent::ADDITIONS);
    let half_written = socket.with_file_name(Agent::ADDITIONS_EARLY);
    let mut removed = false;
    let of_run_dir = |path| in_run_dir.then_some(path);
    for path in [is_socket.then_some(socket), of_run_dir(&*additions), of_run_dir(&*half_written)].into_iter().flatten()
    {
        match fs::remove_file(path) {
            Ok(()) => removed = true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("cannot remove {}", path.display())),
        }
    }
    Ok(removed)
}

/// An agent that was killed could not release the neighbours that the kernel keeps resolved for it. Returns how many there were.
fn release(neighbours: &[Neighbour]) -> Result<usize> {
    if neighbours.is_empty() {
        return Ok(0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let all = async {
        let netlink = Netlink::open()?;
        let mut released = 0;
        for (ifindex, addr) in neighbours {
            released += usize::from(netlink.release(*ifindex, *addr).await?);
        }
        anyhow::Ok(released)
    };
    runtime.block_on(all).context("cannot release the neighbours that were kept resolved for the agent")
}

fn wait_until_gone(socket: &Path) -> Result<()> {
    let since = Instant::now();
    while !matches!(Client::connect(socket), Err(ClientError::NotRunning(_))) {
        if since.elapsed() > ENDING {
            bail!("the agent on {} said it would end, and has not within {ENDING:?}", socket.display());
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The lock on the pins outlives the agent's socket by the blink in which its process ends.
fn take_down(bpffs: &Path) -> Result<datapath::DownReport> {
    // Pins that one may not see must not pass for none.
    bpffs.try_exists().with_context(|| format!("cannot look into {}: run this as root", bpffs.display()))?;
    let since = Instant::now();
    loop {
        match datapath::down(bpffs) {
            // One that starts has the lock before its socket.
            Err(datapath::Error::Locked { .. }) if since.elapsed() < LOCKED => sleep(Duration::from_millis(50)),
            Err(datapath::Error::Locked { path, pid }) => {
                let who = pid.map_or_else(|| "an agent".into(), |pid| format!("an agent, process {pid},"));
                bail!(
                    "{who} is using {} and was not to be asked: name its socket with --run-dir DIR or --socket FILE, or its file \
                     with --config FILE; or end it (SIGTERM) and run this again",
                    path.display()
                )
            }
            other => return other.with_context(|| format!("cannot clear {}", bpffs.display())),
        }
    }
}

/// An error that only says that the reader of our output is gone.
pub(super) fn is_stop(error: &anyhow::Error) -> bool {
    error.is::<Stop>()
}
