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
    /// Everybody who has it but these.
    Except(BTreeSet<PublicKey>),
    /// These identities alone; each in the VNIs named, or in every one.
    Listed(BTreeMap<PublicKey, Option<BTreeSet<Vni>>>),
}

impl Policy {
    /// The same without those that were revoked, whatever else was said of them.
    #[must_use]
    pub fn without(self, revoked: BTreeSet<PublicKey>) -> Policy {
        match self {
            Policy::Network if revoked.is_empty() => Policy::Network,
            Policy::Network => Policy::Except(revoked),
            Policy::Except(before) => Policy::Except(&before | &revoked),
            Policy::Listed(mut listed) => {
                listed.retain(|host, _| !revoked.contains(host));
                Policy::Listed(listed)
            }
        }
    }

    /// True if this identity may be in it.
    #[must_use]
    pub fn admits(&self, host: &PublicKey) -> bool {
        match self {
            Policy::Network => true,
            Policy::Except(revoked) => !revoked.contains(host),
            Policy::Listed(listed) => listed.contains_key(host),
        }
    }

    /// True if this identity may be in that VNI.
    #[must_use]
    pub fn allows(&self, host: &PublicKey, vni: Vni) -> bool {
        match self {
            Policy::Network | Policy::Except(_) => self.admits(host),
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
    #[test]
    fn who_is_revoked_is_out_of_every_network_and_every_list() {
        let mut rng = Rng::from_seed([2; 32]);
        let [stays, goes, before] = [0; 3].map(|_| SecretKey::generate(&mut rng).public());
        let vni = Vni::new(1).unwrap();
        let listed = Policy::Listed([stays, goes].map(|host| (host, Some(BTreeSet::from([vni])))).into());
        for policy in [Policy::Network, Policy::Except([before].into()), listed.clone()] {
            let left = policy.without([goes].into());
            assert!(left.admits(&stays) && left.allows(&stays, vni), "{left:?}");
            assert!(!left.admits(&goes) && !left.allows(&goes, vni), "{left:?}");
        }
        assert!(!Policy::Except([before].into()).without([goes].into()).admits(&before));
        for policy in [Policy::Network, listed] {
            assert_eq!(policy.clone().without(BTreeSet::new()), policy);
        }
    }
}
