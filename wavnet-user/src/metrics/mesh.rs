//! Metrics of the mesh. A peer is named by its public key: names are what peers say of themselves.

use super::{
    Families,
    render::{counter, gauge},
};
use crate::api::model::MeshInfo;

const KINDS: [&str; 3] = ["lan", "direct", "relayed"];

pub(super) fn mesh(f: &mut Families, m: &MeshInfo) {
    f.gauges(
        "wavnet_nat_info",
        "1; the labels say what is in front of this host: the type by RFC 3489, what mapping and filtering depend on (RFC 4787), \
         whether it keeps ports and hairpins, and where servers see this host.",
        m.nat.iter().map(|nat| {
            let known = |fact: Option<bool>| fact.map_or("unknown", |yes| if yes { "yes" } else { "no" });
            let mapped = nat.mapped.map_or_else(String::new, |at| at.to_string());
            let labels = [
                ("type", nat.kind.as_str()),
                ("mapping", &nat.mapping),
                ("filtering", &nat.filtering),
                ("ports", &nat.ports),
                ("preserves_port", known(nat.preserves_port)),
                ("hairpin", known(nat.hairpin)),
                ("mapped", &mapped),
            ];
            gauge(&labels, 1.0)
        }),
    );
    f.gauges(
        "wavnet_nat_lifetime_seconds",
        "How long an idle mapping of the NAT is known to live; not there before it is known.",
        m.nat.iter().filter_map(|nat| Some(gauge(&[], nat.lifetime?.alive_ms as f64 / 1000.0))),
    );
    f.counters(
        "wavnet_held_frames_lost_total",
        "Frames that were held back while a peer changed its path, and given up: there were too many, or it took too long.",
        [counter(&[], m.held_frames_lost as f64)].into_iter(),
    );
    f.counters(
        "wavnet_mesh_refused_total",
        "How often identities that may not be peers (they are not on the list, or were revoked) tried to be, each counted once a minute at the most, and a few in each minute.",
        [counter(&[], m.refused as f64)].into_iter(),
    );
    f.counters(
        "wavnet_mesh_drops_total",
        "Datagrams to the mesh, and messages in them, that the agent dropped; wavnet_proto::mesh::Dropped says what each reason means.",
        m.drops.iter().map(|(reason, n)| counter(&[("reason", reason)], *n as f64)),
    );
    f.gauges(
        "wavnet_mesh_server_registered",
        "1 if the rendezvous server has taken this host in, else 0. Paths that stand do not need it; new ones do.",
        m.servers.iter().map(|s| gauge(&[("server", &s.address.to_string())], f64::from(u8::from(s.registered)))),
    );
    f.gauges(
        "wavnet_mesh_server_rtt_seconds",
        "Round-trip time to the rendezvous server, smoothed.",
        m.servers.iter().filter_map(|s| Some(gauge(&[("server", &s.address.to_string())], s.rtt_ms? / 1000.0))),
    );
    f.gauges(
        "wavnet_mesh_peer_info",
        "1; the labels name a peer that a rendezvous server has led to, by its public key, and what is in front of it.",
        m.peers.iter().map(|p| {
            let name = p.name.as_deref().unwrap_or_default();
            gauge(&[("peer", &p.key), ("name", name), ("nat", &p.nat.kind)], 1.0)
        }),
    );
    f.gauges(
        "wavnet_mesh_peer_path",
        "1 for the kind of path that frames to the peer take, 0 for the others, and for all while there is none. relayed costs the \
         detour by the server, and its bandwidth.",
        m.peers.iter().flat_map(|p| {
            let kind = p.selected().map(|path| path.kind.as_str());
            KINDS.map(|k| gauge(&[("peer", &p.key), ("path", k)], f64::from(u8::from(kind == Some(k)))))
        }),
    );
    f.gauges(
        "wavnet_mesh_peer_rtt_seconds",
        "Round-trip time of the path that frames to the peer take, smoothed, as the kernel's programs see keep-alives return.",
        m.peers.iter().filter_map(|p| Some(gauge(&[("peer", &p.key)], p.selected()?.rtt_ms? / 1000.0))),
    );
    f.gauges(
        "wavnet_mesh_peer_loss_ratio",
        "Share of keep-alives over that path that were lost lately, 0 to 1.",
        m.peers.iter().filter_map(|p| Some(gauge(&[("peer", &p.key)], p.selected()?.loss))),
    );
    for unit in ["frames", "bytes"] {
        f.counters(
            &format!("wavnet_mesh_peer_{unit}_total"),
            &format!("{unit} received from (rx) and sent to (tx) the peer, in all VNIs."),
            m.peers.iter().flat_map(|p| {
                let t = &p.traffic;
                let (rx, tx) = if unit == "frames" { (t.rx_frames, t.tx_frames) } else { (t.rx_bytes, t.tx_bytes) };
                [("rx", rx), ("tx", tx)].map(|(way, n)| counter(&[("peer", &p.key), ("direction", way)], n as f64))
            }),
        );
    }
}
