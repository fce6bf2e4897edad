//! The whole system in one process, on loopback, in a fresh folder: a DP, four witnesses of which three must cosign, a
//! monitor, several messaging providers, recipients with an app each, senders. The parts talk HTTP and nothing is faked.
//!
//! | module | what it does |
//! |---|---|
//! | [`world`] | starts and stops the parts |
//! | [`cast`] | who is in the story, and under which numbers |
//! | [`story`] | Bob, Alice, and somebody who intercepted a code |
//! | [`people`] | the people file, and the built-in sample |
//! | [`bulk`] | everybody in it: registered, looked up, some withdrawn |
//! | [`report`] | the figures, for people and for programs |
//!
//! What is set for the demo and would be wrong elsewhere is said when it starts: codes go to a folder instead of a phone,
//! requests are not limited, and watchers raise an alert after seconds instead of ten minutes.

pub mod bulk;
pub mod cast;
pub mod people;
pub mod report;
pub mod story;
pub mod world;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use waymark_runtime::durable;

use self::{bulk::Bulk, people::Person, report::Report, story::Told, world::World};

/// How the demo is to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// End when everything was shown.
    pub once: bool,
    /// No pauses, progress on stderr, one JSON object on stdout.
    pub json: bool,
    /// People to register, JSON lines; the built-in sample unless said otherwise.
    pub people: Option<PathBuf>,
    /// The data folder; a fresh one that is removed at the end unless said otherwise.
    pub dir: Option<PathBuf>,
    /// Where to write, once all is up, how to reach the parts.
    pub ready_file: Option<PathBuf>,
}

/// How the demo can fail.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The people file.
    #[error(transparent)]
    People(#[from] people::PeopleError),
    /// A part did not start, or something took too long, or a step failed.
    #[error(transparent)]
    Part(#[from] anyhow::Error),
    /// Something did not verify, or came out otherwise than it must.
    #[error("{0}")]
    Wrong(String),
}

/// What is said while the demo runs: to stdout for people, to stderr beside JSON.
#[derive(Clone, Copy, Debug)]
pub struct Teller {
    json: bool,
}

impl Teller {
    /// Says a line.
    pub fn say(self, line: impl AsRef<str>) {
        if self.json {
            eprintln!("{}", line.as_ref());
        } else {
            println!("{}", line.as_ref());
        }
    }

    /// Gives people time to read.
    pub async fn pause(self) {
        if !self.json {
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
    }
}

/// The data folder: the one that was named, or a fresh one that goes with the demo.
struct Folder {
    path: PathBuf,
    remove: bool,
}

impl Folder {
    fn new(named: Option<&Path>) -> std::io::Result<Self> {
        let remove = named.is_none();
        let fresh = || {
            let name =
                format!("waymark-demo-{}", data_encoding::HEXLOWER.encode(&waymark_runtime::random::bytes::<6>()));
            std::env::temp_dir().join(name)
        };
        let path = named.map_or_else(fresh, Path::to_owned);
        std::fs::create_dir_all(&path)?;
        Ok(Self { path: std::fs::canonicalize(path)?, remove })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.remove {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Runs the demo until `interrupted` completes, or to its end with `once`.
///
/// # Errors
/// [`DemoError`].
pub async fn run(options: Options, interrupted: impl Future<Output = ()>) -> Result<Report, DemoError> {
    let started = Instant::now();
    let teller = Teller { json: options.json };
    // The people file is read before anything is started: a bad line is a usage error.
    let people = match &options.people {
        Some(path) => people::read(path)?,
        None => people::sample(),
    };
    let folder = Folder::new(options.dir.as_deref()).map_err(anyhow::Error::from)?;
    teller.say(format!("data folder {}", folder.path.display()));
    let people = Arc::new(people);
    let world = Arc::new(World::start(&folder.path, &people, teller).await?);
    if let Some(path) = &options.ready_file {
        let bytes = serde_json::to_vec_pretty(&world.ready()).map_err(anyhow::Error::from)?;
        durable::replace(path, &bytes).map_err(anyhow::Error::from)?;
    }
    tokio::pin!(interrupted);
    let shown = tokio::select! {
        shown = show(&world, &people, teller, started) => shown,
        () = &mut interrupted => Err(anyhow::anyhow!("interrupted").into()),
    };
    let ended = match shown {
        Ok(report) => {
            report.tell(teller);
            if options.json {
                println!("{}", report.to_json());
            }
            if !options.once {
                teller.say(world.commands(&report));
                teller.say("The demo stays up until Ctrl-C.");
                interrupted.await;
            }
            Ok(report)
        }
        Err(error) => Err(error),
    };
    stop(world).await;
    ended
}

/// Stops the parts, once the last app has let go of them.
async fn stop(mut world: Arc<World>) {
    for _ in 0..100 {
        match Arc::try_unwrap(world) {
            Ok(world) => return world.stop().await,
            Err(shared) => world = shared,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The story, then everybody, then the monitor's verdict.
async fn show(
    world: &Arc<World>,
    people: &Arc<Vec<Person>>,
    teller: Teller,
    started: Instant,
) -> Result<Report, DemoError> {
    let told: Told = story::tell(world, teller, started).await?;
    let bulk: Bulk = bulk::run(world, people, teller).await?;
    let (size, cosignatures) = world.settled().await?;
    let status = world.monitor_at(size).await?;
    let alerts = world.unexpected_alerts(told.staged, &told.watchers).await?;
    Ok(Report {
        people: people.len(),
        mappings_issued: bulk.mappings_issued,
        opted_out: bulk.opted_out,
        lookups_verified: bulk.lookups_verified,
        absences_verified: bulk.absences_verified,
        withdrawn: bulk.withdrawn,
        log_size: size,
        witnesses: world::WITNESSES,
        cosignatures,
        monitor_verified_size: status.verified_size,
        watch_alerts: alerts,
        findings: status.findings,
        first_verified_lookup_ms: told.first_verified_lookup_ms,
        elapsed_ms: started.elapsed().as_millis(),
        issue_s: bulk.issue_s,
        lookup_s: bulk.lookup_s,
    })
}

/// Fields of the ready file.
fn ready(world: &World) -> serde_json::Value {
    let witnesses: Vec<_> = world.witnesses().iter().map(|(url, vkey)| json!({"url": url, "vkey": vkey})).collect();
    json!({
        "dp_url": world.dp_url(),
        "log_url": world.log_url(),
        "origin": world.origin().as_str(),
        "log_vkey": world.log_vkey(),
        "trust_file": world.trust_file(),
        "witnesses": witnesses,
        "monitor_url": world.monitor_url(),
    })
}
