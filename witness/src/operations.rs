//! What a witness tells its operator: whether its state can be read, what it answered, how far it is with each log.

use std::sync::Arc;

use waymark_runtime::{
    metrics::{Counts, Meter},
    operations::Reason,
};

use crate::{
    service::{Denied, Service},
    state::StateError,
};

/// Counts requests for cosignatures by how they ended.
pub(crate) fn requests(meter: &Meter) -> Counts {
    meter.counters("witness_requests", "Requests for a cosignature, by outcome", "outcome")
}

/// How a request ended, in a word.
pub(crate) fn outcome<T>(done: &Result<T, Denied>) -> &'static str {
    match done {
        Ok(_) => "cosigned",
        Err(Denied::Refused(refusal)) => refusal.slug(),
        Err(Denied::OverQuota(_)) => "over-quota",
        Err(Denied::ClockJumped(_)) => "clock-jumped",
        Err(Denied::ClockWentBack) => "clock-went-back",
        Err(Denied::State(StateError::Full)) => "storage-full",
        Err(Denied::State(_)) => "state",
    }
}

/// Has the service's state shown by a meter.
pub(crate) fn show(service: &Arc<Service>, meter: &Meter) {
    let listed = Arc::clone(service);
    meter.gauge("witness_logs", "Logs on the list", move || Some(listed.logs_listed() as f64));
    let cosigned = Arc::clone(service);
    let sizes = move || {
        let sizes = cosigned.cosigned_sizes().unwrap_or_default().into_iter();
        sizes.map(|(origin, size)| (origin.to_string(), size as f64)).collect()
    };
    meter.gauges("witness_cosigned_size", "Size of the tree that was cosigned last", "log", sizes);
}

/// Why the witness is not ready; nothing if it is. Reads the state.
pub(crate) fn look(service: &Service) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if service.check().is_err() {
        let what =
            "What was cosigned cannot be read. Start it again: it then reads back what is on the disk, and says why.";
        reasons.push(Reason::new("state-failed", what));
    }
    if let Some(why) = service.full() {
        let what = format!(
            "Nothing is cosigned until there is room on the disk, and then it goes on by itself; what was cosigned is \
             shown: {why}."
        );
        reasons.push(Reason::new("storage-full", what));
    }
    if let Err(jumped) = service.check_clock() {
        reasons.push(Reason::new("clock-jumped", jumped.to_string()));
    }
    let behind_s = service.clock_behind_s();
    if behind_s > 0 {
        reasons.push(Reason::new("clock-behind", clock_behind(behind_s)));
    }
    reasons
}

/// What it means that the clock stands before the newest cosignature, and what to do.
pub(crate) fn clock_behind(behind_s: u64) -> String {
    format!(
        "The newest cosignature is dated {behind_s} s after this machine's clock, and no date goes down: its log \
         waits for as long. If the clock is wrong, set it right. If it is right, the witness has cosigned with a clock that \
         was ahead: stop it and run `waymark-witness reset-clock`, which gives it a new key."
    )
}
