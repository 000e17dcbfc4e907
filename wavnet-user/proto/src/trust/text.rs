//! Keys as text, in files and on the command line: a prefix says which kind it is, so that they cannot be mixed up.

use std::fmt;

use base64ct::{Base64, Encoding as _};
use zeroize::Zeroizing;

/// The kinds of keys that there are as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// A host's secret key: `wavnet-host:` and 44 characters.
    Host,
    /// A host's public key: 44 characters.
    Public,
    /// A network key: `wavnet-network:` and 44 characters.
    Network,
    /// An access key: `wavnet-access:` and 56 characters.
    Access,
}

impl KeyKind {
    const ALL: [KeyKind; 4] = [KeyKind::Host, KeyKind::Public, KeyKind::Network, KeyKind::Access];

    /// What its text begins with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            KeyKind::Host => "wavnet-host:",
            KeyKind::Public => "",
            KeyKind::Network => "wavnet-network:",
            KeyKind::Access => "wavnet-access:",
        }
    }

    /// Characters behind the prefix: base64 (RFC 4648 section 4) of 32 bytes, or of 40.
    #[must_use]
    pub const fn characters(self) -> usize {
        match self {
            KeyKind::Access => 56,
            KeyKind::Host | KeyKind::Public | KeyKind::Network => 44,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyKind::Host => "a host's secret key",
            KeyKind::Public => "a host's public key",
            KeyKind::Network => "a network key",
            KeyKind::Access => "an access key",
        })
    }
}

/// Why something is not the key that is wanted. Says nothing of what the text is, in case it is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is a key of another kind.
    #[error("this is {found}; {wanted} is wanted ({})", form(*.wanted))]
    Other {
        /// What is wanted.
        wanted: KeyKind,
        /// What it is.
        found: KeyKind,
    },
    /// It begins as such a key does, but is damaged, or it is no key at all.
    #[error("this is not {wanted} ({})", form(*.wanted))]
    Malformed {
        /// What is wanted.
        wanted: KeyKind,
    },
    /// All zeros: a file that was never written, not a key.
    #[error("{0} of zeros only: make a new one")]
    Zero(KeyKind),
    /// A public key with which whatever secret gives the same result (RFC 7748 section 6.1), or a second way to write another key.
    #[error("no host can have this public key")]
    Weak,
}

/// What a key looks like.
fn form(kind: KeyKind) -> String {
    match kind.prefix() {
        "" => format!("{} characters of base64", kind.characters()),
        prefix => format!("`{prefix}` and {} characters of base64", kind.characters()),
    }
}

/// The text of a key.
pub(super) fn encode(kind: KeyKind, bytes: &[u8]) -> Zeroizing<String> {
    let mut text = String::with_capacity(kind.prefix().len() + kind.characters());
    text.push_str(kind.prefix());
    // Its own allocation is erased, too.
    text.push_str(&Zeroizing::new(Base64::encode_string(bytes)));
    Zeroizing::new(text)
}

/// The bytes of a key. White space around it, such as the end of a file's line, is no part of it.
pub(super) fn decode<const N: usize>(wanted: KeyKind, text: &str) -> Result<Zeroizing<[u8; N]>, KeyError> {
    let text = text.trim();
    let by_prefix = KeyKind::ALL.into_iter().find(|kind| !kind.prefix().is_empty() && text.starts_with(kind.prefix()));
    let found = by_prefix.unwrap_or(KeyKind::Public);
    let rest = text.strip_prefix(found.prefix()).unwrap_or(text);
    if found != wanted {
        // What has no prefix is a key only if it looks like one.
        let looks = by_prefix.is_some() || decode_base64::<32>(rest).is_some();
        return Err(if looks { KeyError::Other { wanted, found } } else { KeyError::Malformed { wanted } });
    }
    let bytes = decode_base64::<N>(rest).ok_or(KeyError::Malformed { wanted })?;
    if bytes.iter().all(|byte| *byte == 0) { Err(KeyError::Zero(wanted)) } else { Ok(bytes) }
}

fn decode_base64<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    let len = Base64::decode(text, &mut *bytes).ok()?.len();
    (len == N).then_some(bytes)
}
