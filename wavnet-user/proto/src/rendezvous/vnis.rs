//! Sets of VNIs, small: most hosts have a few.

use std::collections::BTreeSet;

use wavnet_common::addr::Vni;

/// VNIs, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vnis(Box<[Vni]>);

impl Vnis {
    pub(super) fn iter(&self) -> impl Iterator<Item = Vni> {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, vni: Vni) -> bool {
        self.0.binary_search(&vni).is_ok()
    }

    /// True if some VNI is in both.
    pub(super) fn meet(&self, other: &Vnis) -> bool {
        let (few, many) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        few.iter().any(|vni| many.contains(vni))
    }

    /// Those of both.
    pub(super) fn with(&self, other: &Vnis) -> Vnis {
        self.iter().chain(other.iter()).collect()
    }

    /// Those that the other one has not.
    pub(super) fn without(&self, other: &Vnis) -> Vnis {
        self.iter().filter(|vni| !other.contains(*vni)).collect()
    }

    /// The first ones, so many.
    pub(super) fn first(self, many: usize) -> Vnis {
        if self.0.len() <= many { self } else { self.iter().take(many).collect() }
    }
}

impl FromIterator<Vni> for Vnis {
    fn from_iter<T: IntoIterator<Item = Vni>>(vnis: T) -> Vnis {
        let sorted: BTreeSet<Vni> = vnis.into_iter().collect();
        Vnis(sorted.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(vnis: &[u32]) -> Vnis {
        vnis.iter().map(|n| Vni::new(*n).unwrap()).collect()
    }

    #[test]
    fn sets_of_vnis() {
        let (a, b) = (set(&[5, 1, 3, 1]), set(&[3, 9]));
        assert_eq!((a.with(&b), a.without(&b)), (set(&[1, 3, 5, 9]), set(&[1, 5])));
        assert_eq!((a.clone().first(2), a.clone().first(3)), (set(&[1, 3]), a.clone()));
        assert!(a.meet(&b) && b.meet(&a) && !set(&[1, 5]).meet(&b) && !set(&[]).meet(&b));
        assert!(set(&[]).is_empty() && a.contains(Vni::new(5).unwrap()) && !b.contains(Vni::new(5).unwrap()));
    }
}
