//! `waymark`: the client, the reference MSP adapter, and the demo. See `waymark --help`.

fn main() -> std::process::ExitCode {
    waymark::cli::run()
}
