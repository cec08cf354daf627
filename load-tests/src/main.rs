//! Load for freqcap over real sockets, and the table of its speed goals. README.md says how each figure is got.

mod cli;
mod empty;
mod load;
mod suite;

fn main() -> std::process::ExitCode {
    cli::run()
}
