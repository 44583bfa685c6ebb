//! The bounds of what crosses a process boundary, in one place.

use std::time::Duration;

/// The longest message body, in bytes of ciphertext.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// The longest client frame, in bytes: a full body as base64 in JSON and its envelope.
pub const FRAME_MAX_BYTES: usize = 128 * 1024;
/// The largest gRPC message between nodes, in bytes.
pub const WIRE_MESSAGE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The most members of one chat; a deployment may allow fewer.
pub const MEMBERS_MAX: usize = 1_024;
/// The most regions of a deployment, and so of a residency list.
pub const REGIONS_MAX: usize = 64;
/// The most cursors that one record moves.
pub const CURSORS_PER_UPDATE_MAX: usize = 512;
/// The most offsets that one deletion names.
pub const DELETED_OFFSETS_MAX: usize = 256;
/// The most effects of one log that may be pending: what its entries have caused elsewhere.
pub const EFFECTS_PENDING_MAX: usize = 2_048;
/// Chats that are told at a time that the account of a member has been closed.
pub const LEAVING_AT_ONCE: usize = 64;
/// The most offsets that they may name together.
pub const EFFECT_OFFSETS_MAX: usize = 2_048;
/// The most logs that may have had an effect on one log.
pub const EFFECT_CAUSES_MAX: usize = 4_096;
/// The most entries of one page of history.
pub const PAGE_MAX_ENTRIES: usize = 500;
/// The entries of a page where the asker names no number.
pub const PAGE_DEFAULT_ENTRIES: usize = 50;
/// The most bytes of bodies in one page of history; a page ends early, but never empty, to hold it.
pub const PAGE_MAX_BYTES: usize = 1024 * 1024;
/// The most records of one append batch.
pub const BATCH_MAX_RECORDS: usize = 1_024;
/// The most bytes of one append batch; under FoundationDB's advice of 1 MB a transaction.
pub const BATCH_MAX_BYTES: usize = 1_000_000;
/// The largest fold that a re-homed log brings to its next partition, encoded, in bytes; well below what
/// one partition may always have under way to a follower.
pub const IMPORT_MAX_BYTES: usize = 192 * 1024;
/// The most stretches of a pin: a log is re-homed so often and no more.
pub const GENERATIONS_MAX: usize = 1_024;
/// The most logs that one session follows.
pub const SESSION_LOGS_MAX: usize = 4_096;
/// The most logs pinned by one directory call.
pub const PIN_BATCH_MAX: usize = 1_024;
/// The longest time that a client may ask a write to be held, in ms.
pub const DEADLINE_MAX_MS: u64 = 60_000;
/// How long a write is held where the client names no deadline, in ms.
pub const DEADLINE_DEFAULT_MS: u64 = 15_000;
/// The version of the protocols of clients and of the directory, said in each hello.
pub const PROTOCOL_VERSION: u32 = 1;
/// The version of the protocol between nodes, and of nodes with replicators, said in each hello.
pub const NODE_PROTOCOL_VERSION: u32 = 2;
/// A watch of the placement that says nothing for so long is opened anew, at another replica of the directory.
pub const WATCH_SILENCE_MAX: Duration = Duration::from_secs(5);
