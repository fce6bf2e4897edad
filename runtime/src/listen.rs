//! An HTTP/1 server with a limit on everything.
//!
//! axum's stock accept loop sets no deadline for request headers, and hyper-util's automatic builder never closes a
//! connection that sends nothing. So: HTTP/1 only, a header deadline, caps on connections, header bytes and bodies. HTTP/2
//! and TLS belong to a proxy in front; without TLS nothing listens beyond loopback.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tower::ServiceExt;

use crate::problem::{self, Problem};

/// Longest a client may take to send a request's headers, or be idle before them.
pub const HEADER_S_MAX: u64 = 10;
/// Longest a client may take to send a body.
pub const BODY_S_MAX: u64 = 10;
/// Most bytes of headers. hyper answers 431 beyond.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Most headers in a request.
pub const HEADERS_MAX: usize = 64;
/// Longest that open connections may take to finish when the server stops.
pub const GRACE_S_MAX: u64 = 2;
/// Most connections at a time; the next waits in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 1024;

/// The address of the client, as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A server that is running. Dropping it does not stop it; [`Server::stop`] does.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL without a final slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops taking connections, and waits until those that are open have finished the request in hand, for
    /// [`GRACE_S_MAX`] seconds at most.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Binds an address, which must be loopback as long as there is no TLS.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] beyond loopback; else what binding said.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let what = format!("{address} is beyond loopback, and this version has no TLS: put a TLS proxy in front");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    TcpListener::bind(address).await
}

/// Serves a router until it is stopped. What answers an unknown path or method is the router's own affair; see
/// [`with_problems`].
///
/// # Errors
/// If the listener has no address.
pub fn serve(listener: TcpListener, router: Router) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(accept(listener, router, stopped));
    Ok(Server { address, stop, task })
}

/// A router whose unknown paths and methods are problems like any other error.
pub fn with_problems(router: Router) -> Router {
    router.fallback(problem::unknown_route).method_not_allowed_fallback(problem::unknown_method)
}

async fn accept(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => break,
            accepted = next(&listener, &slots) => accepted,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let service = router.clone().map_request(move |mut request: Request<Incoming>| {
            tracing::trace!(method = %request.method(), uri = %request.uri(), "request");
            request.extensions_mut().insert(Peer(peer));
            request.map(Body::new)
        });
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(HEADER_S_MAX))
                .max_buf_size(HEADER_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(Duration::from_secs(GRACE_S_MAX), connection).await;
                }
            }
        });
    }
    // Every connection holds a slot until it is done; having them all means that none is open.
    let all = slots.acquire_many(CONNECTIONS_MAX as u32);
    let _ = tokio::time::timeout(Duration::from_secs(GRACE_S_MAX + 1), all).await;
}

/// Takes a connection slot, then a connection.
async fn next(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            // Out of file descriptors, say. Waiting a little beats spinning.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// A request's body: at most `BYTES_MAX` bytes, within [`BODY_S_MAX`] seconds.
#[derive(Debug)]
pub struct Capped<const BYTES_MAX: usize>(pub Bytes);

impl<S: Sync, const BYTES_MAX: usize> FromRequest<S> for Capped<BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let body = Limited::new(request.into_body(), BYTES_MAX).collect();
        match tokio::time::timeout(Duration::from_secs(BODY_S_MAX), body).await {
            Ok(Ok(collected)) => Ok(Self(collected.to_bytes())),
            Ok(Err(e)) if e.is::<LengthLimitError>() => {
                Err(Problem::new(problem::BODY_TOO_LARGE, format!("At most {BYTES_MAX} bytes are taken here.")))
            }
            Ok(Err(_)) => Err(Problem::new(problem::BODY_UNREADABLE, "The connection broke off.")),
            Err(_) => Err(Problem::new(problem::TOO_SLOW, format!("A body must arrive within {BODY_S_MAX} s."))),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    async fn server() -> Server {
        let router = Router::new().route("/echo", post(|Capped(body): Capped<16>| async move { body }));
        serve(bind("127.0.0.1:0".parse().unwrap()).await.unwrap(), with_problems(router)).unwrap()
    }

    async fn talk(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn the_frameworks_own_errors_are_problems_too() {
        let server = server().await;
        let request = |line: &str, body: &str| {
            format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let ok = talk(server.address(), &request("POST /echo", "hello")).await;
        assert!(ok.starts_with("HTTP/1.1 200") && ok.ends_with("hello"), "{ok}");
        for (line, body, status, code) in [
            ("POST /nothing", "", 404, "route-unknown"),
            ("GET /echo", "", 405, "method-not-allowed"),
            ("POST /echo", "12345678901234567", 413, "body-too-large"),
        ] {
            let answer = talk(server.address(), &request(line, body)).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
            assert!(answer.contains("application/problem+json") && answer.contains(code), "{answer}");
        }
        server.stop().await;
    }

    #[tokio::test]
    async fn nothing_listens_beyond_loopback() {
        let error = bind("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_closed() {
        let server = server().await;
        for first in ["", "P", "POST /echo HTTP/1.1\r\nHost: x\r\n"] {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            stream.write_all(first.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(HEADER_S_MAX + 5), stream.read_to_end(&mut answer));
            assert!(closed.await.is_ok(), "still open after {first:?}");
        }
        server.stop().await;
    }
}
