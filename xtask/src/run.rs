//! Running our own binaries with the rights they need.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Error, Result, ensure};

use crate::{cli::Bench, compile, process, setup, workspace::Workspace};

/// `cargo xtask run`: the demonstration.
pub(crate) fn demonstration(workspace: &Workspace, once: bool) -> Result<ExitCode> {
    setup::ensure(workspace)?;
    compile::binaries(workspace, &["wavnet", "wavnet-demo"])?;
    let mut command = demonstration_command(workspace, true)?;
    if once {
        command.arg("--once");
    }
    become_it(command)
}

/// A command that runs the demonstration elevated, which is built.
pub(crate) fn demonstration_command(workspace: &Workspace, release: bool) -> Result<Command> {
    let mut command = elevated(workspace, "wavnet-demo", release)?;
    command.arg("--wavnet").arg(workspace.binary("wavnet", release));
    Ok(command)
}

/// `cargo xtask run -- ARGS`: wavnet itself.
pub(crate) fn wavnet(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    setup::ensure_ebpf(workspace)?;
    compile::binaries(workspace, &["wavnet"])?;
    let mut command = elevated(workspace, "wavnet", true)?;
    command.args(args);
    become_it(command)
}

/// `cargo xtask bench`.
pub(crate) fn bench(workspace: &Workspace, bench: &Bench) -> Result<ExitCode> {
    if let Some(results) = &bench.redraw {
        return redraw(workspace, results, bench.plots.as_deref());
    }
    setup::ensure(workspace)?;
    match bench.cases.as_slice() {
        [case] if case == RENDEZVOUS => return bench_rendezvous(workspace, bench),
        [case] if case == NAT => return bench_nat(workspace, bench),
        [case] if case == WAN => return bench_lab(workspace, bench, "wavnet-bench-wan"),
        [case] if case == MESH => return bench_lab(workspace, bench, "wavnet-bench-mesh"),
        _ => {}
    }
    compile::binaries(workspace, &["wavnet", "wavnet-bench"])?;
    let arguments = arguments(bench);
    // As who we are, and before anything is touched: a name that is none is told by the program that knows them.
    let binary = workspace.binary("wavnet-bench", true);
    let check = Command::new(&binary).arg("--check").args(&arguments).status();
    if !check.with_context(|| format!("cannot start {}", binary.display()))?.success() {
        return Ok(ExitCode::from(2));
    }
    let mut command = elevated(workspace, "wavnet-bench", true)?;
    command.arg("--wavnet").arg(workspace.binary("wavnet", true)).args(&arguments);
    if let Some(json) = &bench.json {
        // Made here, so that the file is the user's although root writes it.
        let made = File::options().create(true).append(true).open(json);
        made.with_context(|| format!("cannot write {}", json.display()))?;
    }
    if let Some(plots) = &bench.plots {
        fs::create_dir_all(plots).with_context(|| format!("cannot make {}", plots.display()))?;
    }
    become_it(command)
}

/// Cases that are programs of their own: a server, pairs of NATs, a WAN between two of them, and many hosts.
const RENDEZVOUS: &str = "rendezvous";
const NAT: &str = "nat";
const WAN: &str = "wan";
const MESH: &str = "mesh";

/// `cargo xtask bench nat`.
fn bench_nat(workspace: &Workspace, bench: &Bench) -> Result<ExitCode> {
    compile::binaries(workspace, &["wavnet", "wavnet-bench-nat"])?;
    let mut command = elevated(workspace, "wavnet-bench-nat", true)?;
    command.arg("--wavnet").arg(workspace.binary("wavnet", true));
    json(&mut command, bench)?;
    become_it(command)
}

/// `cargo xtask bench wan` and `mesh`: programs that know what is quick by themselves.
fn bench_lab(workspace: &Workspace, bench: &Bench, program: &str) -> Result<ExitCode> {
    compile::binaries(workspace, &["wavnet", program])?;
    let mut command = elevated(workspace, program, true)?;
    command.arg("--wavnet").arg(workspace.binary("wavnet", true));
    command.args(bench.quick.then_some("--quick"));
    let (runs, time) = (bench.runs.map(u64::from), bench.time);
    for (name, value) in [("--runs", runs), ("--time", time)] {
        command.args(value.into_iter().flat_map(|value| [name.to_owned(), value.to_string()]));
    }
    json(&mut command, bench)?;
    become_it(command)
}

/// Has a program write its results where it was asked for.
fn json(command: &mut Command, bench: &Bench) -> Result<()> {
    if let Some(json) = &bench.json {
        // Made here, so that the file is the user's although root writes it.
        let made = File::options().create(true).append(true).open(json);
        made.with_context(|| format!("cannot write {}", json.display()))?;
        command.arg("--json").arg(json);
    }
    Ok(())
}

/// `cargo xtask bench rendezvous`.
fn bench_rendezvous(workspace: &Workspace, bench: &Bench) -> Result<ExitCode> {
    compile::binaries(workspace, &["wavnet", "wavnet-bench-rendezvous"])?;
    let mut command = elevated(workspace, "wavnet-bench-rendezvous", true)?;
    command.arg("--wavnet").arg(workspace.binary("wavnet", true));
    let quick = |many| bench.quick.then_some(many);
    // What is asked for beats what is quick.
    let (runs, time) = (bench.runs.map(u64::from).or(quick(2)), bench.time.or(quick(500)));
    for (name, value) in [("--runs", runs), ("--time", time), ("--hosts", quick(1000))] {
        command.args(value.into_iter().flat_map(|value| [name.to_owned(), value.to_string()]));
    }
    json(&mut command, bench)?;
    become_it(command)
}

/// What the benchmark is told of what we were.
fn arguments(bench: &Bench) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: Option<OsString>| all.extend(value.into_iter().flat_map(|v| [name.into(), v]));
    option("--json", bench.json.clone().map(Into::into));
    option("--plots", bench.plots.clone().map(Into::into));
    option("--contenders", bench.contenders.clone().map(Into::into));
    option("--runs", bench.runs.map(|runs| runs.to_string().into()));
    option("--time", bench.time.map(|time| time.to_string().into()));
    all.extend(bench.quick.then(|| "--quick".into()));
    all.extend(bench.cases.iter().map(Into::into));
    all
}

/// What was measured before, without root.
fn redraw(workspace: &Workspace, results: &Path, plots: Option<&Path>) -> Result<ExitCode> {
    compile::binaries(workspace, &["wavnet-bench"])?;
    let mut command = Command::new(workspace.binary("wavnet-bench", true));
    command.arg("--redraw").arg(results);
    if let Some(plots) = plots {
        command.arg("--plots").arg(plots);
    }
    become_it(command)
}

fn elevated(workspace: &Workspace, binary: &str, release: bool) -> Result<Command> {
    ensure!(
        process::can_elevate(),
        "`{binary}` needs root to load kernel programs and to change the network: run this as root, or give yourself sudo"
    );
    let mut variables = vec![("PATH", workspace.path())];
    // What people set to change output survives the elevation.
    for name in ["RUST_LOG", "RUST_BACKTRACE", "NO_COLOR", "TERM"] {
        variables.extend(std::env::var_os(name).map(|value| (name, value)));
    }
    Ok(process::elevated(&workspace.binary(binary, release), &variables))
}

/// Replaces this process, so that signals, terminal and exit code are the program's own.
fn become_it(mut command: Command) -> Result<ExitCode> {
    let program = command.get_program().to_owned();
    let error = command.exec();
    Err(Error::new(error).context(format!("cannot start {}", OsStr::new(&program).display())))
}
