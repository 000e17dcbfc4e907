//! The set-up in docs/rendezvous.md, done as it is written: with its commands, the configuration and the unit as they are shipped, and a
//! server that runs as the unit's user with the unit's directories and capabilities.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use wavnet_tests::lab::{self, Need, binary};

const GUIDE: &str = include_str!("../../docs/rendezvous.md");
const UNIT: &str = include_str!("../../docs/wavnet-rendezvous.service");
const EXAMPLE: &str = include_str!("../../docs/wavnet-rendezvous.example.toml");
const SOON: Duration = Duration::from_secs(20);

/// What systemd does for `enable --now`: directories of the unit's user, and its command with the unit's capabilities.
const SYSTEMCTL: &str = r#"#!/bin/sh -e
[ "$*" = "enable --now wavnet-rendezvous" ]
value() { sed -n "s/^$1=//p" /etc/systemd/system/wavnet-rendezvous.service; }
user=$(value User) group=$(value Group)
install -d -o "$user" -g "$group" "/run/$(value RuntimeDirectory)"
install -d -o "$user" -g "$group" -m "$(value StateDirectoryMode)" "/var/lib/$(value StateDirectory)"
caps=$(value AmbientCapabilities | tr 'A-Z ' 'a-z,' | sed 's/cap_/+/g')
setpriv --reuid="$user" --regid="$group" --clear-groups --inh-caps="-all,$caps" --ambient-caps="-all,$caps" \
    --bounding-set="-all,$caps" $(value ExecStart) >"$LOG" 2>&1 &
"#;

/// The commands of the block, without their prompts.
fn commands() -> Result<Vec<&'static str>> {
    let (_, setup) = GUIDE.split_once("## Set-up").context("the section")?;
    let (setup, _) = setup.split_once("\n## ").context("its end")?;
    let prompts = ["admin$", "server#", "server$"];
    let command =
        |line: &'static str| prompts.iter().find_map(|prompt| line.strip_prefix("    ")?.strip_prefix(prompt));
    Ok(setup.lines().filter_map(command).map(str::trim).collect())
}

#[test]
fn the_guides_commands_lead_to_a_server_that_runs() {
    let needs = [Need::Wavnet, Need::Tool("useradd"), Need::Tool("setpriv"), Need::Tool("unshare")];
    lab::run("the_guides_commands_lead_to_a_server_that_runs", &needs, |lab| {
        let ns = lab.netns("server")?;
        ns.sysctl("net/ipv6/conf/all/disable_ipv6", "0")?;
        ns.sysctl("net/ipv6/conf/lo/disable_ipv6", "0")?;
        // Those of the example.
        for address in ["192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128"] {
            ns.ip(&format!("addr add {address} dev lo"))?;
        }
        let dir = lab.path("admin");
        fs::create_dir_all(dir.join("bin"))?;
        fs::copy(binary::usable()?, dir.join("wavnet"))?;
        for (name, text) in [
            ("wavnet-rendezvous.service", UNIT),
            ("wavnet-rendezvous.example.toml", EXAMPLE),
            ("bin/systemctl", SYSTEMCTL),
        ] {
            fs::write(dir.join(name), text)?;
        }
        let all = commands()?;
        ensure!(all.len() > 10, "{all:?}");
        fs::write(dir.join("setup"), script(&dir, &all))?;
        let words = ["--mount", "--pid", "--fork", "--kill-child", "sh", &dir.join("setup").display().to_string()];
        let mut setup = ns.spawn("setup", "unshare", &words)?;
        let ended = setup.wait(SOON);
        let said = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let ended = ended.with_context(|| format!("{}\n{}", setup.log(), said("log")))?;
        ensure!(ended.success(), "it ended with {ended}: {}\n{}", setup.log(), said("log"));
        let status: serde_json::Value = serde_json::from_str(&said("status"))?;
        let server = &status["rendezvous"];
        ensure!(server["listen"] == serde_json::json!(["192.0.2.1:4789", "[2001:db8::1]:4789"]), "{server}");
        ensure!(server["networks"].as_array().is_some_and(|networks| networks.len() == 1), "{server}");
        ensure!(server["warnings"] == serde_json::json!([]), "{server}");
        ensure!(said("owners") == "wavnet 600 rendezvous.redb\nwavnet 660 rendezvous.sock\n", "{}", said("owners"));
        Ok(())
    });
}

/// Runs each command where it changes nothing of this machine: /etc and so on are copies, or empty.
fn script(dir: &Path, commands: &[&str]) -> String {
    let mut text = format!(
        "set -e\ncd {dir}\nmkdir etc\ncp /etc/passwd /etc/group /etc/login.defs /etc/nsswitch.conf /etc/ld.so.cache etc/\n\
         touch etc/shadow etc/gshadow\nmount --bind etc /etc\nmkdir -p /etc/systemd/system\n\
         for there in /run /var /usr/local; do mount -t tmpfs -o mode=0755 none $there; done\nmkdir /usr/local/bin /var/lib\n\
         chmod +x bin/systemctl wavnet\nexport PATH={dir}/bin:/usr/local/bin:$PATH:/usr/sbin:/sbin EDITOR=true LOG={dir}/log\n\
         userdel wavnet 2>/dev/null || true\nset -x\n",
        dir = dir.display(),
    );
    for command in commands {
        // The administrator's machine has the program, too.
        let at_admin = ["wavnet key network", "wavnet key access"].iter().any(|words| command.starts_with(words));
        text += &match command {
            command if at_admin => format!("./{command}\n"),
            // It answers when it has started.
            command if command.starts_with("wavnet rendezvous status") => {
                format!("until {command}\ndo sleep 0.1; done\n")
            }
            command => format!("{command}\n"),
        };
    }
    text += "wavnet rendezvous status --json >status\n\
             stat -c '%U %a %n' /var/lib/wavnet/rendezvous.redb /run/wavnet-rendezvous/rendezvous.sock | sed 's|/.*/||' >owners\n";
    text
}
