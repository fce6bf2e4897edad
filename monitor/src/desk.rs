//! Where a log's state writes: the store, and the reports that are told to the world.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use waymark_log::{checkpoint::Origin, time::UnixMillis};

use crate::{
    report::{AlertCounts, FindingRecord, News, Notice, Status},
    store::{Batch, Store, StoreError},
};

/// Most notices that wait to be printed; the oldest give way, since all that stand are in the status as well.
const NOTICES_WAITING_MAX: usize = 1000;

/// Most alerts and findings that are told at a time. They are read from the disk: however many there are, they take no memory.
const TOLD_AT_ONCE_MAX: usize = 1000;

/// What was reported, as far as it is kept in memory: the findings, of which there is a bounded number for each log, and the
/// number of the alerts.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    told: Mutex<Told>,
    /// Something new may be told.
    pub(crate) arrived: Notify,
}

#[derive(Debug, Default)]
struct Told {
    findings: Vec<FindingRecord>,
    alerts: AlertCounts,
    told: u64,
    notices: Vec<Notice>,
}

impl Reports {
    pub(crate) fn load(store: &Store) -> Result<Self, StoreError> {
        let reports = Self::default();
        reports.reload(store)?;
        Ok(reports)
    }

    /// Takes up what is stored, in the place of what is in memory.
    pub(crate) fn reload(&self, store: &Store) -> Result<(), StoreError> {
        let mut before = self.lock();
        let (findings, alerts, told) = (store.findings()?, store.alert_counts()?, store.told()?);
        *before = Told { findings, alerts, told, notices: std::mem::take(&mut before.notices) };
        self.arrived.notify_one();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found about a log, in words.
    pub(crate) fn found(&self, origin: &Origin) -> HashSet<String> {
        let told = self.lock();
        let of_log = told.findings.iter().filter(|finding| finding.origin == origin.as_str());
        of_log.map(|finding| finding.text.clone()).collect()
    }

    /// Puts findings and numbers of alerts into a status.
    pub(crate) fn sum_up(&self, status: &mut Status) {
        let told = self.lock();
        let texts = told.findings.iter().map(|finding| format!("{}: {}", finding.origin, finding.text));
        status.findings.extend(texts);
        status.alerts = told.alerts;
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

    /// Some of what was not told yet, alerts and findings in the order of their numbers. Notices are handed out once, the others
    /// until [`Reports::set_told`].
    pub(crate) fn untold(&self, store: &Store) -> Result<Vec<News>, StoreError> {
        // Held over the read: what is written in between would be passed over by its number.
        let mut told = self.lock();
        let alerts = store.alerts(told.told, TOLD_AT_ONCE_MAX)?;
        let from = told.findings.partition_point(|finding| finding.id <= told.told);
        let findings = told.findings[from..].iter().cloned().map(News::Finding);
        let mut numbered: Vec<News> = findings.chain(alerts.iter().map(|a| News::Alert(a.into()))).collect();
        numbered.sort_by_key(News::id);
        numbered.truncate(TOLD_AT_ONCE_MAX);
        let notices = std::mem::take(&mut told.notices).into_iter().map(News::Notice);
        Ok(notices.chain(numbered).collect())
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
    /// What of it is to be remembered: nothing as long as it is the wall clock's alone.
    pub(crate) known: Option<UnixMillis>,
}

impl Desk<'_> {
    /// Remembers what time is known to have come at a log, for the next run.
    pub(crate) fn remember(&self, origin: &Origin) -> Result<(), StoreError> {
        match self.known {
            Some(known) => self.store.commit(origin, Batch { known: Some(known), ..Batch::default() }).map(drop),
            None => Ok(()),
        }
    }

    /// Writes a batch; its reports can be told from then on.
    pub(crate) fn commit(&self, origin: &Origin, batch: Batch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let batch = Batch { known: self.known, ..batch };
        // Held over the write, so that findings of two logs stand in the order of their numbers, and none is overtaken by an alert
        // that is told first.
        let mut told = self.reports.lock();
        let written = self.store.commit(origin, batch)?;
        if written.alerts > 0 || !written.findings.is_empty() {
            told.findings.extend(written.findings);
            told.alerts = self.store.alert_counts()?;
            self.reports.arrived.notify_one();
        }
        Ok(())
    }
}
