//! The forwarding table: {VNI index, MAC} → place.

/// Where a MAC is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Behind a local port: index in `PORTS`.
    Port(u16),
    /// Behind a peer: index in `VTEPS`.
    Vtep(u16),
}
