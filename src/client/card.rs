//! Facts in words and in JSON: one set of facts, two forms.
//!
//! The card counts organisations, not roles, and says whose word each fact is. It never says "verified" alone.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};
use waymark_log::time::UnixMillis;
use waymark_mapping::{
    facts::{ChangedHands, Contest, LogFacts, MappingFacts, OpenKnown, Service},
    memory::{GoneBack, Remembered},
    record::{Beginning, Ground},
    verify::{Check, Lookup, Outcome},
};

use super::{
    choose::{Choice, Memory, Sifted, Why},
    memory::LogMemory,
    policy::{Test, in_words},
};
use crate::api::{Hint, outcome_code};

/// A date for people, UTC.
pub fn date(time: UnixMillis) -> String {
    let timestamp = i64::try_from(time.get()).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    timestamp.map_or_else(|| "an impossible date".to_owned(), |t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// How long ago, for people.
fn ago(time: UnixMillis, now: UnixMillis) -> String {
    let seconds = now.since(time) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// The card in words. `who` is how the asker's screen names the CSI.
pub fn words(lookup: &Lookup, who: &str, now: UnixMillis) -> String {
    let mut card = String::new();
    let headline = match lookup.outcome {
        Outcome::Absent => format!("{who}: nobody is registered here. Proved: no version of this identifier exists."),
        Outcome::OptedOut => format!("{who}: the recipient has signed that they do not want to be found."),
        Outcome::NoneListed => format!("{who}: known here, and nothing is listed. No reason is proved."),
        Outcome::Erased => format!("{who}: what was here has been erased."),
        Outcome::Listed => {
            let count = lookup.mappings.iter().filter(|m| m.holds && m.msp.is_some()).count();
            format!("{who}: {count} {} found", if count == 1 { "way" } else { "ways" })
        }
    };
    let _ = writeln!(card, "{headline}");
    match &lookup.contested {
        Some(Contest::Claim { until, objected, .. }) => {
            let objected = if *objected { "; the holder objects" } else { "" };
            let _ =
                writeln!(card, "  ! CONTESTED: somebody else claims this identifier until {}{objected}", date(*until));
        }
        Some(Contest::ForeignRelease) => {
            let _ = writeln!(card, "  ! CONTESTED: taken back by an operator that your trust file does not know");
        }
        Some(Contest::ShortHold { ground, until }) => {
            let _ = writeln!(
                card,
                "  ! CONTESTED until {}: changed hands after 72 hours only, because the DP says that {}; nothing proves it",
                date(*until),
                if *ground == Ground::Recycled {
                    "the number was given to somebody else"
                } else {
                    "the old entries had lapsed"
                }
            );
        }
        Some(Contest::ForeignProver) => {
            let who = "a prover that your trust file does not know";
            let _ = writeln!(card, "  ! CONTESTED: changed hands after 72 hours only, on the word of {who}");
        }
        None => {}
    }
    if let Some(hands) = &lookup.changed_hands {
        hands_words(&mut card, hands, now);
    }
    for withheld in &lookup.withheld {
        let (reason, since) = (withheld.reason, date(withheld.by_event));
        let _ = writeln!(card, "  a way is WITHHELD BY THE DP since {since}, reason {reason}");
    }
    for mapping in lookup.mappings.iter().filter(|m| m.msp.is_some()) {
        mapping_words(&mut card, mapping, now);
    }
    log_words(&mut card, &lookup.log);
    card
}

fn hands_words(card: &mut String, hands: &ChangedHands, now: UnixMillis) {
    let how = match (hands.how, hands.ground) {
        (Beginning::NewHolder, Some(Ground::Equal)) => "a claim, after a hold of 14 days that is proved",
        (Beginning::NewHolder, Some(_)) => "a claim, after a hold of 72 hours that is proved",
        (Beginning::NewHolder, None) => "a claim",
        (Beginning::Release, _) => "its operator took it back",
        (Beginning::First | Beginning::Vacancy, _) => "nothing stood before",
    };
    let _ = writeln!(card, "  changed hands {}: {how}", ago(hands.time, now));
}

fn mapping_words(card: &mut String, m: &MappingFacts, now: UnixMillis) {
    let msp = m.msp.as_ref().map_or("", |d| d.as_str());
    let tags: Vec<&str> = m.tags.as_shown().iter().map(|t| t.expose()).collect();
    let tags = match m.tags.as_exact() {
        Some(tag) => format!("hidden, by the tag {:?}", tag.expose()),
        None if tags.is_empty() => "no tags".to_owned(),
        None => tags.join(", "),
    };
    let new = if m.change.is_new { "  NEW: added beside another key's mapping" } else { "" };
    let _ = writeln!(card, "  {msp}  {}  [{tags}]{new}", m.account.expose());
    let p = &m.possession;
    let independence = match (p.independent_of_dp, p.independent_of_msp) {
        (true, true) => "independent of the DP and the MSP",
        (true, false) => "which is the MSP itself",
        (false, _) => "which is the DP itself",
    };
    let pinned = if p.pinned { ", key pinned" } else { "" };
    let _ = writeln!(
        card,
        "    possession  attested by {}, {independence}: {}, {}{pinned}",
        p.prover,
        p.method.describe(),
        ago(p.time, now)
    );
    let service = match m.service {
        Service::Confirmed { in_log, pinned } => {
            let log = if in_log { "its consent is in the public log" } else { "its consent is not in the public log" };
            let key = if pinned { "key pinned" } else { "key seen only in this log" };
            format!("confirmed by {msp}; {log}; {key}")
        }
        Service::Unconfirmed => format!("not confirmed by {msp}"),
        Service::Detached { reason } => format!("DETACHED: {msp} says that it no longer serves it, reason {reason}"),
        Service::NotShownToMsp => format!("NOT COUNTED: {msp} publishes its consents and none is logged for this"),
        Service::OptedOut => "opted out".to_owned(),
    };
    let _ = writeln!(card, "    service     {service}");
    let lapsed = if m.holds || now < m.not_after { "" } else { "  LAPSED" };
    let since = match m.change.logged_by {
        Some(logged) => format!("stands since {}: logged by then, proved", date(logged)),
        None => format!("stands since {} (the DP's word)", date(m.change.since)),
    };
    let _ = writeln!(card, "    change      {since}{lapsed}");
}

fn log_words(card: &mut String, log: &LogFacts) {
    let audited = if log.auditors_known == 0 {
        "map root not yet audited (the trust file names no auditor)".to_owned()
    } else if log.auditors == 0 {
        "map root not yet audited".to_owned()
    } else {
        format!("map root audited by {} of {}", log.auditors, log.auditors_known)
    };
    let open = match log.open {
        OpenKnown::Pinned => "entry 0 pinned",
        OpenKnown::Logged => "entry 0 proved",
        OpenKnown::Remembered => "entry 0 as seen before",
        OpenKnown::HeadOnly => "entry 0 by the head's word (pin it: waymark trust pin)",
    };
    let _ = writeln!(
        card,
        "  log {} at {} entries: {} of {} witnesses, quorum {} s ago; {audited}; {open}",
        log.origin, log.size, log.witnesses, log.witnesses_known, log.age_s
    );
}

/// A witness that was taken as absent.
pub fn gone_back_words(gone_back: &GoneBack) -> String {
    let GoneBack { witness, .. } = gone_back;
    format!(
        "! witness {witness} has contradicted itself and is not counted (smaller tree cosigned later than a larger one)"
    )
}

/// What the log has shown of its past to somebody who remembers.
pub fn memory_words(memory: &LogMemory) -> String {
    let size = memory.remembered().map_or(0, Remembered::size);
    match memory.unshown() {
        Some(why) => format!(
            "  ! NOT SHOWN that this is still the log seen before: {why}. Nothing speaks against it; what is remembered stays at \
             {size} entries\n"
        ),
        None => format!("  it is still the log seen before; remembered at {size} entries\n"),
    }
}

/// The same for programs.
pub fn memory_json(memory: &LogMemory) -> Value {
    json!({
        "size": memory.remembered().map(Remembered::size),
        "shown": memory.unshown().is_none(),
        "why": memory.unshown().map(ToString::to_string),
        "gone_back": memory.gone_back().iter().map(|g| g.witness.as_str()).collect::<Vec<_>>(),
    })
}

/// The checks that were made, one a line.
pub fn explain(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let _ = writeln!(text, "  \u{2713} {}: {}", check.name, check.detail);
    }
    text
}

/// What is not used, and the tests that it fails.
pub fn unmet_words(sifted: &Sifted<'_>) -> String {
    let mut text = String::new();
    for (m, missing) in &sifted.unmet {
        let msp = m.msp.as_ref().map_or("", |d| d.as_str());
        let _ = writeln!(text, "  not used: {msp} fails {}", in_words(missing));
    }
    text
}

/// The one mapping to use, and why.
pub fn choice_words(choice: &Choice<'_>) -> String {
    let m = choice.mapping;
    let why = match choice.why {
        Why::ExactTag => "found by the tag that was presented",
        Why::Tag => "it bears the tag that was asked for",
        Why::Msp => "it is at a provider that was asked for",
        Why::Default => "it is the recipient's default",
        Why::Any => "the recipient has not said which goes first",
        Why::Earlier => "it was chosen before; something newer would go first",
    };
    let equals = match choice.equals {
        _ if choice.why == Why::Earlier => String::new(),
        1 => "; nothing comes equally first".to_owned(),
        n => format!("; {n} come equally first, and this one by the sender's own secret"),
    };
    let memory = match choice.memory {
        Memory::First => "chosen now, and remembered",
        Memory::Kept => "chosen before, and kept (--again chooses another)",
        Memory::Moved => "CHANGED: what was chosen before is gone, lapsed, or filtered out",
        Memory::Again => "another one than before, as asked",
    };
    let msp = m.msp.as_ref().map_or("", |d| d.as_str());
    format!("use {msp}  {}\n  {why}{equals}\n  {memory}\n", m.account.expose())
}

/// The same for programs.
pub fn choice_json(choice: &Choice<'_>) -> Value {
    let why = match choice.why {
        Why::ExactTag => "exact-tag",
        Why::Tag => "tag",
        Why::Msp => "msp",
        Why::Default => "default",
        Why::Any => "any",
        Why::Earlier => "earlier",
    };
    let memory = match choice.memory {
        Memory::First => "first",
        Memory::Kept => "kept",
        Memory::Moved => "moved",
        Memory::Again => "again",
    };
    json!({
        "msp": choice.mapping.msp.as_ref().map(|d| d.as_str()),
        "account": choice.mapping.account.expose(),
        "digest": choice.mapping.digest.to_hex(),
        "why": why,
        "equals": choice.equals,
        "memory": memory,
    })
}

/// What is not used, for programs.
pub fn unmet_json(sifted: &Sifted<'_>) -> Value {
    let one = |(m, missing): &(&MappingFacts, Vec<Test>)| {
        let missing: Vec<String> = missing.iter().map(Test::to_string).collect();
        json!({"msp": m.msp.as_ref().map(|d| d.as_str()), "digest": m.digest.to_hex(), "missing": missing})
    };
    sifted.unmet.iter().map(one).collect()
}

/// A hint, as what it is. `who` is how the asker's screen names the CSI.
pub fn hint_words(hint: &Hint, who: &str) -> String {
    let more = if hint.more { " and others" } else { "" };
    let at = if hint.msps.is_empty() { String::new() } else { format!(": {}{more}", hint.msps.join(", ")) };
    format!(
        "HINT, nothing of it is checked. {who}: the DP says {:?}{at}\n  look up without --hint before use\n",
        hint.outcome
    )
}

/// The facts for programs.
pub fn to_json(lookup: &Lookup, now: UnixMillis) -> Value {
    let mappings: Vec<Value> = lookup.mappings.iter().map(|m| mapping_json(m, now)).collect();
    json!({
        "schema": "waymark.lookup/1",
        "outcome": outcome_code(lookup.outcome),
        "version": lookup.version,
        "contested": lookup.contested.is_some(),
        "contest": lookup.contested.as_ref().map(contest_json),
        "changed_hands": lookup.changed_hands.as_ref().map(hands_json),
        "withheld": lookup.withheld.iter().map(|w| json!({"reason": w.reason, "by_ms": w.by_event.get()})).collect::<Vec<_>>(),
        "mappings": mappings,
        "log": {
            "origin": lookup.log.origin.as_str(),
            "size": lookup.log.size,
            "head_time_ms": lookup.log.head_time.get(),
            "witnesses": lookup.log.witnesses,
            "witnesses_known": lookup.log.witnesses_known,
            "auditors": lookup.log.auditors,
            "quorum_age_s": lookup.log.age_s,
            "entry_0": match lookup.log.open {
                OpenKnown::Pinned => "pinned",
                OpenKnown::Logged => "proved",
                OpenKnown::Remembered => "remembered",
                OpenKnown::HeadOnly => "head-only",
            },
            "map_root_audited": lookup.log.auditors > 0,
        },
    })
}

fn contest_json(contest: &Contest) -> Value {
    match contest {
        Contest::Claim { since, until, ground, objected } => json!({
            "kind": "claim",
            "since_ms": since.get(),
            "until_ms": until.get(),
            "ground": ground_code(*ground),
            "objected": objected,
        }),
        Contest::ForeignRelease => json!({"kind": "foreign-release"}),
        Contest::ForeignProver => json!({"kind": "foreign-prover"}),
        Contest::ShortHold { ground, until } => {
            json!({"kind": "short-hold", "ground": ground_code(*ground), "until_ms": until.get()})
        }
    }
}

fn hands_json(hands: &ChangedHands) -> Value {
    let how = match hands.how {
        Beginning::First => "first",
        Beginning::NewHolder => "new-holder",
        Beginning::Release => "release",
        Beginning::Vacancy => "vacancy",
    };
    json!({
        "how": how,
        "logged_by_ms": hands.time.get(),
        "recent": hands.recent,
        "ground": hands.ground.map(ground_code),
        "csip": hands.csip.as_ref().map(|(domain, pinned)| json!({"domain": domain.as_str(), "key_pinned": pinned})),
    })
}

const fn ground_code(ground: Ground) -> &'static str {
    match ground {
        Ground::Equal => "equal-proof",
        Ground::Stricter => "stricter-proof",
        Ground::Lapsed => "lapsed",
        Ground::Recycled => "recycled",
    }
}

fn mapping_json(m: &MappingFacts, now: UnixMillis) -> Value {
    let service = match m.service {
        Service::Confirmed { in_log, pinned } => json!({"state": "confirmed", "in_log": in_log, "key_pinned": pinned}),
        Service::Unconfirmed => json!({"state": "unconfirmed"}),
        Service::Detached { reason } => json!({"state": "detached", "reason": reason}),
        Service::NotShownToMsp => json!({"state": "not-shown-to-msp"}),
        Service::OptedOut => json!({"state": "opted-out"}),
    };
    json!({
        "msp": m.msp.as_ref().map(|d| d.as_str()),
        "account": m.account.expose(),
        "tags": m.tags.as_shown().iter().map(|t| t.expose()).collect::<Vec<_>>(),
        "exact_tag": m.tags.as_exact().map(|t| t.expose()),
        "recipient_key": m.recipient.to_hex(),
        "digest": m.digest.to_hex(),
        "not_after_ms": m.not_after.get(),
        "holds": m.holds,
        "possession": {
            "prover": m.possession.prover.as_str(),
            "method": m.possession.method.describe(),
            "strength": m.possession.strength,
            "age_s": now.since(m.possession.time) / 1000,
            "independent_of_dp": m.possession.independent_of_dp,
            "independent_of_msp": m.possession.independent_of_msp,
            "key_pinned": m.possession.pinned,
        },
        "service": service,
        "change": {
            "since_ms": m.change.since.get(),
            "logged_by_ms": m.change.logged_by.map(UnixMillis::get),
            "new": m.change.is_new,
        },
    })
}
