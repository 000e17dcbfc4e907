//! `wavnet rendezvous` as a process: STUN, hosts over real sockets, status and metrics, restart, bad files, and what it costs.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use wavnet_proto::wire::{Label, Message, message::ByeReason, opener};
use wavnet_tests::{
    lab::{
        self, Lab, Need,
        agent::{promtool_check, sum_of},
        netns::Netns,
        poll_until, tools,
        udp::Udp,
        wait_until,
    },
    rendezvous::{Host, Server, Shape, ask, register, resident},
};

const SOON: Duration = Duration::from_secs(20);

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A namespace with IPv6 and two addresses of each family, all on loopback.
fn namespace(lab: &Lab) -> Result<Netns> {
    let ns = lab.netns("server")?;
    ns.sysctl("net/ipv6/conf/all/disable_ipv6", "0")?;
    ns.sysctl("net/ipv6/conf/lo/disable_ipv6", "0")?;
    for address in ["192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128", "2001:db8::2/128"] {
        ns.ip(&format!("addr add {address} dev lo"))?;
    }
    Ok(ns)
}

fn both_families() -> Shape {
    let addresses = "listen = [\"192.0.2.1:4789\", \"[2001:db8::1]:4789\"]\nother_address = [\"192.0.2.2\", \"2001:db8::2\"]\n\
                     other_port = 4790\n";
    Shape { addresses: addresses.into(), ..Shape::default() }
}

#[test]
fn stun_is_answered_in_both_families_at_each_address() {
    lab::run("stun_is_answered_in_both_families_at_each_address", &[Need::Wavnet], |lab| {
        let ns = namespace(lab)?;
        let server = Server::start(lab, &ns, &both_families())?;
        for (from, [first, second]) in
            [("192.0.2.1:5000", ["192.0.2.1", "192.0.2.2"]), ("[2001:db8::1]:5000", ["[2001:db8::1]", "[2001:db8::2]"])]
        {
            for (at, other) in [(first, second), (second, first)] {
                for (port, other_port) in [(4789, 4790), (4790, 4789)] {
                    let asked = addr(&format!("{at}:{port}"));
                    let (mapped, origin, opposite) = ask(&ns, addr(from), asked)?;
                    assert_eq!((mapped, origin), (addr(from), Some(asked)));
                    assert_eq!(opposite, Some(addr(&format!("{other}:{other_port}"))), "asked at {asked}");
                }
            }
        }
        assert_eq!(server.status()?.counters.stun_answered, 8);
        Ok(())
    });
}

#[test]
fn a_server_at_all_addresses_answers_from_the_one_that_was_asked() {
    lab::run("a_server_at_all_addresses_answers_from_the_one_that_was_asked", &[Need::Wavnet], |lab| {
        let ns = namespace(lab)?;
        let addresses = "listen = [\"0.0.0.0:4789\", \"[::]:4789\"]\n".into();
        let server = Server::start(lab, &ns, &Shape { addresses, ..Shape::default() })?;
        for at in ["192.0.2.1:4789", "192.0.2.2:4789", "127.0.0.1:4789", "[2001:db8::2]:4789", "[::1]:4789"] {
            let from = if at.starts_with('[') { "[::1]:5000" } else { "127.0.0.1:5000" };
            // `ask` wants the answer to come from there.
            let (mapped, origin, other) = ask(&ns, addr(from), addr(at))?;
            assert_eq!((mapped, origin, other), (addr(from), Some(addr(at)), None));
        }
        assert!(server.status()?.warnings.iter().any(|w| w.contains("other_port")));
        Ok(())
    });
}

#[test]
fn an_independent_client_finds_no_nat() {
    lab::run("an_independent_client_finds_no_nat", &[Need::Wavnet, Need::Tool("stun")], |lab| {
        let ns = namespace(lab)?;
        let _server = Server::start(lab, &ns, &both_families())?;
        // stun-client's exit status says what it found.
        let out = ns.command("stun").args(["192.0.2.1:4789", "-v"]).output()?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        ensure!(said.contains("Primary: Open"), "{said}");
        Ok(())
    });
}

#[test]
fn stun_that_is_no_request_is_ignored_and_the_log_says_so_once() {
    lab::run("stun_that_is_no_request_is_ignored_and_the_log_says_so_once", &[Need::Wavnet], |lab| {
        let ns = namespace(lab)?;
        let mut server = Server::start(lab, &ns, &both_families())?;
        let socket = Udp::bind(&ns, Ipv4Addr::new(192, 0, 2, 2), 6000)?;
        let answer = [&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        let too_short = [&[0, 1, 0, 40, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        for sent in [2.0, 4.0, 6.0] {
            for wrong in [&answer, &too_short] {
                socket.send_bytes(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 4789), wrong)?;
            }
            poll_until("them to be counted and told of", SOON, || {
                let page = server.metrics()?;
                let ignored = sum_of(&page, "wavnet_rendezvous_stun_total", &["result=\"ignored\""]);
                ensure!(ignored == Some(sent), "{ignored:?}");
                let log = server.process()?.log();
                ensure!(log.matches("STUN that is no request, or a wrong one").count() == 1, "{log}");
                Ok(())
            })?;
        }
        assert_eq!(server.status()?.counters.stun_answered, 0);
        Ok(())
    });
}

/// Two hosts in both families meet and are relayed; status and metrics tell of it.
#[test]
fn hosts_meet_and_are_relayed_and_it_is_told() {
    let needs = [Need::Wavnet, Need::Tool("promtool")];
    lab::run("hosts_meet_and_are_relayed_and_it_is_told", &needs, |lab| {
        let ns = namespace(lab)?;
        let mut server = Server::start(lab, &ns, &both_families())?;
        promtool_check(lab, &server.metrics()?)?;
        let mut a = Host::new(&ns, addr("192.0.2.2:6000"), addr("192.0.2.1:4789"), server.access()?, 1)?;
        let mut b = Host::new(&ns, addr("[2001:db8::2]:6000"), addr("[2001:db8::1]:4789"), server.access()?, 2)?;
        for (host, name) in [(&mut a, "a"), (&mut b, "b")] {
            host.connect()?;
            let mapped = host.register(name, &[7])?;
            assert_eq!(mapped, host.socket.local_addr()?);
        }
        let (to_b, to_a) = (b.client.key(), a.client.key());
        let label = |peer| {
            move |m: &Message| if let Message::Invite(i) = m { (i.peer == peer).then_some(i.label) } else { None }
        };
        let connect = a.client.connect(to_b, &[]);
        let mine = a.ask(&[connect], label(to_b))?;
        let connect = b.client.connect(to_a, &[]);
        let its = b.ask(&[connect], label(to_a))?;
        let framed = |label: Label| {
            let [x, y, z] = label.to_bytes();
            [&[8, x, y, z][..], &[9; 100]].concat()
        };
        a.socket.send(&framed(mine))?;
        let mut buffer = [0; 2000];
        let frame = loop {
            let len = b.socket.recv(&mut buffer).context("nothing was relayed")?;
            if buffer[0] == 8 {
                break buffer[..len].to_vec();
            }
        };
        assert_eq!(frame, framed(its));
        let status = server.status()?;
        assert_eq!((status.networks[0].hosts, status.networks[0].connected, status.relays), (2, 2, 1));
        assert_eq!((status.counters.relay_frames, status.counters.relay_bytes), (1, 104));
        let metrics = server.metrics()?;
        promtool_check(lab, &metrics)?;
        let id = format!("network=\"{}\"", status.networks[0].id);
        assert_eq!(sum_of(&metrics, "wavnet_rendezvous_hosts", &[&id]), Some(2.0));
        assert_eq!(sum_of(&metrics, "wavnet_rendezvous_done_total", &["what=\"handshake\""]), Some(2.0));
        assert_eq!(sum_of(&metrics, "wavnet_rendezvous_relay_frames_total", &["by=\"user\""]), Some(1.0));
        // Revoked while it talks: out at once.
        fs::write(server.path("revoked"), format!("{} # b\n", b.client.key()))?;
        server.reload()?;
        wait_until("b to be told", SOON, || {
            let heard = b.hear()?;
            let is_bye = |m: &Message| matches!(m, Message::Bye { reason } if *reason == ByeReason::NOT_ALLOWED);
            Ok(heard.is_some_and(|heard| heard.messages.iter().any(is_bye)))
        })?;
        assert_eq!(server.status()?.networks[0].hosts, 1);
        // A list with an error changes nothing.
        fs::write(server.path("revoked"), "nonsense\n")?;
        let refused = server.reload().unwrap_err().to_string();
        assert!(refused.contains("revoked:1: "), "{refused}");
        assert_eq!(server.status()?.networks[0].hosts, 1);
        server.stop()
    });
}

#[test]
fn a_killed_server_knows_its_hosts_again() {
    lab::run("a_killed_server_knows_its_hosts_again", &[Need::Wavnet], |lab| {
        let ns = namespace(lab)?;
        let mut server = Server::start(lab, &ns, &both_families())?;
        let access = server.access()?;
        let mut hosts = Vec::new();
        for n in 0..3u16 {
            let at = SocketAddr::new(addr("192.0.2.2:0").ip(), 6000 + n);
            let mut host = Host::new(&ns, at, addr("192.0.2.1:4789"), access.clone(), n.into())?;
            host.connect()?;
            host.register(&n.to_string(), &[7])?;
            hosts.push(host);
        }
        let (a, b) = (hosts[0].client.key(), hosts[1].client.key());
        let label = |peer| {
            move |m: &Message| if let Message::Invite(i) = m { (i.peer == peer).then_some(i.label) } else { None }
        };
        let connect = hosts[0].client.connect(b, &[]);
        let before = hosts[0].ask(&[connect], label(b))?;
        // What is kept is written a moment later.
        let file = server.path("state/rendezvous.redb");
        wait_until("three hosts and a pair to be on the disk", SOON, || {
            let copy = lab.path("copy");
            fs::create_dir_all(&copy)?;
            fs::copy(&file, copy.join("rendezvous.redb"))?;
            let saved = wavnet_user::rendezvous::FileStore::open(&copy).and_then(|mut store| {
                use wavnet_user::rendezvous::Store;
                store.load()
            });
            Ok(saved.is_ok_and(|saved| (saved.hosts.len(), saved.relays.len()) == (3, 1)))
        })?;
        server.process()?.kill();
        server.launch()?;
        let status = server.status()?;
        assert_eq!((status.start, status.networks[0].hosts, status.networks[0].connected, status.relays), (2, 3, 0, 1));
        // A host learns by its pulse that its session is gone.
        hosts[0].socket.send(&[1, 2])?;
        wait_until("UNKNOWN", SOON, || Ok(hosts[0].hear()?.is_some_and(|heard| heard.unknown.is_some())))?;
        for host in &mut hosts[..2] {
            host.connect()?;
            host.register("back", &[7])?;
        }
        let connect = hosts[1].client.connect(a, &[]);
        hosts[1].ask(&[connect], label(a))?;
        let connect = hosts[0].client.connect(b, &[]);
        assert_eq!(hosts[0].ask(&[connect], label(b))?, before, "the label that it had");
        server.stop()
    });
}

#[test]
fn what_stands_in_the_way_is_told() {
    lab::run("what_stands_in_the_way_is_told", &[Need::Wavnet], |lab| {
        let ns = namespace(lab)?;
        let mut server = Server::start(lab, &ns, &both_families())?;
        let (key, access) = (server.path("server.key"), server.path("network.access"));
        let fails = |more: &[&str], code: i32, say: &str| {
            let run = lab.path("other.run").display().to_string();
            let state = lab.path("other.state").display().to_string();
            let mut args = vec!["rendezvous", "--run-dir", &run, "--metrics", "off"];
            if !more.contains(&"--state-dir") {
                args.extend(["--state-dir", &state]);
            }
            args.extend(more);
            let out = server.wavnet(&args)?;
            let said = String::from_utf8_lossy(&out.stderr);
            ensure!(out.status.code() == Some(code) && said.contains(say), "{args:?}: {}: {said}", out.status);
            Ok(())
        };
        let network = server.path("network.key");
        let listen = ["--listen", "192.0.2.2:5789"];
        let ours = |key: &str, access: &str, listen: &[&str]| {
            let words = [&["--key", key, "--access-key", access][..], listen].concat();
            words.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let state = server.path("state");
        for (words, more, code, say) in [
            (ours(&key, &access, &["--listen", "192.0.2.1:4789"]), &[][..], 1, "UDP port 4789 of 192.0.2.1 is in use"),
            (
                ours(&key, &access, &["--listen", "198.51.100.1:4789"]),
                &[],
                1,
                "198.51.100.1 is not an address of this host",
            ),
            (ours(&key, &access, &listen), &["--state-dir", &state], 1, "is in use: another rendezvous server has it"),
            (ours(&network, &access, &listen), &[], 4, "this is a network key"),
            (ours(&key, &key, &listen), &[], 4, "an access key is wanted"),
            (ours("/nonexistent", &access, &listen), &[], 4, "cannot read the secret key /nonexistent"),
            (ours(&key, &access, &listen), &["--other-port", "5789"], 4, "port 5789 is the server's own"),
            (ours(&key, &access, &listen), &["--allow", "/nonexistent"], 4, "the list of identities"),
        ] {
            let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
            fails(&words, code, say)?;
        }
        server.stop()?;
        // A state file that is none: it says what to do, and starts when that is done.
        let file = server.path("state/rendezvous.redb");
        fs::write(&file, vec![b'x'; 5000])?;
        let failed = format!("{:#}", server.launch().unwrap_err());
        assert!(failed.contains("is damaged, or no state") && failed.contains("move the file away"), "{failed}");
        fs::remove_file(&file)?;
        server.launch()?;
        let out = tools::output(ns.command("ls").args(["-l", &server.path("server.key")]))?;
        assert!(out.starts_with("-rw-------"), "{out}");
        Ok(())
    });
}

#[test]
fn nobody_without_a_key_gets_an_answer_and_datagrams_of_all_lengths_do_no_harm() {
    lab::run("nobody_without_a_key_gets_an_answer_and_datagrams_of_all_lengths_do_no_harm", &[Need::Wavnet], |lab| {
        let ns = namespace(lab)?;
        let mut server = Server::start(lab, &ns, &both_families())?;
        let other = wavnet_proto::rendezvous::testing::access(9);
        let mut stranger = Host::new(&ns, addr("192.0.2.2:6000"), addr("192.0.2.1:4789"), other, 1)?;
        let hello = stranger.client.hello();
        stranger.socket.send(&hello)?;
        for len in (0..hello.len()).chain([2000, 2048, 2049, 60_000]) {
            let payload: Vec<u8> = hello.iter().copied().cycle().take(len).collect();
            stranger.socket.send(&payload)?;
        }
        stranger.socket.send(&opener(Label::ZERO, [1; 8]))?;
        wait_until("all to be counted", SOON, || {
            let metrics = server.metrics()?;
            let dropped = sum_of(&metrics, "wavnet_rendezvous_drops_total", &[]).unwrap_or(0.0);
            let too_long = sum_of(&metrics, "wavnet_rendezvous_drops_total", &["reason=\"too_long\""]);
            Ok(dropped >= 124.0 && too_long == Some(2.0))
        })?;
        // To two bytes, which look like a pulse, UNKNOWN of ten.
        let mut buffer = [0; 100];
        assert_eq!(stranger.socket.recv(&mut buffer)?, 10);
        assert!(stranger.socket.recv(&mut buffer).is_err());
        server.process()?.still_running()
    });
}

/// The budget of the server's process.
#[test]
fn ten_thousand_hosts_fit_into_200_mib() {
    lab::run("ten_thousand_hosts_fit_into_200_mib", &[Need::Wavnet], |lab| {
        let ns = lab.netns("server")?;
        let mut server = Server::start(lab, &ns, &Shape::default())?;
        let hosts = register(&server, addr("127.0.0.1:4789"), 10_000)?;
        let status = server.status()?;
        assert_eq!((status.networks[0].hosts, status.networks[0].connected), (10_000, 10_000));
        let bytes = resident(server.process()?.pid())?;
        println!("{} MiB with {} hosts", bytes >> 20, hosts.len());
        assert!(bytes <= 200 << 20, "{bytes} bytes");
        Ok(())
    });
}
