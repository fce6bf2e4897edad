//! What the world may see at one moment, and how answers are made from it.
//!
//! A snapshot never changes: the map in it is persistent, so readers keep theirs while the sequencer works on the next. A
//! new snapshot takes the old one's place when its checkpoint has met the witness policy, never before.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use waymark_log::{hash::Hash, key::Key, proof, time::UnixMillis};
use waymark_mapping::{
    answer::{
        Answer, Body, Content, Full, HeadAt, HiddenValue, Inclusion, LadderStep, OpenedConsent, OpenedHidden,
        OpenedVisible, Past, Pasts, Providers, Receipt,
    },
    commitment::Salt,
    compose::prove_tags,
    earlier::{Earlier, SlotThen, needed},
    entry::{Entry, Head, ProviderRole},
    event::{Cause, Event},
    identifier::Csi,
    label::{Label, prove_label},
    ladder,
    mapping::Mapping,
    names::{Domain, Tag},
    prefix::PrefixTree,
    provider::{ProviderDirectory, leaf_place},
    record::{Beginning, RecordState, SlotStatus, Standing},
    rules::Held,
    tenure::{Hold, LoggedStep, LoggedVersion, OpenedVersion, PASSAGE_MS, Passage, Released, TenureProof},
    verify::{named_providers, since_versions},
    vrf::VrfSecret,
    wire::{Format, List24, Opaque16, Optional24},
};

use crate::{
    row::{Kept, KeptConsent, Place, Row, Said, Stub},
    sequencer::{batch::latest_promise, purge::open_row},
    store::{LogFiles, Rows, StoreError, seal::Sealer},
};

/// Bytes that a general answer is padded to at least, unless configured otherwise. An answer with one mapping, three
/// cosignatures and a million entries in the log is some 4.3 KiB: with 8 KiB, found and not found look alike.
pub const ANSWER_BYTES_MIN_DEFAULT: usize = 8 << 10;
/// Bytes after which a page of history ends: two records of sixteen full mappings fit beside it.
const PAST_BYTES_MAX: usize = 24 << 10;
/// What a hidden mapping adds to an answer: some 2 KiB with its consent, the keys of its MSP and prover, which may have changed thirty times
/// each, and 3 KiB that show that it was there before its prover's key retired. A tag query is sized as if one had been opened,
/// so that a hit does not lie in another size class than a miss.
const ONE_HIDDEN_BYTES: usize = 9 << 10;

/// The log, the map and the providers at one published checkpoint.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The open entry's bytes.
    pub open: Vec<u8>,
    /// The latest config entry's bytes, or none.
    pub config: Vec<u8>,
    /// SHA-256 of the policy document in effect.
    pub policy: Hash,
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
    pub providers: Arc<ProviderDirectory>,
    /// Their tree.
    pub provider_tree: PrefixTree,
}

impl Latest {
    /// Whether a key has a mapping here that is not new: it may see the past, and what was hidden since it came.
    pub fn is_established(&self, key: Key) -> bool {
        is_established(&self.row, &[key], self.snapshot.head.time)
    }

    /// Whether a key has a mapping here.
    pub fn has_mapping_of(&self, key: Key) -> bool {
        self.row.state().held.iter().any(|h| h.mapping.recipient == key)
    }
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
    /// The log has a version of it, and the payload is not here: this DP was restored from a copy for another region.
    #[error("the payload of the record is not kept here")]
    Elsewhere,
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
    /// Who runs it.
    pub domain: Domain,
}

/// A CSI's latest published row, and what it lies among.
pub struct Latest {
    /// What is published.
    pub snapshot: Arc<Snapshot>,
    /// The row.
    pub row: Row,
    /// The slot of its key.
    pub slot: u64,
}

impl Snapshot {
    /// The bytes of the entry that says what is promised: the latest config entry, or the open entry.
    pub fn latest_promise(&self) -> &[u8] {
        latest_promise(&self.open, &self.config)
    }
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

    /// Whether a version is the one after the latest that is published.
    pub fn is_next(&self, csi_key: &[u8; 32], version: u32) -> bool {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.get(csi_key).map_or(0, |v| v + 1) == version
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
    /// What is published.
    ///
    /// # Errors
    /// [`AnswerError::NotReady`].
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, AnswerError> {
        self.published.snapshot().ok_or(AnswerError::NotReady)
    }

    /// Checks that a CSI without rows has no version in the log either: a DP that was restored from a copy for another region lacks
    /// rows, and must not say of them that there is nothing. It takes a VRF proof.
    ///
    /// # Errors
    /// [`AnswerError::Elsewhere`].
    pub fn check_absent(&self, csi: &Csi, snapshot: &Snapshot) -> Result<(), AnswerError> {
        let (_, first) = prove_label(&self.vrf, csi, 0);
        if snapshot.map.get(&first.0).is_some() { Err(AnswerError::Elsewhere) } else { Ok(()) }
    }

    /// A CSI's latest published row, `None` if it has no version.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn latest(&self, csi: &Csi) -> Result<Option<Latest>, AnswerError> {
        let (snapshot, latest) = self.kept(csi)?;
        if latest.is_none() {
            self.check_absent(csi, &snapshot)?;
        }
        Ok(latest)
    }

    /// The same of what is kept here, without a VRF proof that there is nothing else.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn kept(&self, csi: &Csi) -> Result<(Arc<Snapshot>, Option<Latest>), AnswerError> {
        let csi_key = self.sealer.csi_key(csi);
        let mut seen = None;
        loop {
            let (snapshot, version) = self.published.at(&csi_key).ok_or(AnswerError::NotReady)?;
            let Some(version) = version else { return Ok((snapshot, None)) };
            let (kept, slot) = self.load(&csi_key, version)?;
            match kept {
                Kept::Whole(row) => {
                    let latest = Latest { snapshot: Arc::clone(&snapshot), row: *row, slot };
                    return Ok((snapshot, Some(latest)));
                }
                // "The latest is never deleted": it was overtaken by an erasure since.
                Kept::Stub(_) if seen != Some(version) => seen = Some(version),
                Kept::Stub(_) => return Err(StoreError::Damaged("the latest row".to_owned()).into()),
            }
        }
    }

    /// What the log's proofs need of an earlier version.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn stub(&self, csi: &Csi, version: u32) -> Result<Stub, AnswerError> {
        Ok(self.load(&self.sealer.csi_key(csi), version)?.0.stub())
    }

    /// Whether this event has made the version that it names, be that the latest or not.
    pub fn is_made_by(&self, event: &Event) -> bool {
        let kept = self.load(&self.sealer.csi_key(&event.tbs.csi), event.tbs.version);
        matches!(kept, Ok((Kept::Whole(row), _)) if row.cause.event == *event)
    }

    /// A row, and the slot of its key.
    fn load(&self, csi_key: &[u8; 32], version: u32) -> Result<(Kept, u64), StoreError> {
        let row = || self.rows.row(csi_key, version)?.ok_or_else(damaged_index);
        let sealed = row()?;
        match open_row(&self.sealer, &sealed) {
            // Keys are shredded once stubs have taken the rows' places: it was read before that, and is now a stub.
            Err(StoreError::Shredded) => {
                let stub = row()?;
                Ok((open_row(&self.sealer, &stub)?, stub.slot))
            }
            kept => Ok((kept?, sealed.slot)),
        }
    }

    /// An earlier version, if its payload is still there.
    fn whole(&self, csi: &Csi, version: u32) -> Result<Option<Row>, AnswerError> {
        match self.load(&self.sealer.csi_key(csi), version)?.0 {
            Kept::Whole(row) => Ok(Some(*row)),
            Kept::Stub(_) => Ok(None),
        }
    }

    /// Answers a look-up; `full` adds the proof of when each mapping was logged.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn look_up(&self, csi: &Csi, tag: Option<&Tag>, full: bool) -> Result<Vec<u8>, AnswerError> {
        let (snapshot, latest) = self.kept(csi)?;
        let row = latest.map(|l| l.row);
        let body = row.as_ref().map(|row| self.body(row, &snapshot, &Shows::Tag(tag))).transpose()?;
        let proofs = if full { Proofs::All } else { Proofs::Least };
        let answer = self.answer(&snapshot, csi, row.as_ref(), body, proofs)?;
        // A tag query is sized as if one hidden mapping were opened, whether one is or not.
        let unpadded = match tag {
            None => tls_codec::Size::tls_serialized_len(&answer),
            Some(_) => self.bytes_of_a_miss(&answer, row.as_ref(), &snapshot, proofs)? + ONE_HIDDEN_BYTES,
        };
        let bytes_min = self.answer_bytes_min.max(unpadded);
        answer.to_padded(bytes_min).ok_or(AnswerError::TooLarge)
    }

    /// Bytes of this answer to a tag, unpadded, if no slot bore the tag: without the opened mappings, and without the providers and
    /// proofs that only they need. The one handle that then is proved is as long as the one that ends the tag.
    fn bytes_of_a_miss(
        &self,
        answer: &Answer,
        row: Option<&Row>,
        snapshot: &Snapshot,
        proofs: Proofs,
    ) -> Result<usize, AnswerError> {
        let mut missed = answer.clone();
        if let Some(body) = missed.body.0.as_mut().filter(|b| !b.hidden.is_empty()) {
            body.hidden = List24::empty();
            missed.providers = self.providers_for(snapshot, Some(body))?;
            missed.full = Optional24(self.full(row.zip(Some(&*body)), snapshot, proofs)?);
        }
        Ok(tls_codec::Size::tls_serialized_len(&missed))
    }

    /// The latest record of a CSI as its recipient may see it, `None` if there is none.
    ///
    /// `keys` are the recipient keys of the reader. A key that is still new sees its own hidden slots only, and neither the
    /// event nor the record before. Any other sees all eight, but the content only of what was added since it came.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn receipt(&self, csi: &Csi, keys: &[Key]) -> Result<Option<Receipt>, AnswerError> {
        let Some(latest) = self.latest(csi)? else { return Ok(None) };
        self.receipt_for(&latest, keys).map(Some)
    }

    /// The receipt for a row that is the latest.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn receipt_for(&self, latest: &Latest, keys: &[Key]) -> Result<Receipt, AnswerError> {
        let Latest { snapshot, row, .. } = latest;
        let previous = self.previous(row)?;
        let authored = row.cause.event.authorities.iter().any(|a| keys.contains(&a.key));
        // A key that withdrew all of its mappings is judged by how it stood before: a newcomer that leaves again has seen
        // nothing of the others.
        let now = snapshot.head.time;
        let erased = row.record.state == RecordState::Erased;
        let whole = is_established(row, keys, now)
            || (authored && erased)
            || (authored && previous.as_ref().is_some_and(|p| is_established(p, keys, now)));
        let both: Vec<&Row> = std::iter::once(row).chain(&previous).collect();
        let came = came_with(both.iter().copied(), keys);
        let shows = if whole { Shows::Seen(keys, self.seen_by(&both, came, keys)?) } else { Shows::Own(keys) };
        let body = self.body(row, snapshot, &shows)?;
        let previous = previous.filter(|_| whole || authored);
        let previous = previous.map(|p| self.bare_body(&p, snapshot, &shows)).transpose()?;
        let cause: Option<Cause> = (whole || authored).then(|| row.cause.clone());
        let now = self.answer(snapshot, &row.csi, Some(row), Some(body), Proofs::Open)?;
        let (cause, previous) = (Optional24(cause), Optional24(previous));
        Ok(Receipt { now, cause, cause_salt: row.cause_salt, previous })
    }

    /// The record before, in the same tenure, unless it is erased. "Nothing of the old history is opened to the new recipient."
    fn previous(&self, row: &Row) -> Result<Option<Row>, AnswerError> {
        match row.version.checked_sub(1) {
            Some(version) if !row.begins_tenure() && row.record.state != RecordState::Erased => {
                self.whole(&row.csi, version)
            }
            _ => Ok(None),
        }
    }

    /// A page of what happened from `version` on downwards, for a key that may see it: back to the version that first had a
    /// mapping of its own, and no further than the tenure's beginning.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn past(&self, latest: &Latest, key: Key, version: u32) -> Result<Pasts, AnswerError> {
        let row = &latest.row;
        let (first, came) = (first_seen_by(row, key), self.came(latest, key)?);
        let (mut steps, mut bytes, mut at) = (Vec::new(), 0, version.min(row.version));
        while at >= first {
            let Some(row) = self.whole(&row.csi, at)? else { break };
            let previous = if at > first { self.previous(&row)? } else { None };
            let previous = previous.map(|p| self.past_body(&p, latest, key, came)).transpose()?;
            let step = Past { cause: row.cause.clone(), cause_salt: row.cause_salt, previous: Optional24(previous) };
            bytes += tls_codec::Size::tls_serialized_len(&step);
            if bytes > PAST_BYTES_MAX && !steps.is_empty() {
                break;
            }
            steps.push(step);
            let Some(next) = at.checked_sub(1) else { break };
            at = next;
        }
        Ok(Pasts { steps: List24::new(steps).ok_or(AnswerError::TooLarge)? })
    }

    /// The versions that a key may see, newest first: from the one that first had a mapping of its own, in this tenure.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn rows_of(&self, latest: &Latest, key: Key, most: usize) -> Result<Vec<Row>, AnswerError> {
        let first = first_seen_by(&latest.row, key);
        let mut rows = vec![latest.row.clone()];
        for version in (first..latest.row.version).rev().take(most.saturating_sub(1)) {
            let Some(row) = self.whole(&latest.row.csi, version)? else { break };
            rows.push(row);
        }
        Ok(rows)
    }

    /// A record of the past as a key sees it that is no longer new.
    fn past_body(&self, row: &Row, latest: &Latest, key: Key, came: Option<u32>) -> Result<Body, AnswerError> {
        let seen = self.seen_by(&[&latest.row, row], came, &[key])?;
        self.bare_body(row, &latest.snapshot, &Shows::Seen(&[key], seen))
    }

    /// With which version a key came, as it counts for all that it is shown of the past: so no two versions contradict each other.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn came(&self, latest: &Latest, key: Key) -> Result<Option<u32>, AnswerError> {
        let previous = self.previous(&latest.row)?;
        Ok(came_with(std::iter::once(&latest.row).chain(&previous), &[key]))
    }

    /// What holders of these keys see the content of, of the mappings in these versions of one tenure: hidden ones that are their
    /// own, or were added when a mapping of theirs stood already or was added, too. "A code that was intercepted opens nothing of
    /// what was hidden before." They came with version `since` (`came_with`).
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn seen_by(&self, rows: &[&Row], since: Option<u32>, keys: &[Key]) -> Result<Seen, AnswerError> {
        let held: Vec<Held> = rows.iter().flat_map(|row| row.state().held).collect();
        let is_own = |h: &Held| keys.contains(&h.mapping.recipient);
        let mut seen = Seen { since, versions: BTreeSet::new() };
        let Some(csi) = rows.first().map(|row| &row.csi) else { return Ok(seen) };
        let others = held.iter().filter(|h| h.is_hidden() && !is_own(h));
        // A mapping that was renewed stands for a later version than the key came with: so the version itself is asked.
        for version in others.map(|h| h.standing.since_version).collect::<BTreeSet<_>>() {
            let was_there = |row: Row| row.state().held.iter().any(is_own);
            if !seen.sees(version) && since.is_some() && self.whole(csi, version)?.is_some_and(was_there) {
                seen.versions.insert(version);
            }
        }
        Ok(seen)
    }

    fn answer(
        &self,
        snapshot: &Snapshot,
        csi: &Csi,
        row: Option<&Row>,
        body: Option<Body>,
        proofs: Proofs,
    ) -> Result<Answer, AnswerError> {
        let steps: Vec<(Label, LadderStep)> = match row {
            Some(row) => row.ladder.iter().map(|s| (s.label, s.step)).collect(),
            None => absent_steps(&self.vrf, csi),
        };
        let labels: Vec<Hash> = steps.iter().map(|(label, _)| label.0).collect();
        // The first step of every ladder is version 0: it is in the map if there ever was a record.
        if row.is_none() && labels.first().is_some_and(|l| snapshot.map.get(l).is_some()) {
            return Err(AnswerError::Elsewhere);
        }
        let (map, _) = snapshot.map.prove(&labels).ok_or(AnswerError::TooLarge)?;
        let steps = steps.into_iter().map(|(_, step)| step).collect();
        let full = self.full(row.zip(body.as_ref()), snapshot, proofs)?;
        Ok(Answer {
            format: Format,
            open: Opaque16::new(snapshot.open.clone()).ok_or(AnswerError::TooLarge)?,
            config: Opaque16::new(snapshot.config.clone()).ok_or(AnswerError::TooLarge)?,
            head: snapshot.head.clone(),
            head_path: List24::new(snapshot.head_path.clone()).ok_or(AnswerError::TooLarge)?,
            checkpoint: Opaque16::new(snapshot.checkpoint.as_bytes()).ok_or(AnswerError::TooLarge)?,
            version: row.map_or(0, |r| r.version),
            ladder: List24::new(steps).ok_or(AnswerError::TooLarge)?,
            map,
            providers: self.providers_for(snapshot, body.as_ref())?,
            body: Optional24(body),
            full: Optional24(full),
        })
    }

    fn body(&self, row: &Row, snapshot: &Snapshot, shows: &Shows<'_>) -> Result<Body, AnswerError> {
        let mut visible = Vec::with_capacity(row.visible.len());
        for kept in row.visible.iter() {
            let content = shows.content(&kept.standing, &kept.mapping);
            visible.push(OpenedVisible {
                salt: kept.salt,
                standing: kept.standing,
                consent: self.opened_consent(&content, &kept.said, snapshot)?,
                content,
                statement: kept.said.statement.clone(),
            });
        }
        let mut hidden = Vec::new();
        for (slot, kept) in (0u8..).zip(row.hidden.iter()).filter(|(_, kept)| shows.opens(&kept.value)) {
            let (value, consent) = match (&kept.value, kept.value.mapping()) {
                (HiddenValue::Present(standing, _), Some(mapping)) => {
                    if !shows.content_of_hidden(standing, mapping) {
                        hidden.push(closed_slot(slot, kept.salt, *standing, mapping));
                        continue;
                    }
                    let content = shows.content(standing, mapping);
                    let consent = self.opened_consent(&content, &kept.said, snapshot)?;
                    (HiddenValue::Present(*standing, content), consent)
                }
                _ => (HiddenValue::Empty, Optional24(None)),
            };
            let (salt, handle, statement) = (kept.salt, kept.handle.clone(), kept.said.statement.clone());
            hidden.push(OpenedHidden { slot, salt, value, handle, consent, statement });
        }
        let presented = if let Shows::Tag(tag) = shows { *tag } else { None };
        if presented.is_some() {
            hidden.sort_by_key(|h| h.handle.0.map(|p| p.ordinal));
        }
        let place = (&row.csi, row.version);
        let tag_proofs = prove_tags(&self.vrf, place, &row.contents.hidden, &hidden, presented);
        Ok(Body {
            opening: row.opening,
            record: row.record.clone(),
            contents_salt: row.contents_salt,
            contents: row.contents.clone(),
            visible: List24::new(visible).ok_or(AnswerError::TooLarge)?,
            hidden: List24::new(hidden).ok_or(AnswerError::TooLarge)?,
            tag_proofs: List24::new(tag_proofs).ok_or(AnswerError::TooLarge)?,
        })
    }

    /// A body without what others say: how a record of the past is shown.
    fn bare_body(&self, row: &Row, snapshot: &Snapshot, shows: &Shows<'_>) -> Result<Body, AnswerError> {
        let mut row = row.clone();
        let mut visible = row.visible.to_vec();
        visible.iter_mut().for_each(|v| v.said = Said::NOTHING);
        let mut hidden = row.hidden.to_vec();
        hidden.iter_mut().for_each(|h| h.said = Said::NOTHING);
        row.visible = List24::new(visible).ok_or(AnswerError::TooLarge)?;
        row.hidden = List24::new(hidden).ok_or(AnswerError::TooLarge)?;
        // "The record before bears no proofs of handles."
        Ok(Body { tag_proofs: List24::empty(), ..self.body(&row, snapshot, shows)? })
    }

    fn opened_consent(
        &self,
        content: &Content,
        said: &Said,
        snapshot: &Snapshot,
    ) -> Result<Optional24<OpenedConsent>, AnswerError> {
        let (Some(KeptConsent { consent, salt, logged }), Some(_)) = (&said.consent.0, content.mapping()) else {
            return Ok(Optional24(None));
        };
        let logged = logged.map(|index| self.inclusion(index, snapshot)).transpose()?;
        let (consent, salt) = (consent.clone(), *salt);
        Ok(Optional24(Some(OpenedConsent { consent, salt, logged: Optional24(logged) })))
    }

    /// Where an entry is, in the published tree.
    fn inclusion(&self, index: u64, snapshot: &Snapshot) -> Result<Inclusion, AnswerError> {
        let plan = proof::inclusion(index, snapshot.size)
            .map_err(|_| StoreError::Damaged("the place of an entry".to_owned()))?;
        let hashes = self.files.hashes(&plan, snapshot.size)?;
        let path = plan.build(&hashes).map_err(|_| AnswerError::TooLarge)?;
        Ok(Inclusion { index, path: List24::new(path).ok_or(AnswerError::TooLarge)? })
    }

    fn head_at(&self, index: u64, snapshot: &Snapshot) -> Result<HeadAt, AnswerError> {
        Ok(HeadAt { head: self.head(index, snapshot)?, at: self.inclusion(index, snapshot)? })
    }

    /// The head at an index of the published log.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn head(&self, index: u64, snapshot: &Snapshot) -> Result<Head, AnswerError> {
        match Entry::decode(&self.files.entry(index, snapshot.size)?) {
            Ok(Entry::Head(head)) => Ok(head),
            _ => Err(StoreError::Damaged("the place of a head".to_owned()).into()),
        }
    }

    fn logged(&self, csi: &Csi, version: u32, stub: Stub, snapshot: &Snapshot) -> Result<LoggedVersion, AnswerError> {
        let Stub { commitment, place: Place { change, head, .. } } = stub;
        let (vrf_proof, _) = prove_label(&self.vrf, csi, version);
        let (change, head) = (self.inclusion(change, snapshot)?, self.head_at(head, snapshot)?);
        Ok(LoggedVersion { version, vrf_proof, commitment, change, head })
    }

    fn opened_version(&self, csi: &Csi, version: u32, snapshot: &Snapshot) -> Result<OpenedVersion, AnswerError> {
        let row = self.whole(csi, version)?.ok_or(StoreError::Shredded)?;
        let stub = Stub { commitment: row.commitment, place: row.place };
        Ok(OpenedVersion { at: self.logged(csi, version, stub, snapshot)?, opening: row.opening, record: row.record })
    }

    /// What is shown of the past: how the tenure began wherever it is not the first, and on request the open entry's place and
    /// when each mapping was logged.
    fn full(
        &self,
        record: Option<(&Row, &Body)>,
        snapshot: &Snapshot,
        proofs: Proofs,
    ) -> Result<Option<Full>, AnswerError> {
        let tenure = record.map(|(row, _)| self.tenure_proof(row, snapshot)).transpose()?.flatten();
        let mut since = Vec::new();
        if let (Some((row, body)), Proofs::All) = (record, proofs) {
            // What the DP withholds is closed to senders, and they are proved nothing of it.
            let open = shown(body).filter(|(_, content)| content.mapping().is_some());
            for version in since_versions(open.map(|(standing, _)| standing.since_version)) {
                since.push(self.logged(&row.csi, version, self.stub_of(row, version)?, snapshot)?);
            }
        }
        let earlier = match record {
            Some((row, body)) => self.earlier(row, body, snapshot)?,
            None => vec![],
        };
        let open_path = match proofs {
            Proofs::Least if tenure.is_none() && earlier.is_empty() => return Ok(None),
            Proofs::Least => List24::empty(),
            Proofs::Open | Proofs::All => self.inclusion(0, snapshot)?.path,
        };
        let (since, earlier) = (List24::new(since), List24::new(earlier));
        let (since, earlier) = since.zip(earlier).ok_or(AnswerError::TooLarge)?;
        Ok(Some(Full { open_path, since, tenure: Optional24(tenure), earlier }))
    }

    /// What shows that mappings and statements by keys that have retired were in the log before: for each mapping the first version that had
    /// it, for each statement the version that it made.
    fn earlier(&self, row: &Row, body: &Body, snapshot: &Snapshot) -> Result<Vec<Earlier>, AnswerError> {
        let visible = body.visible.iter().map(|v| (v.content.mapping(), v.statement.0.as_ref()));
        let hidden = body.hidden.iter().map(|h| (h.value.mapping(), h.statement.0.as_ref()));
        let all: Vec<_> = visible.chain(hidden).collect();
        let stated = all.iter().filter_map(|(mapping, statement)| statement.map(|s| (s, *mapping)));
        let leaf = |domain: &Domain, role| snapshot.providers.get(domain, role);
        let needed = needed(all.iter().filter_map(|(m, _)| *m), stated, &self.domain, snapshot.head.time, leaf);
        let mut versions: BTreeMap<u32, (Vec<Hash>, bool)> = BTreeMap::new();
        for digest in needed.mappings {
            let standing = shown(body).find(|(_, content)| content.digest() == digest).map(|(standing, _)| standing);
            let since = standing.map_or(row.version, |s| s.since_version);
            versions.entry(self.first_with(row, &digest, since)?).or_default().0.push(digest);
        }
        for version in needed.statements {
            versions.entry(version).or_default().1 = true;
        }
        let open = |(version, (digests, stated)): (u32, (Vec<Hash>, bool))| {
            let earlier = if version == row.version { None } else { self.whole(&row.csi, version)? };
            let row = if version == row.version { row } else { earlier.as_ref().ok_or(StoreError::Shredded)? };
            self.earlier_version(row, &digests, stated, snapshot)
        };
        let earlier = versions.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        // Readers would take it for an attack: in a DP that was restored from a copy for a region what shows it may not be here.
        let is_in_time = |earlier: &Earlier, mapping: &Mapping| {
            let by = snapshot.providers.get(&mapping.attestation.prover, ProviderRole::PROVER);
            by.is_some_and(|leaf| leaf.is_valid(&mapping.attestation.prover_key, earlier.at.head.head.time))
        };
        let shown_late = |earlier: &Earlier| {
            let mut mappings = all.iter().filter_map(|(mapping, _)| *mapping);
            mappings.any(|m| earlier.slots.iter().any(|s| s.mapping == m.digest()) && !is_in_time(earlier, m))
        };
        if earlier.iter().any(shown_late) { Err(AnswerError::Elsewhere) } else { Ok(earlier) }
    }

    /// The first version whose record is here and that had a mapping which the row has, and which stands since `since`. After a rotation
    /// that is a later one. What was added stays until it is removed, so it is found by halves. In a DP that was restored from a copy for
    /// a region some records are not here.
    fn first_with(&self, row: &Row, mapping: &Hash, since: u32) -> Result<u32, AnswerError> {
        let (mut from, mut to, mut found) = (since, row.version, row.version);
        while from < to {
            let middle = from + (to - from) / 2;
            match (middle..to).find_map(|version| self.whole(&row.csi, version).transpose()).transpose()? {
                Some(whole) if !whole.state().digests().contains(mapping) => from = whole.version + 1,
                Some(whole) => (found, to) = (whole.version, middle),
                None => to = middle,
            }
        }
        Ok(found)
    }

    fn earlier_version(
        &self,
        row: &Row,
        mappings: &[Hash],
        stated: bool,
        snapshot: &Snapshot,
    ) -> Result<Earlier, AnswerError> {
        let slot = |standing: &Standing, mapping: &Mapping, salt| {
            let then = SlotThen { mapping: mapping.digest(), standing: *standing, salt };
            mappings.contains(&then.mapping).then_some(then)
        };
        let visible = row.visible.iter().filter_map(|v| slot(&v.standing, &v.mapping, v.salt));
        let hidden = row.hidden.iter().filter_map(|h| match &h.value {
            HiddenValue::Present(standing, content) => slot(standing, content.mapping()?, h.salt),
            HiddenValue::Empty => None,
        });
        let mut slots: Vec<SlotThen> = visible.chain(hidden).collect();
        slots.sort_by_key(|s| s.mapping);
        let stub = Stub { commitment: row.commitment, place: row.place };
        Ok(Earlier {
            at: self.logged(&row.csi, row.version, stub, snapshot)?,
            opening: row.opening,
            record: row.record.clone(),
            contents_salt: row.contents_salt,
            contents: row.contents.clone(),
            slots: List24::new(slots).ok_or(AnswerError::TooLarge)?,
            cause_salt: Optional24(stated.then_some(row.cause_salt)),
        })
    }

    fn tenure_proof(&self, row: &Row, snapshot: &Snapshot) -> Result<Option<TenureProof>, AnswerError> {
        let (csi, start) = (&row.csi, &row.contents.start);
        let Some(last) = start.version.checked_sub(1).filter(|_| start.how != Beginning::First) else {
            return Ok(None);
        };
        let stub = self.stub_of(row, start.version)?;
        let logged = self.logged(csi, start.version, stub, snapshot)?;
        // "If the record is erased, passage is 0": what would prove it is gone.
        let erased = row.record.state == RecordState::Erased;
        let recent = snapshot.head.time < logged.head.head.time.plus_ms(PASSAGE_MS) && !erased;
        let passage = match start.how {
            _ if !recent => Passage::Past,
            Beginning::NewHolder => Passage::Hold(self.hold(csi, last, stub.place.before, snapshot)?),
            Beginning::Release => Passage::Release(self.released(row, start.version)?),
            Beginning::First | Beginning::Vacancy => Passage::Vacancy(self.opened_version(csi, last, snapshot)?),
        };
        let proof = TenureProof { start: logged, passage, steps: List24::empty() };
        let steps = self.logged_steps(row, &proof.steps_needed(row.version), snapshot)?;
        Ok(Some(TenureProof { steps: List24::new(steps).ok_or(AnswerError::TooLarge)?, ..proof }))
    }

    /// That a claim was kept up to version `last`: all rows since the claim are there as long as this is asked for
    /// ([`crate::sequencer::purge`]).
    fn hold(&self, csi: &Csi, last: u32, before: u64, snapshot: &Snapshot) -> Result<Hold, AnswerError> {
        let at_end = self.whole(csi, last)?.ok_or(StoreError::Shredded)?;
        let claim = at_end.record.state.claim().ok_or_else(damaged_index)?;
        let open = |version| self.opened_version(csi, version, snapshot);
        let between = (claim.version..=last).skip(1).map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Hold {
            pending: open(claim.version)?,
            between: List24::new(between).ok_or(AnswerError::TooLarge)?,
            before: self.head_at(before, snapshot)?,
        })
    }

    /// Where versions on ladders were logged. Most are on the row's own ladder too, whose labels are proved already.
    fn logged_steps(&self, row: &Row, versions: &[u32], snapshot: &Snapshot) -> Result<Vec<LoggedStep>, AnswerError> {
        let step = |version: &u32| {
            let kept = row.ladder.iter().find(|s| s.version == *version);
            let vrf_proof = kept.map_or_else(|| prove_label(&self.vrf, &row.csi, *version).0, |s| s.step.vrf_proof);
            let stub = self.stub_of(row, *version)?;
            let change = self.inclusion(stub.place.change, snapshot)?;
            Ok(LoggedStep { version: *version, vrf_proof, commitment: stub.commitment, change })
        };
        versions.iter().map(step).collect()
    }

    /// What the log's proofs need of a version up to that of the row.
    fn stub_of(&self, row: &Row, version: u32) -> Result<Stub, AnswerError> {
        if row.version == version {
            return Ok(Stub { commitment: row.commitment, place: row.place });
        }
        self.stub(&row.csi, version)
    }

    fn released(&self, row: &Row, version: u32) -> Result<Released, AnswerError> {
        let earlier = if row.version == version { None } else { self.whole(&row.csi, version)? };
        let row = if row.version == version { row } else { earlier.as_ref().ok_or(StoreError::Shredded)? };
        Ok(Released {
            opening: row.opening,
            record: row.record.clone(),
            contents_salt: row.contents_salt,
            contents: row.contents.clone(),
            cause: row.cause.clone(),
            cause_salt: row.cause_salt,
        })
    }

    fn providers_for(&self, snapshot: &Snapshot, body: Option<&Body>) -> Result<Providers, AnswerError> {
        let mappings = body.into_iter().flat_map(shown).filter_map(|(_, content)| content.mapping());
        let start = body.map(|b| &b.contents.start);
        let named = named_providers(mappings, start, body.is_some_and(withholds).then_some(&self.domain));
        if named.is_empty() {
            return Ok(Providers::none());
        }
        let keys: Vec<Hash> = named.iter().map(|(domain, role)| leaf_place(*role, domain)).collect();
        let (proof, _) = snapshot.provider_tree.prove(&keys).ok_or(AnswerError::TooLarge)?;
        let leaves = named.iter().filter_map(|(domain, role)| snapshot.providers.get(domain, *role).cloned()).collect();
        Ok(Providers { leaves: List24::new(leaves).ok_or(AnswerError::TooLarge)?, proof })
    }
}

/// The version that first had a mapping of this key, of those that stand, in this tenure.
fn first_seen_by(row: &Row, key: Key) -> u32 {
    row.state().first_seen_by(&key).unwrap_or(row.version)
}

/// With which version the holders of these keys came, as the latest version and the one before say: the least. A mapping that was
/// rotated and then renewed stands for a later version than its key's first.
fn came_with<'a>(rows: impl Iterator<Item = &'a Row>, keys: &[Key]) -> Option<u32> {
    let held = rows.flat_map(|row| row.state().held);
    held.filter(|h| keys.contains(&h.mapping.recipient)).map(|h| h.standing.since_version).min()
}

fn damaged_index() -> StoreError {
    StoreError::Damaged("the index of rows".to_owned())
}

/// The mappings that a body accounts for, visible ones first.
fn shown(body: &Body) -> impl Iterator<Item = (&Standing, &Content)> {
    let hidden = body.hidden.iter().filter_map(|h| match &h.value {
        HiddenValue::Present(standing, content) => Some((standing, content)),
        HiddenValue::Empty => None,
    });
    body.visible.iter().map(|v| (&v.standing, &v.content)).chain(hidden)
}

/// Whether a body bears the DP's word that it withholds something.
fn withholds(body: &Body) -> bool {
    let is_unserved = |standing: &Standing| standing.status == SlotStatus::Unserved;
    let visible = body.visible.iter().any(|v| is_unserved(&v.standing));
    let said = body.hidden.iter().filter(|h| h.statement.0.is_some());
    visible || said.into_iter().any(|h| matches!(&h.value, HiddenValue::Present(standing, _) if is_unserved(standing)))
}

/// A hidden slot of which a recipient is shown standing and digest only: a handle's proof would let them try tags.
fn closed_slot(slot: u8, salt: Salt, standing: Standing, mapping: &Mapping) -> OpenedHidden {
    let value = HiddenValue::Present(standing, Content::Closed(mapping.digest()));
    let (handle, consent, statement) = (Optional24(None), Optional24(None), Optional24(None));
    OpenedHidden { slot, salt, value, handle, consent, statement }
}

/// Whether one of these keys has a mapping that is not new.
fn is_established(row: &Row, keys: &[Key], now: UnixMillis) -> bool {
    let state = row.state();
    state.held.iter().any(|h| keys.contains(&h.mapping.recipient) && !state.is_new_at(h, now))
}

/// How much an answer proves beside what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proofs {
    /// What every reader needs.
    Least,
    /// And the open entry's place: a recipient always gets it.
    Open,
    /// And when each mapping was logged.
    All,
}

/// Since when somebody may see what was hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Since this version, the first that a mapping of theirs names; `None` for nobody.
    since: Option<u32>,
    /// And these before it, in which they had a mapping, too.
    versions: BTreeSet<u32>,
}

impl Seen {
    /// Whether the content of a hidden mapping is shown that this version added.
    pub fn sees(&self, version: u32) -> bool {
        self.since.is_some_and(|since| since <= version) || self.versions.contains(&version)
    }
}

/// Which slots a body opens.
enum Shows<'a> {
    /// Visible ones, and hidden ones with the tag or none: a sender.
    Tag(Option<&'a Tag>),
    /// All, but the content of hidden ones only if it is these keys' or was added since they came.
    Seen(&'a [Key], Seen),
    /// Visible ones, and hidden ones of these keys.
    Own(&'a [Key]),
}

impl Shows<'_> {
    fn opens(&self, value: &HiddenValue) -> bool {
        match (self, value.mapping()) {
            (Shows::Seen(..), _) => true,
            (Shows::Tag(tag), Some(m)) => tag.is_some() && m.tags.as_exact() == *tag,
            (Shows::Own(keys), Some(m)) => keys.contains(&m.recipient),
            (_, None) => false,
        }
    }

    /// Whether more is shown of a hidden mapping than standing and digest, once its slot is opened.
    fn content_of_hidden(&self, standing: &Standing, mapping: &Mapping) -> bool {
        match self {
            Shows::Seen(keys, seen) => keys.contains(&mapping.recipient) || seen.sees(standing.since_version),
            Shows::Tag(_) | Shows::Own(_) => true,
        }
    }

    /// What the DP withholds is closed to all but those whose it is.
    fn content(&self, standing: &Standing, mapping: &Mapping) -> Content {
        let own = match self {
            Shows::Seen(..) => true,
            Shows::Own(keys) => keys.contains(&mapping.recipient),
            Shows::Tag(_) => false,
        };
        if standing.status == SlotStatus::Unserved && !own {
            return Content::Closed(mapping.digest());
        }
        Content::Shown(Box::new(mapping.clone()))
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
