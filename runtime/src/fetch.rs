//! An HTTP client with a limit on everything: time, bytes, no redirects, no compression.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, redirect};

use crate::listen::HEADER_S_MAX;

/// Longest a request may take, answer included, unless said otherwise.
pub const REQUEST_S_MAX: u64 = 10;

/// Longest a connection is kept without a request on it. Our servers close theirs after [`HEADER_S_MAX`]; whoever sent a request
/// at that moment would lose it, and not know whether it was heard.
pub const IDLE_S_MAX: u64 = 4;
const _: () = assert!(IDLE_S_MAX * 2 < HEADER_S_MAX);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or it broke off, or it took too long.
    #[error("{what} at {host}")]
    Network {
        /// The host, never the whole URL.
        host: String,
        /// What happened.
        what: &'static str,
    },
    /// The answer is over its cap.
    #[error("the answer of {host} is over {bytes_max} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The cap.
        bytes_max: usize,
    },
    /// Not a URL that can be fetched.
    #[error("not an http URL")]
    Url,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// The media type, without parameters.
    pub media_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Fetched {
    /// Whether the status is in the two hundreds.
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

/// The client. Cloning shares its connections.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new(Duration::from_secs(REQUEST_S_MAX))
    }
}

impl Fetcher {
    /// A client whose requests may take this long.
    ///
    /// # Panics
    /// If the system's resolver cannot be set up.
    pub fn new(longest: Duration) -> Self {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(longest)
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(Duration::from_secs(IDLE_S_MAX))
            .pool_max_idle_per_host(512)
            .tcp_nodelay(true)
            .build();
        Self { client: client.expect("a client without TLS needs nothing that can be missing") }
    }

    /// GET.
    ///
    /// # Errors
    /// [`FetchError`]; a status is not an error.
    pub async fn get(&self, url: &str, bytes_max: usize) -> Result<Fetched, FetchError> {
        self.send(self.client.get(url), bytes_max).await
    }

    /// POST with a media type and headers.
    ///
    /// # Errors
    /// [`FetchError`]; a status is not an error.
    pub async fn post(
        &self,
        url: &str,
        media_type: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Fetched, FetchError> {
        let mut request = self.client.post(url).header("content-type", media_type).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.send(request, bytes_max).await
    }

    async fn send(&self, request: RequestBuilder, bytes_max: usize) -> Result<Fetched, FetchError> {
        let request = request.build().map_err(|_| FetchError::Url)?;
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let host = request.url().port().map_or(host.clone(), |port| format!("{host}:{port}"));
        let response = self.client.execute(request).await.map_err(|e| network(&host, &e))?;
        let media_type = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let status = response.status().as_u16();
        let body = read(response, &host, bytes_max).await?;
        Ok(Fetched { status, media_type, body })
    }
}

async fn read(mut response: Response, host: &str, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| network(host, &e))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(FetchError::TooLarge { host: host.to_owned(), bytes_max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn network(host: &str, error: &reqwest::Error) -> FetchError {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke off"
    };
    FetchError::Network { host: host.to_owned(), what }
}
