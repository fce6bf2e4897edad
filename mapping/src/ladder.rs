//! Binary ladders: which versions to look up so that "n is the latest" is proved at one map root.
//!
//! The base ladder of n looks up 0, 1, 3, 7, ... until the first version above n, then searches between the last version
//! that is there and the first that is not. n is the latest if every version of its ladder up to n is present and every
//! one above n is absent (KEYTRANS, "Binary Ladder").
//!
//! "n present and n + 1 absent" would not do: a DP could show 2 to its owner and 7 to everybody else. The ladders of any
//! n < m force the two to collide: some version that the ladder of m must show present is one that n's ladder showed
//! absent. Those absent versions are the **watch-list** of n. Checked exhaustively in the tests below.

/// The greatest version there can be: one below the number that stands for "any version" in an event.
pub const VERSION_MAX: u32 = u32::MAX - 1;
/// Most steps in a ladder: 32 up and 32 between.
pub const STEPS_MAX: usize = 64;

/// The base ladder: versions to look up to show that `latest` is the greatest version, in order. `None` is a CSI without
/// any version, whose ladder is the single version 0.
pub fn base(latest: Option<u32>) -> Vec<u32> {
    let Some(latest) = latest.map(u64::from) else { return vec![0] };
    let mut ladder = Vec::new();
    // Up: 2^k - 1 until the first above `latest`. A version of 2^32 or more cannot exist and is not looked up.
    let (mut low, mut high) = (0, 0);
    for k in 0..=32u32 {
        let version = (1u64 << k) - 1;
        high = version;
        if version > u64::from(u32::MAX) {
            break;
        }
        ladder.push(version as u32);
        if version > latest {
            break;
        }
        low = version;
    }
    // Between: low is there, high is not.
    while high - low > 1 {
        let middle = (low + high) / 2;
        ladder.push(middle as u32);
        if middle <= latest {
            low = middle;
        } else {
            high = middle;
        }
    }
    ladder
}

/// The versions that must be absent while `latest` is the greatest version.
pub fn watched(latest: Option<u32>) -> Vec<u32> {
    base(latest).into_iter().filter(|v| latest.is_none_or(|n| *v > n)).collect()
}

/// The search ladder for a target version where `greatest` is the greatest: the base ladder of the target up to and with
/// the first inclusion above the target or non-inclusion at or below it.
pub fn search(target: u32, greatest: Option<u32>) -> Vec<(u32, bool)> {
    let mut steps = Vec::new();
    for version in base(Some(target)) {
        let included = greatest.is_some_and(|g| version <= g);
        steps.push((version, included));
        if included == (version > target) {
            break;
        }
    }
    steps
}

/// The monitoring ladder: the base ladder of the target without versions above it.
pub fn monitoring(target: u32) -> Vec<u32> {
    base(Some(target)).into_iter().filter(|v| *v <= target).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn small_ladders() {
        assert_eq!(base(None), [0]);
        assert_eq!(base(Some(0)), [0, 1]);
        assert_eq!(base(Some(1)), [0, 1, 3, 2]);
        assert_eq!(base(Some(2)), [0, 1, 3, 2]);
        assert_eq!(base(Some(4)), [0, 1, 3, 7, 5, 4]);
        assert_eq!(watched(None), [0]);
        assert_eq!(watched(Some(0)), [1]);
        assert_eq!(watched(Some(1)), [3, 2]);
        assert!((0..=15).all(|n| watched(Some(n)).len() <= 5));
    }

    #[test]
    fn the_greatest_versions_end() {
        for n in [i32::MAX as u32 - 1, i32::MAX as u32, u32::MAX - 1, u32::MAX] {
            let ladder = base(Some(n));
            assert!(ladder.len() <= STEPS_MAX && ladder.contains(&n));
        }
    }

    /// What a verifier accepts: every step's presence is on the right side of n.
    fn accepts(n: u32, present: &HashSet<u32>) -> bool {
        base(Some(n)).into_iter().all(|v| present.contains(&v) == (v <= n))
    }

    #[test]
    fn no_greater_version_is_accepted_unless_a_watched_one_appears() {
        // A set of present versions that makes m accepted holds every version of m's ladder up to m. So it suffices that
        // those always include one that n watches; then no set without a watched version makes any m > n accepted.
        for n in (0..300).map(Some).chain([None]) {
            let watched: HashSet<u32> = watched(n).into_iter().collect();
            for m in n.map_or(0, |n| n + 1)..300 {
                let needed: HashSet<u32> = base(Some(m)).into_iter().filter(|v| *v <= m).collect();
                assert!(!needed.is_disjoint(&watched), "{n:?} then {m}");
                // The most generous set without a watched version: everything else. Still refused.
                let all_but_watched: HashSet<u32> = (0..=600).filter(|v| !watched.contains(v)).collect();
                assert!(!accepts(m, &all_but_watched), "{n:?} then {m}");
            }
        }
    }

    #[test]
    fn random_sets_of_present_versions() {
        // The same claim on arbitrary sets, gaps included, through the acceptance rule itself.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut accepted = 0;
        for _ in 0..3000 {
            let size = random() % 40;
            let density = 1 + random() % 100;
            let present: HashSet<u32> = (0..size as u32).filter(|_| random() % 100 < density).collect();
            let accepted_here: Vec<u32> = (0..64).filter(|n| accepts(*n, &present)).collect();
            accepted += accepted_here.len();
            // At one root, with every ladder answered from one set, at most one version is ever accepted.
            assert!(accepted_here.len() <= 1, "{present:?}: {accepted_here:?}");
        }
        assert!(accepted > 0);
    }
}
