//! `wavnet rendezvous`: from flags to a configuration and into the server; and the commands that ask a running one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{
    args::Global,
    commands,
    failure::{ServerNotRunning, Usage},
    logging,
    print::Printer,
    server_args::{RendezvousArgs, RendezvousCommand, RendezvousFlags},
};
use crate::{
    api::{Client, ClientError, Request, check_group},
    config::{ConfigError, Log, Metrics, NetworkFiles, RendezvousConfig, RendezvousSource, key_files},
    output::counted,
    rendezvous,
};

/// Runs the server in the foreground, or asks one.
pub(super) fn run(global: &Global, printer: &mut Printer, args: RendezvousArgs) -> Result<()> {
    match args.command {
        Some(RendezvousCommand::Status { config }) => ask(global, printer, config.as_deref(), &Request::Rendezvous),
        Some(RendezvousCommand::Reload { config }) => ask(global, printer, config.as_deref(), &Request::Reload),
        None => serve(global, printer, args),
    }
}

fn ask(global: &Global, printer: &mut Printer, config: Option<&Path>, request: &Request) -> Result<()> {
    let socket = match config {
        Some(file) if !global.names_agent() => RendezvousSource::File(file.to_owned()).load()?.socket(),
        _ => socket(global),
    };
    let client = Client::connect(&socket).map_err(|e| match e {
        ClientError::NotRunning(socket) => anyhow::Error::from(ServerNotRunning(socket)),
        e => e.into(),
    });
    commands::show(printer, &client?.call(request)?)
}

/// The socket to talk to.
fn socket(global: &Global) -> PathBuf {
    // A flag beats the environment, from where `socket` may come.
    match (&global.run_dir, &global.socket) {
        (None, Some(socket)) => socket.clone(),
        (Some(dir), _) => dir.join(RendezvousConfig::SOCKET),
        (None, None) => RendezvousConfig::new().socket(),
    }
}

fn serve(global: &Global, printer: &mut Printer, args: RendezvousArgs) -> Result<()> {
    let (check, level, format) = (args.check, args.log_level, args.log_format);
    let source = source(global, args)?;
    // Errors are shown before anything is touched, and without the log's prefixes.
    let config = source.load()?;
    let networks = key_files::of_server(&config)?.networks;
    if check {
        logging::wanted(config.log.level)?;
        config.socket_group.as_deref().map_or(Ok(()), check_group)?;
        if printer.json {
            return printer.value(&json!({"config": source.to_string(), "valid": true, "networks": networks.len()}));
        }
        return printer.text(&format!("{source} is valid: {}\n", counted(networks.len() as u64, "network")));
    }
    let log = Log { level: level.unwrap_or(config.log.level), format: format.unwrap_or(config.log.format) };
    let _log = logging::init(&log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the server's loop")?.block_on(rendezvous::run(source))
}

fn source(global: &Global, args: RendezvousArgs) -> Result<RendezvousSource> {
    if let Some(file) = args.config {
        if global.run_dir.is_some() {
            bail!(Usage("--run-dir does not go with --config: write rendezvous.run_dir into the file".into()));
        }
        // Whoever asks for the status stands elsewhere.
        return Ok(RendezvousSource::File(std::path::absolute(&file).unwrap_or(file)));
    }
    let RendezvousFlags { listen, other_address, other_port, key, access_key, .. } = args.flags;
    let has_network = !access_key.is_empty() || args.flags.allow.is_some();
    let (Some(key), false, true) = (key, listen.is_empty(), has_network) else {
        let say = "give --config FILE, or --listen ADDRESS:PORT, --key FILE and --access-key FILE (or --allow FILE)";
        bail!(Usage(say.into()));
    };
    // They are read again on a reload, wherever the server stands then.
    let absolute = |file: PathBuf| std::path::absolute(&file).unwrap_or(file);
    let (allow, revoked) = (args.flags.allow.map(absolute), args.flags.revoked.map(absolute));
    let network = |access_key| NetworkFiles { access_key, allow: allow.clone(), revoked: revoked.clone() };
    let mut networks: Vec<NetworkFiles> = access_key.into_iter().map(|file| network(Some(absolute(file)))).collect();
    if networks.is_empty() {
        networks.push(network(None));
    }
    let defaults = RendezvousConfig::new();
    let config = RendezvousConfig {
        listen,
        other_address,
        other_port,
        key: absolute(key),
        state_dir: absolute(args.flags.state_dir),
        run_dir: global.run_dir.clone().unwrap_or_else(|| defaults.run_dir.clone()),
        relay: !args.flags.no_relay,
        relay_xdp: args.flags.relay_xdp,
        networks,
        log: Log { level: args.log_level.unwrap_or_default(), format: args.log_format.unwrap_or_default() },
        metrics: Metrics { listen: args.flags.metrics.0, program_run_time: false },
        ..defaults
    };
    Ok(RendezvousSource::Flags(Box::new(config.check_flags().map_err(ConfigError::Invalid)?)))
}
