//! Events that could come by the thousand are told once a minute each.

use std::{collections::BTreeMap, time::Duration};

use crate::{time::Time, trust::PublicKey};

const EVERY: Duration = Duration::from_secs(60);
/// Subjects that are remembered; with more of them in a minute, some are not told at all.
const MOST: usize = 1024;
/// Of hosts that may not come: where a network has no key, anybody can invent them.
const MOST_REFUSED: usize = 8;

/// What is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Refused(PublicKey),
    Duplicate(PublicKey),
    Full,
}

/// When what was told.
#[derive(Debug, Default)]
pub(super) struct Damper {
    refused: BTreeMap<Subject, Time>,
    others: BTreeMap<Subject, Time>,
}

impl Damper {
    /// True if it is to be told now.
    pub(super) fn tells(&mut self, now: Time, subject: Subject) -> bool {
        let (told, most) = match subject {
            Subject::Refused(_) => (&mut self.refused, MOST_REFUSED),
            Subject::Duplicate(_) | Subject::Full => (&mut self.others, MOST),
        };
        if told.get(&subject).is_some_and(|told| now.since(*told) < EVERY) {
            return false;
        }
        if told.len() >= most {
            told.retain(|_, told| now.since(*told) < EVERY);
        }
        if told.len() >= most {
            return false;
        }
        told.insert(subject, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rng::Rng, trust::SecretKey};

    #[test]
    fn each_once_a_minute_and_no_more_than_can_be_remembered() {
        let (mut damper, mut rng) = (Damper::default(), Rng::from_seed([3; 32]));
        let later = Time::ZERO + EVERY;
        assert!(
            damper.tells(Time::ZERO, Subject::Full) && !damper.tells(later - Duration::from_nanos(1), Subject::Full)
        );
        assert!(damper.tells(later, Subject::Full));
        let mut told = |now, subject: fn(PublicKey) -> Subject| {
            let keys = (0..2 * MOST).map(|_| SecretKey::generate(&mut rng).public());
            keys.filter(|key| damper.tells(now, subject(*key))).count()
        };
        assert_eq!(told(later, Subject::Duplicate), MOST - 1);
        assert_eq!(told(later, Subject::Duplicate), 0);
        assert_eq!(told(later, Subject::Refused), MOST_REFUSED, "beside all others");
        assert_eq!(told(later + EVERY, Subject::Duplicate), MOST, "what is old makes room");
    }
}
