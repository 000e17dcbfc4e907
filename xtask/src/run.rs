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
    let mut command = demonstration_command(workspace)?;
    if once {
        command.arg("--once");
    }
    become_it(command)
}

/// Builds the demonstration; a command that runs it elevated.
pub(crate) fn demonstration_command(workspace: &Workspace) -> Result<Command> {
    setup::ensure(workspace)?;
    compile::binaries(workspace, &["wavnet", "wavnet-demo"])?;
    let mut command = elevated(workspace, "wavnet-demo")?;
    command.arg("--wavnet").arg(workspace.binary("wavnet", true));
    Ok(command)
}

/// `cargo xtask run -- ARGS`: wavnet itself.
pub(crate) fn wavnet(workspace: &Workspace, args: &[OsString]) -> Result<ExitCode> {
    setup::ensure_ebpf(workspace)?;
    compile::binaries(workspace, &["wavnet"])?;
    let mut command = elevated(workspace, "wavnet")?;
    command.args(args);
    become_it(command)
}

/// `cargo xtask bench`.
pub(crate) fn bench(workspace: &Workspace, bench: &Bench) -> Result<ExitCode> {
    if let Some(results) = &bench.redraw {
        return redraw(workspace, results, bench.plots.as_deref());
    }
    setup::ensure(workspace)?;
    compile::binaries(workspace, &["wavnet", "wavnet-bench"])?;
    let mut command = elevated(workspace, "wavnet-bench")?;
    command.arg("--wavnet").arg(workspace.binary("wavnet", true));
    if let Some(json) = &bench.json {
        // Made here, so that the file is the user's although root writes it.
        File::create(json).with_context(|| format!("cannot write {}", json.display()))?;
        command.arg("--json").arg(json);
    }
    if let Some(plots) = &bench.plots {
        fs::create_dir_all(plots).with_context(|| format!("cannot make {}", plots.display()))?;
        command.arg("--plots").arg(plots);
    }
    if bench.quick {
        command.arg("--quick");
    }
    if let Some(contenders) = &bench.contenders {
        command.arg("--contenders").arg(contenders);
    }
    if let Some(runs) = bench.runs {
        command.arg("--runs").arg(runs.to_string());
    }
    if let Some(time) = bench.time {
        command.arg("--time").arg(time.to_string());
    }
    command.args(&bench.cases);
    become_it(command)
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

fn elevated(workspace: &Workspace, binary: &str) -> Result<Command> {
    ensure!(
        process::can_elevate(),
        "`{binary}` needs root to load kernel programs and to change the network: run this as root, or give yourself sudo"
    );
    let mut variables = vec![("PATH", workspace.path())];
    // What people set to change output survives the elevation.
    for name in ["RUST_LOG", "RUST_BACKTRACE", "NO_COLOR", "TERM"] {
        variables.extend(std::env::var_os(name).map(|value| (name, value)));
    }
    Ok(process::elevated(&workspace.binary(binary, true), &variables))
}

/// Replaces this process, so that signals, terminal and exit code are the program's own.
fn become_it(mut command: Command) -> Result<ExitCode> {
    let program = command.get_program().to_owned();
    let error = command.exec();
    Err(Error::new(error).context(format!("cannot start {}", OsStr::new(&program).display())))
}
