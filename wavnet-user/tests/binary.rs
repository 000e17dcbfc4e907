//! The binary as a process: exit codes and streams. What the commands do is tested beside their code.

use std::process::{Command, Output};

fn wavnet(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wavnet"));
    command.args(args).env_remove("WAVNET_SOCKET").env_remove("WAVNET_LOG");
    command.output().expect("the binary starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("nobody.sock").display().to_string();
    let config = dir.path().join("wavnet.toml");
    std::fs::write(&config, "[underlay]\ninterface = 7\n").expect("a file");
    let config = config.display().to_string();
    for (args, code, says) in [
        (vec!["--version"], 0, ""),
        (vec!["agent", "--underlay", "eth0", "--vni", "1", "--check"], 0, ""),
        (vec!["dance"], 2, "unrecognized subcommand"),
        (vec!["status", "--socket", &socket], 3, "no agent is running"),
        (vec!["agent", "--config", &config, "--check"], 4, "wavnet.toml:2:13"),
    ] {
        let output = wavnet(&args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{args:?}: {}", stderr(&output));
    }
    let help = String::from_utf8(wavnet(&["--help"]).stdout).expect("text");
    assert!(
        help.contains("Exit codes:") && help.contains("3  no agent, or no rendezvous server, is running"),
        "{help}"
    );
    for command in ["agent", "rendezvous", "mesh", "nat", "key"] {
        assert!(help.contains(&format!("\n  wavnet {command} ")), "no example of {command}: {help}");
    }
}

#[test]
fn errors_are_json_for_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("nobody.sock").display().to_string();
    let output = wavnet(&["peers", "--json", "--socket", &socket]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(error["error"]["exit"], 3);
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_log_filter_is_refused_before_anything_is_touched() {
    for filter in ["wavnet=loudly", "warning", "foo=bar=baz"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wavnet"));
        command.args(["agent", "--underlay", "wav-nothing"]).env("WAVNET_LOG", filter);
        let output = command.output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(2), "{filter}");
        assert!(stderr(&output).contains(&format!("WAVNET_LOG={filter} is wrong")), "{}", stderr(&output));
        // A check that passes promises a start that is not refused.
        let output = command.args(["--vni", "1", "--check"]).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(2), "{filter}: {}", stderr(&output));
    }
}
