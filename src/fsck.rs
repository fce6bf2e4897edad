//! Reads everything a DP has and recomputes everything: the log from its entries, each record from its row.

use std::collections::HashMap;

use waymark_log::{checkpoint::Origin, hash::Hash, note::Vkey};
use waymark_mapping::{commitment::commit, wire::encode};

use crate::{
    published::open_row,
    sequencer::recover::{RecoverError, recover},
    store::{Head, LogFiles, Rows, seal::Sealer},
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Entries in the log.
    pub entries: u64,
    /// Records whose commitment is in the map.
    pub records: u64,
    /// CSIs with at least one record.
    pub identifiers: u64,
    /// What is wrong.
    pub faults: Vec<String>,
}

/// Checks a DP's data. It settles a staged batch first, as a start would.
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
) -> Result<Report, RecoverError> {
    let recovered = recover(rows, head, files, origin, vkey)?;
    let mut report = Report { entries: recovered.state.size(), ..Report::default() };
    let mut versions: HashMap<[u8; 32], Vec<u32>> = HashMap::new();
    rows.for_each(&mut |sealed| {
        versions.entry(sealed.csi_key).or_default().push(sealed.version);
        match open_row(sealer, &sealed) {
            Ok(row) => {
                let value = encode(&row.record);
                let commitment = commit(&row.opening, &row.record.csi, row.record.version, &value);
                let own = row.ladder.iter().find(|s| s.version == row.record.version);
                let logged: Option<Hash> = own.and_then(|s| recovered.state.map.get(&s.label.0));
                if commitment == row.commitment && logged == Some(commitment) && sealed.size <= report.entries {
                    report.records += 1;
                } else {
                    report.faults.push("a record's commitment is not what the map holds".to_owned());
                }
            }
            Err(e) => report.faults.push(e.to_string()),
        }
    })?;
    report.identifiers = versions.len() as u64;
    for (_, versions) in versions {
        // Rows come in order, so a gap shows as a version that is not its position.
        if versions.iter().enumerate().any(|(i, v)| i as u32 != *v) {
            report.faults.push("a version is missing".to_owned());
        }
    }
    Ok(report)
}
