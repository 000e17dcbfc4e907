//! The table of fixtures: TCP from the underlay, which goes by GRO, and what XDP hands over to TC.

use std::{format, vec::Vec};

use super::{
    Fixture, Hook, Stimulus, TestTables,
    fixtures::{Then, Underlay},
    frames::{Outer, ipv6, tagged, tcp4, udp4},
    world::{MAX_FRAME, mac, remote},
};
use crate::{
    abi::Count,
    datapath::{Note, Verdict},
    reason::Reason,
};

impl Underlay<'_> {
    pub(super) fn tcp(&mut self) {
        let mut deliver = |name: &str, port: u8, inner: Vec<u8>| {
            self.add(name, Outer::default().build(&inner), Then::Deliver(port, inner.clone()));
        };
        let full = tcp4(mac(0), remote(0), MAX_FRAME as usize);
        deliver("TCP, full", 0, full.clone());
        deliver("TCP without payload", 0, tcp4(mac(0), remote(0), 54));
        deliver("TCP to a port that takes nothing from XDP", 5, tcp4(mac(5), remote(0), 100));
        let fragment = |offset: u16| {
            let mut frame = full.clone();
            frame[20..22].copy_from_slice(&offset.to_be_bytes());
            frame
        };
        deliver("first fragment of TCP", 0, fragment(0x2000));
        deliver("last fragment of TCP", 0, fragment(0x00b9));
        deliver("TCP over IPv6", 0, ipv6(mac(0), remote(0), 6, &[0x77; 40]));
        deliver("fragment of TCP over IPv6", 0, ipv6(mac(0), remote(0), 44, &[6; 40]));
        deliver("fragment of UDP over IPv6", 0, ipv6(mac(0), remote(0), 44, &[17; 40]));
        deliver("IPv6 fragment without a header", 0, ipv6(mac(0), remote(0), 44, &[]));
        deliver("tagged TCP", 0, tagged(&tcp4(mac(0), remote(0), 100), 0x8100, 5));
        let long = tcp4(mac(0), remote(0), MAX_FRAME as usize + 1);
        self.add("TCP, too long", Outer::default().build(&long), Then::DropByTc(Reason::ExceedsPortMtu));

        // A driver that keeps no notes: TCP goes like everything else, and port 5's frames as they came.
        let inner = tcp4(mac(0), remote(0), 100);
        let mut stimulus = Stimulus::new(Hook::UnderlayXdp, Outer::default().build(&inner));
        stimulus.noteless = true;
        let mut f = Fixture::new("underlay, XDP without notes: TCP", stimulus);
        f.verdict = Verdict::ToPort { index: 0, ifindex: self.devices.ports[0] };
        (f.bytes, f.host_only) = (inner, true);
        self.out.push(f);
        let inner = tcp4(mac(5), remote(0), 100);
        let mut stimulus = Stimulus::new(Hook::UnderlayXdp, Outer::default().build(&inner));
        stimulus.noteless = true;
        let mut f = Fixture::new("underlay, XDP without notes: port that takes nothing from XDP", stimulus);
        f.host_only = true;
        self.out.push(f);
    }

    /// What XDP handed over, as TC sees it.
    pub(super) fn handed_over(&mut self) {
        let frame = tcp4(mac(0), remote(0), 2 * 1448 + 54);
        let mut add = |name: &str, note: Note, verdict: Verdict, drops: &[Reason]| {
            let mut stimulus = Stimulus::new(Hook::UnderlayTc, frame.clone());
            (stimulus.note, stimulus.gso) = (Some(note), (1448, 2));
            let mut f = Fixture::new(&format!("underlay, TC: handed over, {name}"), stimulus);
            (f.verdict, f.host_only) = (verdict, true);
            f.noted = note.read(TestTables::COOKIE);
            f.drops = drops.to_vec();
            if verdict == Verdict::Pass {
                f.counts.push((Count::PassedUp, 1));
            }
            self.out.push(f);
        };
        let note = |port, vni| Note::new(TestTables::COOKIE, port, vni);
        let port = |index: u16| self.devices.ports[usize::from(index)];
        add("to a port", note(0, 0), Verdict::ToPort { index: 0, ifindex: port(0) }, &[]);
        let gone = Verdict::Drop(Reason::UnknownPort);
        add("to a port that went", note(60, 0), gone, &[Reason::UnknownPort]);
        add("to a port that is another VNI's by now", note(2, 0), gone, &[Reason::UnknownPort]);
        add("by somebody else", Note::new(1, 0, 0), Verdict::Pass, &[]);
    }

    pub(super) fn super_packets(&mut self) {
        let inner = tcp4(mac(0), remote(0), 2 * 1448 + 54);
        let frame = Outer::default().build(&inner);
        let mut stimulus = Stimulus::new(Hook::UnderlayTc, frame);
        stimulus.gso = (1448, 2);
        let mut f = Fixture::new("underlay, TC: super-packet whose segments fit", stimulus);
        f.verdict = Verdict::ToPort { index: 0, ifindex: self.devices.ports[0] };
        f.bytes = inner;
        // A test-run's super-packets have no type, and the kernel resizes none of those.
        f.host_only = true;
        self.out.push(f);

        let mut paged = Stimulus::new(Hook::UnderlayTc, Outer::default().build(&udp4(mac(0), remote(0), 100)));
        paged.linear = 20;
        let mut f = Fixture::new("underlay, TC: headers in pages", paged);
        f.verdict = Verdict::ToPort { index: 0, ifindex: self.devices.ports[0] };
        f.bytes = udp4(mac(0), remote(0), 100);
        f.host_only = true;
        self.out.push(f);
    }
}
