//! The ring buffer of events.

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use tokio::io::{Interest, unix::AsyncFd};
use wavnet_common::abi::{self, Event};

use super::{Error, maps::take};

/// The events of the kernel programs.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

/// The ring buffer, not watched yet.
pub(super) fn open(ebpf: &mut Ebpf) -> Result<RingBuf<MapData>, Error> {
    take(ebpf, abi::EVENTS)
}

impl Events {
    /// Registers with the tokio runtime that this is called in.
    pub(super) fn watch(ring: RingBuf<MapData>) -> Result<Events, Error> {
        // SAFETY: `RingBuf` owns its descriptor, always returns the same one, and closes it when dropped with the `AsyncFd`.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|e| Error::kernel("watching the event buffer", std::io::Error::from(e)))?;
        Ok(Events { ring })
    }

    /// Waits until there are events and returns them all.
    ///
    /// # Errors
    /// Those of the event loop.
    pub async fn next(&mut self) -> Result<Vec<Event>, Error> {
        loop {
            let mut guard =
                self.ring.readable_mut().await.map_err(|e| Error::kernel("waiting for kernel events", e))?;
            let ring = guard.get_inner_mut();
            let mut events = Vec::new();
            while let Some(record) = ring.next() {
                if let Some(event) = Event::from_bytes(&record) {
                    events.push(event);
                }
            }
            guard.clear_ready();
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}
