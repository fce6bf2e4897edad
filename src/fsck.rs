//! Reads everything a DP has and recomputes everything: the log from its entries, each record from its row.

use std::{collections::HashMap, sync::Arc};

use waymark_log::{checkpoint::Origin, hash::Hash, note::Vkey};
use waymark_mapping::{
    commitment::{blind, commit},
    entry::Entry,
    prefix::PrefixTree,
    provider::ProviderDirectory,
    wire::encode,
};

use crate::{
    policy::shelf::Shelf,
    row::{Kept, Row},
    sequencer::{
        accepted::Accepted,
        batch::Promise,
        purge::open_row,
        recover::{RecoverError, check_row_keys, read_accepted},
    },
    store::{Head, LogFiles, Rows, StoreError, seal::Sealer},
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Entries in the log.
    pub entries: u64,
    /// Records whose commitment is in the map.
    pub records: u64,
    /// Versions whose payload was deleted.
    pub deleted: u64,
    /// CSIs with at least one record.
    pub identifiers: u64,
    /// Rows of a batch that was never signed, which the next start drops.
    pub unsigned: u64,
    /// What is wrong.
    pub faults: Vec<String>,
    /// The open entry, against which keys are compared.
    pub open: Vec<u8>,
    /// The providers, likewise.
    pub providers: Arc<ProviderDirectory>,
}

/// Checks a DP's data. It deletes nothing: a batch that was never signed is left to the next start.
///
/// # Errors
/// [`RecoverError`] where a start would refuse.
pub fn fsck(
    rows: &dyn Rows,
    head: &Head,
    files: &LogFiles,
    sealer: &Sealer,
    origin: &Origin,
    vkey: &Vkey,
    accepted: &Accepted,
) -> Result<Report, RecoverError> {
    let recovered = read_accepted(rows, head, files, origin, vkey, accepted)?;
    let log = &recovered.state.audited;
    let (open, providers) = (log.open_bytes().to_vec(), log.shared_providers());
    let mut report = Report { entries: recovered.state.size(), open, providers, ..Report::default() };
    let mut versions: HashMap<[u8; 32], Vec<u32>> = HashMap::new();
    let mut slot = None;
    rows.for_each(&mut |sealed| {
        slot = slot.max(Some(sealed.slot));
        if recovered.is_unsigned_staged && sealed.size > report.entries {
            report.unsigned += 1;
            return;
        }
        versions.entry(sealed.csi_key).or_default().push(sealed.version);
        match open_row(sealer, &sealed) {
            Ok(kept) => {
                let right = is_logged(files, &kept, report.entries);
                let opens = match &kept {
                    Kept::Whole(row) => opens(row, recovered.state.audited.map()),
                    Kept::Stub(_) => true,
                };
                match right {
                    Ok(true) if opens && sealed.size <= report.entries => {
                        report.records += u64::from(matches!(kept, Kept::Whole(_)));
                        report.deleted += u64::from(matches!(kept, Kept::Stub(_)));
                    }
                    Ok(_) => report.faults.push("a record's commitment is not what the log holds".to_owned()),
                    Err(e) => report.faults.push(e.to_string()),
                }
            }
            Err(e) => report.faults.push(e.to_string()),
        }
    })?;
    check_row_keys(rows, sealer.keys(), slot)?;
    report.identifiers = versions.len() as u64;
    for (_, versions) in versions {
        // Rows come in order, so a gap shows as a version that is not its position.
        if versions.iter().enumerate().any(|(i, v)| i as u32 != *v) {
            report.faults.push("a version is missing".to_owned());
        }
    }
    Ok(report)
}

/// Whether a whole record opens to the commitment that the map holds under its label.
fn opens(row: &Row, map: &PrefixTree) -> bool {
    let commitment = commit(&row.opening, &row.csi, row.version, &encode(&row.record));
    let own = row.ladder.iter().find(|s| s.version == row.version);
    let logged: Option<Hash> = own.and_then(|s| map.get(&s.label.0));
    let contents = blind(&row.contents_salt, &encode(&row.contents)) == row.record.contents;
    contents && commitment == row.commitment && logged == Some(commitment)
}

/// Whether the entries are where a version says that it was logged.
fn is_logged(files: &LogFiles, kept: &Kept, size: u64) -> Result<bool, StoreError> {
    let stub = kept.stub();
    let entry = |index| Ok::<_, StoreError>(Entry::decode(&files.entry(index, size)?).ok());
    let change = matches!(entry(stub.place.change)?, Some(Entry::Change(c)) if c.commitment == stub.commitment);
    let heads = [stub.place.before, stub.place.head];
    let heads = heads.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    Ok(change && heads.iter().all(|h| matches!(h, Some(Entry::Head(_)))))
}

/// Policy documents that the log commits to and that the shelf does not have as they were, in words.
///
/// # Errors
/// [`StoreError`] if the log cannot be read.
pub fn missing_policies(files: &LogFiles, size: u64, shelf: &Shelf) -> Result<Vec<String>, StoreError> {
    let mut faults = Vec::new();
    files.entries(size, |entry| {
        if let Some(promise) = Promise::of(&entry)
            && let Err(why) = shelf.get(&promise.policy)
        {
            faults.push(why.to_string());
        }
    })?;
    Ok(faults)
}
