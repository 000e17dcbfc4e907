//! What is measured.

use std::{fmt, str::FromStr};

use anyhow::{Result, bail};

/// A case by its name in the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Small frames per second from VM to VM.
    SmallFrames,
    /// Small frames per second from the VM to the beginning of the wire.
    Encap,
    /// Small frames per second from the end of the wire to the VM.
    Decap,
    /// Bulk TCP, one stream.
    Tcp1,
    /// Bulk TCP, four streams.
    Tcp4,
    /// Round trip of a UDP request and its response, sockets polled without a pause, median.
    RttP50,
    /// The same, 99th percentile.
    RttP99,
    /// Round trip of a UDP request and its response, sockets that block, median.
    RttBlockingP50,
    /// The same, 99th percentile.
    RttBlockingP99,
    /// Nanoseconds per packet of each program by test run.
    ProgramNs,
    /// One scrape of the metrics, with many peers and MACs.
    Scrape,
}

impl Case {
    /// Every case, in the order of measurement.
    pub const ALL: [Case; 11] = [
        Case::SmallFrames,
        Case::Encap,
        Case::Decap,
        Case::Tcp1,
        Case::Tcp4,
        Case::RttP50,
        Case::RttP99,
        Case::RttBlockingP50,
        Case::RttBlockingP99,
        Case::ProgramNs,
        Case::Scrape,
    ];

    /// Name in the results and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Case::SmallFrames => "small_frames",
            Case::Encap => "encap",
            Case::Decap => "decap",
            Case::Tcp1 => "tcp_1",
            Case::Tcp4 => "tcp_4",
            Case::RttP50 => "rtt_p50",
            Case::RttP99 => "rtt_p99",
            Case::RttBlockingP50 => "rtt_blocking_p50",
            Case::RttBlockingP99 => "rtt_blocking_p99",
            Case::ProgramNs => "program_ns",
            Case::Scrape => "scrape",
        }
    }

    /// Unit of its figures.
    pub const fn unit(self) -> &'static str {
        match self {
            Case::SmallFrames | Case::Encap | Case::Decap => "frames/s",
            Case::Tcp1 | Case::Tcp4 => "bit/s",
            Case::RttP50 | Case::RttP99 | Case::RttBlockingP50 | Case::RttBlockingP99 => "ns",
            Case::ProgramNs | Case::Scrape => "ns",
        }
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
        match Case::ALL.into_iter().find(|case| case.name() == name) {
            Some(case) => Ok(case),
            None => bail!("no case of that name; there are {}", Case::ALL.map(Case::name).join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused_with_the_choice() {
        for case in Case::ALL {
            assert_eq!(case.name().parse::<Case>().unwrap(), case);
        }
        let error = "tcp".parse::<Case>().unwrap_err().to_string();
        assert!(error.contains("tcp_1, tcp_4"), "{error}");
    }
}
