//! One direction of a connection.

use super::Link;
use bytes::{Buf as _, Bytes};
use std::{collections::VecDeque, io, task::Waker};
use tokio::io::ReadBuf;

/// Bytes on their way or unread; then the writer waits.
const WINDOW_BYTES: usize = 512 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PipeId(u32);

impl PipeId {
    pub(super) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("a run has fewer than 2^32 connections"))
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Reset,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) link: Link,
    /// The other direction.
    pub(super) back: PipeId,
    /// When the last packet arrives: none overtakes it.
    pub(super) last_us: u64,
    arrived: VecDeque<Bytes>,
    unread_bytes: usize,
    ended: Option<End>,
    /// Nothing more can be written.
    pub(super) is_refused: bool,
    /// Its reader has gone.
    pub(super) is_abandoned: bool,
    /// One of its ends was without power.
    pub(super) is_dead: bool,
    pub(super) is_reset_sent: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    pub(super) const fn new(link: Link, back: PipeId) -> Self {
        Self {
            link,
            back,
            last_us: 0,
            arrived: VecDeque::new(),
            unread_bytes: 0,
            ended: None,
            is_refused: false,
            is_abandoned: false,
            is_dead: false,
            is_reset_sent: false,
            reader: None,
            writer: None,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        self.ended.is_none() && !self.is_refused && !self.is_abandoned
    }

    /// Bytes arrive; who is to be woken.
    pub(super) fn arrive(&mut self, bytes: Bytes) -> Option<Waker> {
        self.arrived.push_back(bytes);
        self.reader.take()
    }

    /// The direction ends for its reader; who is to be woken.
    pub(super) fn end(&mut self, end: End) -> Option<Waker> {
        self.ended.get_or_insert(end);
        if end == End::Reset {
            self.ended = Some(end);
        }
        self.reader.take()
    }

    /// Its writer learns that nothing more can be written; who is to be woken.
    pub(super) fn refuse(&mut self) -> Option<Waker> {
        self.is_refused = true;
        self.writer.take()
    }

    /// Reads what has arrived; none: nothing yet. What is to be woken or dropped comes along.
    pub(super) fn read(
        &mut self,
        buf: &mut ReadBuf<'_>,
        waker: &Waker,
    ) -> (Option<io::Result<()>>, Option<Waker>) {
        let mut read = 0;
        while buf.remaining() > 0
            && let Some(first) = self.arrived.front_mut()
        {
            let bytes = first.len().min(buf.remaining());
            buf.put_slice(&first[..bytes]);
            first.advance(bytes);
            read += bytes;
            if first.is_empty() {
                self.arrived.pop_front();
            }
        }
        self.unread_bytes -= read;
        if read > 0 {
            return (Some(Ok(())), self.writer.take());
        }
        match self.ended {
            Some(End::Fin) => (Some(Ok(())), None),
            Some(End::Reset) => (Some(Err(io::ErrorKind::ConnectionReset.into())), None),
            None => (None, self.reader.replace(waker.clone())),
        }
    }

    /// Takes in what there is room for; none: there is none now.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        waker: &Waker,
    ) -> (Option<io::Result<Bytes>>, Option<Waker>) {
        if self.is_refused {
            return (Some(Err(io::ErrorKind::BrokenPipe.into())), None);
        }
        let room = WINDOW_BYTES.saturating_sub(self.unread_bytes);
        if room == 0 {
            return (None, self.writer.replace(waker.clone()));
        }
        let taken = Bytes::copy_from_slice(&bytes[..bytes.len().min(room)]);
        self.unread_bytes += taken.len();
        (Some(Ok(taken)), None)
    }
}
