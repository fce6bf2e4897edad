//! The operators' listener: is it alive, is it ready, what does it count, which version is it. A listener of its own, so that
//! none of this is anybody else's to read, and so that it answers while the other one is full.
//!
//! ```text
//! GET /livez     200 ok                                                    the process answers; nothing is looked at
//! GET /readyz    200 | 503 {"ready":bool,"reasons":[{"code","detail"}]}    whether to send requests here, and why not
//! GET /metrics   200                                                       Prometheus
//! GET /version   200 {"program","version"}
//! ```

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde::Serialize;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::{
    listen::{self, Connections, Server},
    metrics::Meter,
    problem::{self, Problem},
    tls::TlsFiles,
};

/// Longest that a look at the program's state may take before it counts as not ready: a disk that hangs says nothing.
pub const LOOK_S_MAX: u64 = 2;
/// Media type of the metrics: the text form that Prometheus and OpenMetrics share.
const METRICS_MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why a program is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// For programs; it does not change.
    pub code: &'static str,
    /// For people: what it means and what to do.
    pub detail: String,
}

impl Reason {
    /// A reason.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Looks at the program's state: why it is not ready, nothing if it is. May block on the disk.
pub type Look = Box<dyn Fn() -> Vec<Reason> + Send + Sync>;

/// What the listener tells.
pub struct Operations {
    /// The program's name.
    pub program: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it counts.
    pub meter: Meter,
    /// Whether it is ready.
    pub look: Look,
}

/// The listener, running, or the lack of one.
#[derive(Debug)]
pub struct Running {
    server: Option<Server>,
    stopping: Arc<AtomicBool>,
}

struct App {
    operations: Operations,
    stopping: Arc<AtomicBool>,
    /// One look at a time: those that hang must not pile up.
    looking: Arc<Semaphore>,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<Reason>,
}

#[derive(Serialize)]
struct Version {
    program: &'static str,
    version: &'static str,
}

impl Operations {
    /// Starts the listener, if there is an address for it; beyond loopback only in TLS, like any other.
    ///
    /// # Errors
    /// As [`listen::bind_tls`].
    pub async fn start(self, address: Option<SocketAddr>, tls: Option<&TlsFiles>) -> io::Result<Running> {
        let stopping = Arc::new(AtomicBool::new(false));
        let Some(address) = address else { return Ok(Running { server: None, stopping }) };
        let listener = listen::bind_tls(address, tls).await.map_err(|error| {
            io::Error::new(error.kind(), format!("the operations listener at {address} (`operations`): {error}"))
        })?;
        let looking = Arc::new(Semaphore::new(1));
        let app = Arc::new(App { operations: self, stopping: Arc::clone(&stopping), looking });
        let router = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/version", get(version))
            .with_state(app);
        let server = listen::serve(listener, listen::with_problems(router))?;
        Ok(Running { server: Some(server), stopping })
    }
}

impl Running {
    /// Its URL without a final slash, if it listens.
    pub fn url(&self) -> Option<String> {
        self.server.as_ref().map(Server::url)
    }

    /// From now on not ready: whoever distributes requests sends them elsewhere.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Stops it: last, so that it can be seen that the rest is stopping.
    pub async fn stop(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

/// Counts the connections of a server: `waymark_connections_open`, `waymark_connections_displaced`.
pub fn show_connections(meter: &Meter, connections: Connections) {
    let displaced = connections.clone();
    meter.gauge("connections_open", "Connections that are open", move || Some(connections.open() as f64));
    let read = move || Some(displaced.displaced() as f64);
    meter.gauge("connections_displaced", "Connections that gave way to newer ones since the start", read);
}

/// Does something that may block, alone and not for ever.
async fn look<T: Send + 'static>(app: &Arc<App>, job: impl FnOnce(&Operations) -> T + Send + 'static) -> Option<T> {
    let (app, looking) = (Arc::clone(app), Arc::clone(&app.looking));
    let looked = async move {
        let alone = looking.acquire_owned().await.ok()?;
        let job = spawn_blocking(move || {
            let _alone = alone;
            job(&app.operations)
        });
        job.await.ok()
    };
    timeout(Duration::from_secs(LOOK_S_MAX), looked).await.ok().flatten()
}

async fn ready(State(app): State<Arc<App>>) -> impl IntoResponse {
    let hangs =
        || vec![Reason::new("look-hangs", format!("Its state did not show within {LOOK_S_MAX} s: disk or load."))];
    let mut reasons = look(&app, |operations| (operations.look)()).await.unwrap_or_else(hangs);
    if app.stopping.load(Ordering::SeqCst) {
        reasons.push(Reason::new("stopping", "It was told to stop and finishes what it has in hand."));
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(Readiness { ready: reasons.is_empty(), reasons }))
}

async fn metrics(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Problem> {
    let text = look(&app, |operations| operations.meter.text()).await;
    let text = text.ok_or_else(|| Problem::new(problem::BUSY, "Its state did not show in time: disk or load."))?;
    Ok(([(header::CONTENT_TYPE, METRICS_MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")], text))
}

async fn version(State(app): State<Arc<App>>) -> impl IntoResponse {
    let Operations { program, version, .. } = app.operations;
    Json(Version { program, version })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::fetch::Fetcher;

    async fn start(look: Look) -> (Running, String) {
        let operations = Operations { program: "waymark-test", version: "1", meter: Meter::default(), look };
        let running = operations.start(Some("127.0.0.1:0".parse().unwrap()), None).await.unwrap();
        let url = running.url().unwrap();
        (running, url)
    }

    async fn get(url: &str) -> (u16, String) {
        let answer = Fetcher::default().get(url, 1 << 16).await.unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    #[tokio::test]
    async fn whoever_stops_is_not_ready_and_says_so() {
        let (running, url) = start(Box::new(Vec::new)).await;
        let ready = format!("{url}/readyz");
        assert_eq!(get(&ready).await, (200, "{\"ready\":true,\"reasons\":[]}".to_owned()));
        running.set_stopping();
        let (status, body) = get(&ready).await;
        assert!(status == 503 && body.contains("\"ready\":false") && body.contains("\"code\":\"stopping\""), "{body}");
        assert_eq!(get(&format!("{url}/livez")).await, (200, "ok\n".to_owned()));
        assert_eq!(get(&format!("{url}/")).await.0, 404);
        running.stop().await;
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_a_reason_and_hangs_nobody_else() {
        let (go, hang) = mpsc::channel::<()>();
        let hang = std::sync::Mutex::new(hang);
        let (running, url) = start(Box::new(move || {
            let _ = hang.lock().unwrap().recv();
            Vec::new()
        }))
        .await;
        for _ in 0..2 {
            let (status, body) = get(&format!("{url}/readyz")).await;
            assert!(status == 503 && body.contains("look-hangs"), "{body}");
        }
        assert_eq!(get(&format!("{url}/livez")).await.0, 200);
        assert_eq!(get(&format!("{url}/metrics")).await.0, 503);
        drop(go);
        assert_eq!(get(&format!("{url}/readyz")).await.0, 200);
        running.stop().await;
    }

    #[tokio::test]
    async fn operators_are_told_in_the_clear_on_loopback_only() {
        let operations = Operations { program: "x", version: "1", meter: Meter::default(), look: Box::new(Vec::new) };
        let refused = operations.start(Some("0.0.0.0:0".parse().unwrap()), None).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(refused.to_string().contains("`operations`"), "{refused}");
    }
}
