//! Which recipient key an account belongs to: the one that asked first. A stand-in for an MSP's own login.
//!
//! ```text
//! <blake3 of the account, hex> <recipient key, hex>\n        one line an account, appended
//! ```

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use waymark_log::key::Key;
use waymark_mapping::names::Account;
use waymark_runtime::durable;

/// Most bytes of accounts read at the start: a million accounts.
const ACCOUNTS_BYTES_MAX: usize = 130 << 20;

/// Accounts and their keys.
pub struct Accounts {
    inner: Mutex<(HashMap<String, Key>, File)>,
}

impl Accounts {
    /// Reads the accounts, if there are any yet.
    ///
    /// # Errors
    /// If they cannot be read, or a line is damaged.
    pub fn open(path: &Path) -> io::Result<Self> {
        let bytes = durable::read(path, ACCOUNTS_BYTES_MAX)?.unwrap_or_default();
        let text = String::from_utf8(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let mut accounts = HashMap::new();
        for line in text.lines() {
            let parsed = line.split_once(' ').and_then(|(account, key)| Some((account, Key::from_hex(key)?)));
            let (account, key) =
                parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a damaged line in accounts"))?;
            accounts.insert(account.to_owned(), key);
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { inner: Mutex::new((accounts, file)) })
    }

    /// Number of accounts.
    pub fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).0.len()
    }

    /// Whether the account belongs to this key; it does if nobody asked for it before.
    ///
    /// # Errors
    /// If a new account cannot be written down.
    pub fn claim(&self, account: &Account, key: &Key) -> io::Result<bool> {
        let name = blake3::hash(account.expose().as_bytes()).to_hex().to_string();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = inner.0.get(&name) {
            return Ok(owner == key);
        }
        let line = format!("{name} {}\n", key.to_hex());
        inner.1.write_all(line.as_bytes())?;
        inner.0.insert(name, *key);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use waymark_log::key::SecretKey;

    use super::*;

    #[test]
    fn an_account_stays_with_its_first_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        let (one, two) = (SecretKey::from_seed(&[1; 32]).public(), SecretKey::from_seed(&[2; 32]).public());
        let account = Account::parse("mimi://chat.example/u/ann").unwrap();
        let accounts = Accounts::open(&path).unwrap();
        assert!(accounts.claim(&account, &one).unwrap());
        assert!(!accounts.claim(&account, &two).unwrap());
        let accounts = Accounts::open(&path).unwrap();
        assert_eq!(accounts.len(), 1);
        assert!(accounts.claim(&account, &one).unwrap() && !accounts.claim(&account, &two).unwrap());
        assert!(!std::fs::read_to_string(&path).unwrap().contains("ann"));
    }
}
