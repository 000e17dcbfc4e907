//! Events that could come by the thousand are told once a minute each.

use std::{collections::BTreeMap, time::Duration};

use crate::{time::Time, trust::PublicKey};

const EVERY: Duration = Duration::from_secs(60);
/// Subjects that are remembered; with more of them in a minute, some are not told at all.
const MOST: usize = 1024;

/// What is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Refused(PublicKey),
    Duplicate(PublicKey),
    Full,
}

/// When what was told.
#[derive(Debug, Default)]
pub(super) struct Damper(BTreeMap<Subject, Time>);

impl Damper {
    /// True if it is to be told now.
    pub(super) fn tells(&mut self, now: Time, subject: Subject) -> bool {
        if self.0.get(&subject).is_some_and(|told| now.since(*told) < EVERY) {
            return false;
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, told| now.since(*told) < EVERY);
        }
        if self.0.len() >= MOST {
            return false;
        }
        self.0.insert(subject, now);
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
        let mut told = |now| {
            let keys = (0..2 * MOST).map(|_| SecretKey::generate(&mut rng).public());
            keys.filter(|key| damper.tells(now, Subject::Refused(*key))).count()
        };
        assert_eq!(told(later), MOST - 1);
        assert_eq!(told(later), 0);
        assert_eq!(told(later + EVERY), MOST, "what is old makes room");
    }
}
