//! The program `waymark-witness`; see [`waymark_witness::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    waymark_witness::cli::main()
}
