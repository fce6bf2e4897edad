//! `waymark-fuzz FOLDER_OF_VECTORS SECONDS`: every target in turn on mutated vectors until the time is over. A panic ends it,
//! with the input that caused it in hex.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use serde_json::Value;
use waymark_fuzz::{JUDGES, TARGETS, Target, mutated, seeds, taken_by};

/// Inputs of one turn for a target that reads, and for one that judges and takes that much longer.
const READ_AT_ONCE: usize = 256;
const JUDGED_AT_ONCE: usize = 16;

/// A target, how many inputs it gets in its turn, and the seeds that it takes.
struct Run {
    name: &'static str,
    target: Target,
    inputs: usize,
    own: Vec<Vec<u8>>,
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let [folder, seconds] = words.as_slice() else { return usage() };
    let (Ok(seconds), Ok(documents)) = (seconds.parse(), vectors(folder)) else { return usage() };
    let seeds = seeds(&documents);
    // Another seed each time: what was tried before need not be tried again.
    let entropy = std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos() as u64);
    let all = TARGETS.map(|t| (t, READ_AT_ONCE)).into_iter().chain(JUDGES.map(|t| (t, JUDGED_AT_ONCE)));
    let targets: Vec<Run> =
        all.map(|((name, target), inputs)| Run { name, target, inputs, own: taken_by(target, &seeds) }).collect();
    println!("{} targets, {} seeds, random seed {entropy}", targets.len(), seeds.len());
    let mut rng = ChaCha12Rng::seed_from_u64(entropy);
    let (begun, mut inputs) = (Instant::now(), 0u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        for run in &targets {
            for _ in 0..run.inputs {
                let input = mutated(&seeds, &run.own, &mut rng);
                if catch_unwind(AssertUnwindSafe(|| (run.target)(&input))).is_err() {
                    println!("FAILED: {}: {}", run.name, data_encoding::HEXLOWER.encode(&input));
                    return ExitCode::FAILURE;
                }
                inputs += 1;
            }
        }
    }
    println!("{inputs} inputs in {} s, nothing found", begun.elapsed().as_secs());
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: waymark-fuzz FOLDER_OF_VECTORS SECONDS");
    ExitCode::from(2)
}

fn vectors(folder: &str) -> std::io::Result<Vec<Value>> {
    let mut documents = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|e| e == "json") {
            documents.push(serde_json::from_str(&fs::read_to_string(path)?)?);
        }
    }
    Ok(documents)
}
