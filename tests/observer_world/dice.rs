//! Random choices that come out the same for the same seed.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A source of choices.
#[derive(Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Those of one person, whatever the others do.
    pub fn new(seed: u64, who: usize) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        dice.set_stream(who as u64);
        Self(dice)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    /// True `of` times in a hundred.
    pub fn percent(&mut self, of: usize) -> bool {
        self.below(100) < of
    }

    /// True half of the time.
    pub fn coin(&mut self) -> bool {
        self.percent(50)
    }

    /// One of these.
    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
