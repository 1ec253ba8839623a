//! What the daemon knows, as the messages of the local API.

use std::time::Instant;

use edgesync_core::{
    edge_id::EdgeId,
    position::Position,
    snapshot::{Manifest, Scope},
};
use edgesync_proto::v1;

use crate::{
    status::{LinkState, Status},
    store::{EdgeZone, Mismatch, Totals, Verified},
};

fn position(position: Option<Position>) -> Option<v1::Position> {
    position.map(Into::into)
}

/// The status.
pub(super) fn status(edge: &EdgeId, status: &Status, totals: Totals) -> v1::EdgeStatus {
    let link = match status.link {
        LinkState::Disconnected => v1::LinkState::Disconnected,
        LinkState::Connecting => v1::LinkState::Connecting,
        LinkState::Connected => v1::LinkState::Connected,
        LinkState::Halted => v1::LinkState::Halted,
        LinkState::Held => v1::LinkState::Held,
    };
    let wait = status.next_try.map(|due| due.saturating_duration_since(Instant::now()));
    let reason = match (status.trouble(), status.link) {
        (Some(trouble), _) => trouble,
        (None, LinkState::Connected) => String::new(),
        (None, _) => status.reason.clone(),
    };
    v1::EdgeStatus {
        edge_id: edge.to_string(),
        link: link.into(),
        control: status.control.clone(),
        durable: position(status.durable),
        head: status.head.0,
        resumed_from: status.resumed_from.0,
        applied_changes: status.applied_changes,
        duplicate_changes: status.duplicate_changes,
        boot_epoch: status.boot_epoch,
        zones: totals.zones,
        records: totals.records,
        last_contact: status.last_contact.map(Into::into),
        next_try: wait.and_then(|wait| wait.try_into().ok()),
        reason,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        paused: status.paused.as_ref().map(|paused| paused.why.clone()).unwrap_or_default(),
        snapshot: status.snapshot.as_ref().map(snapshot),
        drifts: status.drifts,
        repairs: status.repairs,
    }
}

fn snapshot((manifest, done): &(Manifest, u32)) -> v1::EdgeSnapshot {
    let zone = match &manifest.scope {
        Scope::Zone(zone) => zone.to_string(),
        Scope::Store => String::new(),
    };
    let (offset, chunks) = (manifest.position.offset.0, manifest.chunks);
    v1::EdgeSnapshot { offset, zone, chunks_done: *done, chunks }
}

/// A zone of the list.
pub(super) fn zone(zone: &EdgeZone) -> v1::EdgeZone {
    let EdgeZone { origin, state } = zone;
    v1::EdgeZone {
        origin: origin.to_string(),
        generation: state.generation.0,
        records: state.records,
        version: state.version.0,
        digest: state.digest.to_bytes().to_vec().into(),
    }
}

/// What a verification found.
pub(super) fn verified(verified: Verified) -> v1::VerifyStoreResponse {
    let mismatch = |mismatch: Mismatch| v1::ZoneMismatch {
        origin: mismatch.origin.to_string(),
        expected_records: mismatch.expected.0,
        found_records: mismatch.found.0,
        expected_digest: mismatch.expected.1.to_bytes().to_vec().into(),
        found_digest: mismatch.found.1.to_bytes().to_vec().into(),
    };
    v1::VerifyStoreResponse {
        zones: verified.zones,
        records: verified.records,
        mismatches: verified.mismatches.into_iter().map(mismatch).collect(),
        position: position(verified.position),
    }
}
