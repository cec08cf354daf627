//! Parses the command line, runs the command, sets the exit code.
#![forbid(unsafe_code)]

use freqcap::cli::Cli;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::from_command_line().run()
}
