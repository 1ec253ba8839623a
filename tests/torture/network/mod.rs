//! F-22 to F-26: what the network between the real daemons can do to them, by a proxy. Packets are lost
//! only as TCP shows it; real loss needs a packet filter, and the simulation has partitions of hours.

mod cuts;
mod holes;
mod turned;
mod weather;

use std::time::Duration;

use edgesync_tests::{Proxy, Stack};

use crate::{plan, watch, world::World};

/// A wait between two writes of a writer, on average.
const PACE: Duration = Duration::from_millis(10);

/// A world whose first edge reaches the control plane by a proxy, and comes back within `back`.
fn world(edges: usize, back: &'static str) -> (World, Proxy) {
    let mut stack = Stack::prepare(edges);
    let seed = plan::number("EDGESYNC_TORTURE_SEED", 1);
    let proxy = Proxy::start(stack.control_address(), seed);
    stack.lead_edge(0, &proxy);
    stack.edge_environment.push(("EDGESYNC_EDGE_RECONNECT__INITIAL", "1ms"));
    stack.edge_environment.push(("EDGESYNC_EDGE_RECONNECT__MAX", back));
    (World::start_on(stack), proxy)
}

/// An edge's durable offset, by its own word.
fn durable(world: &World, edge: usize) -> u64 {
    let status = watch::status(&world.stack.socket(edge)).expect("the edge answers");
    status.durable.unwrap_or_default().offset
}

/// State of an edge, as the control plane says.
fn state(world: &World, edge: usize) -> String {
    let id = format!("edge-{edge}");
    let rows = world.stack.fleet();
    let row = rows.iter().find(|row| row["id"] == id.as_str()).expect("the edge is known");
    row["state"].as_str().unwrap_or_default().to_owned()
}

/// Sessions of an edge since the control plane started.
fn sessions(world: &World, edge: usize) -> u64 {
    let id = format!("edge-{edge}");
    let rows = world.stack.fleet();
    let row = rows.iter().find(|row| row["id"] == id.as_str()).expect("the edge is known");
    row["sessions"].as_u64().expect("a number")
}
