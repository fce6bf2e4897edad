//! POST /v1/imports: many changes of an MSP's own users at once, each signed by its recipient, each judged by itself.
//!
//! The MSP is a carrier: it has no more say in a change than anybody who carries an envelope. What it may carry is changes
//! all of whose added mappings name it. They go through the rules of `/v1/changes`, into the same pool, and are answered
//! item by item when they are published; so nothing is reported that a crash could take back.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request, State},
    http::{Response, StatusCode},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout},
};
use waymark_mapping::{entry::ProviderRole, names::Domain, wire::decode};
use waymark_runtime::{
    listen::{Capped, Peer},
    problem::{self, Problem},
};

use super::{
    App,
    changes::{RECEIPT_S_MAX, enqueue, outcome_by},
    error::{self, OTHER_MSP, VERSION_STALE},
    v1::json,
};
use crate::{
    api::{
        CHANGE_BYTES_MAX, ChangeRequest, IMPORT_BYTES_MAX, IMPORT_MEDIA_TYPE, ImportAnswer, ImportOutcome, split_import,
    },
    sequencer::pool::{Place, Ticket},
};

/// Most imports in work at a time: with the largest, three quarters of the pool are left to apps that come by themselves.
pub const IMPORTS_MAX: usize = 2;
/// Longest that an import waits for a place: most others are over by then.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The places for imports: one for each MSP, in the order in which they come. So no MSP keeps the others out. An import keeps
/// its place until the last of its changes has left the pool, whatever its client does: so imports fill no more than their
/// share of it.
pub(super) struct ImportPlaces {
    places: Arc<Semaphore>,
    wait_max: Duration,
    msps: Mutex<HashSet<Domain>>,
}

/// An MSP's place. Dropping it gives it back.
struct ImportPlace {
    _turn: Turn,
    _permit: OwnedSemaphorePermit,
}

/// An MSP that has a place or waits for one.
struct Turn {
    places: Arc<ImportPlaces>,
    msp: Domain,
}

impl Default for ImportPlaces {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(IMPORTS_MAX)), wait_max: WAIT_MAX, msps: Mutex::default() }
    }
}

impl ImportPlaces {
    async fn take(self: &Arc<Self>, msp: &Domain) -> Result<ImportPlace, Problem> {
        let busy = |what| Problem::new(problem::BUSY, what);
        if !self.msps.lock().unwrap_or_else(PoisonError::into_inner).insert(msp.clone()) {
            return Err(busy("An import of this provider is in work, or waits for the log."));
        }
        let turn = Turn { places: Arc::clone(self), msp: msp.clone() };
        let permit = timeout(self.wait_max, Arc::clone(&self.places).acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok(ImportPlace { _turn: turn, _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(busy("As many imports are in work as may be at a time.")),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.places.msps.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.msp);
    }
}

/// POST /v1/imports
pub async fn import(
    State(app): State<Arc<App>>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let headers = request.headers().clone();
    problem::check_media_type(&headers, IMPORT_MEDIA_TYPE)?;
    // Before the body: nobody else is to make us read so much.
    let caller = app.authenticate_provider(peer.ip(), &headers, request.uri(), ProviderRole::MSP);
    let caller = caller.or_else(|refused| app.count_request(peer.ip()).and(Err(refused)))?;
    let place = app.import_places.take(&caller.domain).await.map_err(|busy| busy.retry_after(app.room_in_s()))?;
    let place: Place = Arc::new(place);
    app.take_nonce(&caller)?;
    let Capped::<IMPORT_BYTES_MAX>(body) = Capped::from_request(request, &()).await?;
    caller.check_body(&body).map_err(error::request_signature)?;
    let items = split_import(&body)
        .ok_or_else(|| Problem::new(problem::MALFORMED, "The body is 1 to 512 items behind their lengths."))?;
    let turn = app.replays.enter(&headers, "/v1/imports", caller.domain.as_str().as_bytes(), &body, app.clock.now())?;
    let items = items.into_iter().map(|item| body.slice_ref(item)).collect();
    let answer = carry_out(&app, &caller.domain, items, &place).await;
    Ok(turn.tell(answer.map(|answer| json(StatusCode::OK, &answer))))
}

/// What becomes of each item. Items that were imported before are found to be published, not made again.
async fn carry_out(app: &Arc<App>, msp: &Domain, items: Vec<Bytes>, place: &Place) -> Result<ImportAnswer, Problem> {
    let judged = judge_all(app, msp, items, place).await?;
    let deadline = Instant::now() + Duration::from_secs(RECEIPT_S_MAX);
    let mut answer = ImportAnswer { items: Vec::with_capacity(judged.len()) };
    for item in judged {
        answer.items.push(settle(item, deadline).await);
    }
    Ok(answer)
}

/// One item after the rules.
enum Judged {
    /// Nothing more happens to it.
    Over(ImportOutcome),
    /// It will make this version.
    Queued(Ticket, u32),
}

/// Judges items on all cores: each takes signatures and VRF proofs, some milliseconds of one core in all.
/// The work ends though the client goes away: each part of it holds the place.
async fn judge_all(app: &Arc<App>, msp: &Domain, items: Vec<Bytes>, place: &Place) -> Result<Vec<Judged>, Problem> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work: Vec<_> = items
        .chunks(items.len().div_ceil(cores))
        .map(|chunk| {
            let (app, msp, chunk, place) = (Arc::clone(app), msp.clone(), chunk.to_vec(), Arc::clone(place));
            spawn_blocking(move || chunk.iter().map(|item| judge(&app, &msp, item, &place)).collect::<Vec<_>>())
        })
        .collect();
    let mut judged = Vec::with_capacity(items.len());
    for part in work {
        judged.extend(part.await.map_err(|e| error::internal(&e))?);
    }
    Ok(judged)
}

fn judge(app: &App, msp: &Domain, item: &[u8], place: &Place) -> Judged {
    let refused = |problem: &Problem| Judged::Over(outcome_of(problem));
    let request = match decode::<ChangeRequest>("change", item) {
        Ok(request) if item.len() <= CHANGE_BYTES_MAX => request,
        Ok(_) => return refused(&Problem::new(problem::MALFORMED, "")),
        Err(e) => return refused(&error::undecoded(&e)),
    };
    // "An MSP may import only changes all of whose added mappings name it."
    let names_it = !request.added.is_empty() && request.added.iter().all(|m| m.msp.get().as_ref() == Some(msp));
    if !names_it {
        return refused(&Problem::new(OTHER_MSP, ""));
    }
    let version = request.event.tbs.version;
    match enqueue(app, &request, *blake3::hash(item).as_bytes(), false, place) {
        Ok(Some(ticket)) => Judged::Queued(ticket, version),
        Ok(None) => Judged::Over(ImportOutcome::Published { version }),
        // A later version stands, but this event has made its own: it was imported before, and life went on.
        Err(problem) if problem.kind() == VERSION_STALE && app.answering.is_made_by(&request.event) => {
            Judged::Over(ImportOutcome::Published { version })
        }
        Err(problem) => refused(&problem),
    }
}

/// Waits until a change is published, till the deadline of the whole import.
async fn settle(item: Judged, deadline: Instant) -> ImportOutcome {
    let (ticket, version) = match item {
        Judged::Over(outcome) => return outcome,
        Judged::Queued(ticket, version) => (ticket, version),
    };
    match error::waited(outcome_by(ticket, deadline).await) {
        None => ImportOutcome::Published { version },
        Some(problem) => outcome_of(&problem),
    }
}

/// What passes by itself is to be sent again; the rest is the item's own fault. What was overtaken is judged anew when it comes
/// again, by what is published then, and is told its own fault if it has one.
fn outcome_of(problem: &Problem) -> ImportOutcome {
    let kind = problem.kind();
    let code = kind.code.to_owned();
    if kind.status >= 500 || kind == error::CHANGE_IN_FLIGHT || kind == error::OVERTAKEN {
        ImportOutcome::Again { code }
    } else {
        ImportOutcome::Refused { code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_msp_that_imports_without_end_keeps_no_other_msp_out() {
        let places = Arc::new(ImportPlaces { wait_max: Duration::from_millis(200), ..ImportPlaces::default() });
        let msp = |i: usize| Domain::parse(&format!("m{i}.example")).unwrap();
        let first = places.take(&msp(0)).await.unwrap();
        assert_eq!(places.take(&msp(0)).await.err().unwrap().kind(), problem::BUSY, "its second");
        let second = places.take(&msp(1)).await.unwrap();
        assert_eq!(places.take(&msp(2)).await.err().unwrap().kind(), problem::BUSY, "none was free in time");
        // Those who wait come before those who ask again.
        let (third, msp2) = (msp(2), &msp(2));
        let waits = async {
            let taken = places.take(msp2).await;
            assert!(places.msps.lock().unwrap().contains(&third));
            taken
        };
        let ends = async {
            tokio::task::yield_now().await;
            drop(first);
            places.take(&msp(0)).await
        };
        let (third, again) = tokio::join!(waits, ends);
        assert!(third.is_ok() && again.is_err());
        drop((second, third));
        assert!(places.take(&msp(0)).await.is_ok());
    }
}
