//! Names of interfaces, and patterns of them.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// Longest name of an interface (IFNAMSIZ less the final zero).
pub(super) const NAME_MAX: usize = 15;

/// An interface name, or a pattern in which `*` stands for any characters and `?` for exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfacePattern(String);

/// Why a text is neither a name nor a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty.
    #[error("an interface name must not be empty")]
    Empty,
    /// Too long for the kernel.
    #[error("an interface name has at most {NAME_MAX} bytes")]
    Long,
    /// Not allowed by the kernel in names.
    #[error("an interface name has no spaces, slashes, colons or control characters, and is neither `.` nor `..`")]
    Character,
}

/// Checks a plain interface name by the kernel's rules (`dev_valid_name`).
///
/// # Errors
/// [`PatternError`] says which rule is broken.
pub fn check_name(name: &str) -> Result<(), PatternError> {
    if name.is_empty() {
        Err(PatternError::Empty)
    } else if name.len() > NAME_MAX {
        Err(PatternError::Long)
    } else if matches!(name, "." | "..")
        || name.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':'))
    {
        Err(PatternError::Character)
    } else {
        Ok(())
    }
}

impl FromStr for InterfacePattern {
    type Err = PatternError;

    fn from_str(s: &str) -> Result<InterfacePattern, PatternError> {
        // `*` may stand for nothing and so does not count towards the length.
        let shortest: String = s.chars().filter(|c| *c != '*').collect();
        if s.contains('*') && shortest.is_empty() {
            return Ok(InterfacePattern("*".into()));
        }
        check_name(&shortest)?;
        Ok(InterfacePattern(without_double_stars(s)))
    }
}

/// `**` means the same as `*`.
fn without_double_stars(s: &str) -> String {
    let mut chars: Vec<char> = s.chars().collect();
    chars.dedup_by(|a, b| *a == '*' && *b == '*');
    chars.into_iter().collect()
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl InterfacePattern {
    /// The name, if this is no pattern.
    pub fn exact(&self) -> Option<&str> {
        (!self.0.contains(['*', '?'])).then_some(self.0.as_str())
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if `name` is the name, or matches the pattern.
    pub fn matches(&self, name: &str) -> bool {
        let (p, n): (Vec<char>, Vec<char>) = (self.0.chars().collect(), name.chars().collect());
        // Greedy matching with one point to return to: linear for the lengths at hand, and no recursion.
        let (mut i, mut j, mut star) = (0, 0, None);
        while j < n.len() {
            match p.get(i) {
                Some('*') => {
                    star = Some((i, j));
                    i += 1;
                }
                Some(c) if *c == '?' || *c == n[j] => {
                    i += 1;
                    j += 1;
                }
                _ => match star {
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        i = at + 1;
                        j = from + 1;
                    }
                    None => return false,
                },
            }
        }
        p[i..].iter().all(|c| *c == '*')
    }

    /// True if some possible interface name matches both.
    pub fn overlaps(&self, other: &InterfacePattern) -> bool {
        if !self.prefixes_agree(other) {
            return false;
        }
        let (a, b): (Vec<char>, Vec<char>) = (self.0.chars().collect(), other.0.chars().collect());
        // Positions in both patterns that names of the length so far can have reached.
        let mut reached = BTreeSet::from([(0, 0)]);
        for length in 0..=NAME_MAX {
            // A star may stand for nothing.
            let mut todo: Vec<_> = reached.iter().copied().collect();
            while let Some((i, j)) = todo.pop() {
                let skip_a = (a.get(i) == Some(&'*')).then_some((i + 1, j));
                let skip_b = (b.get(j) == Some(&'*')).then_some((i, j + 1));
                todo.extend(skip_a.into_iter().chain(skip_b).filter(|s| reached.insert(*s)));
            }
            if length > 0 && reached.contains(&(a.len(), b.len())) {
                return true;
            }
            reached = reached
                .iter()
                .filter_map(|&(i, j)| {
                    let (x, y) = (*a.get(i)?, *b.get(j)?);
                    let meet = x == y || matches!(x, '*' | '?') || matches!(y, '*' | '?');
                    meet.then_some((i + usize::from(x != '*'), j + usize::from(y != '*')))
                })
                .collect();
        }
        false
    }

    /// Quick answer for the usual case, patterns of different beginnings.
    fn prefixes_agree(&self, other: &InterfacePattern) -> bool {
        let literal = |p: &InterfacePattern| p.0.split(['*', '?']).next().unwrap_or_default().to_owned();
        let (a, b) = (literal(self), literal(other));
        a.bytes().zip(b.bytes()).all(|(x, y)| x == y)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pat(s: &str) -> InterfacePattern {
        s.parse().unwrap()
    }

    #[test]
    fn matches_like_a_shell() {
        for (p, name, yes) in [
            ("tap0", "tap0", true),
            ("tap0", "tap01", false),
            ("tap*", "tap", true),
            ("tap*", "tap17", true),
            ("tap?", "tap", false),
            ("vnet?", "vnet3", true),
            ("*a*b", "xaaab", true),
            ("*a*b", "xaaabc", false),
            ("*", "eth0", true),
        ] {
            assert_eq!(pat(p).matches(name), yes, "{p} {name}");
        }
    }

    #[test]
    fn overlap_is_decided_within_the_longest_name() {
        for (a, b, yes) in [
            ("tap*", "vnet*", false),
            ("tap*", "*0", true),
            ("tap*", "tap1*", true),
            ("tap?", "tap??", false),
            ("tap?", "tap0", true),
            ("aaaaaaaa*", "*bbbbbbbb", false), // 16 characters at the least
            ("aaaaaaaa*", "*bbbbbbb", true),
            ("*", "*", true),
        ] {
            assert_eq!(pat(a).overlaps(&pat(b)), yes, "{a} {b}");
            assert_eq!(pat(b).overlaps(&pat(a)), yes, "{b} {a}");
        }
    }

    #[test]
    fn refuses_what_the_kernel_refuses() {
        assert_eq!("".parse::<InterfacePattern>(), Err(PatternError::Empty));
        assert_eq!("sixteen-bytes-xx".parse::<InterfacePattern>(), Err(PatternError::Long));
        assert!("fifteen-bytes-x".parse::<InterfacePattern>().is_ok());
        for bad in ["a b", "a/b", "a:b", "..", "a\n", "*/*"] {
            assert_eq!(bad.parse::<InterfacePattern>(), Err(PatternError::Character), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_matches_both_means_overlap(a in "[ab*?]{1,6}", b in "[ab*?]{1,6}", name in "[ab]{1,8}") {
            let (a, b) = (pat(&a), pat(&b));
            if a.matches(&name) && b.matches(&name) {
                prop_assert!(a.overlaps(&b));
            }
        }
    }
}
