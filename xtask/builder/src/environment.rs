//! The environment of the inner cargo: what the outer one set for itself must not reach it.

use std::{ffi::OsStr, process::Command};

/// Variables that say how to reach registries, where caches are and how to print; the user meant them for every cargo.
const KEPT: &[&str] = &["CARGO_HOME", "CARGO_BUILD_JOBS", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_TERM_"];

/// Set by cargo for build scripts, without a telling prefix.
const OF_BUILD_SCRIPTS: &[&str] =
    &["TARGET", "HOST", "OUT_DIR", "NUM_JOBS", "OPT_LEVEL", "PROFILE", "DEBUG", "MAKEFLAGS", "MFLAGS"];

/// Whether a variable belongs to the outer build and would change the inner one: flags, wrappers, other compilers,
/// the job server, or a build script's own description of its package.
#[must_use]
pub fn leaks(name: &str) -> bool {
    if name.starts_with("CARGO") {
        return !KEPT.iter().any(|kept| name.starts_with(kept));
    }
    name.starts_with("RUSTC")
        || name.starts_with("RUSTDOC")
        || name.starts_with("DEP_")
        || name == "RUSTFLAGS"
        || name == "RUSTUP_TOOLCHAIN"
        || name == "CLIPPY_ARGS"
        || OF_BUILD_SCRIPTS.contains(&name)
}

/// Removes from `command` every inherited variable that [`leaks`].
pub fn scrub(command: &mut Command) {
    let leaking: Vec<_> = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(leaks)).collect();
    for (name, _) in leaking {
        command.env_remove(AsRef::<OsStr>::as_ref(&name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_descriptions_of_the_outer_build_stay_outside() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_PKG_NAME",
            "CARGO",
            "CARGO_MAKEFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC",
            "RUSTUP_TOOLCHAIN",
            "DEP_Z_ROOT",
            "TARGET",
        ] {
            assert!(leaks(name), "{name}");
        }
    }

    #[test]
    fn access_to_registries_and_everything_else_goes_through() {
        for name in ["CARGO_HOME", "CARGO_HTTP_PROXY", "CARGO_REGISTRIES_X_TOKEN", "CARGO_NET_OFFLINE", "PATH", "HOME"]
        {
            assert!(!leaks(name), "{name}");
        }
    }
}
