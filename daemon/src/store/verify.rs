//! Station 6, verifying: reads all records and compares them with what the store says of each zone
//! (invariant 17). What differs is told, and not mended here.

use edgesync_core::{digest::Digest, name::Name, position::Position};

use super::{Reader, StoreError, read::decode};

/// A zone whose records are not what the store says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Its origin.
    pub origin: Name,
    /// Number of records and digest that the store says it has.
    pub expected: (u64, Digest),
    /// Number and digest of the records read; none if it cannot be read.
    pub found: (u64, Digest),
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Number of zones read.
    pub zones: u64,
    /// Number of records read.
    pub records: u64,
    /// The zones that differ.
    pub mismatches: Vec<Mismatch>,
    /// Position of the store at the end.
    pub position: Option<Position>,
}

impl Reader {
    /// Reads all records of all visible zones; each zone as it stands at one position. One that cannot be read is
    /// one that differs.
    ///
    /// # Errors
    /// If the store is closed.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        let mut last: Option<Name> = None;
        while let Some(zone) = self.zones(last.as_ref(), 1).into_iter().next() {
            match self.watched(|| self.verify_zone(&zone.origin, &mut verified)) {
                Ok(()) => {}
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                // What stands behind it is read all the same.
                Err(error) => {
                    tracing::error!(zone = %zone.origin, %error, "a zone cannot be read");
                    let expected = (zone.state.records, zone.state.digest);
                    let (origin, found) = (zone.origin.clone(), (0, Digest::empty()));
                    verified.zones += 1;
                    verified.mismatches.push(Mismatch { origin, expected, found });
                }
            }
            last = Some(zone.origin);
        }
        verified.position = self.position();
        Ok(verified)
    }

    fn verify_zone(&self, origin: &Name, verified: &mut Verified) -> Result<(), StoreError> {
        let nothing = || (0, Digest::empty());
        let read = self.scan(origin, nothing, |(count, digest), piece| {
            for stored in piece {
                *count += 1;
                // A record that cannot be read is missing in the digest, and so is found out.
                if let Ok(record) = decode(origin, &stored) {
                    *digest = digest.plus(&record);
                }
            }
            Ok(())
        })?;
        let Some((state, _, found)) = read else { return Ok(()) };
        verified.zones += 1;
        verified.records += found.0;
        let expected = (state.records, state.digest);
        if found != expected {
            verified.mismatches.push(Mismatch { origin: origin.clone(), expected, found });
        }
        Ok(())
    }
}
