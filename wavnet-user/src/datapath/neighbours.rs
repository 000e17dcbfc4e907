//! Which neighbours the kernel manages for this agent.
//!
//! A neighbour cannot say for whom it is managed, and several agents may share a network namespace. So each notes beside its
//! pins which it asked for. The notes are made before the kernel
//! is asked and go after it was told, so that nothing is left behind by an agent that is killed in between.

use std::{net::Ipv4Addr, path::Path};

use super::{
    Datapath, Error,
    pins::{list, mark, remove},
};

/// Interface index and address.
pub type Neighbour = (u32, Ipv4Addr);

impl Datapath {
    /// Notes that a neighbour is managed for this agent.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn note_neighbour(&self, neighbour: Neighbour) -> Result<(), Error> {
        mark(&self.pins.neighbours().join(name(neighbour)))
    }

    /// Takes back [`Datapath::note_neighbour`].
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn forget_neighbour(&self, neighbour: Neighbour) -> Result<(), Error> {
        forget(&self.pins.neighbours(), neighbour)
    }

    /// The neighbours that were noted, by an earlier agent too.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn noted_neighbours(&self) -> Result<Vec<Neighbour>, Error> {
        noted(&self.pins.neighbours())
    }
}

pub(super) fn noted(dir: &Path) -> Result<Vec<Neighbour>, Error> {
    Ok(list(dir)?.iter().filter_map(|name| parse(name)).collect())
}

pub(super) fn forget(dir: &Path, neighbour: Neighbour) -> Result<(), Error> {
    remove(&dir.join(name(neighbour)))
}

/// Without dots, which bpffs reserves.
fn name((ifindex, addr): Neighbour) -> String {
    format!("{ifindex}-{:08x}", addr.to_bits())
}

fn parse(name: &str) -> Option<Neighbour> {
    let (ifindex, addr) = name.split_once('-')?;
    Some((ifindex.parse().ok()?, Ipv4Addr::from_bits(u32::from_str_radix(addr, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for neighbour in [(1, [192, 0, 2, 1].into()), (u32::MAX, [0, 0, 0, 9].into())] {
            assert!(!name(neighbour).contains('.'));
            assert_eq!(parse(&name(neighbour)), Some(neighbour));
        }
        assert_eq!(parse("rubbish"), None);
    }

    #[test]
    fn notes_go_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = ((3, [192, 0, 2, 1].into()), (4, [192, 0, 2, 1].into()));
        for neighbour in [a, b, b] {
            mark(&dir.path().join(name(neighbour))).unwrap();
        }
        forget(dir.path(), a).unwrap();
        forget(dir.path(), a).unwrap();
        assert_eq!(noted(dir.path()).unwrap(), [b]);
        assert_eq!(noted(&dir.path().join("none")).unwrap(), []);
    }
}
