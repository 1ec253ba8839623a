//! F-24: bits turn on the way. Without TLS only the history hash and the checks of each message stand
//! between such a bit and the store: nothing wrong is applied, and when the bits stop turning, the edge
//! ends right.

use std::time::Duration;

use edgesync_tests::{Way, Weather, eventually};
use rand::RngExt;

use super::{durable, world};
use crate::{plan, world::World};

const PACE: Duration = Duration::from_millis(4);

/// A turned bit in Hello can make up an edge; receipts for all edges would wait for it.
fn forget_made_up_edges(world: &World) -> Vec<String> {
    let rows = world.stack.fleet().into_iter();
    let mut made_up: Vec<_> =
        rows.filter_map(|row| row["id"].as_str().map(str::to_owned)).collect();
    made_up.retain(|id| id != "edge-0");
    for id in &made_up {
        eventually("it is forgotten", || world.stack.run(&["fleet", "forget", id]).code == 0);
    }
    made_up
}

#[test]
fn bits_that_turn_on_the_way_apply_nothing_wrong_and_the_edge_ends_right() {
    let seconds = plan::number("EDGESYNC_TORTURE_TURNED_SECONDS", 5);
    let mut random = plan::random("turned");
    let (mut world, proxy) = world(1, "20ms");
    world.storm(random.random(), PACE);
    world.stores_put_aside = true;
    for way in Way::BOTH {
        // What a bit on the way up has made the control plane believe is true before bits turn on the way down.
        eventually("the edge has what it is said to have", || {
            let acked = world.acked(0);
            durable(&world, 0) >= acked
        });
        let (connections, turned) = (proxy.connections(), proxy.turned());
        // Up there is less to be hit.
        let one_in = if way == Way::Down { 20_000 } else { 600 };
        proxy.set(way, Weather { turned: Some(one_in), ..Weather::default() });
        let mut false_receipts = 0;
        for _ in 0..seconds * 10 {
            std::thread::sleep(Duration::from_millis(100));
            // Read in this order, an ack is never ahead of what the edge has by its own word.
            let (acked, has) = (world.acked(0), durable(&world, 0));
            // Acks go up: only a bit that turns there can make one of nothing.
            assert!(acked <= has || way == Way::Up, "invariant 6: {acked} acked, {has} there");
            false_receipts += u64::from(acked > has);
        }
        proxy.set(way, Weather::default());
        println!("{way:?}: a false receipt was seen {false_receipts} times");
        let metric = |name| world.stack.edge_metric(0, name).unwrap_or(0.0);
        println!(
            "{way:?}: {} bits turned, {} connections; so far {} snapshots, {} diverged, {} repairs",
            proxy.turned() - turned,
            proxy.connections() - connections,
            metric("edgesync_edge_snapshots_total"),
            metric("edgesync_edge_diverged_total"),
            metric("edgesync_edge_repairs_total"),
        );
        assert!(proxy.turned() > turned, "no bit was hit");
        println!("made up: {:?}", forget_made_up_edges(&world));
        let head = world.head();
        eventually("the edge goes on", || world.acked(0) >= head);
    }
    let (_, verdict) = world.judge();
    println!("turned bits: {verdict:?}");
}
