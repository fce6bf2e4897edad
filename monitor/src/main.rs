//! The program `waymark-monitor`; see [`waymark_monitor::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    waymark_monitor::cli::main()
}
