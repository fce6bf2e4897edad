//! The shell that Waymark's programs share. No domain logic: nothing here knows what a mapping is.
//!
//! | module | what it does |
//! |---|---|
//! | [`clock`] | the one place that reads the time |
//! | [`random`] | the one place that draws random bytes |
//! | [`budget`] | how often somebody may do something |
//! | [`durable`] | files that are wholly there or not at all |
//! | [`leftovers`] | what a crash left of files that were being written |
//! | [`lines`] | text files that grow by whole lines |
//! | [`database`] | redb, with commits that are on the disk when they return |
//! | [`keyfile`] | secret keys in files of mode 0600 |
//! | [`config`] | TOML files whose errors name the file |
//! | [`screen`] | what a terminal shows: nothing that acts on it |
//! | [`telemetry`] | log lines on stderr |
//! | [`metrics`] | counters and gauges without identifiers |
//! | [`operations`] | the operators' listener: health, readiness, metrics, version |
//! | [`prefix`] | address prefixes: whose requests are counted together |
//! | [`proxies`] | whose request it is |
//! | [`process`] | signals to stop, file descriptors |
//! | [`problem`] | RFC 9457 errors, the framework's own included |
//! | [`tls`] | a certificate and its key, read again when they change |
//! | `slots` | who may be connected, and who gives way |
//! | [`listen`] | an HTTP/1 server with a limit on everything, in TLS beyond loopback |
//! | [`fetch`] | an HTTP client with a limit on everything |
//! | [`follow`] | a C2SP log read from outside: checkpoint, entries, tiles |
//! | [`log_time`] | the time of a program that watches a log: by its witnesses and what has passed |

pub mod budget;
pub mod clock;
pub mod config;
pub mod database;
pub mod durable;
pub mod fetch;
pub mod follow;
pub mod keyfile;
pub mod leftovers;
pub mod lines;
pub mod listen;
pub mod log_time;
pub mod metrics;
pub mod operations;
pub mod prefix;
pub mod problem;
pub mod process;
pub mod proxies;
pub mod random;
pub mod screen;
mod slots;
pub mod telemetry;
pub mod tls;
