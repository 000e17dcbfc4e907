//! Log lines of the kernel programs, forwarded to the agent's log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::Error;

/// The kernel programs' log.
pub struct KernelLog {
    logger: EbpfLogger<Forward>,
}

impl KernelLog {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<KernelLog, Error> {
        let logger = EbpfLogger::init_with_logger(ebpf, Forward)
            .map_err(|e| Error::kernel("opening the kernel programs' log", e))?;
        Ok(KernelLog { logger })
    }

    /// Forwards lines as they come, until an error.
    ///
    /// # Errors
    /// Those of the event loop.
    pub async fn forward(self) -> Result<(), Error> {
        // SAFETY: the logger owns its descriptor and always returns the same one; it is closed with the `AsyncFd`.
        let mut watched = unsafe { AsyncFd::register_with_interest(self.logger, Interest::READABLE) }
            .map_err(|e| Error::kernel("watching the kernel programs' log", std::io::Error::from(e)))?;
        loop {
            let mut guard =
                watched.readable_mut().await.map_err(|e| Error::kernel("waiting for the kernel programs' log", e))?;
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }
}

/// From the `log` crate, which aya-log speaks, to tracing.
struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::warn!(target: "wavnet::kernel", "{}", record.args());
    }

    fn flush(&self) {}
}
