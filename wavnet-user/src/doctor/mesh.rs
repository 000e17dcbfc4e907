//! Checks of `[mesh]`: its lists of identities, its UDP port, and whether its rendezvous servers answer.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use nix::ifaddrs::getifaddrs;
use tokio::time::timeout;
use wavnet_proto::stun::{Builder, Class, Message, TransactionId};

use super::{Asked, Check, Verdict};
use crate::{
    api::Client,
    config::{KeyFileError, Mesh, ServerAddress, key_files},
    nat, output, random,
};

/// How long the resolver may take.
const RESOLVER: Duration = Duration::from_secs(5);
/// How often a server is asked, and how long each time is waited for its answer.
const TRIES: u32 = 4;
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn checks(asked: &Asked) -> Vec<Check> {
    let Some(mesh) = &asked.mesh else { return Vec::new() };
    let own = asked.address.or_else(|| first_address(asked.underlay.as_deref()?));
    let mut checks = lists(mesh);
    checks.push(port(own, asked));
    checks.extend(servers(own, &mesh.servers));
    checks
}

fn lists(mesh: &Mesh) -> Vec<Check> {
    let allow = mesh.allow.as_deref().map(|path| list("mesh.allow", key_files::identities(path).map(|all| all.len())));
    let revoked =
        mesh.revoked.as_deref().map(|path| list("mesh.revoked", key_files::revoked(path).map(|all| all.len())));
    allow.into_iter().chain(revoked).collect()
}

fn list(name: &'static str, read: Result<usize, KeyFileError>) -> Check {
    match read {
        Ok(keys) => Check::ok(name, output::counted(keys as u64, "key")),
        Err(e) => {
            let mend = e.help();
            Check::new(name, Verdict::Fail, format!("{:#}", anyhow::Error::from(e)), mend)
        }
    }
}

/// The first IPv4 address of an interface: an agent that is told none takes it.
fn first_address(interface: &str) -> Option<Ipv4Addr> {
    let mut of_interface = getifaddrs().ok()?.filter(|one| one.interface_name == interface);
    of_interface.find_map(|one| Some(one.address?.as_sockaddr_in()?.ip()))
}

/// That an agent can have the UDP port, or has it.
fn port(own: Option<Ipv4Addr>, asked: &Asked) -> Check {
    const NAME: &str = "mesh port";
    let (at, port) = (own.unwrap_or(Ipv4Addr::UNSPECIFIED), asked.udp_port);
    match UdpSocket::bind((at, port)) {
        Ok(_) => Check::ok(NAME, format!("UDP port {port} of {at} is free")),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && Client::connect(&asked.socket).is_ok() => {
            Check::ok(NAME, format!("UDP port {port} of {at} is in use, and an agent is running"))
        }
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            let found = format!("UDP port {port} of {at} is in use, and no agent is running");
            let mend =
                format!("end what has it (`ss -lunp sport = :{port}` names it), or set underlay.port to another one");
            Check::new(NAME, Verdict::Fail, found, mend)
        }
        Err(e) => {
            let found = format!("UDP port {port} of {at} cannot be tried: {e}");
            Check::new(NAME, Verdict::Unknown, found, "give the underlay its address, or run this as root")
        }
    }
}

fn servers(own: Option<Ipv4Addr>, servers: &[ServerAddress]) -> Vec<Check> {
    match ask_all(own, servers) {
        Ok(answers) => judge(answers),
        Err(e) => vec![Check::new(SERVER, Verdict::Unknown, format!("{e:#}"), "run this as root")],
    }
}

const SERVER: &str = "rendezvous server";

/// What came of asking a server: where it sees this host, or why that is not known.
type Answer = (String, Result<String>);

/// One that answers is enough, for most things.
fn judge(answers: Vec<Answer>) -> Vec<Check> {
    let some = answers.iter().any(|(_, answer)| answer.is_ok());
    let bad = if some { Verdict::Warn } else { Verdict::Fail };
    let check = |(server, answer): Answer| match answer {
        Ok(found) => Check::ok(SERVER, format!("{server} {found}")),
        Err(e) => {
            let mend = "correct mesh.servers, or the host's resolver; let UDP to that port through, out of this host and into the server";
            Check::new(SERVER, bad, format!("{server}: {e:#}"), mend)
        }
    };
    answers.into_iter().map(check).collect()
}

fn ask_all(own: Option<Ipv4Addr>, servers: &[ServerAddress]) -> Result<Vec<Answer>> {
    let mut rng = random::generator()?;
    let ids = servers.iter().map(|_| TransactionId::new(rng.bytes())).collect::<Vec<_>>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let asked = servers.iter().zip(ids).map(async |(server, id)| (server.to_string(), ask(own, server, id).await));
    let answers = runtime.block_on(join_all(asked));
    // The resolver may not have answered yet.
    runtime.shutdown_background();
    Ok(answers)
}

/// Asks a server by STUN, at each of its addresses, until one answers. Which key it has shows only when it has taken a host in.
async fn ask(own: Option<Ipv4Addr>, server: &ServerAddress, id: TransactionId) -> Result<String> {
    let names = [server.into()];
    let found = timeout(RESOLVER, nat::resolve(&names)).await.context("the resolver does not answer")??;
    let addresses: Vec<SocketAddr> = found.0.iter().map(|s| s.address).filter(SocketAddr::is_ipv4).collect();
    ensure!(!addresses.is_empty(), "it has no IPv4 address");
    let request = Builder::message(Class::Request, id, &[])?;
    let socket = tokio::net::UdpSocket::bind((own.unwrap_or(Ipv4Addr::UNSPECIFIED), 0)).await?;
    let mut buffer = [0; 1024];
    let mut refused = None;
    for _ in 0..TRIES {
        for at in &addresses {
            refused = socket.send_to(&request, at).await.err().or(refused);
        }
        let answer = async {
            loop {
                // An error is what ICMP said of one of the addresses.
                let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
                let Ok(message) = Message::parse(buffer.get(..len).unwrap_or_default()) else { continue };
                if message.id == id
                    && let Some(mapped) = message.mapped_address()
                {
                    return format!("answers from {from}, and sees this host at {mapped}");
                }
            }
        };
        if let Ok(answer) = timeout(PATIENCE, answer).await {
            return Ok(answer);
        }
    }
    let places: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    match refused {
        Some(e) => Err(e).with_context(|| format!("nothing can be sent to {}", places.join(", "))),
        None => anyhow::bail!("no answer from {}", places.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, thread};

    use anyhow::anyhow;
    use wavnet_proto::stun::Attribute;

    use super::*;

    fn mesh(dir: &Path, allow: &str) -> Mesh {
        let file = dir.join("allow");
        fs::write(&file, allow).unwrap();
        let (allow, revoked) = (Some(file), Some(dir.join("nosuch")));
        let pulse = wavnet_proto::mesh::Settings::PULSE;
        Mesh { servers: Vec::new(), key: dir.into(), network_key: None, allow, revoked, pulse, search: true }
    }

    #[test]
    fn lists_that_cannot_be_read_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let verdicts = |allow: &str| lists(&mesh(dir.path(), allow)).into_iter().map(|c| (c.name, c.verdict, c.found));
        let all: Vec<_> = verdicts("# nobody yet\n").collect();
        assert_eq!(all[0], ("mesh.allow", Verdict::Ok, "0 keys".to_owned()));
        assert_eq!((all[1].0, all[1].1), ("mesh.revoked", Verdict::Fail));
        assert!(all[1].2.contains("nosuch"), "{}", all[1].2);
        let wrong: Vec<_> = verdicts("nonsense\n").collect();
        assert!(wrong[0].1 == Verdict::Fail && wrong[0].2.contains("allow:1"), "{wrong:?}");
    }

    #[test]
    fn a_port_that_somebody_else_has_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let udp_port = other.local_addr().unwrap().port();
        let asked = Asked { udp_port, socket: dir.path().join("none.sock"), ..Asked::default() };
        let taken = port(Some(Ipv4Addr::LOCALHOST), &asked);
        assert!(taken.verdict == Verdict::Fail && taken.found.contains(&udp_port.to_string()), "{taken:?}");
        drop(other);
        assert_eq!(port(Some(Ipv4Addr::LOCALHOST), &asked).verdict, Verdict::Ok);
    }

    #[test]
    fn one_server_that_answers_is_enough() {
        let answers = |up: bool| {
            let first = if up { Ok("answers".to_owned()) } else { Err(anyhow!("no answer")) };
            judge(vec![("a".to_owned(), first), ("b".to_owned(), Err(anyhow!("no such name")))])
        };
        let verdicts = |up| answers(up).into_iter().map(|c| c.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(true), [Verdict::Ok, Verdict::Warn]);
        assert_eq!(verdicts(false), [Verdict::Fail, Verdict::Fail]);
        assert_eq!(answers(true)[1].found, "b: no such name");
    }

    #[test]
    fn a_server_is_asked_and_its_answer_understood() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address: ServerAddress = server.local_addr().unwrap().to_string().parse().unwrap();
        let nowhere = UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent: ServerAddress = nowhere.local_addr().unwrap().to_string().parse().unwrap();
        let answering = thread::spawn(move || {
            let mut buffer = [0; 1024];
            let (len, from) = server.recv_from(&mut buffer).unwrap();
            let id = Message::parse(&buffer[..len]).unwrap().id;
            // What others send is passed over.
            server.send_to(b"junk", from).unwrap();
            let answer = Builder::message(Class::Success, id, &[Attribute::XorMappedAddress(from)]).unwrap();
            server.send_to(&answer, from).unwrap();
        });
        let found = servers(Some(Ipv4Addr::LOCALHOST), &[address, silent]);
        answering.join().unwrap();
        assert_eq!((found[0].verdict, found[1].verdict), (Verdict::Ok, Verdict::Warn), "{found:?}");
        assert!(found[0].found.contains("sees this host at 127.0.0.1:"), "{found:?}");
        assert!(found[1].found.contains("no answer from 127.0.0.1:"), "{found:?}");
    }
}
