//! Runs at once: what one has written is not forgotten by the next.

use std::{fs, path::PathBuf, thread};

use waymark_log::{
    cosignature::Cosigner,
    key::SecretKey,
    note::{KeyName, NoteSigner},
};
use waymark_mapping::evidence::Kind;

use super::*;

const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";

fn trust() -> Trust {
    let name = |name| KeyName::new(name).unwrap();
    let log = NoteSigner::new(name("dp.example/log"), SecretKey::from_seed(&[1; 32]));
    let witness = Cosigner::new(name("w1.example"), SecretKey::from_seed(&[2; 32]));
    let policy = format!("log {}\nwitness w1 {}\nquorum w1\n", log.vkey(), witness.vkey());
    Trust::parse(&format!("policy = \"\"\"\n{policy}\"\"\"\n")).unwrap()
}

fn seen(size: u64, root: &str, open: &str) -> Remembered {
    let note = format!("dp.example/log\n{size}\n{root}\n\n\u{2014} dp.example/log AAAAAAA=\n");
    let text = format!("waymark memory v1\norigin dp.example/log\nopen {open}\nnote {}\n\n{note}", note.len());
    Remembered::parse(text.as_bytes()).expect("a memory")
}

/// A run that began with what the file holds, and has seen this by now. It cannot read the log.
fn run(path: &Path, sees: &Remembered) -> LogMemory {
    let mut run = LogMemory::new(load(path).unwrap(), None);
    run.remembered = Some(sees.clone());
    run
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.memory");
    (folder, path)
}

#[tokio::test]
async fn of_two_runs_at_once_that_were_shown_two_trees_of_one_size_the_second_is_told_and_both_notes_are_evidence() {
    let (_folder, path) = file();
    let (a, b) = (seen(20, A, A), seen(20, B, A));
    let (mut first, mut second) = (run(&path, &a), run(&path, &b));
    first.store(&path, &trust()).await.unwrap();
    let told = second.store(&path, &trust()).await.unwrap_err();
    let evidence = told.evidence().expect("both notes");
    assert!(matches!(told, StoreError::Apart(Apart::SplitView { size: 20, .. })), "{told:?}");
    let notes: Vec<&[u8]> = evidence.notes.iter().map(|seen| &seen.note[..]).collect();
    assert_eq!((evidence.kind, notes), (Kind::SplitView, vec![a.note().as_bytes(), b.note().as_bytes()]));
    assert_eq!(load(&path).unwrap(), Some(a));
    let kept = keep_evidence(&path, evidence).unwrap();
    assert_eq!(fs::read(kept).unwrap(), evidence.format());
}

#[tokio::test]
async fn what_another_run_has_written_is_replaced_by_nothing_that_is_not_shown_to_follow_from_it() {
    for (theirs, ours) in [(20, 30), (30, 20)] {
        let (_folder, path) = file();
        let (there, ours) = (seen(theirs, A, A), seen(ours, B, A));
        let (mut first, mut second) = (run(&path, &there), run(&path, &ours));
        first.store(&path, &trust()).await.unwrap();
        // Nobody can say whether it is one log before the log is read.
        second.store(&path, &trust()).await.unwrap();
        assert!(matches!(second.unshown(), Some(Unreached::NoLog)), "{:?}", second.unshown());
        assert_eq!((load(&path).unwrap().as_ref(), second.remembered()), (Some(&there), Some(&there)));
    }
    // A log opens once.
    let (_folder, path) = file();
    let (mut first, mut second) = (run(&path, &seen(20, A, A)), run(&path, &seen(30, A, B)));
    first.store(&path, &trust()).await.unwrap();
    let told = second.store(&path, &trust()).await.unwrap_err();
    assert!(matches!(told, StoreError::Apart(Apart::OtherOpen)), "{told:?}");
}

#[tokio::test]
async fn what_a_run_began_with_is_replaced_and_what_it_has_not_moved_is_not_written() {
    let (_folder, path) = file();
    let (small, large) = (seen(20, A, A), seen(30, B, A));
    let mut first = run(&path, &small);
    first.store(&path, &trust()).await.unwrap();
    let mut idle = LogMemory::new(load(&path).unwrap(), None);
    let mut grown = run(&path, &large);
    grown.store(&path, &trust()).await.unwrap();
    idle.store(&path, &trust()).await.unwrap();
    assert_eq!((load(&path).unwrap(), idle.remembered()), (Some(large), Some(&small)));
    // The same run goes on from what it has written.
    grown.remembered = Some(seen(40, A, A));
    grown.store(&path, &trust()).await.unwrap();
    assert_eq!(load(&path).unwrap(), Some(seen(40, A, A)));
}

#[test]
fn of_many_runs_at_once_exactly_one_writes() {
    let (_folder, path) = file();
    let roots: Vec<String> = ('A'..='H').map(|c| c.to_string().repeat(42) + "A=").collect();
    let stored = thread::scope(|scope| {
        let store = |root: &String| {
            let (ours, path) = (seen(20, root, A), &path);
            scope.spawn(move || write_over(path, None, &ours).unwrap().is_none())
        };
        let runs: Vec<_> = roots.iter().map(store).collect();
        runs.into_iter().map(|run| run.join().unwrap()).filter(|stored| *stored).count()
    });
    assert_eq!(stored, 1);
}
