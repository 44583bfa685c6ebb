//! A client connection that costs next to nothing, so that a load generator can share a machine with the
//! servers that it measures.
//!
//! The socket is non-blocking. One read takes all that has arrived into a buffer that all connections of a
//! thread share; frames are looked at where they lie; what is sent gathers in one buffer, for one write.
//! Before the run ([`Wire::open`], [`Wire::ask`]) it blocks.

mod frames;
mod websocket;

pub(super) use frames::{Said, SendFrame, peek};

use anyhow::{Context as _, bail};
use prost::Message as _;
use proto::client::{
    ClientFrame, Hello, LogCursor, Resumed, ServerFrame, client_frame, resumed, server_frame::Frame as Answer,
};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};
use tokio_tungstenite::tungstenite::{
    client::{IntoClientRequest as _, client as handshake},
    http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
};
use types::{DeviceId, UserId, limits};
use websocket::{Opcode, first_frame, put_frame};

/// What one read takes, at most.
const READ_BYTES: usize = 256 * 1024;
/// The same, before the run.
const HEARING_BYTES: usize = 16 * 1024;
/// How long anything may take before the run.
const PATIENCE: Duration = Duration::from_secs(30);
/// The request id of what [`Wire::ask`] asks.
const ASKED: u64 = u64::MAX;

/// Where all connections of a thread read into.
#[derive(Debug)]
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    pub(super) fn new() -> Self {
        Self(vec![0; READ_BYTES + limits::WIRE_MESSAGE_MAX_BYTES])
    }
}

/// A connection that speaks `hearth.v1.proto`.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` is written.
    written: usize,
}

impl Wire {
    /// Connects, says hello, and hears welcome.
    pub(super) fn open(edge: &str, user: &UserId, device: DeviceId) -> anyhow::Result<Self> {
        Self::resume(edge, user, device, vec![])
    }

    /// Connects, says hello with cursors, and hears welcome and that each cursor stands.
    pub(super) fn resume(
        edge: &str,
        user: &UserId,
        device: DeviceId,
        cursors: Vec<LogCursor>,
    ) -> anyhow::Result<Self> {
        let mut wire = Self::connect(edge).with_context(|| format!("connecting to {edge}"))?;
        let mut owed = cursors.len() + 1;
        let hello = Hello {
            protocol_version: limits::PROTOCOL_VERSION,
            user: user.to_string(),
            device: device.get(),
            cursors,
            agent: concat!("hearth-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
            token: String::new(),
        };
        wire.put(&ClientFrame { request_id: ASKED, frame: Some(client_frame::Frame::Hello(hello)) }, [0; 4]);
        wire.flush()?;
        wire.hear(|frame| {
            match frame.frame {
                Some(Answer::Welcome(_)) => owed -= 1,
                Some(Answer::Resumed(Resumed { answer: Some(resumed::Answer::Continue(_)), .. })) => {
                    owed -= 1
                }
                Some(other @ (Answer::Resumed(_) | Answer::Error(_))) => {
                    bail!("hello was answered by {other:?}")
                }
                _ => {}
            }
            Ok(owed == 0)
        })?;
        Ok(wire)
    }

    fn connect(edge: &str) -> anyhow::Result<Self> {
        let mut request = edge.into_client_request()?;
        let authority = request.uri().authority().context("no host")?.to_string();
        let stream = TcpStream::connect(authority)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let subprotocol = HeaderValue::from_static(client::Encoding::Proto.subprotocol());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        // The server says nothing before the hello, so nothing is left in the buffer that is given up here.
        let (socket, _) = handshake(request, stream)?;
        Ok(Self { stream: socket.into_inner(), rest: Vec::new(), out: Vec::new(), written: 0 })
    }

    /// Asks, and waits for the answer; whatever else comes before it is dropped. Only before the run.
    pub(super) fn ask(&mut self, frame: client_frame::Frame) -> anyhow::Result<Answer> {
        self.put(&ClientFrame { request_id: ASKED, frame: Some(frame) }, [0; 4]);
        self.flush()?;
        let mut answer = None;
        self.hear(|frame| {
            if frame.request_id == ASKED {
                answer = frame.frame;
            }
            Ok(answer.is_some())
        })?;
        match answer {
            Some(Answer::Error(error)) => bail!("{}: {}", error.code, error.message),
            Some(answer) => Ok(answer),
            None => bail!("an answer of a kind that is not known"),
        }
    }

    /// Hands over frames, until one is the last that was waited for.
    fn hear(&mut self, mut is_last: impl FnMut(ServerFrame) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let mut bytes = std::mem::take(&mut self.rest);
        let mut heard_last = false;
        while !heard_last {
            let begin = bytes.len();
            bytes.resize(begin + HEARING_BYTES, 0);
            let read = self.stream.read(&mut bytes[begin..])?;
            if read == 0 {
                bail!("the server closed the connection");
            }
            bytes.truncate(begin + read);
            let used = self.each_frame(&bytes, &mut |frame| {
                heard_last |= is_last(ServerFrame::decode(frame)?)?;
                Ok(())
            })?;
            bytes.drain(..used);
        }
        self.rest = bytes;
        // What is left is at most the beginning of a frame.
        self.rest.shrink_to_fit();
        Ok(())
    }

    /// Says what wants no answer. Only before the run.
    pub(super) fn tell(&mut self, frame: client_frame::Frame) -> anyhow::Result<()> {
        self.put(&ClientFrame { request_id: 0, frame: Some(frame) }, [0; 4]);
        self.flush().map(drop)
    }

    /// The run begins: nothing blocks from here on.
    pub(super) fn begin(&self) -> anyhow::Result<()> {
        Ok(self.stream.set_nonblocking(true)?)
    }

    /// Queues any frame.
    pub(super) fn put(&mut self, frame: &ClientFrame, mask: [u8; 4]) {
        let bytes = frame.encode_to_vec();
        put_frame(&mut self.out, Opcode::Binary, mask, bytes.len(), |out| out.extend_from_slice(&bytes));
    }

    /// Queues a message.
    pub(super) fn put_send(&mut self, send: &SendFrame<'_>, mask: [u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
        put_frame(&mut self.out, Opcode::Binary, mask, send.encoded_bytes(), |out| send.put(out, body));
    }

    /// Writes what is queued, as far as the socket takes it. `true`: all of it.
    pub(super) fn flush(&mut self) -> anyhow::Result<bool> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("writing"),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(true)
    }

    /// Reads once, and hands over the payload of every frame that is whole.
    pub(super) fn receive(
        &mut self,
        scratch: &mut Scratch,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let held = self.rest.len();
        scratch.0[..held].copy_from_slice(&self.rest);
        let read = match self.stream.read(&mut scratch.0[held..held + READ_BYTES]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error).context("reading"),
        };
        let bytes = &scratch.0[..held + read];
        let used = self.each_frame(bytes, &mut take)?;
        self.rest.clear();
        self.rest.extend_from_slice(&bytes[used..]);
        Ok(())
    }

    /// Hands over the frames at the front of `bytes`; how many bytes those are.
    fn each_frame(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some(found) = first_frame(&bytes[used..])? {
            let end = used + found.payload.end;
            let payload = &bytes[used + found.payload.start..end];
            match found.opcode {
                Opcode::Binary => take(payload)?,
                Opcode::Ping => {
                    let pong = |out: &mut Vec<u8>| out.extend_from_slice(payload);
                    put_frame(&mut self.out, Opcode::Pong, [0; 4], payload.len(), pong);
                }
                Opcode::Pong => {}
                Opcode::Close => bail!("the server closed the connection: {}", payload.escape_ascii()),
            }
            used = end;
        }
        Ok(used)
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
