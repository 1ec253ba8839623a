//! F-25: the connection ends after any octet, of either direction, in each of the ways in which
//! connections end. The edge resumes, and nothing is lost, doubled or seen in part.

use std::time::{Duration, Instant};

use edgesync_tests::{Cut, End, Way, eventually};
use rand::RngExt;

use super::{durable, world};
use crate::plan;

/// A wait between two writes: there is always a set on its way.
const PACE: Duration = Duration::from_millis(4);

#[test]
fn a_connection_cut_after_any_octet_resumes_and_nothing_is_lost_or_doubled() {
    let octets = plan::number("EDGESYNC_TORTURE_CUT_OCTETS", 800);
    let step = plan::number("EDGESYNC_TORTURE_CUT_STEP", 13);
    let mut random = plan::random("cuts");
    let (mut world, proxy) = world(1, "5ms");
    world.storm(random.random(), PACE);
    for way in Way::BOTH {
        let begin = Instant::now();
        let before = (proxy.connections(), durable(&world, 0));
        let first = random.random_range(1..=step);
        let places = (first..=octets).step_by(usize::try_from(step).expect("a small step"));
        let how = [End::Close, End::Reset, End::Half].into_iter().cycle();
        proxy.cut(places.zip(how).map(|(after, how)| Cut { way, after, how }));
        proxy.break_all();
        while proxy.cuts_left() > 0 {
            let most = Duration::from_millis(50) * u32::try_from(octets).expect("not endless");
            assert!(begin.elapsed() < most, "{} cuts are left", proxy.cuts_left());
            std::thread::sleep(Duration::from_millis(20));
        }
        eventually("the edge goes on", || durable(&world, 0) > before.1);
        println!(
            "{way:?}: a cut at each {step} of {octets} octets, {} connections, {:?}",
            proxy.connections() - before.0,
            begin.elapsed()
        );
    }
    let (_, verdict) = world.judge();
    println!("cuts: {verdict:?}");
    assert!(verdict.writes > 100 && verdict.exports > 0, "there was no load");
}
