//! Evidence on this machine's disk. What it is and what it shows: [`waymark_mapping::evidence`].

use std::{io, path::Path};

pub use waymark_log::consistency::Earlier;
pub use waymark_mapping::evidence::*;
use waymark_runtime::durable;

/// Folder of evidence, in the data directory.
pub const EVIDENCE_FOLDER: &str = "evidence";

/// Writes the file under `data_dir`; returns its name once it is there for good.
///
/// The same content makes the same file, so that a second attempt after a crash changes nothing.
pub(crate) fn write(evidence: &Evidence, data_dir: &Path) -> io::Result<String> {
    let name = evidence.file_name();
    durable::keep(&data_dir.join(EVIDENCE_FOLDER), &name, &evidence.format())?;
    Ok(name)
}
