//! What STUN clients find out about a NAT, held against what it is.

use anyhow::Result;

use super::{
    kind::{Behaviour, Classic, Dependence},
    stun::Servers,
};
use crate::lab::host::Host;

/// A STUN client, whoever made it.
pub trait Classifier: Sync {
    /// What reports call it.
    fn name(&self) -> &'static str;

    /// Runs it on a host, from a local port, which must be free.
    ///
    /// # Errors
    /// It does not run, or says nothing that can be understood: what it said.
    fn classify(&self, host: &Host, port: u16, servers: &Servers) -> Result<Finding>;
}

/// What a client found out; `None`: it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// The host's address was changed.
    pub translated: Option<bool>,
    /// On what the mapping depends. Independent without translation, too.
    pub mapping: Option<Dependence>,
    /// On what it depends whether a packet is let in.
    pub filtering: Option<Dependence>,
    /// The type of RFC 3489.
    pub classic: Option<Classic>,
    /// The mapped port is the host's own.
    pub keeps_port: Option<bool>,
    /// The host reaches itself by its external endpoint.
    pub hairpins: Option<bool>,
}

/// What is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// What the router does.
    pub behaviour: Behaviour,
    /// The host's port is its own outside, too; `None`: that is left to chance.
    pub keeps_port: Option<bool>,
    /// It hairpins. A host without translation always reaches itself.
    pub hairpins: bool,
}

impl Expected {
    /// Which findings are not as expected, in words.
    pub fn differences(&self, finding: &Finding) -> Vec<String> {
        let Expected { behaviour, keeps_port, hairpins } = *self;
        let mapping = behaviour.mapping.unwrap_or(Dependence::EndpointIndependent);
        let translated = behaviour.mapping.is_some();
        [
            differs("translated", finding.translated, translated),
            differs("mapping", finding.mapping, mapping),
            differs("filtering", finding.filtering, behaviour.filtering),
            differs("type", finding.classic, behaviour.classic()),
            keeps_port.and_then(|kept| differs("keeps its port", finding.keeps_port, kept)),
            differs("hairpins", finding.hairpins, hairpins || !translated),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn differs<T: PartialEq + std::fmt::Debug>(what: &str, found: Option<T>, expected: T) -> Option<String> {
    let found = found.filter(|found| *found != expected)?;
    Some(format!("{what}: {found:?} and not {expected:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::nat::NatKind;

    #[test]
    fn what_a_client_does_not_tell_is_no_difference() {
        let behaviour = NatKind::RestrictedCone.behaviour();
        let expected = Expected { behaviour, keeps_port: Some(true), hairpins: false };
        assert!(expected.differences(&Finding::default()).is_empty());
        let right = Finding {
            translated: Some(true),
            mapping: Some(Dependence::EndpointIndependent),
            filtering: Some(Dependence::AddressDependent),
            classic: Some(Classic::RestrictedCone),
            keeps_port: Some(true),
            hairpins: Some(false),
        };
        assert!(expected.differences(&right).is_empty());
        let wrong = Finding { classic: Some(Classic::FullCone), hairpins: Some(true), ..right };
        let said = expected.differences(&wrong).join("; ");
        assert_eq!(said, "type: FullCone and not RestrictedCone; hairpins: true and not false");
    }
}
