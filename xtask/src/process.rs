//! Running other programs: shown, with progress, or elevated.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, IsTerminal, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{interrupt, workspace::Workspace};

/// Lines of a failed command that are shown; the rest is in its log.
const TAIL: usize = 25;

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

/// Runs a command on our terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    interrupt::check()?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Standard output of a command that succeeds.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command that takes long: its output goes to a log, the terminal shows what is done and for how long. Only the
/// end of the log is shown, and only on failure.
pub(crate) fn run_long(workspace: &Workspace, what: &str, command: &mut Command) -> Result<()> {
    let logs = workspace.toolchain().join("log");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let name: String = what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let log = logs.join(name + ".log");
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    let mut progress = Progress::new(what);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        progress.tick();
        thread::sleep(Duration::from_millis(100));
    };
    progress.finish(status.success());
    interrupt::check()?;
    if !status.success() {
        let text = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            eprintln!("    {line}");
        }
        bail!("`{}` failed ({status}); whole output: {}", shown(command), log.display());
    }
    Ok(())
}

/// A line with elapsed seconds: rewritten on a terminal, now and then a new one elsewhere.
struct Progress<'a> {
    what: &'a str,
    start: Instant,
    printed: u64,
    terminal: bool,
}

impl<'a> Progress<'a> {
    /// Seconds between lines where they cannot be rewritten.
    const INTERVAL: u64 = 15;

    fn new(what: &'a str) -> Self {
        let terminal = io::stderr().is_terminal();
        if !terminal {
            eprintln!("  {what} …");
        }
        Self { what, start: Instant::now(), printed: 0, terminal }
    }

    fn tick(&mut self) {
        let seconds = self.start.elapsed().as_secs();
        if self.terminal {
            eprint!("\r  {} … {seconds} s ", self.what);
            // A progress line that cannot be written is no reason to stop.
            let _ = io::stderr().flush();
        } else if seconds >= self.printed + Self::INTERVAL {
            self.printed = seconds;
            eprintln!("  {} … {seconds} s", self.what);
        }
    }

    fn finish(self, success: bool) {
        let start = if self.terminal { "\r" } else { "" };
        let word = if success { "done" } else { "failed" };
        eprintln!("{start}  {} … {word} after {:.1} s", self.what, self.start.elapsed().as_secs_f32());
    }
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether [`elevated`] can work: as root, or with a sudo that asks for no password or has a terminal to ask at.
pub(crate) fn can_elevate() -> bool {
    is_root() || {
        let mut sudo = Command::new("sudo");
        sudo.arg("-v").stdin(Stdio::inherit()).stdout(Stdio::null());
        if !io::stdin().is_terminal() {
            sudo.arg("-n").stderr(Stdio::null());
        }
        sudo.status().is_ok_and(|status| status.success())
    }
}

/// A command that runs `program` as root, through sudo where we are not. sudo clears the environment: `variables` are
/// passed by `env`, as policies often forbid sudo to keep them.
pub(crate) fn elevated(program: &Path, variables: &[(&str, OsString)]) -> Command {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        return command;
    }
    let mut command = Command::new("sudo");
    command.args(["--", "env"]);
    for (name, value) in variables {
        let mut assignment = OsString::from(name);
        assignment.push("=");
        assignment.push(value);
        command.arg(assignment);
    }
    command.arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_typed() {
        let mut command = Command::new("apt-get");
        command.args(["install", "nftables"]);
        assert_eq!(shown(&command), "apt-get install nftables");
    }

    #[test]
    fn a_failing_command_says_why() {
        let error = read(Command::new("sh").args(["-c", "echo reason >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("reason"), "{error}");
        let error = read(&mut Command::new("no-such-program-at-all")).unwrap_err().to_string();
        assert!(error.contains("cannot start `no-such-program-at-all`"), "{error}");
    }
}
