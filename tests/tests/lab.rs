//! The lab itself, proved with the kernel's own VTEPs alone: what passes here is not to blame when a test of wavnet fails.

use std::{net::Ipv4Addr, path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};
use wavnet_common::addr::{Mac, Vni};
use wavnet_tests::lab::{
    self, Lab, Need,
    capture::Capture,
    dhcp,
    frame::{self, VLAN, has_mark, marked, tagged},
    host::{Host, Vm, VmSpec},
    http, link,
    ping::{self, Ping},
    raw::RawSocket,
    stream::{self, Stream},
    tap::Tap,
    topology::Routed,
    wait_until,
};

const SOON: Duration = Duration::from_secs(10);

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

/// Two routed hypervisors with kernel VTEPs of one VNI, and a VM on each: `a` on veth, `b` on tap.
fn two_vms(lab: &Lab, vni: Vni) -> Result<(Routed, Vm, Vm)> {
    let underlay = lab.routed(2, 1600)?;
    let hosts = &underlay.hosts;
    for (host, other) in [(&hosts[0], &hosts[1]), (&hosts[1], &hosts[0])] {
        link::kernel_vtep(&host.ns, vni, host.addr, &[other.addr], 1500)?;
    }
    let a = hosts[0].vm(lab, &VmSpec::new("a", mac(1), Ipv4Addr::new(10, 0, 0, 1)))?;
    let b = hosts[1].tap_vm(lab, &VmSpec { addr: None, ..VmSpec::new("b", mac(2), Ipv4Addr::UNSPECIFIED) })?;
    for (host, vm) in [(&hosts[0], &a), (&hosts[1], &b)] {
        link::enslave(&host.ns, &vm.port, &format!("br{vni}"))?;
    }
    Ok((underlay, a, b))
}

#[test]
fn everything_runs_over_kernel_vteps() {
    let needs = [Need::Tool("dnsmasq"), Need::Tool("udhcpc"), Need::Tool("tcpdump"), Need::Tool("tshark")];
    lab::run("everything_runs_over_kernel_vteps", &needs, |lab| {
        let vni = Vni::new(7).unwrap();
        let (underlay, a, b) = two_vms(lab, vni)?;
        let (first, last) = (Ipv4Addr::new(10, 0, 0, 100), Ipv4Addr::new(10, 0, 0, 110));
        let server = dhcp::Server::start(&a.ns, Vm::NIC, first, last)?;
        let got = dhcp::request(&b.ns, Vm::NIC)?;
        assert!((first..=last).contains(&got), "{got} is not of the server's range");
        assert!(server.log().contains(&got.to_string()), "the server has not logged {got}");
        ping::once(&a.ns, got, 56, SOON)?;
        let capture = Capture::start(&underlay.hosts[0].ns, Host::NIC, "udp port 4789")?;
        let stream = Stream::start(&a.ns, Ipv4Addr::new(10, 0, 0, 1), &b.ns)?;
        let pings = Ping::start(&a.ns, got, Duration::from_millis(2))?;
        stream.wait_progress(SOON)?;
        pings.wait_sent(100)?;
        stream::bulk(&b.ns, got, &a.ns, 1 << 20)?;
        let web = http::Server::start(&a.ns, Ipv4Addr::new(10, 0, 0, 1), 80, b"content".to_vec())?;
        let page = http::get(&b.ns, "10.0.0.1:80".parse()?, "/")?;
        assert_eq!(page, b"content");
        drop(web);
        let loss = pings.stop();
        assert_eq!(loss.lost(), 0, "{loss:?}");
        assert!(stream.finish()? > 0);
        let packets = capture.stop()?.fields("vxlan && icmp", &["vxlan.vni", "ip.src", "ip.ttl"])?;
        assert!(packets.len() >= 100, "{} packets captured", packets.len());
        assert!(packets.iter().all(|p| p[0] == "7"), "{:?}", packets[0]);
        assert!(b.pumped().is_some_and(|n| n > 100));
        Ok(())
    });
}

#[test]
fn raw_frames_arrive_with_their_tags() {
    lab::run("raw_frames_arrive_with_their_tags", &[], |lab| {
        let (left, right) = (lab.netns("left")?, lab.netns("right")?);
        link::veth((&left, "x"), (&right, "y"), 1500, 1)?;
        let (tx, rx) = (RawSocket::open(&left, "x")?, RawSocket::open(&right, "y")?);
        let plain = marked(mac(9), mac(1), "plain");
        let with_tag = tagged(&marked(mac(9), mac(1), "tagged"), VLAN, 42);
        tx.send(&plain)?;
        tx.send(&with_tag)?;
        assert_eq!(rx.expect("the plain frame", SOON, |f| has_mark(f, "plain"))?, plain);
        assert_eq!(rx.expect("the tagged frame", SOON, |f| has_mark(f, "tagged"))?, with_tag);
        let error = rx.expect("nothing", Duration::ZERO, |_| false).unwrap_err().to_string();
        assert!(error.contains("right/y"), "{error}");
        assert_eq!(tx.drain(|_| true)?, Vec::<Vec<u8>>::new(), "a socket must not see what it sent");
        let tap = Tap::create(&left, "tap0", 1500)?;
        let rx = RawSocket::open(&left, "tap0")?;
        tap.send(&plain)?;
        rx.expect("the frame from the tap", SOON, |f| f == plain)?;
        RawSocket::open(&left, "tap0")?.send(&frame::rarp(mac(3)))?;
        wait_until("the frame out of the tap", SOON, || Ok(tap.recv()?.is_some_and(|f| f[12..14] == [0x80, 0x35])))
    });
}

#[test]
fn loss_is_counted() {
    lab::run("loss_is_counted", &[], |lab| {
        let [a, b] = lab.pair(1600)?;
        let pings = Ping::start(&a.ns, b.addr, Duration::from_millis(2))?;
        pings.wait_answered(20, SOON)?;
        b.ns.ip("link set dev u0 down")?;
        pings.wait_sent(20)?;
        let loss = pings.stop();
        assert!(loss.received >= 20 && loss.lost() >= 10, "{loss:?}");
        ping::unreachable(&a.ns, b.addr)
    });
}

/// A process of the lab to interrupt or to kill.
fn inner(told: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab-victim"));
    command.arg(told);
    command
}

fn ended_by(signal: libc::c_int) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let told = dir.path().join("told");
    let mut child = inner(&told).spawn()?;
    wait_until("the inner process to have made things", SOON, || {
        Ok(std::fs::read_to_string(&told).is_ok_and(|t| !t.is_empty()))
    })?;
    let text = std::fs::read_to_string(&told)?;
    let words: Vec<&str> = text.split(' ').collect();
    let [netns, sleeper, logs] = words[..] else { panic!("{text}") };
    let left = || {
        let paths = [format!("/run/netns/{netns}"), format!("/proc/{sleeper}"), logs.to_owned()];
        paths.into_iter().filter(|p| Path::new(p).exists()).collect::<Vec<_>>()
    };
    assert_eq!(left().len(), 3, "{text}");
    // SAFETY: a plain system call on a child that has not been waited for.
    ensure!(unsafe { libc::kill(child.id() as i32, signal) } == 0, "kill failed");
    child.wait()?;
    wait_until("everything of the inner process to go", SOON, || {
        if signal == libc::SIGKILL {
            lab::clean_stale();
        }
        let left = left();
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(true)
    })
}

#[test]
fn an_interrupted_process_cleans_up() {
    if lab::require("an_interrupted_process_cleans_up", &[]).is_some() {
        ended_by(libc::SIGINT).unwrap();
        ended_by(libc::SIGTERM).unwrap();
    }
}

#[test]
fn a_killed_process_is_cleaned_up_after() {
    if lab::require("a_killed_process_is_cleaned_up_after", &[]).is_some() {
        ended_by(libc::SIGKILL).unwrap();
    }
}
