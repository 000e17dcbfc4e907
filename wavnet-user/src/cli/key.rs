//! `wavnet key …`: keys into files that nobody else may read, and their public parts to standard output.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::json;
use wavnet_proto::trust::{NetworkKey, SecretKey};
use zeroize::Zeroizing;

use super::{failure::FileExists, print::Printer, server_args::KeyCommand};
use crate::{config::key_files, random};

/// Makes or shows a key.
pub(super) fn run(printer: &mut Printer, command: KeyCommand) -> Result<()> {
    match command {
        KeyCommand::Generate { file } => {
            let key = SecretKey::generate(&mut random::generator()?);
            write(&file, &key.to_text())?;
            show(printer, Some(&file), "public_key", &key.public().to_string())
        }
        KeyCommand::Public { file } => {
            let key = key_files::secret_key(&file)?.key;
            show(printer, None, "public_key", &key.public().to_string())
        }
        KeyCommand::Network { file } => {
            let key = NetworkKey::generate(&mut random::generator()?);
            write(&file, &key.to_text())?;
            show(printer, Some(&file), "network", &key.id().to_string())
        }
        KeyCommand::Access { network_key, file } => {
            let key = key_files::network_key(&network_key)?.key;
            write(&file, &key.access().to_text())?;
            show(printer, Some(&file), "network", &key.id().to_string())
        }
    }
}

/// What may be known to everybody.
fn show(printer: &mut Printer, file: Option<&Path>, name: &str, value: &str) -> Result<()> {
    if printer.json {
        return printer.value(&json!({"file": file, name: value}));
    }
    printer.text(&format!("{value}\n"))
}

/// A new file that only its owner may read, on the disk when this returns.
fn write(path: &Path, text: &str) -> Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match made {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(FileExists(path.to_owned()).into()),
        other => other.with_context(|| format!("cannot make {}", path.display()))?,
    };
    let line = Zeroizing::new(format!("{text}\n"));
    let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_the_owners_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        write(&path, "first").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&path, "second").unwrap_err().is::<FileExists>());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first\n");
        let nowhere = write(&dir.path().join("no/a.key"), "x").unwrap_err();
        assert!(format!("{nowhere:#}").starts_with("cannot make "), "{nowhere:#}");
    }
}
