//! Lines of the local API: one JSON object per line, each with the protocol's version as `v`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use wavnet_common::addr::{Mac, Vni};

use super::{
    model::{
        Done, DropRow, FdbEntry, FdbEvent, MeshInfo, PeerInfo, PlaceInfo, PortInfo, PortMode, Problem,
        RendezvousStatus, Status, VlanMode,
    },
    text,
};

/// Version of the protocol. A server answers other versions with [`ErrorCode::UnsupportedVersion`].
pub const VERSION: u32 = 1;

/// A line from client to agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLine {
    /// [`VERSION`].
    pub v: u32,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

impl RequestLine {
    /// Reads a line as a server does: the version first, so that a client of another version learns why it is refused.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] or [`ErrorCode::UnsupportedVersion`].
    pub fn parse(line: &[u8]) -> Result<Request, Refusal> {
        let bad = |e: serde_json::Error| {
            Refusal::new(ErrorCode::BadRequest, format!("not a request: {e}"))
                .with_help(r#"send one JSON object per line, such as {"v": 1, "request": "status"}"#)
        };
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).map_err(bad)?;
        match object.remove("v") {
            Some(v) if v == VERSION => serde_json::from_value(object.into()).map_err(bad),
            Some(v) => Err(Refusal::new(
                ErrorCode::UnsupportedVersion,
                format!("this agent speaks version {VERSION} of the protocol, not {v}"),
            )
            .with_help("use the `wavnet` program of the same release as the agent")),
            None => Err(Refusal::new(ErrorCode::BadRequest, "the member `v`, the protocol's version, is missing")),
        }
    }
}

/// What a client may ask. The member `request` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the agent is: [`Response::Status`].
    Status,
    /// All peers: [`Response::Peers`].
    Peers,
    /// All ports: [`Response::Ports`].
    Ports,
    /// FDB entries: [`Response::Fdb`].
    Fdb(FdbFilter),
    /// Drops by reason, every reason: [`Response::Drops`].
    Drops,
    /// Attach a port: [`Response::Done`].
    PortAdd {
        /// Interface name (no pattern).
        interface: String,
        /// The VNI, which must be declared.
        #[serde(with = "text::vni")]
        vni: Vni,
        /// What happens to tagged frames.
        #[serde(default)]
        vlan: VlanMode,
        /// Which frames it is to be fast for.
        #[serde(default)]
        mode: PortMode,
    },
    /// Detach a port that was added by [`Request::PortAdd`]: [`Response::Done`].
    PortRemove {
        /// Interface name.
        interface: String,
    },
    /// Add a peer, or VNIs to a peer: [`Response::Done`].
    PeerAdd {
        /// Outer address.
        address: Ipv4Addr,
        /// UDP port; null: the underlay's.
        #[serde(default)]
        udp_port: Option<u16>,
        /// VNIs, which must be declared; at least one.
        #[serde(with = "text::vni::list")]
        vnis: Vec<Vni>,
    },
    /// Remove a peer that was added by [`Request::PeerAdd`], or some of its VNIs: [`Response::Done`].
    PeerRemove {
        /// Outer address.
        address: Ipv4Addr,
        /// VNIs to leave; empty: all of them, and the peer with them.
        #[serde(default, with = "text::vni::list")]
        vnis: Vec<Vni>,
    },
    /// Enter a static FDB entry: [`Response::Done`].
    FdbAdd {
        /// VNI.
        #[serde(with = "text::vni")]
        vni: Vni,
        /// MAC.
        #[serde(with = "text")]
        mac: Mac,
        /// Where it is.
        place: PlaceInfo,
    },
    /// Remove an FDB entry, static or learned: [`Response::Done`].
    FdbRemove {
        /// VNI.
        #[serde(with = "text::vni")]
        vni: Vni,
        /// MAC.
        #[serde(with = "text")]
        mac: Mac,
    },
    /// FDB changes as they happen: [`Response::Event`] lines until the client hangs up.
    Watch,
    /// Read the configuration again and apply what changed: [`Response::Done`].
    Reload,
    /// Detach everything, remove the pins and end the agent: [`Response::Done`], sent before the agent ends.
    Detach,
    /// Rendezvous servers, and the peers that they have led to: [`Response::Mesh`].
    Mesh,
    /// How the rendezvous server is, which listens at a socket of its own: [`Response::Rendezvous`].
    Rendezvous,
}

impl Request {
    /// The value of the member `request`, for logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Request::Status => "status",
            Request::Peers => "peers",
            Request::Ports => "ports",
            Request::Fdb(_) => "fdb",
            Request::Drops => "drops",
            Request::PortAdd { .. } => "port_add",
            Request::PortRemove { .. } => "port_remove",
            Request::PeerAdd { .. } => "peer_add",
            Request::PeerRemove { .. } => "peer_remove",
            Request::FdbAdd { .. } => "fdb_add",
            Request::FdbRemove { .. } => "fdb_remove",
            Request::Watch => "watch",
            Request::Reload => "reload",
            Request::Detach => "detach",
            Request::Mesh => "mesh",
            Request::Rendezvous => "rendezvous",
        }
    }

    /// True for requests that change something.
    pub const fn is_change(&self) -> bool {
        !matches!(
            self,
            Request::Status
                | Request::Peers
                | Request::Ports
                | Request::Fdb(_)
                | Request::Drops
                | Request::Watch
                | Request::Mesh
                | Request::Rendezvous
        )
    }
}

/// Which FDB entries to answer with: those that meet every condition that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdbFilter {
    /// Of this VNI.
    #[serde(default, with = "text::vni::option", skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// Of this MAC.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Behind this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Behind this peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Ipv4Addr>,
    /// No more than this many entries; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl FdbFilter {
    /// True if an entry meets every condition (`limit` aside).
    pub fn matches(&self, entry: &FdbEntry) -> bool {
        self.vni.is_none_or(|v| v == entry.vni)
            && self.mac.is_none_or(|m| m == entry.mac)
            && self.port.as_ref().is_none_or(|p| matches!(&entry.place, PlaceInfo::Port(q) if p == q))
            && self.peer.is_none_or(|p| matches!(entry.place, PlaceInfo::Peer(q) if p == q))
    }
}

/// A line from agent to client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponseLine {
    /// [`VERSION`] of the server.
    pub v: u32,
    /// True: another line of the same answer follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The answer or a part of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The one member that a response line has beside `v` and `more`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The request was carried out.
    Ok(Response),
    /// It was not.
    Error(Refusal),
}

/// Answers: an object with one member, which names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Peers`], ascending by address.
    Peers(Vec<PeerInfo>),
    /// To [`Request::Ports`], ascending by name.
    Ports(Vec<PortInfo>),
    /// To [`Request::Fdb`]; in parts when there are many.
    Fdb(Vec<FdbEntry>),
    /// To [`Request::Drops`], in the order of the enum.
    Drops(Vec<DropRow>),
    /// To requests that change something.
    Done(Done),
    /// To [`Request::Watch`].
    Event(FdbEvent),
    /// To [`Request::Mesh`].
    Mesh(Box<MeshInfo>),
    /// To [`Request::Rendezvous`].
    Rendezvous(Box<RendezvousStatus>),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what is wrong, with the whole chain of causes.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The errors of a configuration that was refused for them, in the order of the file; the first thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
}

impl Refusal {
    /// A refusal without advice.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), help: None, errors: Vec::new() }
    }

    /// Adds what to do.
    pub fn with_help(self, help: impl Into<String>) -> Refusal {
        Refusal { help: Some(help.into()), ..self }
    }
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The line is no request that this server knows.
    BadRequest,
    /// The line's `v` is not the server's.
    UnsupportedVersion,
    /// A value makes no sense: an undeclared VNI, a multicast peer, a changed file with errors.
    Invalid,
    /// There is no such port, peer or entry.
    NotFound,
    /// It is there already, or belongs to the configuration.
    Conflict,
    /// A table is full.
    Full,
    /// The agent tried and failed (the kernel refused, an interface vanished).
    Failed,
    /// Too many clients or requests at once, or the agent did not answer in time.
    Busy,
    /// The agent is ending.
    Stopping,
}
