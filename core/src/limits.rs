//! The bounds that both ends have to agree on (rule 6). What one daemon keeps for itself stands with that
//! daemon.

use std::time::Duration;

/// Octets of an RDATA (RFC 1035 section 3.2.1: RDLENGTH has 16 bits).
pub const RDATA_OCTETS: usize = 65_535;
/// Largest TTL in seconds (RFC 2181 section 8).
pub const TTL_SECONDS: u32 = 0x7fff_ffff;
/// Records of one RRset.
pub const RRSET_RECORDS: usize = 1_000;
/// An edge that lacks more changes than this comes up first, and has its zones repaired then.
pub const REPAIR_LAG_CHANGES: u64 = 10_000;
/// Changes of one change set.
pub const SET_CHANGES: usize = 100_000;
/// Octets of one encoded change set.
pub const SET_OCTETS: usize = 16 * 1024 * 1024;
/// Octets that a change may cost in the encoding beside its owner and RDATA.
pub const CHANGE_OVERHEAD_OCTETS: usize = 48;
/// Octets of change sets in one frame of a session, so that a message stays far below 4 MiB.
pub const FRAME_OCTETS: usize = 256 * 1024;
/// Octets of the largest gRPC message that either side takes.
pub const MESSAGE_OCTETS: usize = 4 * 1024 * 1024;
/// Octets of change sets that an edge takes ahead of its acks, unless it says otherwise.
pub const WINDOW_OCTETS: u32 = 4 * 1024 * 1024;
/// Octets of change sets that a session may have unacknowledged, whatever the edge says.
pub const WINDOW_OCTETS_MAX: u32 = 64 * 1024 * 1024;
/// Octets of an idempotency key.
pub const IDEMPOTENCY_KEY_OCTETS: usize = 128;
/// How long an idempotency key is kept (rule 9).
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Characters of an edge id.
pub const EDGE_ID_CHARS: usize = 63;
/// Zones of one filter.
pub const FILTER_ZONES: usize = 10_000;
/// Octets of zone-file text in one import.
pub const IMPORT_OCTETS: usize = 1024 * 1024 * 1024;
/// How long a fenced process waits before it tries again (rule 22).
pub const FENCED_WAIT: Duration = Duration::from_secs(30);
/// How long a stream may take to say which edge it is of.
pub const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Octets that a set costs beside its body while it is unacknowledged: they count in the window.
pub const SET_OVERHEAD_OCTETS: usize = 128;
/// Heartbeats that an edge may have unanswered before no samples are sent along.
pub const SAMPLES_AHEAD: u32 = 3;
/// Heartbeats that an edge may have unanswered before no further ones are sent.
pub const HEARTBEATS_AHEAD: u32 = 8;
/// Messages that no credit bounds, heartbeats above all, that may wait for one edge's stream.
pub const UNCREDITED_MESSAGES: usize = 64;
/// How long idle progress may wait to be sent, so that many become one (rule 14).
pub const PROGRESS_COALESCED: Duration = Duration::from_millis(100);
/// Longest time between heartbeats that an edge takes from a control plane.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(60 * 60);
/// Longest wait that a Goodbye can ask of an edge: what is asked beyond it is cut to it.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// Heartbeats that may be missed before a session counts as dead.
pub const HEARTBEATS_MISSED: u32 = 3;
/// Records that an edge's store writes in one batch (rule 17 and the store's memory).
pub const BATCH_RECORDS: usize = 256;
/// Octets of rows in one chunk of a snapshot, before compression; a chunk ends with the row that
/// reaches it.
pub const CHUNK_OCTETS: usize = 512 * 1024;
/// Octets that a chunk may have after decompression: a full one, and the largest row.
pub const CHUNK_OCTETS_MAX: usize = CHUNK_OCTETS + 2 * RDATA_OCTETS;
/// Time between two samples of digests that a log sends along (rule 15).
pub const SAMPLE_PERIOD: Duration = Duration::from_secs(1);
/// Zones of one sample that were changed; what goes beyond is found by the sweep.
pub const SAMPLE_CHANGED_ZONES: usize = 256;
/// Zones of one sample that the sweep has come to.
pub const SAMPLE_SWEPT_ZONES: usize = 64;
/// Least time between two repairs of one zone; an edge that drifts faster needs a person (rule 15).
pub const REPAIR_INTERVAL: Duration = Duration::from_secs(600);
/// Repairs that an edge remembers and a session has waiting.
pub const REPAIRS_KEPT: usize = 1_024;
/// Share of a zone or of a store, in percent, that may go within [`GUARD_WINDOW`] without an override.
pub const GUARD_PERCENT: u64 = 30;
/// Records that a zone or store has to have for the guard to look at it.
pub const GUARD_RECORDS: u64 = 10;
/// The time over which the guard counts (rule 10).
pub const GUARD_WINDOW: Duration = Duration::from_secs(60);
