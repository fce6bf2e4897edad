//! A way between two parties that keeps what passes: from where somebody came, what was sent, what came back.

use std::{
    mem,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::loopback;

/// What has passed.
#[derive(Clone, Default)]
pub struct Heard {
    pub peers: Vec<SocketAddr>,
    pub forth: Vec<u8>,
    pub back: Vec<u8>,
}

/// A listener that passes connections on. It ends with the test.
pub struct Tap {
    pub url: String,
    pub address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    leads_to: Arc<OnceLock<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Tap {
    /// One that leads nowhere yet: whoever comes is sent away.
    pub async fn open() -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, leads_to) = (Arc::<Mutex<Heard>>::default(), Arc::<OnceLock<SocketAddr>>::default());
        let (all, to) = (Arc::clone(&heard), Arc::clone(&leads_to));
        let task = tokio::spawn(async move {
            while let Ok((client, peer)) = listener.accept().await {
                let (all, Some(to)) = (Arc::clone(&all), to.get().copied()) else { continue };
                all.lock().unwrap().peers.push(peer);
                tokio::spawn(async move { pass_on(client, TcpStream::connect(to).await.unwrap(), &all).await });
            }
        });
        Self { url: format!("http://{address}"), address, heard, leads_to, task }
    }

    pub async fn start(to: SocketAddr) -> Self {
        let tap = Self::open().await;
        tap.lead_to(to);
        tap
    }

    pub fn lead_to(&self, to: SocketAddr) {
        self.leads_to.set(to).unwrap();
    }

    /// All so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// What was sent since it was last taken.
    pub fn take_sent(&self) -> String {
        String::from_utf8_lossy(&mem::take(&mut self.heard.lock().unwrap().forth)).into_owned()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, heard: &Mutex<Heard>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = copy(from_client, to_server, |bytes| heard.lock().unwrap().forth.extend(bytes)) => {}
        () = copy(from_server, to_client, |bytes| heard.lock().unwrap().back.extend(bytes)) => {}
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, keep: impl Fn(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        keep(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
