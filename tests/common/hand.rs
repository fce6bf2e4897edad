//! A DP without a network: the same stores, batch, commit and recovery, driven by hand.

use std::{path::PathBuf, sync::Arc};

use waymark::{
    api::ChangeRequest,
    authorise::{Bench, Judged, NotAuthorised, authorise},
    client::recipient::Added,
    config::{Codes, File, Settings, StoreKind, names},
    fsck::{Report, fsck},
    init::{NewDp, init, open_rows, provider_entry},
    published::{Answering, Published},
    sequencer::{
        accepted::Accepted,
        batch::{Intake, PendingChange, batch},
        commit::{Disk, Effects},
        recover::{RecoverError, Recovered, recover},
        writer::{Made, Writer},
    },
    store::{Head, LogFiles, Purge, RowKeys, Rows, SealedRow, Staged, StoreError, seal::Sealer},
};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    key::{Key, SecretKey},
    note::{KeyName, Role, Vkey},
    tile::Tile,
    time::UnixMillis,
};
use waymark_mapping::{
    entry::{Provider, ProviderAction, ProviderRole},
    event::EventKind,
    identifier::Csi,
    mapping::{Attestation, Mapping, Method, Purpose},
    provider::ProviderDirectory,
    signed::{SignedStruct, UNSIGNED},
    wire::{Format, Optional24},
};
use waymark_runtime::{clock::Clock, random};

use super::{LOUD, QUIET, Seen, domain, key, loopback, mapping, request, shown, with_consent};

/// A DP without a network: the same stores, batch, commit and recovery, driven by hand.
pub struct Hand {
    pub dir: tempfile::TempDir,
    pub clock: Clock,
    pub settings: Settings,
    pub rows: Arc<dyn Rows>,
    pub answering: Answering,
    pub writer: Writer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Stage,
    SwapHead,
    WriteTiles,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    NotWritten,
    HalfWritten,
    Written,
}

/// The disk, but one step fails.
struct Faulty<'a> {
    disk: Disk<'a>,
    fault: (Step, How),
}

impl Faulty<'_> {
    fn fails(&self, step: Step) -> Option<How> {
        (self.fault.0 == step).then_some(self.fault.1)
    }
}

pub fn broken() -> StoreError {
    StoreError::Io { path: PathBuf::from("the disk"), error: std::io::Error::other("pulled out") }
}

impl Effects for Faulty<'_> {
    fn stage(&mut self, staged: &Staged, rows: &[SealedRow], purges: &[Purge]) -> Result<(), StoreError> {
        match self.fails(Step::Stage) {
            None => self.disk.stage(staged, rows, purges),
            Some(How::Written) => self.disk.stage(staged, rows, purges).and(Err(broken())),
            Some(_) => Err(broken()),
        }
    }

    fn read_tile(&mut self, tile: Tile) -> Result<(Tile, Vec<u8>), StoreError> {
        self.disk.read_tile(tile)
    }

    fn swap_head(&mut self, old: Option<&str>, new: &str) -> Result<(), StoreError> {
        match self.fails(Step::SwapHead) {
            None => self.disk.swap_head(old, new),
            Some(How::Written) => self.disk.swap_head(old, new).and(Err(broken())),
            Some(_) => Err(broken()),
        }
    }

    fn write_tiles(&mut self, files: &[(Tile, Vec<u8>)]) -> Result<(), StoreError> {
        match self.fails(Step::WriteTiles) {
            None => self.disk.write_tiles(files),
            Some(How::NotWritten) => Err(broken()),
            Some(How::HalfWritten) => self.disk.write_tiles(&files[..files.len() / 2]).and(Err(broken())),
            Some(How::Written) => self.disk.write_tiles(files).and(Err(broken())),
        }
    }

    fn publish(&mut self, note: &str) -> Result<(), StoreError> {
        self.disk.publish(note)
    }
}

pub fn origin() -> Origin {
    Origin::new("dp.example/log").unwrap()
}

impl Hand {
    pub fn new() -> Self {
        Self::new_at(Clock::System)
    }

    /// A DP by another clock.
    pub fn new_at(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = File {
            domain: "dp.example".to_owned(),
            origin: "dp.example/log".to_owned(),
            listen: loopback(),
            operations: None,
            interval_ms: 50,
            store: StoreKind::Redb,
            codes: Codes::Folder,
            lookups_per_minute: 1,
            requests_per_minute: 1,
            relays_per_minute: 0,
            answer_bytes_min: 8192,
            regions: vec![],
            visible_mappings: 8,
            trusted_proxies: vec![],
            proxy_header: None,
            csip: vec![],
            prover: vec![],
            recycling: vec![],
            tls: None,
        };
        // Named in the policy and never asked.
        let witness = Vkey::new(KeyName::new("w.example").unwrap(), Role::Witness, key("w").public());
        let witnesses = vec![("w".to_owned(), witness, "http://127.0.0.1:9".to_owned())];
        init(dir.path(), &NewDp { file, witnesses, quorum: 1 }, &clock).unwrap();
        Self::open_at(dir, clock).unwrap()
    }

    /// What a start does.
    pub fn open(dir: tempfile::TempDir) -> Result<Self, (RecoverError, tempfile::TempDir)> {
        Self::open_at(dir, Clock::System)
    }

    pub fn open_at(dir: tempfile::TempDir, clock: Clock) -> Result<Self, (RecoverError, tempfile::TempDir)> {
        let settings = Settings::load(dir.path()).unwrap();
        let rows: Arc<dyn Rows> = open_rows(dir.path(), StoreKind::Redb, false).unwrap().into();
        let files = LogFiles::at(&dir.path().join(names::LOG)).unwrap();
        let head = Head::at(&dir.path().join(names::HEAD));
        let accepted = Accepted::load(dir.path(), &settings.origin).unwrap();
        let keys = RowKeys::open(&dir.path().join(names::ROW_KEYS)).unwrap();
        let Recovered { state, head_note, signed, head_path, latest } =
            match recover(&*rows, &keys, &head, &files, &settings.origin, settings.signer.vkey(), &accepted) {
                Ok(recovered) => recovered,
                Err(why) => return Err((why, dir)),
            };
        let answering = Answering {
            published: Published::new(latest),
            rows: Arc::clone(&rows),
            sealer: Arc::new(Sealer::new(&settings.store_key, Arc::new(keys))),
            files,
            vrf: Arc::new(Settings::load(dir.path()).unwrap().vrf),
            answer_bytes_min: 8192,
            domain: settings.domain.clone(),
        };
        let writer = Writer { state, signed, head_note, head_path, make: batch };
        let hand = Self { dir, clock, settings, rows, answering, writer };
        hand.publish(vec![]);
        Ok(hand)
    }

    /// Closes everything.
    pub fn at_rest(self) -> tempfile::TempDir {
        self.dir
    }

    /// Closes everything and starts again.
    pub fn again(self) -> Result<Self, (RecoverError, tempfile::TempDir)> {
        let clock = self.clock.clone();
        Self::open_at(self.at_rest(), clock)
    }

    pub fn publish(&self, versions: Vec<([u8; 32], u32)>) {
        let snapshot = self.writer.snapshot(self.writer.head_note.clone()).unwrap();
        self.answering.published.replace(snapshot, versions);
    }

    /// A look-up's result, from the row itself.
    pub fn current(&self, who: &Csi) -> (Option<u32>, Option<Hash>) {
        let latest = self.answering.latest(who).unwrap();
        (latest.as_ref().map(|l| l.row.version), latest.map(|l| l.row.commitment))
    }

    pub fn attestation(&self, recipient: Key, who: &Csi) -> Attestation {
        let now = self.clock.now();
        let mut attestation = Attestation {
            format: Format,
            csi: who.clone(),
            recipient,
            tenure: 0,
            purpose: Purpose::Control,
            method: Method::CONSOLE,
            prover: domain("dp.example"),
            prover_key: self.settings.prover.public(),
            time: now,
            expiry: now.plus_ms(600_000),
            nonce: random::bytes(),
            sig: UNSIGNED,
        };
        attestation.sign(&origin(), &self.settings.prover);
        attestation
    }

    /// A change of `who` by his own key, judged over what is published now.
    pub fn judged(&self, who: &Csi) -> PendingChange {
        self.judged_with(who, QUIET, |mapping| with_consent(&origin(), mapping))
    }

    /// The same at another MSP, with the consent that this gives.
    pub fn judged_with(&self, who: &Csi, msp: &str, consenting: impl FnOnce(Mapping) -> Added) -> PendingChange {
        self.authorised(&self.asked(who, msp, consenting)).unwrap()
    }

    /// What an app would send for that.
    pub fn asked(&self, who: &Csi, msp: &str, consenting: impl FnOnce(Mapping) -> Added) -> ChangeRequest {
        let secret = key(who.expose());
        let (version, commitment) = self.current(who);
        let seen = Seen { version, commitment, tenure: version.map(|_| 0) };
        let attestation = self.attestation(secret.public(), who);
        let tag = format!("t{}", version.map_or(0, |v| v + 1));
        let added = consenting(mapping(&origin(), &secret, &attestation, msp, shown(&tag)));
        let possession = version.is_none().then_some(attestation);
        request(&origin(), seen, who, EventKind::Issue, &[added], &[], &[(&secret, possession)])
    }

    /// Judges a change over what is published now.
    pub fn authorised(&self, change: &ChangeRequest) -> Result<PendingChange, NotAuthorised> {
        let (origin, now) = (origin(), self.clock.now());
        let bench = Bench {
            origin: &origin,
            csips: &[],
            provers: &[],
            policy: self.settings.policy_document.digest,
            stricter: &[],
            visible_max: 8,
            regions: &[],
            recycled: false,
            now,
        };
        authorise(&self.answering, change, bench, &mut random::source()).map(|judged| match judged {
            Judged::Authorized(change) => *change,
            Judged::AlreadyDone => panic!("a new event"),
        })
    }

    /// One batch over these changes, with a fault.
    pub fn commit(&mut self, changes: Vec<PendingChange>, fault: Option<(Step, How)>) -> bool {
        self.commit_all(Intake { changes, ..Intake::default() }, fault)
    }

    /// The providers of a log that has none yet.
    pub fn first_providers(&self) -> Vec<Provider> {
        let entry = |name: &str, role, publishes, class, secret| {
            provider_entry(&domain(name), role, publishes, class, &origin(), secret)
        };
        vec![
            entry("dp.example", ProviderRole::PROVER, false, 0, &self.settings.prover),
            entry(QUIET, ProviderRole::MSP, false, 1, &key(QUIET)),
            entry(LOUD, ProviderRole::MSP, true, 1, &key(LOUD)),
        ]
    }

    /// The time, which is always after the last head.
    pub fn now(&self) -> UnixMillis {
        self.clock.now().max(self.writer.state.head().unwrap().time.plus_ms(1))
    }

    /// The batch that these would make.
    pub fn made(&self, intake: Intake) -> Made {
        self.writer.make(intake, self.now(), &mut random::source()).unwrap()
    }

    pub fn commit_all(&mut self, mut intake: Intake, fault: Option<(Step, How)>) -> bool {
        if self.writer.state.size() == 2 {
            intake.providers = self.first_providers();
        }
        let made = self.made(intake);
        let all = made.sound.batch();
        assert!(made.dropped.is_none() && all.left_out.is_empty());
        assert!(all.refused.is_empty() && all.config_refused.is_none());
        self.commit_made(made, fault)
    }

    pub fn commit_made(&mut self, made: Made, fault: Option<(Step, How)>) -> bool {
        let head = Head::at(&self.dir.path().join(names::HEAD));
        let files = self.answering.files.clone();
        let mut disk = Disk { rows: &*self.rows, head: &head, files: &files };
        let (sealer, signer) = (&self.answering.sealer, &self.settings.signer);
        let versions = match fault {
            None => self.writer.commit(made.sound, &mut disk, sealer, signer),
            Some(fault) => self.writer.commit(made.sound, &mut Faulty { disk, fault }, sealer, signer),
        };
        let Ok(versions) = versions else { return false };
        self.publish(versions);
        true
    }

    pub fn fsck(&self) -> Report {
        let head = Head::at(&self.dir.path().join(names::HEAD));
        let (a, s) = (&self.answering, &self.settings);
        let accepted = Accepted::load(self.dir.path(), &s.origin).unwrap();
        fsck(&*self.rows, &head, &a.files, &a.sealer, &s.origin, s.signer.vkey(), &accepted).unwrap()
    }

    #[track_caller]
    pub fn holds(&self, who: &Csi, version: Option<u32>) {
        assert_eq!(self.current(who).0, version);
        let report = self.fsck();
        assert!(report.faults.is_empty(), "{report:?}");
        assert_eq!(report.entries, self.writer.signed.size());
    }
}

/// The next key of a provider, signed by the one that it has.
pub fn rotation(
    providers: &ProviderDirectory,
    name: &str,
    role: ProviderRole,
    publishes: bool,
    old: &SecretKey,
    new: &SecretKey,
) -> Provider {
    let mut entry = provider_entry(&domain(name), role, publishes, 1, &origin(), new);
    entry.action = ProviderAction::Rotate;
    entry.previous_leaf = providers.previous_leaf(&domain(name), entry.role);
    entry.by_key = Optional24(Some(new.sign(&entry.key_message(&origin())).into()));
    entry.by_valid = Optional24(Some(old.sign(&entry.valid_message(&origin())).into()));
    entry
}
