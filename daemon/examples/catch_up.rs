//! How fast the store takes a backlog, beside bare sled with the same keys, order, old-value reads
//! and durable batches of 256: `cargo run --release -p edgesync-daemon --example catch_up [CHANGES] [RUNS]`.

use std::{
    error::Error,
    fs::File,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    key,
    name::Name,
    position::{LogId, Offset, Position},
    record::RecordId,
    session::Filter,
};
use edgesync_daemon::store::{Store, StoreConfig};
use edgesync_proto::convert::{decode_set, encode_set};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Records of a zone.
const ZONE_RECORDS: u64 = 100;
/// Changes of one batch of bare sled.
const BATCH: usize = 256;

fn zone(number: u64) -> Outcome<Name> {
    Ok(Name::parse_origin(&format!("zone-{number:06}.example."))?)
}

fn rdata(number: u64) -> Bytes {
    let mut text =
        format!("v=edge; number={number:020}; padding-so-that-it-is-some-90-octets-long");
    text.insert(0, char::from(u8::try_from(text.len()).unwrap_or(255)));
    text.into_bytes().into()
}

/// Half of the changes create zones with their records in one set each, half are edits, one a set,
/// clustered by zone.
fn backlog(changes: u64) -> Outcome<Vec<Bytes>> {
    let mut sets = Vec::new();
    let mut next = 1;
    let zones = changes / 2 / ZONE_RECORDS;
    let mut firsts = Vec::new();
    for number in 0..zones {
        let (zone, first) = (zone(number)?, next);
        let mut set = vec![Change::ZoneCreate];
        for record in 1..ZONE_RECORDS {
            let owner = Name::parse(&format!("host-{record:03}"), &zone)?;
            set.push(Change::RecordCreate {
                owner,
                rtype: Rtype::TXT,
                ttl: 300,
                rdata: rdata(next),
            });
        }
        next += ZONE_RECORDS;
        firsts.push(first);
        let generation = Generation(first);
        sets.push(encode_set(&ChangeSet { zone, generation, first: Offset(first), changes: set }));
    }
    for (number, first) in (0..).zip(firsts) {
        let zone = zone(number)?;
        for record in 1..=ZONE_RECORDS {
            let record = record.min(ZONE_RECORDS - 1);
            let edit = Change::RecordEdit {
                id: RecordId(first + record),
                owner: Name::parse(&format!("host-{record:03}"), &zone)?,
                rtype: Rtype::TXT,
                ttl: 60,
                rdata: rdata(next),
            };
            let (zone, generation) = (zone.clone(), Generation(first));
            let set = ChangeSet { zone, generation, first: Offset(next), changes: vec![edit] };
            sets.push(encode_set(&set));
            next += 1;
        }
    }
    Ok(sets)
}

fn store(dir: &Path, sets: &[Bytes], sync_each: usize) -> Outcome<Duration> {
    let config =
        StoreConfig { data_dir: dir.to_owned(), cache_octets: 64 << 20, filter: Filter::All };
    let mut store = Store::open(config)?;
    // As in the daemon, another thread decodes and chains the history.
    let (feed, fed) = mpsc::sync_channel(1024);
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut position = Position::genesis(LogId([7; 16]));
            for body in sets {
                let Ok(set) = decode_set(body.clone()) else { return };
                position = position.after(set.last(), body);
                if feed.send((set, position)).is_err() {
                    return;
                }
            }
        });
        let mut since = 0;
        for (set, position) in fed {
            since += set.changes.len();
            store.apply(set, position)?;
            if since >= sync_each {
                store.sync()?;
                since = 0;
            }
        }
        store.sync()?;
        Ok(begin.elapsed())
    })
}

/// The writes of a set as bare sled gets them: key, value, and whether the old value is read.
fn bare(dir: &Path, sets: &[Bytes]) -> Outcome<Duration> {
    let mut writes = Vec::new();
    for body in sets {
        let set = decode_set(body.clone())?;
        for (offset, change) in set.with_offsets() {
            let write = match change {
                Change::RecordCreate { owner, rtype, ttl, rdata } => {
                    let id = RecordId(offset.0);
                    let key = key::record_key(set.generation, &set.zone, owner, *rtype, id);
                    (key, key::record_value(*ttl, offset, rdata), false)
                }
                Change::RecordEdit { id, owner, rtype, ttl, rdata } => {
                    let key = key::record_key(set.generation, &set.zone, owner, *rtype, *id);
                    (key, key::record_value(*ttl, offset, rdata), true)
                }
                _ => continue,
            };
            writes.push(write);
        }
    }
    let config = sled::Config::new().path(dir).cache_capacity(64 << 20).flush_every_ms(None);
    let db = config.open()?;
    let file = File::open(dir.join("db"))?;
    let begin = Instant::now();
    for chunk in writes.chunks(BATCH) {
        let mut batch = sled::Batch::default();
        for (key, value, read) in chunk {
            if *read {
                std::hint::black_box(db.get(key)?);
            }
            batch.insert(key.as_slice(), value.as_slice());
        }
        batch.insert("position", vec![0; 88]);
        db.apply_batch(batch)?;
        db.flush()?;
        file.sync_data()?;
    }
    Ok(begin.elapsed())
}

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let changes = args.next().map_or(Ok(1_000_000), |text| text.parse::<u64>())?;
    let runs = args.next().map_or(Ok(5), |text| text.parse::<u32>())?;
    let sets = backlog(changes)?;
    println!("{changes} changes in {} sets", sets.len());
    let begin = Instant::now();
    for body in &sets {
        std::hint::black_box(decode_set(body.clone())?);
    }
    println!("decoding alone: {:.0} changes/s", changes as f64 / begin.elapsed().as_secs_f64());
    for _ in 0..runs {
        let dir = tempfile::tempdir_in(".")?;
        let bare = bare(&dir.path().join("bare"), &sets)?;
        let each = store(&dir.path().join("each"), &sets, 256)?;
        let shared = store(&dir.path().join("shared"), &sets, 4096)?;
        let rate = |time: Duration| changes as f64 / time.as_secs_f64();
        println!(
            "bare {:.0}/s, store synced each 256: {:.0}/s ({:.2}x), each 4096: {:.0}/s ({:.2}x)",
            rate(bare),
            rate(each),
            bare.as_secs_f64() / each.as_secs_f64(),
            rate(shared),
            bare.as_secs_f64() / shared.as_secs_f64(),
        );
    }
    Ok(())
}
