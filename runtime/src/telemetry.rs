//! Log lines on stderr. `WAYMARK_LOG` (or `RUST_LOG`) sets the level, `info` unless said otherwise.
//!
//! Identifiers cannot get here by accident: their types print themselves redacted.

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging for a program. A second call does nothing.
pub fn init(json: bool) {
    let filter = std::env::var("WAYMARK_LOG").or_else(|_| std::env::var("RUST_LOG"));
    init_at(&filter.unwrap_or_else(|_| "info".to_owned()), json);
}

/// Starts logging at a level, whatever the environment says.
pub fn init_at(filter: &str, json: bool) {
    let builder = fmt().with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr).with_target(false);
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}
