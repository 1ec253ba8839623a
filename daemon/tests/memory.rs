//! What a store takes in memory while much more than its cache goes through it (invariant 16). Alone in
//! its process, whose peak is what is looked at.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    name::Name,
    position::{LogId, Position},
    session::Filter,
};
use edgesync_daemon::store::{Store, StoreConfig};

/// Octets of sled's cache.
const CACHE: u64 = 8 << 20;
/// Sets, records of each, octets of each record.
const LOAD: (u64, u64, usize) = (150, 250, 4_000);
/// What the process may take: its cache, and what sled and its batches take beside it. Without a bound
/// for the cache all that is stored is in memory too.
const PEAK: u64 = 110 << 20;

/// The most memory that this process has had so far.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_store_keeps_to_its_cache_however_much_goes_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        StoreConfig { data_dir: dir.path().to_owned(), cache_octets: CACHE, filter: Filter::All };
    let mut store = Store::open(config).unwrap();
    let zone = Name::parse_origin("a.example").unwrap();
    let (sets, records, octets) = LOAD;
    let mut position = Position::genesis(LogId([1; 16]));
    for number in 0..sets {
        let create = |n| Change::RecordCreate {
            owner: Name::parse(&format!("h{number:05}-{n}"), &zone).unwrap(),
            rtype: Rtype::TXT,
            ttl: 60,
            rdata: Bytes::from(vec![u8::try_from(n % 250).unwrap(); octets]),
        };
        let begin = (number == 0).then_some(Change::ZoneCreate);
        let changes = begin.into_iter().chain((0..records).map(create)).collect();
        let (first, generation) = (position.offset.next(), Generation(1));
        let set =
            ChangeSet { zone: zone.clone(), generation, first, changes, override_guard: false };
        position = position.after(set.last(), b"");
        store.apply(set, position).unwrap();
        store.sync().unwrap();
    }
    assert_eq!(store.records(), sets * records);
    let (peak, stored) = (peak() >> 20, (sets * records * octets as u64) >> 20);
    println!("{stored} MiB of RDATA, a cache of {} MiB, a peak of {peak} MiB", CACHE >> 20);
    assert!(peak < PEAK >> 20, "{peak} MiB for {stored} MiB of RDATA");
}
