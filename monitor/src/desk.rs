//! Where a log's state writes: the store, and the reports that are told to the world.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use waymark_log::{checkpoint::Origin, time::UnixMillis};

use crate::{
    report::{AlertKind, AlertRecord, News, Notice, Status},
    store::{Batch, Store, StoreError},
};

/// Most notices that wait to be printed; the oldest give way, since all that stand are in the status as well.
const NOTICES_WAITING_MAX: usize = 1000;

/// Everything that was ever reported, in the order of its numbers, and how much of it was told.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    told: Mutex<Told>,
    /// Something new may be told.
    pub(crate) arrived: Notify,
}

#[derive(Debug, Default)]
struct Told {
    reports: Vec<News>,
    told: u64,
    notices: Vec<Notice>,
}

impl Reports {
    pub(crate) fn load(store: &Store) -> Result<Self, StoreError> {
        let told = Told { reports: store.reports()?, told: store.told()?, notices: Vec::new() };
        Ok(Self { told: Mutex::new(told), arrived: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The alerts after a number, oldest first, `max` at most.
    pub(crate) fn alerts(&self, after: u64, max: usize) -> Vec<AlertRecord> {
        let told = self.lock();
        let from = told.reports.partition_point(|r| r.id().is_some_and(|id| id <= after));
        let alert = |news: &News| if let News::Alert(alert) = news { Some(alert.clone()) } else { None };
        told.reports[from..].iter().filter_map(alert).take(max).collect()
    }

    /// What was found about a log, in words.
    pub(crate) fn found(&self, origin: &Origin) -> HashSet<String> {
        let of_log = |news: &News| match news {
            News::Finding(finding) if finding.origin == origin.as_str() => Some(finding.text.clone()),
            _ => None,
        };
        self.lock().reports.iter().filter_map(of_log).collect()
    }

    /// Puts findings and numbers of alerts into a status.
    pub(crate) fn sum_up(&self, status: &mut Status) {
        for news in &self.lock().reports {
            match news {
                News::Finding(finding) => status.findings.push(format!("{}: {}", finding.origin, finding.text)),
                News::Alert(AlertRecord { kind: AlertKind::Unexpected, .. }) => status.alerts.unexpected += 1,
                News::Alert(AlertRecord { kind: AlertKind::Expired, .. }) => status.alerts.expired += 1,
                News::Notice(_) => {}
            }
        }
    }

    /// A notice has begun.
    pub(crate) fn notice(&self, notice: Notice) {
        let mut told = self.lock();
        if told.notices.len() == NOTICES_WAITING_MAX {
            told.notices.remove(0);
        }
        told.notices.push(notice);
        self.arrived.notify_one();
    }

    /// What was not told yet. Notices are handed out once, alerts and findings until [`Reports::set_told`].
    pub(crate) fn untold(&self) -> Vec<News> {
        let mut told = self.lock();
        let after = told.told;
        let mut news: Vec<News> = std::mem::take(&mut told.notices).into_iter().map(News::Notice).collect();
        let from = told.reports.partition_point(|r| r.id().is_some_and(|id| id <= after));
        news.extend_from_slice(&told.reports[from..]);
        news
    }

    /// The alerts and findings up to this number were told.
    pub(crate) fn set_told(&self, store: &Store, id: u64) -> Result<(), StoreError> {
        let mut told = self.lock();
        if id > told.told {
            store.set_told(id)?;
            told.told = id;
        }
        Ok(())
    }
}

/// What one operation on one log writes with.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) store: &'a Store,
    pub(crate) reports: &'a Reports,
    pub(crate) data_dir: &'a Path,
    /// One time for the whole operation.
    pub(crate) now: UnixMillis,
}

impl Desk<'_> {
    /// Writes a batch; its reports can be told from then on.
    pub(crate) fn commit(&self, origin: &Origin, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        // Held over the write, so that reports of two logs stand in the order of their numbers.
        let mut told = self.reports.lock();
        let written = self.store.commit(origin, batch)?;
        if !written.is_empty() {
            told.reports.extend(written);
            self.reports.arrived.notify_one();
        }
        Ok(())
    }
}
