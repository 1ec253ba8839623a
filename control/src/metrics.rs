//! What the control plane's metrics mean, for `# HELP`: of all stations, so that they are read in
//! one place. They are recorded where they happen. A label never has a zone's or record's name.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Each metric: its kind, name, unit, and what it says.
const METRICS: &[(Kind, &str, Unit, &str)] = {
    use Kind::{Counter, Gauge, Histogram};
    &[
        // Station 1: the API.
        (
            Counter,
            "edgesync_control_requests_total",
            Unit::Count,
            "Calls that have ended, by method and gRPC code; Cancelled if the caller gave up.",
        ),
        (
            Histogram,
            "edgesync_control_request_seconds",
            Unit::Seconds,
            "Time from a call's headers to the end of its answer, by method, in seconds; not for \
             streams that last as long as the caller likes.",
        ),
        (
            Counter,
            "edgesync_control_refusals_total",
            Unit::Count,
            "Writes that were refused and changed nothing, by reason.",
        ),
        (
            Counter,
            "edgesync_control_config_reloads_total",
            Unit::Count,
            "Reloads of the configuration; result is ok or error, which keeps the old one.",
        ),
        // Who may do what.
        (
            Counter,
            "edgesync_control_access_denials_total",
            Unit::Count,
            "Calls and streams that were not let through or were cut, by gRPC code.",
        ),
        (Counter, "edgesync_control_logins_total", Unit::Count, "Logins; result is ok or refused."),
        (
            Counter,
            "edgesync_control_policy_loads_total",
            Unit::Count,
            "Loads of the access policy; result is ok or error, which keeps the old one.",
        ),
        (
            Counter,
            "edgesync_control_audit_untold_total",
            Unit::Count,
            "Entries that are only counted in the audit because there were too many.",
        ),
        (
            Counter,
            "edgesync_control_audit_failures_total",
            Unit::Count,
            "Times that the audit could not be written.",
        ),
        // Station 2: the log.
        (
            Histogram,
            "edgesync_control_commit_seconds",
            Unit::Seconds,
            "Time that a group of writes takes from the queue to durable, in seconds.",
        ),
        (
            Histogram,
            "edgesync_control_commit_sets",
            Unit::Count,
            "Change sets in one durable commit.",
        ),
        (
            Histogram,
            "edgesync_control_commit_changes",
            Unit::Count,
            "Changes in one durable commit.",
        ),
        (Counter, "edgesync_control_changes_total", Unit::Count, "Changes made durable."),
        (Gauge, "edgesync_control_head_offset", Unit::Count, "Offset of the last durable change."),
        (Gauge, "edgesync_control_queue_writes", Unit::Count, "Writes that wait to be committed."),
        (
            Gauge,
            "edgesync_control_store_bytes",
            Unit::Bytes,
            "Size of the log's store on disk, in octets.",
        ),
        (
            Gauge,
            "edgesync_control_disk_full",
            Unit::Count,
            "1 while all writes are refused because the log has less room than log.min_free, else 0; \
             the reason is in the log and in each refusal.",
        ),
        (
            Counter,
            "edgesync_control_reserve_given_total",
            Unit::Count,
            "Times that the disk was full in the middle of a write, and the room kept for it was used.",
        ),
        (
            Counter,
            "edgesync_control_connections_slowed_total",
            Unit::Count,
            "Times that a connection had to wait because it sent more frames than anybody needs.",
        ),
        (
            Counter,
            "edgesync_control_connections_cut_total",
            Unit::Count,
            "Connections that were ended, by reason: silent (no call in time), stranger (no call that was \
             let through in time), headers (more of them than may be).",
        ),
        (
            Gauge,
            "edgesync_control_released_offset",
            Unit::Count,
            "Offset up to which changes are released to edges.",
        ),
        (
            Gauge,
            "edgesync_control_frozen",
            Unit::Count,
            "1 while the release to edges is frozen, else 0.",
        ),
        (
            Gauge,
            "edgesync_control_floor_offset",
            Unit::Count,
            "Offset that the log begins after; what is older was compacted away.",
        ),
        (
            Gauge,
            "edgesync_control_log_bytes",
            Unit::Bytes,
            "Size of the log's change sets, in octets.",
        ),
        (
            Counter,
            "edgesync_control_compacted_change_sets_total",
            Unit::Count,
            "Change sets compacted away by the retention.",
        ),
        (
            Counter,
            "edgesync_control_guard_refusals_total",
            Unit::Count,
            "Writes refused because they take too much of a zone away.",
        ),
        (
            Counter,
            "edgesync_control_corrupt_reads_total",
            Unit::Count,
            "Reads that were refused because what the store holds is not what was written; any is \
             a reason to restore a backup.",
        ),
        (
            Counter,
            "edgesync_control_scrub_records_total",
            Unit::Count,
            "Records that the scrub has compared with their zone's digest.",
        ),
        (
            Gauge,
            "edgesync_control_scrub_faults",
            Unit::Count,
            "Places where the last scrub found the store other than it was written; the log has a \
             line for each.",
        ),
        (
            Gauge,
            "edgesync_control_scrub_duration_seconds",
            Unit::Seconds,
            "Time that the last scrub took, its pauses included, in seconds.",
        ),
        (
            Gauge,
            "edgesync_control_scrub_end_time_seconds",
            Unit::Seconds,
            "When the last scrub ended, in seconds since 1970.",
        ),
        // Station 3: the sessions.
        (
            Gauge,
            "edgesync_control_sessions",
            Unit::Count,
            "Sessions that are open, those not yet greeted included.",
        ),
        (
            Counter,
            "edgesync_control_session_ends_total",
            Unit::Count,
            "Sessions that have ended, by reason: disconnected (the stream ended), closed (the protocol was \
             broken), refused (a message that is none, or no right to the zones), draining (the control \
             plane stops, or the edge's zones have changed), fenced (a newer process has the edge's id), \
             timeout (no answer to heartbeats), busy (to come back later), stuck (it acks and does not \
             read), snapshot_failed (its file cannot be read), log_failed, panicked.",
        ),
        (
            Gauge,
            "edgesync_control_sessions_greeting",
            Unit::Count,
            "Streams that are open and have not yet said which edge they are of.",
        ),
        (
            Counter,
            "edgesync_control_sessions_refused_total",
            Unit::Count,
            "Sessions that were not let in, by reason: rate (more edges come than may begin in a \
             second), full (no room for another session), greeting (too many streams have not yet \
             said which edge they are of), fenced (a newer process has the edge's id), not_allowed (it may \
             have none of the zones that it asks for, or is not the edge that it says it is).",
        ),
        (
            Histogram,
            "edgesync_control_release_to_send_seconds",
            Unit::Seconds,
            "Time from durable to handed to an edge's stream, for live change sets, in seconds.",
        ),
        (
            Histogram,
            "edgesync_control_edge_apply_seconds",
            Unit::Seconds,
            "Time from received to durable at an edge, by the edge's clock, in seconds.",
        ),
        (
            Histogram,
            "edgesync_control_network_seconds",
            Unit::Seconds,
            "Time from sent to acknowledged without what the edge needed to apply it, both ways, in \
             seconds.",
        ),
        (
            Histogram,
            "edgesync_control_end_to_end_seconds",
            Unit::Seconds,
            "Time from durable at the control plane to known to be durable at an edge, for live \
             change sets, by the control plane's clock, the way of the ack included, in seconds.",
        ),
        (
            Counter,
            "edgesync_control_latency_spikes_total",
            Unit::Count,
            "End-to-end times of more than ten times the running median and 5 ms.",
        ),
        (
            Gauge,
            "edgesync_control_latency_worst_seconds",
            Unit::Seconds,
            "Worst end-to-end time of the last minute, in seconds.",
        ),
        (
            Counter,
            "edgesync_control_snapshots_made_total",
            Unit::Count,
            "Snapshots made, repairs of single zones included.",
        ),
        (
            Counter,
            "edgesync_control_snapshots_refused_total",
            Unit::Count,
            "Times that an edge was told to come back later for a snapshot.",
        ),
        (
            Counter,
            "edgesync_control_snapshots_displaced_total",
            Unit::Count,
            "Times that an edge had to give its turn for a snapshot to another one, because it had not come \
             further for a while.",
        ),
        (
            Counter,
            "edgesync_control_snapshot_sent_bytes_total",
            Unit::Bytes,
            "Octets of snapshots sent, compressed.",
        ),
        (Gauge, "edgesync_control_snapshot_files", Unit::Count, "Snapshots that are kept."),
        (
            Gauge,
            "edgesync_control_snapshot_bytes",
            Unit::Bytes,
            "Size of the snapshots that are kept, in octets.",
        ),
        // Station 7: the fleet.
        (
            Counter,
            "edgesync_control_diverged_edges_total",
            Unit::Count,
            "Edges that came with a history that is not this log's, and were given a snapshot; the log says \
             which, and why.",
        ),
        (
            Counter,
            "edgesync_control_fenced_total",
            Unit::Count,
            "Sessions ended because a newer process came with their edge's id.",
        ),
        (Gauge, "edgesync_control_edges", Unit::Count, "Registered edges, by state."),
        (
            Gauge,
            "edgesync_control_edge_offset",
            Unit::Count,
            "Last offset that an edge has acknowledged as durable.",
        ),
        (
            Gauge,
            "edgesync_control_edge_lag_changes",
            Unit::Count,
            "Changes between what an edge has acknowledged and the head.",
        ),
        (
            Gauge,
            "edgesync_control_edge_lag_seconds",
            Unit::Seconds,
            "Age of the oldest change that an edge has not acknowledged, in seconds.",
        ),
    ]
};

/// Counters without labels: there from the start, so that their first increase is seen as one.
const FROM_THE_START: [&str; 9] = [
    "edgesync_control_audit_failures_total",
    "edgesync_control_audit_untold_total",
    "edgesync_control_changes_total",
    "edgesync_control_corrupt_reads_total",
    "edgesync_control_diverged_edges_total",
    "edgesync_control_fenced_total",
    "edgesync_control_guard_refusals_total",
    "edgesync_control_latency_spikes_total",
    "edgesync_control_reserve_given_total",
];

/// Tells the recorder what each metric is.
pub fn describe() {
    for (kind, name, unit, help) in METRICS {
        match kind {
            Kind::Counter => describe_counter!(*name, *unit, *help),
            Kind::Gauge => describe_gauge!(*name, *unit, *help),
            Kind::Histogram => describe_histogram!(*name, *unit, *help),
        }
    }
    FROM_THE_START.into_iter().for_each(|name| metrics::counter!(name).increment(0));
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeSet, HashSet},
        fs,
        path::Path,
    };

    use super::*;

    #[test]
    fn names_have_their_prefix_and_their_unit_and_stand_once() {
        let names: HashSet<_> = METRICS.iter().map(|(_, name, ..)| name).collect();
        assert_eq!(names.len(), METRICS.len());
        for (kind, name, unit, help) in METRICS {
            assert!(name.starts_with("edgesync_control_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(*unit == Unit::Seconds, name.ends_with("_seconds"), "{name}");
            let stem = name.trim_end_matches("_total");
            assert_eq!(*unit == Unit::Bytes, stem.ends_with("_bytes"), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
        }
        assert!(FROM_THE_START.iter().all(|name| names.contains(name)));
    }

    /// The metrics' names in the source below a folder.
    fn recorded(dir: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                recorded(&path, names);
            } else if path != Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let quoted = text.split('"').filter(|text| text.starts_with("edgesync_control_"));
                let is_name =
                    |text: &&str| text.chars().all(|c| c == '_' || c.is_ascii_lowercase());
                names.extend(quoted.filter(is_name).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_metric_that_is_recorded_is_described() {
        let mut names = BTreeSet::new();
        recorded(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
        assert!(names.len() > 10, "{names:?}");
        let described: BTreeSet<_> =
            METRICS.iter().map(|(_, name, ..)| (*name).to_owned()).collect();
        let missing: Vec<_> = names.difference(&described).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
