//! Walls between two sites, so that they are left to the relay.

use anyhow::{Result, bail};

use super::Site;
use crate::lab::nat::Router;

/// Nothing comes from one site's router to the other one's any more, both ways, and nobody is told; or it does again.
///
/// # Errors
/// They have no routers, or what `nft` says.
pub fn walls(sites: [&Site; 2], up: bool) -> Result<()> {
    let [Some(a), Some(b)] = sites.map(|site| site.router.as_ref()) else { bail!("sites without routers") };
    wall(a, b, up)?;
    wall(b, a, up)
}

fn wall(router: &Router, from: &Router, up: bool) -> Result<()> {
    let rules = if up {
        format!(
            "add table ip wall; add chain ip wall pre {{ type filter hook prerouting priority -300; }}; \
             add rule ip wall pre ip saddr {} drop",
            from.external()
        )
    } else {
        "delete table ip wall".to_owned()
    };
    router.ns.run("nft", &[&rules]).map(drop)
}
