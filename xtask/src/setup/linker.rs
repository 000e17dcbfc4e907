//! bpf-linker, compiled for the LLVM of the compiler in use.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use wavnet_ebpf_builder::linker;

use super::{apt, cargo, compiler};
use crate::workspace::Workspace;

/// Installs a linker if none reads what the compilers write.
pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    let mut compilers = compiler::usable(workspace);
    let llvm = match compilers.first() {
        Some(compiler) => compiler.version.llvm.major,
        None => bail!("there is no compiler yet"),
    };
    let mut root = llvm_of_setup(workspace, llvm);
    if root.is_none() && apt::candidate(&format!("libllvm{llvm}")).is_some() {
        let packages = apt::with_missing_dependencies(&format!("libllvm{llvm}"))?;
        let unpacked = workspace.toolchain().join("ebpf/root");
        // Installed already, then, and the linker finds it where everything does.
        if packages.iter().any(|package| package.starts_with("libllvm")) {
            let cache = workspace.toolchain().join("ebpf/packages");
            apt::unpack(workspace, "LLVM", &packages, &cache, &unpacked)?;
        }
        root = llvm_of_setup(workspace, llvm).or_else(|| shared_llvm(Path::new("/usr/lib"), llvm));
    }
    if root.is_none() {
        // The user's compiler is newer than any LLVM that can be had: take Debian's, which has a fitting one.
        compiler::install(workspace)?;
        compilers = compiler::usable(workspace);
        let llvm = compilers.first().context("there is no compiler yet")?.version.llvm.major;
        root = llvm_of_setup(workspace, llvm);
    }
    let llvm = compilers.first().context("there is no compiler yet")?.version.llvm.major;
    match root {
        Some(library) => install(workspace, llvm, &library),
        None => bail!(
            "no shared library of LLVM {llvm} can be had; install a bpf-linker yourself: cargo binstall bpf-linker"
        ),
    }
}

fn llvm_of_setup(workspace: &Workspace, llvm: u32) -> Option<PathBuf> {
    shared_llvm(&workspace.toolchain().join("ebpf/root/usr/lib"), llvm)
}

/// `libLLVM.so.<major>.<minor>` in a directory of libraries or in one of its multiarch directories.
fn shared_llvm(lib: &Path, llvm: u32) -> Option<PathBuf> {
    let start = format!("libLLVM.so.{llvm}.");
    let below = fs::read_dir(lib).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let dirs = below.filter(|path| path.is_dir() && path.to_string_lossy().ends_with("-linux-gnu"));
    dirs.chain([lib.to_owned()]).find_map(|dir| {
        let mut files = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        files.find(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
    })
}

/// Compiles bpf-linker with cargo. Kept by LLVM version: a newer compiler gets its own.
fn install(workspace: &Workspace, llvm: u32, library: &Path) -> Result<()> {
    let home = workspace.toolchain().join(format!("ebpf/linker-llvm-{llvm}"));
    let lib = home.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("cannot create {}", lib.display()))?;
    let file_name = library.file_name().context("a library without a name")?;
    // The linker is linked against the plain name and starts with the full one.
    for name in [Path::new("libLLVM.so"), Path::new(file_name)] {
        link(library, &lib.join(name))?;
    }
    let libraries = format!("{}:{}", lib.display(), compiler::library_path(&workspace.toolchain().join("ebpf/root")));
    cargo::install(workspace, "bpf-linker", &home, |cargo| {
        cargo.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
        // The work is done in LLVM's library; what is around it need not be fast, but be compiled soon.
        cargo.envs([("CARGO_PROFILE_RELEASE_DEBUG", "0"), ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")]);
        cargo.env("LLVM_PREFIX", &home)
    })
    .with_context(|| format!("for LLVM {llvm}; another linker can be named by {}", linker::LINKER_VARIABLE))?;
    let bin = workspace.compiler_bin();
    compiler::wrapper(&bin.join("bpf-linker"), &home.join("bin/bpf-linker"), &libraries)?;
    let note = bin.join("bpf-linker.llvm");
    fs::write(&note, format!("{llvm}\n")).with_context(|| format!("cannot write {}", note.display()))?;
    match linker::probe(&bin.join("bpf-linker")) {
        Ok(_) => Ok(()),
        Err(why) => bail!("bpf-linker was compiled and does not start: {why}"),
    }
}

fn link(target: &Path, at: &Path) -> Result<()> {
    let what = || format!("cannot link {}", at.display());
    if at.symlink_metadata().is_ok() {
        fs::remove_file(at).with_context(what)?;
    }
    symlink(target, at).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_of_the_right_version_is_found_in_a_multiarch_directory() {
        let lib = std::env::temp_dir().join(format!("wavnet-xtask-llvm-{}", std::process::id()));
        let multiarch = lib.join("x86_64-linux-gnu");
        fs::create_dir_all(&multiarch).unwrap();
        fs::write(multiarch.join("libLLVM.so.21.1"), "").unwrap();
        fs::write(multiarch.join("libLLVM.so.22.1"), "").unwrap();
        assert_eq!(shared_llvm(&lib, 22), Some(multiarch.join("libLLVM.so.22.1")));
        assert_eq!(shared_llvm(&lib, 2), None);
        fs::remove_dir_all(&lib).unwrap();
        assert_eq!(shared_llvm(&lib, 22), None);
    }
}
