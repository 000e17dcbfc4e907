//! The `wavnet` binary.

use std::process::ExitCode;

use anyhow::Context;
use wavnet_user::{agent, cli};

fn main() -> ExitCode {
    cli::main(|source| {
        let runtime = tokio::runtime::Runtime::new().context("cannot start the threads of the agent")?;
        runtime.block_on(agent::run(source))
    })
}
