//! Who may be in a network, and in which of its VNIs.

use std::collections::{BTreeMap, BTreeSet};

use wavnet_common::addr::Vni;

use crate::trust::PublicKey;

/// Who may be in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Everybody who has the network's key, in every VNI.
    #[default]
    Network,
    /// These identities alone; each in the VNIs named, or in every one.
    Listed(BTreeMap<PublicKey, Option<BTreeSet<Vni>>>),
}

impl Policy {
    /// True if this identity may be in it.
    #[must_use]
    pub fn admits(&self, host: &PublicKey) -> bool {
        match self {
            Policy::Network => true,
            Policy::Listed(listed) => listed.contains_key(host),
        }
    }

    /// True if this identity may be in that VNI.
    #[must_use]
    pub fn allows(&self, host: &PublicKey, vni: Vni) -> bool {
        match self {
            Policy::Network => true,
            Policy::Listed(listed) => {
                listed.get(host).is_some_and(|vnis| vnis.as_ref().is_none_or(|vnis| vnis.contains(&vni)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rng::Rng, trust::SecretKey};

    #[test]
    fn a_list_is_who_is_on_it_where_it_says() {
        let mut rng = Rng::from_seed([1; 32]);
        let [free, bound, other] = [0; 3].map(|_| SecretKey::generate(&mut rng).public());
        let [a, b] = [1, 2].map(|n| Vni::new(n).unwrap());
        let listed = Policy::Listed(BTreeMap::from([(free, None), (bound, Some(BTreeSet::from([a])))]));
        let all = [free, bound, other];
        assert_eq!(all.map(|host| listed.admits(&host)), [true, true, false]);
        assert_eq!(
            all.map(|host| (listed.allows(&host, a), listed.allows(&host, b))),
            [(true, true), (true, false), (false, false)]
        );
        assert!(all.iter().all(|host| Policy::Network.admits(host) && Policy::Network.allows(host, b)));
    }
}
