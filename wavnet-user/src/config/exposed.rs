//! Files of keys that others may use as well.

use std::{
    fmt,
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{getegid, geteuid};

/// A key's file that others than root and the process's user may use: whoever reads it is the host, or in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    what: &'static str,
    path: PathBuf,
    mode: u32,
    owner: u32,
    group: u32,
}

impl Exposed {
    /// What to do about it.
    pub const HELP: &str =
        "chmod 600, and chown it to root or to the user that runs wavnet; 640 does for root and that user's group";

    /// `None`: the file is as it should be, or none that stays, such as a pipe. `what` is what it has.
    pub(super) fn of(what: &'static str, path: &Path, file: &Metadata) -> Option<Exposed> {
        let (mode, owner, group) = (file.mode() & 0o7777, file.uid(), file.gid());
        let to_group = mode & 0o070 != 0 && ![0, getegid().as_raw()].contains(&group);
        let to_owner = ![0, geteuid().as_raw()].contains(&owner);
        let is_exposed = file.is_file() && (mode & 0o007 != 0 || to_group || to_owner);
        is_exposed.then(|| Exposed { what, path: path.to_owned(), mode, owner, group })
    }

    /// For the operator: what is wrong, and what to do.
    pub fn warning(&self) -> String {
        format!("{self}: {}", Exposed::HELP)
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exposed { what, path, mode, owner, group } = self;
        write!(f, "{what} {} is open to other users (mode {mode:04o}, owner {owner}, group {group})", path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, chown},
    };

    use super::*;

    #[test]
    fn a_file_is_open_to_others_by_its_mode_its_group_or_its_owner() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let found = |mode: u32, owner: u32, group: u32| {
            if geteuid().is_root() {
                chown(path, Some(owner), Some(group)).unwrap();
            }
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            Exposed::of("the secret key", path, &file.as_file().metadata().unwrap())
        };
        let (us, ours) = (geteuid().as_raw(), getegid().as_raw());
        for mode in [0o600, 0o400, 0o640, 0o660] {
            assert_eq!(found(mode, us, ours), None, "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o602, 0o601] {
            let said = found(mode, us, ours).unwrap().warning();
            let begins = format!("the secret key {} is open to other users (mode {mode:04o}, ", path.display());
            assert!(said.starts_with(&begins) && said.contains("chmod 600"), "{said}");
        }
        if geteuid().is_root() {
            let other = 65_533;
            assert_eq!(found(0o600, 0, other), None, "the group may do nothing");
            assert!(found(0o640, 0, other).is_some() && found(0o600, other, 0).is_some());
        }
    }
}
