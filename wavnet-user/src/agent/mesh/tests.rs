//! The mesh's part of the agent, without a datapath.

use std::{fs, net::UdpSocket};

use wavnet_proto::{
    fabric::{Adopted, Fabric},
    rng::Rng,
    trust::SecretKey,
};

use super::*;
use crate::{agent::convert, config::Source, testing::Namespace};

#[test]
fn a_port_that_is_taken_is_no_trouble_where_this_host_is_not_any_more() {
    let Some(ns) = Namespace::new() else { return };
    ns.ip("link set lo up");
    let dir = tempfile::tempdir().unwrap();
    let [file, key, list] = ["wavnet.toml", "host.key", "allow"].map(|name| dir.path().join(name));
    fs::write(&key, SecretKey::generate(&mut Rng::from_seed([1; 32])).to_text().as_bytes()).unwrap();
    fs::write(&list, "").unwrap();
    let mesh = format!("servers = [\"192.0.2.250\"]\nkey = \"{}\"\nallow = \"{}\"\n", key.display(), list.display());
    fs::write(&file, format!("[underlay]\ninterface = \"lo\"\n[mesh]\n{mesh}")).unwrap();
    let config = Source::File(file).load().unwrap();
    let warned = ns.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut overlay = Overlay::open(&config).unwrap().expect("a mesh");
            let mut fabric = Fabric::new(convert::limits(&config.sizes()), &Adopted::default());
            let taken = UdpSocket::bind("127.0.0.1:4789").unwrap();
            let mut warned = Vec::new();
            for local in [Some(Ipv4Addr::LOCALHOST), None, Some(Ipv4Addr::LOCALHOST)] {
                overlay.follow_address(local, 4789, &mut fabric);
                warned.push(overlay.warnings().iter().any(|words| words.contains("cannot be opened")));
            }
            drop(taken);
            overlay.follow_address(None, 4789, &mut fabric);
            overlay.follow_address(Some(Ipv4Addr::LOCALHOST), 4789, &mut fabric);
            warned.push(overlay.sockets.is_none());
            warned
        })
    });
    assert_eq!(warned, [true, false, true, false]);
}
