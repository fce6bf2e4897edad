//! What happened, counted.

use std::collections::BTreeMap;

#[derive(Default, Clone)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    pub fn count(&mut self, what: String) {
        self.add(&what, 1);
    }

    pub fn add(&mut self, what: &str, times: u64) {
        if times > 0 {
            *self.0.entry(what.to_owned()).or_default() += times;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, times)| self.add(what, *times));
    }

    /// Of these beginnings of what should have happened, those of which nothing did.
    pub fn lacks<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted.iter().filter(|w| !self.0.keys().any(|k| k.starts_with(**w))).copied().collect()
    }

    pub fn print(&self) {
        self.0.iter().for_each(|(what, times)| println!("{times:>9}  {what}"));
    }
}
