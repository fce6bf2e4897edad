//! A batch that monitors will find nothing wrong with. Nothing else is signed.

use waymark_mapping::audit::{Audited, Finding};

use super::batch::{Batch, LogState};

/// What monitors would find wrong with a batch: it must not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("monitors would find fault with the batch: {}", listed(.findings, *.not_supported))]
pub struct Unsound {
    /// The findings.
    pub findings: Vec<Finding>,
    /// Entries that monitors of this version could not judge.
    pub not_supported: usize,
}

fn listed(findings: &[Finding], not_supported: usize) -> String {
    let mut texts: Vec<String> = findings.iter().map(Finding::to_string).collect();
    if not_supported > 0 {
        texts.push(format!("{not_supported} entries cannot be judged"));
    }
    texts.join("; ")
}

/// A batch that was judged as monitors judge it, and the log with it.
#[derive(Clone, Debug)]
pub struct Sound {
    batch: Batch,
    audited: Audited,
}

impl Sound {
    /// Judges a batch over the log that it extends, from the encoded entries: every signature, map and directory made again, and
    /// compared with what the head says. The map is not a second one but a snapshot of the same, into which the labels are inserted
    /// once more.
    ///
    /// # Errors
    /// [`Unsound`].
    pub fn judge(state: &LogState, batch: Batch) -> Result<Self, Unsound> {
        let mut audited = state.audited.clone();
        let step = audited.extend(&batch.entries, batch.checkpoint.size, &batch.checkpoint.root);
        if step.findings.is_empty() && step.not_supported.is_empty() {
            return Ok(Self { batch, audited });
        }
        Err(Unsound { findings: step.findings, not_supported: step.not_supported.len() })
    }

    /// The batch.
    pub const fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The batch, and the log with it as monitors will have it.
    pub fn into_parts(self) -> (Batch, LogState) {
        let state = LogState { audited: self.audited, edge: self.batch.edge.clone() };
        (self.batch, state)
    }
}
