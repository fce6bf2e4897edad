//! What a verified look-up comes to: compared, sifted, chosen from, shown; and how the command ends.

use clap::Args;
use waymark_log::time::UnixMillis;
use waymark_mapping::verify::{Asked, Lookup, Trail, Verified};

use super::{End, Ended};
use crate::client::{
    card,
    choose::{Choice, Filter, NoChoice, Sifted, choose, sift},
    key_text::{Compared, KeyText, compare},
    mask::shown,
    memory::LogMemory,
    sticky::Choices,
};

/// How it is shown.
#[derive(Debug, Args)]
pub struct View {
    /// Facts as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say each check that was made.
    #[arg(long)]
    explain: bool,
    /// Show the identifier in full instead of masked.
    #[arg(long)]
    pub show: bool,
}

/// What is asked of the mappings.
pub struct Wanted {
    /// Which may be used.
    pub filter: Filter,
    /// A text that the recipient's app has shown.
    pub compare: Option<KeyText>,
}

impl View {
    /// The checks that held, on stderr.
    pub fn explain(&self, trail: &Trail) {
        if self.explain {
            eprint!("{}", card::explain(trail.checks()));
        }
    }
}

/// What a look-up is shown with.
pub struct Context<'a> {
    /// What was asked.
    pub asked: &'a Asked,
    /// What is remembered of the log by now, if anything is.
    pub memory: Option<&'a LogMemory>,
    /// How it is shown.
    pub view: &'a View,
    /// By which clock.
    pub now: UnixMillis,
}

/// Shows a look-up. `choosing` is the memory to choose by, and whether another one than before is wanted.
pub fn report(
    verified: &Verified<Lookup>,
    mut wanted: Wanted,
    choosing: Option<(&mut Choices, bool)>,
    context: &Context<'_>,
) -> Ended {
    let Context { asked, now, .. } = *context;
    if let Some(text) = &wanted.compare {
        wanted.filter.recipient = Some(compare_key(verified.get(), asked, text)?);
    }
    let sifted = sift(verified, &wanted.filter, now);
    let mut choice = None;
    if let Some((choices, again)) = choosing {
        let question = choices.secret().question(asked);
        let before = choices.get(&question).copied();
        let chosen = choose(verified, &wanted.filter, choices.secret(), before.as_ref(), again, now);
        if let Ok(chosen) = chosen {
            choices.keep(question, chosen.keep)?;
            choice = Some(chosen);
        }
    }
    print(verified.get(), &wanted, &sifted, choice.as_ref(), context);
    if !sifted.usable.is_empty() {
        return Ok(());
    }
    Err(if sifted.unmet.is_empty() { End::Nothing } else { End::NotMet(NoChoice::Unmet.to_string()) })
}

/// The key that the recipient's app showed, if it is here.
fn compare_key(lookup: &Lookup, asked: &Asked, text: &KeyText) -> Result<waymark_log::key::Key, End> {
    let keys = lookup.mappings.iter().filter(|m| m.holds).map(|m| &m.recipient);
    match compare(text, &lookup.log.origin, lookup.log.size, &asked.csi, keys) {
        Compared::Match(key) => Ok(key),
        Compared::Behind => {
            let what = "the recipient's app has seen a larger log than the one shown here: look again";
            Err(End::NotMet(what.to_owned()))
        }
        Compared::Mismatch => {
            let what = "no mapping here is by the key that the recipient's app shows: do not use any of them";
            Err(End::Failed(what.to_owned()))
        }
    }
}

fn print(lookup: &Lookup, wanted: &Wanted, sifted: &Sifted<'_>, choice: Option<&Choice<'_>>, context: &Context<'_>) {
    let Context { asked, memory, view, now } = *context;
    let compared = wanted.compare.is_some();
    if view.json {
        let mut facts = card::to_json(lookup, now);
        facts["unmet"] = card::unmet_json(sifted);
        facts["key_compared"] = compared.into();
        facts["choice"] = choice.map(card::choice_json).into();
        facts["memory"] = memory.map(card::memory_json).into();
        println!("{facts}");
        return;
    }
    print!("{}", card::words(lookup, &shown(&asked.csi, view.show), now));
    print!("{}", memory.map(card::memory_words).unwrap_or_default());
    print!("{}", card::unmet_words(sifted));
    if compared {
        let same_key = sifted.usable.iter().copied().chain(sifted.unmet.iter().map(|(m, _)| *m));
        let msps: Vec<&str> = same_key.filter_map(|m| m.msp.as_ref()).map(|d| d.as_str()).collect();
        println!("MATCH: by the key that the recipient's app shows: {}", msps.join(", "));
    }
    if let Some(choice) = choice {
        print!("{}", card::choice_words(choice));
    }
}
