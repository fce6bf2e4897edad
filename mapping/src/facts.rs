//! What a sender is shown: facts, not a grade. The same facts feed the card in words, `--json`, and tests in policies.
//!
//! It counts organisations, not roles: a prover that is the DP or the MSP is said to be. `since` and the tenure's start are
//! the DP's word. There is no word "verified" here, because it would have to say by whom and for what.

use waymark_log::{checkpoint::Origin, hash::Hash, key::Key, time::UnixMillis};

use crate::{
    mapping::{Method, Tags},
    names::{Account, Domain},
    record::{Beginning, Ground},
};

/// What is known of one mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappingFacts {
    /// Where; `None` for an opt-out.
    pub msp: Option<Domain>,
    /// The account there.
    pub account: Account,
    /// What for.
    pub tags: Tags,
    /// By which recipient key.
    pub recipient: Key,
    /// Its digest.
    pub digest: Hash,
    /// Until when.
    pub not_after: UnixMillis,
    /// Whether it is to be counted now: inside its validity and not kept from its MSP.
    pub holds: bool,
    /// How the CSI was shown to be the recipient's.
    pub possession: Possession,
    /// Whether the MSP serves it.
    pub service: Service,
    /// Since when it stands.
    pub change: Change,
}

/// How the CSI was shown to be the recipient's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Possession {
    /// By whom.
    pub prover: Domain,
    /// How.
    pub method: Method,
    /// How hard that is to fake, by the method ([`Method::strength`]).
    pub strength: u8,
    /// When.
    pub time: UnixMillis,
    /// Whether the prover is somebody else than the DP.
    pub independent_of_dp: bool,
    /// Whether the prover is somebody else than the MSP.
    pub independent_of_msp: bool,
    /// Whether the prover's key is in the trust file.
    pub pinned: bool,
}

/// Whether the MSP serves a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// The MSP has signed for it.
    Confirmed {
        /// And its consent is in the public log.
        in_log: bool,
        /// And its key is in the trust file.
        pinned: bool,
    },
    /// The MSP has not signed, or its signature is over.
    Unconfirmed,
    /// The MSP has signed that it no longer serves it. The recipient's mapping stands all the same.
    Detached {
        /// Why, in the MSP's code.
        reason: u8,
    },
    /// The MSP publishes its consents and none is logged: not to be counted.
    NotShownToMsp,
    /// The recipient does not want to be found.
    OptedOut,
}

impl Service {
    /// Whether a mapping in this state is to be used.
    pub const fn counts(self) -> bool {
        matches!(self, Self::Confirmed { .. } | Self::Unconfirmed | Self::Detached { .. })
    }
}

/// Since when a mapping stands, by the DP's word unless it is proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// When it was added.
    pub since: UnixMillis,
    /// By which version.
    pub since_version: u32,
    /// By when that version was logged, by proved position, if the answer shows it.
    pub logged_by: Option<UnixMillis>,
    /// Whether it was added less than 72 hours ago, beside another key's mapping.
    pub is_new: bool,
}

/// A mapping that the DP does not show. That there is one, and that it says why, is all a sender learns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Withheld {
    /// Why, in the DP's code.
    pub reason: u8,
    /// Since when the mapping stands, by the DP's word.
    pub since: UnixMillis,
    /// When the DP signed that it withholds it.
    pub by_event: UnixMillis,
}

/// Somebody else claims the CSI, or it was given back without that being known elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contest {
    /// A claim is open.
    Claim {
        /// Since when, by the DP's word.
        since: UnixMillis,
        /// When its hold is over.
        until: UnixMillis,
        /// What it rests on.
        ground: Ground,
        /// Whether somebody has objected.
        objected: bool,
    },
    /// A CSIP that the trust file does not pin took it back less than 30 days ago.
    ForeignRelease,
    /// Less than 30 days ago a claim was taken up after a short hold because of a stricter proof, and no mapping that is shown is
    /// attested by that prover with a key that the trust file pins.
    ForeignProver,
    /// A claim was taken up after a short hold because of what the DP says and nothing proves: that the old mappings had lapsed, or that
    /// the number was given to somebody else. For as long as a hold of the usual length would have gone on.
    ShortHold {
        /// What the DP says.
        ground: Ground,
        /// Until when the usual hold would have gone on at the latest.
        until: UnixMillis,
    },
}

/// How the tenure began, if it is not the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedHands {
    /// How.
    pub how: Beginning,
    /// By when, by proved position.
    pub time: UnixMillis,
    /// Less than 30 days ago: how it came about was proved, the hold included.
    pub recent: bool,
    /// What the claim rested on, by the DP's word.
    pub ground: Option<Ground>,
    /// The CSIP that released it, and whether its key is in the trust file.
    pub csip: Option<(Domain, bool)>,
}

/// By what a log's open entry, which names its domain and VRF key, is known to be entry 0: the first of these that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenKnown {
    /// The trust file pins it.
    Pinned,
    /// The answer proves its place in the log.
    Logged,
    /// It is the one that the reader saw before.
    Remembered,
    /// The head says so, and whoever replays the log can see it.
    HeadOnly,
}

/// What is known of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFacts {
    /// Its name.
    pub origin: Origin,
    /// Number of entries.
    pub size: u64,
    /// By what its open entry is known.
    pub open: OpenKnown,
    /// When the head was made, by the DP's word, within the witnesses' times.
    pub head_time: UnixMillis,
    /// The promised interval.
    pub interval_ms: u64,
    /// Fresh cosignatures of witnesses.
    pub witnesses: usize,
    /// Witnesses in the trust file.
    pub witnesses_known: usize,
    /// Fresh cosignatures of auditors, who have replayed the map.
    pub auditors: usize,
    /// Auditors in the trust file.
    pub auditors_known: usize,
    /// Age of the quorum.
    pub age_s: u64,
}
