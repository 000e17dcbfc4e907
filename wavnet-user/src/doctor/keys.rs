//! Who may use the files of keys.

use super::{Check, Verdict};
use crate::config::{Exposed, Mesh, key_files};

const NAME: &str = "key files";

pub(super) fn check(mesh: &Mesh) -> Check {
    match key_files::exposed_of_mesh(mesh) {
        Err(e) => {
            let help = e.help();
            Check::new(NAME, Verdict::Unknown, format!("{:#}", anyhow::Error::from(e)), help)
        }
        Ok(exposed) if exposed.is_empty() => Check::ok(NAME, "nobody else may use them"),
        Ok(exposed) => {
            let found: Vec<String> = exposed.iter().map(Exposed::to_string).collect();
            Check::new(NAME, Verdict::Warn, found.join("; "), Exposed::HELP)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };

    use super::*;
    use crate::config::mesh;

    #[test]
    fn key_files_that_others_may_use_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let [host, network] = ["host.key", "network.key"].map(|name| dir.path().join(name));
        let mesh = Mesh { key: host.clone(), network_key: Some(network.clone()), ..mesh::defaults() };
        assert_eq!(check(&mesh).verdict, Verdict::Unknown);
        for file in [&host, &network] {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        }
        assert_eq!(check(&mesh).verdict, Verdict::Ok);
        fs::set_permissions(&network, Permissions::from_mode(0o644)).unwrap();
        let found = check(&mesh);
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(found.found.starts_with(&format!("the network key {} is open", network.display())), "{found:?}");
        assert!(!found.found.contains("host.key") && found.mend.unwrap().contains("chmod 600"));
    }
}
