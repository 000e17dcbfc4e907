//! Versions of compilers and linkers, as they print them.

use std::fmt;

/// `major.minor`; the rest never decides anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl Version {
    /// Reads `1.96`, `1.96.0`, `1.97.0-nightly`, `22.1.8-rust`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split(|c: char| !c.is_ascii_digit());
        Some(Self { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What `rustc -vV` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RustcVersion {
    /// `release:` of the compiler, whole, such as `1.96.0` or `1.97.0-nightly`.
    pub release: String,
    /// The same, to compare.
    pub version: Version,
    /// The LLVM inside.
    pub llvm: Version,
    /// The triple the compiler runs on.
    pub host: String,
}

impl RustcVersion {
    /// Reads the output of `rustc -vV`. `None` where it is not a rustc with LLVM.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let field = |name: &str| output.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let release = field("release:")?;
        Some(Self {
            release: release.to_owned(),
            version: Version::parse(release)?,
            llvm: Version::parse(field("LLVM version:")?)?,
            host: field("host:")?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_of_a_distribution() {
        let output = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
            commit-hash: ac68\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        let version = RustcVersion::parse(output).unwrap();
        assert_eq!(version.version, Version { major: 1, minor: 96 });
        assert_eq!(version.llvm, Version { major: 22, minor: 1 });
        assert_eq!(version.host, "x86_64-unknown-linux-gnu");
    }

    #[test]
    fn rustc_of_rustup_nightly() {
        let output = "rustc 1.97.0-nightly (abc 2026-05-01)\nhost: aarch64-unknown-linux-gnu\nrelease: 1.97.0-nightly\n\
            LLVM version: 22.1.4\n";
        assert_eq!(RustcVersion::parse(output).unwrap().release, "1.97.0-nightly");
    }

    #[test]
    fn what_is_not_rustc_is_refused() {
        assert_eq!(RustcVersion::parse(""), None);
        assert_eq!(RustcVersion::parse("error: toolchain 'nightly' is not installed"), None);
        assert_eq!(RustcVersion::parse("host: x\nrelease: 1.96.0\n"), None, "a cranelift-only rustc has no LLVM");
        assert_eq!(RustcVersion::parse("host: x\nrelease: one\nLLVM version: 22.1\n"), None);
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(Version::parse("1.100.0") > Version::parse("1.99.1"));
        assert!(Version::parse("22.1.8-rust-1.96") > Version::parse("21.9"));
        assert_eq!(Version::parse("x"), None);
    }
}
