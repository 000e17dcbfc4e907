//! wavnet's developer commands; `cargo xtask --help` lists them.

mod ci;
mod cli;
mod compile;
mod doctor;
mod fuzz;
mod interrupt;
mod process;
mod programs;
mod run;
mod setup;
mod test;
#[cfg(test)]
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if let Some(code) = fuzz::as_compiler() {
        return code;
    }
    match cli::dispatch(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
