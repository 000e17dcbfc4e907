//! What the fuzz target `datagrams` does with its input: one mesh gets whatever there is, at whatever times.

use std::{collections::BTreeSet, net::SocketAddr, sync::OnceLock, time::Duration};

use wavnet_proto::{
    mesh::{self, Mesh, PathId, Settings},
    nat::NatSummary,
    policy::Policy,
    rng::Rng,
    time::Time,
    transmit::Socket,
    trust::{NetworkKey, SecretKey},
    wire::Name,
};

/// What costs much to make, and is the same each time.
fn keys() -> &'static (NetworkKey, SecretKey) {
    static KEYS: OnceLock<(NetworkKey, SecretKey)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut rng = Rng::from_seed([9; 32]);
        (NetworkKey::generate(&mut rng), SecretKey::generate(&mut rng))
    })
}

/// Whatever comes, whenever: a mesh does not panic, asks for nothing absurd, says no more than it is asked to by a little, and comes to rest.
pub fn datagrams(data: &[u8]) {
    let (network, secret) = keys();
    let settings = Settings {
        name: Name::default(),
        servers: vec![mesh::Server { addr: SocketAddr::from(([192, 0, 2, 1], 4789)), key: None }],
        access: network.access(),
        member: network.member(),
        policy: Policy::Network,
        vnis: BTreeSet::new(),
        pulse: Settings::PULSE,
        search: true,
        peers: 4,
    };
    let mut mesh = Mesh::new(settings, secret.clone(), [1; 32]);
    let (mut now, mut sent, mut asked) = (Time::from_nanos(1 << 40), Vec::new(), 0);
    mesh.set_addresses(now, vec![SocketAddr::from(([10, 0, 0, 2], 4789))]);
    let mut input = data.iter().copied();
    while let (Some(what), Some(with)) = (input.next(), input.next()) {
        let from = SocketAddr::from(([192, 0, 2, 1 + (what >> 6)], 4789));
        match what % 8 {
            0 => now += Duration::from_millis(1 << (with % 24)),
            1 => now = now - Duration::from_millis(1 << (with % 24)),
            2 => now = mesh.poll_timeout().unwrap_or(now),
            3 => mesh.set_addresses(now, vec![SocketAddr::from(([10, 0, 0, with], 4789))]),
            4 => mesh.set_nat(now, NatSummary { lifetime: with.into(), ..NatSummary::default() }),
            5 => mesh.pulse_answered(now, &secret.public(), PathId(with.into()), with.into(), now),
            // Something that it has said itself, changed.
            6 => {
                let mut payload: Vec<u8> = sent.last().cloned().unwrap_or_default();
                for _ in 0..with >> 4 {
                    let (place, bits) =
                        (usize::from(input.next().unwrap_or_default()), input.next().unwrap_or_default());
                    payload.get_mut(place).into_iter().for_each(|byte| *byte ^= bits);
                }
                mesh.handle_input(now, Socket::Main, from, &payload);
                asked += 1;
            }
            _ => {
                let payload: Vec<u8> = input.by_ref().take(with.into()).collect();
                let socket = if what & 32 != 0 { Socket::Extra(with.into()) } else { Socket::Main };
                mesh.handle_input(now, socket, from, &payload);
                asked += 1;
            }
        }
        if what & 16 != 0 {
            mesh.handle_timeout(now);
            asked += 1;
        }
        while let Some(transmit) = mesh.poll_transmit() {
            sent.push(transmit.payload);
        }
        assert_eq!(mesh.poll_command(), None, "nobody has proved anything");
        while mesh.poll_event().is_some() {}
    }
    assert!(sent.len() <= asked * 3 + 4, "{} datagrams for {asked}", sent.len());
    assert_eq!(mesh.peers().count(), 0);
}
