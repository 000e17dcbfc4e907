//! `wavnet agent`: from flags to a configuration, and into the agent's loop.

use anyhow::{Result, bail};
use serde_json::json;

use super::{
    args::{AgentArgs, Global},
    failure::Usage,
    logging,
    print::Printer,
};
use crate::{
    api::check_group,
    config::{Agent, ConfigError, Fdb, Flags, Log, Metrics, Source},
    output::counted,
};

/// Runs the agent in the foreground.
pub(super) fn run(
    global: &Global,
    printer: &mut Printer,
    args: AgentArgs,
    agent: impl FnOnce(Source) -> Result<()>,
) -> Result<()> {
    let (check, level, format) = (args.check, args.log_level, args.log_format);
    let source = source(global, args)?;
    // Errors are shown before anything is touched, and without the log's prefixes.
    let config = source.load()?;
    if check {
        // What else the start would refuse for what was written down, rather than for the state of the host.
        logging::wanted(config.log.level)?;
        config.agent.socket_group.as_deref().map_or(Ok(()), check_group)?;
        let (vnis, ports, peers) = (config.vnis.len(), config.ports.len(), config.peers.len());
        if printer.json {
            let source = source.to_string();
            let checked = json!({"config": source, "valid": true, "vnis": vnis, "ports": ports, "peers": peers});
            return printer.value(&checked);
        }
        let vnis = counted(vnis as u64, "VNI");
        let (ports, peers) = (counted(ports as u64, "port"), counted(peers as u64, "peer"));
        return printer.text(&format!("{source} is valid: {vnis}, {ports}, {peers}\n"));
    }
    let log = Log { level: level.unwrap_or(config.log.level), format: format.unwrap_or(config.log.format) };
    let _log = logging::init(&log)?;
    agent(source)
}

fn source(global: &Global, args: AgentArgs) -> Result<Source> {
    let Some(underlay) = args.underlay else {
        if global.run_dir.is_some() {
            bail!(Usage("--run-dir does not go with --config: write agent.run_dir into the file".into()));
        }
        return match args.config {
            // Whoever asks for the status stands elsewhere.
            Some(file) => Ok(Source::File(std::path::absolute(&file).unwrap_or(file))),
            None => bail!(Usage("give --config FILE or --underlay INTERFACE".into())),
        };
    };
    let f = args.flags;
    let flags = Flags {
        underlay,
        address: f.address,
        udp_port: f.udp_port,
        hook: f.hook,
        vnis: f.vni,
        ports: f.port,
        peers: f.peer,
        agent: Agent {
            name: f.name,
            bpffs: f.bpffs,
            run_dir: global.run_dir.clone().unwrap_or_else(|| Agent::RUN_DIR.into()),
            ..Agent::default()
        },
        log: Log { level: args.log_level.unwrap_or_default(), format: args.log_format.unwrap_or_default() },
        metrics: Metrics { listen: f.metrics.0, program_run_time: f.program_run_time },
        rendezvous: args.mesh.rendezvous.clone(),
        mesh: args.mesh.settings(),
        fdb: Fdb { buckets: Fdb::buckets_for(f.fdb_entries), ageing: f.ageing },
    };
    Ok(Source::Flags(Box::new(flags.validate().map_err(ConfigError::Invalid)?)))
}
