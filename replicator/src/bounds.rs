//! Every bound of the replicator, in one place.

use std::time::Duration;
use types::limits;

/// Bytes of records that all partitions of one fetch stream may have under way together: received from
/// the home, or on the way from it, and not durable at the follower. It is split evenly.
pub(crate) const STREAM_CREDIT_BYTES: usize = 64 * 1024 * 1024;
/// The most that one partition gets of it: 20 MB/s over a round trip of 200 ms.
pub(crate) const CREDIT_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The least that one partition gets, however many share the stream; more than the largest record.
pub(crate) const CREDIT_MIN_BYTES: usize = 256 * 1024;
/// How far past its credit a home may go before its batch is refused: one batch, since what it had sent
/// before a restart may cross the restart on the way.
pub(crate) const CREDIT_SLACK_BYTES: usize = limits::BATCH_MAX_BYTES;

/// The first wait after a refusal; it doubles with each one that follows.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait of our own.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(1);
/// The longest wait that a peer may ask for.
pub(crate) const RETRY_ASKED_MAX: Duration = Duration::from_secs(5);
/// How long a hole in what a home sends may stay open before it is asked again.
pub(crate) const HOLE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a peer may leave a question open before it is asked again.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// How often the time is told to the pumps.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// How often gauges are brought up to date.
pub(crate) const METER_EVERY: Duration = Duration::from_secs(1);

/// The longest time to connect, the hello included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that was silent for this long is pinged …
pub(crate) const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);
/// … and taken for gone when the ping is not answered within this.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The first wait before connecting anew; jittered, and doubled by each failure.
pub(crate) const RECONNECT_MIN: Duration = Duration::from_millis(50);
/// The longest wait before connecting anew.
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// A connection that held for this long makes the next wait short again.
pub(crate) const CONNECTION_SETTLED: Duration = Duration::from_secs(5);
/// HTTP/2 windows: 80 MB/s over a round trip of 200 ms.
pub(crate) const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// What may wait for a feeder from its streams; a full queue holds the streams back.
pub(crate) const INBOX_MAX: usize = 64;
/// Messages of one stream that reach the feeder as one.
pub(crate) const EVENT_MESSAGES_MAX: usize = 256;

/// Records of an archive that are offered before what became of them is noted; few, so that salvage leaves
/// room for those who write now.
pub(crate) const SALVAGE_WINDOW_RECORDS: u32 = 256;
/// How often a follower is asked for archives.
pub(crate) const SALVAGE_EVERY: Duration = Duration::from_secs(2);
/// How long a question of salvage may stay open.
pub(crate) const SALVAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a home may take to have offers `replicated`.
pub(crate) const SALVAGE_PATIENCE: Duration = Duration::from_secs(10);
/// How long an archive may not get on before it is the next partition's turn.
pub(crate) const SALVAGE_STANDSTILL: Duration = Duration::from_secs(15);

/// What each partition of a stream may have under way.
pub(crate) fn credit_bytes(partitions: usize) -> u32 {
    let share = STREAM_CREDIT_BYTES / partitions.max(1);
    u32::try_from(share.clamp(CREDIT_MIN_BYTES, CREDIT_MAX_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credit_of_a_stream_is_split_within_its_bounds() {
        assert_eq!(credit_bytes(0) as usize, CREDIT_MAX_BYTES);
        assert_eq!(credit_bytes(16) as usize, CREDIT_MAX_BYTES);
        assert_eq!(credit_bytes(64) as usize, STREAM_CREDIT_BYTES / 64);
        assert_eq!(credit_bytes(100_000) as usize, CREDIT_MIN_BYTES);
    }
}
