//! The `wavnet` binary.

use std::process::ExitCode;

use anyhow::Context;
use wavnet_user::{agent, cli};

fn main() -> ExitCode {
    cli::main(|source| {
        let runtime = tokio::runtime::Runtime::new().context("cannot start the threads of the agent")?;
        let ended = runtime.block_on(agent::run(source));
        // A resolver or a disk that does not answer may keep a thread for long, and nobody waits for what it would say.
        runtime.shutdown_background();
        ended
    })
}
