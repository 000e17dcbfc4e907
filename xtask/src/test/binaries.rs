//! Compiles test binaries and tells which of them are tests of the kernel programs.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{compile, process::shown, workspace::Workspace};

/// The package whose integration tests load kernel programs and make namespaces.
const KERNEL_PACKAGE: &str = "tests";

/// Those of them that need the machine for themselves: they fill all CPUs, or look at how fast something is.
const ALONE: [&str; 6] = ["adaptive", "endurance", "kernel_fdb_stress", "order", "thousand", "wan_lab"];

/// Those that fill all CPUs and look at nothing's speed: the others that do so are the user's tests.
const BUSY: [&str; 1] = ["bench"];

/// The tests of these names, kernel tests and the simulator's, take longest, and wait most of the time: they begin first.
const LONGEST: [&str; 3] = ["mesh", "mesh_trouble", "takeover"];

/// Beside whom a test binary runs, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Company {
    /// As the user.
    Unprivileged,
    /// As root, beside those of the user.
    KernelBusy,
    /// As root, beside others of this kind: each has names of its own for all that it makes.
    Kernel,
    /// As root, beside nothing.
    KernelAlone,
}

/// One compiled test binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestBinary {
    /// `package/target`, as shown.
    pub(super) name: String,
    /// The program.
    pub(super) path: PathBuf,
    /// The directory of its package, where cargo starts tests.
    pub(super) package: PathBuf,
    /// Beside whom it runs.
    pub(super) company: Company,
}

impl TestBinary {
    fn is_longest(&self) -> bool {
        self.name.rsplit('/').next().is_some_and(|target| LONGEST.contains(&target))
    }
}

/// Compiles all tests of the workspace; the kernel tests come last, as they take longest.
pub(super) fn of(workspace: &Workspace) -> Result<Vec<TestBinary>> {
    let mut cargo = compile::tests_and_binaries(workspace);
    cargo.arg("--message-format=json-render-diagnostics");
    cargo.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().with_context(|| format!("cannot start `{}`", shown(&cargo)))?;
    if !output.status.success() {
        bail!("the tests do not compile, see above");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut binaries: Vec<_> = messages.lines().filter_map(|line| binary(workspace.workspace(), line)).collect();
    binaries.sort_by_key(|binary| (binary.company, !binary.is_longest(), binary.name.clone()));
    Ok(binaries)
}

/// Reads one of cargo's messages; `None` for everything that is not a test binary.
fn binary(workspace: &Path, line: &str) -> Option<TestBinary> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let package = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let target = message["target"]["name"].as_str()?;
    let integration = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "test");
    let directory = package.strip_prefix(workspace).unwrap_or(&package);
    let kernel = integration && directory == Path::new(KERNEL_PACKAGE);
    let company = match kernel {
        false => Company::Unprivileged,
        true if ALONE.contains(&target) => Company::KernelAlone,
        true if BUSY.contains(&target) => Company::KernelBusy,
        true => Company::Kernel,
    };
    Some(TestBinary { name: format!("{}/{target}", directory.display()), path, package, company })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(manifest: &str, kind: &str, test: bool, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","target":{{"kind":["{kind}"],"name":"t"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
        )
    }

    #[test]
    fn only_integration_tests_of_the_lab_are_kernel_tests() {
        let workspace = Path::new("/src");
        let read = |manifest, kind| binary(workspace, &message(manifest, kind, true, r#""/t/deps/t-1""#)).unwrap();
        assert_eq!(read("/src/tests/Cargo.toml", "test").company, Company::Kernel);
        let unit = read("/src/tests/Cargo.toml", "lib");
        assert_eq!(unit.company, Company::Unprivileged, "unit tests of the lab run as the user");
        assert_eq!(read("/src/wavnet-user/Cargo.toml", "test").company, Company::Unprivileged);
        let proto = read("/src/wavnet-user/proto/Cargo.toml", "lib");
        assert_eq!(
            (proto.name.as_str(), proto.package.as_path()),
            ("wavnet-user/proto/t", Path::new("/src/wavnet-user/proto"))
        );
    }

    #[test]
    fn libraries_build_scripts_and_other_messages_are_passed_over() {
        let workspace = Path::new("/src");
        assert_eq!(binary(workspace, &message("/src/tests/Cargo.toml", "lib", false, "null")), None);
        assert_eq!(binary(workspace, &message("/src/tests/Cargo.toml", "bin", false, r#""/t/x""#)), None);
        assert_eq!(binary(workspace, r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(binary(workspace, "not JSON"), None);
    }
}
