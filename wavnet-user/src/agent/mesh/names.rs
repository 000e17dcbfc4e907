//! Names of rendezvous servers, and what they resolve to.

use std::{net::SocketAddr, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use wavnet_proto::mesh::Server;

use crate::config::ServerAddress;

/// How long a resolver may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the names resolve to now, in the order of the list; those that do not resolve are left out, and named.
pub(super) async fn resolve(servers: Vec<ServerAddress>) -> (Vec<Server>, Vec<String>) {
    let mut asked = JoinSet::new();
    for (place, server) in servers.into_iter().enumerate() {
        asked.spawn(async move {
            let found = timeout(PATIENCE, tokio::net::lookup_host((server.host.as_str(), server.port))).await;
            let found = found.map(|r| r.map(Iterator::collect::<Vec<SocketAddr>>));
            (place, server, found)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(place, ..)| *place);
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (_, server, found) in answers {
        match found {
            // Whatever order the resolver gives them in: another one each time would be another server each time.
            Ok(Ok(addrs)) => match addrs.into_iter().filter(SocketAddr::is_ipv4).min() {
                Some(addr) => known.push(Server { addr, key: server.key }),
                None => unknown.push(format!("{server} has no IPv4 address")),
            },
            Ok(Err(e)) => unknown.push(format!("{server} cannot be resolved: {e}")),
            Err(_) => unknown.push(format!("{server} cannot be resolved: no answer")),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    known.retain(|server: &Server| seen.insert(server.addr));
    (known, unknown)
}
