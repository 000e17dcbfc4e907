//! Programs that the lab calls.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

/// The Debian package that has a program.
pub fn package(tool: &str) -> &str {
    match tool {
        "ip" | "bridge" | "tc" => "iproute2",
        "ping" => "iputils-ping",
        "dnsmasq" => "dnsmasq-base",
        "promtool" => "prometheus",
        "nft" => "nftables",
        "stun" => "stun-client",
        "turnserver" | "turnutils_natdiscovery" => "coturn",
        "nsenter" => "util-linux",
        other => other,
    }
}

/// Where `cargo xtask setup` puts what it does not install to the system: a folder in the directory that holds the profile's, which
/// holds this program or, for tests, its directory.
pub fn set_up(folder: &str) -> Option<PathBuf> {
    let me = std::env::current_exe().ok()?;
    me.ancestors().skip(2).take(2).map(|dir| dir.join("toolchain").join(folder)).find(|dir| dir.is_dir())
}

/// Where a program is, looking in the directories of root too (a user's PATH often lacks them), and where set-up puts programs.
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
    std::env::split_paths(&path)
        .chain(usual.iter().map(PathBuf::from))
        .chain(set_up("bin"))
        .map(|dir| dir.join(tool))
        .find(|p| is_executable(p))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Where a program is, or its bare name, which then fails with an error that names it.
pub fn path(tool: &str) -> PathBuf {
    find(tool).unwrap_or_else(|| PathBuf::from(tool))
}

/// A command, by a program's name.
pub fn command(tool: &str) -> Command {
    Command::new(path(tool))
}

/// Runs a command to its end and gives its standard output.
///
/// # Errors
/// The program is missing, or fails: what it said on standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command.output();
    said(command, out)
}

/// The same of a command that reads a text from its standard input.
///
/// # Errors
/// As [`output`].
pub fn feed(command: &mut Command, input: &str) -> Result<String> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let out = child.and_then(|mut child| {
        if let Some(mut to) = child.stdin.take() {
            // Whoever does not read to the end says why, by its status.
            let _ = to.write_all(input.as_bytes());
        }
        child.wait_with_output()
    });
    said(command, out)
}

fn said(command: &Command, out: std::io::Result<Output>) -> Result<String> {
    let shown = show(command);
    let out = out.with_context(|| {
        let tool = command.get_program().to_string_lossy().into_owned();
        format!("starting `{shown}` (Debian package: {})", package(&tool))
    })?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("`{shown}` failed with {}: {}", out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A command as one would type it.
pub fn show(command: &Command) -> String {
    let mut words = vec![Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy()];
    words.extend(command.get_args().map(|a| a.to_string_lossy()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_shell_and_not_nonsense() {
        assert!(find("sh").is_some());
        assert!(find("no-such-tool-anywhere").is_none());
    }

    #[test]
    fn output_gives_what_was_said_and_errors_name_the_command() {
        assert_eq!(output(command("sh").args(["-c", "echo hi"])).unwrap(), "hi\n");
        let error = output(command("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("why"), "{error}");
        assert_eq!(feed(&mut command("cat"), "in").unwrap(), "in");
        let error = feed(command("sh").args(["-c", "exit 4"]), &"x".repeat(100_000)).unwrap_err().to_string();
        assert!(error.contains("exit status: 4"), "{error}");
        let error = output(&mut command("no-such-tool-anywhere")).unwrap_err().to_string();
        assert!(error.contains("Debian package"), "{error}");
    }
}
