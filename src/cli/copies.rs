//! `waymark-dp backup` and `restore`, and what the operator should know of each.

use std::path::Path;

use waymark_mapping::names::Region;
use waymark_runtime::clock::Clock;

use super::{End, Ended, dp::load};
use crate::backup::{self, Wanted};

fn could(error: impl Into<anyhow::Error>) -> End {
    End::Could(error.into())
}

/// Copies a DP's data.
pub fn back_up(dir: &Path, to: &Path, region: Option<&str>, with_keys: bool) -> Ended {
    let parse = |text: &str| Region::parse(text).filter(|r| *r != Region::ANY);
    let region = match region {
        Some(text) => Some(parse(text).ok_or_else(|| End::Usage(format!("{text} is no region")))?),
        None => None,
    };
    let settings = load(dir)?;
    let made = backup::back_up(&settings, to, &Wanted { region, with_keys }, Clock::System.now()).map_err(could)?;
    println!("{} entries, {} records of {} identifiers, read back", made.size, made.records, made.identifiers);
    if made.left_out > 0 {
        println!("{} identifiers left out: a mapping of theirs is for another region", made.left_out);
    }
    eprintln!("an erasure after this does not reach this copy: delete it when a newer one is made");
    if !with_keys {
        eprintln!("it has no keys: without {}/keys nobody reads it, not you either", dir.display());
    }
    Ok(())
}

/// Makes a data folder from a copy.
pub fn restore(from: &Path, dir: &Path, keys: Option<&Path>) -> Ended {
    let restored = backup::restore(from, dir, keys).map_err(could)?;
    println!("{} entries, {} records of {} identifiers", restored.size, restored.records, restored.identifiers);
    eprintln!("never run it beside the DP that it was copied from: two DPs with one key fork the log");
    eprintln!(
        "what was logged after {} entries is not in it. If there was more, the witnesses know, and",
        restored.size
    );
    eprintln!("the DP will stop rather than sign: then only a newer copy helps, or a new log");
    if restored.left_out > 0 {
        eprintln!(
            "{} identifiers have no record here; look-ups of them get an error, not an absence",
            restored.left_out
        );
    }
    Ok(())
}
