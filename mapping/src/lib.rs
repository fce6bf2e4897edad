//! What Waymark logs and how it is checked. Pure: bytes in, verdict out; time and randomness are arguments.
//!
//! Reading order (each module may use only those above it):
//!
//! | module | what it settles |
//! |---|---|
//! | [`wire`] | TLS presentation language, strictly |
//! | `characters` | which characters texts may have, by a table that never changes |
//! | [`identifier`], [`typed`] | CSIs in canonical form; what people type |
//! | [`names`] | domains, accounts, tags, regions |
//! | [`vrf`], [`label`] | the only public form of an identifier, and the handles of hidden mappings |
//! | [`commitment`] | what the log holds of a record; blinded digests |
//! | [`ladder`] | which versions show that one is the latest, and which to watch |
//! | [`prefix`] | the map, with presence and absence proofs |
//! | [`signed`], [`request`] | signatures that can mean one thing only; who sends a request |
//! | [`mapping`], [`event`], [`record`] | who is where, by whose word; why it changed; the whole at one version |
//! | [`entry`], [`provider`] | what is logged; whose keys count |
//! | [`rules`], [`compose`] | who may change what; the record that follows |
//! | [`answer`], [`tenure`] | what look-ups and issuances return; proof of the past |
//! | [`earlier`] | what a retired key signed before it retired |
//! | [`trust`], [`facts`] | whom a client believes; what it is shown |
//! | [`evidence`], [`memory`] | notes that speak against whoever signed them; what a client keeps of a log |
//! | [`verify`], [`receipt`] | the sender's judgement and the recipient's |
//! | [`watch`], [`audit`] | blind watch-lists; the monitor's replay |
//!
//! Layouts are drawn at the top of the module that owns them and gathered in docs/FORMATS.md.

pub mod answer;
pub mod audit;
mod characters;
pub mod commitment;
pub mod compose;
pub mod earlier;
pub mod entry;
pub mod event;
pub mod evidence;
pub mod facts;
pub mod identifier;
pub mod label;
pub mod ladder;
pub mod mapping;
pub mod memory;
pub mod names;
pub mod prefix;
pub mod provider;
pub mod receipt;
pub mod record;
pub mod request;
pub mod rules;
pub mod signed;
pub mod tenure;
pub mod trust;
pub mod typed;
pub mod verify;
pub mod vrf;
pub mod watch;
pub mod wire;
