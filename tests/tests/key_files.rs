//! Files of keys of a running agent: who else may use them, and another key under the same name.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::{Result, ensure};
use wavnet_proto::{
    rng::Rng,
    trust::{NetworkKey, SecretKey},
};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    overlay::{Both, Shape},
};

const NEEDS: &[Need] = &[Need::Wavnet];

fn chmod(file: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(file, Permissions::from_mode(mode))?)
}

fn secret(seed: u8) -> String {
    SecretKey::generate(&mut Rng::from_seed([seed; 32])).to_text().to_string()
}

/// Agents with a mesh whose server is nowhere, and its keys.
fn start(lab: &Lab) -> Result<Both> {
    let [key, network] = ["host.key", "network.key"].map(|name| lab.path(name));
    fs::write(&key, secret(1))?;
    fs::write(&network, NetworkKey::generate(&mut Rng::from_seed([2; 32])).to_text().as_bytes())?;
    for file in [&key, &network] {
        chmod(file, 0o644)?;
    }
    let mesh = format!("[mesh]\nservers = [\"192.0.2.250\"]\nkey = {key:?}\nnetwork_key = {network:?}\n");
    Both::start(lab, Shape { tables: mesh, ..Shape::default() })
}

/// Which of both files are said to be open to others.
fn exposed(agent: &Agent) -> Result<[bool; 2]> {
    let warnings = agent.status()?.warnings;
    Ok(["host.key", "network.key"].map(|name| warnings.iter().any(|w| w.contains(name) && w.contains("open to other"))))
}

#[test]
fn key_files_that_others_may_use_are_told_until_that_is_mended() {
    lab::run("key_files_that_others_may_use_are_told_until_that_is_mended", NEEDS, |lab| {
        let net = start(lab)?;
        let agent = &net.agents[0];
        ensure!(exposed(agent)? == [true, true], "{:?}", agent.status()?.warnings);
        let doctor = agent.ns().command(wavnet_tests::lab::binary::usable()?);
        let out = { doctor }.args(["doctor", "--json", "--config"]).arg(agent.file()).output()?;
        let report: serde_json::Value = serde_json::from_slice(&out.stdout)?;
        let checks = report["checks"].as_array().into_iter().flatten();
        let keys: Vec<_> = checks.filter(|check| check["name"] == "key files").collect();
        ensure!(keys.len() == 1 && keys[0]["verdict"] == "warn", "{keys:?}");
        chmod(&lab.path("host.key"), 0o600)?;
        // Root's group: nobody that root is to be kept from.
        chmod(&lab.path("network.key"), 0o640)?;
        ensure!(exposed(agent)? == [true, true], "they are looked at by a reload");
        let said = agent.reload()?;
        ensure!(!said.contains("open to other"), "{said}");
        ensure!(exposed(agent)? == [false, false], "{:?}", agent.status()?.warnings);
        chmod(&lab.path("host.key"), 0o604)?;
        let said = agent.reload()?;
        ensure!(said.contains("host.key") && said.contains("chmod 600"), "{said}");
        ensure!(exposed(agent)? == [true, false]);
        Ok(())
    });
}

/// As a host whose key another one has is told to do.
#[test]
fn another_key_under_the_same_name_is_told_by_each_reload() {
    lab::run("another_key_under_the_same_name_is_told_by_each_reload", NEEDS, |lab| {
        const SAYS: &str = "mesh.key has changed, which takes effect when the agent is restarted";
        let net = start(lab)?;
        let agent = &net.agents[0];
        let said = agent.reload()?;
        ensure!(!said.contains("mesh.key"), "{said}");
        fs::write(lab.path("host.key"), secret(3))?;
        for _ in 0..2 {
            let said = agent.reload()?;
            ensure!(said.contains(SAYS), "{said}");
        }
        // The same key in another place is the same.
        fs::write(lab.path("moved.key"), secret(1))?;
        let config = fs::read_to_string(agent.file())?;
        fs::write(agent.file(), config.replace("host.key", "moved.key"))?;
        let said = agent.reload()?;
        ensure!(!said.contains("mesh.key"), "{said}");
        fs::remove_file(lab.path("moved.key"))?;
        let refused = agent.try_cli("reload")?;
        let said = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(4), "{refused:?}");
        ensure!(
            said.starts_with("error: cannot read the secret key ") && said.matches("help: ").count() == 1,
            "{said}"
        );
        Ok(())
    });
}
