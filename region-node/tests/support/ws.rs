//! A client that says exactly what a test wants said.

use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use proto::client::{
    self, ClientFrame, ServerFrame, client_frame::Frame as Ask, server_frame::Frame as Answer,
};
use std::{collections::VecDeque, net::SocketAddr, time::Duration};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderValue, StatusCode},
    },
};

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    is_json: bool,
    next_id: u64,
    /// What came while something else was waited for.
    pub(crate) kept: VecDeque<ServerFrame>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, is_json: bool) -> Self {
        Self::try_connect(address, is_json).await.expect("the edge accepts")
    }

    /// The status of the refusal where the edge does not accept.
    pub(crate) async fn try_connect(address: SocketAddr, is_json: bool) -> Result<Self, StatusCode> {
        let mut request = format!("ws://{address}/v1/ws").into_client_request().expect("a valid address");
        let subprotocol = if is_json { "hearth.v1.json" } else { "hearth.v1.proto" };
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(subprotocol));
        let (socket, response) = match connect_async(request).await {
            Ok(connected) => connected,
            Err(Error::Http(response)) => return Err(response.status()),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(response.headers()["sec-websocket-protocol"], subprotocol);
        Ok(Self { socket, is_json, next_id: 1, kept: VecDeque::new() })
    }

    /// Connects and says who it is.
    pub(crate) async fn hello(address: SocketAddr, user: &str, device: u64) -> Self {
        let mut client = Self::connect(address, device.is_multiple_of(2)).await;
        let hello = client::Hello { protocol_version: 1, user: user.into(), device, ..Default::default() };
        let answer = client.ask(Ask::Hello(hello)).await;
        assert!(matches!(answer, Answer::Welcome(_)), "{answer:?}");
        client
    }

    pub(crate) async fn say(&mut self, frame: Ask) -> u64 {
        let request_id = self.next_id;
        self.next_id += 1;
        let frame = ClientFrame { request_id, frame: Some(frame) };
        let message = if self.is_json {
            Message::text(serde_json::to_string(&frame).expect("plain data"))
        } else {
            Message::binary(frame.encode_to_vec())
        };
        self.socket.send(message).await.expect("the connection stands");
        request_id
    }

    pub(crate) async fn say_raw(&mut self, message: Message) {
        self.socket.send(message).await.expect("the connection stands");
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<ServerFrame> {
        if let Some(frame) = self.kept.pop_front() {
            return Some(frame);
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Option<ServerFrame> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.socket.next())
                .await
                .expect("a frame in time")?;
            match message {
                Ok(Message::Binary(bytes)) => {
                    return Some(ServerFrame::decode(bytes).expect("a ServerFrame"));
                }
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("a ServerFrame")),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The answer to a request; what comes before it is kept.
    pub(crate) async fn answer(&mut self, request_id: u64) -> Answer {
        if let Some(at) = self.kept.iter().position(|frame| frame.request_id == request_id) {
            return self.kept.remove(at).and_then(|frame| frame.frame).expect("a frame says something");
        }
        loop {
            let frame = self.receive().await.expect("the connection stands");
            if frame.request_id == request_id {
                return frame.frame.expect("a frame says something");
            }
            self.kept.push_back(frame);
        }
    }

    pub(crate) async fn ask(&mut self, frame: Ask) -> Answer {
        let id = self.say(frame).await;
        self.answer(id).await
    }

    pub(crate) async fn open_direct(&mut self, with: &str) -> String {
        let open = client::OpenChat {
            chat: Some(client::open_chat::Chat::DirectWith(with.to_owned())),
            ..Default::default()
        };
        match self.ask(Ask::OpenChat(open)).await {
            Answer::ChatOpened(opened) => opened.log,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, log: &str, text: &str) -> client::Sent {
        match self.ask(Ask::Send(message(log, uuid::Uuid::now_v7(), text))).await {
            Answer::Sent(sent) => sent,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn follow(&mut self, log: &str, position: &str) -> client::Resumed {
        let subscribe = client::Subscribe { log: log.to_owned(), position: position.to_owned() };
        match self.ask(Ask::Subscribe(subscribe)).await {
            Answer::Resumed(resumed) => resumed,
            other => panic!("{other:?}"),
        }
    }

    /// The next thing said unasked that is no tick.
    pub(crate) async fn told(&mut self) -> Answer {
        loop {
            let frame = self.next().await.expect("the connection stands");
            match frame.frame.expect("a frame says something") {
                Answer::Replicated(_) => {}
                other if frame.request_id == 0 => return other,
                other => panic!("not asked for: {other:?}"),
            }
        }
    }

    /// Reads entries until one has the offset.
    pub(crate) async fn entries_to(&mut self, offset: u64) -> Vec<client::Entry> {
        let mut entries: Vec<client::Entry> = Vec::new();
        while entries.last().is_none_or(|entry| entry.offset < offset) {
            match self.told().await {
                Answer::Entries(more) => entries.extend(more.entries),
                other => panic!("{other:?}"),
            }
        }
        entries
    }

    /// The error that answers a request.
    pub(crate) async fn refusal(&mut self, frame: Ask) -> client::Error {
        match self.ask(frame).await {
            Answer::Error(error) => error,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn message(log: &str, id: uuid::Uuid, text: &str) -> client::Send {
    client::Send {
        log: log.to_owned(),
        message_id: id.to_string(),
        ciphertext: text.as_bytes().to_vec().into(),
        ..Default::default()
    }
}

pub(crate) fn text_of(entry: &client::Entry) -> String {
    match &entry.body {
        Some(client::entry::Body::Ciphertext(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(client::entry::Body::Created(_)) => "created".to_owned(),
        other => format!("{other:?}"),
    }
}
