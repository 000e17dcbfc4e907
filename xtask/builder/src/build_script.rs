//! What `build.rs` of the host crates does with the kernel programs.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use crate::{
    cargo::{self, Messages},
    compiler, env_names,
    error::Error,
    layout::Layout,
    toolchain::{self, Toolchain},
};

/// For a build script: builds `wavnet-ebpf`, copies its binary `bin` into `OUT_DIR`, and tells the crate with
/// `env!(variable)` where the object is and with `cfg(condition)` that there is one.
///
/// Without a toolchain the condition is not set, there is no file, and cargo prints one warning: the crate compiles all
/// the same and says at run time what it lacks. Where there is a toolchain and the build fails, the build script fails
/// with the compiler's words.
pub fn emit_for_build_script(bin: &str, variable: &str, condition: &str) {
    println!("cargo::rustc-check-cfg=cfg({condition})");
    match emit(bin) {
        Ok(object) => {
            println!("cargo::rustc-env={variable}={}", object.display());
            println!("cargo::rustc-cfg={condition}");
        }
        Err(error @ (Error::NoToolchain(_) | Error::NoPackage(_))) if !chosen_by_hand() => {
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default();
            println!("cargo::warning=without the eBPF object `{bin}`: {reason}");
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}

/// Who names a compiler or a linker wants that one or an error.
fn chosen_by_hand() -> bool {
    env_names().iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn emit(bin: &str) -> Result<PathBuf, Error> {
    let layout = Layout::discover().map_err(Error::io("cannot find the workspace"))?;
    watch(&layout)?;
    let toolchain = Toolchain::find(&layout)?;
    let artifacts = cargo::build(&layout, &toolchain, Messages::Collect)?;
    let artifact =
        artifacts.into_iter().find(|artifact| artifact.name == bin).ok_or_else(|| Error::NoBinary(bin.to_owned()))?;
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default().join(format!("{bin}.o"));
    fs::copy(&artifact.path, &out).map_err(Error::io(format!("cannot copy {}", artifact.path.display())))?;
    Ok(out)
}

/// Tells cargo when to run the script again: when sources change, or when another toolchain would be chosen.
fn watch(layout: &Layout) -> Result<(), Error> {
    let package = layout.ebpf_package();
    let common = layout.workspace().join("wavnet-common");
    let mut watched = vec![layout.workspace().join("Cargo.toml"), common.join("Cargo.toml"), common.join("src")];
    watched.extend(["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "src"].map(|name| package.join(name)));
    // These change when a user adds the component rust-src or installs a bpf-linker.
    watched.extend(compiler::rustup_toolchains().iter().map(|toolchain| toolchain.join("lib/rustlib/components")));
    // Cargo runs the script at every build where a watched file is missing; the stamp must not be one.
    let stamp = layout.stamp();
    if !stamp.exists() {
        let what = format!("cannot write {}", stamp.display());
        toolchain::note(layout, None).map_err(Error::io(what.clone()))?;
        // Older than this run, or cargo takes it for a change that came after.
        let file = File::options().write(true).open(&stamp).map_err(Error::io(what.clone()))?;
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).map_err(Error::io(what))?;
    }
    watched.push(stamp);
    for path in watched.iter().filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    for name in env_names() {
        println!("cargo::rerun-if-env-changed={name}");
    }
    Ok(())
}
