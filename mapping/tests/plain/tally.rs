//! What was asked for, and what came of it: so that a run which never gets anywhere does not pass for one that found nothing.

use std::collections::{BTreeMap, BTreeSet};

use waymark_mapping::event::EventKind as Kind;

use super::{rules::Why, wishes::KINDS};

/// How often each kind was accepted and refused, and for which reasons.
#[derive(Default, Debug)]
pub struct Tally {
    accepted: BTreeMap<u8, u32>,
    refused: BTreeMap<u8, u32>,
    /// Refusals by the code that was given.
    codes: BTreeMap<&'static str, u32>,
    /// Refusals for which the model knows one reason only.
    pub single: u32,
    /// Changes by which something of another key made way that had lapsed.
    pub cleared: u32,
}

impl Tally {
    pub fn accept(&mut self, kind: Kind) {
        *self.accepted.entry(kind as u8).or_default() += 1;
    }

    pub fn refuse(&mut self, kind: Kind, code: &'static str, reasons: &BTreeSet<Why>) {
        *self.refused.entry(kind as u8).or_default() += 1;
        *self.codes.entry(code).or_default() += 1;
        self.single += u32::from(reasons.len() == 1);
    }

    pub fn add(&mut self, other: &Self) {
        let all = |into: &mut BTreeMap<u8, u32>, from: &BTreeMap<u8, u32>| {
            from.iter().for_each(|(kind, count)| *into.entry(*kind).or_default() += count);
        };
        all(&mut self.accepted, &other.accepted);
        all(&mut self.refused, &other.refused);
        other.codes.iter().for_each(|(code, count)| *self.codes.entry(code).or_default() += count);
        self.single += other.single;
        self.cleared += other.cleared;
    }

    pub fn events(&self) -> u32 {
        self.accepted.values().chain(self.refused.values()).sum()
    }

    /// One line a kind, and one for the codes.
    pub fn print(&self) {
        for kind in KINDS {
            let (yes, no) = (self.accepted_of(kind), self.refused_of(kind));
            println!("{:<18} {yes:>7} accepted {no:>7} refused", format!("{kind:?}"));
        }
        println!("{} events; {} refusals for one reason; codes {:?}", self.events(), self.single, self.codes);
        println!("{} changes for which something lapsed made way", self.cleared);
    }

    fn accepted_of(&self, kind: Kind) -> u32 {
        self.accepted.get(&(kind as u8)).copied().unwrap_or_default()
    }

    fn refused_of(&self, kind: Kind) -> u32 {
        self.refused.get(&(kind as u8)).copied().unwrap_or_default()
    }

    /// What is missing until every kind was accepted and refused at least so often, and every one of these codes was given.
    pub fn lacks(&self, least: u32, codes: &[Why]) -> Option<String> {
        let few = KINDS.iter().find(|k| self.accepted_of(**k).min(self.refused_of(**k)) < least);
        let unheard = codes.iter().find(|why| !self.codes.contains_key(why.code()));
        let refused: u32 = self.refused.values().sum();
        few.map(|kind| {
            let (yes, no) = (self.accepted_of(*kind), self.refused_of(*kind));
            format!("{kind:?}: {yes} accepted, {no} refused; too few to show anything")
        })
        .or_else(|| unheard.map(|why| format!("no refusal with {}", why.code())))
        .or_else(|| {
            let too_few = self.single * 2 <= refused;
            too_few.then(|| format!("{} of {refused} refusals for one reason: too few", self.single))
        })
    }
}
