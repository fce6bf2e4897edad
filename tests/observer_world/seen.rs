//! What the observer gets: every entry of the log, and what the DP says to anybody who asks for a person without a tag. Headers
//! and bodies as they came; no tag, no key of the DP, no receipt.

use std::collections::{HashMap, HashSet};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use waymark::api::{HINT_MEDIA_TYPE, JSON_MEDIA_TYPE, LookupRequest};
use waymark_log::key::Key;
use waymark_mapping::{
    answer::{ANSWER_MEDIA_TYPE, Answer, Body},
    entry::Entry,
    identifier::Csi,
    label::{Label, verify_label},
    ladder,
    names::Domain,
};

/// One general look-up in every form, as it came over the wire.
pub struct LookedUp {
    general: (String, Vec<u8>),
    full: (String, Vec<u8>),
    hint: (String, Vec<u8>),
}

/// What a general look-up shows.
#[derive(Clone)]
pub struct Answered {
    /// Status and headers, but for the date.
    pub head: String,
    /// Bytes of the body.
    pub padded_bytes: usize,
    pub answer: Answer,
    /// The same with the proof of when each mapping was logged.
    pub full: Answer,
    pub hint: Vec<u8>,
}

/// One batch: the entries in front of one head and behind the one before.
#[derive(Clone, Default)]
pub struct Batch {
    pub first: u64,
    pub changes: usize,
    /// Indices of consents, and which of the MSPs they are of.
    pub consents: Vec<(u64, usize)>,
    pub len: u64,
    pub time_ms: u64,
}

/// All that the observer has.
#[derive(Clone)]
pub struct Observed {
    pub entries: Vec<Entry>,
    /// The public list of MSPs.
    pub msps: Vec<Domain>,
    /// Everybody, at both look-ups.
    pub looks: [Vec<Answered>; 2],
    pub batches: Vec<Batch>,
    /// For each person the versions that the ladder shows, and the indices of their change entries.
    pub changes: Vec<Vec<(u32, u64)>>,
    /// Which batch an entry is in.
    pub batch_of: Vec<usize>,
}

impl LookedUp {
    /// Asks.
    pub async fn ask(dp: &str, csi: &Csi) -> Self {
        let at = dp.strip_prefix("http://").unwrap();
        Self {
            general: post(at, csi, ANSWER_MEDIA_TYPE, false).await,
            full: post(at, csi, ANSWER_MEDIA_TYPE, true).await,
            hint: post(at, csi, HINT_MEDIA_TYPE, false).await,
        }
    }

    fn read(self) -> Answered {
        Answered {
            padded_bytes: self.general.1.len(),
            answer: Answer::from_padded(&self.general.1).unwrap(),
            full: Answer::from_padded(&self.full.1).unwrap(),
            head: [self.general.0, self.full.0, self.hint.0].concat(),
            hint: self.hint.1,
        }
    }
}

/// A look-up over a connection of its own: status line and headers without the date, and the body.
async fn post(at: &str, csi: &Csi, accept: &str, full: bool) -> (String, Vec<u8>) {
    let body = serde_json::to_vec(&LookupRequest::of(&crate::common::origin(), csi, None, full)).unwrap();
    let head = format!(
        "POST /v1/lookups HTTP/1.1\r\nHost: {at}\r\nAccept: {accept}\r\nContent-Type: {JSON_MEDIA_TYPE}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    let end = said.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let head = std::str::from_utf8(&said[..end]).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let head = head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("date:")).collect();
    (head, said[end..].to_vec())
}

impl Answered {
    pub fn body(&self) -> &Body {
        self.answer.body.0.as_ref().unwrap()
    }

    pub fn body_mut(&mut self) -> &mut Body {
        self.answer.body.0.as_mut().unwrap()
    }

    /// Whether the person says not to want to be found.
    pub fn opts_out(&self) -> bool {
        self.body().visible.iter().any(|v| v.content.mapping().is_some_and(|m| m.is_opt_out()))
    }
}

impl Observed {
    /// Puts together what the log and the look-ups say.
    pub fn new(entries: Vec<Entry>, csis: &[Csi], msps: Vec<Domain>, looks: [Vec<LookedUp>; 2]) -> Self {
        let looks = looks.map(|look| look.into_iter().map(LookedUp::read).collect::<Vec<_>>());
        let Entry::Open(open) = &entries[0] else { panic!("a log begins with its open entry") };
        let changes = places(&entries, csis, &looks[1], &open.vrf);
        let (batches, batch_of) = batches(&entries, &msps);
        Self { entries, msps, looks, batches, changes, batch_of }
    }

    /// Entries of consents that some visible mapping explains.
    pub fn explained(&self) -> HashSet<u64> {
        let visible = self.looks.iter().flatten().flat_map(|a| a.body().visible.iter());
        visible.filter_map(|v| v.consent.0.as_ref()?.logged.0.as_ref().map(|at| at.index)).collect()
    }
}

/// Where in the log the versions are that each person's ladder proves present.
fn places(entries: &[Entry], csis: &[Csi], look: &[Answered], vrf: &Key) -> Vec<Vec<(u32, u64)>> {
    let mut index_of: HashMap<Label, u64> = HashMap::new();
    for (i, entry) in (0..).zip(entries) {
        if let Entry::Change(change) = entry {
            index_of.insert(change.label, i);
        }
    }
    let of_one = |(csi, answered): (&Csi, &Answered)| {
        let versions = ladder::base(Some(answered.answer.version));
        let present = versions.into_iter().zip(answered.answer.ladder.iter());
        let present = present.filter(|(version, _)| *version <= answered.answer.version);
        let mut places: Vec<(u32, u64)> = present
            .map(|(version, step)| (version, index_of[&verify_label(vrf, csi, version, &step.vrf_proof).unwrap()]))
            .collect();
        places.sort_unstable();
        places
    };
    csis.iter().zip(look).map(of_one).collect()
}

fn batches(entries: &[Entry], msps: &[Domain]) -> (Vec<Batch>, Vec<usize>) {
    let (mut batches, mut batch_of, mut batch) = (Vec::new(), Vec::new(), Batch::default());
    for (i, entry) in (0..).zip(entries) {
        batch_of.push(batches.len());
        match entry {
            Entry::Change(_) => batch.changes += 1,
            Entry::Consent(consent) => {
                batch.consents.push((i, msps.iter().position(|m| *m == consent.msp).unwrap()));
            }
            Entry::Head(head) => {
                (batch.len, batch.time_ms) = (i - batch.first, head.time.get());
                batches.push(std::mem::replace(&mut batch, Batch { first: i + 1, ..Batch::default() }));
            }
            _ => {}
        }
    }
    (batches, batch_of)
}
