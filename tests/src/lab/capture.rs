//! What is on a wire: tcpdump writes it down, tshark takes it apart.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{netns::Netns, poll_until, process::Process, tools};

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// A finished capture.
#[derive(Debug)]
pub struct Pcap(PathBuf);

impl Capture {
    /// Captures what passes an interface and matches a filter in tcpdump's language (empty: everything).
    ///
    /// XDP takes frames before they can be captured: capture at the sender, or on a device without XDP.
    ///
    /// # Errors
    /// tcpdump does not start: what it says.
    pub fn start(netns: &Netns, interface: &str, filter: &str) -> Result<Capture> {
        let name = format!("tcpdump-{interface}");
        let file = netns.log_path(&name).with_extension("pcap");
        let path = file.display().to_string();
        let flags = ["-n", "-U", "-s", "0", "-B", "16384", "--immediate-mode", "-Z", "root"];
        let mut args = [&flags[..], &["-i", interface, "-w", &path]].concat();
        args.extend(filter.split_whitespace());
        let mut process = netns.spawn(&name, "tcpdump", &args)?;
        poll_until("tcpdump to listen", Duration::from_secs(10), || {
            process.still_running()?;
            process.log().contains("listening on").then_some(()).context("it does not listen yet")
        })?;
        Ok(Capture { process, file })
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// tcpdump does not end.
    pub fn stop(mut self) -> Result<Pcap> {
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(Duration::from_secs(10))?;
        Ok(Pcap(self.file.clone()))
    }
}

impl Pcap {
    /// tshark's values of `fields` for the packets that match a display filter. UDP port 4789 is taken for VXLAN. A field
    /// that occurs in outer and inner headers gives the outer one's value.
    ///
    /// # Errors
    /// What tshark says: an unknown field or filter.
    pub fn fields(&self, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
        let mut command = tools::command("tshark");
        command.arg("-r").arg(&self.0).args(["-n", "-d", "udp.port==4789,vxlan"]);
        for protocol in ["ip", "tcp", "udp"] {
            command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
        }
        command.args(["-T", "fields", "-E", "occurrence=f", "-E", "separator=/t", "-Y", filter]);
        for field in fields {
            command.args(["-e", field]);
        }
        let out = tools::output(&mut command)?;
        Ok(out.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }
}
