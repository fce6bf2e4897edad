//! Entries that this program could not judge, since it does not know an algorithm or a value in them. "Whoever follows a log says
//! which entry it has not judged": the log did nothing wrong, and somebody with a newer program should look.

use std::fmt;

/// Most entries that are named: there may be one in each batch, and the count says how many more there are.
pub const UNJUDGED_NAMED_MAX: usize = 16;

/// The first entries that were not judged, and how many there are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Unjudged {
    first: Vec<u64>,
    count: u64,
}

impl Unjudged {
    /// There are more. Those come after all that are here.
    pub(crate) fn add(&mut self, entries: &[u64]) {
        let room = UNJUDGED_NAMED_MAX - self.first.len();
        self.first.extend(entries.iter().take(room));
        self.count += entries.len() as u64;
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Unjudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self.first.iter().map(u64::to_string).collect();
        let what = if self.count == 1 { "entry is" } else { "entries are" };
        let why = "this program does not know an algorithm or a value there";
        write!(f, "{} {what} not judged, since {why}: {}", self.count, named.join(", "))?;
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_named_and_all_are_counted() {
        let text = |counts: &[u64]| {
            let (mut unjudged, mut from) = (Unjudged::default(), 5);
            for count in counts {
                unjudged.add(&(from..from + count).collect::<Vec<_>>());
                from += count;
            }
            unjudged
                .to_string()
                .replace(" not judged, since this program does not know an algorithm or a value there", "")
        };
        assert!(Unjudged::default().is_empty());
        assert_eq!(text(&[1]), "1 entry is: 5");
        assert_eq!(text(&[1, 2]), "3 entries are: 5, 6, 7");
        let named = (5..21).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        assert_eq!(text(&[16]), format!("16 entries are: {named}"));
        assert_eq!(text(&[16, 3]), format!("19 entries are: {named} and 3 more"));
        assert_eq!(text(&[7, 1000, 2]), format!("1009 entries are: {named} and 993 more"));
    }
}
