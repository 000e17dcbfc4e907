//! `cargo xtask run`: the demonstration.

use std::process::ExitCode;

use clap::Parser;
use wavnet_tests::demo;

fn main() -> ExitCode {
    match demo::run(&demo::Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("wavnet-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
