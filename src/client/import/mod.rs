//! Handing many changes over to a DP: a file of lines, in any number of attempts, each change exactly once.
//!
//! ```text
//! {"change":"<base64 of a ChangeRequest>"}\n        the input: a line a change, signed by its recipients; empty lines are skipped
//! ```
//!
//! A line is over when the DP has published its change or will never take it; then, and only then, it is in the journal
//! beside the input ([`journal`]). What is not over is sent again, also after a crash of either side: an event names the
//! version that it makes, so sending it twice makes it once. What passes by itself (a full queue, a DP that is starting) is
//! waited for.

pub mod journal;
mod lines;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::task::JoinSet;
use waymark_log::key::SecretKey;

use self::{
    journal::{Journal, JournalError, Over},
    lines::{Item, LineReader, Read},
};
use super::{ClientError, provider::ProviderClient};
use crate::api::{IMPORT_BYTES_MAX, IMPORT_ITEMS_MAX, ImportAnswer, ImportOutcome, join_import};

/// Requests on their way at a time: a DP takes one import of an MSP at a time, and lines keep their order.
const REQUESTS_MAX: usize = 1;
/// Longest pause between attempts, whatever the DP asks for.
const PAUSE_S_MAX: u64 = 30;
/// Longest without any line's coming to its end, unless said otherwise: ten minutes.
pub const PATIENCE_S_DEFAULT: u64 = 600;
/// Code of a line that cannot be read.
pub const LINE_MALFORMED: &str = "line-malformed";

/// Why an import stopped before its end. Started again, it goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The input.
    #[error("the input: {0}")]
    Input(#[source] io::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The DP does not take imports from us.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nothing came to its end for too long.
    #[error("no line came to its end for {0} s; start again to go on")]
    Patience(u64),
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Lines that are not empty.
    pub lines: u64,
    /// Lines whose change is published.
    pub published: u64,
    /// Lines whose change will never be taken.
    pub refused: u64,
    /// Refused lines by code.
    pub codes: BTreeMap<String, u64>,
    /// Lines that were over before this attempt.
    pub over_before: u64,
    /// Requests of this attempt.
    pub requests: u64,
}

/// What happens on the way, for whoever shows it.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A line is refused, for this reason.
    Refused(u64, &'a str),
    /// So many of so many lines are over.
    Over(u64, u64),
    /// The DP asks for patience.
    Waiting(Duration),
}

/// One attempt.
struct Attempt<'a> {
    dp: &'a ProviderClient,
    secret: &'a SecretKey,
    reader: LineReader,
    journal: Journal,
    /// Sent before, and to be sent again.
    again: VecDeque<Item>,
    flying: JoinSet<(Vec<Item>, Result<ImportAnswer, ClientError>)>,
    /// Nothing is sent before this.
    not_before: Instant,
    /// When a line last came to its end.
    progressed: Instant,
    failures: u32,
    summary: Summary,
    tell: &'a mut (dyn FnMut(Progress<'_>) + Send),
}

/// Imports a file.
///
/// # Errors
/// [`ImportError`]; what is over by then is in the journal.
pub async fn import(
    dp: &ProviderClient,
    secret: &SecretKey,
    input: &Path,
    patience_s: u64,
    tell: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Summary, ImportError> {
    let scanned = lines::scan(input).map_err(ImportError::Input)?;
    let journal = Journal::open(input, dp, &scanned)?;
    let mut summary = Summary { lines: scanned.lines, ..Summary::default() };
    journal.outcomes().for_each(|over| summary.count(over));
    summary.over_before = summary.published + summary.refused;
    let now = Instant::now();
    let mut attempt = Attempt {
        dp,
        secret,
        reader: LineReader::open(input).map_err(ImportError::Input)?,
        journal,
        again: VecDeque::new(),
        flying: JoinSet::new(),
        not_before: now,
        progressed: now,
        failures: 0,
        summary,
        tell,
    };
    attempt.run(patience_s).await?;
    Ok(attempt.summary)
}

impl Summary {
    fn count(&mut self, over: &Over) {
        match over {
            Over::Published(_) => self.published += 1,
            Over::Refused(code) => {
                self.refused += 1;
                *self.codes.entry(code.clone()).or_default() += 1;
            }
        }
    }
}

impl Attempt<'_> {
    async fn run(&mut self, patience_s: u64) -> Result<(), ImportError> {
        loop {
            while self.flying.len() < REQUESTS_MAX && self.not_before <= Instant::now() {
                let items = self.next_items()?;
                if items.is_empty() {
                    break;
                }
                self.send(items);
            }
            let pause = self.not_before.saturating_duration_since(Instant::now());
            match self.flying.join_next().await {
                Some(Ok((items, answer))) => self.take(items, answer)?,
                // A task of ours was aborted or panicked: its lines are not over, and the next attempt has them.
                Some(Err(error)) => return Err(ImportError::Input(io::Error::other(error))),
                None if pause.is_zero() && self.again.is_empty() => return Ok(()),
                None => tokio::time::sleep(pause).await,
            }
            if self.progressed.elapsed() > Duration::from_secs(patience_s) {
                return Err(ImportError::Patience(patience_s));
            }
        }
    }

    /// What to send next: first what is to be sent again, then lines that are not over.
    fn next_items(&mut self) -> Result<Vec<Item>, ImportError> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < IMPORT_ITEMS_MAX {
            let Some(item) = self.next_item()? else { break };
            bytes += 4 + item.change.len();
            if bytes > IMPORT_BYTES_MAX {
                self.again.push_front(item);
                break;
            }
            items.push(item);
        }
        Ok(items)
    }

    fn next_item(&mut self) -> Result<Option<Item>, ImportError> {
        if let Some(item) = self.again.pop_front() {
            return Ok(Some(item));
        }
        while let Some(read) = self.reader.next().map_err(ImportError::Input)? {
            match read {
                Read::Item(item) if !self.journal.is_over(item.line) => return Ok(Some(item)),
                Read::Malformed(line) if !self.journal.is_over(line) => {
                    self.over(vec![(line, Over::Refused(LINE_MALFORMED.to_owned()))])?;
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn send(&mut self, items: Vec<Item>) {
        self.summary.requests += 1;
        let (dp, secret) = (self.dp.clone(), self.secret.clone());
        self.flying.spawn(async move {
            // The items were chosen to fit.
            let body = join_import(items.iter().map(|i| i.change.as_slice())).unwrap_or_default();
            let answer = dp.import(&secret, body).await;
            (items, answer)
        });
    }

    fn take(&mut self, items: Vec<Item>, answer: Result<ImportAnswer, ClientError>) -> Result<(), ImportError> {
        let answer = match answer {
            Ok(answer) if answer.items.len() == items.len() => answer,
            Ok(_) => return Err(ClientError::Malformed("not one outcome an item".to_owned()).into()),
            Err(error) => {
                self.again.extend(items);
                return self.wait_after(error);
            }
        };
        self.failures = 0;
        let mut over = Vec::new();
        for (item, outcome) in items.into_iter().zip(answer.items) {
            match outcome {
                ImportOutcome::Published { version } => over.push((item.line, Over::Published(version))),
                ImportOutcome::Refused { code } => over.push((item.line, Over::Refused(journal::clean(code)))),
                ImportOutcome::Again { .. } => self.again.push_back(item),
            }
        }
        if !self.again.is_empty() {
            self.pause(1);
        }
        self.over(over)
    }

    /// Lines have come to their end: first the journal, then everybody else.
    fn over(&mut self, lines: Vec<(u64, Over)>) -> Result<(), ImportError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.journal.append(&lines)?;
        self.progressed = Instant::now();
        for (line, over) in &lines {
            self.summary.count(over);
            if let Over::Refused(code) = over {
                (self.tell)(Progress::Refused(*line, code));
            }
        }
        (self.tell)(Progress::Over(self.summary.published + self.summary.refused, self.summary.lines));
        Ok(())
    }

    /// What passes by itself is waited for; anything else ends the attempt.
    fn wait_after(&mut self, error: ClientError) -> Result<(), ImportError> {
        let asked_s = match &error {
            ClientError::Fetch(_) => None,
            ClientError::Refused { status: 408 | 429 | 500.., retry_after_s, .. } => *retry_after_s,
            _ => return Err(error.into()),
        };
        self.failures = (self.failures + 1).min(5);
        self.pause(asked_s.unwrap_or(1 << (self.failures - 1)));
        Ok(())
    }

    fn pause(&mut self, seconds: u64) {
        let pause = Duration::from_secs(seconds.min(PAUSE_S_MAX));
        self.not_before = Instant::now() + pause;
        if seconds > 1 {
            (self.tell)(Progress::Waiting(pause));
        }
    }
}
