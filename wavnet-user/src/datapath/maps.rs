//! The maps that the agent writes, typed.

use aya::{
    Ebpf, Pod,
    maps::{Array, DevMap, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use wavnet_common::{
    abi::{
        self, Config, Endpoint, FloodSet, Heartbeat, Hold, Ledger, Member, MemberKey, Meta, NextHop, Plain, Port,
        Traffic, VniEntry, Vtep, VtepFlags, map as name,
    },
    addr::PeerId,
    buckets::{self, rows_for},
    reason::Reason,
};
use wavnet_proto::{
    command::{Command, PeerKey, Slot},
    fabric::Adopted,
};

use super::{
    Error, Sizes,
    guards::{self, Guards, User},
    holds::Holds,
    mapped::Mapped,
    paths::Paths,
};

/// A type of the ABI as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Abi<T: Plain>(pub(super) T);

// SAFETY: `Plain` promises the same.
unsafe impl<T: Plain> Pod for Abi<T> {}

/// How many entries each map has.
pub(super) fn entries(sizes: &Sizes) -> impl Iterator<Item = (&'static str, u32)> {
    let Sizes { ports, vnis, vteps, members, fdb_buckets } = *sizes;
    [
        (name::PORTS, ports),
        (name::PORT_OF_IFINDEX, rows_for(ports)),
        (name::PORT_DEVS, ports),
        (name::GUARDED_DEVS, ports + abi::size::HOP_DEVS),
        (name::PORT_STATS, ports),
        (name::VNIS, vnis),
        (name::INDEX_OF_VNI, vnis),
        (name::FLOODS, 2 * vnis),
        (name::VNI_STATS, vnis),
        (name::VTEPS, vteps),
        (name::VTEP_IDS, vteps),
        (name::HOLDS, vteps),
        (name::INDEX_OF_VTEP, vteps),
        (name::PATHS, paths(sizes)),
        (name::PATH_OF_SOURCE, rows_for(paths(sizes))),
        (name::VTEP_STATS, vteps),
        (name::MEMBERS, rows_for(members)),
        (name::FDB, fdb_buckets),
        (name::DROPS, Reason::COUNT as u32),
        (name::COUNTS, abi::Count::COUNT as u32),
    ]
    .into_iter()
}

/// Slots for paths.
fn paths(sizes: &Sizes) -> u32 {
    sizes.vteps * abi::size::PATHS_PER_VTEP
}

/// What programs mask hashes of keys with: buckets of a table minus one, by the name of their global.
pub(super) fn masks(sizes: &Sizes) -> [(&'static str, u32); 4] {
    [
        ("FDB_MASK", sizes.fdb_buckets - 1),
        ("MEMBERS_MASK", rows_for(sizes.members) - 1),
        ("PATHS_MASK", rows_for(paths(sizes)) - 1),
        ("PORTS_MASK", rows_for(sizes.ports) - 1),
    ]
}

type Table<T> = Array<MapData, Abi<T>>;

/// Open maps.
pub(super) struct Maps {
    meta: Table<Meta>,
    config: Table<Config>,
    heartbeat: Table<Heartbeat>,
    ports: Table<Port>,
    port_of_ifindex: Mapped,
    port_devs: DevMap<MapData>,
    pub(super) guards: Guards,
    vnis: Table<VniEntry>,
    index_of_vni: HashMap<MapData, u32, u32>,
    members: Mapped,
    pub(super) paths: Paths,
    vteps: Table<Vtep>,
    vtep_ids: Table<PeerId>,
    pub(super) holds: Holds,
    index_of_vtep: HashMap<MapData, [u8; 4], u32>,
    floods: Table<FloodSet>,
    pub(super) drops: PerCpuArray<MapData, u64>,
    pub(super) counts: PerCpuArray<MapData, u64>,
    pub(super) port_stats: PerCpuArray<MapData, Abi<Ledger>>,
    pub(super) vni_stats: PerCpuArray<MapData, Abi<Traffic>>,
    pub(super) vtep_stats: PerCpuArray<MapData, Abi<Traffic>>,
}

/// Takes a map out of the object, as the type its user wants.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, Error> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| Error::kernel(format!("opening map {name}"), "the object has no such map"))?;
    T::try_from(map).map_err(|e| Error::kernel(format!("opening map {name}"), e))
}

pub(super) fn fail<E: Into<Box<dyn std::error::Error + Send + Sync>>>(map: &'static str) -> impl FnOnce(E) -> Error {
    move |e| Error::kernel(format!("writing map {map}"), e)
}

/// Deleting what is not there is as good as deleting it.
pub(super) fn forgiving(result: Result<(), MapError>, map: &'static str) -> Result<(), Error> {
    match result {
        Err(e) if super::error::errno(&e) != Some(nix::libc::ENOENT) && !matches!(e, MapError::KeyNotFound) => {
            Err(fail(map)(e))
        }
        _ => Ok(()),
    }
}

impl Maps {
    pub(super) fn take(ebpf: &mut Ebpf, seed: u64) -> Result<Maps, Error> {
        Ok(Maps {
            meta: take(ebpf, name::META)?,
            config: take(ebpf, name::CONFIG)?,
            heartbeat: take(ebpf, name::HEARTBEAT)?,
            ports: take(ebpf, name::PORTS)?,
            port_of_ifindex: Mapped::map(ebpf, name::PORT_OF_IFINDEX, seed)?,
            port_devs: take(ebpf, name::PORT_DEVS)?,
            guards: Guards::take(ebpf)?,
            vnis: take(ebpf, name::VNIS)?,
            index_of_vni: take(ebpf, name::INDEX_OF_VNI)?,
            members: Mapped::map(ebpf, name::MEMBERS, seed)?,
            paths: Paths::map(ebpf, seed)?,
            vteps: take(ebpf, name::VTEPS)?,
            vtep_ids: take(ebpf, name::VTEP_IDS)?,
            holds: Holds::map(ebpf)?,
            index_of_vtep: take(ebpf, name::INDEX_OF_VTEP)?,
            floods: take(ebpf, name::FLOODS)?,
            drops: take(ebpf, name::DROPS)?,
            counts: take(ebpf, name::COUNTS)?,
            port_stats: take(ebpf, name::PORT_STATS)?,
            vni_stats: take(ebpf, name::VNI_STATS)?,
            vtep_stats: take(ebpf, name::VTEP_STATS)?,
        })
    }

    /// The tables in buckets that are here.
    pub(super) const fn mapped(&self) -> [&Mapped; 3] {
        [&self.members, &self.port_of_ifindex, self.paths.mapped()]
    }

    pub(super) fn meta(&self) -> Result<Meta, Error> {
        Ok(self.meta.get(&0, 0).map_err(|e| Error::kernel("reading map META", e))?.0)
    }

    pub(super) fn write_meta(&mut self, meta: &Meta) -> Result<(), Error> {
        self.meta.set(0, Abi(*meta), 0).map_err(fail(name::META))
    }

    pub(super) fn heartbeat(&mut self, at_ns: u64) -> Result<(), Error> {
        self.heartbeat.set(0, Abi(Heartbeat { at_ns }), 0).map_err(fail(name::HEARTBEAT))
    }

    pub(super) fn adopted(&self) -> Result<Adopted, Error> {
        let mut members = Vec::new();
        buckets::for_each(&self.members, |key, value| {
            members.push((MemberKey::from_word(key), Member::from_word(value)));
        });
        let config = self.config.get(&0, 0).map_err(|e| Error::kernel("reading map CONFIG", e))?.0;
        Ok(Adopted {
            config: Some(config),
            ports: in_use(&self.ports, |p| p.ifindex != 0)?,
            vnis: in_use(&self.vnis, |v| v.vni != 0)?,
            vteps: in_use(&self.vteps, |v| v.flags & abi::VtepFlags::USED != 0)?,
            members,
            ids: self.ids()?,
            paths: self.paths.in_use(),
            relays: self.paths.relays(),
            ..Adopted::default()
        })
    }

    /// Who the dynamic peers are, by slot.
    fn ids(&self) -> Result<Vec<(u16, PeerId)>, Error> {
        let dynamic = VtepFlags::USED | VtepFlags::DYNAMIC;
        let slots = in_use(&self.vteps, |v| v.flags & dynamic == dynamic)?.into_iter();
        let id = |index: u16| self.vtep_ids.get(&index.into(), 0).map_err(fail(name::VTEP_IDS));
        slots.map(|(index, _)| Ok((index, id(index)?.0))).collect()
    }

    /// The map writes of a command; others do nothing.
    pub(super) fn apply(&mut self, command: &Command) -> Result<(), Error> {
        match command {
            Command::SetConfig(config) => self.config.set(0, Abi(*config), 0).map_err(fail(name::CONFIG)),
            Command::SetVni { index, vni, used } => self.set_vni(*index, vni.get(), *used),
            Command::SetPort { index, port } => self.set_port(*index, port),
            Command::SetVtep { index, vtep, peer } => self.set_vtep(*index, vtep, peer),
            Command::SetNextHop { index, endpoint, next_hop } => self.set_next_hop(*index, endpoint, next_hop),
            Command::SetHold { index, hold } => self.set_hold(*index, *hold),
            Command::SetPath { index, path } => self.paths.set(*index, path.as_ref()),
            Command::SetRelay { number, at, used } => self.paths.set_relay(*number, *at, *used),
            Command::ResetCounters(Slot::Port(i)) => clear(&mut self.port_stats, *i, name::PORT_STATS),
            Command::ResetCounters(Slot::Vni(i)) => clear(&mut self.vni_stats, *i, name::VNI_STATS),
            Command::ResetCounters(Slot::Vtep(i)) => clear(&mut self.vtep_stats, *i, name::VTEP_STATS),
            Command::SetMember { key, member: Some(member) } => {
                enter(&self.members, name::MEMBERS, key.to_word(), member.to_word())
            }
            Command::SetMember { key, member: None } => {
                buckets::remove(&self.members, key.to_word());
                Ok(())
            }
            Command::SetFlood { vni_index, set } => {
                let index = u32::from(*vni_index);
                let mut vni = self.vnis.get(&index, 0).map_err(fail(name::VNIS))?.0;
                let other = (vni.flood_half & 1) ^ 1;
                self.floods.set(2 * index + other, Abi(**set), 0).map_err(fail(name::FLOODS))?;
                vni.flood_half = other;
                self.vnis.set(index, Abi(vni), 0).map_err(fail(name::VNIS))
            }
            _ => Ok(()),
        }
    }

    fn set_vni(&mut self, index: u16, vni: u32, used: bool) -> Result<(), Error> {
        let slot = u32::from(index);
        if used {
            // A new owner of the slot starts with nobody to flood to.
            for half in 0..2 {
                self.floods.set(2 * slot + half, Abi(FloodSet::EMPTY), 0).map_err(fail(name::FLOODS))?;
            }
            self.vnis.set(slot, Abi(VniEntry { vni, flood_half: 0 }), 0).map_err(fail(name::VNIS))?;
            self.index_of_vni.insert(vni, slot, 0).map_err(fail(name::INDEX_OF_VNI))
        } else {
            forgiving(self.index_of_vni.remove(&vni), name::INDEX_OF_VNI)?;
            self.vnis.set(slot, Abi(VniEntry { vni: 0, flood_half: 0 }), 0).map_err(fail(name::VNIS))
        }
    }

    fn set_port(&mut self, index: u16, port: &Port) -> Result<(), Error> {
        let slot = u32::from(index);
        let old = self.ports.get(&slot, 0).map_err(fail(name::PORTS))?.0;
        // First what may find no room.
        if port.ifindex != 0 {
            self.guards.enter(port.ifindex)?;
        }
        if old.ifindex != 0 && old.ifindex != port.ifindex {
            buckets::remove(&self.port_of_ifindex, old.ifindex.into());
        }
        self.guards.used(User::Port(index), (port.ifindex != 0).then_some(port.ifindex));
        if port.ifindex == 0 {
            self.ports.set(slot, Abi(Port::FREE), 0).map_err(fail(name::PORTS))?;
            // Setting interface 0 clears a slot of a devmap.
            return forgiving(self.port_devs.set(slot, 0, None, 0).map_err(map_error), name::PORT_DEVS);
        }
        self.port_devs.set(slot, port.ifindex, None, 0).map_err(fail(name::PORT_DEVS))?;
        self.ports.set(slot, Abi(*port), 0).map_err(fail(name::PORTS))?;
        enter(&self.port_of_ifindex, name::PORT_OF_IFINDEX, port.ifindex.into(), index.into())
    }

    /// Puts this agent's guard in the place of an earlier one's, and takes over who needs it.
    pub(super) fn renew_guards(&mut self) -> Result<(), Error> {
        let ports = in_use(&self.ports, |p| p.ifindex != 0)?;
        let ports = ports.into_iter().map(|(index, port)| (User::Port(index), port.ifindex));
        let vteps = in_use(&self.vteps, |v| v.flags & abi::VtepFlags::USED != 0)?.into_iter();
        let hops = vteps.filter_map(|(index, v)| Some((User::Vtep(index), guards::interface(&v.next_hop())?)));
        self.guards.renew(ports.chain(hops))
    }

    fn set_next_hop(&mut self, index: u16, to: &Endpoint, next_hop: &NextHop) -> Result<(), Error> {
        let next_hop = self.guards.guarded(*next_hop);
        let mut vtep = self.vtep(index)?;
        let other = vtep.prepare(to, &next_hop);
        self.write_vtep(index, vtep)?;
        vtep.half = other;
        self.write_vtep(index, vtep)?;
        self.guards.used(User::Vtep(index), guards::interface(&next_hop));
        Ok(())
    }

    fn set_hold(&mut self, index: u16, hold: Hold) -> Result<(), Error> {
        let mut vtep = self.vtep(index)?;
        self.holds.set(index, hold);
        let before = vtep.flags;
        vtep.flags = if hold == Hold::Normal { before & !VtepFlags::HELD } else { before | VtepFlags::HELD };
        if vtep.flags == before { Ok(()) } else { self.write_vtep(index, vtep) }
    }

    fn set_vtep(&mut self, index: u16, vtep: &Vtep, peer: &PeerKey) -> Result<(), Error> {
        let before = self.vtep(index)?;
        if !(before.has(VtepFlags::USED) && vtep.has(VtepFlags::USED)) {
            self.holds.set(index, Hold::Normal);
        }
        if !vtep.has(VtepFlags::USED) {
            if let PeerKey::Static(addr) = peer {
                forgiving(self.index_of_vtep.remove(&addr.octets()), name::INDEX_OF_VTEP)?;
            }
            self.write_vtep(index, Vtep::FREE)?;
            self.guards.used(User::Vtep(index), None);
            return Ok(());
        }
        let next_hop = self.guards.guarded(vtep.next_hop());
        let vtep = Vtep::new(vtep.half, &vtep.endpoint(), &next_hop);
        match peer {
            PeerKey::Static(addr) => {
                // Only a static peer's slot is written while in use: what is held back stays so.
                let held = before.flags & VtepFlags::HELD;
                self.write_vtep(index, Vtep { flags: vtep.flags | held, ..vtep })?;
                self.index_of_vtep.insert(addr.octets(), u32::from(index), 0).map_err(fail(name::INDEX_OF_VTEP))?;
            }
            PeerKey::Dynamic(id) => {
                self.vtep_ids.set(index.into(), Abi(*id), 0).map_err(fail(name::VTEP_IDS))?;
                self.write_vtep(index, Vtep { flags: vtep.flags | VtepFlags::DYNAMIC, ..vtep })?;
            }
        }
        self.guards.used(User::Vtep(index), guards::interface(&next_hop));
        Ok(())
    }

    fn vtep(&self, index: u16) -> Result<Vtep, Error> {
        Ok(self.vteps.get(&index.into(), 0).map_err(fail(name::VTEPS))?.0)
    }

    fn write_vtep(&mut self, index: u16, vtep: Vtep) -> Result<(), Error> {
        self.vteps.set(index.into(), Abi(vtep), 0).map_err(fail(name::VTEPS))
    }
}

fn map_error(error: aya::maps::xdp::XdpMapError) -> MapError {
    match error {
        aya::maps::xdp::XdpMapError::MapError(e) => e,
        other => MapError::IoError(std::io::Error::other(other)),
    }
}

fn in_use<T: Plain>(table: &Table<T>, used: impl Fn(&T) -> bool) -> Result<Vec<(u16, T)>, Error> {
    let mut found = Vec::new();
    for (index, item) in table.iter().enumerate() {
        let item = item.map_err(|e| Error::kernel("reading a table", e))?.0;
        if used(&item) {
            found.push((index as u16, item));
        }
    }
    Ok(found)
}

pub(super) fn enter(table: &Mapped, map: &'static str, key: u64, value: u64) -> Result<(), Error> {
    buckets::set(table, key, value)
        .map_err(|buckets::Full| fail(map)("it is full: see the table sizes in the configuration"))
}

fn clear<T: Plain + Default>(
    stats: &mut PerCpuArray<MapData, Abi<T>>,
    index: u16,
    name: &'static str,
) -> Result<(), Error> {
    let cpus = nr_cpus().map_err(|(_, e)| Error::kernel("counting CPUs", e))?;
    let zero = PerCpuValues::try_from(vec![Abi(T::default()); cpus]).map_err(fail(name))?;
    stats.set(index.into(), zero, 0).map_err(fail(name))
}
