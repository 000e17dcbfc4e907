//! What the programs tell: MACs that are learned and move.

use std::time::{Duration, Instant};

use tracing::{debug, error, info};
use wavnet_common::{
    abi::{Event, EventKind},
    fdb::Place,
};
use wavnet_proto::fabric::Names;

use super::{Agent, convert, occupants::Occupants};
use crate::{
    api::model::{FdbChange, FdbEvent, PlaceInfo},
    datapath,
};

/// So many lines a second, and then a count of the rest.
#[derive(Default)]
pub(super) struct Limiter {
    second: Option<Instant>,
    said: u32,
    unsaid: u64,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Say,
    /// Say it, and how many were left out before.
    SayAfter(u64),
    LeaveOut,
}

impl Limiter {
    const A_SECOND: u32 = 10;

    fn next(&mut self, now: Instant) -> Line {
        if self.second.is_none_or(|s| now.duration_since(s) >= Duration::from_secs(1)) {
            (self.second, self.said) = (Some(now), 0);
        }
        if self.said == Limiter::A_SECOND {
            self.unsaid += 1;
            return Line::LeaveOut;
        }
        self.said += 1;
        match std::mem::take(&mut self.unsaid) {
            0 => Line::Say,
            n => Line::SayAfter(n),
        }
    }
}

impl Agent {
    /// Logs events and passes them on to whoever watches.
    pub(super) fn kernel_told(&mut self, events: Result<Vec<Event>, datapath::Error>) {
        let events = match events {
            Ok(events) => events,
            Err(e) => {
                error!("no more events of the kernel programs: {:#}", anyhow::Error::from(e));
                self.kernel_events = None;
                return;
            }
        };
        let names = self.fabric.names();
        for event in events {
            let Some(told) = translate(&event, &names, &self.occupants) else { continue };
            if told.event == FdbChange::Learned {
                debug!(vni = %told.vni, mac = %told.mac, at = convert::place_text(told.to.as_ref()), "learned");
            } else {
                match self.moves.next(Instant::now()) {
                    Line::LeaveOut => {}
                    line => {
                        if let Line::SayAfter(n) = line {
                            info!("{n} more moves");
                        }
                        let place = |p: &Option<PlaceInfo>| convert::place_text(p.as_ref());
                        let (from, to) = (place(&told.from), place(&told.to));
                        info!(vni = %told.vni, mac = %told.mac, from, to, "moved");
                    }
                }
            }
            self.tell_watchers(told);
        }
    }
}

/// An event in names; `None` if its VNI is gone or it is of a kind that we do not know. A slot that is another's by now is
/// nobody's name.
fn translate(event: &Event, names: &Names, occupants: &Occupants) -> Option<FdbEvent> {
    let kind = match event.kind {
        k if k == EventKind::Learned as u32 => FdbChange::Learned,
        k if k == EventKind::Moved as u32 => FdbChange::Moved,
        _ => return None,
    };
    let vni_index = u16::try_from(event.vni_index).ok().filter(|i| occupants.had_vni(*i, event.at_ns))?;
    let vni = *names.vnis.get(&vni_index)?;
    let place = |p: Option<Place>| -> Option<PlaceInfo> {
        names.places.get(&p.filter(|p| occupants.had_place(*p, event.at_ns))?).map(convert::place_info)
    };
    Some(FdbEvent { event: kind, vni, mac: event.mac, from: place(event.from.place()), to: place(event.to.place()) })
}

#[cfg(test)]
mod tests {
    use wavnet_common::{
        abi::{Endpoint, NextHop, PlaceCode, Port, VniEntry, Vtep},
        addr::{Mac, Vni},
    };
    use wavnet_proto::{
        command::{Command, PeerKey},
        fabric::{Adopted, PlaceName},
    };

    use super::*;

    #[test]
    fn a_flood_of_moves_is_counted_not_listed() {
        let mut limiter = Limiter::default();
        let start = Instant::now();
        let said = (0..100).filter(|_| limiter.next(start) == Line::Say).count();
        assert_eq!(said, Limiter::A_SECOND as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!(limiter.next(later), Line::SayAfter(100 - u64::from(Limiter::A_SECOND)));
        assert_eq!(limiter.next(later), Line::Say);
    }

    #[test]
    fn events_are_told_by_name() {
        let vni = Vni::new(10).unwrap();
        let names = Names {
            vnis: [(3, vni)].into(),
            places: [
                (Place::Port(1), PlaceName::Port("tap0".into())),
                (Place::Vtep(2), PlaceName::Peer(PeerKey::Static([192, 0, 2, 9].into()))),
            ]
            .into(),
        };
        let tap0 = Port { ifindex: 7, vni: 10, ..Port::FREE };
        let mut occupants = Occupants::new(&Adopted {
            vnis: vec![(3, VniEntry { vni: 10, flood_half: 0 })],
            ports: vec![(1, tap0)],
            vteps: vec![(2, Vtep::new(0, &Endpoint::plain([192, 0, 2, 9], 4789), &NextHop::NONE))],
            ..Adopted::default()
        });
        let event = Event {
            at_ns: 100,
            kind: EventKind::Moved as u32,
            vni_index: 3,
            from: PlaceCode::new(Place::Port(1)),
            to: PlaceCode::new(Place::Vtep(2)),
            mac: Mac([2; 6]),
            reserved: [0; 2],
        };
        let told = translate(&event, &names, &occupants).unwrap();
        assert_eq!(told.event, FdbChange::Moved);
        assert_eq!(told.from, Some(PlaceInfo::Port("tap0".into())));
        assert_eq!(told.to, Some(PlaceInfo::Peer([192, 0, 2, 9].into())));
        let learned = Event { kind: EventKind::Learned as u32, from: PlaceCode::NONE, ..event };
        assert_eq!(translate(&learned, &names, &occupants).unwrap().from, None);
        assert_eq!(translate(&Event { vni_index: 4, ..event }, &names, &occupants), None);
        assert_eq!(translate(&Event { kind: 77, ..event }, &names, &occupants), None);

        // Written before the slots were given to others.
        occupants.note(&Command::SetPort { index: 1, port: Port { ifindex: 8, ..tap0 } }, 101);
        let told = translate(&event, &names, &occupants).unwrap();
        assert_eq!((told.from, told.to), (None, Some(PlaceInfo::Peer([192, 0, 2, 9].into()))));
        let after = Event { at_ns: 101, ..event };
        assert_eq!(translate(&after, &names, &occupants).unwrap().from, Some(PlaceInfo::Port("tap0".into())));
        occupants.note(&Command::SetVni { index: 3, vni: Vni::new(11).unwrap(), used: true }, 101);
        assert_eq!(translate(&event, &names, &occupants), None);
    }
}
