//! What Waymark logs and how it is checked.
pub mod commitment;
pub mod identifier;
pub mod label;
pub mod ladder;
pub mod names;
pub mod prefix;
pub mod typed;
pub mod vrf;
pub mod wire;
