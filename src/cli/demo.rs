//! `waymark demo`.

use std::path::PathBuf;

use clap::Args;
use waymark_runtime::telemetry;

use super::{End, Ended};
use crate::demo::{self, DemoError, Options};

/// Run the whole system on this machine.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End when everything was shown, instead of staying up.
    #[arg(long)]
    once: bool,
    /// No pauses, progress on stderr, one JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// People to register, JSON lines; a built-in sample of 200 unless said otherwise.
    #[arg(long, value_name = "FILE")]
    people: Option<PathBuf>,
    /// Keep the data in this folder, which must be empty; a fresh one is made and removed unless said otherwise.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Once all is up, write here how to reach the parts.
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

pub async fn run(args: DemoArgs) -> Ended {
    // A demo's own story is what people read; the parts' log lines only when something is wrong or asked for.
    if std::env::var_os("WAYMARK_LOG").is_none() && std::env::var_os("RUST_LOG").is_none() {
        telemetry::init_at("warn", false);
    } else {
        telemetry::init(false);
    }
    let options =
        Options { once: args.once, json: args.json, people: args.people, dir: args.dir, ready_file: args.ready_file };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let interrupted = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    let report = demo::run(options, interrupted).await.map_err(|e| match e {
        DemoError::People(e) => End::Usage(e.to_string()),
        DemoError::Part(e) => End::Could(e),
        DemoError::Wrong(what) => End::Failed(what),
    })?;
    report.check().map_err(|e| End::Failed(e.to_string()))
}
