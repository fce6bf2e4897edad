//! A plain model of who may change what, random wishes for changes, and the forge that makes real events of them.
//!
//! The model ([`rules`]) is written from the text of the rules and calls none of their code: it borrows the names of kinds and
//! roles, and nothing else. [`wishes`] draws what people, providers and thieves might ask for, mostly in good order, often with
//! a defect. [`forge`] signs it. Whoever drives them compares, for each wish, what the model and the rules say.
#![allow(dead_code, reason = "each driver uses its part")]

pub mod dice;
pub mod forge;
pub mod rules;
pub mod tally;
pub mod wishes;
