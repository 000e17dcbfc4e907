//! What the kernel programs and the agent share: the map ABI, the wire headers, and every decision about a packet.
//!
//! The crate is `no_std` and has no dependencies. The same source is compiled for `bpfel-unknown-none`, where it runs in XDP
//! and TC, and for the host, where it is tested, fuzzed and benchmarked.
//!
//! - [`abi`]: plain types in the maps, map names, sizes, the ABI version.
//! - [`wire`]: one file per header.
//! - [`packet`]: the small traits over packet memory that XDP, TC and a buffer on the host implement.
//! - [`datapath`]: parse → decide → encapsulate / decapsulate, generic over [`packet`] and over the tables.
//! - [`buckets`]: tables that both sides share, of 64-bit words changed by compare-and-exchange alone.
//! - [`fdb`]: the forwarding table, in buckets: learning and ageing.
//! - `testing` (feature of that name): tables and packets on the host, and the table of fixtures that tests of the host's and of
//!   the kernel's code, the fuzzer and benches share.

#![no_std]
#![cfg_attr(target_arch = "bpf", allow(internal_features), feature(core_intrinsics))]

#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod abi;
pub mod addr;
pub mod buckets;
pub mod datapath;
pub mod fdb;
pub mod packet;
pub mod reason;
pub mod relay;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;
mod word;
