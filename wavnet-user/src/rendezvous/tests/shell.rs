//! The server's own loop: its threads, and reloads of its files.

use std::{
    fs::{self, Permissions},
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
};

use wavnet_proto::{
    rng::Rng,
    trust::{NetworkKey, SecretKey},
};

use super::{super::*, wait_for};

/// A server at a port that was free a moment ago; it relays by itself.
struct World {
    dir: tempfile::TempDir,
    shell: Shell,
    at: std::net::SocketAddr,
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let at = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = |name: &str| dir.path().join(name);
        let secret = SecretKey::generate(&mut Rng::from_seed([1; 32]));
        write(&file("server.key"), &secret.to_text(), 0o600);
        let network = NetworkKey::generate(&mut Rng::from_seed([2; 32]));
        write(&file("network.access"), &network.access().to_text(), 0o600);
        let text = format!(
            "[rendezvous]\nlisten = [\"{at}\"]\nrelay = false\nthreads = 2\nkey = {:?}\nstate_dir = {:?}\n[[network]]\naccess_key = {:?}\n",
            file("server.key"),
            file("state"),
            file("network.access")
        );
        write(&file("rendezvous.toml"), &text, 0o644);
        let source = RendezvousSource::File(file("rendezvous.toml"));
        let shell = Shell::start(source.clone(), source.load().unwrap(), None).unwrap();
        World { dir, shell, at }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What `status` warns of.
    fn warnings(&self) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let shown = runtime.block_on(self.shell.shown()).unwrap();
        self.shell.warnings(&shown)
    }
}

#[test]
fn a_receiver_that_ends_is_noticed() {
    let mut world = World::new();
    assert_eq!((world.shell.receivers.len(), world.shell.ended()), (2, None));
    world.shell.receivers.push(thread::spawn(|| {}));
    wait_for("the end of a thread", || world.shell.ended() == Some("receiver"));
    world.shell.receivers.pop();
    assert_eq!(world.shell.ended(), None);
    // These are the threads that receive: without a core they end.
    core::order(&world.shell.orders, &world.shell.wake, Order::Stop);
    wait_for("the end of the core", || world.shell.ended() == Some("core"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    wait_for("the end of a receiver", || {
        socket.send_to(&[9; 30], world.at).unwrap();
        world.shell.receivers.iter().any(JoinHandle::is_finished)
    });
}

#[test]
fn key_files_that_others_may_use_are_told_until_that_is_mended() {
    let mut world = World::new();
    let said =
        |warnings: &[String], name: &str| warnings.iter().any(|w| w.contains(name) && w.contains("open to other"));
    let told = |world: &World| ["server.key", "network.access"].map(|name| said(&world.warnings(), name));
    assert_eq!(told(&world), [false, false]);
    for name in ["server.key", "network.access"] {
        fs::set_permissions(world.file(name), Permissions::from_mode(0o644)).unwrap();
    }
    let done = world.shell.reload().unwrap();
    assert!(said(&done.warnings, "server.key") && said(&done.warnings, "network.access"), "{done:?}");
    assert_eq!(told(&world), [true, true]);
    fs::set_permissions(world.file("server.key"), Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(world.file("network.access"), Permissions::from_mode(0o600)).unwrap();
    let done = world.shell.reload().unwrap();
    assert!(done.warnings.is_empty(), "{done:?}");
    assert_eq!(told(&world), [false, false]);
    world.shell.stop().unwrap();
}

/// As two servers with one key are told to do.
#[test]
fn another_key_under_the_same_name_is_told_by_each_reload() {
    let mut world = World::new();
    assert!(world.shell.reload().unwrap().warnings.is_empty());
    let key = world.file("server.key");
    fs::write(&key, SecretKey::generate(&mut Rng::from_seed([3; 32])).to_text().as_bytes()).unwrap();
    for _ in 0..2 {
        let done = world.shell.reload().unwrap();
        assert_eq!(done.warnings, ["key has changed: a restart of the server is needed"]);
    }
    fs::write(&key, "no key").unwrap();
    let refusal = world.shell.reload().unwrap_err();
    assert!(refusal.message.contains("server.key") && refusal.help.is_some(), "{refusal:?}");
    world.shell.stop().unwrap();
}
