//! The bounds that are the daemon's own; those that both ends share stand in
//! `edgesync_core::limits`.

use std::time::Duration;

/// Changes after which a batch is written (rule 17).
pub const BATCH_CHANGES: usize = edgesync_core::limits::BATCH_RECORDS;
/// Changes of the largest batch: a set that would go beyond waits for the next batch, and one that
/// is larger by itself is not written as one batch.
pub const BATCH_CHANGES_MAX: usize = 2 * BATCH_CHANGES;
/// Octets of the largest batch, keys and values.
pub const BATCH_OCTETS: usize = 1024 * 1024;
/// Stored values are smaller than this, in octets (rule 6): an RDATA of 65,535 fits.
pub const VALUE_OCTETS: usize = 72 * 1024;
/// Octets of a segment of sled's log. What is larger than a quarter of it goes into files that sled never
/// syncs. A leaf has 17 values before it is split, and 20 after a merge: less than 1.5 MiB.
pub const SEGMENT_OCTETS: usize = 8 * 1024 * 1024;
/// Records that a reader takes in one go, with the writer waiting.
pub const READ_CHUNK: usize = 512;
/// How often a reader begins again because the zone has changed, before it makes the writer wait.
pub const READ_TRIES: u32 = 4;
/// Garbage records that are purged in one go: a change that comes meanwhile waits for it.
pub const PURGE_RECORDS: usize = 64;
/// Changes that one sync is shared by, under backlog (rule 8).
pub const SYNC_CHANGES: usize = 4_096;
/// How long changes that are written may wait for the sync that they share, under backlog.
pub const SYNC_WAIT: Duration = Duration::from_millis(50);
/// Processes that may end while applying what follows one offset, before the next starts halted.
pub const STRIKES: u32 = 3;
/// Time between two looks at the disk and at the freeze file.
pub const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// Time between two looks whether the store's files are still there.
pub const FILES_PERIOD: Duration = Duration::from_secs(1);
/// Octets that sled's file grows by for each octet of a snapshot's rows, at the most: 4.0 to 4.6 were measured
/// for 1,000,000 addresses, 1.8 for RDATA of 2,000 octets (`store::tests::room`).
pub const STAGED_OCTETS: u64 = 5;
/// What it grows by beside that: segments that are not yet used again.
pub const STAGED_BASE_OCTETS: u64 = 4 * SEGMENT_OCTETS as u64;
/// How much of what a snapshot is going to take has to be free before it is begun, in tenths (F-11).
pub const STAGED_FREE_TENTHS: u64 = 22;
/// Octets that are kept for the next opening of the store, beside twice what sled's snapshot of its pages takes.
pub const RESERVE_OCTETS: u64 = 256 * 1024;
/// Octets that are written to see whether a disk takes anything again.
pub const PROBE_OCTETS: usize = 64 * 1024;
/// Stores put aside that are kept.
pub const QUARANTINES_KEPT: usize = 2;
/// Messages to the control plane that may wait for the network.
pub const OUTGOING_MESSAGES: usize = 4_096;
/// Messages from the control plane that may wait for the session.
pub const INCOMING_MESSAGES: usize = 2;
/// Exports and verifications at one time.
pub const LONG_READS: usize = 2;
/// Octets of zone-file text in one message.
pub const EXPORT_OCTETS: usize = 64 * 1024;
/// Zones in one message.
pub const LIST_ZONES: usize = 500;
/// Least time between two messages of one watch.
pub const WATCH_PERIOD: Duration = Duration::from_millis(100);
/// How long the drain at the end may take.
pub const DRAIN: Duration = Duration::from_secs(15);
/// Least time between two writes of the store's witness.
pub const WITNESS_PERIOD: Duration = Duration::from_secs(5);
/// Octets that a change set costs while it waits, beside its bytes.
pub const WAITING_OVERHEAD_OCTETS: usize = 64;
/// How long the other side may take to end a stream that this one has ended.
pub const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a session has to live to count as progress, if nothing became durable in it.
pub const SESSION_LIVED: Duration = Duration::from_secs(10);
