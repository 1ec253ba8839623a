//! Crashes at any point of a log's life, and crashes while a log recovers from a crash.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Instant,
};

use crate::{
    Random,
    disk::{Crashes, Disk, Op},
    number, open, oracle, runtime, seed,
    work::{self, History},
};

/// Writes of one history.
const WRITES: usize = 60;
/// Images of one history, those of second crashes not counted.
const IMAGES: usize = 150;

#[test]
fn whatever_a_power_loss_leaves_holds_what_was_answered() {
    let (images, seed, started) = (number("EDGESYNC_CRASH_IMAGES", 2_000), seed(), Instant::now());
    println!("EDGESYNC_CRASH_IMAGES={images} EDGESYNC_CRASH_SEED={seed}");
    let mut count = Count::default();
    let mut run = seed;
    while count.images + count.second < images {
        one_history(run, &mut count);
        run += 1;
    }
    let seconds = started.elapsed().as_secs();
    println!(
        "{} histories of {} writes, {} images of a crash, {} of a crash after it ({} of them while \
         the first was being recovered), {} images with writes that nobody had been answered: \
         0 failures in {seconds} s",
        run - seed,
        count.writes,
        count.images,
        count.second,
        count.recovering,
        count.unanswered,
    );
    assert!(count.unanswered > 0 && count.recovering > 0, "the crashes came where none matters");
}

/// What was tried.
#[derive(Default)]
struct Count {
    writes: usize,
    images: usize,
    second: usize,
    recovering: usize,
    unanswered: usize,
}

fn one_history(run: u64, count: &mut Count) {
    let runtime = runtime();
    let history = runtime.block_on(work::history(run, WRITES));
    count.writes += history.done.len();
    let mut random = Random(run ^ 0x5eed);
    let mut points: Vec<_> = (0..IMAGES).map(|_| point(&history, &mut random)).collect();
    points.sort_unstable();
    let mut crashes = Crashes::new(Vec::new(), &history.ops);
    for point in points {
        let image = crashes.image(point, &mut random);
        let (must, may) = bounds(&history, point);
        let case = Case { run, point, must, may };
        case.explain(&image, || {
            runtime.block_on(crash(&history, &case, image.clone(), &mut random, count));
        });
    }
}

/// A point after the log was created; every second time just before a sync, where most is at stake.
fn point(history: &History, random: &mut Random) -> usize {
    let (ops, created) = (&history.ops, history.created);
    let point = created + random.below(ops.len() - created + 1);
    let is_sync = |op: &Op| matches!(op, Op::Sync);
    let before_sync = ops[point..].iter().position(is_sync).filter(|_| random.one_in(2));
    point + before_sync.unwrap_or(0)
}

/// How many writes have to be there after a crash at a point, and how many may.
fn bounds(history: &History, point: usize) -> (usize, usize) {
    let must = history.done.iter().take_while(|done| done.answered <= point).count();
    let may = history.done.iter().take_while(|done| done.submitted < point).count();
    (must, may.max(must))
}

/// One crash.
struct Case {
    run: u64,
    point: usize,
    must: usize,
    may: usize,
}

impl Case {
    /// Says how to repeat what fails. Which writes share a group is not in the seed, so the image
    /// itself is kept.
    fn explain(&self, image: &[u8], check: impl FnOnce()) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(check)) else { return };
        let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("crash.redb");
        std::fs::write(&kept, image).unwrap();
        let Self { run, point, must, may } = self;
        println!("EDGESYNC_CRASH_SEED={run}: crash after {point} operations of the disk, with");
        println!("{must} writes answered and {may} handed in; image kept in {}", kept.display());
        std::panic::resume_unwind(panic);
    }
}

/// Opens the log on an image, has it checked and go on; then crashes that, too.
async fn crash(
    history: &History,
    case: &Case,
    image: Vec<u8>,
    random: &mut Random,
    count: &mut Count,
) {
    let disk = Disk::of(image.clone());
    let log = open(&disk).expect("the log opens after a crash");
    let opened = disk.now();
    let writes = oracle::check(&log, history, case.must, case.may);
    let after = oracle::go_on(&log, &disk, history, writes, random).await;
    oracle::check(&log, &after, writes + 1, writes + 1);
    log.close().await;
    drop(log);
    count.images += 1;
    count.unanswered += usize::from(writes > case.must);
    if random.one_in(2) {
        return;
    }
    let ops = disk.ops();
    // While it recovers, as a rule: what comes after is like any other crash.
    let end = if random.one_in(4) { ops.len() } else { opened };
    let point = random.below(end + 1);
    let image = Crashes::new(image, &ops).image(point, random);
    let log = open(&Disk::of(image)).expect("the log opens after a second crash");
    if point < opened {
        oracle::check(&log, history, case.must, case.may);
        count.recovering += 1;
    } else {
        // Invariant 3: once it was open, what it showed stays.
        let extra = &after.done[writes];
        let must = writes + usize::from(extra.answered <= point);
        let may = writes + usize::from(extra.submitted < point);
        oracle::check(&log, &after, must, may);
    }
    log.close().await;
    count.second += 1;
}
