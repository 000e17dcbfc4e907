//! Telling systemd how we are (sd_notify(3)), if it wants to know.

use std::{
    env, io,
    os::{linux::net::SocketAddrExt, unix::net},
};

/// The service manager that started us, if any.
pub(crate) struct Notifier {
    target: Option<(net::UnixDatagram, net::SocketAddr)>,
    watchdog: bool,
}

impl Notifier {
    /// From `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub(crate) fn from_env() -> Notifier {
        let target = env::var("NOTIFY_SOCKET").ok().and_then(|path| {
            open(&path).inspect_err(|e| tracing::warn!("cannot notify the service manager at {path}: {e}")).ok()
        });
        Notifier { target, watchdog: env::var_os("WATCHDOG_USEC").is_some() }
    }

    /// Tables are written, the socket is there.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\n");
    }

    /// The configuration is being read again; [`Notifier::ready`] follows.
    pub(crate) fn reloading(&self) {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
        let micros = now.map_or(0, |t| t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// The agent is ending.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\n");
    }

    /// The agent's loop turns.
    pub(crate) fn alive(&self) {
        if self.watchdog {
            self.tell("WATCHDOG=1\n");
        }
    }

    fn tell(&self, message: &str) {
        if let Some((socket, address)) = &self.target
            && let Err(e) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::debug!("cannot notify the service manager: {e}");
        }
    }
}

fn open(path: &str) -> io::Result<(net::UnixDatagram, net::SocketAddr)> {
    let address = match path.strip_prefix('@') {
        Some(name) => net::SocketAddr::from_abstract_name(name)?,
        None => net::SocketAddr::from_pathname(path)?,
    };
    Ok((net::UnixDatagram::unbound()?, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_hears_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = net::UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier { target: Some(open(path.to_str().unwrap()).unwrap()), watchdog: true };
        notifier.ready();
        notifier.alive();
        notifier.reloading();
        let mut buffer = [0; 100];
        let mut next = || {
            let n = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        };
        assert_eq!(next(), "READY=1\n");
        assert_eq!(next(), "WATCHDOG=1\n");
        assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    }
}
