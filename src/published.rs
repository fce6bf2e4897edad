//! What the world may see at one moment, and how answers are made from it.
//!
//! A snapshot never changes: the map in it is persistent, so readers keep theirs while the sequencer works on the next. A
//! new snapshot takes the old one's place when its checkpoint has met the witness policy, never before.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use waymark_log::{hash::Hash, key::Key, proof};
use waymark_mapping::{
    answer::{
        Answer, Body, Format, Inclusion, LadderStep, OpenedConsent, OpenedHidden, OpenedVisible, Providers, Receipt,
        TagProof,
    },
    entry::Head,
    event::Event,
    identifier::Csi,
    label::{Label, prove_handle, prove_label},
    ladder,
    names::Tag,
    prefix::PrefixTree,
    provider::{ProviderDirectory, domain_key},
    record::{HiddenValue, Record},
    verify::named_domains,
    vrf::VrfSecret,
    wire::{List16, Opaque16, Optional16},
};

use crate::{
    row::{KeptConsent, Row},
    store::{LogFiles, Rows, SealedRow, StoreError, seal::Sealer},
};

/// Bytes that a general answer is padded to at least, unless configured otherwise. An answer with one mapping, three
/// cosignatures and a million entries in the log is some 4.3 KiB: with 8 KiB, found and not found look alike.
pub const ANSWER_BYTES_MIN_DEFAULT: usize = 8 << 10;
/// What a hidden mapping adds to an answer at most: a tag query is sized as if one had been opened.
const ONE_HIDDEN_BYTES: usize = 2 << 10;

/// The log, the map and the providers at one published checkpoint.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The open entry's bytes.
    pub open: Vec<u8>,
    /// The latest config entry's bytes, or none.
    pub config: Vec<u8>,
    /// The head.
    pub head: Head,
    /// Its path as the last leaf.
    pub head_path: Vec<Hash>,
    /// Number of entries.
    pub size: u64,
    /// The cosigned checkpoint.
    pub checkpoint: String,
    /// The map.
    pub map: PrefixTree,
    /// The providers.
    pub providers: ProviderDirectory,
    /// Their tree.
    pub provider_tree: PrefixTree,
}

/// Why no answer could be made.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Nothing is published yet.
    #[error("nothing is published yet")]
    NotReady,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record does not fit an answer.
    #[error("the record does not fit an answer")]
    TooLarge,
}

/// The current snapshot and, for each CSI that has one, its latest published version.
pub struct Published {
    current: RwLock<Option<Current>>,
    /// Latest versions; a version enters when its checkpoint is published.
    latest: RwLock<HashMap<[u8; 32], u32>>,
}

type Current = Arc<Snapshot>;

/// What is needed to make answers.
pub struct Answering {
    /// What is published.
    pub published: Published,
    /// The rows.
    pub rows: Arc<dyn Rows>,
    /// Opens them.
    pub sealer: Arc<Sealer>,
    /// The tiles, for consents' paths.
    pub files: LogFiles,
    /// Makes labels for CSIs that do not exist, and tag proofs.
    pub vrf: Arc<VrfSecret>,
    /// Least size of an answer.
    pub answer_bytes_min: usize,
}

impl Published {
    /// Nothing yet, but for the versions found at the start.
    pub fn new(latest: HashMap<[u8; 32], u32>) -> Self {
        Self { current: RwLock::new(None), latest: RwLock::new(latest) }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The current snapshot and a CSI's latest version in it, as they belong together.
    fn at(&self, csi_key: &[u8; 32]) -> Option<(Arc<Snapshot>, Option<u32>)> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().map(|snapshot| (snapshot, latest.get(csi_key).copied()))
    }

    /// Whether a record is one version after the latest that is published.
    pub fn is_next(&self, csi_key: &[u8; 32], record: &Record) -> bool {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.get(csi_key).map_or(0, |v| v + 1) == record.version
    }

    /// A new checkpoint takes effect, with the versions it makes the latest.
    pub fn replace(&self, snapshot: Snapshot, versions: impl IntoIterator<Item = ([u8; 32], u32)>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        latest.extend(versions);
        *current = Some(Arc::new(snapshot));
    }
}

impl Answering {
    /// A CSI's latest published row and the snapshot it belongs to.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn row(&self, csi: &Csi) -> Result<(Arc<Snapshot>, Option<Row>), AnswerError> {
        let csi_key = self.sealer.csi_key(csi);
        let (snapshot, version) = self.published.at(&csi_key).ok_or(AnswerError::NotReady)?;
        let row = version.map(|v| self.load(&csi_key, v)).transpose()?;
        Ok((snapshot, row))
    }

    /// The commitment of an earlier version.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn commitment(&self, csi: &Csi, version: u32) -> Result<Hash, AnswerError> {
        Ok(self.load(&self.sealer.csi_key(csi), version)?.commitment)
    }

    /// Whether this event has made the version that it names, be that the latest or not.
    pub fn is_made_by(&self, event: &Event) -> bool {
        self.load(&self.sealer.csi_key(&event.tbs.csi), event.tbs.version).is_ok_and(|row| row.event == *event)
    }

    fn load(&self, csi_key: &[u8; 32], version: u32) -> Result<Row, StoreError> {
        let sealed = self.rows.row(csi_key, version)?;
        let sealed = sealed.ok_or_else(|| StoreError::Damaged("the index of rows".to_owned()))?;
        open_row(&self.sealer, &sealed)
    }

    /// Answers a look-up.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn look_up(&self, csi: &Csi, tag: Option<&Tag>) -> Result<Vec<u8>, AnswerError> {
        let (snapshot, row) = self.row(csi)?;
        let body = row.as_ref().map(|row| self.body(row, &snapshot, &Shows::Tag(tag))).transpose()?;
        let hit = body.as_ref().is_some_and(|b| !b.hidden.is_empty());
        let answer = self.answer(&snapshot, csi, row.as_ref(), body)?;
        let as_if = if tag.is_some() && !hit { ONE_HIDDEN_BYTES } else { 0 };
        let unpadded = tls_codec::Size::tls_serialized_len(&answer);
        let bytes_min = self.answer_bytes_min.max(unpadded + as_if);
        answer.to_padded(bytes_min).ok_or(AnswerError::TooLarge)
    }

    /// The latest record of a CSI as its recipient may see it, `None` if there is none.
    ///
    /// `keys` are the recipient keys of the reader. A key that is still new sees its own hidden slots only, and neither the
    /// event nor the record before.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn receipt(&self, csi: &Csi, keys: &[Key]) -> Result<Option<Receipt>, AnswerError> {
        let (snapshot, Some(row)) = self.row(csi)? else { return Ok(None) };
        self.receipt_for(&snapshot, &row, keys).map(Some)
    }

    /// The receipt for a row that is the latest.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn receipt_for(&self, snapshot: &Snapshot, row: &Row, keys: &[Key]) -> Result<Receipt, AnswerError> {
        let csi_key = self.sealer.csi_key(&row.record.csi);
        let previous = row.record.version.checked_sub(1).map(|v| self.load(&csi_key, v)).transpose()?;
        let authored = row.event.authorities.iter().any(|a| keys.contains(&a.key));
        // A key that withdrew all of its mappings is judged by how it stood before: a newcomer that leaves again has seen
        // nothing of the others.
        let whole = is_established(row, keys, snapshot)
            || (authored && previous.as_ref().is_some_and(|p| is_established(p, keys, snapshot)));
        let shows = if whole { Shows::All } else { Shows::Own(keys) };
        let body = self.body(row, snapshot, &shows)?;
        let previous = match previous.filter(|_| whole || authored) {
            Some(previous) => {
                let mut body = self.body(&previous, snapshot, &shows)?;
                strip_consents(&mut body);
                Some(body)
            }
            None => None,
        };
        let event: Option<Event> = (whole || authored).then(|| row.event.clone());
        let now = self.answer(snapshot, &row.record.csi, Some(row), Some(body))?;
        Ok(Receipt { now, event: Optional16(event), event_salt: row.event_salt, previous: Optional16(previous) })
    }

    fn answer(
        &self,
        snapshot: &Snapshot,
        csi: &Csi,
        row: Option<&Row>,
        body: Option<Body>,
    ) -> Result<Answer, AnswerError> {
        let steps: Vec<(Label, LadderStep)> = match row {
            Some(row) => row.ladder.iter().map(|s| (s.label, s.step)).collect(),
            None => absent_steps(&self.vrf, csi),
        };
        let labels: Vec<Hash> = steps.iter().map(|(label, _)| label.0).collect();
        let (map, _) = snapshot.map.prove(&labels).ok_or(AnswerError::TooLarge)?;
        let steps = steps.into_iter().map(|(_, step)| step).collect();
        Ok(Answer {
            format: Format,
            open: Opaque16::new(snapshot.open.clone()).ok_or(AnswerError::TooLarge)?,
            config: Opaque16::new(snapshot.config.clone()).ok_or(AnswerError::TooLarge)?,
            head: snapshot.head,
            head_path: List16::new(snapshot.head_path.clone()).ok_or(AnswerError::TooLarge)?,
            checkpoint: Opaque16::new(snapshot.checkpoint.as_bytes()).ok_or(AnswerError::TooLarge)?,
            version: row.map_or(0, |r| r.record.version),
            ladder: List16::new(steps).ok_or(AnswerError::TooLarge)?,
            map,
            providers: providers_for(snapshot, body.as_ref())?,
            body: Optional16(body),
            full: Opaque16::new([]).ok_or(AnswerError::TooLarge)?,
        })
    }

    fn body(&self, row: &Row, snapshot: &Snapshot, shows: &Shows<'_>) -> Result<Body, AnswerError> {
        let mut visible = Vec::with_capacity(row.visible.len());
        for (slot, kept) in (0u8..).zip(row.visible.iter()) {
            visible.push(OpenedVisible {
                slot,
                salt: kept.salt,
                mapping: kept.mapping.clone(),
                consent: self.opened_consent(kept.consent.0.as_ref(), snapshot)?,
                statement: Optional16(None),
            });
        }
        let mut hidden = Vec::new();
        for (slot, kept) in (0u8..).zip(row.hidden.iter()) {
            if shows.opens(&kept.value) {
                hidden.push(OpenedHidden {
                    slot,
                    salt: kept.salt,
                    value: kept.value.clone(),
                    handle: kept.handle.clone(),
                    consent: self.opened_consent(kept.consent.0.as_ref(), snapshot)?,
                });
            }
        }
        let tag_end = if let Shows::Tag(Some(tag)) = shows {
            hidden.sort_by_key(|h| h.handle.0.map(|p| p.ordinal));
            let ordinal = hidden.len() as u8;
            let (vrf_proof, _) = prove_handle(&self.vrf, &row.record.csi, row.record.version, tag, ordinal);
            Some(TagProof { ordinal, vrf_proof })
        } else {
            None
        };
        Ok(Body {
            opening: row.opening,
            record: row.record.clone(),
            visible: List16::new(visible).ok_or(AnswerError::TooLarge)?,
            hidden: List16::new(hidden).ok_or(AnswerError::TooLarge)?,
            tag_end: Optional16(tag_end),
        })
    }

    fn opened_consent(
        &self,
        kept: Option<&KeptConsent>,
        snapshot: &Snapshot,
    ) -> Result<Optional16<OpenedConsent>, AnswerError> {
        let Some(kept) = kept else { return Ok(Optional16(None)) };
        let logged = match kept.logged {
            None => None,
            Some(index) => {
                let plan = proof::inclusion(index, snapshot.size)
                    .map_err(|_| StoreError::Damaged("a consent's index".to_owned()))?;
                let hashes = self.files.hashes(&plan, snapshot.size)?;
                let path = plan.build(&hashes).map_err(|_| AnswerError::TooLarge)?;
                Some(Inclusion { index, path: List16::new(path).ok_or(AnswerError::TooLarge)? })
            }
        };
        let (consent, salt) = (kept.consent.clone(), kept.salt);
        Ok(Optional16(Some(OpenedConsent { consent, salt, logged: Optional16(logged) })))
    }
}

/// Whether one of these keys has a mapping that is not new.
fn is_established(row: &Row, keys: &[Key], snapshot: &Snapshot) -> bool {
    let own = |h: &waymark_mapping::rules::Held| keys.contains(&h.mapping.recipient);
    row.state().held.iter().any(|h| own(h) && !h.standing.is_new_at(snapshot.head.time))
}

/// Which hidden slots a body opens.
enum Shows<'a> {
    /// Those with the tag, or none.
    Tag(Option<&'a Tag>),
    /// All eight.
    All,
    /// Those of these keys.
    Own(&'a [Key]),
}

impl Shows<'_> {
    fn opens(&self, value: &HiddenValue) -> bool {
        match (self, value) {
            (Shows::All, _) => true,
            (Shows::Tag(tag), HiddenValue::Present(_, m)) => tag.is_some() && m.tags.as_exact() == *tag,
            (Shows::Own(keys), HiddenValue::Present(_, m)) => keys.contains(&m.recipient),
            (_, HiddenValue::Empty) => false,
        }
    }
}

/// The ladder of a CSI without any version: version 0, absent.
fn absent_steps(vrf: &VrfSecret, csi: &Csi) -> Vec<(Label, LadderStep)> {
    let prove = |version| {
        let (vrf_proof, label) = prove_label(vrf, csi, version);
        (label, LadderStep { vrf_proof, commitment: None })
    };
    ladder::base(None).into_iter().map(prove).collect()
}

fn strip_consents(body: &mut Body) {
    let mut visible = body.visible.to_vec();
    visible.iter_mut().for_each(|v| v.consent = Optional16(None));
    let mut hidden = body.hidden.to_vec();
    hidden.iter_mut().for_each(|h| h.consent = Optional16(None));
    body.visible = List16::new(visible).expect("shorter than before");
    body.hidden = List16::new(hidden).expect("shorter than before");
}

fn providers_for(snapshot: &Snapshot, body: Option<&Body>) -> Result<Providers, AnswerError> {
    let hidden = body.into_iter().flat_map(|b| b.hidden.iter()).filter_map(|h| match &h.value {
        HiddenValue::Present(_, mapping) => Some(&**mapping),
        HiddenValue::Empty => None,
    });
    let visible = body.into_iter().flat_map(|b| b.visible.iter()).map(|v| &v.mapping);
    let domains = named_domains(visible.chain(hidden));
    if domains.is_empty() {
        return Ok(Providers::none());
    }
    let keys: Vec<Hash> = domains.iter().map(domain_key).collect();
    let (proof, _) = snapshot.provider_tree.prove(&keys).ok_or(AnswerError::TooLarge)?;
    let leaves = domains.iter().filter_map(|d| snapshot.providers.get(d).cloned()).collect();
    Ok(Providers { leaves: List16::new(leaves).ok_or(AnswerError::TooLarge)?, proof })
}

/// Unseals and reads a row.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn open_row(sealer: &Sealer, sealed: &SealedRow) -> Result<Row, StoreError> {
    let bytes = sealer.open(sealed)?;
    Row::decode(&bytes).map_err(|_| StoreError::Damaged("a row".to_owned()))
}
