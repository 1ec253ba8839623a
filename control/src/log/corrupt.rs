//! What is read from the store is never trusted blindly (invariant 17). redb checks its pages only
//! when it recovers a file, so a flipped bit may show as a wrong value, or as a panic inside redb:
//! both become an error here, are counted, and take nothing else down.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use edgesync_core::key::MalformedRecord;

/// Reads that were refused because the store is corrupt.
const CORRUPT: &str = "edgesync_control_corrupt_reads_total";

/// Uses the store. A panic inside it becomes an error; what is corrupt is counted.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    // What `work` borrows is either dropped with it, or the store itself, whose locks tell.
    let result = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(panic) => Err(corrupt(format!("a page cannot be read: {}", said(&*panic)))),
    };
    if matches!(result, Err(redb::Error::Corrupted(_))) {
        count();
    }
    result
}

/// Counts a read that was refused.
pub(super) fn count() {
    metrics::counter!(CORRUPT).increment(1);
}

/// What a panic says, on one line.
fn said(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().copied();
    let text = literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it does not say why").lines().collect::<Vec<_>>().join(" ")
}

/// Something in the store is not what was written.
pub(super) fn corrupt(what: impl Into<String>) -> redb::Error {
    redb::Error::Corrupted(what.into())
}

/// Checks that a row does not stand before where the reading began. Damaged pages could lead a
/// reader in circles.
pub(super) fn in_order(key: &[u8], from: &[u8]) -> Result<(), redb::Error> {
    if key < from { Err(corrupt("the rows of a table are not in order")) } else { Ok(()) }
}

/// A stored value that is not of this version's form.
pub(super) fn malformed(_: MalformedRecord) -> redb::Error {
    corrupt("a value has not the form that this version writes")
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_the_store_is_an_error_of_one_line() {
        let error = guarded::<()>(|| panic!("page {}\nis no leaf", 7)).unwrap_err();
        assert!(error.to_string().contains("page 7 is no leaf"), "{error}");
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
    }
}
