//! TOML files whose errors name the file and say what to mend.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Most bytes in a configuration file.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct ConfigError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl ConfigError {
    /// An error about a file.
    pub fn new(path: &Path, what: impl ToString) -> Self {
        Self { path: path.to_owned(), what: what.to_string() }
    }
}

/// Reads a configuration file.
///
/// # Errors
/// [`ConfigError`], also if there is no such file: what creates it is an explicit command.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let bytes = crate::durable::read(path, CONFIG_BYTES_MAX).map_err(|e| ConfigError::new(path, e))?;
    let bytes = bytes.ok_or_else(|| ConfigError::new(path, "there is no such file; `init` makes one"))?;
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::new(path, "not UTF-8"))?;
    toml::from_str(&text).map_err(|e| ConfigError::new(path, e))
}
