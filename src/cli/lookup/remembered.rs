//! `--remember`: what a client keeps of a log between look-ups, in a file.

use std::path::Path;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use waymark_log::{checkpoint::Origin, hash::Hash};
use waymark_mapping::verify::Remembered;
use waymark_runtime::durable;

use super::{End, Ended, FILE_BYTES_MAX};

#[derive(Serialize, Deserialize)]
struct RememberedFile {
    origin: String,
    size: u64,
    root: String,
    note: String,
}

/// What was remembered, if anything.
pub fn read(path: &Path) -> Result<Option<Remembered>, End> {
    let damaged = || End::Could(anyhow::anyhow!("{}: not what was written there", path.display()));
    let Some(bytes) = durable::read(path, FILE_BYTES_MAX)? else { return Ok(None) };
    let file: RememberedFile = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    let note = BASE64.decode(file.note.as_bytes()).ok().and_then(|b| String::from_utf8(b).ok());
    Ok(Some(Remembered {
        origin: Origin::new(&file.origin).map_err(|_| damaged())?,
        size: file.size,
        root: Hash::from_base64(&file.root).ok_or_else(damaged)?,
        note: note.ok_or_else(damaged)?,
    }))
}

/// Remembers.
pub fn write(path: &Path, remembered: &Remembered) -> Ended {
    let file = RememberedFile {
        origin: remembered.origin.as_str().to_owned(),
        size: remembered.size,
        root: remembered.root.to_base64(),
        note: BASE64.encode(remembered.note.as_bytes()),
    };
    let bytes = serde_json::to_vec_pretty(&file).map_err(|e| End::Could(e.into()))?;
    Ok(durable::replace(path, &bytes)?)
}
