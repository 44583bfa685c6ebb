//! One direction of one connection: what is read is stamped with its arrival, and written then.
//!
//! ```text
//!   socket ──read──▶ stamp(arrival) ──▶ bounded queue ──at arrival, lane open──▶ write ──▶ socket
//!                        ▲ waits while bytes under way are at their bound ◀──────┘ frees
//! ```
//!
//! What has arrived by the time of a write is written with it. Delay therefore costs no bandwidth. The end of a stream, and its reset, travel through the queue like
//! bytes: while the lane is cut the far side learns of neither.

use super::lane::Lane;
use bytes::{Bytes, BytesMut};
use std::{
    future::pending,
    io::{self, IoSlice},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{ReadHalf, WriteHalf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

/// The most that is read at a time.
const CHUNK_MAX_BYTES: usize = 64 * 1024;
/// A read buffer with less room than this is replaced.
const CHUNK_MIN_BYTES: usize = 4 * 1024;
/// Parcels that are written at once.
const PARCELS_AT_ONCE: usize = 64;
/// Chunks under way per connection and direction, beside the bound in bytes.
const CHUNKS_MAX: usize = 8 * 1024;

/// How a direction ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The sender finished; the receiver has been told, and may still send.
    Finished,
    /// The sender reset the connection, and that has arrived.
    SenderReset,
    /// The receiver took no more.
    ReceiverGone,
}

struct Parcel {
    arrives: Instant,
    what: What,
}

enum What {
    Bytes(Bytes, OwnedSemaphorePermit),
    Finish,
    Reset,
}

/// Carries bytes until one side ends.
pub(super) async fn pump(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, lane: &Lane) -> Ended {
    let (queue, parcels) = mpsc::channel(CHUNKS_MAX);
    let collecting = async {
        collect(from, lane, queue).await;
        pending::<()>().await;
    };
    tokio::select! {
        ended = deliver(parcels, to, lane) => ended,
        () = collecting => Ended::Finished,
    }
}

async fn collect(from: &mut ReadHalf<'_>, lane: &Lane, queue: mpsc::Sender<Parcel>) {
    let in_flight_bytes = lane.in_flight_bytes();
    let under_way = Arc::new(Semaphore::new(in_flight_bytes as usize));
    let mut buffer = BytesMut::with_capacity(CHUNK_MAX_BYTES);
    let mut arrives = Instant::now();
    loop {
        if buffer.capacity() < CHUNK_MIN_BYTES {
            buffer = BytesMut::with_capacity(CHUNK_MAX_BYTES);
        }
        let what = match from.read_buf(&mut buffer).await {
            Ok(0) => What::Finish,
            Err(_) => What::Reset,
            Ok(length) => {
                let room = u32::try_from(length).unwrap_or(u32::MAX).min(in_flight_bytes);
                let Ok(room) = Arc::clone(&under_way).acquire_many_owned(room).await else { return };
                What::Bytes(buffer.split().freeze(), room)
            }
        };
        let (length, last) = match &what {
            What::Bytes(bytes, _) => (bytes.len(), false),
            What::Finish | What::Reset => (0, true),
        };
        arrives = lane.arrival(length, arrives);
        if queue.send(Parcel { arrives, what }).await.is_err() || last {
            return;
        }
    }
}

async fn deliver(mut parcels: mpsc::Receiver<Parcel>, to: &mut WriteHalf<'_>, lane: &Lane) -> Ended {
    let mut next = parcels.recv().await;
    while let Some(parcel) = next.take() {
        lane.pass(parcel.arrives).await;
        match parcel.what {
            What::Bytes(bytes, room) => {
                let mut arrived = vec![(bytes, room)];
                next = take_arrived(&mut parcels, &mut arrived);
                if write_all(to, &arrived).await.is_err() {
                    return Ended::ReceiverGone;
                }
            }
            What::Finish => {
                return if to.shutdown().await.is_ok() { Ended::Finished } else { Ended::ReceiverGone };
            }
            What::Reset => return Ended::SenderReset,
        }
        if next.is_none() {
            next = parcels.recv().await;
        }
    }
    Ended::Finished
}

type Arrived = Vec<(Bytes, OwnedSemaphorePermit)>;

/// Takes the bytes that have arrived by now; answers the first parcel that is none of them.
fn take_arrived(parcels: &mut mpsc::Receiver<Parcel>, arrived: &mut Arrived) -> Option<Parcel> {
    let now = Instant::now();
    while arrived.len() < PARCELS_AT_ONCE {
        match parcels.try_recv().ok()? {
            Parcel { arrives, what: What::Bytes(bytes, room) } if arrives <= now => {
                arrived.push((bytes, room))
            }
            other => return Some(other),
        }
    }
    None
}

async fn write_all(to: &mut WriteHalf<'_>, arrived: &[(Bytes, OwnedSemaphorePermit)]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = arrived.iter().map(|(bytes, _)| IoSlice::new(bytes)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match to.write_vectored(left).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut left, written),
        }
    }
    Ok(())
}
