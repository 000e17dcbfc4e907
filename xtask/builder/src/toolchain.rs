//! The pair of compiler and linker that builds the kernel programs.

use std::{fs, io};

use crate::{
    compiler::{self, Compiler, Core, Origin},
    error::Error,
    layout::Layout,
    linker::{self, Linker},
};

/// A compiler and a linker that fit each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Makes the bitcode.
    pub compiler: Compiler,
    /// Makes the object.
    pub linker: Linker,
}

impl Toolchain {
    /// Looks for the best pair.
    ///
    /// # Errors
    ///
    /// [`Error::NoToolchain`] with one line for everything that was looked at.
    pub fn find(layout: &Layout) -> Result<Self, Error> {
        let mut looked_at = Vec::new();
        let mut linkers = Vec::new();
        for path in linker::candidates(layout) {
            match linker::probe(&path) {
                Ok(linker) => linkers.push(linker),
                Err(why) => looked_at.push(why),
            }
        }
        if linkers.is_empty() {
            looked_at.push("no bpf-linker".into());
        }
        let mut compilers = Vec::new();
        for candidate in compiler::candidates(layout) {
            match compiler::probe(&candidate) {
                // What the user named or `setup` installed comes first anyway: no need to ask all the others.
                Ok(compiler) if matches!(compiler.origin, Origin::Environment | Origin::Setup) => {
                    if let Some(pair) = pair(std::slice::from_ref(&compiler), &linkers) {
                        return Ok(pair);
                    }
                    compilers.push(compiler);
                }
                Ok(compiler) => compilers.push(compiler),
                Err(why) => looked_at.push(why),
            }
        }
        if let Some(pair) = pair(&compilers, &linkers) {
            return Ok(pair);
        }
        looked_at.extend(compilers.iter().filter(|_| !linkers.is_empty()).map(|compiler| {
            format!(
                "{}: has LLVM {}, newer than that of every bpf-linker found",
                compiler.rustc.display(),
                compiler.version.llvm
            )
        }));
        if compilers.is_empty() {
            looked_at.push("no rustc with a core for BPF".into());
        }
        Err(Error::NoToolchain(looked_at))
    }

    /// One line that says everything an object depends on beside its sources.
    #[must_use]
    pub fn identity(&self) -> String {
        let Self { compiler, linker } = self;
        format!(
            "rustc {} (LLVM {}, {}) {} + {} {}",
            compiler.version.release,
            compiler.version.llvm,
            match compiler.core {
                Core::Prebuilt => "compiled core",
                Core::Source => "core from source",
            },
            compiler.rustc.display(),
            linker.name,
            linker.path.display(),
        )
    }
}

/// The first compiler, by preference, for which there is a linker. Within one origin a compiled core goes before a
/// source, and a newer compiler before an older.
fn pair(compilers: &[Compiler], linkers: &[Linker]) -> Option<Toolchain> {
    let mut order: Vec<&Compiler> = compilers.iter().collect();
    order.sort_by_key(|compiler| {
        let origin = match compiler.origin {
            Origin::Environment => 0,
            Origin::Setup => 1,
            Origin::Rustup(_) => 2,
            Origin::System => 3,
        };
        (origin, compiler.core != Core::Prebuilt, std::cmp::Reverse(compiler.version.version))
    });
    order.into_iter().find_map(|compiler| {
        let linker = linkers.iter().find(|linker| linker.reads(compiler.version.llvm))?;
        Some(Toolchain { compiler: compiler.clone(), linker: linker.clone() })
    })
}

/// Notes which toolchain is in use in the file that build scripts watch; changes it only when the answer changes.
///
/// # Errors
///
/// Those of writing the file.
pub fn note(layout: &Layout, found: Option<&Toolchain>) -> io::Result<()> {
    let text = found.map_or_else(|| "none\n".to_owned(), |toolchain| toolchain.identity() + "\n");
    let stamp = layout.stamp();
    if fs::read_to_string(&stamp).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::create_dir_all(layout.target())?;
    fs::write(stamp, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::RustcVersion;

    fn compiler(origin: Origin, core: Core, release: &str, llvm: u32) -> Compiler {
        let text = format!("host: h\nrelease: {release}\nLLVM version: {llvm}.1.0\n");
        Compiler { rustc: release.into(), version: RustcVersion::parse(&text).unwrap(), core, origin }
    }

    fn linker(name: &str, llvm: u32) -> Linker {
        Linker { path: name.into(), name: name.into(), llvm: Some(llvm) }
    }

    fn rustup() -> Origin {
        Origin::Rustup("nightly".into())
    }

    #[test]
    fn what_setup_installed_goes_before_rustup_before_the_system() {
        let compilers = [
            compiler(Origin::System, Core::Prebuilt, "1.99.0", 22),
            compiler(rustup(), Core::Source, "1.98.0", 22),
            compiler(Origin::Setup, Core::Prebuilt, "1.96.0", 22),
        ];
        let linkers = [linker("a", 22)];
        assert_eq!(pair(&compilers, &linkers).unwrap().compiler.origin, Origin::Setup);
        assert_eq!(pair(&compilers[..2], &linkers).unwrap().compiler.origin, rustup());
    }

    #[test]
    fn a_compiled_core_goes_before_source_and_new_before_old() {
        let compilers = [
            compiler(rustup(), Core::Source, "1.99.0", 22),
            compiler(rustup(), Core::Source, "1.100.0", 22),
            compiler(rustup(), Core::Prebuilt, "1.97.0", 22),
        ];
        let linkers = [linker("a", 22)];
        assert_eq!(pair(&compilers, &linkers).unwrap().compiler.version.release, "1.97.0");
        assert_eq!(pair(&compilers[..2], &linkers).unwrap().compiler.version.release, "1.100.0");
    }

    #[test]
    fn a_compiler_too_new_for_every_linker_is_passed_over() {
        let compilers =
            [compiler(rustup(), Core::Source, "1.100.0", 23), compiler(Origin::System, Core::Prebuilt, "1.96.0", 22)];
        let chosen = pair(&compilers, &[linker("old", 21), linker("fits", 22)]).unwrap();
        assert_eq!((chosen.compiler.version.release.as_str(), chosen.linker.name.as_str()), ("1.96.0", "fits"));
        assert_eq!(pair(&compilers, &[linker("old", 21)]), None);
        assert_eq!(pair(&compilers, &[]), None);
    }
}
