//! Reading any C2SP log from outside: its head under a policy, one entry with its proof, consistency between two sizes.

use waymark_log::{
    consistency::{Earlier, Prefix},
    hash::{Hash, leaf_hash},
    policy::{CosignedCheckpoint, Freshness, Policy, Unmet},
    proof::{self, ProofError},
    time::UnixSeconds,
    tlogproof::TlogProof,
};
use waymark_runtime::follow::{FollowError, LogReader};

/// Why a log could not be read or is not believed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It could not be read.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// Its checkpoint does not meet the policy.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// A proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The log is smaller than what was asked for.
    #[error("the log has {0} entries")]
    TooSmall(u64),
}

/// A log's checkpoint, judged.
///
/// # Errors
/// [`LogError`].
pub async fn head(
    reader: &LogReader,
    policy: &Policy,
    now: UnixSeconds,
    freshness: Freshness,
) -> Result<CosignedCheckpoint, LogError> {
    let note = reader.checkpoint().await?;
    Ok(policy.judge(&note, now, freshness)?)
}

/// One entry and the proof that it is in the log at this checkpoint.
///
/// # Errors
/// [`LogError`].
pub async fn entry(
    reader: &LogReader,
    cosigned: &CosignedCheckpoint,
    index: u64,
) -> Result<(Vec<u8>, TlogProof), LogError> {
    let size = cosigned.size();
    let plan = proof::inclusion(index, size).map_err(|_| LogError::TooSmall(size))?;
    let hashes = plan.build(&reader.hashes(&plan, size).await?)?;
    let bytes = reader.entry(index, size).await?;
    proof::verify_inclusion(index, size, &leaf_hash(&bytes), &hashes, cosigned.root())?;
    let proof = TlogProof { extra: None, index, hashes, checkpoint: cosigned.to_note() };
    Ok((bytes, proof))
}

/// The root of the log at an earlier size, proved to be a prefix of this checkpoint.
///
/// # Errors
/// [`LogError`].
pub async fn consistency(
    reader: &LogReader,
    cosigned: &CosignedCheckpoint,
    old: u64,
) -> Result<(Hash, Vec<Hash>), LogError> {
    let size = cosigned.size();
    let prefix = Prefix::plan(old, size).map_err(|_| LogError::TooSmall(size))?;
    let tiles = reader.tiles(&prefix.tiles(size)).await?;
    // No root of the past was signed here: the proof that it is a beginning is what there is to check.
    let Earlier { root, proof } = prefix.earlier(&tiles).map_err(|_| ProofError::RootMismatch)?;
    proof::verify_consistency(old, size, &root, cosigned.root(), &proof)?;
    Ok((root, proof))
}
