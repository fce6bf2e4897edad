//! Who lives in the town, and which mappings they have.

use std::path::PathBuf;

use waymark::demo::people::{self, PersonMapping};
use waymark_log::{hash::Hash, key::SecretKey};
use waymark_mapping::{
    identifier::Csi,
    mapping::{Mapping, Tags},
    names::{Account, Domain, Tag},
};

use super::dice::Dice;

/// People that `cargo test` takes.
const PEOPLE_IN_SHORT: usize = 700;
/// People that are made up where there is no file.
const PEOPLE_MADE_UP: usize = 2000;
/// Who does what, unless the environment says otherwise.
const SEED: u64 = 20_260_818;
/// Tags that hidden mappings have.
const EXACT: [&str; 4] = ["soccer-parents-7f3a", "landlord-91c2", "support-group-d04e", "Straße 7"];
/// Tags that visible mappings have.
const SHOWN: [&[&str]; 5] = [&["default"], &["business"], &["personal"], &["family"], &["business", "personal"]];

/// A mapping and the key of the app that it is of.
#[derive(Clone)]
pub struct Own {
    pub mapping: Mapping,
    pub key: SecretKey,
}

/// Somebody, and what stands under their identifier.
#[derive(Clone)]
pub struct Person {
    pub csi: Csi,
    /// What the file says.
    pub wanted: Vec<PersonMapping>,
    pub visible: Vec<Own>,
    pub hidden: Vec<Own>,
    /// MSPs of the hidden mappings when everybody was looked up for the first time.
    pub hidden_at_first: Vec<Domain>,
    /// The next version.
    pub next: u32,
    /// Of the version before it.
    pub commitment: Hash,
    pub dice: Dice,
}

impl Person {
    pub fn hidden_msps(&self) -> Vec<Domain> {
        self.hidden.iter().filter_map(|own| own.mapping.msp.get()).collect()
    }
}

/// The people of the file, and the seed.
pub fn read() -> (Vec<Person>, u64) {
    let variable = |name: &str| std::env::var(name).ok();
    let seed = variable("WAYMARK_OBSERVER_SEED").map_or(SEED, |s| s.parse().expect("a seed is a number"));
    let path = variable("WAYMARK_PEOPLE").unwrap_or_else(|| "../shared/data/people.jsonl".to_owned());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut listed = if path.exists() { people::read(&path).unwrap() } else { made_up(seed) };
    match variable("WAYMARK_OBSERVER_PEOPLE").as_deref() {
        Some("all") => {}
        Some(count) => listed.truncate(count.parse().expect("`all`, or a number of people")),
        None => listed.truncate(PEOPLE_IN_SHORT),
    }
    let person = |(i, p): (usize, people::Person)| Person {
        csi: p.csi,
        wanted: p.mappings,
        visible: vec![],
        hidden: vec![],
        hidden_at_first: vec![],
        next: 0,
        commitment: Hash::ZERO,
        dice: Dice::new(seed, i),
    };
    (listed.into_iter().enumerate().map(person).collect(), seed)
}

/// People nobody has seen: each mapping hidden one time in eight.
fn made_up(seed: u64) -> Vec<people::Person> {
    let mut dice = Dice::new(seed, usize::MAX);
    let msps: Vec<Domain> = (0..8).map(|i| Domain::parse(&format!("msp{i}.example")).unwrap()).collect();
    let person = |i: usize| {
        let csi = Csi::parse(&format!("tel:+999{i:09}")).unwrap();
        let count = if dice.percent(3) { 0 } else { *dice.one_of(&[1, 1, 1, 2, 3, 4]) };
        let from = dice.below(msps.len());
        let mapping = |i: usize| {
            let msp = msps[(from + i) % msps.len()].clone();
            let account = account(&msp, &mut dice);
            let tags = if dice.percent(12) { exact(&mut dice) } else { shown(&mut dice) };
            PersonMapping { msp, account, tags }
        };
        people::Person { csi, mappings: (0..count).map(mapping).collect() }
    };
    (0..PEOPLE_MADE_UP).map(person).collect()
}

/// An account there.
pub fn account(msp: &Domain, dice: &mut Dice) -> Account {
    Account::parse(&format!("mimi://{msp}/u/{:010x}", dice.below(1 << 40))).unwrap()
}

/// A tag to be presented.
pub fn exact(dice: &mut Dice) -> Tags {
    Tags::Exact(Tag::parse(EXACT[dice.below(EXACT.len())]).unwrap())
}

/// Tags for everybody.
pub fn shown(dice: &mut Dice) -> Tags {
    Tags::shown(dice.one_of(&SHOWN).iter().map(|t| Tag::parse(t).unwrap()).collect()).unwrap()
}
