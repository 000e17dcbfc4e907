//! NATs against a naive reference: lists of all mappings and flows, looked through from end to end.

use std::net::{IpAddr, SocketAddr};

use wavnet_proto::time::Time;
use wavnet_sim::{
    Reason, Rng, Seed,
    nat::{Behaviour, Nat, NatConfig, NextPort, Pooling, Ports, Timeouts},
};

use crate::lab::{ip, millis, seconds};

#[derive(Clone, Debug)]
struct Flow {
    internal: Option<SocketAddr>,
    external: SocketAddr,
    remote: SocketAddr,
    created: Time,
    expires: Time,
    sent: bool,
    received: bool,
}

#[derive(Clone, Debug)]
struct Mapping {
    internal: SocketAddr,
    external: SocketAddr,
    /// The endpoint outside that it was made for, and whether it is for that one alone though the NAT's mappings are not.
    made_for: SocketAddr,
    exact: bool,
    expires: Time,
}

struct Reference {
    config: NatConfig,
    flows: Vec<Flow>,
    mappings: Vec<Mapping>,
}

impl Reference {
    fn expire(&mut self, now: Time) {
        let gone: Vec<SocketAddr> =
            self.mappings.iter().filter(|m| m.expires <= now).map(|mapping| mapping.external).collect();
        self.mappings.retain(|m| m.expires > now);
        self.flows.retain(|f| f.expires > now && (f.internal.is_none() || !gone.contains(&f.external)));
    }

    fn serves(&self, mapping: &Mapping, remote: SocketAddr) -> bool {
        match self.config.mapping {
            _ if mapping.exact => mapping.made_for == remote,
            Behaviour::EndpointIndependent => true,
            Behaviour::AddressDependent => mapping.made_for.ip() == remote.ip(),
            Behaviour::AddressAndPortDependent => mapping.made_for == remote,
        }
    }

    fn refresh(&mut self, at: usize, out: bool, now: Time) {
        let timeouts = self.config.timeouts;
        let flow = &mut self.flows[at];
        if out {
            flow.sent = true;
        } else {
            flow.received = true;
        }
        if !out && !timeouts.inbound_refreshes {
            return;
        }
        let stream = flow.sent && flow.received && now.since(flow.created) > timeouts.settles;
        flow.expires = now + if stream { timeouts.stream } else { timeouts.unreplied };
        let (internal, external, expires) = (flow.internal, flow.external, flow.expires);
        self.extend(internal, external, expires);
    }

    fn add(&mut self, internal: Option<SocketAddr>, external: SocketAddr, remote: SocketAddr, out: bool, now: Time) {
        let expires = now + self.config.timeouts.unreplied;
        let flow = Flow { internal, external, remote, created: now, expires, sent: out, received: !out };
        self.flows.push(flow);
        if out || self.config.timeouts.inbound_refreshes {
            self.extend(internal, external, expires);
        }
    }

    /// What the router has for itself keeps nobody's mapping alive.
    fn extend(&mut self, internal: Option<SocketAddr>, external: SocketAddr, expires: Time) {
        for mapping in self.mappings.iter_mut().filter(|m| (Some(m.internal), m.external) == (internal, external)) {
            mapping.expires = mapping.expires.max(expires);
        }
    }

    /// What a NAT did with a datagram from inside is right.
    fn outbound(&mut self, now: Time, internal: SocketAddr, remote: SocketAddr, did: Result<SocketAddr, Reason>) {
        self.expire(now);
        if let Some(at) = self.flows.iter().position(|f| (f.internal, f.remote) == (Some(internal), remote)) {
            assert_eq!(did, Ok(self.flows[at].external), "it has a flow");
            return self.refresh(at, true, now);
        }
        if self.flows.len() >= self.config.max_flows {
            return assert_eq!(did, Err(Reason::TableFull));
        }
        let taken = |external: SocketAddr| self.flows.iter().any(|f| (f.external, f.remote) == (external, remote));
        let own = self.mappings.iter().filter(|m| m.internal == internal && self.serves(m, remote));
        let own: Vec<Mapping> = own.cloned().collect();
        if let Some(mapping) = own.iter().find(|m| !taken(m.external)) {
            assert_eq!(did, Ok(mapping.external), "it has a mapping");
            return self.add(Some(internal), mapping.external, remote, true, now);
        }
        if self.mappings.len() >= self.config.max_mappings {
            return assert_eq!(did, Err(Reason::TableFull));
        }
        let Ok(external) = did else { panic!("{did:?}, though there is room") };
        assert!(self.mappings.iter().all(|m| m.external != external) && !taken(external), "{external} is taken");
        let ports = &self.config.ports;
        assert!(ports.range.contains(&external.port()), "{external}");
        let kept = SocketAddr::new(external.ip(), internal.port());
        let free = self.mappings.iter().all(|m| m.external != kept) && !taken(kept);
        assert!(!ports.preserve || !ports.range.contains(&kept.port()) || !free || external == kept, "not kept");
        if self.config.pooling == Pooling::Paired {
            let mut same = self.mappings.iter().filter(|m| m.internal.ip() == internal.ip());
            assert!(same.all(|m| m.external.ip() == external.ip()), "not paired");
        }
        let exact = !own.is_empty();
        if let Some(old) = own.iter().find(|m| m.exact || self.config.mapping == Behaviour::AddressAndPortDependent) {
            // One for this very endpoint, which the router has taken since.
            self.mappings.retain(|m| m.external != old.external);
            self.flows.retain(|f| f.external != old.external || f.internal.is_none());
        }
        let expires = now + self.config.timeouts.unreplied;
        self.mappings.push(Mapping { internal, external, made_for: remote, exact, expires });
        self.add(Some(internal), external, remote, true, now);
    }

    /// What a NAT is to do with a datagram from outside.
    fn inbound(&mut self, now: Time, external: SocketAddr, remote: SocketAddr) -> Result<SocketAddr, Reason> {
        self.expire(now);
        if let Some(at) = self.flows.iter().position(|f| (f.external, f.remote) == (external, remote)) {
            self.refresh(at, false, now);
            return self.flows[at].internal.ok_or(Reason::ForRouter);
        }
        let mapping = self.mappings.iter().find(|m| m.external == external).map(|m| m.internal);
        let mut used = self.flows.iter().filter(|f| f.external == external && f.sent);
        let passes = match self.config.filtering {
            Behaviour::EndpointIndependent => true,
            Behaviour::AddressDependent => used.any(|f| f.remote.ip() == remote.ip()),
            Behaviour::AddressAndPortDependent => used.any(|f| f.remote == remote),
        };
        let reason = if mapping.is_none() { Reason::NoMapping } else { Reason::Filtered };
        let internal = mapping.filter(|_| passes);
        if internal.is_none() && !self.config.open_input {
            return Err(reason);
        }
        if self.flows.len() >= self.config.max_flows {
            return Err(Reason::TableFull);
        }
        self.add(internal, external, remote, false, now);
        internal.ok_or(Reason::ForRouter)
    }

    fn live(&self, now: Time) -> (usize, usize) {
        let mappings = self.mappings.iter().filter(|m| m.expires > now).count();
        (mappings, self.flows.iter().filter(|f| f.expires > now).count())
    }
}

fn random_config(rng: &mut Rng) -> NatConfig {
    let one_in = |rng: &mut Rng, n| rng.below(n) == 0;
    let timeouts = rng.pick(&[Timeouts::LINUX, Timeouts::fixed(seconds(60))]);
    let first = rng.pick(&[1024, 4995]);
    NatConfig {
        mapping: rng.pick(&Behaviour::ALL),
        filtering: rng.pick(&Behaviour::ALL),
        ports: Ports {
            preserve: one_in(rng, 2),
            next: rng.pick(&[NextPort::Random, NextPort::Sequential { step: 1 }, NextPort::Sequential { step: 2 }]),
            // A few hundred are more than there can be mappings at once.
            range: first..=first + 400,
        },
        pooling: rng.pick(&[Pooling::Paired, Pooling::Arbitrary]),
        hairpin: false,
        timeouts: Timeouts { inbound_refreshes: one_in(rng, 2), ..timeouts },
        open_input: one_in(rng, 2),
        max_mappings: rng.pick(&[usize::MAX, 4]),
        max_flows: rng.pick(&[usize::MAX, 6]),
    }
}

/// Few endpoints, so that histories meet themselves.
fn endpoint(rng: &mut Rng, addrs: &[IpAddr]) -> SocketAddr {
    SocketAddr::new(rng.pick(addrs), rng.pick(&[5000, 5001]))
}

#[test]
fn a_nat_does_what_the_naive_one_does() {
    let inside = ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(ip);
    let outside = ["192.0.2.1", "192.0.2.2"].map(ip);
    let pool = ["198.51.100.1", "198.51.100.2"].map(ip);
    Seed::each(1500, |seed| {
        let mut rng = seed.rng();
        let config = random_config(&mut rng);
        let mut nat = Nat::new(config.clone(), pool.to_vec(), rng.fork());
        let mut reference = Reference { config, flows: Vec::new(), mappings: Vec::new() };
        let mut now = Time::from_nanos(0);
        let mut known = vec![SocketAddr::new(pool[0], 5000)];
        for _ in 0..200 {
            now += rng.pick(&[millis(0), millis(1), seconds(1), seconds(10), seconds(29), seconds(30), seconds(61)]);
            let (internal, remote) = (endpoint(&mut rng, &inside), endpoint(&mut rng, &outside));
            match rng.below(20) {
                0 => {
                    nat.reboot();
                    (reference.flows, reference.mappings) = (Vec::new(), Vec::new());
                }
                1..=9 => {
                    let did = nat.outbound(now, internal, remote);
                    known.extend(did.ok());
                    reference.outbound(now, internal, remote, did);
                }
                _ => {
                    // Mostly the newest.
                    let back = rng.below(4).min(known.len() as u64 - 1) as usize;
                    let external = known[known.len() - 1 - back];
                    let did = nat.inbound(now, external, remote);
                    assert_eq!(did, reference.inbound(now, external, remote), "{external} from {remote}");
                }
            }
            let entries = (nat.mapping_entries(now).now, nat.flow_entries(now).now);
            assert_eq!(entries, reference.live(now));
        }
    });
}
