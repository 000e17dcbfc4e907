//! What a classification is told beforehand.

use std::{net::SocketAddr, time::Duration};

/// A STUN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunServer {
    /// Where it is asked first.
    pub address: SocketAddr,
    /// Other addresses and ports of the same server, as far as they are known without asking: REGISTERED tells them. They
    /// are asked where the server does not name any by OTHER-ADDRESS.
    pub others: Vec<SocketAddr>,
}

/// When a request is sent again (RFC 8489 section 6.2.1): after RTO, then twice as long each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmission {
    /// RTO: the first pause.
    pub rto: Duration,
    /// Rc: how often it is sent altogether, at least once.
    pub requests: u8,
    /// Rm: how many RTOs are waited after the last.
    pub last: u8,
}

impl Retransmission {
    /// The defaults of RFC 8489: 39.5 s until a server is taken for silent.
    pub const RFC8489: Retransmission = Retransmission { rto: Duration::from_millis(500), requests: 7, last: 16 };

    /// 3.8 s. A classification waits for silence once, and where 5 % of the packets get lost each way all five are lost
    /// once in 100,000 times. The last answer may take 800 ms.
    pub const QUICK: Retransmission = Retransmission { rto: Duration::from_millis(200), requests: 5, last: 4 };
}

/// How the lifetime of an idle mapping is searched for. It takes at most `longest` for each round, and costs the NAT
/// `sockets` mappings at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifetimeSearch {
    /// Nothing shorter is tried in the first round, or any time that is not longer than this.
    pub shortest: Duration,
    /// The longest idle time that is tried; not more than 65,535 s.
    pub longest: Duration,
    /// So many idle times are tried at once, 1 to [`LifetimeSearch::MOST_SOCKETS`]. One makes it a binary search.
    pub sockets: u8,
    /// The first round divides the whole range, each later one what is left between the longest time that a mapping
    /// survived and the shortest that it did not. 1 to [`LifetimeSearch::MOST_ROUNDS`].
    pub rounds: u8,
}

impl LifetimeSearch {
    /// Most sockets, and so mappings, at a time.
    pub const MOST_SOCKETS: u8 = 16;
    /// Most rounds.
    pub const MOST_ROUNDS: u8 = 12;
}

impl Default for LifetimeSearch {
    /// From 15 s to 5 minutes, to within a fourteenth; ten minutes at the most.
    fn default() -> LifetimeSearch {
        LifetimeSearch { shortest: Duration::from_secs(15), longest: Duration::from_secs(300), sockets: 6, rounds: 2 }
    }
}

/// How to classify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// When requests are sent again.
    pub retransmission: Retransmission,
    /// Pause between the first requests of two transactions: RFC 5780 section 5 allows ten a second.
    pub pace: Duration,
    /// The sockets that the classifier opens have numbers from this on.
    pub first_socket: u16,
    /// A socket that the shell has not opened after this is not waited for any longer.
    pub socket_wait: Duration,
    /// Whether to look for the lifetime of a mapping, and how.
    pub lifetime: Option<LifetimeSearch>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            retransmission: Retransmission::QUICK,
            pace: Duration::from_millis(100),
            first_socket: 0,
            socket_wait: Duration::from_secs(1),
            lifetime: None,
        }
    }
}
