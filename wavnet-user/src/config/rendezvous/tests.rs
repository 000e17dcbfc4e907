use super::*;

const EXAMPLE: &str = include_str!("../../../../docs/wavnet-rendezvous.example.toml");

fn wrong(text: &str) -> String {
    RendezvousConfig::parse(text, "r.toml").unwrap_err().to_string()
}

#[test]
fn the_example_is_valid_and_says_the_defaults() {
    let config = RendezvousConfig::parse(EXAMPLE, "example").unwrap();
    let plain = RendezvousConfig::parse(
        "[rendezvous]\nlisten = [\"192.0.2.1:4789\", \"[2001:db8::1]:4789\"]\nkey = \"/etc/wavnet/rendezvous.key\"\n\
         other_address = [\"192.0.2.2\"]\nother_port = 4790\n\
         [[network]]\naccess_key = \"/etc/wavnet/network.access\"\n",
        "plain",
    );
    let shown = RendezvousConfig { networks: vec![], threads: 2, ..config };
    assert_eq!(shown, RendezvousConfig { networks: vec![], threads: 2, ..plain.unwrap() });
}

#[test]
fn errors_say_where_and_what_to_do() {
    for (text, say) in [
        ("", "the table [rendezvous] is missing"),
        ("[rendezvous]\nkey = \"/k\"\n", "the server listens nowhere"),
        ("[rendezvous]\nlisten = [\"0.0.0.0:4789\"]\n", "the key `key` is missing"),
        ("[rendezvous]\nlisten = [\"0.0.0.0:4789\"]\nkey = \"/k\"\n", "the server serves no network"),
        ("[rendezvous]\nlisten = [\"here\"]\n", "write an address and port"),
        ("[rendezvous]\nlisten = [\"192.0.2.1:1\", \"192.0.2.2:1\"]\n", "a second address of its family"),
        (
            "[rendezvous]\nlisten = [\"0.0.0.0:1\"]\nother_address = [\"192.0.2.2\"]\nother_port = 2\n",
            "cannot be the first",
        ),
        ("[rendezvous]\nlisten = [\"192.0.2.1:1\"]\nother_address = [\"192.0.2.2\"]\n", "needs a second port"),
        ("[rendezvous]\nlisten = [\"192.0.2.1:1\"]\nother_port = 1\n", "port 1 is the server's own: in line 2"),
        (
            "[rendezvous]\nlisten = [\"192.0.2.1:1\"]\nother_address = [\"192.0.2.2\", \"192.0.2.3\"]\nother_port = 2\n",
            "192.0.2.3 is a second one of its family, the first is in line 3",
        ),
        (
            "[rendezvous]\nlisten = [\"192.0.2.1:1\"]\nother_address = [\"::2\"]\nother_port = 2\n",
            "no address of the family",
        ),
        ("[[network]]\nrevoked = \"/r\"\n", "nothing says who belongs to this network"),
        ("[rendezvous]\nliste = []\n", "did you mean `listen`?"),
        ("[rendezvous]\nlease = \"1s\"\n", "from 30s to 12h"),
        ("[rendezvous]\nrelay_xdp = \"a/b\"\n", "interface"),
    ] {
        let said = wrong(text);
        assert!(said.contains(say), "{text}\n{said}");
    }
}

#[test]
fn zero_answers_to_a_source_are_no_limit() {
    let limit = |text: &str| {
        let text = EXAMPLE.replace("stun_per_second_of_source = 1000\n", text);
        RendezvousConfig::parse(&text, "r.toml").map(|config| config.limits.stun_of_source.map(NonZeroU32::get))
    };
    assert_eq!(limit(""), Ok(Some(1000)), "the default");
    assert_eq!(limit("stun_per_second_of_source = 5\n"), Ok(Some(5)));
    assert_eq!(limit("stun_per_second_of_source = 0\n"), Ok(None));
    let said = limit("stun_per_second_of_source = 1000001\n").unwrap_err().to_string();
    assert!(said.contains("from 0 to 1000000"), "{said}");
}

#[test]
fn what_needs_a_restart_is_named() {
    let old = RendezvousConfig::parse(EXAMPLE, "example").unwrap();
    let relay_xdp = RelayXdp::Interface("eth1".into());
    let threads = old.threads + 1;
    let new = RendezvousConfig { other_port: None, relay: false, relay_xdp, threads, ..old.clone() };
    assert_eq!(old.needs_restart(&new), ["other_port", "relay_xdp", "threads"]);
    assert!(old.needs_restart(&old).is_empty());
}

#[test]
fn a_relay_that_is_switched_on_is_not_the_kernels_before_a_restart() {
    let on = RendezvousConfig::parse(EXAMPLE, "example").unwrap();
    let off = RendezvousConfig { relay: false, ..on.clone() };
    assert!(on.relay && off.relays_without_kernel(&on));
    assert!(!on.relays_without_kernel(&off) && !on.relays_without_kernel(&on));
    let never = RendezvousConfig { relay_xdp: RelayXdp::Off, ..off };
    assert!(!never.relays_without_kernel(&on), "nobody wants the kernel to");
}

#[test]
fn flags_are_checked_as_well() {
    let mut config = RendezvousConfig::new();
    config.listen = vec!["192.0.2.1:4789".parse().unwrap()];
    config.other_port = Some(4789);
    let said = config.check_flags().unwrap_err().to_string();
    assert!(said.contains("--other-port 4789"), "{said}");
}
