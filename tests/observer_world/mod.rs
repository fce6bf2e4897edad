//! The parts of the observer's test: who lives in the town, what they do, what is seen of it, and what is made of that.

pub mod dice;
pub mod features;
pub mod leaks;
pub mod learner;
pub mod people;
pub mod seen;
pub mod town;
pub mod truth;
