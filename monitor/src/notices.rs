//! What is late or missing at one log. A notice stands while its cause lasts, and is news only when it begins.

use std::collections::{BTreeMap, VecDeque};

use waymark_log::time::UnixMillis;

/// Most heads that are remembered as having come late: the latest say enough.
pub(crate) const LATE_HEADS_MAX: usize = 16;

/// What a notice is about. There is at most one for each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Subject {
    /// The log cannot be read, or what is read is damaged.
    Reading,
    /// A hash tile cannot be used.
    Tiles,
    /// It would take more memory than it may.
    Budget,
    /// This machine's clock is wrong.
    Clock,
    /// Its checkpoint is none, or is not cosigned by a quorum.
    Policy,
    /// No fresh quorum for longer than allowed.
    Stale,
    /// The last head's time does not fit its cosignatures.
    HeadTime,
    /// The log shows less than it has shown before.
    Behind,
    /// More findings than are recorded.
    Findings,
    /// Entries that were not judged.
    Unjudged,
    /// A witness's copy cannot be read or is none.
    Copy(String),
    /// A witness has seen more than the log shows.
    Ahead(String),
    /// The log withholds what has met the policy.
    Withheld,
}

/// The notices of one log.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    standing: BTreeMap<Subject, String>,
    late_heads: VecDeque<String>,
    /// Those that began since they were last taken.
    news: Vec<(String, UnixMillis)>,
}

impl Notices {
    /// Something is late or missing.
    pub(crate) fn set(&mut self, subject: Subject, text: String, now: UnixMillis) {
        if self.standing.insert(subject, text.clone()).is_none() {
            self.news.push((text, now));
        }
    }

    /// There is more of something: `all` stands, and `more` is news, whatever stood before.
    pub(crate) fn grow(&mut self, subject: Subject, all: String, more: String, now: UnixMillis) {
        self.standing.insert(subject, all);
        self.news.push((more, now));
    }

    /// It no longer is.
    pub(crate) fn clear(&mut self, subject: &Subject) {
        self.standing.remove(subject);
    }

    /// Whether there is one about this.
    pub(crate) fn stands(&self, subject: &Subject) -> bool {
        self.standing.contains_key(subject)
    }

    /// A head came late: over at once, and worth remembering.
    pub(crate) fn late_head(&mut self, text: String, now: UnixMillis) {
        self.late_heads.push_back(text.clone());
        if self.late_heads.len() > LATE_HEADS_MAX {
            self.late_heads.pop_front();
        }
        self.news.push((text, now));
    }

    /// All that stand, and the heads that came late.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &String> {
        self.standing.values().chain(&self.late_heads)
    }

    /// Those that began since this was last asked.
    pub(crate) fn take_news(&mut self) -> Vec<(String, UnixMillis)> {
        std::mem::take(&mut self.news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_news_once_each_time_it_begins() {
        let mut notices = Notices::default();
        let now = UnixMillis::new(1);
        for text in ["one", "two"] {
            notices.set(Subject::Stale, text.to_owned(), now);
        }
        assert_eq!(notices.take_news(), [("one".to_owned(), now)]);
        assert_eq!(notices.texts().collect::<Vec<_>>(), ["two"]);
        notices.clear(&Subject::Stale);
        assert_eq!(notices.texts().count(), 0);
        notices.set(Subject::Stale, "again".to_owned(), now);
        assert_eq!(notices.take_news().len(), 1);
        for (all, more) in [("one", "one"), ("one and two", "two")] {
            notices.grow(Subject::Unjudged, all.to_owned(), more.to_owned(), now);
        }
        assert_eq!(notices.take_news(), [("one".to_owned(), now), ("two".to_owned(), now)]);
        assert_eq!(notices.texts().collect::<Vec<_>>(), ["again", "one and two"]);
        notices.clear(&Subject::Unjudged);
        for i in 0..2 * LATE_HEADS_MAX {
            notices.late_head(format!("head {i}"), now);
        }
        assert_eq!(notices.texts().count(), 1 + LATE_HEADS_MAX);
    }
}
