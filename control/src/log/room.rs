//! Whether the log's disk has room, looked at before anything is written: a write that is refused has
//! touched nothing, and one that fails half-way ends the process, since redb trusts its store no more
//! then. So while there is too little room writes are refused, all that is there is read and streamed, and
//! writes go on by themselves when there is room again.
//!
//! What does not come from a caller, and is small or makes room, goes on for longer: purges, compaction,
//! the generations of given up imports, the fleet's rows, a freeze. It may use a part of `log.min_free`.

use std::{path::PathBuf, sync::Arc};

use edgesync_host::{
    reserve::Reserve,
    room::{Room, Shortage},
};
use tokio::sync::watch;

use super::{Action, Write, WriteError, queue::octets};

/// Times that the octets of a write are written: into the log, the records, their index, the history, the
/// keys and the audit, with what the pages have beside them.
const COPIES: u64 = 4;
/// Octets of the pages that are written anew for one operation on records that are there: those in which
/// the record and its index stand, and above them, since redb never writes over a page in use.
const OPERATION_OCTETS: u64 = 3 * 4_096;
/// The same for one write: the zone, its audit, its key, and the branches above all of these.
const WRITE_OCTETS: u64 = 12 * 4_096;
/// What has to be free for what is small.
const LITTLE_OCTETS: u64 = 16 << 20;
/// A part of `min_free` is kept in a file, for what the look does not see.
const RESERVE_SHARE: u64 = 4;
/// What is kept at the most.
const RESERVE_OCTETS: u64 = 64 << 20;
/// redb doubles its file when it is full, and a large one grows by regions of this size.
const REGION_OCTETS: u64 = 4 << 30;

/// The gauge of whether writes are refused.
const FULL: &str = "edgesync_control_disk_full";

/// Octets that are kept in a file, of those that have to stay free.
pub(super) fn reserved(min_free: u64) -> u64 {
    RESERVE_OCTETS.min(min_free / RESERVE_SHARE)
}

/// The disk of the log.
pub(super) struct Disk {
    pub(super) dir: PathBuf,
    pub(super) file: PathBuf,
    /// Octets that have to stay free.
    pub(super) min_free: u64,
    pub(super) reserve: Arc<Reserve>,
}

/// Looks at the log's disk.
pub(super) struct LogRoom {
    /// None for a storage that is not ours to look at.
    disk: Option<Disk>,
    /// Why writes are refused, if they are.
    full: watch::Sender<Option<String>>,
}

impl LogRoom {
    pub(super) fn new(disk: Option<Disk>, full: watch::Sender<Option<String>>) -> Self {
        metrics::gauge!(FULL).set(0.0);
        Self { disk, full }
    }

    /// What may be written now. Tells whether writes are refused, if that has changed.
    pub(super) fn look(&self) -> Budget<'_> {
        let Some(disk) = &self.disk else { return Budget(None) };
        let kept = disk.keep_reserve();
        let left = Left { disk, room: disk.look(), kept, need: Need::default() };
        self.tell(left.check(disk.min_free).err().as_ref());
        Budget(Some(left))
    }

    fn tell(&self, short: Option<&Shortage>) {
        let changed = self.full.send_if_modified(|full| {
            let changed = full.is_some() != short.is_some();
            if changed {
                *full = short.map(Shortage::to_string);
            }
            changed
        });
        match short {
            _ if !changed => {}
            Some(why) => {
                metrics::gauge!(FULL).set(1.0);
                tracing::warn!(%why, "writes are refused for now; what is there is served");
            }
            None => {
                metrics::gauge!(FULL).set(0.0);
                tracing::info!("there is room again; writes go on");
            }
        }
    }
}

impl Disk {
    fn look(&self) -> Room<'_> {
        Room::look(&self.dir, &self.file)
    }

    /// Takes the reserve again after it was needed, as soon as there is room for it beside what has to
    /// stay free. Without it nothing is written.
    fn keep_reserve(&self) -> Result<(), Shortage> {
        if self.reserve.is_whole() {
            return Ok(());
        }
        self.look().check(self.min_free.saturating_add(self.reserve.octets()), 0)?;
        self.reserve.take()
    }
}

/// What may be written after one look.
pub(super) struct Budget<'a>(Option<Left<'a>>);

struct Left<'a> {
    disk: &'a Disk,
    room: Room<'a>,
    /// Whether the reserve is there.
    kept: Result<(), Shortage>,
    /// What was taken.
    need: Need,
}

impl Budget<'_> {
    /// Takes what a write needs, if it is there beside what has to stay free.
    pub(super) fn take(&mut self, write: &Write) -> Result<(), WriteError> {
        if matches!(write.action, Action::DropGeneration(_)) {
            return self.little();
        }
        let Some(left) = &mut self.0 else { return Ok(()) };
        let need = left.need.and(Need::of(write));
        let wanted = left.disk.min_free.saturating_add(need.octets(left.room.octets()));
        left.check(wanted)?;
        left.need = need;
        Ok(())
    }

    /// Whether there is room for what is small.
    pub(super) fn little(&self) -> Result<(), WriteError> {
        let Some(left) = &self.0 else { return Ok(()) };
        Ok(left.check(LITTLE_OCTETS.min(left.disk.min_free / 2))?)
    }
}

impl Left<'_> {
    fn check(&self, wanted: u64) -> Result<(), Shortage> {
        self.kept.clone()?;
        self.room.check(wanted, grown(self.room.octets().saturating_add(wanted)))
    }
}

/// What redb makes of its file, at the most, when it has so many octets to put there.
fn grown(octets: u64) -> u64 {
    octets.saturating_add(octets.min(2 * REGION_OCTETS))
}

/// What writes need on the disk, about; rather too much than too little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    /// What is new.
    copies: u64,
    /// Pages that are written anew, which are no more than there are.
    pages: u64,
}

impl Need {
    fn of(write: &Write) -> Self {
        let operations = match &write.action {
            Action::Change { operations, .. } => operations.len(),
            // They come one after the other, behind what is there.
            _ => 0,
        };
        Self {
            copies: COPIES.saturating_mul(octets(write) as u64),
            pages: OPERATION_OCTETS.saturating_mul(operations as u64).saturating_add(WRITE_OCTETS),
        }
    }

    const fn and(self, other: Self) -> Self {
        Self {
            copies: self.copies.saturating_add(other.copies),
            pages: self.pages.saturating_add(other.pages),
        }
    }

    fn octets(self, file: u64) -> u64 {
        self.copies.saturating_add(self.pages.min(file))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicU64, Ordering::Relaxed},
    };

    use edgesync_core::{
        Rtype,
        name::Name,
        rdata,
        stage::{Operation, RecordData, Serial, Target},
    };
    use redb::{StorageBackend, backends::InMemoryBackend};

    use super::*;
    use crate::{
        access::Access,
        log::{Caller, IdempotencyKey, Log, Options},
    };

    /// A store in memory that counts the octets that are written to it.
    #[derive(Debug, Clone, Default)]
    struct Counting(Arc<(InMemoryBackend, AtomicU64)>);

    impl Counting {
        fn written(&self) -> u64 {
            self.0.1.load(Relaxed)
        }
    }

    impl StorageBackend for Counting {
        fn len(&self) -> io::Result<u64> {
            self.0.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.1.fetch_add(data.len() as u64, Relaxed);
            self.0.0.write(offset, data)
        }
    }

    fn options(dir: PathBuf) -> Options {
        let (cache_bytes, recent_bytes, queue_bytes) = (64 << 20, 1 << 20, 64 << 20);
        Options { dir, cache_bytes, recent_bytes, queue_bytes, min_free_bytes: 0 }
    }

    fn zone() -> Name {
        Name::parse_origin("example.com").unwrap()
    }

    fn record(owner: &str, rtype: Rtype, text: &str) -> RecordData {
        let owner = Name::parse(owner, &zone()).unwrap();
        RecordData { owner, rtype, ttl: 60, rdata: rdata::parse(rtype, text, &zone()).unwrap() }
    }

    /// An address; the owners of numbers that follow each other stand far from each other.
    fn address(number: usize, last: u8) -> RecordData {
        let scattered = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        record(&format!("h{scattered:016x}"), Rtype::A, &format!("192.0.2.{last}"))
    }

    fn write(action: Action) -> Write {
        let (principal, peer) = ("tester".to_owned(), "127.0.0.1:1".to_owned());
        let caller = Caller { principal, peer, method: "test" };
        let authorized = Access::unrestricted().trust(caller, zone()).unwrap();
        let mut write = Write::new(authorized, action);
        write.override_guard = true;
        write
    }

    fn change(operations: Vec<Operation>) -> Write {
        write(Action::Change { operations, serial: Serial::Raise })
    }

    fn edit(number: usize) -> Operation {
        let (target, new) = (Target::Exact(address(number, 1)), address(number, 2));
        Operation::Edit { target, ttl: None, rdata: Some(new.rdata), whole_rrset: false }
    }

    /// What is looked for is enough for what redb then writes, page by page, in the worst order.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_group_writes_is_no_more_than_what_is_looked_for() {
        const RECORDS: usize = 20_000;
        let file = Counting::default();
        let log = Log::open_on(file.clone(), &options(PathBuf::from("memory"))).unwrap();
        let soa = record("@", Rtype::SOA, "ns root 1 2 3 4 5");
        let records = std::iter::once(soa).chain((0..RECORDS).map(|n| address(n, 1)));
        let some = || (RECORDS / 2..RECORDS).step_by(20);
        let create = |n| Operation::Create(address(n + RECORDS, 1));
        let delete = |n| Operation::Delete(Target::Exact(address(n, 1)));
        let mut groups: Vec<(&str, Vec<Write>)> = vec![
            ("a zone", vec![write(Action::CreateZone(records.collect()))]),
            ("one edit", vec![change(vec![edit(0)])]),
            ("many edits", vec![change((1..RECORDS / 10).map(edit).collect())]),
            ("creates", vec![change(some().map(create).collect())]),
            ("deletes", vec![change(some().map(delete).collect())]),
        ];
        let keyed = (0..500).map(|n| {
            let mut write = change(vec![edit(n + RECORDS / 5)]);
            write.idempotency = Some(IdempotencyKey { key: n.to_string(), request: [0; 32] });
            write
        });
        groups.push(("writes with keys", keyed.collect()));
        for (what, writes) in groups {
            let (before, octets) = (file.written(), file.len().unwrap());
            let need = writes.iter().map(Need::of).fold(Need::default(), Need::and);
            let mut waiting = Vec::new();
            for write in writes {
                waiting.push(log.submit(write).await.unwrap());
            }
            for answer in waiting {
                answer.await.unwrap();
            }
            let (written, wanted) = (file.written() - before, need.octets(octets));
            println!("{what}: {written} octets written, {wanted} looked for, file {octets}");
            assert!(written <= wanted, "{what}");
        }
        log.close().await;
    }
}
