//! What is measured.

pub(super) mod duel;
pub(super) mod frames;
pub(super) mod lookup;
pub(super) mod program;
pub(super) mod queues;
pub(super) mod read;
pub(super) mod scale;
pub(super) mod scrape;
pub(super) mod tcp;

use std::{fmt, str::FromStr};

use anyhow::{Result, bail};

macro_rules! cases {
    ($($(#[doc = $doc:literal])+ $case:ident = $name:literal in $unit:literal;)+) => {
        /// A case by its name in the results.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Case {
            $($(#[doc = $doc])+ $case,)+
        }

        impl Case {
            /// Every case, in the order of measurement.
            pub const ALL: &[Case] = &[$(Case::$case),+];

            /// Name in the results and on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Case::$case => $name,)+
                }
            }

            /// Unit of its figures.
            pub const fn unit(self) -> &'static str {
                match self {
                    $(Case::$case => $unit,)+
                }
            }
        }
    };
}

cases! {
    /// Small frames per second from VM to VM.
    SmallFrames = "small_frames" in "frames/s";
    /// Small frames per second from the VM to the beginning of the wire.
    Encap = "encap" in "frames/s";
    /// Small frames per second from the end of the wire to the VM.
    Decap = "decap" in "frames/s";
    /// Small frames per second from VM to VM on one hypervisor.
    Local = "local" in "frames/s";
    /// Bulk TCP, one stream.
    Tcp1 = "tcp_1" in "bit/s";
    /// Bulk TCP, four streams.
    Tcp4 = "tcp_4" in "bit/s";
    /// Bulk TCP, eight streams.
    Tcp8Receive = "tcp_8_receive" in "bit/s";
    /// Round trip of a UDP request and its response, sockets polled without a pause, median.
    RttP50 = "rtt_p50" in "ns";
    /// The same, 99th percentile.
    RttP99 = "rtt_p99" in "ns";
    /// Round trip of a UDP request and its response, sockets that block, median.
    RttBlockingP50 = "rtt_blocking_p50" in "ns";
    /// The same, 99th percentile.
    RttBlockingP99 = "rtt_blocking_p99" in "ns";
    /// [`Case::SmallFrames`] by ports in packet-rate mode.
    SmallFramesPacketRate = "small_frames_packet_rate" in "frames/s";
    /// [`Case::Encap`] by a port in packet-rate mode.
    EncapPacketRate = "encap_packet_rate" in "frames/s";
    /// Small frames per second from the end of the wire into a VM on a tap.
    UdpToTap = "udp_to_tap" in "frames/s";
    /// Bulk TCP into a VM on a tap.
    Tcp1Tap = "tcp_1_tap" in "bit/s";
    /// Small frames per second from a VM on a tap to the beginning of the wire.
    UdpFromTap = "udp_from_tap" in "frames/s";
    /// Bulk TCP out of a VM on a tap.
    Tcp1FromTap = "tcp_1_from_tap" in "bit/s";
    /// Copies per second of broadcasts to one VTEP.
    Flood1 = "flood_1" in "copies/s";
    /// Copies per second of broadcasts to 8 VTEPs.
    Flood8 = "flood_8" in "copies/s";
    /// Copies per second of broadcasts to 64 VTEPs.
    Flood64 = "flood_64" in "copies/s";
    /// [`Case::Decap`] while sources are learned, against the same without learning.
    LearnOn = "learn_on" in "frames/s";
    /// Frames on two CPUs by two queues, against one of each.
    Queues2 = "queues_2" in "frames/s";
    /// Frames to 100,000 MACs, against one.
    ScaleMacs = "scale_macs_100k" in "frames/s";
    /// Frames to 1,000 VTEPs, against one.
    ScaleVteps = "scale_vteps_1k" in "frames/s";
    /// Frames of 4,000 VNIs, against one.
    ScaleVnis = "scale_vnis_4k" in "frames/s";
    /// One lookup of the forwarding table, 1,000 MACs, against the kernel's hash map.
    FdbLookup1k = "fdb_lookup_1k" in "ns";
    /// One lookup of the forwarding table, 100,000 MACs, against the kernel's hash map.
    FdbLookup100k = "fdb_lookup_100k" in "ns";
    /// One read of a forwarding table of 100,000 MACs by the agent's code, while frames to all of them are forwarded, against the same
    /// while there are none.
    FdbRead100k = "fdb_read_100k" in "ns";
    /// Frames to 100,000 MACs while the agent reads the table again and again, against the same while it does not.
    ForwardBesideRead = "forward_beside_read" in "frames/s";
    /// Nanoseconds per packet of each program by test run.
    ProgramNs = "program_ns" in "ns";
    /// One scrape of the metrics, with many peers and MACs.
    Scrape = "scrape" in "ns";
}

impl Case {
    /// True for those that only wavnet has: it is compared with itself, with a part of the kernel, or with nothing.
    pub(super) const fn is_own(self) -> bool {
        matches!(
            self,
            Case::LearnOn
                | Case::Queues2
                | Case::ScaleMacs
                | Case::ScaleVteps
                | Case::ScaleVnis
                | Case::FdbLookup1k
                | Case::FdbLookup100k
                | Case::FdbRead100k
                | Case::ForwardBesideRead
                | Case::ProgramNs
                | Case::Scrape
        )
    }

    /// Bulk TCP.
    pub(super) const fn is_tcp(self) -> bool {
        matches!(self, Case::Tcp1 | Case::Tcp4 | Case::Tcp8Receive | Case::Tcp1Tap | Case::Tcp1FromTap)
    }

    /// True for those whose row has a curve of percentiles.
    pub(super) const fn has_percentiles(self) -> bool {
        matches!(self, Case::RttP50 | Case::RttBlockingP50)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Case> {
        match Case::ALL.iter().find(|case| case.name() == name) {
            Some(case) => Ok(*case),
            None => {
                let names: Vec<_> = Case::ALL.iter().map(|case| case.name()).collect();
                bail!("no case of that name; there are {}", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused_with_the_choice() {
        for case in Case::ALL {
            assert_eq!(case.name().parse::<Case>().unwrap(), *case);
        }
        let error = "tcp".parse::<Case>().unwrap_err().to_string();
        assert!(error.contains("tcp_1, tcp_4"), "{error}");
    }
}
