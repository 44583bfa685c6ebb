//! The model behind a real WebSocket on loopback.

use super::Model;
use crate::{Encoding, driver::codec};
use futures_util::{SinkExt, StreamExt};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_tungstenite::tungstenite::{
    handshake::server::{ErrorResponse, Request, Response},
    http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
};

/// A server for tests and examples: the whole client protocol, in memory, on a free loopback port.
pub struct FakeServer {
    address: SocketAddr,
    model: Arc<Mutex<Model>>,
    changed: watch::Sender<u64>,
    cut: watch::Sender<u64>,
    accepting: AbortHandle,
}

impl FakeServer {
    /// Starts the server.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let model = Arc::new(Mutex::new(Model::new()));
        let (changed, _) = watch::channel(0);
        let (cut, _) = watch::channel(0);
        let task = tokio::spawn(accept(listener, model.clone(), changed.clone(), cut.clone()));
        Self { address, model, changed, cut, accepting: task.abort_handle() }
    }

    /// The address to connect to.
    pub fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.address)
    }

    /// Looks at the model, or changes it; sessions hear of what changed.
    pub fn with<T>(&self, act: impl FnOnce(&mut Model) -> T) -> T {
        let answer = act(&mut lock(&self.model));
        self.changed.send_modify(|version| *version += 1);
        answer
    }

    /// Drops every connection, without a word.
    pub fn cut(&self) {
        self.cut.send_modify(|version| *version += 1);
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(
    listener: TcpListener,
    model: Arc<Mutex<Model>>,
    changed: watch::Sender<u64>,
    cut: watch::Sender<u64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut cut = cut.subscribe();
        let serving = serve(stream, model.clone(), changed.clone());
        connections.spawn(async move {
            tokio::select! {
                () = serving => {}
                _ = cut.changed() => {}
            }
        });
    }
}

// The error type is the WebSocket library's.
#[allow(clippy::result_large_err)]
async fn serve(stream: TcpStream, model: Arc<Mutex<Model>>, changed: watch::Sender<u64>) {
    let mut encoding = Encoding::Proto;
    let choose = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        let asked = request.headers().get(SEC_WEBSOCKET_PROTOCOL);
        if asked.is_some_and(|asked| asked == Encoding::Json.subprotocol()) {
            encoding = Encoding::Json;
        }
        let chosen = HeaderValue::from_static(encoding.subprotocol());
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, choose).await else { return };
    let mut versions = changed.subscribe();
    let session = lock(&model).connect();
    loop {
        let frames = lock(&model).take(session);
        for frame in frames {
            if socket.feed(codec::encode(&frame, encoding)).await.is_err() {
                return lock(&model).disconnect(session);
            }
        }
        if socket.flush().await.is_err() {
            break;
        }
        tokio::select! {
            _ = versions.changed() => {}
            message = socket.next() => match message.map(|message| message.map(codec::decode)) {
                Some(Ok(Ok(Some(frame)))) => {
                    lock(&model).frame(session, frame);
                    changed.send_modify(|version| *version += 1);
                }
                Some(Ok(Ok(None))) => {}
                _ => break,
            },
        }
    }
    lock(&model).disconnect(session);
}
