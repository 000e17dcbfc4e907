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
    agent::mesh::settings,
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
        settings::read(&config)?;
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::Parser;
    use wavnet_proto::{
        rng::Rng,
        trust::{NetworkKey, SecretKey},
    };

    use super::{
        super::{
            args::{Cli, Command},
            failure,
        },
        *,
    };

    const EXAMPLE: &str = include_str!("../../../docs/wavnet.example.toml");

    fn check(file: &Path) -> Result<()> {
        let cli = Cli::try_parse_from(["wavnet", "agent", "--check", "--config", file.to_str().unwrap()])?;
        let Command::Agent(args) = cli.command else { panic!() };
        run(&cli.global, &mut Printer::to(&cli.global, std::io::sink()), *args, |_| panic!("it is only checked"))
    }

    #[test]
    fn check_takes_the_example_when_its_files_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let ours = format!("\"{}/", dir.path().display());
        let example = EXAMPLE.replace("\"/etc/wavnet/", &ours).replace("# key = ", "key = ");
        fs::write(file("wavnet.toml"), example).unwrap();
        assert!(check(&file("wavnet.toml")).is_err());
        let mut rng = Rng::from_seed([1; 32]);
        fs::write(file("host.key"), SecretKey::generate(&mut rng).to_text().as_bytes()).unwrap();
        fs::write(file("network.key"), NetworkKey::generate(&mut rng).to_text().as_bytes()).unwrap();
        fs::write(file("allow"), "").unwrap();
        fs::write(file("revoked"), "").unwrap();
        check(&file("wavnet.toml")).unwrap();
    }

    #[test]
    fn check_reads_the_files_of_keys_and_lists_as_the_start_does() {
        let dir = tempfile::tempdir().unwrap();
        let [file, key, list] = ["wavnet.toml", "host.key", "allow"].map(|name| dir.path().join(name));
        let mesh = format!("[mesh]\nservers = [\"192.0.2.250\"]\nkey = {key:?}\nallow = {list:?}\n");
        fs::write(&file, format!("[underlay]\ninterface = \"eth1\"\n{mesh}")).unwrap();
        let refused = |begins: &str| {
            let e = check(&file).unwrap_err();
            let text = failure::text(&e);
            assert!(text.starts_with(begins), "{text}");
            assert_eq!((failure::exit(&e), text.matches("wavnet key").count()), (failure::Exit::Refused, 1), "{text}");
            assert_eq!(text.matches("help: ").count(), 1, "{text}");
        };
        fs::write(&list, "").unwrap();
        refused(&format!("error: cannot read the secret key {}\n  because: ", key.display()));
        fs::write(&key, SecretKey::generate(&mut Rng::from_seed([1; 32])).to_text().as_bytes()).unwrap();
        fs::write(&list, "# nobody\nnonsense\n").unwrap();
        refused(&format!("error: {}:2: ", list.display()));
        fs::write(&list, "").unwrap();
        check(&file).unwrap();
    }
}
