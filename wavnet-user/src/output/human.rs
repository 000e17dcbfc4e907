//! Numbers as people read them.

/// With thousands set apart: `1,234,567`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of things: `1 port`, `2 ports`.
pub fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", number(n), if n == 1 { "" } else { "s" })
}

/// Bytes in decimal units with three digits or so: `1.2 MB`.
pub fn bytes(n: u64) -> String {
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64;
    for unit in ["kB", "MB", "GB", "TB", "PB"] {
        value /= 1000.0;
        // What would be shown as 1000.0 belongs to the next unit.
        if value < 999.95 {
            return format!("{value:.1} {unit}");
        }
    }
    format!("{:.1} EB", value / 1000.0)
}

/// Seconds, by their two largest units: `3d 4h`.
pub fn duration(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    if d > 0 {
        format!("{d}d {h}h")
    } else if h > 0 {
        format!("{h}h {m}m")
    } else if m > 0 {
        format!("{m}m {s}s")
    } else {
        format!("{s}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!((number(0), number(999), number(1000)), ("0".into(), "999".into(), "1,000".into()));
        assert_eq!((counted(1, "VNI"), counted(2000, "VNI")), ("1 VNI".into(), "2,000 VNIs".into()));
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!((bytes(999), bytes(1000), bytes(999_960)), ("999 B".into(), "1.0 kB".into(), "1.0 MB".into()));
        assert_eq!(bytes(u64::MAX), "18.4 EB");
        assert_eq!((duration(59), duration(61), duration(90_000)), ("59s".into(), "1m 1s".into(), "1d 1h".into()));
    }
}
