//! Station 6, a large set of a visible generation: staged under a prefix of its own without moving
//! the position, published by one batch, folded into the records afterwards (rule 17). Readers see
//! all of it from that batch on, because they look at what is staged first.

use sled::IVec;

use super::{
    StoreError,
    engine::{Batch, Engine},
    layout,
    view::{Gate, Staged},
};
use crate::limits::{BATCH_CHANGES, BATCH_OCTETS};

/// Writes what is to be staged. Nobody sees it until the mark is there.
pub(super) fn stage(engine: &Engine, staged: &Staged) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    let (mut entries, mut octets) = (0, 0);
    for (key, value) in staged {
        let value = layout::staged_value(value.as_deref());
        octets += key.len() + value.len();
        entries += 1;
        batch.insert(layout::moved(layout::STAGED, key), value);
        if entries >= BATCH_CHANGES || octets >= BATCH_OCTETS {
            engine.write(std::mem::take(&mut batch))?;
            (entries, octets) = (0, 0);
        }
    }
    if entries > 0 { engine.write(batch) } else { Ok(()) }
}

/// Folds what is published into the records. To do so twice, or half and then again, is the same.
pub(super) fn fold(engine: &Engine) -> Result<(), StoreError> {
    move_all(engine, |batch, key, staged| {
        let record = layout::moved(layout::RECORD, key);
        match layout::read_staged(staged) {
            Some(value) => batch.insert(record, value),
            None => batch.remove(record),
        }
    })?;
    let mut batch = Batch::default();
    batch.remove(layout::FOLDING_KEY);
    engine.write(batch)
}

/// [`fold`], and then lets readers look at the records alone.
pub(super) fn settle(engine: &Engine, gate: &Gate) -> Result<(), StoreError> {
    fold(engine)?;
    gate.write().staged = None;
    Ok(())
}

/// After a restart: folds what was published, and forgets what was not.
pub(super) fn recover(engine: &Engine) -> Result<(), StoreError> {
    if engine.db().contains_key(layout::FOLDING_KEY).map_err(StoreError::Engine)? {
        tracing::info!("folding a large change set whose folding was interrupted");
        return fold(engine);
    }
    move_all(engine, |_, _, _| {})
}

/// Takes all staged entries away, a batch at a time; `with` adds to their batch what else happens.
fn move_all(engine: &Engine, with: impl Fn(&mut Batch, &IVec, &IVec)) -> Result<(), StoreError> {
    loop {
        let mut batch = Batch::default();
        let (mut entries, mut octets) = (0, 0);
        for found in engine.db().scan_prefix([layout::STAGED]) {
            let (key, staged) = found.map_err(StoreError::Engine)?;
            octets += key.len() + staged.len();
            entries += 1;
            with(&mut batch, &key, &staged);
            batch.remove(key);
            if entries >= BATCH_CHANGES || octets >= BATCH_OCTETS {
                break;
            }
        }
        if entries == 0 {
            return Ok(());
        }
        engine.write(batch)?;
    }
}
