//! Single values: from text, with an error in words that say how to write it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::ValueEnum;
use wavnet_common::addr::{Mac, Vni};

use super::{
    pattern::{InterfacePattern, check_name},
    rendezvous::RelayXdp,
    types::{Agent, Fdb},
};

/// A duration: a whole number with unit `s`, `m` or `h`.
///
/// # Errors
/// In words.
pub fn duration(s: &str) -> Result<Duration, String> {
    const HOW: &str = "write a duration as a whole number with a unit: \"300s\", \"5m\" or \"2h\"";
    let at = s.find(|c: char| !c.is_ascii_digit()).ok_or(HOW)?;
    let (number, unit) = s.split_at(at);
    let scale: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(HOW.into()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).ok_or(HOW)?;
    Ok(Duration::from_secs(seconds))
}

/// An ageing time: a [`duration`] from [`Fdb::AGEING_MIN`] to [`Fdb::AGEING_MAX`].
///
/// # Errors
/// In words.
pub fn ageing(s: &str) -> Result<Duration, String> {
    let d = duration(s)?;
    if (Fdb::AGEING_MIN..=Fdb::AGEING_MAX).contains(&d) {
        Ok(d)
    } else {
        Err("the ageing time must be from 1s to 8h (the kernel's clock field is 16 bits of about a second)".into())
    }
}

/// The address of an endpoint, or `off`.
///
/// # Errors
/// In words.
pub fn listen(s: &str) -> Result<Option<SocketAddr>, String> {
    if s == "off" {
        return Ok(None);
    }
    s.parse()
        .map(Some)
        .map_err(|_| "write an address and port, as \"127.0.0.1:9810\" or \"[::1]:9810\", or \"off\"".into())
}

/// Where a server listens: an address, or all of a family, and a port.
///
/// # Errors
/// In words.
pub fn server_address(s: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr =
        s.parse().map_err(|_| "write an address and port, as \"0.0.0.0:4789\" or \"[::]:4789\"".to_owned())?;
    if addr.port() == 0 {
        return Err("port 0 is none: agents must know where the server is".into());
    }
    if addr.ip().is_unspecified() { Ok(addr) } else { server_ip(&addr.ip().to_string()).map(|_| addr) }
}

/// An address of one host that may be a server's.
///
/// # Errors
/// In words.
pub fn server_ip(s: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = s.parse().map_err(|_| "write an address, as \"192.0.2.1\" or \"2001:db8::1\"".to_owned())?;
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(format!("{ip} is not the address of one host"));
    }
    Ok(ip)
}

/// A lease: a [`duration`] from 30 seconds to 12 hours.
///
/// # Errors
/// In words.
pub fn lease(s: &str) -> Result<Duration, String> {
    let lease = duration(s)?;
    let allowed = Duration::from_secs(30)..=Duration::from_secs(12 * 3600);
    if allowed.contains(&lease) { Ok(lease) } else { Err("a lease must be from 30s to 12h".into()) }
}

/// A file or directory: absolute, for who reads it again may stand elsewhere.
pub(super) fn path(s: &str) -> Result<PathBuf, String> {
    absolute(s)
}

/// An address of one host that may be a VTEP.
///
/// # Errors
/// In words.
pub fn vtep(s: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = s.parse().map_err(|_| "write an IPv4 address, such as \"192.0.2.2\"".to_owned())?;
    check_vtep(address).map(|()| address)
}

/// Refuses addresses that no VTEP can have.
///
/// # Errors
/// In words.
pub fn check_vtep(address: Ipv4Addr) -> Result<(), String> {
    let kind = if address.octets()[0] == 0 {
        "an unspecified"
    } else if address.is_multicast() {
        "a multicast"
    } else if address.is_broadcast() {
        "the broadcast"
    } else if address.is_loopback() {
        "a loopback"
    } else {
        return Ok(());
    };
    Err(format!("{address} is {kind} address; a VTEP has a unicast address of its own"))
}

/// A MAC that a station may have.
///
/// # Errors
/// In words.
pub fn station(s: &str) -> Result<Mac, String> {
    let mac: Mac = s.parse().map_err(|e: wavnet_common::addr::AddrError| e.to_string())?;
    if mac.is_station() {
        Ok(mac)
    } else {
        Err(format!("{mac} is {}, which no station has", if mac.is_group() { "a group address" } else { "zero" }))
    }
}

/// A VNI from TOML's integers.
pub(super) fn vni(n: i64) -> Result<Vni, String> {
    u32::try_from(n)
        .ok()
        .and_then(|n| Vni::new(n).ok())
        .ok_or_else(|| format!("{n} is no VNI: write a number from 1 to 16777215"))
}

/// Where the kernel relays.
///
/// # Errors
/// In words.
pub fn relay_xdp(s: &str) -> Result<RelayXdp, String> {
    match s {
        "auto" => Ok(RelayXdp::Auto),
        "off" => Ok(RelayXdp::Off),
        name => interface(name).map(RelayXdp::Interface),
    }
}

/// A plain interface name.
///
/// # Errors
/// In words.
pub fn interface(s: &str) -> Result<String, String> {
    check_name(s).map(|()| s.to_owned()).map_err(|e| e.to_string())
}

/// A name or pattern.
pub(super) fn pattern(s: &str) -> Result<InterfacePattern, String> {
    s.parse().map_err(|e: super::pattern::PatternError| e.to_string())
}

/// Permissions in octal.
pub(super) fn mode(s: &str) -> Result<u32, String> {
    let digits = s.strip_prefix("0o").unwrap_or(s);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o777 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(mode),
        _ => Err("write permissions in octal, as \"0660\"".into()),
    }
}

/// A directory for pins: absolute; bpffs reserves dots in names.
///
/// # Errors
/// In words.
pub fn bpffs(s: &str) -> Result<PathBuf, String> {
    let path = absolute(s)?;
    match path.file_name().map(|n| n.to_string_lossy().contains('.')) {
        Some(false) => Ok(path),
        Some(true) => Err("the last part must not contain a dot: bpffs reserves those names".into()),
        None => Err(format!("write a directory inside a bpf file system, such as \"{}\"", Agent::BPFFS)),
    }
}

/// A directory for the socket: absolute, and short enough for a socket's address.
///
/// # Errors
/// In words.
pub fn run_dir(s: &str) -> Result<PathBuf, String> {
    let path = absolute(s)?;
    fits_socket(path.join(Agent::SOCKET))?;
    Ok(path)
}

/// A socket to talk to: short enough for a socket's address.
///
/// # Errors
/// In words.
pub fn socket(s: &str) -> Result<PathBuf, String> {
    fits_socket(PathBuf::from(s))
}

fn fits_socket(socket: PathBuf) -> Result<PathBuf, String> {
    // sun_path has 108 bytes, the final zero included.
    const LONGEST: usize = 107;
    let length = socket.as_os_str().len();
    if length > LONGEST {
        let path = socket.display();
        return Err(format!("the path of the socket, {path}, has {length} bytes; the kernel takes {LONGEST}"));
    }
    Ok(socket)
}

/// An absolute path.
pub(super) fn absolute(s: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(s);
    if path.is_absolute() && !s.contains('\0') {
        Ok(path)
    } else {
        Err("write an absolute path, beginning with /".into())
    }
}

/// A name for people: not empty, one line, not endless.
///
/// # Errors
/// In words.
pub fn label(s: &str) -> Result<String, String> {
    if s.trim().is_empty() || s.chars().count() > 64 || s.chars().any(char::is_control) {
        Err("write a name of 1 to 64 characters in one line".into())
    } else {
        Ok(s.to_owned())
    }
}

/// One word of an enum.
///
/// # Errors
/// In words.
pub fn word<T: ValueEnum>(s: &str) -> Result<T, String> {
    T::from_str(s, false).map_err(|_| {
        let words: Vec<String> = T::value_variants()
            .iter()
            .filter_map(|v| Some(format!("\"{}\"", v.to_possible_value()?.get_name())))
            .collect();
        format!("\"{}\" is none of {}", s.escape_debug(), words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("300s"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "300", "s", "-1s", "1.5h", "99999999999999999999s", "9999999999999999999h", "5 m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(ageing("0s").is_err() && ageing("1s").is_ok() && ageing("8h").is_ok() && ageing("28801s").is_err());
    }

    #[test]
    fn vteps_are_unicast() {
        assert!(vtep("192.0.2.1").is_ok());
        for bad in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "127.0.0.1", "fe80::1", "192.0.2"] {
            assert!(vtep(bad).is_err(), "{bad}");
        }
        assert!(vtep("0.0.0.0").unwrap_err().starts_with("0.0.0.0 is an unspecified address"));
    }

    #[test]
    fn paths_and_modes() {
        assert!(bpffs("/sys/fs/bpf/wavnet").is_ok());
        assert!(bpffs("/sys/fs/bpf/a.b").is_err() && bpffs("wavnet").is_err() && bpffs("/").is_err());
        assert!(run_dir("/run/wavnet").is_ok() && run_dir(&format!("/{}", "x".repeat(120))).is_err());
        assert_eq!(mode("0660"), Ok(0o660));
        assert!(mode("680").is_err() && mode("+660").is_err() && mode("7777").is_err());
    }
}
