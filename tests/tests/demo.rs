//! The demonstration's checks as assertions, and the binary as people start it.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use wavnet_tests::{
    demo::{Check, Network, run_checks},
    lab::{self, Need, binary},
};

const NEEDS: &[Need] = &[Need::Wavnet, Need::Tool("dnsmasq"), Need::Tool("udhcpc")];

#[test]
fn every_check_of_the_demonstration_holds() {
    lab::run("every_check_of_the_demonstration_holds", NEEDS, |lab| {
        let network = Network::build(lab)?;
        let checks = run_checks(&network, |_| {});
        let failed: Vec<&Check> = checks.iter().filter(|c| !c.holds()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert!(checks.len() >= 12, "{checks:?}");
        Ok(())
    });
}

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavnet-demo"));
    command.stdin(Stdio::null());
    command
}

#[test]
fn without_a_terminal_it_checks_and_exits() {
    lab::run("without_a_terminal_it_checks_and_exits", NEEDS, |_| {
        let out = demo().arg("--wavnet").arg(binary::usable()?).output()?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
        assert!(said.contains("All checks hold") && said.contains("isolation"), "{said}");
        assert_eq!(lab_namespaces_of(&said), Vec::<String>::new(), "namespaces are left");
        Ok(())
    });
}

#[test]
fn an_interrupt_removes_everything() {
    lab::run("an_interrupt_removes_everything", NEEDS, |lab| {
        let log = lab.path("demo.log");
        let mut child = demo()
            .arg("--wavnet")
            .arg(binary::usable()?)
            .stdout(std::fs::File::create(&log)?)
            .stderr(Stdio::null())
            .spawn()?;
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        lab::wait_until("the demonstration to have built something", Duration::from_secs(30), || {
            Ok(lab_namespaces_of(&read()).len() > 3)
        })?;
        // SAFETY: a plain system call on a child that has not been waited for.
        unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
        assert_eq!(child.wait()?.code(), Some(130));
        assert_eq!(lab_namespaces_of(&read()), Vec::<String>::new(), "namespaces are left");
        let pins = std::fs::read_dir("/sys/fs/bpf")?
            .flatten()
            .any(|e| read().contains(&prefix(&e.file_name().to_string_lossy())));
        assert!(!pins, "pins are left");
        Ok(())
    });
}

/// The lab's prefix in a name such as `wav-12t0-hv1`.
fn prefix(name: &str) -> String {
    name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-")
}

/// Namespaces of the lab that the demonstration said it builds.
fn lab_namespaces_of(said: &str) -> Vec<String> {
    let id = said.split("namespaces ").nth(1).and_then(|t| t.split("-*").next()).unwrap_or("wav-nobody");
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.starts_with(&format!("{id}-"))).collect()
}

#[test]
fn help_teaches_and_wrong_usage_is_told_apart() {
    let out = demo().arg("--help").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success());
    for word in ["--once", "--wavnet", "cargo xtask run", "Exit status", "Ctrl-C"] {
        assert!(said.contains(word), "the help does not mention {word}: {said}");
    }
    assert_eq!(demo().arg("--nonsense").output().unwrap().status.code(), Some(2));
    let out = demo().args(["--wavnet", "/nonexistent/wavnet"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("cargo xtask"), "the error does not say what to do: {said}");
}
