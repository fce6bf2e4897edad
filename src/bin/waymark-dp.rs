//! `waymark-dp`: a discovery provider. See `waymark-dp --help`.

fn main() -> std::process::ExitCode {
    waymark::cli::dp::run()
}
