//! Snapshots, their chunks, and samples of digests.

use bytes::Bytes;
use edgesync_core::{
    digest::Digest,
    limits::{SAMPLE_CHANGED_ZONES, SAMPLE_SWEPT_ZONES},
    name::Name,
    sample::{Sample, Sweep, ZoneDigest},
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};

use super::{ConvertError, octets};
use crate::v1;

pub(super) fn from_begin(wire: v1::SnapshotBegin) -> Result<(Manifest, u32), ConvertError> {
    let (scope, filter) = match wire.zone {
        Some(zone) => (Scope::Zone(Name::from_wire(zone)?), [0; 32]),
        None => (Scope::Store, octets("filter_hash", &wire.filter_hash)?),
    };
    let manifest = Manifest {
        id: SnapshotId(octets("snapshot_id", &wire.snapshot_id)?),
        position: wire.position.ok_or(ConvertError::Missing("position"))?.try_into()?,
        scope,
        filter,
        zones: wire.zones,
        records: wire.records,
        octets: wire.octets,
        chunks: wire.chunks,
    };
    Ok((manifest, wire.next))
}

pub(super) fn to_begin(manifest: Manifest, next: u32) -> v1::SnapshotBegin {
    let (zone, filter_hash) = match manifest.scope {
        Scope::Zone(zone) => (Some(zone.wire().clone()), Bytes::new()),
        Scope::Store => (None, Bytes::copy_from_slice(&manifest.filter)),
    };
    v1::SnapshotBegin {
        snapshot_id: Bytes::copy_from_slice(&manifest.id.0),
        position: Some(manifest.position.into()),
        zone,
        zones: manifest.zones,
        records: manifest.records,
        octets: manifest.octets,
        chunks: manifest.chunks,
        next,
        filter_hash,
    }
}

impl From<Chunk> for v1::SnapshotChunk {
    fn from(chunk: Chunk) -> Self {
        Self {
            snapshot_id: Bytes::copy_from_slice(&chunk.snapshot.0),
            index: chunk.index,
            hash: Bytes::copy_from_slice(&chunk.hash),
            body: chunk.body,
        }
    }
}

impl TryFrom<v1::SnapshotChunk> for Chunk {
    type Error = ConvertError;

    fn try_from(wire: v1::SnapshotChunk) -> Result<Self, ConvertError> {
        Ok(Self {
            snapshot: SnapshotId(octets("snapshot_id", &wire.snapshot_id)?),
            index: wire.index,
            hash: octets("hash", &wire.hash)?,
            body: wire.body,
        })
    }
}

impl From<Staged> for v1::StagedSnapshot {
    fn from(staged: Staged) -> Self {
        Self { snapshot_id: Bytes::copy_from_slice(&staged.id.0), next: staged.next }
    }
}

impl TryFrom<v1::StagedSnapshot> for Staged {
    type Error = ConvertError;

    fn try_from(wire: v1::StagedSnapshot) -> Result<Self, ConvertError> {
        Ok(Self { id: SnapshotId(octets("snapshot_id", &wire.snapshot_id)?), next: wire.next })
    }
}

impl From<ZoneDigest> for v1::ZoneDigest {
    fn from(zone: ZoneDigest) -> Self {
        let (records, digest) = match zone.content {
            Some((records, digest)) => (records, Bytes::copy_from_slice(&digest.to_bytes())),
            None => (0, Bytes::new()),
        };
        Self { zone: zone.origin.wire().clone(), records, digest }
    }
}

impl TryFrom<v1::ZoneDigest> for ZoneDigest {
    type Error = ConvertError;

    fn try_from(wire: v1::ZoneDigest) -> Result<Self, ConvertError> {
        let content = if wire.digest.is_empty() {
            None
        } else {
            Some((wire.records, Digest::from_bytes(octets("digest", &wire.digest)?)))
        };
        Ok(Self { origin: Name::from_wire(wire.zone)?, content })
    }
}

impl From<Sample> for v1::Sample {
    fn from(sample: Sample) -> Self {
        let Sweep { after, zones, to_end } = sample.sweep;
        Self {
            changed: sample.changed.into_iter().map(Into::into).collect(),
            swept: zones.into_iter().map(Into::into).collect(),
            swept_after: after.map(|after| after.wire().clone()),
            swept_to_end: to_end,
        }
    }
}

impl TryFrom<v1::Sample> for Sample {
    type Error = ConvertError;

    fn try_from(wire: v1::Sample) -> Result<Self, ConvertError> {
        let zones = |zones: Vec<v1::ZoneDigest>, most| {
            if zones.len() > most {
                return Err(ConvertError::Range("sample (number of zones)"));
            }
            zones.into_iter().map(TryInto::try_into).collect::<Result<Vec<_>, _>>()
        };
        let sweep = Sweep {
            after: wire.swept_after.map(Name::from_wire).transpose()?,
            zones: zones(wire.swept, SAMPLE_SWEPT_ZONES)?,
            to_end: wire.swept_to_end,
        };
        Ok(Self { changed: zones(wire.changed, SAMPLE_CHANGED_ZONES)?, sweep })
    }
}

#[cfg(test)]
mod tests {
    use edgesync_core::position::{LogId, Position};

    use super::*;

    #[test]
    fn snapshots_and_samples_survive_the_wire() {
        let zone = Name::parse_origin("example.com").unwrap();
        for scope in [Scope::Store, Scope::Zone(Name::root()), Scope::Zone(zone.clone())] {
            let (id, position) = (SnapshotId([1; 16]), Position::genesis(LogId([2; 16])));
            let filter = if scope == Scope::Store { [7; 32] } else { [0; 32] };
            let (zones, records, octets, chunks) = (3, 4, 5, 6);
            let manifest = Manifest { id, position, scope, filter, zones, records, octets, chunks };
            assert_eq!(from_begin(to_begin(manifest.clone(), 2)).unwrap(), (manifest, 2));
        }
        let there = ZoneDigest { origin: zone.clone(), content: Some((0, Digest::empty())) };
        let gone = ZoneDigest { origin: zone.clone(), content: None };
        for after in [None, Some(Name::root()), Some(zone)] {
            let sweep = Sweep { after, zones: vec![there.clone()], to_end: true };
            let sample = Sample { changed: vec![gone.clone(), there.clone()], sweep };
            assert_eq!(Sample::try_from(v1::Sample::from(sample.clone())).unwrap(), sample);
        }
    }
}
