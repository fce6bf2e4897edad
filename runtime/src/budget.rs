//! How often somebody may do something in a fixed window of time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use waymark_log::time::UnixMillis;

/// Counts by key, from zero again in each window. Windows begin at whole multiples of their length since 1970.
#[derive(Debug)]
pub struct Budget<K> {
    window_ms: u64,
    max: u32,
    keys_max: usize,
    counts: Mutex<(u64, HashMap<K, u32>)>,
}

impl<K: Eq + Hash> Budget<K> {
    /// At most `max` in each window for each key; at most `keys_max` keys are counted, and beyond those nobody is served.
    pub fn new(window_ms: u64, max: u32, keys_max: usize) -> Self {
        Self { window_ms, max, keys_max, counts: Mutex::new((0, HashMap::new())) }
    }

    /// Whether this key is counted already in this window, or there is room for it.
    pub fn has_room_for(&self, key: &K, now: UnixMillis) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.0 != now.get() / self.window_ms || counts.1.len() < self.keys_max || counts.1.contains_key(key)
    }

    /// Counts one more.
    ///
    /// # Errors
    /// Seconds until the next window, if it is one too many.
    pub fn count(&self, key: K, now: UnixMillis) -> Result<(), u64> {
        let window = now.get() / self.window_ms;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.0 != window {
            *counts = (window, HashMap::new());
        }
        let wait = (self.window_ms - now.get() % self.window_ms).div_ceil(1000);
        let full = counts.1.len() >= self.keys_max;
        match counts.1.get_mut(&key) {
            Some(count) if *count >= self.max => Err(wait),
            Some(count) => {
                *count += 1;
                Ok(())
            }
            None if full || self.max == 0 => Err(wait),
            None => {
                counts.1.insert(key, 1);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_window_for_each_key() {
        let budget = Budget::new(60_000, 2, 2);
        let at = UnixMillis::new;
        assert_eq!(budget.count("a", at(1000)), Ok(()));
        assert_eq!(budget.count("a", at(2000)), Ok(()));
        assert_eq!(budget.count("a", at(3000)), Err(57));
        assert_eq!(budget.count("b", at(3000)), Ok(()));
        assert_eq!(budget.count("c", at(3000)), Err(57), "no room for a third key");
        assert!(budget.has_room_for(&"a", at(3000)) && !budget.has_room_for(&"c", at(3000)));
        assert!(budget.has_room_for(&"c", at(60_000)));
        assert_eq!(budget.count("a", at(60_000)), Ok(()));
        assert_eq!(Budget::new(60_000, 0, 2).count("a", at(0)), Err(60));
    }
}
