//! What a monitor tells its operator: whether it sees its logs, how far it is with each, and what it has found. A finding is a
//! number here and no reason not to be ready: a monitor that has found something does its work.

use std::sync::Arc;

use waymark_runtime::{metrics::Meter, operations::Reason};

use crate::{follow::BACKOFF_MS_MAX, hub::Hub, report::LogStatus};

/// Looks at a log without an accepted checkpoint after which the monitor is not ready.
pub const UNSEEN_POLLS_MAX: u64 = 10;

/// Has the hub's state shown by a meter.
pub(crate) fn show(hub: &Arc<Hub>, meter: &Meter) {
    let each_log = |value: fn(&LogStatus) -> Option<f64>| {
        let hub = Arc::clone(hub);
        move || {
            let logs = hub.status().logs.into_iter();
            logs.filter_map(|log| value(&log).map(|value| (log.origin, value))).collect()
        }
    };
    let size = |log: &LogStatus| Some(log.verified_size as f64);
    meter.gauges("monitor_verified_size", "Entries that were replayed and are stored", "log", each_log(size));
    let lag = |log: &LogStatus| Some(log.lag as f64);
    meter.gauges("monitor_lag", "Entries that the log has signed for and that are not replayed", "log", each_log(lag));
    let age = |log: &LogStatus| log.quorum_age_s.map(|age| age as f64);
    meter.gauges("monitor_quorum_age_seconds", "Age of the last quorum of cosignatures", "log", each_log(age));
    let findings = |log: &LogStatus| Some(log.findings as f64);
    meter.gauges("monitor_findings", "What a log or a witness of it did wrong, ever", "log", each_log(findings));
    let (alerting, watching, open) = (Arc::clone(hub), Arc::clone(hub), Arc::clone(hub));
    let alerts = move || {
        let alerts = alerting.status().alerts;
        vec![("unexpected".to_owned(), alerts.unexpected as f64), ("expired".to_owned(), alerts.expired as f64)]
    };
    meter.gauges("monitor_alerts", "Alerts raised, ever", "kind", alerts);
    meter.gauge("monitor_watch_lists", "Watch-lists that are held", move || Some(watching.status().watch_lists as f64));
    let hits = move || Some(open.status().open_hits as f64);
    meter.gauge("monitor_open_hits", "Hits that may still be claimed", hits);
}

/// Why the monitor is not ready; nothing if it is.
pub(crate) fn look(hub: &Hub) -> Vec<Reason> {
    if hub.has_failed() {
        let what = "It failed and does nothing any more. Start it again: it then reads back what is on the disk.";
        return vec![Reason::new("failed", what)];
    }
    if hub.full().is_some() {
        let what =
            "The disk is full: nothing is followed, and no list is taken. It goes on by itself once there is room.";
        return vec![Reason::new("storage-full", what)];
    }
    // Pauses grow while a log cannot be read; one that is back is given the time to be seen.
    let unseen_ms_max = UNSEEN_POLLS_MAX * hub.poll_ms + BACKOFF_MS_MAX;
    let status = hub.status();
    let reason = |(_, log): (usize, &LogStatus)| {
        let what =
            format!("{}: no checkpoint was accepted for {} s: {}", log.origin, unseen_ms_max / 1000, log.condition);
        Reason::new("log-unseen", what)
    };
    let unseen = status.logs.iter().enumerate().filter(|(log, _)| hub.unseen_ms(*log) > unseen_ms_max);
    unseen.map(reason).chain(hub.clock_fault().map(|what| Reason::new("clock", what))).collect()
}
