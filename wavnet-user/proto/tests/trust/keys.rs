//! Keys as text.

use std::collections::BTreeSet;

use wavnet_proto::{
    rng::Rng,
    trust::{AccessKey, KeyError, KeyKind, NetworkKey, PublicKey, SecretKey},
};

struct Texts {
    host: String,
    public: String,
    network: String,
    access: String,
}

fn texts() -> Texts {
    let mut rng = Rng::from_seed([40; 32]);
    let (host, network) = (SecretKey::generate(&mut rng), NetworkKey::generate(&mut rng));
    Texts {
        host: host.to_text().to_string(),
        public: host.public().to_string(),
        network: network.to_text().to_string(),
        access: network.access().to_text().to_string(),
    }
}

/// What a text is when each of the four kinds is wanted.
fn read(text: &str) -> [Option<KeyError>; 4] {
    [
        text.parse::<SecretKey>().err(),
        text.parse::<PublicKey>().err(),
        text.parse::<NetworkKey>().err(),
        text.parse::<AccessKey>().err(),
    ]
}

#[test]
fn keys_survive_a_file() {
    let Texts { host, public, network, access } = texts();
    for (text, len) in [(&host, 12 + 44), (&public, 44), (&network, 15 + 44), (&access, 14 + 56)] {
        assert_eq!(text.len(), len);
    }
    // With the end of a line.
    let read: SecretKey = format!("{host}\n").parse().unwrap();
    assert_eq!((read.to_text().as_str(), read.public().to_string()), (host.as_str(), public.clone()));
    assert_eq!(public.parse::<PublicKey>().unwrap().to_string(), public);
    let read: NetworkKey = format!(" {network}\r\n").parse().unwrap();
    assert_eq!(read.to_text().as_str(), network);
    let read_access: AccessKey = access.parse().unwrap();
    assert_eq!(read_access.to_text().as_str(), access);
    assert_eq!((read.id(), read.member().network()), (read_access.network(), read_access.network()));
}

#[test]
fn keys_are_not_mixed_up() {
    let texts = texts();
    let kinds = [KeyKind::Host, KeyKind::Public, KeyKind::Network, KeyKind::Access];
    for (text, found) in [&texts.host, &texts.public, &texts.network, &texts.access].into_iter().zip(kinds) {
        for (error, wanted) in read(text).into_iter().zip(kinds) {
            assert_eq!(error, (wanted != found).then_some(KeyError::Other { wanted, found }));
        }
    }
    let error = texts.access.parse::<NetworkKey>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "this is an access key; a network key is wanted (`wavnet-network:` and 44 characters of base64)"
    );
}

#[test]
fn damaged_keys_are_refused_and_not_shown() {
    let texts = texts();
    for text in [&texts.host, &texts.public, &texts.network, &texts.access] {
        let wanted = read(text).iter().position(Option::is_none).unwrap();
        let last = text.len();
        for damaged in
            [&text[..last - 1], &text[..last - 4], &format!("{text}A"), &format!("{text}AAAA"), &text.replace('=', "*")]
        {
            let error = read(damaged)[wanted].unwrap();
            assert!(matches!(error, KeyError::Malformed { .. }), "{damaged}: {error:?}");
            assert!(!error.to_string().contains(&text[last - 20..last - 5]));
        }
    }
    for nothing in ["", "\n", "wavnet-network:", "a password", "wavnet-network", "schlüssel"] {
        let errors = read(nothing).map(Option::unwrap);
        assert!(!errors.iter().any(|error| error.to_string().is_empty()), "{nothing}");
        let malformed = errors.iter().filter(|error| matches!(error, KeyError::Malformed { .. })).count();
        assert_eq!(malformed, if nothing == "wavnet-network:" { 1 } else { 4 }, "{nothing}: {errors:?}");
    }
    let zeros = format!("wavnet-network:{}=", "A".repeat(43));
    assert_eq!(zeros.parse::<NetworkKey>().unwrap_err(), KeyError::Zero(KeyKind::Network));
}

#[test]
fn secrets_do_not_show_in_logs() {
    let mut rng = Rng::from_seed([41; 32]);
    let (host, network) = (SecretKey::generate(&mut rng), NetworkKey::generate(&mut rng));
    let (access, member) = (network.access(), network.member());
    assert_eq!(format!("{host:?}"), "SecretKey");
    let id = network.id();
    assert_eq!(
        format!("{network:?}; {access:?}; {member:?}"),
        format!("NetworkKey of {id}; AccessKey of {id}; MemberKey of {id}")
    );
    assert_eq!(format!("{rng:?}"), "Rng");
    let public = host.public();
    assert_eq!(format!("{public:?}"), public.to_string()[..8]);
    assert_eq!(public.short(), public.to_string()[..8]);
}

#[test]
fn every_key_is_another_one() {
    let mut rng = Rng::from_seed([42; 32]);
    let hosts: BTreeSet<PublicKey> = (0..50).map(|_| SecretKey::generate(&mut rng).public()).collect();
    assert_eq!(hosts.len(), 50);
    let networks: BTreeSet<_> = (0..50).map(|_| NetworkKey::generate(&mut rng).id()).collect();
    assert_eq!(networks.len(), 50);
}

#[test]
fn public_keys_that_no_host_has_are_refused() {
    let p = |low: u8, high: u8| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, high);
        bytes
    };
    // 2^255 - 19 and all above it, up to what 256 bits hold; and one below, of order 2 on the twist.
    for low in 0xed..=0xff {
        assert_eq!(PublicKey::new(p(low, 0x7f)), Err(KeyError::Weak));
    }
    assert_eq!(PublicKey::new(p(0xec, 0x7f)), Err(KeyError::Weak));
    assert!(PublicKey::new(p(0xeb, 0x7f)).is_ok());
    for low in [0, 1, 9, 0xff] {
        let mut bytes = [0; 32];
        bytes[0] = low;
        assert_eq!(PublicKey::new(bytes).is_ok(), low > 1);
        // The same number, with the bit that RFC 7748 says to ignore.
        bytes[31] = 0x80;
        assert_eq!(PublicKey::new(bytes), Err(KeyError::Weak));
    }
}
