//! What tests of the lab interrupt or kill: makes a namespace and a process in it, says so in a file, and waits.

use std::{fs, path::PathBuf, thread::sleep, time::Duration};

use wavnet_tests::lab;

fn main() {
    let Some(told) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: lab-victim FILE");
        return;
    };
    lab::run("lab-victim", &[], |lab| {
        let ns = lab.netns("inner")?;
        let sleeper = ns.spawn("sleep", "sleep", &["600"])?;
        fs::write(&told, format!("{} {} {}", ns.name(), sleeper.pid(), lab.dir().display()))?;
        sleep(Duration::from_secs(600));
        Ok(())
    });
}
