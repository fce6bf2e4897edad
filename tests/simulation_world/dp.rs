//! A DP without threads and network: the same steps as the sequencer's thread takes them, one at a time.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand_chacha::ChaCha8Rng;
use waymark::{
    api::ChangeRequest,
    init::policy_text,
    published::{Answering, Published},
    row::Kept,
    sequencer::{
        accepted::Accepted,
        batch::{Intake, LogState, batch},
        commit::{Disk, Effects, commit},
        pool::{Done, Outcome, Pool, Taken, Ticket},
        purge::{Purger, Round, open_row},
        recover::{Recovered, recover},
        sound::Sound,
        writer::Writer,
    },
    store::{Head, LogFiles, RowKeys, Rows, seal::Sealer},
};
use waymark_log::{
    checkpoint::Origin,
    hash::Hash,
    note::{KeyName, NoteSigner},
    policy::{Freshness, Policy},
    time::UnixMillis,
};
use waymark_mapping::{
    audit::{Finding, Replay},
    entry::{HEAD_INTERVAL_MS_MAX, Open, Untimely},
    event::Event,
    receipt::{Sent, accept},
    trust::Trust,
    verify::{Asked, Rejected, Trail, verify},
    vrf::VrfSecret,
    wire::Extensions,
};

use super::{
    disk::{Failing, Fuse, How, Memory, MemoryRows},
    tally::Tally,
    witness::Witness,
};
use crate::common::{domain, key};

/// What the log promises.
pub const INTERVAL_MS: u32 = 1000;
const FRESHNESS: Freshness = Freshness { max_age_s: 600, skew_s: 30 };
const SEED: [u8; 32] = [7; 32];

pub fn origin() -> Origin {
    Origin::new("dp.example/log").unwrap()
}

/// A change on its way, and how to see what becomes of it.
pub struct Waits {
    pub ticket: Ticket,
    pub request: ChangeRequest,
}

/// A change of which its sender was told that it is made.
struct Acknowledged {
    event: Event,
}

/// A batch that is signed, and waits for its cosignatures.
#[derive(Default)]
struct Unpublished {
    left_out: Vec<[u8; 32]>,
    versions: Vec<([u8; 32], u32)>,
    done: Done,
}

/// What a crash takes.
pub struct Running {
    pub writer: Writer,
    pub answering: Answering,
    pub pool: Pool,
    pub waits: Vec<Waits>,
    unpublished: Option<Unpublished>,
}

/// What a crash leaves.
pub struct World {
    folder: tempfile::TempDir,
    memory: Memory,
    pub fuse: Fuse,
    pub signer: NoteSigner,
    policy: Policy,
    pub trust: Trust,
    pub witnesses: Vec<Witness>,
    acknowledged: Vec<Acknowledged>,
    /// The time as witnesses and senders have it, milliseconds.
    true_ms: u64,
    /// By how much the DP's clock is ahead of that, or behind.
    pub offset_ms: i64,
    pub tally: Tally,
    pub running: Option<Running>,
}

/// A folder in memory where there is one: nothing here is about what a disk does.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn vrf() -> VrfSecret {
    VrfSecret::from_seed(&SEED)
}

impl World {
    /// A log of two entries.
    pub fn new(start_ms: u64, rng: &mut ChaCha8Rng) -> Self {
        let signer = NoteSigner::new(KeyName::new("dp.example/log").unwrap(), key("log"));
        let witnesses: Vec<Witness> = ["w1.example", "w2.example", "w3.example"].map(Witness::new).into();
        let line =
            |(i, w): (usize, &Witness)| (format!("w{i}"), w.cosigner.vkey().clone(), "http://127.0.0.1:9".to_owned());
        let lines: Vec<_> = witnesses.iter().enumerate().map(line).collect();
        let policy = policy_text(signer.vkey(), &lines, 2);
        let world = Self {
            folder: folder(),
            memory: Memory::default(),
            fuse: Fuse::default(),
            trust: Trust::parse(&format!("policy = \"\"\"\n{policy}\"\"\"\n")).unwrap(),
            policy: Policy::parse(&policy).unwrap(),
            signer,
            witnesses,
            acknowledged: vec![],
            true_ms: start_ms,
            offset_ms: 0,
            tally: Tally::default(),
            running: None,
        };
        world.open_log(rng);
        world
    }

    fn open_log(&self, rng: &mut ChaCha8Rng) {
        let open = Open {
            domain: domain("dp.example"),
            origin: (&origin()).into(),
            vrf: vrf().public(),
            interval_ms: INTERVAL_MS,
            policy: Hash::sha256(&[b"policy"]),
            not_before: self.now(),
            extensions: Extensions::NONE,
        };
        let state = LogState::new(origin(), self.signer.key());
        let made = batch(&state, Intake { open: Some(open), ..Intake::default() }, self.now(), rng).unwrap();
        let made = Sound::judge(&state, made).unwrap();
        RowKeys::create(&self.path("row.keys")).unwrap();
        let (rows, head, files) = (self.rows(), self.head(), self.files());
        let mut disk = Disk { rows: &rows, head: &head, files: &files };
        commit(&mut disk, &made, &[], &[], None, &self.signer).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rows(&self) -> MemoryRows {
        MemoryRows { memory: self.memory.clone(), fuse: self.fuse.clone() }
    }

    fn head(&self) -> Head {
        Head::at(&self.path("head"))
    }

    fn files(&self) -> LogFiles {
        LogFiles::at(&self.path("log")).unwrap()
    }

    /// The time by the DP's clock.
    pub fn now(&self) -> UnixMillis {
        UnixMillis::new(self.true_ms.checked_add_signed(self.offset_ms).unwrap())
    }

    /// The time as others have it.
    pub fn true_now(&self) -> UnixMillis {
        UnixMillis::new(self.true_ms)
    }

    pub fn pass(&mut self, ms: u64) {
        self.true_ms += ms;
    }

    /// Kills the DP: what was in memory is gone.
    pub fn kill(&mut self) {
        self.running = None;
        self.tally.count(self.fuse.blown().map_or("killed between effects".to_owned(), |e| format!("killed at {e}")));
        self.fuse.reset();
    }

    /// Starts the DP, which may be killed again at its first effect: it must always come up at last.
    pub fn start(&mut self, killed: Option<How>) {
        if let Some(how) = killed {
            self.fuse.arm(0, how);
        }
        let (head, files) = (self.head(), self.files());
        let keys = RowKeys::open(&self.path("row.keys")).unwrap();
        let recovered = loop {
            let rows = self.rows();
            match recover(&rows, &keys, &head, &files, &origin(), self.signer.vkey(), &Accepted::NONE) {
                Ok(recovered) => break recovered,
                Err(_) if self.fuse.blown().is_some() => self.kill(),
                Err(why) => panic!("the DP does not start: {why}"),
            }
        };
        self.fuse.reset();
        self.tally.count("starts".to_owned());
        let Recovered { state, head_note, signed, head_path, latest } = recovered;
        let answering = Answering {
            published: Published::new(latest),
            rows: Arc::new(self.rows()),
            sealer: Arc::new(Sealer::new(&SEED, Arc::new(keys))),
            files,
            vrf: Arc::new(vrf()),
            answer_bytes_min: 8192,
            domain: domain("dp.example"),
        };
        let writer = Writer { state, signed, head_note, head_path, make: batch };
        // What was published before, and is still good, is served at once.
        let published = answering.files.checkpoint().unwrap();
        let good = published.filter(|note| self.is_good(note, &writer));
        if let Some(snapshot) = good.and_then(|note| writer.snapshot(String::from_utf8(note).unwrap())) {
            answering.published.replace(snapshot, []);
        }
        let unpublished = Some(Unpublished::default());
        self.running = Some(Running { writer, answering, pool: Pool::default(), waits: vec![], unpublished });
        self.check_acknowledged();
    }

    fn is_good(&self, note: &[u8], writer: &Writer) -> bool {
        let judged = self.policy.judge(note, self.true_now().floor_seconds(), FRESHNESS);
        judged.is_ok_and(|c| c.signed().checkpoint() == writer.signed.checkpoint())
    }

    /// One turn of the sequencer: what is signed is published before anything else is signed.
    pub fn turn(&mut self, rng: &mut ChaCha8Rng) {
        let Some(running) = &self.running else { return };
        let ended = if running.unpublished.is_some() { self.publish() } else { self.one_batch(rng) };
        if let Err(why) = ended {
            assert!(self.fuse.blown().is_some(), "the sequencer stops by itself: {why}");
            self.kill();
        }
    }

    /// Publishes what is signed, if something waits for that.
    pub fn publish_signed(&mut self) {
        let waits = self.running.as_ref().is_some_and(|r| r.unpublished.is_some());
        if waits && let Err(why) = self.publish() {
            assert!(self.fuse.blown().is_some(), "the sequencer stops by itself: {why}");
            self.kill();
        }
    }

    fn one_batch(&mut self, rng: &mut ChaCha8Rng) -> Result<(), String> {
        let (now, head, files) = (self.now(), self.head(), self.files());
        let rows = self.rows();
        let Some(running) = &mut self.running else { return Ok(()) };
        let last = running.writer.state.head().unwrap().time;
        if now <= last {
            self.tally.count("turns in which the clock was behind".to_owned());
            return Ok(());
        }
        if running.pool.is_empty() && now.since(last) < HEAD_INTERVAL_MS_MAX {
            return Ok(());
        }
        let Taken { intake, done } = running.pool.take();
        let made = running.writer.make(intake, now, rng).map_err(|e| e.to_string())?;
        assert!(made.dropped.is_none(), "an honest batch is not sound: {:?}", made.dropped);
        let batch = made.sound.batch();
        let left_out: Vec<_> = batch.left_out.iter().map(|l| l.csi_key).collect();
        for left_out in &batch.left_out {
            self.tally.count(format!("left out: {}", left_out.why));
        }
        self.tally.add("provider entries", (batch.entries.iter().filter(|e| e[1] == 3).count()) as u64);
        self.tally.add("consents", (batch.entries.iter().filter(|e| e[1] == 4).count()) as u64);
        self.tally.add("config entries", (batch.entries.iter().filter(|e| e[1] == 2).count()) as u64);
        self.tally.add("entries refused", batch.refused.len() as u64 + u64::from(batch.config_refused.is_some()));
        let disk = Disk { rows: &rows, head: &head, files: &files };
        let mut effects = Failing { disk, fuse: &self.fuse };
        let versions = running.writer.commit(made.sound, &mut effects, &running.answering.sealer, &self.signer);
        let versions = versions.map_err(|e| e.to_string())?;
        self.tally.count("batches".to_owned());
        running.unpublished = Some(Unpublished { left_out, versions, done });
        Ok(())
    }

    fn publish(&mut self) -> Result<(), String> {
        let (files, head, rows, now) = (self.files(), self.head(), self.rows(), self.true_now().floor_seconds());
        let Some(running) = &mut self.running else { return Ok(()) };
        let (signed, vkey) = (&running.writer.signed, self.signer.vkey());
        let lines: Vec<_> = self.witnesses.iter_mut().filter_map(|w| w.cosign(signed, &files, vkey, now)).collect();
        let note = signed.to_note(&lines);
        let Ok(cosigned) = self.policy.judge(note.as_bytes(), now, FRESHNESS) else {
            self.tally.count("turns without a quorum".to_owned());
            return Ok(());
        };
        let disk = Disk { rows: &rows, head: &head, files: &files };
        Failing { disk, fuse: &self.fuse }.publish(&note).map_err(|e| e.to_string())?;
        let Unpublished { left_out, versions, done } = running.unpublished.take().unwrap();
        let snapshot = running.writer.snapshot(note).unwrap();
        let head_time = snapshot.head.check_time(cosigned.quorum_time(), INTERVAL_MS, FRESHNESS.skew_s);
        running.answering.published.replace(snapshot, versions);
        running.pool.published(&left_out, done);
        match head_time {
            // It waited long for its witnesses. Senders wait for the next head.
            Err(Untimely::Overdue) => self.tally.count("heads published too late to be believed".to_owned()),
            Err(Untimely::After) => panic!("a head is dated after its cosignatures"),
            Ok(()) => {}
        }
        self.settle(head_time.is_ok());
        Ok(())
    }

    /// Tells those who wait, and checks as they do.
    fn settle(&mut self, is_timely: bool) {
        let Some(running) = &mut self.running else { return };
        let (over, waits): (Vec<_>, Vec<_>) =
            running.waits.drain(..).partition(|w| *w.ticket.borrow() != Outcome::Pending);
        running.waits = waits;
        for Waits { ticket, request } in over {
            let (outcome, event) = (*ticket.borrow(), request.event.clone());
            match outcome {
                Outcome::Published => {
                    self.check_receipt(&request, is_timely);
                    self.acknowledged.push(Acknowledged { event });
                    self.tally.count("changes made".to_owned());
                }
                Outcome::Overtaken => self.tally.count("changes overtaken".to_owned()),
                outcome => panic!("an honest change ends {outcome:?}"),
            }
        }
    }

    /// The sender accepts the receipt, and anybody who looks up believes the answer.
    fn check_receipt(&mut self, request: &ChangeRequest, is_timely: bool) {
        let Some(running) = &self.running else { return };
        let (answering, now) = (&running.answering, self.true_now());
        let (event, csi) = (&request.event, &request.event.tbs.csi);
        let latest = answering.latest(csi).unwrap().expect("it was just made");
        assert!(latest.row.cause.event == *event, "the latest version is another change's");
        let by_recipient = matches!(event.authorities[0].role, waymark_mapping::event::AuthorityRole::Recipient);
        if by_recipient {
            let by = event.authorities[0].key;
            let receipt = answering.receipt_for(&latest, &[by]).unwrap();
            let sent = Sent { origin: &origin(), event, added: &request.added, by: &by };
            let accepted = accept(&receipt, sent, &self.trust, None, now, &mut Trail::default());
            match accepted {
                Ok(_) => assert!(is_timely, "a head that is too late was believed"),
                Err(why) => assert!(!is_timely, "an honest receipt is refused ({:?}): {why}", event.tbs.kind),
            }
        }
        self.check_answer(csi, None, is_timely);
    }

    /// What anybody sees of an identifier verifies, with the past or without.
    pub fn check_answer(
        &mut self,
        csi: &waymark_mapping::identifier::Csi,
        tag: Option<&waymark_mapping::names::Tag>,
        is_timely: bool,
    ) {
        let Some(running) = &self.running else { return };
        for full in [false, true] {
            let bytes = running.answering.look_up(csi, tag, full).unwrap();
            let asked = Asked { origin: origin(), csi: csi.clone(), tag: tag.cloned() };
            let verified = verify(&bytes, &asked, &self.trust, None, self.true_now(), &mut Trail::default());
            match verified {
                Ok(_) => assert!(is_timely, "a head that is too late was believed"),
                Err(Rejected::Stale(_)) if !is_timely => {}
                Err(why) => panic!("an honest answer is refused: {why}"),
            }
            self.tally.count("answers verified".to_owned());
        }
    }

    /// Deletes what is due, of published batches.
    pub fn purge(&mut self) {
        let rows = self.rows();
        let Some(running) = &self.running else { return };
        let Some(published) = running.answering.published.snapshot() else { return };
        let sealer = &running.answering.sealer;
        match Purger::default().round(&rows, sealer, published.size, published.head.time) {
            Ok(Round { done, skipped }) => {
                assert_eq!(skipped, 0, "a record is damaged");
                self.tally.add("purges", done as u64);
            }
            Err(why) => {
                assert!(self.fuse.blown().is_some(), "purging fails: {why}");
                self.kill();
            }
        }
    }

    /// Nothing that was acknowledged is missing: the version is there, made by that event, unless it was deleted since by the rules.
    pub fn check_acknowledged(&self) {
        let running = self.running.as_ref().expect("it was just started");
        let (sealer, rows) = (&running.answering.sealer, self.rows());
        for Acknowledged { event } in &self.acknowledged {
            let tbs = &event.tbs;
            let csi_key = sealer.csi_key(&tbs.csi);
            let versions = if tbs.names_no_version() { 0..u32::MAX } else { tbs.version..tbs.version + 1 };
            let opened = |version| Some(open_row(sealer, &rows.row(&csi_key, version).unwrap()?).unwrap());
            let mut kept = versions.map_while(opened);
            let found = kept.any(|kept| match kept {
                Kept::Whole(row) => row.cause.event == *event,
                Kept::Stub(_) => true,
            });
            assert!(found, "an acknowledged change is not there");
        }
    }

    /// What a monitor says that reads the whole log.
    pub fn findings(&self) -> Vec<Finding> {
        let signed = &self.running.as_ref().expect("it runs").writer.signed;
        let mut entries = vec![];
        self.files().entries(signed.size(), |e| entries.push(e)).unwrap();
        let mut replay = Replay::new(origin(), self.signer.key());
        let step = replay.extend(&entries, signed.size(), signed.root());
        let labels: HashSet<_> = step.changes.iter().map(|c| c.label).collect();
        assert_eq!(labels.len(), step.changes.len());
        step.findings
    }

    /// Whether all that was asked for is over and published.
    pub fn is_quiet(&self) -> bool {
        self.running.as_ref().is_some_and(|r| r.unpublished.is_none() && r.pool.is_empty())
    }
}
