//! Which datagrams came already: the last 1,024.
