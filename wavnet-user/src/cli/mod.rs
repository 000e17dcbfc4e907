//! The command line. docs/cli.md has the commands and exit codes.

mod agent;
mod args;
mod commands;
mod failure;
mod host_args;
mod key;
pub mod logging;
mod mesh_args;
mod nat;
mod nat_args;
mod print;
mod rendezvous;
mod server_args;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod unit_tests;

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory, Parser};

use crate::{api::Request, config::Source, doctor};
use args::{Cli, Command};
use print::Printer;

/// Runs the command that the process was started with. `agent` runs the agent until it ends.
pub fn main(agent: impl FnOnce(Source) -> Result<()>) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() && failure::wants_json(std::env::args_os()) => {
            // As below.
            let _ = std::io::stderr().write_all(failure::usage_json(&e).as_bytes());
            return ExitCode::from(failure::Exit::Usage as u8);
        }
        Err(e) => e.exit(),
    };
    let json = cli.global.json;
    let mut printer = Printer::new(&cli.global);
    match run(cli, &mut printer, agent) {
        Ok(code) => code,
        Err(e) if commands::is_stop(&e) => ExitCode::SUCCESS,
        Err(e) => {
            let text = if json { failure::json(&e) } else { failure::text(&e) };
            // Nothing is left to do if standard error is gone, too.
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(failure::exit(&e) as u8)
        }
    }
}

fn run(cli: Cli, printer: &mut Printer, run_agent: impl FnOnce(Source) -> Result<()>) -> Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Agent(args) => agent::run(global, printer, *args, run_agent)?,
        Command::Status { config } => commands::status(global, printer, config.as_deref())?,
        Command::Peers => commands::ask(global, printer, Request::Peers)?,
        Command::Mesh => commands::ask(global, printer, Request::Mesh)?,
        Command::Ports => commands::ask(global, printer, Request::Ports)?,
        Command::Reload => commands::ask(global, printer, Request::Reload)?,
        Command::Drops { all } => commands::drops(global, printer, all)?,
        Command::Fdb(args) => commands::fdb(global, printer, args)?,
        Command::Port(command) => commands::port(global, printer, command)?,
        Command::Peer(command) => commands::peer(global, printer, command)?,
        Command::Down(args) => commands::down(global, printer, args)?,
        Command::Doctor(args) => {
            let asked = match args.config {
                Some(file) => doctor::Asked::from(&Source::File(file).load_alone()?),
                None => doctor::Asked {
                    underlay: args.underlay,
                    bpffs: args.bpffs,
                    socket: global.socket(),
                    ..doctor::Asked::default()
                },
            };
            let report = doctor::examine(&asked);
            if printer.json {
                printer.value(&report)?
            } else {
                printer.text(&doctor::table(&report, printer.color))?
            }
            return Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Rendezvous(args) => rendezvous::run(global, printer, *args)?,
        Command::Key(command) => key::run(printer, command)?,
        Command::Nat(args) => return nat::run(printer, args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "wavnet", &mut script);
            printer.text(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// True for a command line that makes sense.
#[cfg(test)]
pub(crate) fn parses<'a>(line: impl Iterator<Item = &'a str>) -> bool {
    Cli::try_parse_from(line).is_ok()
}
