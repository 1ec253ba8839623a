//! Seals: a value is stored with a check over its table, its key and itself. So what is read at a
//! place is what was written there, or an error (invariant 17); and nothing that is wrong is taken
//! for a change set or copied into one. The log's bodies have the history hash instead.

use redb::TableHandle;

use super::corrupt::corrupt;

/// Octets of a check: one damage in 2^64 passes.
pub(super) const OCTETS: usize = 8;

/// The check of what stands at a key of a table.
pub(super) fn check(table: &impl TableHandle, key: &[u8], value: &[u8]) -> [u8; OCTETS] {
    let mut hasher = blake3::Hasher::new();
    for part in [table.name().as_bytes(), key] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.update(value);
    let mut check = [0; OCTETS];
    hasher.finalize_xof().fill(&mut check);
    check
}

/// The value as it is stored.
pub(super) fn seal(table: &impl TableHandle, key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let check = check(table, key, &value);
    value.extend_from_slice(&check);
    value
}

/// The value of what is stored.
pub(super) fn unseal<'v>(
    table: &impl TableHandle,
    key: &[u8],
    stored: &'v [u8],
) -> Result<&'v [u8], redb::Error> {
    let parts = stored.split_last_chunk::<OCTETS>();
    let value = parts.filter(|(value, seal)| check(table, key, value) == **seal);
    let (table, row) = (table.name(), key.escape_ascii());
    let damaged = || corrupt(format!("the row {row} of the table {table} was written otherwise"));
    value.map(|(value, _)| value).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::schema::{RECORDS, ZONES};

    #[test]
    fn a_value_is_good_at_its_place_only_and_only_as_it_was_written() {
        let stored = seal(&RECORDS, b"key", b"value".to_vec());
        assert_eq!(unseal(&RECORDS, b"key", &stored).unwrap(), b"value");
        assert!(unseal(&ZONES, b"key", &stored).is_err());
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&RECORDS, b"key", &flipped).is_err(), "bit {bit}");
        }
        let error = unseal(&RECORDS, b"kez", &stored).unwrap_err().to_string();
        assert!(error.contains("kez") && error.contains("records"), "{error}");
        assert!(unseal(&RECORDS, b"key", &stored[..OCTETS - 1]).is_err());
    }
}
