//! How addresses are written in JSON: MACs as text, VNIs as numbers.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
use wavnet_common::addr::Vni;

/// Serialises by `Display`.
pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}

/// Deserialises by `FromStr`.
pub(crate) fn deserialize<'de, T, D>(d: D) -> Result<T, D::Error>
where
    T: FromStr,
    T::Err: Display,
    D: Deserializer<'de>,
{
    String::deserialize(d)?.parse().map_err(D::Error::custom)
}

/// Optional text; absent when `None`.
pub(crate) mod option {
    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(v) => s.collect_str(v),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        match Option::<String>::deserialize(d)? {
            Some(s) => s.parse().map(Some).map_err(D::Error::custom),
            None => Ok(None),
        }
    }
}

/// A VNI as a number.
pub(crate) mod vni {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Vni, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u32(value.get())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vni, D::Error> {
        Vni::new(u32::deserialize(d)?).map_err(D::Error::custom)
    }

    /// An optional VNI.
    pub(crate) mod option {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(value: &Option<Vni>, s: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(v) => s.serialize_u32(v.get()),
                None => s.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vni>, D::Error> {
            Option::<u32>::deserialize(d)?.map(Vni::new).transpose().map_err(D::Error::custom)
        }
    }

    /// A list of VNIs.
    pub(crate) mod list {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(value: &[Vni], s: S) -> Result<S::Ok, S::Error> {
            s.collect_seq(value.iter().map(|v| v.get()))
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Vni>, D::Error> {
            Vec::<u32>::deserialize(d)?.into_iter().map(Vni::new).collect::<Result<_, _>>().map_err(D::Error::custom)
        }
    }
}
