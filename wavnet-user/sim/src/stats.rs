//! Counters: what was sent and delivered, and why the rest was not.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Why a datagram did not arrive.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            const fn text(self) -> &'static str {
                match self {
                    $(Reason::$variant => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// The sender's socket is not open, or has no address of the destination's family.
    NoSource = "no socket to send from",
    /// A link or a path is down.
    LinkDown = "link down",
    /// A link lost it.
    Lost = "lost",
    /// The queue before a link was full.
    QueueFull = "queue full",
    /// Longer than a link's MTU, or than UDP can be; nothing is fragmented.
    TooBig = "too big",
    /// Nobody has this address, or has it any more.
    NoRoute = "no route",
    /// It went through too many routers.
    HopLimit = "too many hops",
    /// A NAT has no mapping for its destination.
    NoMapping = "no mapping",
    /// A NAT or firewall lets nothing in from there.
    Filtered = "filtered",
    /// It was for a port of the router itself, or is by now (see [`NatConfig::open_input`](crate::nat::NatConfig::open_input)).
    ForRouter = "for the router itself",
    /// A NAT or firewall has no room for another entry.
    TableFull = "table full",
    /// A NAT has no free port.
    NoPort = "no free port",
    /// It was for an outer address of the NAT that it came to from inside, which does not hairpin.
    NoHairpin = "no hairpin",
    /// A filter of the scenario dropped it.
    Adversary = "dropped by the adversary",
    /// The host is suspended.
    Suspended = "host suspended",
    /// Nothing runs on the host.
    Stopped = "host stopped",
    /// No socket of the host has that port.
    NoSocket = "no such socket",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// How many were dropped for each reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    /// For this reason.
    #[must_use]
    pub const fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// For any.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those reasons for which there were any.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|&reason| (reason, self.of(reason))).filter(|(_, n)| *n != 0)
    }

    pub(crate) const fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }
}

impl fmt::Display for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return f.write_str("none");
        }
        for (i, (reason, n)) in self.iter().enumerate() {
            write!(f, "{}{n} {reason}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// What a host sent and received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostStats {
    /// Datagrams that its node sent.
    pub sent: u64,
    /// Their bytes, without headers.
    pub sent_bytes: u64,
    /// Datagrams that its node was given, from whomever.
    pub received: u64,
    /// Their bytes, without headers.
    pub received_bytes: u64,
    /// What it sent and nobody received, copies that were made on the way included.
    pub lost: Drops,
}

/// What one direction of a link did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Datagrams that it carried, copies not counted.
    pub carried: u64,
    /// Their bytes, with IP and UDP headers.
    pub carried_bytes: u64,
    /// Copies that it made.
    pub duplicated: u64,
    /// What it did not carry.
    pub dropped: Drops,
}

/// Entries of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// That are there.
    pub now: usize,
    /// That were there at once, at most, since the router was added; a reboot does not reset it.
    pub peak: usize,
    /// That were ever made.
    pub created: u64,
}

impl Entries {
    pub(crate) const fn added(&mut self, len: usize) {
        self.created += 1;
        if len > self.peak {
            self.peak = len;
        }
    }
}

/// What a router did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Datagrams that it forwarded from inside to outside.
    pub outbound: u64,
    /// From outside to inside.
    pub inbound: u64,
    /// From inside to inside, by an outer address.
    pub hairpinned: u64,
    /// Mappings of its NAT (RFC 4787 section 4.1).
    pub mappings: Entries,
    /// Flows that it tracks, one for each pair of endpoints, as Linux counts conntrack entries: of its NAT and its firewalls together. What is
    /// hairpinned has two.
    pub flows: Entries,
    /// What it did not forward.
    pub dropped: Drops,
}

/// What happened to all datagrams together: `sent + injected + duplicated = delivered + dropped + in_flight`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By nodes.
    pub sent: u64,
    /// By the scenario.
    pub injected: u64,
    /// By links and filters.
    pub duplicated: u64,
    /// To nodes.
    pub delivered: u64,
    /// On the way.
    pub dropped: Drops,
    /// On the way still.
    pub in_flight: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_read_as_a_list() {
        let mut drops = Drops::default();
        assert_eq!(drops.to_string(), "none");
        drops.count(Reason::Filtered);
        drops.count(Reason::Lost);
        drops.count(Reason::Lost);
        assert_eq!(drops.to_string(), "2 lost, 1 filtered");
        assert_eq!((drops.of(Reason::Lost), drops.total()), (2, 3));
    }
}
