//! A `wavnet rendezvous` in a namespace, with keys made by `wavnet key`.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use wavnet_proto::trust::AccessKey;
use wavnet_user::api::model::RendezvousStatus;

use crate::lab::{Lab, binary, http, netns::Netns, poll_until, process::Process};

const READY: Duration = Duration::from_secs(20);
const METRICS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9811);

/// What a server is told beside its keys.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The lines of `[rendezvous]` about addresses.
    pub addresses: String,
    /// More lines of `[rendezvous]`.
    pub more: String,
    /// Further tables.
    pub tables: String,
}

impl Default for Shape {
    fn default() -> Shape {
        let addresses = "listen = [\"127.0.0.1:4789\"]\nother_port = 4790\n".to_owned();
        Shape { addresses, more: String::new(), tables: String::new() }
    }
}

/// A server, its keys and its directories.
#[derive(Debug)]
pub struct Server {
    ns: Netns,
    bin: PathBuf,
    dir: PathBuf,
    process: Option<Process>,
}

impl Server {
    /// Makes keys and a configuration, but starts nothing.
    ///
    /// # Errors
    /// The keys cannot be made.
    pub fn prepare(lab: &Lab, ns: &Netns, shape: &Shape) -> Result<Server> {
        let dir = lab.path(&format!("{}.rendezvous", ns.short_name()));
        fs::create_dir_all(&dir)?;
        let server = Server { ns: ns.clone(), bin: binary::usable()?, dir, process: None };
        for words in ["generate server.key", "network network.key", "access network.key network.access"] {
            let files = words.split(' ').enumerate();
            let words: Vec<String> =
                files.map(|(n, word)| if n == 0 { word.to_owned() } else { server.path(word) }).collect();
            let args = ["key"].into_iter().chain(words.iter().map(String::as_str)).collect::<Vec<_>>();
            let out = server.wavnet(&args)?;
            ensure!(out.status.success(), "wavnet {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
        fs::write(server.path("allow"), "")?;
        fs::write(server.path("revoked"), "")?;
        server.configure(shape)?;
        Ok(server)
    }

    /// The same, started.
    ///
    /// # Errors
    /// It does not start: its log.
    pub fn start(lab: &Lab, ns: &Netns, shape: &Shape) -> Result<Server> {
        let mut server = Server::prepare(lab, ns, shape)?;
        server.launch()?;
        Ok(server)
    }

    /// Writes the configuration.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, shape: &Shape) -> Result<()> {
        let file = |name: &str| self.path(name);
        let Shape { addresses, more, tables } = shape;
        let text = format!(
            "[rendezvous]\n{addresses}{more}key = \"{}\"\nstate_dir = \"{}\"\nrun_dir = \"{}\"\n\n[[network]]\naccess_key = \
             \"{}\"\nrevoked = \"{}\"\n\n{tables}",
            file("server.key"),
            file("state"),
            file("run"),
            file("network.access"),
            file("revoked")
        );
        Ok(fs::write(self.path("rendezvous.toml"), text)?)
    }

    /// Starts the process and waits until it answers.
    ///
    /// # Errors
    /// It ends, or does not answer: its log.
    pub fn launch(&mut self) -> Result<()> {
        self.launch_by(&[])
    }

    /// The same by a program that changes something for it, such as `setpriv`, with its arguments.
    ///
    /// # Errors
    /// As [`Server::launch`].
    pub fn launch_by(&mut self, prefix: &[&str]) -> Result<()> {
        let (bin, file) = (self.bin.display().to_string(), self.path("rendezvous.toml"));
        let words = [prefix, &[&bin, "rendezvous", "--config", &file]].concat();
        self.process = Some(self.ns.spawn("rendezvous", words[0], &words[1..])?);
        let ended = poll_until("the rendezvous server to answer", READY, || {
            if let Some(Err(ended)) = self.process.as_mut().map(Process::still_running) {
                // To wait longer is of no use.
                return Ok(Some(ended));
            }
            let pid = self.status()?.pid;
            ensure!(Some(pid) == self.process.as_ref().map(Process::pid), "process {pid} answers");
            Ok(None)
        })?;
        ended.map_or(Ok(()), Err)
    }

    /// A file of the server's.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Runs `wavnet` in the server's namespace.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn wavnet(&self, args: &[&str]) -> Result<Output> {
        self.ns.command(&self.bin).args(args).output().context("starting wavnet")
    }

    /// How it is.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<RendezvousStatus> {
        let out = self.wavnet(&["rendezvous", "status", "--json", "--config", &self.path("rendezvous.toml")])?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let value: serde_json::Value = serde_json::from_slice(&out.stdout)?;
        Ok(serde_json::from_value(value["rendezvous"].clone())?)
    }

    /// Its metrics.
    ///
    /// # Errors
    /// No answer.
    pub fn metrics(&self) -> Result<String> {
        Ok(String::from_utf8(http::get(&self.ns, METRICS, "/metrics")?)?)
    }

    /// Has it read its files again; what it says.
    ///
    /// # Errors
    /// It refuses.
    pub fn reload(&self) -> Result<String> {
        let out = self.wavnet(&["rendezvous", "reload", "--config", &self.path("rendezvous.toml")])?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8(out.stdout)?)
    }

    /// The network's access key.
    ///
    /// # Errors
    /// The file is no key.
    pub fn access(&self) -> Result<AccessKey> {
        Ok(fs::read_to_string(self.path("network.access"))?.parse()?)
    }

    /// Its namespace.
    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    /// Its process.
    ///
    /// # Errors
    /// It was not started.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("it was not started")
    }

    /// Ends it as a service manager does, and waits.
    ///
    /// # Errors
    /// It fails, or does not end.
    pub fn stop(&mut self) -> Result<()> {
        let process = self.process()?;
        process.signal(Signal::SIGTERM)?;
        let status = process.wait(READY)?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}
