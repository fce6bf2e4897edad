//! Log lines on stderr. `WAYMARK_LOG` (or `RUST_LOG`) sets the level, `info` unless said otherwise.
//!
//! What peers say cannot act on the terminal, nor look like a line of its own: each event is one line
//! ([`crate::screen`]). Identifiers cannot get here by accident: their types print themselves redacted.

use std::io::{self, Write};

use tracing_subscriber::{EnvFilter, fmt};

use crate::screen;

/// Starts logging for a program. A second call does nothing.
pub fn init(json: bool) {
    let filter = std::env::var("WAYMARK_LOG").or_else(|_| std::env::var("RUST_LOG"));
    init_at(&filter.unwrap_or_else(|_| "info".to_owned()), json);
}

/// Starts logging at a level, whatever the environment says.
pub fn init_at(filter: &str, json: bool) {
    let builder = fmt().with_env_filter(EnvFilter::new(filter)).with_writer(|| Events).with_target(false);
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}

/// Stderr, for events: each comes in one piece, and ends with its line.
struct Events;

impl Write for Events {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(screen::log_line(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
