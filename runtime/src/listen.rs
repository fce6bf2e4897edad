//! An HTTP/1 server with a limit on everything.
//!
//! axum's stock accept loop sets no deadline for request headers, and hyper-util's automatic builder never closes a
//! connection that sends nothing. So: HTTP/1 only, a deadline for each thing that we wait for, caps on connections, header
//! bytes and bodies, and a rule who gives way when connections run out (`slots`). HTTP/2 belongs to a proxy in front.
//! Beyond loopback nothing listens without TLS.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{Sleep, sleep, timeout},
};
use tower::ServiceExt;

use crate::{
    problem::{self, Problem},
    process,
    proxies::{NoAddress, Proxies},
    slots::{Slot, Slots, Turn},
    tls::{Tls, TlsFiles},
};

/// Longest a client may take for a TLS handshake: three round trips of a second.
pub const HANDSHAKE_S_MAX: u64 = 3;
/// Longest a client may take to send a request's headers, or be idle before them.
pub const HEADER_S_MAX: u64 = 5;
/// Longest a client may take to send a body: the largest, 64 KiB, over a line of 100 kbit/s.
pub const BODY_S_MAX: u64 = 6;
/// Longest from the connection to the end of its first request, whatever the client does.
const ARRIVAL_S_MAX: u64 = 15;
const _: () = assert!(HANDSHAKE_S_MAX + HEADER_S_MAX + BODY_S_MAX < ARRIVAL_S_MAX);
/// Longest a client may leave what we send unread.
pub const WRITE_S_MAX: u64 = 10;
/// Most bytes of headers. hyper answers 431 beyond.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Most headers in a request.
pub const HEADERS_MAX: usize = 64;
/// Longest that requests in hand may take to finish when the server stops: a change waits for a batch and its witnesses.
pub const GRACE_S_MAX: u64 = 5;
/// Most connections at a time: each may hold headers and the largest body, 80 KiB together, so 320 MiB in all. Fewer if the
/// process may not have twice as many file descriptors: half of those are kept, so that stores and our own requests never
/// lack one.
pub const CONNECTIONS_MAX: usize = 4096;

/// Most connections in the kernel's queue before they are accepted; the system may allow fewer. Where the queue is full, some
/// systems let a client believe that it is connected, and nobody here knows of it.
const QUEUE_MAX: u32 = 4096;

/// Whose request it is, as an extension of each request: the address that [`Proxies::client`] gives, and the port of
/// the connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A bound address, with what its connections need.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Tls>,
    proxies: Proxies,
}

impl Listener {
    /// The same behind these proxies. Without it none is believed.
    #[must_use]
    pub fn behind(self, proxies: Proxies) -> Self {
        Self { proxies, ..self }
    }

    /// Its address as a URL without a final slash.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.tcp.local_addr()?))
    }
}

/// A server that is running. [`Server::stop`] stops it; dropping it does too, and waits for nobody.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    connections: Connections,
}

/// How many connections a server has: for metrics.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Slots>);

impl Connections {
    /// That are open.
    pub fn open(&self) -> usize {
        self.0.taken()
    }

    /// That had to give way to newer ones so far.
    pub fn displaced(&self) -> u64 {
        self.0.displaced()
    }
}

impl Server {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL without a final slash.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Its connections.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Stops taking connections, closes the idle ones, and waits until the others have finished the request in hand, for
    /// [`GRACE_S_MAX`] seconds at most.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Binds an address without TLS, which must be loopback.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] beyond loopback; else what binding said.
pub async fn bind(address: SocketAddr) -> io::Result<Listener> {
    bind_tls(address, None).await
}

/// Binds an address, with TLS if there are files for it.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] beyond loopback without TLS; [`io::ErrorKind::InvalidInput`] if certificate or key
/// cannot be used; else what binding said.
pub async fn bind_tls(address: SocketAddr, files: Option<&TlsFiles>) -> io::Result<Listener> {
    // MIMI discovery requirements, R7: all data of a discovery request is encrypted in transit.
    if files.is_none() && !is_loopback(address.ip()) {
        let what = format!(
            "{address} is beyond loopback, and nothing is served there in the clear: name `cert` and `key` in the table \
             [tls] of the configuration (or --tls-cert and --tls-key), or listen on loopback behind a proxy"
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let tls = files.map(Tls::load).transpose().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart need not wait until the last connections of the run before are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(Listener { tcp: socket.listen(QUEUE_MAX)?, tls, proxies: Proxies::default() })
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Serves a router until it is stopped. What answers an unknown path or method is the router's own affair; see
/// [`with_problems`].
///
/// # Errors
/// If the listener has no address.
pub fn serve(listener: Listener, router: Router) -> io::Result<Server> {
    let descriptors = usize::try_from(process::descriptors_max() / 2).unwrap_or(usize::MAX);
    serve_slots(listener, router, Slots::new(descriptors.min(CONNECTIONS_MAX)))
}

/// [`serve`] with these slots.
fn serve_slots(listener: Listener, router: Router, slots: Arc<Slots>) -> io::Result<Server> {
    let address = listener.tcp.local_addr()?;
    let scheme = if listener.tls.is_some() { "https" } else { "http" };
    let (stop, stopped) = watch::channel(false);
    let connections = Connections(Arc::clone(&slots));
    let task = tokio::spawn(accept(listener, router, slots, stopped));
    Ok(Server { address, scheme, stop, task, connections })
}

/// A router whose unknown paths and methods are problems like any other error.
pub fn with_problems(router: Router) -> Router {
    router.fallback(problem::unknown_route).method_not_allowed_fallback(problem::unknown_method)
}

async fn accept(listener: Listener, router: Router, slots: Arc<Slots>, mut stopped: watch::Receiver<bool>) {
    loop {
        let taken = tokio::select! {
            () = told_to_stop(&mut stopped) => break,
            taken = next(&listener, &slots) => taken,
        };
        let Some((stream, peer, slot)) = taken else { continue };
        let (tls, mut stopped) = (listener.tls.clone(), stopped.clone());
        let line = Line { router: router.clone(), proxies: listener.proxies.clone(), peer, turn: slot.turn() };
        tokio::spawn(async move {
            tokio::select! {
                () = slot.displaced() => {}
                () = converse(stream, tls, line, &mut stopped) => {}
            }
        });
    }
    slots.drained(Duration::from_secs(GRACE_S_MAX + 1)).await;
}

/// Ends when the server is stopped, or dropped.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Takes a connection and a slot for it.
async fn next(listener: &Listener, slots: &Arc<Slots>) -> Option<(TcpStream, SocketAddr, Slot)> {
    match listener.tcp.accept().await {
        Ok((stream, peer)) => {
            let _ = stream.set_nodelay(true);
            let is_proxy = listener.proxies.is_trusted(peer.ip());
            Some((stream, peer, slots.take(peer.ip(), is_proxy).await?))
        }
        Err(error) => {
            // Out of file descriptors, say. Waiting a little beats spinning.
            tracing::warn!(%error, "a connection could not be accepted");
            sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// What the requests of one connection have in common.
#[derive(Clone)]
struct Line {
    router: Router,
    proxies: Proxies,
    peer: SocketAddr,
    turn: Turn,
}

/// One connection, from the handshake to its end.
async fn converse(stream: TcpStream, tls: Option<Tls>, line: Line, stopped: &mut watch::Receiver<bool>) {
    let Some(tls) = tls else { return requests(stream, line, stopped).await };
    let handshake = timeout(Duration::from_secs(HANDSHAKE_S_MAX), tls.acceptor().accept(stream));
    tokio::select! {
        () = told_to_stop(stopped) => {}
        shaken = handshake => match shaken {
            Ok(Ok(stream)) => requests(stream, line, stopped).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
            Err(_) => tracing::debug!("no TLS handshake in time"),
        },
    }
}

/// The requests of one connection.
async fn requests(stream: impl AsyncRead + AsyncWrite + Unpin, line: Line, stopped: &mut watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| line.clone().answer(request));
    let stream = Unstalled { stream, deadline: None };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEADER_S_MAX))
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = told_to_stop(stopped) => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(Duration::from_secs(GRACE_S_MAX), connection).await;
        }
    }
}

impl Line {
    async fn answer(self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        tracing::trace!(method = %request.method(), uri = %request.uri(), "request");
        // A request with a body is here as a whole when its body is: see `Capped`.
        if request.body().is_end_stream() {
            self.turn.at_work();
        }
        let answered = match self.proxies.client(self.peer.ip(), request.headers()) {
            Ok(client) => {
                request.extensions_mut().insert(Peer(SocketAddr::new(client, self.peer.port())));
                request.extensions_mut().insert(self.turn.clone());
                self.router.oneshot(request.map(Body::new)).await
            }
            Err(NoAddress) => {
                let what =
                    format!("The proxy in front must name its client's address, last in {}.", self.proxies.header());
                Ok(Problem::new(problem::MALFORMED, what).into_response())
            }
        };
        self.turn.waits();
        answered
    }
}

/// A stream whose other side must read: a write that gets nowhere for [`WRITE_S_MAX`] seconds ends it.
struct Unstalled<S> {
    stream: S,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(Duration::from_secs(WRITE_S_MAX))));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(cx, shut)
    }
}

/// A request's body: at most `BYTES_MAX` bytes, within [`BODY_S_MAX`] seconds.
#[derive(Debug)]
pub struct Capped<const BYTES_MAX: usize>(pub Bytes);

impl<S: Sync, const BYTES_MAX: usize> FromRequest<S> for Capped<BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let turn = request.extensions().get::<Turn>().cloned();
        let body = Limited::new(request.into_body(), BYTES_MAX).collect();
        let collected = timeout(Duration::from_secs(BODY_S_MAX), body).await;
        if let Some(turn) = turn {
            turn.at_work();
        }
        match collected {
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
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn server() -> Server {
        let router = Router::new().route("/echo", post(|Capped(body): Capped<16>| async move { body }));
        serve(bind("127.0.0.1:0".parse().unwrap()).await.unwrap(), with_problems(router)).unwrap()
    }

    async fn talk(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
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
        let post = "POST /echo HTTP/1.1\r\nHost: x\r\n";
        let half_a_body = format!("{post}Content-Length: 9\r\n\r\nx");
        let body_for_nobody = "GET /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx";
        for first in ["", "P", post, &half_a_body, body_for_nobody] {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            stream.write_all(first.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let closed = timeout(Duration::from_secs(ARRIVAL_S_MAX), stream.read_to_end(&mut answer));
            assert!(closed.await.is_ok(), "still open after {first:?}");
        }
        server.stop().await;
    }

    /// A server with one route that takes as long as it is told to.
    async fn slow_server(slots: Arc<Slots>) -> (Server, Arc<tokio::sync::Semaphore>) {
        let go = Arc::new(tokio::sync::Semaphore::new(0));
        let wait = Arc::clone(&go);
        let slow = async move || {
            wait.acquire().await.unwrap().forget();
            "done"
        };
        let router = Router::new().route("/slow", get(slow)).route("/fast", get(async || "fast"));
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        (serve_slots(listener, with_problems(router), slots).unwrap(), go)
    }

    async fn connect_and_send(server: &Server, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Waits until the server has got so far, without letting a paused clock run on.
    async fn until(is_so: impl Fn() -> bool) {
        for _ in 0..1_000_000 {
            if is_so() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the server does not get there");
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await.expect("it is closed");
        String::from_utf8_lossy(&rest).into_owned()
    }

    #[tokio::test]
    async fn a_request_in_hand_gets_its_answer_and_idle_connections_close() {
        let (server, go) = slow_server(Slots::new(8)).await;
        let idle = connect_and_send(&server, "GET /fast HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let in_hand = connect_and_send(&server, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let address = server.address();
        // Both requests have arrived: one was answered, one is at work.
        let mut first = [0; 1];
        idle.peek(&mut first).await.unwrap();
        until(|| server.connections.0.waiting() == 1).await;
        let stopping = tokio::spawn(server.stop());
        // The idle one is closed at once, while the other still waits.
        assert!(rest(idle).await.ends_with("fast"));
        assert!(!stopping.is_finished());
        go.add_permits(1);
        let answer = rest(in_hand).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        timeout(Duration::from_secs(1), stopping).await.expect("nothing is left to wait for").unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_does_not_wait_for_ever() {
        let (server, _go) = slow_server(Slots::new(8)).await;
        let mut in_hand = connect_and_send(&server, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        until(|| server.connections().open() == 1 && server.connections.0.waiting() == 0).await;
        timeout(Duration::from_secs(GRACE_S_MAX + 2), server.stop()).await.expect("it stops");
        assert_eq!(in_hand.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn connections_that_lie_about_give_way_to_requests() {
        let (server, go) = slow_server(Slots::new(4)).await;
        let at_work = connect_and_send(&server, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        until(|| server.connections().open() == 1 && server.connections.0.waiting() == 0).await;
        let mut lying = vec![];
        for _ in 0..20 {
            lying.push(connect_and_send(&server, "G").await);
            let fast = connect_and_send(&server, "GET /fast HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
            assert!(rest(fast).await.ends_with("fast"));
        }
        assert!(server.connections().open() <= 4 && server.connections().displaced() >= 16);
        go.add_permits(1);
        let mut answer = [0; 15];
        { at_work }.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        server.stop().await;
    }

    /// A connection from an address of one's own choice: on Linux all of 127.0.0.0/8 is this machine.
    #[cfg(target_os = "linux")]
    async fn connect_from(from: [u8; 4], server: &Server, text: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(server.address()).await.unwrap();
        let _ = stream.write_all(text.as_bytes()).await;
        stream
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_network_that_floods_with_all_its_addresses_closes_no_connection_of_another() {
        let (server, _go) = slow_server(Slots::counting_loopback(32)).await;
        let mut slow = connect_from([127, 2, 2, 2], &server, "GET /fast HTTP/1.1\r\n").await;
        let mut lying = vec![];
        // Two networks, each address once or twice: no address is anywhere near its share.
        for i in 0..500_u16 {
            let [_, last] = i.to_be_bytes();
            lying.push(connect_from([127, 3, (i % 2) as u8, last], &server, "G").await);
        }
        until(|| server.connections().displaced() == 501 - 32).await;
        slow.write_all(b"Host: x\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(rest(slow).await.ends_with("fast"));
        server.stop().await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn networks_whose_requests_are_at_work_in_all_slots_keep_no_other_out() {
        let (server, _go) = slow_server(Slots::counting_loopback(32)).await;
        let mut at_work = vec![];
        for i in 0..64 {
            let from = [127, 3, i % 4, i];
            at_work.push(connect_from(from, &server, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await);
        }
        until(|| server.connections().open() == 32).await;
        for i in 0..100 {
            let text = "GET /fast HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let fast = connect_from([127, 2, 2, i], &server, text).await;
            assert!(rest(fast).await.ends_with("fast"));
        }
        server.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_read_is_closed() {
        let router = Router::new().route("/much", get(async || vec![0_u8; 1 << 20]));
        let server = serve(bind("127.0.0.1:0".parse().unwrap()).await.unwrap(), router).unwrap();
        let requests = "GET /much HTTP/1.1\r\nHost: x\r\n\r\n".repeat(30);
        let _unread = connect_and_send(&server, &requests).await;
        until(|| server.connections().open() == 1).await;
        let closed = async {
            while server.connections().open() != 0 {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(WRITE_S_MAX + HEADER_S_MAX), closed).await.expect("it is closed");
        server.stop().await;
    }
}
