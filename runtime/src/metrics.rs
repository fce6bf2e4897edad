//! Counters and gauges for operators, in Prometheus's text form. Nobody can be found in them.
//!
//! A [`Meter`] is handed to each part, which registers what it counts where it counts it:
//!
//! ```
//! let meter = waymark_runtime::metrics::Meter::default();
//! let sent = meter.counters("codes", "Codes sent, by channel", "channel");
//! sent.add("sms");
//! assert!(meter.text().contains("waymark_codes_total{channel=\"sms\"} 1"));
//! ```
//!
//! That labels are few and hold no identifier is the types' doing: what is counted is told apart by words of the program's own
//! text (`&'static str`), and what is read when somebody looks is cut at [`SERIES_MAX`].

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    middleware,
    response::Response,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::problem::Kind;

/// Most series of one name among those that are read when somebody looks; what is beyond is left out.
pub const SERIES_MAX: usize = 100;
/// Every name begins with it.
const PREFIX: &str = "waymark";
/// Bounds of the buckets for durations, in seconds: a good disk syncs in the first, a witness far away answers before the last.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// All metrics of one program. Clones share them.
#[derive(Clone, Debug)]
pub struct Meter(Arc<Mutex<Registry>>);

impl Default for Meter {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix(PREFIX))))
    }
}

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Count(Counter);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.inc();
    }
}

/// Numbers that only grow, told apart by one word.
#[derive(Clone, Debug)]
pub struct Counts {
    label: &'static str,
    family: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Counts {
    /// One more of these.
    pub fn add(&self, word: &'static str) {
        self.family.get_or_create(&[(self.label, word)]).inc();
    }
}

/// How long something takes.
#[derive(Clone, Debug)]
pub struct Durations(Histogram);

impl Durations {
    /// It took this long once more.
    pub fn add(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

#[derive(Clone, Copy)]
struct Word(&'static str);

/// An answer whose [`outcome`] is this word: its status does not say how it went.
pub fn counted_as(word: &'static str, mut response: Response) -> Response {
    response.extensions_mut().insert(Word(word));
    response
}

/// How a request ended: the word of [`counted_as`], or the code of its problem; `None` if it ended well without a word.
pub fn outcome(response: &Response) -> Option<&'static str> {
    let extensions = response.extensions();
    let said = extensions.get::<Word>().map(|word| word.0);
    said.or_else(|| extensions.get::<Kind>().map(|kind| kind.code))
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    status: u16,
}

impl Meter {
    fn with<T>(&self, job: impl FnOnce(&mut Registry) -> T) -> T {
        job(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `waymark_NAME_total`.
    pub fn count(&self, name: &str, help: &str) -> Count {
        let count = Count::default();
        self.with(|r| r.register(name, help, count.0.clone()));
        count
    }

    /// `waymark_NAME_total{LABEL="…"}`.
    pub fn counters(&self, name: &str, help: &str, label: &'static str) -> Counts {
        let family = Family::default();
        self.with(|r| r.register(name, help, family.clone()));
        Counts { label, family }
    }

    /// `waymark_NAME`, a histogram; the name ends in `_seconds`.
    pub fn durations(&self, name: &str, help: &str) -> Durations {
        let histogram = Histogram::new(SECONDS);
        self.with(|r| r.register(name, help, histogram.clone()));
        Durations(histogram)
    }

    /// `waymark_NAME`, read whenever somebody looks; left out while there is no value. `read` may block.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        let read = Box::new(move || read().map(|value| (String::new(), value)).into_iter().collect());
        self.with(|r| r.register_collector(Box::new(Gauges { name, help, label: None, read })));
    }

    /// `waymark_NAME{LABEL="…"}`, read whenever somebody looks: the words come from the configuration, never from a request,
    /// and at most [`SERIES_MAX`] are shown. `read` may block.
    pub fn gauges(
        &self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(String, f64)> + Send + Sync + 'static,
    ) {
        self.with(|r| r.register_collector(Box::new(Gauges { name, help, label: Some(label), read: Box::new(read) })));
    }

    /// Has every request of a router counted as `waymark_http_requests_total{route="…",status="…"}`. The route is the
    /// template, and `other` for a path that there is not: what a client wrote is no label.
    pub fn count_requests(&self, router: Router) -> Router {
        let family: Family<RouteLabels, Counter> = Family::default();
        self.with(|r| r.register("http_requests", "HTTP requests answered", family.clone()));
        router.layer(middleware::from_fn(
            move |route: Option<MatchedPath>, request: Request, next: middleware::Next| {
                let family = family.clone();
                async move {
                    let route = route.map_or_else(|| "other".to_owned(), |r| r.as_str().to_owned());
                    let response = next.run(request).await;
                    family.get_or_create(&RouteLabels { route, status: response.status().as_u16() }).inc();
                    response
                }
            },
        ))
    }

    /// All of them, as text.
    pub fn text(&self) -> String {
        let mut written = String::new();
        // Writing into a string does not fail.
        let _ = self.with(|r| text::encode(&mut written, r));
        written
    }
}

/// Gauges that are read whenever somebody looks.
struct Gauges {
    name: &'static str,
    help: &'static str,
    label: Option<&'static str>,
    read: Box<dyn Fn() -> Vec<(String, f64)> + Send + Sync>,
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut described = encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?;
        for (word, value) in (self.read)().into_iter().take(SERIES_MAX) {
            match self.label {
                Some(label) => described.encode_family(&[(label, word)])?.encode_gauge(&value)?,
                None => described.encode_gauge(&value)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_and_read_is_shown() {
        let meter = Meter::default();
        meter.count("starts", "Starts").add();
        let outcomes = meter.counters("changes", "Changes", "outcome");
        outcomes.add("published");
        outcomes.add("published");
        meter.durations("commit_seconds", "Commits").add(Duration::from_millis(3));
        meter.gauge("size", "Size", || Some(7.0));
        meter.gauge("age_seconds", "Age", || None);
        meter.gauges("sizes", "Sizes", "log", || (0..2 * SERIES_MAX).map(|i| (format!("log {i}"), i as f64)).collect());
        let text = meter.text();
        for line in [
            "waymark_starts_total 1",
            "waymark_changes_total{outcome=\"published\"} 2",
            "waymark_commit_seconds_bucket{le=\"0.0025\"} 0",
            "waymark_commit_seconds_bucket{le=\"0.005\"} 1",
            "waymark_size 7.0",
            "waymark_sizes{log=\"log 1\"} 1.0",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in {text}");
        }
        assert!(!text.lines().any(|l| l.starts_with("waymark_age_seconds")));
        assert_eq!(text.lines().filter(|l| l.starts_with("waymark_sizes{")).count(), SERIES_MAX);
    }
}
