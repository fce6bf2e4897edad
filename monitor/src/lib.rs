//! A monitor: it follows logs, replays every entry, compares what it is shown with what others are shown, and watches for
//! labels on behalf of people it knows nothing about.
//!
//! It promises four things. Nothing is believed that does not lead to a signed root that a fresh quorum has cosigned. What
//! a log did wrong is never forgotten. No alert is lost and none is raised twice, also when the monitor is stopped at any
//! point. And it never learns an identifier: all it is given are labels.
//!
//! Reading order (each module may use those of its own line and above):
//!
//! | module | what it does |
//! |---|---|
//! | [`report`] | what a monitor has to say |
//! | `tree` | roots and hash tiles of earlier sizes |
//! | `journal`, `watching` | watch-lists: what happened to them, who is to be told |
//! | [`evidence`] | checkpoints that speak against whoever signed them, in a file |
//! | `store` | what is remembered, in transactions |
//! | `unjudged`, `notices`, `desk` | what could not be judged, what stands, what is told |
//! | `settings` | what is to be followed |
//! | `state`, `past`, `findings`, `views` | one log: as it is believed, as it was, what it did wrong, as others see it |
//! | `hub` | all logs and the directory they are kept in |
//! | `follow`, `tiles` | the network side: entries and checkpoints, hash tiles |
//! | `http` | what is served |
//! | `operations` | readiness and metrics |
//! | `monitor` | all of it together: [`start`], [`once`] |
//! | [`config`], [`cli`] | the program |

pub mod cli;
pub mod config;
mod desk;
pub mod evidence;
mod findings;
mod follow;
mod http;
mod hub;
mod journal;
mod monitor;
mod notices;
mod operations;
mod past;
pub mod report;
mod settings;
mod state;
mod store;
mod tiles;
mod tree;
mod unjudged;
mod views;
mod watching;

pub use config::LOG_MEMORY_MB_DEFAULT;
pub use findings::{CONTRADICTIONS_MAX, FINDINGS_MAX};
pub use follow::{BACKOFF_MS_MAX, TICK_MS_MAX};
pub use http::{NEW_LISTS, REQUESTS_A_MINUTE};
pub use hub::{LOCK_FILE, POLL_MS_MIN, StartError};
pub use monitor::{ONCE_S_MAX, Running, once, once_within, start};
pub use operations::UNSEEN_POLLS_MAX;
pub use report::{AlertRecord, Status};
pub use settings::{FollowedLog, Settings};
pub use store::{ALERT_KEPT_MS, ALERTS_PER_LIST_MAX, STORE_FILE, StoreError};
pub use unjudged::UNJUDGED_NAMED_MAX;
pub use views::{BEYOND_EACH_MAX, WITHHELD_POLLS};
pub use watching::{RENEWALS_A_DAY, WATCH_LISTS_MAX};
pub use waymark_runtime::follow::{STEP_BYTES_MAX, STEP_ENTRIES_MAX};
