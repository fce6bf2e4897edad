//! What a program asks of the operating system: to be told to stop, and enough file descriptors.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Listens for SIGINT (Ctrl-C) and SIGTERM from now on; what it returns ends with the first of them.
///
/// # Errors
/// If the system does not let us listen.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// How many file descriptors this process may have open; without a limit, the largest number there is.
pub fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Takes as many file descriptors as the system lets this process have. The usual soft limit of 1,024 is there for programs
/// that still use `select`; every connection needs one.
pub fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, ?current, "the limit of file descriptors could not be raised");
    }
}
