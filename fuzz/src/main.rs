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
use waymark_fuzz::{TARGETS, mutated, seeds};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let [folder, seconds] = words.as_slice() else { return usage() };
    let (Ok(seconds), Ok(documents)) = (seconds.parse(), vectors(folder)) else { return usage() };
    let seeds = seeds(&documents);
    // Another seed each time: what was tried before need not be tried again.
    let entropy = std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos() as u64);
    println!("{} targets, {} seeds, random seed {entropy}", TARGETS.len(), seeds.len());
    let mut rng = ChaCha12Rng::seed_from_u64(entropy);
    let (begun, mut inputs) = (Instant::now(), 0u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        for (name, target) in TARGETS {
            for _ in 0..256 {
                let input = mutated(&seeds, &mut rng);
                if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                    println!("FAILED: {name}: {}", data_encoding::HEXLOWER.encode(&input));
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
