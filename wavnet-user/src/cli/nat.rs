//! `wavnet nat`: asks, shows how far it is, and prints what it found.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::future::select_all;
use serde_json::json;
use tokio::time::{Instant, interval};

use super::{failure::Usage, nat_args::NatArgs, print::Printer};
use crate::{
    api::model::NatInfo,
    config::{Config, Source},
    nat::{self, Asked, ExitChoice, Family, Session, Told, Unresolved},
    output, random,
};

/// Asks, and prints.
pub(super) fn run(printer: &mut Printer, args: NatArgs) -> Result<ExitCode> {
    let asked = asked(args)?;
    let mut rng = random::generator()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a loop")?;
    runtime.block_on(async {
        let (sessions, unresolved) = nat::open(&asked, &mut rng).await?;
        let lifetime = asked.lifetime;
        let found = Run { printer, unresolved, lifetime, status: StatusLine::new(lifetime) }.all(sessions).await?;
        if printer.json {
            printer.value(&json!({ "nat": found }))?;
        }
        let answered = found.iter().any(|info| info.mapped.is_some());
        Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn asked(args: NatArgs) -> Result<Asked> {
    let config = args.config.as_ref().map(|file| Source::File(file.clone()).load_alone()).transpose()?;
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => Some(Family::V4),
        (_, true) => Some(Family::V6),
        _ => None,
    };
    let mut exit = ExitChoice { listen: args.listen, interface: args.interface, address: None };
    let mut servers = args.server;
    if let Some(config) = &config {
        from_config(config, &mut exit, &mut servers)?;
    }
    if servers.is_empty() {
        bail!(Usage("name a server with --server HOST, or an agent's configuration with --config FILE".into()));
    }
    Ok(Asked { servers, exit, family, lifetime: args.lifetime })
}

/// What the command line does not say.
fn from_config(config: &Config, exit: &mut ExitChoice, servers: &mut Vec<nat::ServerName>) -> Result<()> {
    if *exit == ExitChoice::default() {
        exit.interface = Some(config.underlay.interface.clone());
        exit.address = config.underlay.address;
    }
    if servers.is_empty() {
        let Some(mesh) = &config.mesh else {
            bail!(Usage("the configuration has no [mesh], and so no servers: name one with --server HOST".into()));
        };
        *servers = mesh.servers.iter().map(Into::into).collect();
    }
    Ok(())
}

/// Sessions under way, and how they are shown.
struct Run<'a> {
    printer: &'a mut Printer,
    unresolved: Vec<Unresolved>,
    lifetime: Option<Duration>,
    status: StatusLine,
}

impl Run<'_> {
    /// Runs all sessions to their ends; what they found, in their order.
    async fn all(mut self, mut sessions: Vec<Session>) -> Result<Vec<NatInfo>> {
        let mut found: Vec<Option<NatInfo>> = sessions.iter().map(|_| None).collect();
        let mut running: Vec<usize> = (0..sessions.len()).collect();
        let mut second = interval(Duration::from_secs(1));
        while !running.is_empty() {
            let next = async {
                let under_way = sessions.iter_mut().enumerate().filter(|(n, _)| running.contains(n));
                let nexts = under_way.map(|(n, session)| Box::pin(async move { (n, session.next().await) }));
                select_all(nexts).await.0
            };
            tokio::select! {
                (n, told) = next => {
                    let (Some(session), Some(known)) = (sessions.get(n), found.get_mut(n)) else { break };
                    match told {
                        Told::Report(report) => {
                            let info = session.info(&report, &self.unresolved);
                            self.show(known.as_ref(), &info)?;
                            *known = Some(info);
                        }
                        Told::Finished => {
                            running.retain(|r| *r != n);
                            self.finished(known.as_ref())?;
                        }
                    }
                }
                _ = second.tick() => self.status.show(&sessions, &found),
            }
        }
        self.status.clear();
        Ok(found.into_iter().flatten().collect())
    }

    /// Shows a report: all of it, or what has come to it since the one before.
    fn show(&mut self, before: Option<&NatInfo>, info: &NatInfo) -> Result<()> {
        if self.printer.json {
            return Ok(());
        }
        self.status.clear();
        let text = match before {
            None => output::nat(info, self.lifetime.is_some(), self.printer.color),
            Some(before) => output::nat_lifetime(before, info),
        };
        self.printer.text(&text)
    }

    /// Says so if there was no lifetime to search for.
    fn finished(&mut self, info: Option<&NatInfo>) -> Result<()> {
        let Some(info) = info else { return Ok(()) };
        if self.printer.json || self.lifetime.is_none() || info.lifetime.is_some() {
            return Ok(());
        }
        self.status.clear();
        self.printer.text(&output::nat_no_lifetime(info))
    }
}

/// A line on the terminal, beside standard output, that says what goes on.
struct StatusLine {
    wanted: bool,
    shown: bool,
    started: Instant,
    longest: Option<Duration>,
}

impl StatusLine {
    fn new(longest: Option<Duration>) -> StatusLine {
        let wanted = io::stderr().is_terminal();
        StatusLine { wanted, shown: false, started: Instant::now(), longest }
    }

    fn show(&mut self, sessions: &[Session], found: &[Option<NatInfo>]) {
        if !self.wanted {
            return;
        }
        let seconds = self.started.elapsed().as_secs();
        let told = found.iter().all(Option::is_some);
        let known = sessions.iter().find_map(|session| session.report().lifetime);
        let line = match self.longest.filter(|_| told) {
            None => format!("asking … {}", output::duration(seconds)),
            Some(longest) => output::nat_progress(known, seconds, longest),
        };
        self.write(&format!("\r\x1b[K{line}"));
        self.shown = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.write("\r\x1b[K");
        }
    }

    fn write(&self, text: &str) {
        let mut to = io::stderr();
        // Nobody is helped if this fails the command.
        let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    }
}
