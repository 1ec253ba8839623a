//! A disk in memory that remembers what was done to it and in which order, and the images that a
//! power loss can leave of it: all that was synced, and any part of what was not.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

use crate::Random;

/// What a disk writes whole, or not at all.
const SECTOR: usize = 512;

/// Something done to a disk.
#[derive(Clone)]
pub enum Op {
    Write(usize, Arc<[u8]>),
    SetLen(usize),
    /// Recorded when it is done: what was before it is durable.
    Sync,
    /// One that the disk has refused: nothing is known of what was before it.
    FailedSync,
}

/// A disk. A clone is the same disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    live: Vec<u8>,
    ops: Vec<Op>,
    /// Syncs that still succeed before one that does not.
    good_syncs: Option<usize>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk in memory")
    }
}

impl Disk {
    /// A disk with this on it, durably.
    pub fn of(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { live: image, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// How much was done to it: a point in its life.
    pub fn now(&self) -> usize {
        self.state().ops.len()
    }

    pub fn ops(&self) -> Vec<Op> {
        self.state().ops.clone()
    }

    /// Refuses one sync after so many more; those behind it succeed, as a kernel's do.
    pub fn fail_a_sync_after(&self, syncs: usize) {
        self.state().good_syncs = Some(syncs);
    }

    pub fn image(&self) -> Vec<u8> {
        self.state().live.clone()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (offset, state) = (usize::try_from(offset).unwrap(), self.state());
        let found = offset.checked_add(out.len()).and_then(|end| state.live.get(offset..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (len, mut state) = (usize::try_from(len).unwrap(), self.state());
        state.live.resize(len, 0);
        state.ops.push(Op::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let left = state.good_syncs.take();
        if left == Some(0) {
            state.ops.push(Op::FailedSync);
            return Err(io::Error::other("a planted failure"));
        }
        state.good_syncs = left.map(|left| left - 1);
        state.ops.push(Op::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (offset, mut state) = (usize::try_from(offset).unwrap(), self.state());
        put(&mut state.live, offset, data);
        state.ops.push(Op::Write(offset, data.into()));
        Ok(())
    }
}

fn put(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

fn apply(image: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(offset, data) => put(image, *offset, data),
        Op::SetLen(len) => image.resize(*len, 0),
        Op::Sync | Op::FailedSync => {}
    }
}

/// Makes images of crashes at points that go forward.
pub struct Crashes<'a> {
    ops: &'a [Op],
    durable: Vec<u8>,
    synced: usize,
}

impl<'a> Crashes<'a> {
    /// Of a disk's life that began with this on it.
    pub fn new(began: Vec<u8>, ops: &'a [Op]) -> Self {
        Self { ops, durable: began, synced: 0 }
    }

    /// What a crash at a point leaves: what the syncs before it made durable, and of the rest what
    /// the random numbers say.
    pub fn image(&mut self, point: usize, random: &mut Random) -> Vec<u8> {
        let is_sync = |op: &Op| matches!(op, Op::Sync);
        let sync = self.ops[..point].iter().rposition(is_sync).unwrap_or(0).max(self.synced);
        self.ops[self.synced..sync].iter().for_each(|op| apply(&mut self.durable, op));
        self.synced = sync;
        let mut image = self.durable.clone();
        let pending = &self.ops[sync..point];
        let keep = random.below(6);
        let until = random.below(pending.len() + 1);
        for (index, op) in pending.iter().enumerate() {
            let kept = match keep {
                0 => true,
                1 => false,
                // What a disk does that writes in order.
                2 => index < until,
                3 => !random.one_in(8),
                4 => random.one_in(8),
                _ => random.one_in(2),
            };
            let is_last = index + 1 == pending.len();
            if kept && random.one_in(if is_last { 2 } else { 16 }) {
                torn(&mut image, op, random);
            } else if kept {
                apply(&mut image, op);
            }
        }
        image
    }
}

/// Does a part of a write: some of its sectors, or the first of them.
fn torn(image: &mut Vec<u8>, op: &Op, random: &mut Random) {
    let Op::Write(offset, data) = op else { return apply(image, op) };
    let in_order = random.one_in(2);
    let until = random.below(data.len() / SECTOR + 1);
    for (index, sector) in data.chunks(SECTOR).enumerate() {
        if if in_order { index < until } else { random.one_in(2) } {
            put(image, offset + index * SECTOR, sector);
        }
    }
}
