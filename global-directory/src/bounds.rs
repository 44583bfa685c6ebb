//! Every bound of the directory, in one place. What crosses the wire is bounded in [`types::limits`].

use types::limits;

/// The most nodes of a deployment.
pub const NODES_MAX: usize = 1_024;
/// The most partitions that one region may be preferred by.
pub const PARTITIONS_PER_REGION_MAX: u32 = 1_024;
/// The most partitions of a deployment: a snapshot of that many fits one gRPC message.
pub const PARTITIONS_MAX: u32 = 4_096;
/// The newest epochs in a partition's history; older ones are in the stores of its replicas.
pub const HISTORY_MAX: usize = 16;
/// The regions with copies of a partition; fewer where there are fewer regions.
pub const REPLICATION_FACTOR: usize = 3;
/// The copies of a partition while they move: each region's own, one more where it moves to, and those that
/// came back.
pub const REPLICAS_MAX: usize = 12;
/// The copies that a partition remembers as gone.
pub const AWAY_MAX: usize = 8;
/// The re-homings of logs that may be under way at a time.
pub const REHOMES_MAX: usize = 64;
/// Logs that may be on their way to those who write them at a time.
pub const FOLLOWS_AT_ONCE: usize = 8;
/// A log that has been re-homed so often follows nobody any more: the rest is for operators.
pub const FOLLOW_GENERATIONS_MAX: usize = limits::GENERATIONS_MAX / 2;
/// Logs of which it is remembered when they went.
pub const FOLLOWS_REMEMBERED_MAX: usize = 65_536;
/// A home that asked in vain asks again after this, in ms: where it cannot be ...
pub const FOLLOW_REFUSED_MS: u64 = 600_000;
/// ... while partitions fail over ...
pub const FOLLOW_RESTLESS_MS: u64 = 10_000;
/// ... and where enough have gone.
pub const FOLLOW_RATE_MS: u64 = 2_000;
/// The most members that a proposed in-sync set may name.
pub const MEMBERS_MAX: usize = 16;
/// The names that one command claims, holds or gives back: a user has a username and a phone number.
pub const NAMES_PER_COMMAND: usize = 4;
/// The names that are looked up at a time.
pub const NAMES_PER_READ: usize = 256;
/// The keys of a node that tokens are verified by: those of its last days and boots.
pub const KEYS_PER_NODE: usize = 4;
/// The longest address that a node may announce, in bytes.
pub const ADDRESS_MAX_BYTES: usize = 255;
/// The longest sentence of an audit event, in bytes.
pub const EVENT_MAX_BYTES: usize = 512;
/// The longest name of whoever an audit event is by, in bytes.
pub const OPERATOR_MAX_BYTES: usize = 64;
/// The audit events that are kept.
pub const EVENTS_MAX: u64 = 1_000;
/// The newest audit events in a status.
pub const STATUS_EVENTS_MAX: usize = 100;
/// The answers of commands that are kept for retries.
pub const REMEMBERED_MAX: u64 = 65_536;
/// What has stopped automatic failover is told again when it is back after this long, in ms.
pub const PAGE_AGAIN_MS: u64 = 60_000;
/// So many are kept whatever their age: the clocks of those who submit commands do not agree.
pub const REMEMBERED_MIN: u64 = 4_096;
/// For how long an answer is kept at most, where there are more, in ms.
pub const REMEMBERED_MS: u64 = 10 * 60 * 1_000;
/// Answers dropped per command once they are too many or too old: more than the one it adds.
pub const FORGET_PER_COMMAND: usize = 4;
/// Rows that the embedded engine keeps in memory, in bytes.
pub const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Commands waiting for the writer; more are refused.
pub const QUEUE_MAX: usize = 1_024;
/// Commands that share one commit.
pub const GROUP_MAX: usize = 128;
/// Rows changed by one command of the controller; under FoundationDB's advice of 1 MB a transaction.
pub const BATCH_MAX_ROWS: usize = 512;
/// Groups of commands that are under way to the replicas at a time; meanwhile the next ones grow.
pub const GROUPS_UNDER_WAY: usize = 16;
/// The encoded size of the commands that share one entry of the log; one command may be greater.
pub const GROUP_MAX_BYTES: usize = 512 * 1024;
/// The encoded size of one command: what is greater could not be sent to the other replicas.
pub const COMMAND_MAX_BYTES: usize = 1024 * 1024;
/// Rounds of linearizable reads that are under way at a time; meanwhile those who come wait for the next one.
pub const READS_UNDER_WAY: usize = 8;
/// Entries in one message between replicas.
pub const APPEND_MAX_ENTRIES: usize = 64;
/// The encoded size of the entries, or of the rows of a snapshot, in one message between replicas; one entry
/// may be greater.
pub const APPEND_MAX_BYTES: usize = 1024 * 1024;
/// How long a replica has to answer an append at least, in ms: a disk that is slow for a moment is not dead.
pub const APPEND_TIMEOUT_MIN_MS: u64 = 2_000;
/// How long the answer to an append is waited for, in ms.
pub const APPEND_ANSWER_MS: u64 = 2_000;
/// Appends to one replica that are under way ahead of the library; what comes then waits for it.
pub const APPENDS_AHEAD_MAX: usize = 32;
/// The encoded size of entries that go ahead of the library.
pub const APPEND_AHEAD_MAX_BYTES: usize = 256 * 1024;
/// The pause before a replica that did not answer is asked again, in ms.
pub const REPLICA_RETRY_MS: u64 = 200;
/// Keys deleted or copied at a time.
pub const LOG_PAGE: usize = 1_024;
/// Entries after which a snapshot that nobody reads is let go.
pub const SNAPSHOT_OPEN: u64 = 500;
/// Entries of the log between two snapshots.
pub const SNAPSHOT_EVERY: u64 = 10_000;
/// Entries that stay in the log behind a snapshot, so that a replica that was away for a while needs none.
pub const LOG_KEPT: u64 = 2_000;
/// Rows in one message of a snapshot.
pub const SNAPSHOT_PAGE_ROWS: usize = 2_048;
/// The rows of the largest snapshot that a replica takes, in bytes.
pub const SNAPSHOT_MAX_BYTES: usize = 1024 * 1024 * 1024;
/// Messages of a snapshot under way.
pub const SNAPSHOT_QUEUE_MAX: usize = 2;
/// The most replicas of a group, learners included.
pub const VOTERS_MAX: usize = 16;
/// Watchers at a time; more are refused.
pub const WATCHERS_MAX: usize = 1_024;
/// Deltas under way to one watcher; behind them changes are merged, not queued.
pub const WATCHER_QUEUE_MAX: usize = 2;
/// Answers of fenced nodes waiting for the controller.
pub const FENCE_ANSWERS_MAX: usize = 256;

/// How long a follower may take to raise its fences, in ms, attempts to connect included.
pub const FENCE_TIMEOUT_MS: u64 = 1_000;
/// The pause between attempts to connect to a node that is to be fenced, in ms.
pub const FENCE_RETRY_MS: u64 = 50;
/// The pause after a failover attempt in which nobody was fenced, in ms.
pub const FAILOVER_RETRY_MS: u64 = 500;
/// No first home is given out in a region while a node has come within this time, in ms.
pub const BIRTH_SETTLE_MS: u64 = 750;
/// The shortest time after which a leader may be missed, in ms.
pub const ELECTION_MIN_MS: u32 = 100;
/// How long a command or a read waits for a majority of the replicas, in ms; less than callers wait.
pub const COMMIT_TIMEOUT_MS: u64 = 2_000;
/// How long a replica may take to join or to leave, in ms; repeating it is safe.
pub const MEMBERSHIP_TIMEOUT_MS: u64 = 60_000;
/// After how many election times without a leader a replica tells watchers to go elsewhere.
pub const CUT_OFF_ELECTIONS: u32 = 3;
/// Between two words to a watcher, at most, in ms: well under [`types::limits::WATCH_SILENCE_MAX`].
pub const WATCH_BEAT_MAX_MS: u32 = 1_000;
/// How long a watcher may leave what it is sent unread, in ms: one that has vanished keeps its place no longer.
pub const WATCHER_STALL_MS: u64 = 5_000;
/// Between two looks at nodes that have nothing left and may still have archives, in ms.
pub const RETIRE_AGAIN_MS: u64 = 1_000;
/// How long another replica has to tell whom it follows, in ms.
pub const INSPECT_TIMEOUT_MS: u64 = 1_000;
/// For how long a leader that lacks a majority keeps what its controller knows, in ms.
pub const LEADS_AGAIN_MS: u64 = 3_000;
/// How long a command of the controller that changed nothing is not repeated on the same placement, in ms.
pub const FUTILE_AGAIN_MS: u64 = 1_000;
/// How long a request that was handed on to a leader is left with it after the leader was missed, in ms.
pub const LEADER_MISSED_MS: u64 = 500;
/// How long a re-homing may take before it is given up, in ms: writes to the log pause meanwhile.
pub const REHOME_MAX_MS: u64 = 8_000;
/// The pause before a home is asked again for a step of a re-homing, in ms.
pub const REHOME_RETRY_MS: u64 = 50;
/// How long a home may take for a step of a re-homing, in ms.
pub const REHOME_STEP_MS: u64 = 2_500;
/// Answers of homes waiting for the controller.
pub const REHOME_ANSWERS_MAX: usize = 256;
/// How often the controller looks at its leases, in ms.
pub const TICK_MS: u64 = 50;
/// The controller was stopped when it has not looked for this long, in ms.
pub const STALL_MS: u64 = 1_000;
/// For how long a node whose boot was ended because observers failed at it is given no home after they last did,
/// in ms: longer than they take to find out how its next boot is.
pub const SHUN_MS: u64 = 10_000;
/// How long a controller that was started or stopped listens before it judges anyone, in ms.
pub const LISTEN_MS: u64 = 1_500;
/// How long a shutdown waits for open requests, in ms.
pub const SHUTDOWN_MS: u64 = 2_000;

/// Planned moves that are wanted or under way at a time.
pub const MOVES_AT_ONCE: usize = 8;
/// How long a move may take from its beginning until the target holds SEAL, in ms: writes wait for so long.
pub const MOVE_TIMEOUT_MS: u64 = 2_000;
/// The pause before the end of a move is submitted again that had no effect, in ms.
pub const MOVE_END_AGAIN_MS: u64 = 1_000;
/// A node that has not said for this long that it is about to end keeps its homes, in ms.
pub const LEAVE_FRESH_MS: u64 = 2_000;
/// The pause before a partition whose move came to nothing is moved again, in ms.
pub const MOVE_RETRY_MS: u64 = 2_000;
/// How far behind the target of a move may be, in ms.
pub const MOVE_LAG_MS: u64 = 1_000;
/// How long what a node told of its homes is good for the beginning of a move, in ms.
pub const SURVEY_FRESH_MS: u64 = 1_000;
/// How long a node may take to tell, in ms.
pub const SURVEY_TIMEOUT_MS: u64 = 1_000;
/// The pause before nodes are asked again that did not tell what a move needs, in ms.
pub const SURVEY_AGAIN_MS: u64 = 200;
/// How long a move waits for its nodes to tell what it needs, in ms.
pub const MOVE_PATIENCE_MS: u64 = 5_000;
/// After this an answer is not waited for any more, in ms.
pub const SURVEY_GONE_MS: u64 = 1_500;
/// The pause between the beginnings of two moves back to preferred regions, in ms.
pub const FAILBACK_EVERY_MS: u64 = 250;
/// Operators' moves that wait for the controller.
pub const WISHES_MAX: usize = 64;
