//! Waymark: a mapping directory for messaging across providers, backed by a transparency log.
//!
//! | module | what it is |
//! |---|---|
//! | [`dp`] | a discovery provider, running |
//! | [`http`] | its routes; the one place where errors become statuses |
//! | [`possession`] | codes and attestations |
//! | [`prover`] | an independent prover, running |
//! | [`authorise`] | from a request to a pending change |
//! | [`sequencer`] | pool, batch (pure), commit (effects), recover |
//! | [`store`], [`row`] | what is kept, and with which promises |
//! | [`witnessing`] | getting checkpoints cosigned |
//! | [`published`] | what the world may see, and answers made from it |
//! | [`client`] | senders and recipients |
//! | [`msp`] | a reference adapter for messaging providers |
//! | [`demo`] | the whole system in one process |
//! | [`policy`] | what the DP promises to people, logged |
//! | [`recycling`] | registers of numbers that were given to somebody else |
//! | [`backup`] | a copy of what a restore needs, and the restore |
//! | [`export`] | everything kept about a CSI, for its recipient |
//! | [`operations`] | readiness and metrics |
//! | [`instance`] | whether a data folder is the one that was run last, or a copy |
//! | [`onboarding`], [`init`], [`config`], [`keys`], [`fsck`] | for operators |
//! | [`api`], [`httpsig`] | what travels between apps, MSPs and the DP; signatures under providers' requests |

/// Nothing is printed but by [`waymark_runtime::screen`]: in this crate the standard macros are these.
macro_rules! print {
    ($($text:tt)*) => { ::waymark_runtime::screen::out(::core::format_args!($($text)*)) };
}
macro_rules! println {
    () => { print!("\n") };
    ($($text:tt)*) => { print!("{}\n", ::core::format_args!($($text)*)) };
}
macro_rules! eprint {
    ($($text:tt)*) => { ::waymark_runtime::screen::err(::core::format_args!($($text)*)) };
}
macro_rules! eprintln {
    () => { eprint!("\n") };
    ($($text:tt)*) => { eprint!("{}\n", ::core::format_args!($($text)*)) };
}

pub mod api;
pub mod authorise;
pub mod backup;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod dp;
pub mod export;
pub mod fsck;
pub mod http;
pub mod httpsig;
pub mod init;
pub mod instance;
pub mod keys;
pub mod msp;
pub mod onboarding;
pub mod operations;
pub mod policy;
pub mod possession;
pub mod prover;
pub mod published;
pub mod recycling;
pub mod row;
pub mod sequencer;
pub mod store;
pub mod witnessing;
