//! Look-ups for an MSP's users: the DP sees the MSP ask, and neither who nor from where; the MSP sees both, and the user's
//! app verifies the answer as if it had asked itself.
//!
//! What goes on is the identifier and the tag, written anew, under the MSP's own signature and over connections that all
//! users share. Nothing that the user sent goes on as it came: no header, no spelling, no order.

use waymark_log::{
    checkpoint::Origin,
    key::{Key, SecretKey},
    time::UnixMillis,
};
use waymark_mapping::{identifier::Csi, names::Tag};
use waymark_runtime::{
    budget::Budget,
    fetch::Fetched,
    problem::{self, Kind, Problem},
};

use crate::{
    api::{LookupRequest, read_object},
    client::provider::ProviderClient,
    http::error::OTHER_LOG,
};

/// Look-ups a day for each user, unless said otherwise.
pub const LOOKUPS_PER_DAY_DEFAULT: u32 = 200;
/// Least look-ups a day that a user is to have, by the directory's promise.
pub const LOOKUPS_PER_DAY_MIN: u32 = 50;
/// The window that they are counted in: UTC days.
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Most users that are counted, some 50 bytes each.
const USERS_MAX: usize = 1_000_000;

/// The DP does not answer, or not to this provider.
pub const DP_UNREACHABLE: Kind = Kind::new(503, "dp-unreachable", "The directory does not answer this provider");

/// The relay of one MSP to one DP.
pub struct Relay {
    dp: ProviderClient,
    /// Of the DP's log.
    origin: Origin,
    budget: Budget<Key>,
}

impl Relay {
    /// A relay to the DP with this log that serves each user so often a day.
    pub fn new(dp: ProviderClient, origin: Origin, lookups_per_day: u32) -> Self {
        Self { dp, origin, budget: Budget::new(DAY_MS, lookups_per_day.max(LOOKUPS_PER_DAY_MIN), USERS_MAX) }
    }

    /// Looks up for a user: what the DP answers, unchanged.
    ///
    /// # Errors
    /// A problem: over budget, not a look-up, or no answer.
    pub async fn look_up(
        &self,
        user: Key,
        body: &[u8],
        secret: &SecretKey,
        now: UnixMillis,
    ) -> Result<Fetched, Problem> {
        let request =
            parse(body).ok_or_else(|| Problem::new(problem::MALFORMED, "Send log, a canonical csi, and a tag."))?;
        if request.log != self.origin.as_str() {
            return Err(Problem::new(
                OTHER_LOG,
                "This provider relays to one log, the one that requests are signed for.",
            ));
        }
        self.budget.count(user, now).map_err(|wait| {
            Problem::new(problem::TOO_MANY, "So many look-ups a day are relayed for one app.").retry_after(wait)
        })?;
        let unreachable = || Problem::new(DP_UNREACHABLE, "Try again in a while.").retry_after(5);
        let answer = self.dp.relay(secret, &request).await.map_err(|error| {
            tracing::warn!(%error, "a look-up could not be relayed");
            unreachable()
        })?;
        // The DP does not take us: that is between the two of us.
        if answer.status == 401 {
            tracing::error!("the directory refuses this provider's key");
            return Err(unreachable());
        }
        Ok(answer)
    }
}

/// A look-up that the DP would take, or none: the DP is not to see what else a user may have written.
fn parse(body: &[u8]) -> Option<LookupRequest> {
    let request: LookupRequest = read_object(body).ok()?;
    let csi = Csi::parse(&request.csi).ok()?.expose().to_owned();
    let (log, full) = (request.log, request.full);
    let tag = match request.tag {
        None => None,
        Some(tag) => Some(Tag::parse(&tag)?.expose().to_owned()),
    };
    Some(LookupRequest { log, csi, tag, full })
}

#[cfg(test)]
mod tests {
    use waymark_mapping::names::Domain;
    use waymark_runtime::{clock::Clock, fetch::Fetcher};

    use super::*;

    #[tokio::test]
    async fn a_question_for_another_log_is_not_carried_to_this_one() {
        let (origin, secret) = (Origin::new("dp.example/log").unwrap(), SecretKey::from_seed(&[1; 32]));
        let domain = Domain::parse("chat.example").unwrap();
        // Nobody listens there: what is carried on is unreachable.
        let dp = ProviderClient::new(Fetcher::default(), "http://127.0.0.1:1", origin.clone(), Clock::System, domain);
        let relay = Relay::new(dp, origin, LOOKUPS_PER_DAY_DEFAULT);
        let ask = async |body: &str| {
            let now = UnixMillis::new(1);
            relay.look_up(secret.public(), body.as_bytes(), &secret, now).await.unwrap_err().kind()
        };
        let csi = r#""csi":"tel:+4915112345642""#;
        assert_eq!(ask(&format!(r#"{{"log":"other.example/log",{csi}}}"#)).await, OTHER_LOG);
        assert_eq!(ask(&format!("{{{csi}}}")).await, problem::MALFORMED);
        assert_eq!(ask(&format!(r#"{{"log":"dp.example/log",{csi}}}"#)).await, DP_UNREACHABLE);
    }
}
