//! Which recipient key an account belongs to: the one that asked first. A stand-in for an MSP's own login.
//!
//! ```text
//! <blake3 of the account, hex> <recipient key, hex>\n        one line an account, appended
//! ```

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use waymark_log::key::Key;
use waymark_mapping::{names::Account, watch::WatchId};
use waymark_runtime::lines::Lines;

/// Most bytes of accounts, read at the start: a million accounts. A new one beyond that is refused, and no start is.
const ACCOUNTS_BYTES_MAX: usize = 130 << 20;

/// Why an account is not given to a key.
#[derive(Debug, thiserror::Error)]
pub enum ClaimRefused {
    /// It belongs to another key.
    #[error("another app is registered for this account")]
    Taken,
    /// There is no room for another account.
    #[error("no more accounts are held here")]
    Full,
    /// Too many new ones have come from there; again after so many seconds.
    #[error("as many new accounts have come from this address or its neighbours as are taken for now")]
    TooMany(u64),
    /// It could not be written down.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Most watch-lists that one account may have handed in, retired ones aside: an app has one for each key that it registers with,
/// and keeps its name.
pub const LISTS_PER_ACCOUNT_MAX: usize = 8;

/// Whose account each watch-list came from. A list is signed by a key of its own, which says nothing of an account.
#[derive(Debug, Default)]
pub struct ListsByAccount {
    of: HashMap<WatchId, Key>,
    lists: HashMap<Key, Vec<WatchId>>,
}

impl ListsByAccount {
    /// A list came from the account with this key.
    pub fn add(&mut self, list: WatchId, account: Key) {
        if self.of.insert(list, account).is_none() {
            self.lists.entry(account).or_default().push(list);
        }
    }

    /// The key of the account that a list came from.
    pub fn account(&self, list: &WatchId) -> Option<&Key> {
        self.of.get(list)
    }

    /// Whether the account may hand in one more. `holds` says which lists are still there.
    pub fn have_room(&mut self, account: &Key, holds: impl Fn(&WatchId) -> bool) -> bool {
        let Self { of, lists } = self;
        let Some(held) = lists.get_mut(account) else { return true };
        held.retain(|list| {
            let stays = holds(list);
            if !stays {
                of.remove(list);
            }
            stays
        });
        held.len() < LISTS_PER_ACCOUNT_MAX
    }
}

struct Inner {
    keys: HashMap<String, Key>,
    /// The same keys, to be asked for by key.
    users: HashSet<Key>,
    lines: Lines,
    bytes_max: usize,
}

/// Accounts and their keys.
pub struct Accounts {
    inner: Mutex<Inner>,
}

impl Accounts {
    /// Reads the accounts, if there are any yet.
    ///
    /// # Errors
    /// If they cannot be read, or a line is damaged.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (lines, there) = Lines::open(path, ACCOUNTS_BYTES_MAX)?;
        let mut keys = HashMap::new();
        for line in there {
            let parsed = line.split_once(' ').and_then(|(account, key)| Some((account, Key::from_hex(key)?)));
            let (account, key) =
                parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a damaged line in accounts"))?;
            keys.insert(account.to_owned(), key);
        }
        let users = keys.values().copied().collect();
        Ok(Self { inner: Mutex::new(Inner { keys, users, lines, bytes_max: ACCOUNTS_BYTES_MAX }) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of accounts.
    pub fn len(&self) -> usize {
        self.inner().keys.len()
    }

    /// Whether some account belongs to this key.
    pub fn knows(&self, key: &Key) -> bool {
        self.inner().users.contains(key)
    }

    /// The account belongs to this key afterwards, if nobody asked for it before. `admit` says whether whoever asks may have a
    /// new one, or after how many seconds: it is asked last.
    ///
    /// # Errors
    /// [`ClaimRefused`].
    pub fn claim(
        &self,
        account: &Account,
        key: &Key,
        admit: impl FnOnce() -> Result<(), u64>,
    ) -> Result<(), ClaimRefused> {
        let name = blake3::hash(account.expose().as_bytes()).to_hex().to_string();
        let mut inner = self.inner();
        if let Some(owner) = inner.keys.get(&name) {
            return if owner == key { Ok(()) } else { Err(ClaimRefused::Taken) };
        }
        let line = format!("{name} {}", key.to_hex());
        if !inner.lines.has_room_for(&line, inner.bytes_max) {
            return Err(ClaimRefused::Full);
        }
        admit().map_err(ClaimRefused::TooMany)?;
        inner.lines.append([line.as_str()])?;
        inner.keys.insert(name, *key);
        inner.users.insert(*key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use waymark_log::key::SecretKey;

    use super::*;

    #[test]
    fn an_account_has_room_for_so_many_lists_that_are_still_there() {
        let account = SecretKey::from_seed(&[1; 32]).public();
        let mut lists = ListsByAccount::default();
        for name in 0..LISTS_PER_ACCOUNT_MAX as u8 {
            assert!(lists.have_room(&account, |_| true));
            lists.add(WatchId([name; 16]), account);
            // A renewal is no further list.
            lists.add(WatchId([name; 16]), account);
        }
        assert!(!lists.have_room(&account, |_| true));
        assert!(lists.have_room(&SecretKey::from_seed(&[2; 32]).public(), |_| true));
        assert!(lists.have_room(&account, |list| list.0[0] != 3));
        assert_eq!((lists.account(&WatchId([3; 16])), lists.account(&WatchId([4; 16]))), (None, Some(&account)));
    }

    #[test]
    fn an_account_stays_with_its_first_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        let (one, two) = (SecretKey::from_seed(&[1; 32]).public(), SecretKey::from_seed(&[2; 32]).public());
        let account = Account::parse("mimi://chat.example/u/ann").unwrap();
        let accounts = Accounts::open(&path).unwrap();
        assert!(!accounts.knows(&one));
        accounts.claim(&account, &one, || Ok(())).unwrap();
        let taken = |accounts: &Accounts| matches!(accounts.claim(&account, &two, || Ok(())), Err(ClaimRefused::Taken));
        assert!(taken(&accounts));
        let accounts = Accounts::open(&path).unwrap();
        assert_eq!(accounts.len(), 1);
        assert!(accounts.knows(&one) && !accounts.knows(&two));
        assert!(accounts.claim(&account, &one, || Err(1)).is_ok(), "no new one: nobody is asked");
        assert!(taken(&accounts));
        assert!(!std::fs::read_to_string(&path).unwrap().contains("ann"));
    }

    #[test]
    fn beyond_its_cap_a_new_account_is_refused_and_the_next_start_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts");
        let key = SecretKey::from_seed(&[1; 32]).public();
        let account = |i: u8| Account::parse(&format!("mimi://chat.example/u/{i}")).unwrap();
        let accounts = Accounts::open(&path).unwrap();
        accounts.claim(&account(0), &key, || Ok(())).unwrap();
        // Room for one more line, and not for two.
        let line = std::fs::read(&path).unwrap().len();
        accounts.inner().bytes_max = 3 * line - 1;
        assert!(matches!(accounts.claim(&account(1), &key, || Err(7)), Err(ClaimRefused::TooMany(7))));
        accounts.claim(&account(1), &key, || Ok(())).unwrap();
        assert!(matches!(accounts.claim(&account(2), &key, || Ok(())), Err(ClaimRefused::Full)));
        assert_eq!(std::fs::read(&path).unwrap().len(), 2 * line);
        accounts.claim(&account(0), &key, || Err(7)).unwrap();
        assert_eq!(Accounts::open(&path).unwrap().len(), 2);
    }
}
